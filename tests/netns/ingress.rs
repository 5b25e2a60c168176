//! The short way into the TUN, and what does not take it.
use crate::harness::in_lab;
use crate::home::{Daemon, Home, PHONE, SERVER, echoes, gateway, tun};
use cordon::kernel::divert::Installed;
use cordon::kernel::ingress::Shortcut;
use cordon::kernel::namespace::lab::{Host, Lab};
use cordon::kernel::nft::{Base, Batch, Hook, Nft, Rule, Sees};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, setsockopt, socket, sockopt,
};
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
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

/// The link-layer address of an interface, as sockets take it.
fn link_address(host: &Host, link: &str) -> LinkAddr {
    let find = || {
        let mut addresses = nix::ifaddrs::getifaddrs()?;
        let found = addresses.find_map(|entry| {
            let address = entry.address.filter(|_| entry.interface_name == link)?;
            address.as_link_addr().copied()
        });
        Ok(found.expect("the interface has an address"))
    };
    host.run(find).unwrap()
}

#[test]
fn frames_that_were_sent_to_others_do_not_come() {
    in_lab(|lab| {
        let short = Short::in_lab(lab);
        let (phone, router) = (&short.home.phone, &short.home.router);
        let from = link_address(phone, "eth0");
        let ours = link_address(router, "lan0").addr().unwrap();
        let mut others = ours;
        others[5] ^= 1;
        // A datagram to port 7, without a checksum (RFC 768).
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17, 0, 0];
        packet.extend([192, 168, 7, 2, 203, 0, 113, 9]);
        let sum: u32 = packet
            .chunks(2)
            .map(|two| u32::from(two[0]) << 8 | u32::from(two[1]))
            .sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend([0x30, 0x39, 0, 7, 0, 8, 0, 0]);
        let send = |to: [u8; 6]| {
            let frame = [&to[..], &from.addr().unwrap(), &[8, 0], &packet].concat();
            let work = || {
                let socket = socket(
                    AddressFamily::Packet,
                    SockType::Raw,
                    SockFlag::SOCK_CLOEXEC,
                    None,
                )?;
                Ok(sendto(
                    socket.as_raw_fd(),
                    &frame,
                    &from,
                    MsgFlags::empty(),
                )?)
            };
            let before = short.daemon.passed();
            assert_eq!(phone.run(work).unwrap(), frame.len());
            short.daemon.settle();
            short.daemon.passed() - before
        };
        assert_eq!(send(others), 0);
        // The phone knows nothing of it, and its complaint comes, too.
        assert!(send(ours) >= 1);
    });
}
