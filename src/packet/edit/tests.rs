use super::*;
use crate::packet::{Checksum, samples};

const LINK: Segmenting = Segmenting {
    link_mtu: 1500,
    flow_mss: 1460,
    offload: true,
};

fn mss(value: u16) -> [u8; 8] {
    let [a, b] = value.to_be_bytes();
    // Padding and "SACK permitted" before it.
    [1, 1, 4, 2, 2, 4, a, b]
}

fn read(packet: &[u8]) -> Parsed {
    Parsed::read(packet, Checksum::Trust).expect("a good packet")
}

/// The last two bytes of the TCP header.
fn option_value(packet: &[u8]) -> u16 {
    let Transport::Tcp(tcp) = read(packet).transport else {
        panic!("no segment");
    };
    u16::from_be_bytes([packet[tcp.payload - 2], packet[tcp.payload - 1]])
}

fn window(packet: &[u8]) -> u16 {
    let at = read(packet).ip_len + 14;
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

#[test]
fn the_mss_of_a_syn_is_raised_to_whole_segments_and_remembered() {
    for (announced, link_mtu, v6, real, told) in [
        (1460, 1500, false, 1460, 64_240),
        (1240, 1500, true, 1240, 64_480),
        (1440, 1500, true, 1440, 64_800),
        (8960, 1500, false, 1460, 64_240),
        (65_495, 65_535, false, 65_367, 65_367),
        (1, 1500, false, 88, 65_296),
        (1460, 0, false, 88, 65_296),
    ] {
        let mut packet = samples::tcp(v6, Tcp::SYN, &mss(announced), b"");
        let parsed = read(&packet);
        assert_eq!(
            raise_mss(&mut packet, &parsed, link_mtu),
            real,
            "{announced}"
        );
        assert_eq!(option_value(&packet), told, "{announced}");
    }
}

#[test]
fn a_syn_without_a_usable_mss_is_left_alone() {
    for options in [
        [].as_slice(),
        &[1, 1, 1, 1],
        &[2, 3, 1, 1],
        &[2, 4, 0, 0],
        &[8, 0, 2, 4],
        &[8, 200, 2, 4],
        &[1, 1, 1, 2],
        &[1, 1, 2, 4],
        &[0, 2, 4, 9],
    ] {
        for v6 in [false, true] {
            let original = samples::tcp(v6, Tcp::SYN, options, b"");
            let mut packet = original.clone();
            let parsed = read(&packet);
            assert_eq!(raise_mss(&mut packet, &parsed, 1500), 536, "{options:?}");
            assert_eq!(packet, original);
        }
    }
    let original = samples::udp(false, &[2, 4, 5, 0xb4]);
    let mut packet = original.clone();
    let parsed = read(&packet);
    assert_eq!(raise_mss(&mut packet, &parsed, 1500), 536);
    assert_eq!(packet, original);
}

#[test]
fn the_mss_in_the_data_of_a_syn_is_not_an_option() {
    let original = samples::tcp(false, Tcp::SYN, &[], &[2, 4, 5, 0xb4]);
    let mut packet = original.clone();
    let parsed = read(&packet);
    assert_eq!(raise_mss(&mut packet, &parsed, 1500), 536);
    assert_eq!(packet, original);
}

#[test]
fn a_syn_ack_announces_the_mss_of_the_link() {
    for (v6, expected) in [(false, 1460), (true, 1440)] {
        for offload in [true, false] {
            let mut packet = samples::tcp(v6, Tcp::SYN | Tcp::ACK, &mss(65_495), b"");
            let how = Segmenting { offload, ..LINK };
            let metadata = finish_segment(&mut packet, &how);
            assert_eq!(option_value(&packet), expected);
            assert_eq!(
                window(&packet),
                0x1000,
                "the window of a SYN has no edge yet"
            );
            assert_eq!(metadata.gso, Gso::None);
            let parsed = Parsed::read(&packet, metadata.checksum()).expect("a good packet");
            assert_eq!(parsed.len, packet.len());
        }
    }
}

#[test]
fn the_window_edge_is_drawn_back_by_one_unit() {
    for v6 in [false, true] {
        for (given, sent) in [(0x1000, 0x0fff), (1, 0), (0, 0)] {
            let mut packet = samples::tcp(v6, Tcp::ACK, &[], b"");
            let at = read(&packet).ip_len + 14;
            packet[at..at + 2].copy_from_slice(&u16::to_be_bytes(given));
            finish_segment(&mut packet, &LINK);
            assert_eq!(window(&packet), sent);
        }
    }
}

#[test]
fn a_super_segment_is_cut_by_payload_without_options() {
    for (v6, gso, ip_len) in [(false, Gso::TcpV4, 20), (true, Gso::TcpV6, 40)] {
        let timestamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        let mut packet = samples::tcp(v6, Tcp::ACK, &timestamps, &[7; 3000]);
        let expected = Offload {
            partial_checksum: true,
            verified: false,
            gso,
            gso_size: 1448,
            header_len: ip_len + 32,
            checksum_start: ip_len,
            checksum_offset: 16,
        };
        assert_eq!(finish_segment(&mut packet, &LINK), expected);
    }
}

#[test]
fn a_segment_that_fits_is_not_cut() {
    for (data, gso) in [(1460, Gso::None), (1461, Gso::TcpV4)] {
        let mut packet = samples::tcp(false, Tcp::ACK, &[], &vec![7; data]);
        let offload = finish_segment(&mut packet, &LINK);
        assert_eq!(offload.gso, gso);
        assert!(offload.partial_checksum);
    }
    // A flow that claims to take nothing does not multiply packets.
    let how = Segmenting {
        flow_mss: 0,
        ..LINK
    };
    let mut packet = samples::tcp(false, Tcp::ACK, &[], &[7; 1000]);
    assert_eq!(finish_segment(&mut packet, &how).gso_size, 88);
}

#[test]
fn a_partial_checksum_completes_to_the_right_one() {
    for v6 in [false, true] {
        let mut packet = samples::tcp(v6, Tcp::ACK, &[], b"odd");
        let mut offload = finish_segment(&mut packet, &LINK);
        assert!(Parsed::read(&packet, Checksum::Verify).is_err());
        assert!(checksum::complete(&mut packet, &mut offload));
        assert!(Parsed::read(&packet, Checksum::Verify).is_ok());
    }
}

#[test]
fn without_offload_the_checksum_is_whole_and_nothing_is_cut() {
    let how = Segmenting {
        offload: false,
        ..LINK
    };
    for v6 in [false, true] {
        let mut packet = samples::tcp(v6, Tcp::ACK, &[], &[7; 3000]);
        assert_eq!(finish_segment(&mut packet, &how), Offload::default());
        assert!(Parsed::read(&packet, Checksum::Verify).is_ok());
        assert_eq!(window(&packet), 0x0fff);
    }
}

#[test]
fn what_is_no_whole_tcp_packet_is_left_alone() {
    let whole = samples::tcp(false, Tcp::ACK, &[], &[7; 100]);
    let mut short = whole.clone();
    short.truncate(100);
    let mut long = whole.clone();
    long.push(0);
    let mut bad_offset = whole.clone();
    bad_offset[32] = 0x40;
    let mut bad_header = whole.clone();
    bad_header[0] = 0x44;
    for original in [
        Vec::new(),
        samples::udp(false, b"data"),
        samples::udp(true, b"data"),
        samples::fragments(&whole, 1, 64).swap_remove(0),
        short,
        long,
        bad_offset,
        bad_header,
    ] {
        let mut packet = original.clone();
        assert_eq!(finish_segment(&mut packet, &LINK), Offload::default());
        assert_eq!(packet, original);
    }
}

#[test]
fn the_hop_limit_goes_up_and_the_checksum_stays_right() {
    for v6 in [false, true] {
        let mut packet = samples::udp(v6, b"data");
        for hop_limit in 65..=255 {
            assert!(restore_hop_limit(&mut packet));
            let parsed = Parsed::read(&packet, Checksum::Verify).expect("still a good packet");
            assert_eq!(parsed.hop_limit, hop_limit);
        }
        let last = packet.clone();
        assert!(!restore_hop_limit(&mut packet));
        assert_eq!(packet, last);
    }
}

#[test]
fn what_is_no_packet_has_no_hop_limit() {
    let packet = samples::udp(false, b"");
    for len in 0..12 {
        assert!(!restore_hop_limit(&mut packet[..len].to_vec()));
    }
    assert!(!restore_hop_limit(&mut [0x55; 40]));
}
