//! The TUN as the kernel drives it.
use crate::harness::{in_lab, turn_round, wait_until};
use cordon::kernel::namespace::lab::Host;
use cordon::kernel::netlink::Netlink;
use cordon::link::Tun;
use cordon::packet::offload;
use nix::sys::socket::{setsockopt, sockopt};
use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Where datagrams in these tests go: nobody has it but the TUN leads there.
const FAR: &str = "192.0.2.7:4242";

/// Gives a TUN an address, sends everything there, and returns a socket on the host.
fn behind(host: &Host, tun: &Tun) -> UdpSocket {
    host.address(tun.name(), "10.77.0.1/24").unwrap();
    host.route("0.0.0.0/0", tun.name(), None).unwrap();
    let socket = host.run(|| Ok(UdpSocket::bind("10.77.0.1:0")?)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

/// The next UDP packet with its header; whatever else the kernel says is passed over.
fn next_udp(tun: &Tun, buf: &mut [u8]) -> usize {
    let mut len = 0;
    wait_until("a datagram comes out of the TUN", || {
        while let Some(read) = tun.recv(buf).unwrap() {
            len = read;
            if buf[offload::LEN] >> 4 == 4 && buf[offload::LEN + 9] == 17 {
                return true;
            }
        }
        false
    });
    len
}

#[test]
fn a_datagram_goes_out_with_a_partial_checksum_and_its_echo_comes_back() {
    in_lab(|lab| {
        let host = lab.host("host").unwrap();
        let tun = host.run(|| Tun::create("tun0", 1500)).unwrap();
        assert!(tun.offloads().checksum && tun.offloads().tso);
        let socket = behind(&host, &tun);
        socket.send_to(b"hello", FAR).unwrap();
        let mut buf = vec![0; Tun::BUFFER];
        let len = next_udp(&tun, &mut buf);
        assert_eq!(len, offload::LEN + 20 + 8 + 5);
        assert_eq!(buf[0], 1, "VIRTIO_NET_HDR_F_NEEDS_CSUM");
        assert_eq!(&buf[len - 5..len], b"hello");
        turn_round(&mut buf[offload::LEN..len]);
        tun.send(&buf[..len]).unwrap();
        let mut answer = [0; 16];
        let (got, from) = socket.recv_from(&mut answer).unwrap();
        assert_eq!(
            (&answer[..got], from.to_string().as_str()),
            (&b"hello"[..], FAR)
        );
        assert_eq!(tun.recv(&mut buf).unwrap(), None);
    });
}

#[test]
fn a_plain_device_looks_the_same_with_an_empty_header() {
    in_lab(|lab| {
        let host = lab.host("host").unwrap();
        let tun = host.run(|| Tun::create_plain("tun0", 1500)).unwrap();
        assert_eq!(tun.offloads(), cordon::link::Offloads::default());
        let socket = behind(&host, &tun);
        socket.send_to(b"hello", FAR).unwrap();
        let mut buf = vec![0xff; Tun::BUFFER];
        let len = next_udp(&tun, &mut buf);
        assert_eq!(buf[..offload::LEN], [0; offload::LEN]);
        turn_round(&mut buf[offload::LEN..len]);
        tun.send(&buf[..len]).unwrap();
        let mut answer = [0; 16];
        assert_eq!(socket.recv(&mut answer).unwrap(), 5);
        // It cannot complete a checksum, and says so instead of sending a wrong one.
        buf[0] = 1;
        assert_eq!(
            tun.send(&buf[..len]).unwrap_err().kind(),
            std::io::ErrorKind::Unsupported
        );
    });
}

#[test]
fn super_datagrams_cross_whole_both_ways() {
    in_lab(|lab| {
        let host = lab.host("host").unwrap();
        let tun = host.run(|| Tun::create("tun0", 1500)).unwrap();
        if !tun.offloads().uso {
            println!("this kernel has no USO (it came with Linux 6.2)");
            return;
        }
        let socket = behind(&host, &tun);
        setsockopt(&socket, sockopt::UdpGsoSegment, &1000).unwrap();
        let sent: Vec<u8> = (0..10_500_u32).map(|at| (at % 251) as u8).collect();
        socket.send_to(&sent, FAR).unwrap();
        let mut buf = vec![0; Tun::BUFFER];
        let len = next_udp(&tun, &mut buf);
        assert_eq!(len, offload::LEN + 28 + sent.len());
        assert_eq!(buf[1], 5, "VIRTIO_NET_HDR_GSO_UDP_L4");
        assert_eq!(u16::from_ne_bytes([buf[4], buf[5]]), 1000);
        turn_round(&mut buf[offload::LEN..len]);
        tun.send(&buf[..len]).unwrap();
        let mut got = Vec::new();
        let mut datagram = [0; 2000];
        while got.len() < sent.len() {
            let len = socket.recv(&mut datagram).unwrap();
            assert!(
                len == 1000 || got.len() == 10_000,
                "cut into segments of 1000"
            );
            got.extend_from_slice(&datagram[..len]);
        }
        assert_eq!(got, sent);
    });
}

#[test]
fn a_flow_stays_on_the_queue_its_answers_are_written_to() {
    in_lab(|lab| {
        let host = lab.host("host").unwrap();
        let queues = host.run(|| Tun::create_queues("tun0", 1500, 4)).unwrap();
        assert_eq!(queues.len(), 4);
        let first = behind(&host, &queues[0]);
        let mut sockets = vec![first];
        for _ in 0..31 {
            let socket = host.run(|| Ok(UdpSocket::bind("10.77.0.1:0")?)).unwrap();
            sockets.push(socket);
        }
        let mut buf = vec![0; Tun::BUFFER];
        let mut read = |within: &mut Vec<usize>| {
            for (number, queue) in queues.iter().enumerate() {
                while let Some(len) = queue.recv(&mut buf).unwrap() {
                    if buf[offload::LEN + 9] == 17 {
                        within.push(number);
                        turn_round(&mut buf[offload::LEN..len]);
                        queue.send(&buf[..len]).unwrap();
                    }
                }
            }
        };
        for socket in &sockets {
            let mut seen_on = Vec::new();
            for _ in 0..20 {
                socket.send_to(b"again", FAR).unwrap();
                let before = seen_on.len();
                wait_until("the datagram comes out of a queue", || {
                    read(&mut seen_on);
                    seen_on.len() > before
                });
            }
            // The first packet goes by its hash; from the first answer on, the queue is known.
            assert!(
                seen_on[1..].windows(2).all(|pair| pair[0] == pair[1]),
                "{seen_on:?}"
            );
        }
    });
}

#[test]
fn names_that_cannot_be_had_are_refused_and_nothing_stays() {
    in_lab(|lab| {
        let host = lab.host("host").unwrap();
        let links = || host.run(|| Netlink::open()?.links()).unwrap();
        let before = links();
        let taken = host.run(|| Tun::create("lo", 1500)).unwrap_err();
        assert!(
            taken
                .to_string()
                .contains("lo exists already: choose another name"),
            "{taken}"
        );
        let long = host
            .run(|| Tun::create("sixteen-bytes-xx", 1500))
            .unwrap_err();
        assert!(long.to_string().contains("1 to 15 bytes"), "{long}");
        let small = host.run(|| Tun::create("tun0", 10)).unwrap_err();
        assert!(
            small.to_string().contains("check the name and the MTU"),
            "{small}"
        );
        let tun = host.run(|| Tun::create("tun0", 1500)).unwrap();
        let again = host
            .run(|| Tun::create_queues("tun0", 1500, 2))
            .unwrap_err();
        assert!(again.to_string().contains("tun0 exists already"), "{again}");
        drop(tun);
        assert_eq!(links(), before);
    });
}

#[test]
fn a_queue_made_elsewhere_is_taken_over_with_all_it_can() {
    in_lab(|lab| {
        let host = lab.host("host").unwrap();
        let tun = host.run(|| Tun::create("tun0", 1500)).unwrap();
        let offloads = tun.offloads();
        let fd: OwnedFd = tun.as_fd().try_clone_to_owned().unwrap();
        drop(tun);
        let adopted = Tun::adopt(fd).unwrap();
        assert_eq!((adopted.name(), adopted.offloads()), ("tun0", offloads));
        let socket = behind(&host, &adopted);
        socket.send_to(b"hello", FAR).unwrap();
        assert_eq!(
            next_udp(&adopted, &mut vec![0; Tun::BUFFER]),
            offload::LEN + 33
        );
    });
}
