//! Nanoseconds of the sanitizer: an unknown ping, an encrypted packet, a bulk stream; with no secret, three, a hundred.
#![allow(clippy::unwrap_used, reason = "a bench")]

use cordon::sanitize::{Context, Kind, Memory, Sanitizer, Secret, Stream};
use cordon::time::Time;
use divan::Bencher;
use divan::counter::BytesCount;
use std::hint::black_box;
use std::net::{IpAddr, SocketAddr};

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

/// The same as one of the first three of its flow: it is remembered.
#[divan::bench(args = SECRETS)]
fn first_ping(bencher: Bencher<'_, '_>, secrets: usize) {
    judge(bencher, secrets, &noise(40), 0);
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
