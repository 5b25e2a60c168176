//! Nanoseconds of the sanitizer: an unknown ping, an encrypted packet, a bulk stream; with no secret, three, a hundred.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench, with samples from files"
)]

use cordon::sanitize::{Context, Kind, Memory, Sanitizer, Secret, Stream};
use cordon::time::Time;
use divan::Bencher;
use divan::counter::BytesCount;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

const SECRETS: [usize; 3] = [0, 3, 100];

fn main() {
    divan::main();
}

fn sanitizer(secrets: usize) -> Sanitizer {
    let secrets: Vec<Secret> = (0..secrets)
        .map(|index| {
            let value = match index % 4 {
                0 => format!("{}", 512_345_687 + index * 7_919_333),
                1 => format!("person{index}.name@mail{index}.example"),
                2 => format!("3c:22:fb:{index:02x}:5a:{:02x}", index ^ 0x5a),
                _ => format!("Room{index}xk{}Rj", index * 37),
            };
            Secret::new(&format!("s{index}"), &value, Kind::Guess).unwrap()
        })
        .collect();
    Sanitizer::new(&secrets).unwrap()
}

fn context(index: u32) -> Context {
    Context {
        client: IpAddr::from([192, 168, 7, 2]),
        sport: 40_000,
        remote: SocketAddr::from(([203, 0, 113, 9], 8000)),
        index,
        now: Time::from_secs(1_612_750_000),
        blocked: false,
    }
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 56) as u8
    })
    .take(length)
    .collect()
}

fn text(length: usize) -> Vec<u8> {
    b"GET /api/v2/rooms?limit=20&cursor=8812 HTTP/1.1\r\nAccept: application/json, text/html;q=0.9\r\n"
        .iter()
        .copied()
        .cycle()
        .take(length)
        .collect()
}

fn judge(bencher: Bencher<'_, '_>, secrets: usize, payload: &[u8], index: u32) {
    let (sanitizer, mut memory, mut found) = (sanitizer(secrets), Memory::default(), Vec::new());
    bencher
        .counter(BytesCount::of_slice(payload))
        .bench_local(|| {
            sanitizer.datagram(&mut memory, &context(index), black_box(payload), &mut found)
        });
    assert!(found.is_empty());
}

/// 40 bytes that no dissector knows, late in their flow.
#[divan::bench(args = SECRETS)]
fn ping(bencher: Bencher<'_, '_>, secrets: usize) {
    judge(bencher, secrets, &noise(40), 10);
}

/// The first of a flow, which is remembered and compared with what went to other servers: 40 bytes of which a number of
/// eight is the client's own, 100 flows a second of 50 clients. So many samples that the memory is as full as it gets.
#[divan::bench(args = SECRETS, sample_count = 5000)]
fn first_ping(bencher: Bencher<'_, '_>, secrets: usize) {
    let (sanitizer, mut memory, mut found) = (sanitizer(secrets), Memory::default(), Vec::new());
    let noise = noise(40 * 4096);
    let mut pings = noise.as_chunks::<40>().0.iter().copied().cycle();
    let mut count = 0_u32;
    bencher
        .with_inputs(|| {
            count += 1;
            let client = (count % 50) as u8;
            let mut ping = pings.next().unwrap();
            ping[16..24].copy_from_slice(&[client ^ 0x5a, 200, 31, client, 77, 140, 2, 9]);
            let context = Context {
                client: IpAddr::from([192, 168, 7, client]),
                sport: count as u16,
                remote: SocketAddr::from(([203, 0, 113, client], 8000)),
                now: Time::from_secs(1_612_750_000) + Duration::from_millis(10) * count,
                ..context(0)
            };
            (context, ping)
        })
        .bench_local_refs(|(context, ping)| {
            sanitizer.datagram(&mut memory, context, black_box(ping), &mut found)
        });
    assert!(found.is_empty());
}

/// The longest that the first of a flow can take: seven bytes again and again, as in all that was sent lately, which are
/// one too few to be a value.
#[divan::bench]
fn longest_ping(bencher: Bencher<'_, '_>) {
    let (sanitizer, mut memory, mut found) = (sanitizer(0), Memory::default(), Vec::new());
    let noise = noise(56 * 4096);
    let mut tails = noise.as_chunks::<56>().0.iter().cycle();
    let mut count = 0_u32;
    bencher
        .with_inputs(|| {
            count += 1;
            let mut ping = b"\x80\x91ABCDE__".repeat(28);
            let tails = tails.next().unwrap().as_chunks::<2>().0;
            for (nine, tail) in ping.as_chunks_mut::<9>().0.iter_mut().zip(tails) {
                nine[7..].copy_from_slice(tail);
            }
            let context = Context {
                remote: SocketAddr::from(([203, 0, 113, (count % 2) as u8], 8000)),
                now: Time::from_secs(1_612_750_000) + Duration::from_millis(1) * count,
                ..context(0)
            };
            (context, ping)
        })
        .bench_local_refs(|(context, ping)| {
            sanitizer.datagram(&mut memory, context, black_box(ping), &mut found)
        });
    assert!(found.len() < 10, "chance only");
}

#[divan::bench(args = SECRETS)]
fn encrypted_1200(bencher: Bencher<'_, '_>, secrets: usize) {
    judge(bencher, secrets, &noise(1200), 10);
}

fn bulk(bencher: Bencher<'_, '_>, secrets: usize, bytes: &[u8]) {
    let (sanitizer, mut stream, mut found) = (sanitizer(secrets), Stream::default(), Vec::new());
    bencher
        .counter(BytesCount::of_slice(bytes))
        .bench_local(|| sanitizer.stream(&mut stream, black_box(bytes), &mut found));
    assert!(found.is_empty());
}

#[divan::bench(args = SECRETS)]
fn tcp_64k_noise(bencher: Bencher<'_, '_>, secrets: usize) {
    bulk(bencher, secrets, &noise(65_536));
}

#[divan::bench(args = SECRETS)]
fn tcp_64k_text(bencher: Bencher<'_, '_>, secrets: usize) {
    bulk(bencher, secrets, &text(65_536));
}

/// A packet's worth of a stream that proved to be encrypted.
#[divan::bench(args = SECRETS)]
fn sealed_1400(bencher: Bencher<'_, '_>, secrets: usize) {
    let mut hello = vec![22, 3, 3, 0, 4, 14, 0, 0, 0];
    hello.extend([20, 3, 3, 0, 1, 1]);
    hello.extend([23, 3, 3, 0x40, 0]);
    let (sanitizer, bytes, mut found) = (sanitizer(secrets), noise(1400), Vec::new());
    let mut stream = Stream::default();
    sanitizer.stream(&mut stream, &hello, &mut found);
    // The first bytes after the opening are still searched for secrets.
    for _ in 0..4 {
        sanitizer.stream(&mut stream, &bytes, &mut found);
    }
    found.clear();
    assert!(sanitizer.is_done(&stream), "the stream is not sealed");
    bencher.bench_local(|| sanitizer.stream(&mut stream, black_box(&bytes), &mut found));
    assert!(found.is_empty());
}

/// Each dissector on the longest of its samples up to 300 bytes, with all that are tried before it.
#[divan::bench(args = cordon::sanitize::dissectors())]
fn each_dissector(bencher: Bencher<'_, '_>, name: &str) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let samples = std::fs::read_dir(corpus.join(name)).unwrap();
    let payload = samples
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .filter_map(|sample| Some(sample.get(1..)?.to_vec()))
        .filter(|payload| payload.len() <= 300)
        .max_by_key(Vec::len)
        .unwrap_or_default();
    let (sanitizer, mut memory, mut found) = (Sanitizer::default(), Memory::default(), Vec::new());
    bencher.bench_local(|| {
        found.clear();
        sanitizer.datagram(&mut memory, &context(10), black_box(&payload), &mut found)
    });
}

/// 300 bytes of the dissectors that do most.
#[divan::bench(args = ["dns", "stun", "sip", "syslog", "rtcp"])]
fn dissector_300(bencher: Bencher<'_, '_>, protocol: &str) {
    let payload = sample(protocol);
    let (sanitizer, mut memory, mut found) = (Sanitizer::default(), Memory::default(), Vec::new());
    bencher.bench_local(|| {
        found.clear();
        sanitizer.datagram(&mut memory, &context(10), black_box(&payload), &mut found)
    });
    assert!(!found.is_empty());
}

fn sample(protocol: &str) -> Vec<u8> {
    match protocol {
        "dns" => {
            let mut bytes =
                b"\x12\x34\x01\0\0\x01\0\0\0\0\0\x01\x07example\x03com\0\0\x01\0\x01".to_vec();
            bytes.extend(b"\0\0\x29\x10\0\0\0\0\0\x01\x04\0\x0c\x01\x00");
            bytes.resize(bytes.len() + 256, 0);
            bytes
        }
        "stun" => {
            let mut bytes =
                b"\0\x01\x01\x18\x21\x12\xa4\x42abcdefghijkl\0\x06\0\x09Tw5X:31e5\0\0\0".to_vec();
            bytes.extend(b"\x80\x22\x01\x04");
            bytes.resize(300, b'x');
            bytes
        }
        "sip" => {
            let mut bytes =
                b"REGISTER sip:a.example SIP/2.0\r\nFrom: <sip:anne@a.example>\r\nVia: ".to_vec();
            bytes.resize(296, b'x');
            bytes.extend(b"\r\n\r\n");
            bytes
        }
        "syslog" => {
            let mut bytes = b"<34>Oct 11 22:14:15 annes-pc su: ".to_vec();
            bytes.resize(300, b'x');
            bytes
        }
        _ => {
            let mut bytes = vec![
                0x80, 201, 0, 1, 0, 0, 0, 7, 0x81, 202, 0, 72, 0, 0, 0, 7, 1, 200,
            ];
            bytes.resize(218, b'@');
            bytes.resize(300, 0);
            bytes
        }
    }
}
