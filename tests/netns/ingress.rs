//! The short way into the TUN, and what does not take it.
use crate::harness::in_lab;
use crate::home::{Daemon, Home, PHONE, SERVER, echoes, gateway, tun};
use cordon::kernel::divert::Installed;
use cordon::kernel::ingress::Shortcut;
use cordon::kernel::namespace::lab::{Host, Lab};
use cordon::kernel::nft::{Base, Batch, Hook, Nft, Rule, Sees};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

/// A home whose gateway passes everything; packets come to it by the short way.
struct Short {
    home: Home,
    daemon: Daemon,
    shortcut: Shortcut,
    _installed: Installed,
}

impl Short {
    fn in_lab(lab: &Lab) -> Self {
        let home = Home::in_lab(lab);
        let device = tun(&home.router);
        let installed = home.router.run(|| gateway().install()).unwrap();
        let shortcut = home
            .router
            .run(|| Shortcut::open(&gateway().inside()?))
            .unwrap();
        Self {
            home,
            daemon: Daemon::with(device),
            shortcut,
            _installed: installed,
        }
    }

    /// Whether a datagram of the phone's to `to` came to the daemon, and whether it was echoed.
    fn asks(&self, to: &str) -> (bool, bool) {
        self.daemon.settle();
        let before = self.daemon.passed();
        let echoed = echoes(&self.home.phone, to, None);
        self.daemon.settle();
        (self.daemon.passed() > before, echoed)
    }
}

/// Drops what comes in from the phone by the kernel's own way, or does so no more.
fn block_the_long_way(router: &Host, block: bool) {
    let work = || {
        let mut batch = Batch::new(Sees::Packets, "blocker")?;
        batch.table(false);
        batch.remove_table();
        if block {
            batch.table(false);
            let base = Base {
                hook: Hook::Prerouting,
                priority: -500,
            };
            batch.chain("block", Some(base))?;
            batch.rule("block", &Rule::new("blocked").came_in("lan0").drop())?;
        }
        Nft::open()?.commit(&batch)
    };
    router.run(work).unwrap();
}

#[test]
fn what_devices_send_comes_past_the_routes_and_without_the_table_by_them() {
    in_lab(|lab| {
        let short = Short::in_lab(lab);
        for server in SERVER {
            assert_eq!(short.asks(server), (true, true), "{server}");
        }
        block_the_long_way(&short.home.router, true);
        for server in SERVER {
            assert_eq!(short.asks(server), (true, true), "{server}");
        }
        let Short {
            home,
            daemon,
            shortcut,
            _installed,
        } = short;
        drop(shortcut);
        let before = daemon.passed();
        for server in SERVER {
            assert!(!echoes(&home.phone, server, None), "{server}");
        }
        assert_eq!(daemon.passed(), before);
        block_the_long_way(&home.router, false);
        for server in SERVER {
            assert!(echoes(&home.phone, server, None), "{server}");
        }
        assert!(daemon.passed() > before);
    });
}

#[test]
fn what_is_meant_for_the_router_or_stays_inside_does_not_come() {
    in_lab(|lab| {
        let short = Short::in_lab(lab);
        for own in ["192.168.7.1", "203.0.113.1", "fd00:7::1", "2001:db8::1"] {
            assert_eq!(short.asks(own), (false, true), "{own}");
        }
        for inside in ["192.168.7.77", "192.168.7.255", "fd00:7::77"] {
            assert!(!short.asks(inside).0, "{inside}");
        }
    });
}

#[test]
fn who_takes_the_address_of_the_router_is_refused_as_ever() {
    in_lab(|lab| {
        let short = Short::in_lab(lab);
        // Whose ARP requests would come from that address finds nobody.
        assert!(short.asks(SERVER[0]).0);
        let phone = &short.home.phone;
        phone.address("eth0", "203.0.113.1/32").unwrap();
        let send = |from: &str| {
            phone
                .run(|| {
                    let from: IpAddr = from.parse()?;
                    let socket = UdpSocket::bind((from, 0))?;
                    for _ in 0..3 {
                        socket.send_to(b"hello", (SERVER[0].parse::<IpAddr>()?, 7))?;
                    }
                    Ok(())
                })
                .unwrap();
            short.daemon.settle();
        };
        let before = short.daemon.passed();
        send("203.0.113.1");
        assert_eq!(short.daemon.passed(), before);
        send(PHONE[0]);
        assert!(short.daemon.passed() > before);
    });
}

#[test]
fn a_packet_at_the_end_of_its_hops_and_fragments_take_the_long_way() {
    in_lab(|lab| {
        let short = Short::in_lab(lab);
        let socket = |to: &str| {
            short.home.phone.run(|| {
                let to: IpAddr = to.parse()?;
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.connect((to, 7))?;
                socket.set_read_timeout(Some(Duration::from_secs(2)))?;
                Ok(socket)
            })
        };
        for server in SERVER {
            let socket = socket(server).unwrap();
            // More than one packet of the cable.
            socket.send(&[7; 1900]).unwrap();
            assert_eq!(socket.recv(&mut [0; 1900]).unwrap(), 1900, "{server}");
            block_the_long_way(&short.home.router, true);
            socket
                .set_read_timeout(Some(Duration::from_millis(300)))
                .unwrap();
            let before = short.daemon.passed();
            let _ = socket.send(&[7; 1900]);
            assert!(socket.recv(&mut [0; 1900]).is_err(), "{server}");
            setsockopt(&socket, sockopt::Ipv4Ttl, &1).unwrap_or_default();
            setsockopt(&socket, sockopt::Ipv6Ttl, &1).unwrap_or_default();
            let _ = socket.send(b"hello");
            assert!(socket.recv(&mut [0; 16]).is_err(), "{server}");
            short.daemon.settle();
            assert_eq!(short.daemon.passed(), before, "{server}");
            block_the_long_way(&short.home.router, false);
        }
    });
}
