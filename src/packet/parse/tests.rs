use super::*;
use crate::packet::samples::{self, fix_ipv4, with_extensions, with_options};
use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

const PAD: &[u8] = &[0, 1, 4, 0, 0, 0, 0];
const ROUTER_ALERT: &[u8] = &[0, 5, 2, 0, 0, 1, 0];

fn read(packet: &[u8]) -> Result<Parsed, Malformed> {
    let verified = Parsed::read(packet, Checksum::Verify);
    if verified.is_ok() {
        assert_eq!(Parsed::read(packet, Checksum::Trust), verified);
    }
    verified
}

fn refusal(packet: &[u8]) -> Malformed {
    read(packet).expect_err("a packet to refuse")
}

/// An IPv6 fragment header with this next header behind `packet`'s IP header.
fn v6_fragment(packet: &[u8], next: u8, field: u16) -> Vec<u8> {
    let [f0, f1] = field.to_be_bytes();
    let mut fragment = with_extensions(packet, &[(44, &[0, f0, f1, 0, 0, 0, 7])]);
    fragment[40] = next;
    fragment
}

#[test]
fn a_tcp_segment_is_read_in_both_families() {
    for v6 in [false, true] {
        let packet = samples::tcp(v6, Tcp::ACK, &[1, 1, 1, 1], b"data");
        let parsed = read(&packet).expect("a good packet");
        let ip_len = if v6 { 40 } else { 20 };
        let (src, dst) = samples::addresses(v6);
        assert_eq!(
            parsed,
            Parsed {
                src,
                dst,
                protocol: 6,
                hop_limit: 64,
                ip_len,
                len: packet.len(),
                transport: Transport::Tcp(Tcp {
                    sport: samples::SPORT,
                    dport: samples::DPORT,
                    seq: 1000,
                    ack: 2000,
                    flags: Tcp::ACK,
                    payload: ip_len + 24,
                }),
            }
        );
        assert_eq!(parsed.payload(&packet), b"data");
    }
}

#[test]
fn a_udp_datagram_is_read_in_both_families() {
    for v6 in [false, true] {
        let packet = samples::udp(v6, b"data");
        let parsed = read(&packet).expect("a good packet");
        let Transport::Udp(udp) = parsed.transport else {
            panic!("{parsed:?}");
        };
        assert_eq!((udp.sport, udp.dport), (samples::SPORT, samples::DPORT));
        assert_eq!(parsed.payload(&packet), b"data");
    }
}

#[test]
fn echo_messages_and_errors_are_told_apart_from_other_icmp() {
    let echo = |v6, kind, code| {
        let packet = samples::icmp(v6, kind, code, [1, 2, 3, 4], b"data");
        let parsed = read(&packet).expect("a good packet");
        assert!(parsed.payload(&packet).ends_with(b"data"));
        parsed.transport
    };
    for (v6, request, reply, at) in [(false, 8, 0, 28), (true, 128, 129, 48)] {
        let expected = Echo {
            id: 0x0102,
            seq: 0x0304,
            payload: at,
        };
        assert_eq!(echo(v6, request, 0), Transport::EchoRequest(expected));
        assert_eq!(echo(v6, reply, 0), Transport::EchoReply(expected));
        assert_eq!(echo(v6, request, 1), Transport::Other);
    }
    for kind in [3, 4, 5, 11, 12] {
        let expected = IcmpError {
            kind,
            code: 9,
            quoted: 28,
        };
        assert_eq!(echo(false, kind, 9), Transport::IcmpError(expected));
    }
    for kind in [0, 1, 2, 3, 4, 100, 127] {
        let expected = IcmpError {
            kind,
            code: 9,
            quoted: 48,
        };
        assert_eq!(echo(true, kind, 9), Transport::IcmpError(expected));
    }
    assert_eq!(echo(false, 13, 0), Transport::Other);
    assert_eq!(echo(true, 135, 0), Transport::Other);
}

#[test]
fn a_protocol_of_the_other_family_or_without_ports_is_other() {
    for (v6, protocols) in [
        (false, [58, 0, 43, 44, 47, 50, 51, 60, 132]),
        (true, [1, 4, 41, 47, 50, 51, 59, 132, 135]),
    ] {
        let (src, dst) = samples::addresses(v6);
        for protocol in protocols {
            let packet = samples::ip(src, dst, protocol, b"body");
            let parsed = read(&packet).expect("a good packet");
            assert_eq!(
                (parsed.protocol, parsed.transport),
                (protocol, Transport::Other)
            );
            assert_eq!(parsed.payload(&packet), b"body");
        }
    }
}

#[test]
fn bytes_behind_the_packet_are_not_part_of_it() {
    for v6 in [false, true] {
        let packet = samples::udp(v6, b"data");
        let mut padded = packet.clone();
        padded.extend([0xee; 9]);
        assert_eq!(read(&padded), read(&packet));
        assert_eq!(
            read(&padded).expect("a good packet").payload(&padded),
            b"data"
        );
    }
}

#[test]
fn every_truncation_is_refused() {
    for v6 in [false, true] {
        let extended = |packet| {
            if v6 {
                with_extensions(packet, &[(0, ROUTER_ALERT), (60, PAD)])
            } else {
                with_options(packet, &[148, 4, 0, 0])
            }
        };
        for packet in [
            samples::tcp(v6, Tcp::SYN, &[2, 4, 5, 0xb4], b"data"),
            samples::udp(v6, b"data"),
            samples::icmp(v6, 3, 1, [0; 4], b"quote"),
            extended(&samples::udp(v6, b"data")),
        ] {
            assert!(read(&packet).is_ok());
            for len in 0..packet.len() {
                assert_eq!(refusal(&packet[..len]), Malformed::Truncated, "{len} bytes");
            }
        }
    }
}

#[test]
fn a_packet_that_claims_less_than_its_transport_header_is_refused() {
    for v6 in [false, true] {
        let (src, dst) = samples::addresses(v6);
        let icmp = if v6 { 58 } else { 1 };
        for (protocol, needed) in [(6, 20), (17, 8), (icmp, 8)] {
            let packet = samples::ip(src, dst, protocol, &vec![0; needed - 1]);
            assert_eq!(refusal(&packet), Malformed::Truncated);
        }
    }
}

#[test]
fn a_payload_read_from_too_few_bytes_is_empty() {
    let packet = samples::udp(false, b"data");
    let parsed = read(&packet).expect("a good packet");
    assert_eq!(parsed.payload(&packet[..packet.len() - 1]), b"");
    assert_eq!(parsed.payload(&[]), b"");
}

#[test]
fn an_unknown_version_and_impossible_lengths_are_refused() {
    assert_eq!(refusal(&[0x55; 60]), Malformed::Version);
    let mut packet = samples::udp(false, b"data");
    packet[0] = 0x44;
    fix_ipv4(&mut packet);
    assert_eq!(refusal(&packet), Malformed::HeaderLength);
    let mut packet = samples::udp(false, b"data");
    packet[2..4].copy_from_slice(&19u16.to_be_bytes());
    fix_ipv4(&mut packet);
    assert_eq!(refusal(&packet), Malformed::HeaderLength);
}

#[test]
fn super_packets_are_read_up_to_the_longest() {
    for v6 in [false, true] {
        let headers = if v6 { 48 } else { 28 };
        let packet = samples::udp(v6, &vec![7; MAX_LEN - headers]);
        assert_eq!(read(&packet).map(|p| p.len), Ok(MAX_LEN));
    }
    let packet = samples::udp(true, &vec![7; MAX_LEN - 47]);
    assert_eq!(refusal(&packet), Malformed::TooLong);
}

#[test]
fn a_wrong_checksum_is_refused_unless_somebody_vouches_for_it() {
    for v6 in [false, true] {
        for packet in [
            samples::tcp(v6, Tcp::ACK, &[], b"data"),
            samples::udp(v6, b"data"),
            samples::icmp(v6, if v6 { 128 } else { 8 }, 0, [0; 4], b"data"),
        ] {
            let mut packet = packet;
            *packet.last_mut().expect("a byte") ^= 1;
            assert_eq!(refusal(&packet), Malformed::TransportChecksum);
            assert!(Parsed::read(&packet, Checksum::Trust).is_ok());
        }
    }
    let mut packet = samples::udp(false, b"data");
    packet[8] ^= 1;
    for checksum in [Checksum::Verify, Checksum::Trust] {
        assert_eq!(
            Parsed::read(&packet, checksum),
            Err(Malformed::HeaderChecksum)
        );
    }
}

#[test]
fn udp_without_a_checksum_is_taken_over_ipv4_only() {
    for v6 in [false, true] {
        let mut packet = samples::udp(v6, b"data");
        let at = packet.len() - 6;
        packet[at..at + 2].fill(0);
        if v6 {
            assert_eq!(refusal(&packet), Malformed::UdpUnchecked);
            assert_eq!(
                Parsed::read(&packet, Checksum::Trust),
                Err(Malformed::UdpUnchecked)
            );
        } else {
            assert!(read(&packet).is_ok());
        }
    }
}

#[test]
fn a_udp_length_other_than_the_payload_is_refused() {
    for v6 in [false, true] {
        for len in [0u16, 7, 8, 11, 13, 65_535] {
            let mut packet = samples::udp(v6, b"data");
            let at = packet.len() - 8;
            packet[at..at + 2].copy_from_slice(&len.to_be_bytes());
            assert_eq!(refusal(&packet), Malformed::UdpLength);
        }
    }
}

#[test]
fn an_impossible_tcp_header_is_refused() {
    for v6 in [false, true] {
        let at = if v6 { 52 } else { 32 };
        for offset in [0x00, 0x40, 0x70] {
            let mut packet = samples::tcp(v6, Tcp::ACK, &[], b"data");
            packet[at] = offset;
            assert_eq!(refusal(&packet), Malformed::TcpHeader);
        }
        for flags in [
            0,
            Tcp::FIN,
            0x08,
            Tcp::SYN | Tcp::FIN,
            Tcp::SYN | Tcp::RST,
            0x29,
            0xff,
        ] {
            let packet = samples::tcp(v6, flags, &[], b"");
            assert_eq!(refusal(&packet), Malformed::TcpFlags, "{flags:#04x}");
        }
        for flags in [
            Tcp::SYN,
            Tcp::SYN | Tcp::ACK,
            Tcp::ACK,
            Tcp::FIN | Tcp::ACK,
            Tcp::RST,
            Tcp::RST | Tcp::ACK,
            0xc2,
        ] {
            assert!(
                read(&samples::tcp(v6, flags, &[], b"")).is_ok(),
                "{flags:#04x}"
            );
        }
    }
}

#[test]
fn addresses_that_name_no_host_are_refused() {
    let (_, v4) = samples::addresses(false);
    let (_, v6) = samples::addresses(true);
    for src in ["0.0.0.0", "224.0.0.1", "239.255.255.255", "255.255.255.255"] {
        let packet = samples::ip(src.parse().expect("an address"), v4, 99, b"");
        assert_eq!(refusal(&packet), Malformed::Source, "{src}");
    }
    for src in ["::", "ff02::1"] {
        let packet = samples::ip(src.parse().expect("an address"), v6, 99, b"");
        assert_eq!(refusal(&packet), Malformed::Source, "{src}");
    }
    for address in [v4, v6] {
        assert_eq!(
            refusal(&samples::ip(address, address, 99, b"")),
            Malformed::Land
        );
    }
    for (src, dst) in [(v4, "0.0.0.0"), (v6, "::")] {
        let packet = samples::ip(src, dst.parse().expect("an address"), 99, b"");
        assert_eq!(refusal(&packet), Malformed::Destination);
    }
    // As a destination a group is somebody else's matter.
    assert!(read(&samples::ip(v4, Ipv4Addr::BROADCAST.into(), 99, b"")).is_ok());
    assert!(
        read(&samples::ip(
            v6,
            Ipv6Addr::from_bits(0xff02 << 112 | 1).into(),
            99,
            b""
        ))
        .is_ok()
    );
}

#[test]
fn of_ipv4_options_only_padding_and_router_alert_are_taken() {
    let packet = samples::udp(false, b"data");
    for options in [
        [1, 1, 1, 1].as_slice(),
        &[0, 0, 0, 0],
        &[148, 4, 0, 0],
        &[1, 148, 4, 0, 0, 0, 0, 0],
        &[1; 40],
    ] {
        let packet = with_options(&packet, options);
        let parsed = read(&packet).expect("harmless options");
        assert_eq!(parsed.ip_len, 20 + options.len());
        assert_eq!(parsed.payload(&packet), b"data");
    }
    for source_route in [131, 137] {
        for options in [
            [source_route, 7, 4, 1, 2, 3, 4, 0].as_slice(),
            &[1, 1, 1, source_route],
            &[148, 4, 0, 0, source_route, 3, 4, 0],
        ] {
            assert_eq!(
                refusal(&with_options(&packet, options)),
                Malformed::SourceRoute
            );
        }
    }
    for options in [
        // Record route, timestamp, an unknown one, router alert of a wrong length or cut off,
        // padding that says something.
        [7, 3, 4, 0].as_slice(),
        &[68, 4, 5, 0],
        &[30, 4, 0, 0],
        &[148, 3, 0, 0],
        &[0, 0, 0, 1],
        &[1, 1, 148, 4],
    ] {
        assert_eq!(
            refusal(&with_options(&packet, options)),
            Malformed::IpOption
        );
    }
}

#[test]
fn harmless_extension_headers_are_walked() {
    let packet = samples::udp(true, b"data");
    let long = [[1u8].as_slice(), &[1, 12], &[0; 12]].concat();
    for (extensions, len) in [
        ([(0, ROUTER_ALERT)].as_slice(), 8),
        (&[(60, PAD)], 8),
        (&[(0, PAD), (60, &long), (60, PAD)], 32),
        (&[(60, PAD); 8], 64),
        (&[(60, &[0, 0, 0, 0, 0, 0, 0])], 8),
    ] {
        let packet = with_extensions(&packet, extensions);
        let parsed = read(&packet).expect("harmless headers");
        assert_eq!((parsed.protocol, parsed.ip_len), (17, 40 + len));
        assert_eq!(parsed.payload(&packet), b"data");
    }
}

#[test]
fn dangerous_extension_headers_are_refused_by_name() {
    let packet = samples::udp(true, b"data");
    let jumbo: &[u8] = &[0, 0xc2, 4, 0, 1, 0, 0];
    let home_address: &[u8] = &[0, 0xc9, 4, 0, 0, 0, 0];
    let skippable: &[u8] = &[0, 0x1e, 4, 0, 0, 0, 0];
    let overlong: &[u8] = &[0, 1, 5, 0, 0, 0, 0];
    let talking_pad: &[u8] = &[0, 1, 4, 0, 0, 0, 1];
    let wrong_alert: &[u8] = &[0, 5, 4, 0, 0, 0, 0];
    for (extensions, reason) in [
        ([(43, PAD)].as_slice(), Malformed::RoutingHeader),
        (&[(60, PAD), (43, PAD)], Malformed::RoutingHeader),
        (&[(60, PAD), (0, PAD)], Malformed::ExtensionOrder),
        (&[(0, PAD), (0, PAD)], Malformed::ExtensionOrder),
        (&[(60, PAD); 9], Malformed::ExtensionCount),
        (&[(0, jumbo)], Malformed::Jumbogram),
        (&[(60, jumbo)], Malformed::Jumbogram),
        (&[(60, home_address)], Malformed::IpOption),
        (&[(60, skippable)], Malformed::IpOption),
        (&[(0, overlong)], Malformed::IpOption),
        (&[(0, wrong_alert)], Malformed::IpOption),
        (&[(60, talking_pad)], Malformed::IpOption),
        (&[(60, &[200, 1, 4, 0, 0, 0, 0])], Malformed::Truncated),
    ] {
        assert_eq!(
            refusal(&with_extensions(&packet, extensions)),
            reason,
            "{extensions:?}"
        );
    }
    let mut jumbogram = with_extensions(&packet, &[(0, jumbo)]);
    jumbogram[4..6].fill(0);
    assert_eq!(refusal(&jumbogram), Malformed::Jumbogram);
}

#[test]
fn fragments_are_read_but_not_their_transport() {
    for v6 in [false, true] {
        let whole = samples::udp(v6, &[7; 100]);
        let pieces = samples::fragments(&whole, 0x4321, 64);
        assert_eq!(pieces.len(), 2);
        for (piece, (offset, more, len)) in pieces.iter().zip([(0, true, 64), (64, false, 44)]) {
            let parsed = read(piece).expect("a good fragment");
            let payload = if v6 { 48 } else { 20 };
            let expected = Fragment {
                id: 0x4321,
                offset,
                more,
                payload,
            };
            assert_eq!(parsed.transport, Transport::Fragment(expected));
            assert_eq!((parsed.protocol, parsed.ip_len), (17, payload));
            assert_eq!(parsed.payload(piece).len(), len);
        }
    }
}

#[test]
fn an_atomic_ipv6_fragment_is_a_fragment() {
    let packet = v6_fragment(&samples::udp(true, b"data"), 17, 0);
    let Transport::Fragment(fragment) = read(&packet).expect("a good fragment").transport else {
        panic!("no fragment");
    };
    assert_eq!((fragment.offset, fragment.more, fragment.id), (0, false, 7));
}

#[test]
fn a_first_fragment_without_all_headers_is_refused() {
    for v6 in [false, true] {
        let whole = samples::tcp(v6, Tcp::SYN, &[1; 12], &[7; 100]);
        for (size, taken) in [(8, false), (16, false), (24, false), (32, true)] {
            let first = &samples::fragments(&whole, 1, size)[0];
            let expected = if taken {
                Ok(())
            } else {
                Err(Malformed::TinyFragment)
            };
            assert_eq!(read(first).map(|_| ()), expected, "{size} bytes");
        }
        // Eight bytes hold the header of UDP and ICMP.
        assert!(read(&samples::fragments(&samples::udp(v6, &[7; 100]), 1, 8)[0]).is_ok());
    }
    let options_only = with_extensions(&samples::udp(true, b""), &[(60, PAD)]);
    let mut first = v6_fragment(&options_only, 60, 1);
    assert!(read(&first).is_ok());
    first.truncate(first.len() - 8);
    first[5] -= 8;
    assert_eq!(refusal(&first), Malformed::TinyFragment);
}

#[test]
fn headers_behind_a_fragment_header_are_checked_in_the_first_fragment() {
    let packet = samples::udp(true, b"");
    for (behind, reason) in [
        (43, Malformed::RoutingHeader),
        (0, Malformed::ExtensionOrder),
        (44, Malformed::ExtensionOrder),
    ] {
        let inner = with_extensions(&packet, &[(60, PAD), (behind, PAD)]);
        assert_eq!(refusal(&v6_fragment(&inner, 60, 1)), reason);
        let inner = with_extensions(&packet, &[(behind, PAD)]);
        assert_eq!(refusal(&v6_fragment(&inner, behind, 1)), reason);
    }
    let inner = with_extensions(&packet, &[(60, PAD); 9]);
    assert_eq!(
        refusal(&v6_fragment(&inner, 60, 1)),
        Malformed::ExtensionCount
    );
}

#[test]
fn fragments_of_impossible_length_are_refused() {
    for v6 in [false, true] {
        let whole = samples::udp(v6, &[7; 100]);
        let piece = |offset, more, data: &[u8]| samples::fragment(&whole, 1, offset, more, data);
        assert_eq!(
            refusal(&piece(8, true, &[7; 12])),
            Malformed::FragmentLength
        );
        assert_eq!(refusal(&piece(8, true, b"")), Malformed::FragmentLength);
        assert_eq!(refusal(&piece(8, false, b"")), Malformed::FragmentLength);
        let header = if v6 { 48 } else { 20 };
        let at = (MAX_LEN - header - 7) / 8 * 8;
        let fits = MAX_LEN - header - at;
        assert!(read(&piece(at, false, &vec![7; fits])).is_ok());
        assert_eq!(
            refusal(&piece(at, false, &vec![7; fits + 1])),
            Malformed::FragmentBeyond
        );
        assert_eq!(
            refusal(&piece(65_528, true, &[7; 8])),
            Malformed::FragmentBeyond
        );
    }
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    use Malformed::*;
    let all = [
        Truncated,
        Version,
        HeaderLength,
        TooLong,
        HeaderChecksum,
        SourceRoute,
        IpOption,
        RoutingHeader,
        Jumbogram,
        ExtensionOrder,
        ExtensionCount,
        TinyFragment,
        FragmentLength,
        FragmentBeyond,
        Source,
        Destination,
        Land,
        TcpHeader,
        TcpFlags,
        UdpLength,
        UdpUnchecked,
        TransportChecksum,
    ];
    let names: HashSet<&str> = all.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), all.len());
    for name in names {
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        );
    }
}
