use super::*;
use crate::packet::{Checksum, samples};
use std::collections::HashSet;
use std::time::Duration;

const LIMITS: Limits = Limits {
    datagrams: 4,
    per_source: 2,
    bytes: 100_000,
    timeout: Duration::from_secs(5),
};
const NOW: Time = Time::from_secs(1_800_000_000);

type Taken = Result<Option<Vec<u8>>, Refused>;

fn take(reassembler: &mut Reassembler, piece: &[u8]) -> Taken {
    take_at(reassembler, piece, NOW)
}

fn take_at(reassembler: &mut Reassembler, piece: &[u8], now: Time) -> Taken {
    let parsed = Parsed::read(piece, Checksum::Verify).expect("a good fragment");
    reassembler.take(&parsed, piece, now)
}

/// What reassembly has to give for a packet of [`samples`]: the identification of the fragments, no flags.
fn whole(packet: &[u8], id: u16) -> Vec<u8> {
    let mut whole = packet.to_vec();
    if packet[0] >> 4 == 4 {
        whole[4..6].copy_from_slice(&id.to_be_bytes());
        whole[6..8].fill(0);
        samples::fix_ipv4(&mut whole);
    }
    whole
}

/// A packet of a source of its own.
fn from_host(v6: bool, host: u8, data: &[u8]) -> Vec<u8> {
    let mut packet = samples::udp(v6, data);
    if v6 {
        packet[23] = host;
    } else {
        packet[15] = host;
        samples::fix_ipv4(&mut packet);
    }
    packet
}

#[test]
fn fragments_in_any_order_give_the_packet_back() {
    for v6 in [false, true] {
        let packet = samples::udp(v6, &(0..200).collect::<Vec<u8>>());
        let pieces = samples::fragments(&packet, 9, 64);
        assert_eq!(pieces.len(), 4);
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2], [2, 0, 3, 1]] {
            let mut reassembler = Reassembler::new(LIMITS);
            for i in &order[..3] {
                assert_eq!(take(&mut reassembler, &pieces[*i]), Ok(None));
            }
            let last = take(&mut reassembler, &pieces[order[3]]);
            assert_eq!(last, Ok(Some(whole(&packet, 9))), "{order:?}");
            let rebuilt = last.expect("taken").expect("whole");
            assert!(Parsed::read(&rebuilt, Checksum::Verify).is_ok());
            assert_eq!((reassembler.bytes(), reassembler.next()), (0, None));
        }
    }
}

#[test]
fn options_and_extension_headers_of_the_first_fragment_are_kept() {
    let packet = samples::udp(false, &[7; 100]);
    let pieces = samples::fragments(&packet, 9, 64);
    let first = samples::with_options(&pieces[0], &[148, 4, 0, 0]);
    let mut reassembler = Reassembler::new(LIMITS);
    assert_eq!(take(&mut reassembler, &pieces[1]), Ok(None));
    let rebuilt = take(&mut reassembler, &first)
        .expect("taken")
        .expect("whole");
    let expected = samples::with_options(&whole(&packet, 9), &[148, 4, 0, 0]);
    assert_eq!(rebuilt, expected);

    let pad: &[u8] = &[0, 1, 4, 0, 0, 0, 0];
    let long: &[u8] = &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let packet = samples::udp(true, &[7; 100]);
    for extensions in [&[(0, pad)][..], &[(60, long)], &[(0, long), (60, pad)]] {
        let mut reassembler = Reassembler::new(LIMITS);
        let rebuilt: Vec<Vec<u8>> = samples::fragments(&packet, 9, 64)
            .iter()
            .map(|piece| samples::with_extensions(piece, extensions))
            .filter_map(|piece| take(&mut reassembler, &piece).expect("taken"))
            .collect();
        assert_eq!(rebuilt, [samples::with_extensions(&packet, extensions)]);
    }
}

#[test]
fn an_atomic_fragment_is_whole_at_once_and_disturbs_nothing() {
    let packet = samples::udp(true, b"data");
    let atomic = samples::fragment(&packet, 9, 0, false, &packet[40..]);
    let other = samples::udp(true, &[7; 100]);
    let pieces = samples::fragments(&other, 9, 64);
    let mut reassembler = Reassembler::new(LIMITS);
    assert_eq!(take(&mut reassembler, &pieces[0]), Ok(None));
    assert_eq!(take(&mut reassembler, &atomic), Ok(Some(packet)));
    assert_eq!(take(&mut reassembler, &pieces[1]), Ok(Some(other)));
}

#[test]
fn overlapping_fragments_drop_the_datagram_and_what_follows_of_it() {
    for v6 in [false, true] {
        let packet = samples::udp(v6, &[7; 248]);
        let pieces = samples::fragments(&packet, 9, 64);
        let piece = |offset, more, len| samples::fragment(&packet, 9, offset, more, &vec![7; len]);
        for overlap in [
            pieces[1].clone(),
            piece(56, true, 16),
            piece(120, true, 8),
            piece(72, true, 8),
            piece(64, true, 8),
            piece(0, true, 256),
            piece(120, false, 50),
        ] {
            let mut reassembler = Reassembler::new(LIMITS);
            assert_eq!(take(&mut reassembler, &pieces[1]), Ok(None));
            assert_eq!(take(&mut reassembler, &overlap), Err(Refused::Overlap));
            assert_eq!(reassembler.bytes(), 0);
            for piece in &pieces {
                assert_eq!(take(&mut reassembler, piece), Err(Refused::Dropped));
            }
            // Not for ever.
            let later = NOW + LIMITS.timeout;
            assert_eq!(take_at(&mut reassembler, &pieces[0], later), Ok(None));
            assert_eq!(
                reassembler.expire(later),
                0,
                "it was refused, not forgotten"
            );
        }
    }
}

#[test]
fn an_overlap_of_one_byte_is_an_overlap() {
    for v6 in [false, true] {
        let packet = samples::udp(v6, &[7; 100]);
        let last = samples::fragment(&packet, 9, 64, false, &[7; 9]);
        let next = samples::fragment(&packet, 9, 72, true, &[7; 8]);
        for (first, second) in [(&last, &next), (&next, &last)] {
            let mut reassembler = Reassembler::new(LIMITS);
            assert_eq!(take(&mut reassembler, first), Ok(None));
            assert_eq!(take(&mut reassembler, second), Err(Refused::Overlap));
        }
    }
}

#[test]
fn two_ends_and_data_beyond_the_end_drop_the_datagram() {
    for v6 in [false, true] {
        let packet = samples::udp(v6, &[7; 100]);
        let piece = |offset, more, len| samples::fragment(&packet, 9, offset, more, &vec![7; len]);
        for (first, second) in [
            (piece(64, false, 8), piece(128, false, 8)),
            (piece(128, false, 8), piece(64, false, 8)),
            (piece(64, false, 8), piece(128, true, 8)),
            (piece(128, true, 8), piece(64, false, 8)),
            (piece(64, false, 8), piece(72, true, 8)),
        ] {
            let mut reassembler = Reassembler::new(LIMITS);
            assert_eq!(take(&mut reassembler, &first), Ok(None));
            assert_eq!(take(&mut reassembler, &second), Err(Refused::Inconsistent));
            assert_eq!(take(&mut reassembler, &first), Err(Refused::Dropped));
        }
    }
}

#[test]
fn datagrams_are_told_apart_by_source_destination_identification_and_protocol() {
    let packet = samples::udp(false, &[7; 100]);
    let fragments = samples::fragments(&packet, 9, 64);
    for change in [
        |piece: &mut Vec<u8>| piece[15] = 77,
        |piece: &mut Vec<u8>| piece[19] = 77,
        |piece: &mut Vec<u8>| piece[5] = 77,
        |piece: &mut Vec<u8>| piece[9] = 6,
    ] {
        let mut other = fragments[1].clone();
        change(&mut other);
        samples::fix_ipv4(&mut other);
        let mut reassembler = Reassembler::new(LIMITS);
        assert_eq!(take(&mut reassembler, &other), Ok(None));
        assert_eq!(take(&mut reassembler, &fragments[0]), Ok(None));
        assert_eq!(
            take(&mut reassembler, &fragments[1]),
            Ok(Some(whole(&packet, 9)))
        );
    }
}

#[test]
fn datagrams_are_bounded_in_all_and_by_source() {
    for v6 in [false, true] {
        let start = |reassembler: &mut Reassembler, host, id| {
            let packet = from_host(v6, host, &[7; 100]);
            take(reassembler, &samples::fragments(&packet, id, 64)[0])
        };
        let mut reassembler = Reassembler::new(LIMITS);
        assert_eq!(start(&mut reassembler, 5, 1), Ok(None));
        assert_eq!(start(&mut reassembler, 5, 2), Ok(None));
        assert_eq!(
            start(&mut reassembler, 5, 3),
            Err(Refused::DatagramsPerSource)
        );
        assert_eq!(start(&mut reassembler, 4, 1), Ok(None));
        assert_eq!(start(&mut reassembler, 6, 1), Ok(None));
        assert_eq!(start(&mut reassembler, 7, 1), Err(Refused::Datagrams));
        // Those under way can still become whole, and make room.
        let packet = from_host(v6, 5, &[7; 100]);
        let last = &samples::fragments(&packet, 2, 64)[1];
        assert_eq!(take(&mut reassembler, last), Ok(Some(whole(&packet, 2))));
        assert_eq!(start(&mut reassembler, 7, 1), Ok(None));
    }
}

#[test]
fn bytes_are_bounded_and_the_datagram_that_exceeds_them_is_dropped() {
    let limits = Limits {
        bytes: 400,
        ..LIMITS
    };
    let mut reassembler = Reassembler::new(limits);
    let packet = samples::udp(false, &[7; 400]);
    let pieces = samples::fragments(&packet, 9, 64);
    let held = |pieces: usize| pieces * (64 + PIECE) + 20;
    assert_eq!(take(&mut reassembler, &pieces[0]), Ok(None));
    assert_eq!(take(&mut reassembler, &pieces[1]), Ok(None));
    assert_eq!(reassembler.bytes(), held(2));
    assert_eq!(take(&mut reassembler, &pieces[2]), Err(Refused::Bytes));
    assert_eq!(reassembler.bytes(), 0);
    let other = samples::fragments(&packet, 10, 64);
    assert_eq!(take(&mut reassembler, &other[0]), Ok(None));
}

#[test]
fn a_datagram_that_waits_too_long_is_forgotten_and_counted_once() {
    for v6 in [false, true] {
        let pieces = samples::fragments(&samples::udp(v6, &[7; 100]), 9, 64);
        let other = samples::fragments(&samples::udp(v6, &[7; 100]), 10, 64);
        let mut reassembler = Reassembler::new(LIMITS);
        assert_eq!(reassembler.next(), None);
        assert_eq!(take(&mut reassembler, &pieces[0]), Ok(None));
        let second = NOW + Duration::from_secs(1);
        assert_eq!(take_at(&mut reassembler, &other[0], second), Ok(None));
        let due = NOW + LIMITS.timeout;
        assert_eq!(reassembler.next(), Some(due));
        assert_eq!(reassembler.expire(Time::from_nanos(due.as_nanos() - 1)), 0);
        // A fragment that comes too late begins anew.
        assert_eq!(take_at(&mut reassembler, &pieces[1], due), Ok(None));
        assert_eq!(reassembler.next(), Some(second + LIMITS.timeout));
        assert_eq!(reassembler.expire(due), 1);
        assert_eq!(reassembler.expire(due), 0);
        assert_eq!(reassembler.expire(due + LIMITS.timeout), 2);
        assert_eq!((reassembler.bytes(), reassembler.next()), (0, None));
    }
}

#[test]
fn a_datagram_longer_than_a_packet_is_dropped() {
    // Each fragment fits, but the first has a longer header than the last.
    let whole = samples::udp(false, &[7; 65_507]);
    let data = &whole[20..];
    let first = samples::fragment(&whole, 9, 0, true, &data[..65_000]);
    let first = samples::with_options(&first, &[1; 4]);
    let last = samples::fragment(&whole, 9, 65_000, false, &data[65_000..]);
    let mut reassembler = Reassembler::new(LIMITS);
    assert_eq!(take(&mut reassembler, &first), Ok(None));
    assert_eq!(take(&mut reassembler, &last), Err(Refused::TooLong));
    assert_eq!(reassembler.bytes(), 0);
}

#[test]
fn the_longest_packet_can_be_reassembled() {
    for v6 in [false, true] {
        // An IPv6 fragment names its own header too, so its datagram is 8 bytes shorter.
        let packet = samples::udp(v6, &vec![7; MAX_LEN - if v6 { 56 } else { 28 }]);
        let mut reassembler = Reassembler::new(LIMITS);
        let taken: Vec<Taken> = samples::fragments(&packet, 9, 1480)
            .iter()
            .map(|piece| take(&mut reassembler, piece))
            .collect();
        assert_eq!(taken.last(), Some(&Ok(Some(whole(&packet, 9)))));
    }
}

#[test]
fn what_is_no_fragment_is_refused() {
    let packet = samples::udp(false, b"data");
    assert_eq!(
        take(&mut Reassembler::new(LIMITS), &packet),
        Err(Refused::NotFragment)
    );
}

#[test]
fn every_reason_has_a_name_of_its_own() {
    use Refused::*;
    let all = [
        Overlap,
        Inconsistent,
        Dropped,
        Datagrams,
        DatagramsPerSource,
        Bytes,
        TooLong,
        NotFragment,
    ];
    let names: HashSet<&str> = all.iter().map(|reason| reason.name()).collect();
    assert_eq!(names.len(), all.len());
}
