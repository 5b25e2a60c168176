//! Reading, building, editing and reassembling packets.
use crate::samples;
use cordon::packet::build::{self, HEADROOM, Unreachable};
use cordon::packet::checksum::{self, Sum};
use cordon::packet::edit::{self, Segmenting};
use cordon::packet::fragment::{Limits, Reassembler, Refused};
use cordon::packet::{Checksum, Gso, MAX_LEN, Malformed, Parsed, Tcp, Transport};
use cordon::time::Time;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

const NOW: Time = Time::from_secs(1_800_000_000);

const LIMITS: Limits = Limits {
    datagrams: 64,
    per_source: 8,
    bytes: 1 << 20,
    timeout: Duration::from_secs(5),
};

/// Two different hosts of one family.
fn hosts() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    let v4 = (1..0xe000_0000u32).prop_map(|bits| IpAddr::from(Ipv4Addr::from_bits(bits)));
    let v6 = (1..0xffu128 << 120).prop_map(|bits| IpAddr::from(Ipv6Addr::from_bits(bits)));
    prop_oneof![(v4.clone(), v4), (v6.clone(), v6)]
        .prop_filter("two hosts", |(from, to)| from != to)
}

/// A good packet of any kind, unfragmented.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let data = || vec(any::<u8>(), 0..1500);
    prop_oneof![
        (any::<bool>(), segment())
            .prop_map(|(v6, (flags, options, data))| samples::tcp(v6, flags, &options, &data)),
        (any::<bool>(), data()).prop_map(|(v6, data)| samples::udp(v6, &data)),
        (any::<bool>(), any::<[u8; 6]>(), data()).prop_map(|(v6, head, data)| {
            let [kind, code, rest @ ..] = head;
            samples::icmp(v6, kind, code, rest, &data)
        }),
        (any::<bool>(), 64u8.., data()).prop_map(|(v6, protocol, data)| {
            let (src, dst) = samples::addresses(v6);
            samples::ip(src, dst, protocol, &data)
        }),
    ]
}

/// Flags, options and data of a TCP segment.
fn segment() -> impl Strategy<Value = (u8, Vec<u8>, Vec<u8>)> {
    let flags = prop_oneof![
        Just(Tcp::SYN),
        Just(Tcp::SYN | Tcp::ACK),
        Just(Tcp::ACK),
        Just(Tcp::FIN | Tcp::ACK),
        Just(Tcp::RST),
        Just(Tcp::RST | Tcp::ACK),
    ];
    let mss = any::<[u8; 2]>().prop_map(|[a, b]| vec![1, 1, 4, 2, 2, 4, a, b]);
    let junk = vec(any::<[u8; 4]>(), 0..=10).prop_map(|words| words.concat());
    (flags, prop_oneof![mss, junk], vec(any::<u8>(), 0..5000))
}

fn read(packet: &[u8]) -> Parsed {
    Parsed::read(packet, Checksum::Verify).expect("a good packet")
}

proptest! {
    #[test]
    fn reading_is_total_and_never_leaves_the_bytes(
        version in prop_oneof![Just(0x45u8), Just(0x46), Just(0x60), any::<u8>()],
        mut bytes in vec(any::<u8>(), 0..200),
        fix_length in any::<bool>(),
    ) {
        if let Some(first) = bytes.first_mut() {
            *first = version;
        }
        if fix_length && version == 0x45 && bytes.len() >= 20 {
            let len = bytes.len() as u16;
            bytes[2..4].copy_from_slice(&len.to_be_bytes());
            samples::fix_ipv4(&mut bytes);
        }
        if fix_length && version == 0x60 && bytes.len() >= 40 {
            let len = bytes.len() as u16 - 40;
            bytes[4..6].copy_from_slice(&len.to_be_bytes());
        }
        let verified = Parsed::read(&bytes, Checksum::Verify);
        let trusted = Parsed::read(&bytes, Checksum::Trust);
        if verified.is_ok() {
            prop_assert_eq!(verified, trusted);
        }
        if let Ok(parsed) = trusted {
            prop_assert!(parsed.ip_len <= parsed.len && parsed.len <= bytes.len());
            prop_assert!(parsed.payload(&bytes).len() <= parsed.len - parsed.ip_len);
        }
    }

    #[test]
    fn a_packet_cut_short_is_refused(packet in packet(), at in any::<Index>()) {
        let at = at.index(packet.len());
        prop_assert_eq!(Parsed::read(&packet[..at], Checksum::Trust), Err(Malformed::Truncated));
    }

    #[test]
    fn no_changed_byte_passes_both_checksums(
        (flags, options, data) in segment(),
        at in any::<Index>(),
        change in 1u8..,
    ) {
        let mut packet = samples::tcp(false, flags, &options, &data);
        // The first byte says what is summed.
        let at = at.index(packet.len() - 1) + 1;
        packet[at] ^= change;
        prop_assert!(Parsed::read(&packet, Checksum::Verify).is_err());
    }

    #[test]
    fn a_datagram_is_read_as_it_was_built(
        (from, to) in hosts(),
        (sport, dport) in any::<(u16, u16)>(),
        payload in vec(any::<u8>(), 0..3000),
        gso_size in prop_oneof![Just(0u16), 1u16..2000],
    ) {
        let mut buf = vec![0; HEADROOM];
        buf.extend(&payload);
        let (from, to) = (SocketAddr::new(from, sport), SocketAddr::new(to, dport));
        let (at, mut offload) = build::udp_in_place(&mut buf, HEADROOM, from, to, gso_size);
        let packet = &mut buf[at..];
        let cut = gso_size > 0 && payload.len() > usize::from(gso_size);
        prop_assert_eq!(offload.gso, if cut { Gso::UdpL4 } else { Gso::None });
        prop_assert!(Parsed::read(packet, offload.checksum()).is_ok());
        // As the kernel completes what it need not cut.
        offload.gso = Gso::None;
        prop_assert!(checksum::complete(packet, &mut offload));
        let parsed = read(packet);
        prop_assert_eq!((parsed.src, parsed.dst), (from.ip(), to.ip()));
        let Transport::Udp(udp) = parsed.transport else {
            panic!("{parsed:?}");
        };
        prop_assert_eq!((udp.sport, udp.dport), (sport, dport));
        prop_assert_eq!(parsed.payload(packet), &payload);
        prop_assert_eq!(parsed.len, packet.len());
    }

    #[test]
    fn an_echo_reply_is_read_as_it_was_built(
        (from, to) in hosts(),
        (id, seq) in any::<(u16, u16)>(),
        payload in vec(any::<u8>(), 0..3000),
    ) {
        let mut buf = vec![0; HEADROOM];
        buf.extend(&payload);
        let (at, _) = build::echo_reply_in_place(&mut buf, HEADROOM, from, to, id, seq);
        let parsed = read(&buf[at..]);
        prop_assert_eq!((parsed.src, parsed.dst), (from, to));
        let Transport::EchoReply(echo) = parsed.transport else {
            panic!("{parsed:?}");
        };
        prop_assert_eq!((echo.id, echo.seq), (id, seq));
        prop_assert_eq!(parsed.payload(&buf[at..]), &payload);
    }

    #[test]
    fn a_reset_goes_back_and_is_never_answered(packet in packet()) {
        let parsed = read(&packet);
        let mut out = Vec::new();
        build::tcp_reset(&mut out, &parsed);
        let answers = matches!(parsed.transport, Transport::Tcp(tcp) if tcp.flags & Tcp::RST == 0);
        prop_assert_eq!(!out.is_empty(), answers);
        if answers {
            let reset = read(&out);
            prop_assert_eq!((reset.src, reset.dst, reset.len), (parsed.dst, parsed.src, out.len()));
            let mut again = Vec::new();
            build::tcp_reset(&mut again, &reset);
            prop_assert!(again.is_empty());
        }
    }

    #[test]
    fn an_error_quotes_the_packet_and_is_never_answered(packet in packet(), mtu in any::<u16>()) {
        let parsed = read(&packet);
        let from = if parsed.src.is_ipv4() { "10.0.0.1" } else { "fd00::1" };
        let from: IpAddr = from.parse().expect("an address");
        for why in [Unreachable::Prohibited, Unreachable::TooBig(mtu), Unreachable::HopLimit] {
            let mut out = Vec::new();
            build::unreachable(&mut out, &parsed, &packet, why, from);
            if matches!(parsed.transport, Transport::Tcp(_) | Transport::Udp(_)) {
                prop_assert!(!out.is_empty());
            }
            if out.is_empty() {
                continue;
            }
            let error = read(&out);
            prop_assert_eq!((error.src, error.dst), (from, parsed.src));
            prop_assert!(matches!(error.transport, Transport::IcmpError(_)));
            prop_assert!(packet.starts_with(error.payload(&out)));
            let limit = if from.is_ipv4() { 576 } else { 1280 };
            prop_assert!(out.len() <= limit);
            let mut again = Vec::new();
            build::unreachable(&mut again, &error, &out, why, parsed.dst);
            prop_assert!(again.is_empty());
        }
    }

    #[test]
    fn an_incremental_checksum_equals_a_full_one(
        mut words in vec(any::<u16>(), 1..50),
        at in any::<Index>(),
        new in any::<u16>(),
    ) {
        let full = |words: &[u16]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            Sum::of(&bytes).finish()
        };
        // What a checksum covers is never all zero: it holds a protocol number.
        words.push(6);
        let at = at.index(words.len() - 1);
        let before = full(&words);
        let updated = checksum::update(before, words[at], new);
        words[at] = new;
        prop_assert_eq!(updated, full(&words));
    }

    #[test]
    fn the_sum_is_the_plain_one(bytes in vec(any::<u8>(), 0..300), cut in any::<Index>()) {
        prop_assert_eq!(Sum::of(&bytes).fold(), samples::plain_sum(&bytes));
        let (head, tail) = bytes.split_at(cut.index(bytes.len() + 1) / 2 * 2);
        prop_assert_eq!(Sum::of(head).bytes(tail).fold(), samples::plain_sum(&bytes));
    }

    #[test]
    fn a_hop_more_changes_nothing_else(packet in packet(), hop_limit in any::<u8>()) {
        let mut packet = packet;
        if packet[0] >> 4 == 4 {
            packet[8] = hop_limit;
            samples::fix_ipv4(&mut packet);
        } else {
            packet[7] = hop_limit;
        }
        let parsed = read(&packet);
        let mut passed = packet.clone();
        if edit::restore_hop_limit(&mut passed) {
            let expected = Parsed { hop_limit: hop_limit + 1, ..parsed };
            prop_assert_eq!(read(&passed), expected);
            prop_assert_eq!(&passed[12..], &packet[12..]);
        } else {
            prop_assert_eq!(hop_limit, 255);
            prop_assert_eq!(passed, packet);
        }
    }

    #[test]
    fn raising_the_mss_changes_only_its_value(
        v6 in any::<bool>(),
        (_, options, data) in segment(),
        link_mtu in any::<u16>(),
    ) {
        let packet = samples::tcp(v6, Tcp::SYN, &options, &data);
        let parsed = read(&packet);
        let mut raised = packet.clone();
        let mss = edit::raise_mss(&mut raised, &parsed, link_mtu);
        prop_assert_eq!(Parsed::read(&raised, Checksum::Trust), Ok(parsed));
        let changed: Vec<usize> = (0..packet.len()).filter(|i| raised[*i] != packet[*i]).collect();
        let Transport::Tcp(tcp) = parsed.transport else {
            panic!("{parsed:?}");
        };
        prop_assert!(changed.len() <= 2);
        prop_assert!(changed.iter().all(|i| (parsed.ip_len + 22..tcp.payload).contains(i)));
        let room = u16::max(88, link_mtu.saturating_sub(if v6 { 60 } else { 40 }));
        prop_assert!(mss == 536 && changed.is_empty() || (88..=room).contains(&mss));
    }

    #[test]
    fn a_finished_segment_is_a_good_packet_and_its_cut_is_complete(
        v6 in any::<bool>(),
        (flags, options, data) in segment(),
        flow_mss in 88u16..9000,
        offload in any::<bool>(),
    ) {
        let mut packet = samples::tcp(v6, flags, &options, &data);
        let parsed = read(&packet);
        let how = Segmenting { link_mtu: 1500, flow_mss, offload };
        let mut metadata = edit::finish_segment(&mut packet, &how);
        prop_assert_eq!(metadata.partial_checksum, offload);
        if metadata.gso == Gso::None {
            prop_assert!(!offload || data.len() + options.len() <= usize::from(flow_mss));
        } else {
            prop_assert_eq!(usize::from(metadata.gso_size) + options.len(), usize::from(flow_mss));
            prop_assert_eq!(usize::from(metadata.header_len) + data.len(), packet.len());
            prop_assert!(data.len() > usize::from(metadata.gso_size));
        }
        metadata.gso = Gso::None;
        prop_assert!(checksum::complete(&mut packet, &mut metadata));
        prop_assert_eq!(read(&packet), parsed);
        prop_assert_eq!(parsed.payload(&packet), &data);
    }
}

/// A packet, and fragments of it in some order.
fn fragmented() -> impl Strategy<Value = (Vec<u8>, Vec<Vec<u8>>)> {
    let cuts = vec(any::<Index>(), 1..12);
    (any::<bool>(), vec(any::<u8>(), 32..3000), cuts).prop_flat_map(|(v6, data, cuts)| {
        let packet = samples::udp(v6, &data);
        let body = &packet[if v6 { 40 } else { 20 }..];
        // Cuts lie at multiples of 8, never at the beginning or the end.
        let mut cuts: Vec<usize> = cuts
            .iter()
            .map(|cut| (cut.index((body.len() - 1) / 8) + 1) * 8)
            .collect();
        cuts.extend([0, body.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        let fragments: Vec<Vec<u8>> = cuts
            .windows(2)
            .map(|ends| {
                let more = ends[1] < body.len();
                samples::fragment(&packet, 7, ends[0], more, &body[ends[0]..ends[1]])
            })
            .collect();
        (Just(packet), Just(fragments).prop_shuffle())
    })
}

fn take(reassembler: &mut Reassembler, piece: &[u8]) -> Result<Option<Vec<u8>>, Refused> {
    reassembler.take(&read(piece), piece, NOW)
}

proptest! {
    #[test]
    fn fragments_in_any_order_give_the_packet_back((packet, fragments) in fragmented()) {
        let mut reassembler = Reassembler::new(LIMITS);
        let (last, others) = fragments.split_last().expect("a fragment");
        for piece in others {
            prop_assert_eq!(take(&mut reassembler, piece), Ok(None));
        }
        let whole = take(&mut reassembler, last).expect("taken").expect("whole");
        let (parsed, expected) = (read(&whole), read(&packet));
        prop_assert_eq!(parsed, expected);
        prop_assert_eq!(parsed.payload(&whole), expected.payload(&packet));
        prop_assert_eq!((reassembler.datagrams(), reassembler.bytes()), (0, 0));
    }

    #[test]
    fn any_overlap_refuses_the_datagram(
        (packet, fragments) in fragmented(),
        (held, which) in any::<(Index, Index)>(),
        (start, stop) in any::<(Index, Index)>(),
    ) {
        let (held, rest) = fragments.split_at(held.index(fragments.len() - 1) + 1);
        let piece = read(&held[which.index(held.len())]);
        let Transport::Fragment(fragment) = piece.transport else {
            panic!("{piece:?}");
        };
        // In units of 8 bytes: begins before the end of a held piece and ends behind its beginning.
        let first = usize::from(fragment.offset) / 8;
        let end = first + (piece.len - fragment.payload).div_ceil(8);
        let start = start.index(end);
        let stop = start.max(first) + 1 + stop.index(100);
        let extra = samples::fragment(&packet, 7, start * 8, true, &vec![7; (stop - start) * 8]);
        let mut reassembler = Reassembler::new(LIMITS);
        for piece in held {
            prop_assert_eq!(take(&mut reassembler, piece), Ok(None));
        }
        prop_assert_eq!(take(&mut reassembler, &extra), Err(Refused::Overlap));
        prop_assert_eq!(reassembler.bytes(), 0);
        for piece in rest {
            prop_assert_eq!(take(&mut reassembler, piece), Err(Refused::Dropped));
        }
    }

    #[test]
    fn the_reassembler_keeps_its_bounds(
        pieces in vec((any::<bool>(), 0u8..4, 0u16..6, 0usize..20, any::<bool>(), 0u64..3000), 0..200),
    ) {
        let limits = Limits { datagrams: 5, per_source: 2, bytes: 2000, ..LIMITS };
        let mut reassembler = Reassembler::new(limits);
        let mut now = NOW;
        for (v6, host, id, unit, more, later) in pieces {
            now += Duration::from_millis(later);
            let mut packet = samples::udp(v6, &[7; 400]);
            packet[if v6 { 23 } else { 15 }] = host;
            let piece = samples::fragment(&packet, id, unit * 24, more || unit == 0, &[7; 24]);
            let parsed = read(&piece);
            let _ = reassembler.take(&parsed, &piece, now);
            prop_assert!(reassembler.datagrams() <= limits.datagrams);
            prop_assert!(reassembler.bytes() <= limits.bytes);
            prop_assert_eq!(reassembler.next().is_some(), reassembler.datagrams() > 0);
        }
        reassembler.expire(now + limits.timeout);
        prop_assert_eq!((reassembler.datagrams(), reassembler.bytes()), (0, 0));
    }
}

#[test]
fn the_longest_datagram_is_read_as_it_was_built() {
    for (from, to, headers) in [
        ("192.0.2.1:53", "10.0.0.2:5353", 28),
        ("[2001:db8::1]:53", "[fd00::2]:5353", 48),
    ] {
        let ends = (from.parse().expect("an end"), to.parse().expect("an end"));
        let mut buf = vec![7; HEADROOM + MAX_LEN - headers];
        let (at, mut offload) = build::udp_in_place(&mut buf, HEADROOM, ends.0, ends.1, 0);
        assert!(checksum::complete(&mut buf[at..], &mut offload));
        assert_eq!(read(&buf[at..]).len, MAX_LEN);
    }
}
