use super::*;
use std::io::Write;

fn pcap(magic: u32, frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [magic, 0x0004_0002, 0, 0, 65_535, 101] {
        bytes.extend(word.to_le_bytes());
    }
    for (index, frame) in frames.iter().enumerate() {
        for word in [1_612_750_000, index, frame.len(), frame.len() + 3] {
            bytes.extend((word as u32).to_le_bytes());
        }
        bytes.extend(*frame);
    }
    bytes
}

fn pcapng(frames: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let length = (body.len().next_multiple_of(4) + 12) as u32;
        bytes.extend(kind.to_le_bytes());
        bytes.extend(length.to_le_bytes());
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(length.to_le_bytes());
    };
    block(
        0x0a0d_0d0a,
        &[
            &0x1a2b_3c4d_u32.to_le_bytes()[..],
            &[1, 0, 0, 0],
            &[0xff; 8],
        ]
        .concat(),
    );
    // Nanoseconds.
    block(
        1,
        &[101, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0],
    );
    for (index, frame) in frames.iter().enumerate() {
        let stamp = 1_612_750_000_000_000_000_u64 + index as u64;
        let mut body = vec![0; 4];
        body.extend(((stamp >> 32) as u32).to_le_bytes());
        body.extend((stamp as u32).to_le_bytes());
        body.extend((frame.len() as u32).to_le_bytes());
        body.extend((frame.len() as u32).to_le_bytes());
        body.extend(*frame);
        block(6, &body);
    }
    bytes
}

/// Number, nanoseconds, bytes.
type Read = (u64, u64, Vec<u8>);

fn read(bytes: Vec<u8>) -> (Vec<Read>, Result<(), CaptureError>) {
    let mut capture = Capture::read(Cursor::new(bytes)).unwrap();
    let mut all = Vec::new();
    let end = capture.frames(|frame| {
        assert_eq!(frame.link, 101);
        all.push((frame.number, frame.at.as_nanos(), frame.bytes.to_vec()));
    });
    (all, end)
}

const FRAMES: [&[u8]; 2] = [b"abc", b"defghi"];

#[test]
fn frames_come_in_order_with_their_times_in_every_format() {
    for (bytes, tick) in [
        (pcap(0xa1b2_c3d4, &FRAMES), 1000),
        (pcap(0xa1b2_3c4d, &FRAMES), 1),
        (pcapng(&FRAMES), 1),
    ] {
        let (all, end) = read(bytes);
        end.unwrap();
        let start = 1_612_750_000_000_000_000;
        assert_eq!(
            all,
            [
                (1, start, b"abc".to_vec()),
                (2, start + tick, b"defghi".to_vec())
            ]
        );
    }
}

#[test]
fn compressed_captures_are_read_as_they_are() {
    let plain = pcap(0xa1b2_c3d4, &FRAMES);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    assert_eq!(read(gzip.finish().unwrap()).0.len(), 2);
    assert_eq!(read(zstd::encode_all(&plain[..], 1).unwrap()).0.len(), 2);
}

#[test]
fn a_cut_capture_gives_what_it_has_and_says_so() {
    let whole = pcap(0xa1b2_c3d4, &FRAMES);
    for length in 25..whole.len() {
        let (all, end) = read(whole[..length].to_vec());
        assert!(all.len() < 2);
        if length != 24 + 16 + 3 {
            assert!(
                matches!(end, Err(CaptureError::Cut(_))),
                "{length}: {end:?}"
            );
        }
    }
}

#[test]
fn what_is_no_capture_is_refused() {
    for bytes in [
        &b""[..],
        b"hello, this is no capture file at all",
        &[0x1f, 0x8b],
    ] {
        assert!(Capture::read(Cursor::new(bytes.to_vec())).is_err());
    }
}

/// A pcapng section in either byte order.
fn section(big: bool, blocks: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let number = |number: u32| {
        if big {
            number.to_be_bytes()
        } else {
            number.to_le_bytes()
        }
    };
    let head = [&number(0x1a2b_3c4d)[..], &[0; 4], &[0xff; 8]].concat();
    let mut bytes = Vec::new();
    for (kind, body) in [(0x0a0d_0d0a, head)].iter().chain(blocks) {
        let padded = body.len().next_multiple_of(4);
        let length = number(padded as u32 + 12);
        bytes.extend([&number(*kind)[..], &length, body].concat());
        bytes.resize(bytes.len() + padded - body.len(), 0);
        bytes.extend(length);
    }
    bytes
}

#[test]
fn every_kind_of_packet_block_is_read_in_both_byte_orders_and_sections_follow_each_other() {
    let made = |big: bool| {
        let number = |number: u32| {
            if big {
                number.to_be_bytes()
            } else {
                number.to_le_bytes()
            }
        };
        let link = if big { [0, 101, 0, 0] } else { [101, 0, 0, 0] };
        let numbers = |all: &[u32]| all.iter().flat_map(|n| number(*n)).collect::<Vec<u8>>();
        let old_interface = [0, 0, 0, 9];
        section(
            big,
            &[
                // Frames are cut after five bytes.
                (1, [&link[..], &number(5)].concat()),
                (6, [&numbers(&[0, 0, 7_000_000, 3, 3])[..], b"abc"].concat()),
                (
                    2,
                    [&old_interface[..], &numbers(&[0, 8_000_000, 4, 4]), b"defg"].concat(),
                ),
                (3, [&number(9)[..], b"hijkl"].concat()),
                (0x8000_0001, b"something else".to_vec()),
            ],
        )
    };
    let (all, end) = read([made(false), made(true)].concat());
    end.unwrap();
    let seen: Vec<_> = all
        .iter()
        .map(|(number, nanos, bytes)| (*number, nanos / 1_000_000_000, &bytes[..]))
        .collect();
    assert_eq!(
        seen,
        [
            (1, 7, &b"abc"[..]),
            (2, 8, b"defg"),
            (3, 0, b"hijkl"),
            (4, 7, b"abc"),
            (5, 8, b"defg"),
            (6, 0, b"hijkl")
        ]
    );
}

#[test]
fn a_frame_larger_than_the_buffer_is_read_and_one_larger_than_any_is_damage() {
    let large = vec![7; BUFFER * 3];
    let (all, end) = read(pcap(0xa1b2_c3d4, &[b"abc", &large, b"def"]));
    end.unwrap();
    assert_eq!(all.len(), 3);
    assert_eq!(all[1].2, large);

    let mut broken = pcap(0xa1b2_c3d4, &[b"abc", b"def"]);
    let length = 24 + 16 + 3 + 8;
    broken[length..length + 4].fill(0xff);
    let (all, end) = read(broken);
    assert_eq!(all.len(), 1);
    assert!(matches!(end, Err(CaptureError::Damaged(2))), "{end:?}");
}

#[test]
fn a_block_whose_lengths_differ_is_damage() {
    let mut bytes = pcapng(&FRAMES);
    let last = bytes.len() - 4;
    bytes[last] ^= 4;
    let (all, end) = read(bytes);
    assert_eq!(all.len(), 1);
    assert!(matches!(end, Err(CaptureError::Damaged(2))), "{end:?}");
}
