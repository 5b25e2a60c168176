//! The bytes are a packet. Whatever they are, reading is total and its answer consistent; what is read is what smoltcp
//! reads; edits keep a good packet good, and our answers to it are good packets.
use cordon::flow::FlowKey;
use cordon::packet::build::{self, Unreachable};
use cordon::packet::edit::{self, Segmenting};
use cordon::packet::{Checksum, Gso, Offload, Parsed, Tcp, Transport, checksum, offload, protocol};
use smoltcp::wire::{Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket};
use std::net::IpAddr;

pub(crate) fn run(data: &[u8]) {
    check(data);
    // A fuzzer does not find checksums: once more with those that can be written.
    let mut fixed = data.to_vec();
    fix_ipv4(&mut fixed);
    check(&fixed);
    if let Some(header) = Offload::decode(data) {
        assert_eq!(Offload::decode(&header.encode()), Some(header));
        let mut packet = data[offload::LEN..].to_vec();
        checksum::complete(&mut packet, &mut header.clone());
    }
}

fn check(bytes: &[u8]) {
    let verified = Parsed::read(bytes, Checksum::Verify);
    let trusted = Parsed::read(bytes, Checksum::Trust);
    if verified.is_ok() {
        assert_eq!(verified, trusted);
    }
    edit_anything(bytes);
    let Ok(parsed) = trusted else {
        return;
    };
    check_offsets(&parsed, bytes);
    assert_eq!(Parsed::read(&bytes[..parsed.len], Checksum::Trust), trusted);
    assert!(Parsed::read(&bytes[..parsed.len - 1], Checksum::Trust).is_err());
    if let Some(key) = FlowKey::of(&parsed) {
        assert_eq!((key.src, key.dst), (parsed.src, parsed.dst));
    }
    agree_with_smoltcp(&parsed, &bytes[..parsed.len]);
    keep_good(&parsed, &bytes[..parsed.len], verified.is_ok());
    answer(&parsed, bytes);
}

fn check_offsets(parsed: &Parsed, bytes: &[u8]) {
    assert!(parsed.ip_len >= 20 && parsed.ip_len <= parsed.len && parsed.len <= bytes.len());
    let at = match parsed.transport {
        Transport::Tcp(tcp) => tcp.payload,
        Transport::Udp(udp) => udp.payload,
        Transport::EchoRequest(echo) | Transport::EchoReply(echo) => echo.payload,
        Transport::IcmpError(error) => error.quoted,
        Transport::Fragment(fragment) => {
            assert!(usize::from(fragment.offset) + parsed.len <= 65_535 + fragment.payload);
            fragment.payload
        }
        Transport::Other => parsed.ip_len,
    };
    assert!(at >= parsed.ip_len && at <= parsed.len);
    assert_eq!(parsed.payload(bytes), &bytes[at..parsed.len]);
}

/// Nothing is read in another way by the terminator.
fn agree_with_smoltcp(parsed: &Parsed, packet: &[u8]) {
    match (parsed.src, parsed.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let ip = Ipv4Packet::new_checked(packet).expect("smoltcp reads it too");
            assert_eq!((ip.src_addr(), ip.dst_addr()), (src, dst));
            assert_eq!(usize::from(ip.header_len()), parsed.ip_len);
            assert_eq!(usize::from(ip.total_len()), parsed.len);
            assert_eq!(ip.hop_limit(), parsed.hop_limit);
            assert_eq!(u8::from(ip.next_header()), parsed.protocol);
            assert!(ip.verify_checksum());
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let ip = Ipv6Packet::new_checked(packet).expect("smoltcp reads it too");
            assert_eq!((ip.src_addr(), ip.dst_addr()), (src, dst));
            assert_eq!(ip.total_len(), parsed.len);
            assert_eq!(ip.hop_limit(), parsed.hop_limit);
        }
        _ => panic!("two families"),
    }
    let segment = &packet[parsed.ip_len..];
    match parsed.transport {
        Transport::Tcp(tcp) => {
            let theirs = TcpPacket::new_checked(segment).expect("smoltcp reads it too");
            assert_eq!(
                (theirs.src_port(), theirs.dst_port()),
                (tcp.sport, tcp.dport)
            );
            assert_eq!(theirs.seq_number().0 as u32, tcp.seq);
            assert_eq!(theirs.ack_number().0 as u32, tcp.ack);
            assert_eq!(theirs.syn(), tcp.flags & Tcp::SYN != 0);
            assert_eq!(theirs.payload(), parsed.payload(packet));
        }
        Transport::Udp(udp) => {
            let theirs = UdpPacket::new_checked(segment).expect("smoltcp reads it too");
            assert_eq!(
                (theirs.src_port(), theirs.dst_port()),
                (udp.sport, udp.dport)
            );
            assert_eq!(theirs.payload(), parsed.payload(packet));
        }
        _ => {}
    }
}

/// Edits of bytes that nobody has read change nothing but what they say.
fn edit_anything(bytes: &[u8]) {
    for offload in [true, false] {
        let how = Segmenting {
            link_mtu: 1500,
            flow_mss: 1460,
            offload,
        };
        let mut edited = bytes.to_vec();
        let metadata = edit::finish_segment(&mut edited, &how);
        assert_eq!(edited.len(), bytes.len());
        assert!(offload || metadata == Offload::default());
        assert_eq!(metadata.gso != Gso::None, metadata.gso_size != 0);
    }
    let mut edited = bytes.to_vec();
    if !edit::restore_hop_limit(&mut edited) {
        assert_eq!(edited, bytes);
    }
}

/// Edits of a good packet give a good packet.
fn keep_good(parsed: &Parsed, packet: &[u8], verified: bool) {
    let mut passed = packet.to_vec();
    if edit::restore_hop_limit(&mut passed) {
        let checksum = if verified {
            Checksum::Verify
        } else {
            Checksum::Trust
        };
        let expected = Parsed {
            hop_limit: parsed.hop_limit + 1,
            ..*parsed
        };
        assert_eq!(Parsed::read(&passed, checksum), Ok(expected));
    } else {
        assert!(parsed.hop_limit <= 1);
    }
    let Transport::Tcp(tcp) = parsed.transport else {
        return;
    };
    let mut raised = packet.to_vec();
    let mss = edit::raise_mss(&mut raised, parsed, 1500);
    assert!((88..=1460).contains(&mss));
    assert_eq!(Parsed::read(&raised, Checksum::Trust), Ok(*parsed));
    let direct = packet[if parsed.src.is_ipv4() { 9 } else { 6 }] == protocol::TCP;
    if !direct {
        return;
    }
    for offload in [true, false] {
        let how = Segmenting {
            link_mtu: 1500,
            flow_mss: mss,
            offload,
        };
        let mut finished = raised.clone();
        let mut metadata = edit::finish_segment(&mut finished, &how);
        let data = parsed.len - tcp.payload;
        assert_eq!(
            metadata.gso != Gso::None,
            offload && data > gso_size(parsed, mss)
        );
        // What the kernel does for a segment that it need not cut.
        metadata.gso = Gso::None;
        assert!(checksum::complete(&mut finished, &mut metadata));
        assert_eq!(Parsed::read(&finished, Checksum::Verify), Ok(*parsed));
    }
}

fn gso_size(parsed: &Parsed, mss: u16) -> usize {
    let Transport::Tcp(tcp) = parsed.transport else {
        panic!("no segment");
    };
    usize::from(mss) - (tcp.payload - parsed.ip_len - 20)
}

/// Our answers are good packets to whoever sent it.
fn answer(parsed: &Parsed, bytes: &[u8]) {
    let mut out = Vec::new();
    build::tcp_reset(&mut out, parsed);
    if !out.is_empty() {
        let reset = Parsed::read(&out, Checksum::Verify).expect("a good reset");
        assert_eq!((reset.src, reset.dst), (parsed.dst, parsed.src));
        let mut again = Vec::new();
        build::tcp_reset(&mut again, &reset);
        assert!(again.is_empty(), "a reset answers a reset");
    }
    let from: IpAddr = match parsed.src {
        IpAddr::V4(_) => [10, 255, 255, 254].into(),
        IpAddr::V6(_) => [0xfd; 16].into(),
    };
    if from == parsed.src {
        return;
    }
    let mut out = Vec::new();
    build::unreachable(&mut out, parsed, bytes, Unreachable::Prohibited, from);
    if !out.is_empty() {
        let error = Parsed::read(&out, Checksum::Verify).expect("a good error");
        assert_eq!((error.src, error.dst), (from, parsed.src));
        assert!(bytes[..parsed.len].starts_with(error.payload(&out)));
        assert!(out.len() <= if from.is_ipv4() { 576 } else { 1280 });
        let mut again = Vec::new();
        build::unreachable(&mut again, &error, &out, Unreachable::Host, parsed.dst);
        assert!(again.is_empty(), "an error answers an error");
    }
}

fn fix_ipv4(packet: &mut [u8]) {
    let len = usize::from(packet.first().map_or(0, |b| b & 15)) * 4;
    if len >= 20 && packet[0] >> 4 == 4 && len <= packet.len() {
        packet[10..12].fill(0);
        let sum = checksum::Sum::of(&packet[..len]).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}
