use super::*;
use crate::packet::samples;
use crate::packet::{Checksum, Echo, Fragment, IcmpError, Malformed};

const REASONS: [Unreachable; 6] = [
    Unreachable::Prohibited,
    Unreachable::Network,
    Unreachable::Host,
    Unreachable::Port,
    Unreachable::TooBig(1400),
    Unreachable::HopLimit,
];

fn read(packet: &[u8]) -> Parsed {
    Parsed::read(packet, Checksum::Verify).expect("a good packet")
}

/// Our own address on the inside link.
fn gate(v6: bool) -> IpAddr {
    let address = if v6 { "fd00::1" } else { "10.0.0.1" };
    address.parse().expect("an address")
}

fn ends(v6: bool) -> (SocketAddr, SocketAddr) {
    let (inside, outside) = samples::addresses(v6);
    (
        SocketAddr::new(outside, 53),
        SocketAddr::new(inside, 40_000),
    )
}

fn udp(v6: bool, payload: usize, gso_size: u16) -> (Vec<u8>, Offload) {
    let mut buf = vec![0xaa; HEADROOM];
    buf.extend((0..payload).map(|i| i as u8));
    let (from, to) = ends(v6);
    let (at, offload) = udp_in_place(&mut buf, HEADROOM, from, to, gso_size);
    assert!(
        buf[..at].iter().all(|b| *b == 0xaa),
        "written before the packet"
    );
    (buf.split_off(at), offload)
}

#[test]
fn a_datagram_written_in_place_is_whole_once_its_checksum_is_completed() {
    for v6 in [false, true] {
        for payload in [0, 1, 2, 1200, 1471, 9000] {
            let (mut packet, mut offload) = udp(v6, payload, 0);
            assert_eq!(
                Parsed::read(&packet, Checksum::Verify),
                Err(Malformed::TransportChecksum)
            );
            assert_eq!(offload.gso, Gso::None);
            assert!(checksum::complete(&mut packet, &mut offload));
            let parsed = read(&packet);
            let (from, to) = ends(v6);
            let Transport::Udp(udp) = parsed.transport else {
                panic!("{parsed:?}");
            };
            assert_eq!((parsed.src, udp.sport), (from.ip(), from.port()));
            assert_eq!((parsed.dst, udp.dport), (to.ip(), to.port()));
            let expected: Vec<u8> = (0..payload).map(|i| i as u8).collect();
            assert_eq!(parsed.payload(&packet), expected);
        }
    }
}

#[test]
fn a_super_datagram_names_its_segment_size_and_headers() {
    for (v6, ip_len) in [(false, 20), (true, 40)] {
        let (packet, offload) = udp(v6, 5000, 1200);
        let expected = Offload {
            partial_checksum: true,
            verified: false,
            gso: Gso::UdpL4,
            gso_size: 1200,
            header_len: ip_len + 8,
            checksum_start: ip_len,
            checksum_offset: 6,
        };
        assert_eq!(offload, expected);
        assert!(Parsed::read(&packet, offload.checksum()).is_ok());
        // One segment is no super-datagram.
        assert_eq!(udp(v6, 1200, 1200).1.gso, Gso::None);
    }
}

#[test]
fn only_a_long_packet_may_be_fragmented_on_its_way() {
    let flags_and_id = |(packet, _): (Vec<u8>, Offload)| (packet[6], [packet[4], packet[5]]);
    assert_eq!(flags_and_id(udp(false, 1252, 0)), (0x40, [0, 0]));
    assert_eq!(flags_and_id(udp(false, 5000, 1200)), (0x40, [0, 0]));
    let (flags, id) = flags_and_id(udp(false, 1253, 0));
    assert_eq!(flags, 0);
    assert_ne!(id, flags_and_id(udp(false, 1260, 0)).1);

    let (inside, outside) = samples::addresses(false);
    let reply = |payload, seq| {
        let mut buf = vec![7; HEADROOM + payload];
        let (at, _) = echo_reply_in_place(&mut buf, HEADROOM, outside, inside, 1, seq);
        flags_and_id((buf.split_off(at), Offload::default()))
    };
    assert_eq!(reply(1252, 1), (0x40, [0, 0]));
    let (flags, id) = reply(1253, 1);
    assert_eq!(flags, 0);
    assert_ne!(id, reply(1253, 2).1);
}

#[test]
fn what_cannot_be_a_packet_becomes_an_empty_one() {
    let (from4, to4) = ends(false);
    let (from6, to6) = ends(true);
    let empty = |len: usize, payload_at, from, to| {
        let mut buf = vec![0; len];
        assert_eq!(
            udp_in_place(&mut buf, payload_at, from, to, 0),
            (len, Offload::default())
        );
        assert_eq!(
            echo_reply_in_place(&mut buf, payload_at, from.ip(), to.ip(), 1, 1).0,
            len
        );
        assert_eq!(buf, vec![0; len]);
    };
    empty(100, HEADROOM, from4, to6);
    empty(100, HEADROOM, from6, to4);
    empty(100, 47, from6, to6);
    empty(100, 27, from4, to4);
    empty(100, 101, from4, to4);
    empty(70_000, HEADROOM, from4, to4);
    empty(HEADROOM + 65_488, HEADROOM, from6, to6);
}

#[test]
fn an_echo_reply_mirrors_identifier_sequence_and_data() {
    for v6 in [false, true] {
        let (inside, outside) = samples::addresses(v6);
        let mut buf = vec![0; HEADROOM];
        buf.extend(b"some data");
        let (at, offload) = echo_reply_in_place(&mut buf, HEADROOM, outside, inside, 0x1234, 7);
        assert_eq!(offload, Offload::default());
        let packet = &buf[at..];
        let parsed = read(packet);
        assert_eq!((parsed.src, parsed.dst), (outside, inside));
        let payload = packet.len() - 9;
        let expected = Echo {
            id: 0x1234,
            seq: 7,
            payload,
        };
        assert_eq!(parsed.transport, Transport::EchoReply(expected));
        assert_eq!(parsed.payload(packet), b"some data");
    }
}

fn reset_of(packet: &[u8]) -> Option<Tcp> {
    let parsed = read(packet);
    let mut out = Vec::new();
    tcp_reset(&mut out, &parsed);
    if out.is_empty() {
        return None;
    }
    let reset = read(&out);
    assert_eq!((reset.src, reset.dst), (parsed.dst, parsed.src));
    let Transport::Tcp(tcp) = reset.transport else {
        panic!("{reset:?}");
    };
    assert_eq!((tcp.sport, tcp.dport), (samples::DPORT, samples::SPORT));
    Some(tcp)
}

#[test]
fn a_reset_takes_its_numbers_from_the_segment_it_answers() {
    for v6 in [false, true] {
        let numbers = |flags, data: &[u8]| {
            reset_of(&samples::tcp(v6, flags, &[], data)).map(|tcp| (tcp.flags, tcp.seq, tcp.ack))
        };
        let reset_ack = Tcp::RST | Tcp::ACK;
        assert_eq!(numbers(Tcp::SYN, b""), Some((reset_ack, 0, 1001)));
        assert_eq!(numbers(Tcp::SYN, b"early"), Some((reset_ack, 0, 1006)));
        assert_eq!(numbers(Tcp::ACK, b"data"), Some((Tcp::RST, 2000, 0)));
        assert_eq!(numbers(Tcp::ACK | Tcp::FIN, b""), Some((Tcp::RST, 2000, 0)));
        assert_eq!(numbers(Tcp::RST, b""), None);
        assert_eq!(numbers(Tcp::RST | Tcp::ACK, b""), None);
    }
}

#[test]
fn only_a_tcp_segment_to_one_host_is_reset() {
    let mut out = Vec::new();
    tcp_reset(&mut out, &read(&samples::udp(false, b"")));
    let mut parsed = read(&samples::tcp(false, Tcp::SYN, &[], b""));
    parsed.dst = "224.0.0.1".parse().expect("an address");
    tcp_reset(&mut out, &parsed);
    assert_eq!(out, b"");
}

#[test]
fn every_reason_has_its_type_and_code_in_both_families() {
    let kinds = |v6| {
        REASONS.map(|why| {
            let packet = samples::udp(v6, b"data");
            let mut out = Vec::new();
            unreachable(&mut out, &read(&packet), &packet, why, gate(v6));
            let parsed = read(&out);
            assert_eq!(
                (parsed.src, parsed.dst),
                (gate(v6), samples::addresses(v6).0)
            );
            assert_eq!(parsed.payload(&out), packet);
            let Transport::IcmpError(IcmpError { kind, code, quoted }) = parsed.transport else {
                panic!("{parsed:?}");
            };
            let mtu = u16::from_be_bytes([out[quoted - 2], out[quoted - 1]]);
            (kind, code, mtu)
        })
    };
    assert_eq!(
        kinds(false),
        [
            (3, 13, 0),
            (3, 0, 0),
            (3, 1, 0),
            (3, 3, 0),
            (3, 4, 1400),
            (11, 0, 0)
        ]
    );
    assert_eq!(
        kinds(true),
        [
            (1, 1, 0),
            (1, 0, 0),
            (1, 3, 0),
            (1, 4, 0),
            (2, 0, 1400),
            (3, 0, 0)
        ]
    );
}

#[test]
fn an_error_quotes_as_much_as_the_family_allows() {
    for (v6, limit) in [(false, 576), (true, 1280)] {
        let packet = samples::udp(v6, &[7; 3000]);
        let mut out = b"kept".to_vec();
        unreachable(
            &mut out,
            &read(&packet),
            &packet,
            Unreachable::Port,
            gate(v6),
        );
        let error = out.split_off(4);
        assert_eq!(out, b"kept");
        assert_eq!(error.len(), limit);
        assert!(packet.starts_with(read(&error).payload(&error)));
    }
}

#[test]
fn an_error_does_not_quote_what_lies_behind_the_packet() {
    let packet = samples::udp(false, b"data");
    let mut padded = packet.clone();
    padded.extend(b"not sent");
    let mut out = Vec::new();
    unreachable(
        &mut out,
        &read(&padded),
        &padded,
        Unreachable::Host,
        gate(false),
    );
    assert_eq!(read(&out).payload(&out), packet);
}

#[test]
fn no_error_answers_errors_redirects_groups_and_later_fragments() {
    for v6 in [false, true] {
        let whole = samples::udp(v6, &[7; 100]);
        let pieces = samples::fragments(&whole, 1, 64);
        let (inside, outside) = samples::addresses(v6);
        let group: IpAddr = if v6 { "ff02::1" } else { "224.0.0.1" }
            .parse()
            .expect("an address");
        let mut silent = vec![
            samples::icmp(v6, 3, 0, [0; 4], b"quote"),
            samples::ip(inside, group, 99, b"x"),
            pieces[1].clone(),
        ];
        if v6 {
            silent.push(samples::icmp(v6, 137, 0, [0; 4], &[0; 32]));
        } else {
            silent.push(samples::ip(inside, Ipv4Addr::BROADCAST.into(), 99, b"x"));
            silent.push(samples::icmp(v6, 5, 0, [0; 4], b"quote"));
        }
        let answered = [
            pieces[0].clone(),
            samples::ip(inside, outside, 99, b"x"),
            samples::icmp(v6, if v6 { 128 } else { 8 }, 0, [0; 4], b""),
            samples::tcp(v6, Tcp::SYN, &[], b""),
        ];
        for (packets, expected) in [(&silent[..], false), (&answered[..], true)] {
            for packet in packets {
                let mut out = Vec::new();
                let parsed = read(packet);
                unreachable(&mut out, &parsed, packet, Unreachable::Prohibited, gate(v6));
                assert_eq!(!out.is_empty(), expected, "{parsed:?}");
            }
        }
        assert!(matches!(
            read(&pieces[0]).transport,
            Transport::Fragment(Fragment { offset: 0, .. })
        ));
    }
}

#[test]
fn an_error_from_the_other_family_is_not_sent() {
    let packet = samples::udp(false, b"data");
    let mut out = Vec::new();
    unreachable(
        &mut out,
        &read(&packet),
        &packet,
        Unreachable::Host,
        gate(true),
    );
    assert_eq!(out, b"");
}
