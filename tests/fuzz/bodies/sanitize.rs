//! The sanitizer over datagrams and streams, and capture files with everything behind them.

use cordon::link::pcap::Capture;
use cordon::report::audit::Audit;
use cordon::sanitize::{Context, Kind, Memory, Sanitizer, Secret, Stream};
use cordon::time::Time;
use std::io::Cursor;
use std::net::{IpAddr, SocketAddr};

fn sanitizer() -> Sanitizer {
    let secrets = [
        Secret::new("number", "512345687", Kind::Guess).unwrap(),
        Secret::new("mail", "alice@example.com", Kind::Guess).unwrap(),
    ];
    Sanitizer::new(&secrets).unwrap()
}

/// The first byte is how many servers get the rest; what is found must lie within it, and redacting must not change its
/// length.
pub(crate) fn datagram(data: &[u8]) {
    let Some((servers, payload)) = data.split_first() else {
        return;
    };
    let (sanitizer, mut memory) = (sanitizer(), Memory::default());
    for server in 0..=servers % 4 {
        let context = Context {
            client: IpAddr::from([10, 0, 0, 1]),
            sport: 40_000,
            remote: SocketAddr::from(([203, 0, 113, server], 8000)),
            index: 0,
            now: Time::from_secs(1_612_750_000),
            blocked: server % 2 == 1,
        };
        let mut found = Vec::new();
        sanitizer.datagram(&mut memory, &context, payload, &mut found);
        for finding in &found {
            assert!(finding.span.start <= finding.span.end);
            assert!(finding.span.end <= payload.len());
        }
        let mut after = payload.to_vec();
        let _ = sanitizer.redact(&mut after, &found);
        assert_eq!(after.len(), payload.len());
    }
}

/// The first byte is the length of the chunks in which the rest comes.
pub(crate) fn stream(data: &[u8]) {
    let Some((length, bytes)) = data.split_first() else {
        return;
    };
    let (sanitizer, mut stream) = (sanitizer(), Stream::default());
    for chunk in bytes.chunks(usize::from(*length).max(1)) {
        let mut found = Vec::new();
        sanitizer.stream(&mut stream, chunk, &mut found);
        for finding in &found {
            assert!(finding.span.start <= finding.span.end);
            assert!(finding.span.end <= chunk.len());
        }
        assert!(stream.pending() <= 4096);
    }
    assert_eq!(stream.position(), bytes.len() as u64);
}

/// A whole capture file.
pub(crate) fn capture(data: &[u8]) {
    let Ok(mut capture) = Capture::read(Cursor::new(data.to_vec())) else {
        return;
    };
    let (mut audit, mut packets, mut flows) = (Audit::new(sanitizer()), 0, 0);
    let _ = capture.frames(|frame| {
        packets += 1;
        audit.frame(&frame, |_, _| false, |_| flows += 1);
    });
    audit.finish(|_| flows += 1);
    assert!(flows <= packets);
}
