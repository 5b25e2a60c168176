//! The short way into the TUN, and what does not take it.
use crate::harness::in_lab;
use crate::home::{Daemon, Home, PHONE, SERVER, assert_nothing_left, close, echoes, gateway, tun};
use cordon::kernel::divert::Installed;
use cordon::kernel::ingress::Shortcut;
use cordon::kernel::namespace::lab::{Host, Lab, Observer};
use cordon::kernel::netlink::Netlink;
use cordon::kernel::nft::{Base, Batch, Hook, Nft, Rule, Sees};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, sendto, setsockopt, socket, sockopt,
};
use std::net::{IpAddr, Ipv6Addr, UdpSocket};
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
        let (installed, shortcut) = close(&home.router, &gateway());
        Self {
            home,
            daemon: Daemon::with(device),
            shortcut: shortcut.unwrap(),
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

    /// How many packets come to the daemon if the phone sends this frame.
    fn gets(&self, frame: &[u8]) -> u64 {
        let phone = &self.home.phone;
        let link = link_address(phone, "eth0");
        let work = || {
            let (family, kind) = (AddressFamily::Packet, SockType::Raw);
            let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
            Ok(sendto(socket.as_raw_fd(), frame, &link, MsgFlags::empty())?)
        };
        self.daemon.settle();
        let before = self.daemon.passed();
        assert_eq!(phone.run(work).unwrap(), frame.len());
        self.daemon.settle();
        self.daemon.passed() - before
    }
}

/// A table that drops what comes in from the phone by the kernel's own way.
const BLOCKER: &str = "blocker";

fn block_the_long_way(router: &Host) {
    let work = || {
        let mut batch = Batch::new(Sees::Packets, BLOCKER)?;
        batch.table(false);
        let base = Base {
            hook: Hook::Prerouting,
            priority: -500,
        };
        batch.chain("block", Some(base))?;
        batch.rule("block", &Rule::new("blocked").came_in("lan0").drop())?;
        Nft::open()?.commit(&batch)
    };
    router.run(work).unwrap();
}

fn unblock(router: &Host) {
    let work = || {
        let mut batch = Batch::new(Sees::Packets, BLOCKER)?;
        batch.remove_table();
        Nft::open()?.commit(&batch)
    };
    router.run(work).unwrap();
}

#[test]
fn what_devices_send_comes_past_the_kernels_filters_and_without_the_table_nothing_leaves() {
    in_lab(|lab| {
        let short = Short::in_lab(lab);
        for server in SERVER {
            assert_eq!(short.asks(server), (true, true), "{server}");
        }
        block_the_long_way(&short.home.router);
        for server in SERVER {
            assert_eq!(short.asks(server), (true, true), "{server}");
        }
        let Short {
            home,
            daemon,
            shortcut,
            _installed,
        } = short;
        unblock(&home.router);
        let outside = home.outside();
        drop(shortcut);
        let before = daemon.passed();
        for server in SERVER {
            assert!(!echoes(&home.phone, server, None), "{server}");
        }
        assert_eq!(daemon.passed(), before);
        assert_nothing_left(outside);
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
fn from_an_address_that_is_not_inside_nothing_comes_and_nobody_complains() {
    in_lab(|lab| {
        let short = Short::in_lab(lab);
        assert!(short.asks(SERVER[0]).0);
        // Everything that the router sends to the outside, but for what finds neighbours.
        let outside = Observer::judging(&short.home.router, "wan0", |frame| {
            frame.outgoing && frame.ethertype == 0x0800
        });
        let outside = outside.unwrap();
        let mut packet = datagram(&[]);
        packet[12..16].copy_from_slice(&[198, 51, 100, 9]);
        for hops in [1, 64] {
            packet[8] = hops;
            checksum(&mut packet);
            assert_eq!(short.gets(&frame(&short, &[8, 0], &packet)), 0, "{hops}");
        }
        assert_nothing_left(outside);
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

/// A datagram socket of the phone's, connected to port 7 of `to`.
fn connected(short: &Short, to: &str) -> UdpSocket {
    let work = || {
        let to: IpAddr = to.parse()?;
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect((to, 7))?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        Ok(socket)
    };
    short.home.phone.run(work).unwrap()
}

#[test]
fn fragments_and_packets_with_options_come_too() {
    in_lab(|lab| {
        let short = Short::in_lab(lab);
        for server in SERVER {
            assert_eq!(short.asks(server), (true, true), "{server}");
            let socket = connected(&short, server);
            let before = short.daemon.passed();
            // More than one packet of the cable.
            socket.send(&[7; 1900]).unwrap();
            assert_eq!(socket.recv(&mut [0; 1900]).unwrap(), 1900, "{server}");
            short.daemon.settle();
            assert!(
                short.daemon.passed() >= before + 2,
                "{server}: two fragments"
            );
        }
        block_the_long_way(&short.home.router);
        for server in SERVER {
            assert!(short.asks(server).0, "{server}");
        }
        // Four times *no operation* (RFC 791, section 3.1).
        assert!(short.gets(&frame(&short, &[8, 0], &datagram(&[1, 1, 1, 1]))) >= 1);
        // Six bytes of *padding* for the destination (RFC 8200, sections 4.2 and 4.6), then no next header.
        let mut packet = vec![0x60, 0, 0, 0, 0, 8, 60, 64];
        for address in [PHONE[1], SERVER[1]] {
            packet.extend(address.parse::<Ipv6Addr>().unwrap().octets());
        }
        packet.extend([59, 0, 1, 4, 0, 0, 0, 0]);
        assert!(short.gets(&frame(&short, &[0x86, 0xdd], &packet)) >= 1);
    });
}

#[test]
fn who_is_at_the_end_of_its_hops_hears_so_from_the_router() {
    in_lab(|lab| {
        let short = Short::in_lab(lab);
        for server in SERVER {
            assert_eq!(short.asks(server), (true, true), "{server}");
            let socket = connected(&short, server);
            if server.contains(':') {
                setsockopt(&socket, sockopt::Ipv6Ttl, &1).unwrap();
                setsockopt(&socket, sockopt::Ipv6RecvErr, &true).unwrap();
            } else {
                setsockopt(&socket, sockopt::Ipv4Ttl, &1).unwrap();
                setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
            }
            let before = short.daemon.passed();
            socket.send(b"hello").unwrap();
            let error = socket.recv(&mut [0; 16]).unwrap_err();
            assert_eq!(
                error.raw_os_error(),
                Some(libc::EHOSTUNREACH),
                "{server}: {error}"
            );
            short.daemon.settle();
            assert_eq!(short.daemon.passed(), before, "{server}");
        }
    });
}

#[test]
fn an_interface_that_comes_back_is_closed_until_the_short_way_is_opened_anew() {
    in_lab(|lab| {
        let Short {
            home,
            daemon,
            mut shortcut,
            _installed,
        } = Short::in_lab(lab);
        assert!(echoes(&home.phone, SERVER[0], None));
        let inside = || home.router.run(|| gateway().inside()).unwrap();
        let first = inside();
        home.router
            .run(|| Netlink::open()?.delete_link("lan0"))
            .unwrap();
        let none = inside();
        assert_eq!((none.indexes.len(), first.indexes.len()), (0, 1));
        // Without any interface there is nothing to open, and nothing wrong.
        home.router.run(|| shortcut.renew(&none)).unwrap();
        lab.wire((&home.phone, "eth0"), (&home.router, "lan0"))
            .unwrap();
        home.phone.address("eth0", "192.168.7.2/24").unwrap();
        home.router.address("lan0", "192.168.7.1/24").unwrap();
        home.phone.default_route("eth0", "192.168.7.1").unwrap();
        home.router
            .setting("ipv4/conf/lan0/forwarding", "1")
            .unwrap();
        let outside = home.outside();
        assert!(!echoes(&home.phone, SERVER[0], None));
        assert_nothing_left(outside);
        home.router.run(|| shortcut.renew(&inside())).unwrap();
        let before = daemon.passed();
        assert!(echoes(&home.phone, SERVER[0], None));
        assert!(daemon.passed() > before);
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

/// A frame to the router, with what stands before the packet.
fn frame(short: &Short, kind: &[u8], packet: &[u8]) -> Vec<u8> {
    let [to, from] = [(&short.home.router, "lan0"), (&short.home.phone, "eth0")]
        .map(|(host, link)| link_address(host, link).addr().unwrap());
    [&to[..], &from, kind, packet].concat()
}

/// A datagram of the phone's to port 7 of the server, without a checksum (RFC 768), with options of IPv4.
fn datagram(options: &[u8]) -> Vec<u8> {
    let words = 5 + options.len() as u8 / 4;
    let mut packet = vec![0x40 | words, 0, 0, 4 * words + 8];
    packet.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 192, 168, 7, 2, 203, 0, 113, 9]);
    packet.extend(options);
    packet.extend([0x30, 0x39, 0, 7, 0, 8, 0, 0]);
    checksum(&mut packet);
    packet
}

/// Puts the header's checksum right (RFC 1071).
fn checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let header = usize::from(packet[0] & 15) * 4;
    let sum: u32 = packet[..header]
        .chunks(2)
        .map(|two| u32::from(two[0]) << 8 | u32::from(two[1]))
        .sum();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

#[test]
fn frames_that_were_sent_to_others_or_belong_to_a_vlan_do_not_come() {
    in_lab(|lab| {
        let short = Short::in_lab(lab);
        let packet = datagram(&[]);
        let ours = frame(&short, &[8, 0], &packet);
        let mut others = ours.clone();
        others[5] ^= 1;
        assert_eq!(short.gets(&others), 0);
        for tag in [[0x81, 0], [0x88, 0xa8]] {
            let kind = [tag, [0, 7], [8, 0]].concat();
            assert_eq!(short.gets(&frame(&short, &kind, &packet)), 0);
        }
        // The phone knows nothing of it, and its complaint comes, too.
        assert!(short.gets(&ours) >= 1);
    });
}
