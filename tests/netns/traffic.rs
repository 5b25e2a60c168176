//! Bytes that both ends can make, and their digests: what the client and the servers of the tests share.
#![allow(
    dead_code,
    clippy::indexing_slicing,
    reason = "each end uses its half; lengths are what reads return"
)]

use ring::digest::{Context, SHA256};
use std::io::{self, Read, Write};

pub(crate) type Digest = ring::digest::Digest;

const CHUNK: usize = 128 << 10;

/// What a connection is for: nine bytes at its beginning.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bulk {
    pub(crate) to_server: bool,
    /// The sender's FIN is its end; otherwise the number of bytes is.
    pub(crate) to_the_end: bool,
    pub(crate) bytes: u64,
}

impl Bulk {
    pub(crate) fn up(bytes: u64) -> Self {
        Self {
            to_server: true,
            to_the_end: true,
            bytes,
        }
    }

    pub(crate) fn down(bytes: u64) -> Self {
        Self {
            to_server: false,
            to_the_end: true,
            bytes,
        }
    }

    pub(crate) fn counted(self) -> Self {
        Self {
            to_the_end: false,
            ..self
        }
    }

    pub(crate) fn announce(self, to: &mut impl Write) -> io::Result<()> {
        let mut message = [0; 9];
        message[0] = u8::from(self.to_server) | u8::from(self.to_the_end) << 1;
        message[1..].copy_from_slice(&self.bytes.to_be_bytes());
        to.write_all(&message)
    }

    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut message = [0; 9];
        from.read_exact(&mut message)?;
        let [to_server, bytes @ ..] = message;
        Ok(Self {
            to_server: to_server & 1 != 0,
            to_the_end: to_server & 2 != 0,
            bytes: u64::from_be_bytes(bytes),
        })
    }
}

/// `len` bytes of a seed: never the same twice in a row, so that lost, doubled and moved ones are noticed.
pub(crate) fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The pieces of the stream of `total` bytes.
fn pieces(total: u64) -> impl Iterator<Item = Vec<u8>> {
    let chunk = CHUNK as u64;
    (0..total.div_ceil(chunk))
        .map(move |number| bytes(number + 1, (total - number * chunk).min(chunk) as usize))
}

pub(crate) fn send(to: &mut impl Write, total: u64) -> io::Result<Digest> {
    let mut digest = Context::new(&SHA256);
    for piece in pieces(total) {
        digest.update(&piece);
        to.write_all(&piece)?;
    }
    Ok(digest.finish())
}

pub(crate) fn digest(total: u64) -> Digest {
    let mut digest = Context::new(&SHA256);
    pieces(total).for_each(|piece| digest.update(&piece));
    digest.finish()
}

/// Receives to the end; how many bytes, and their digest.
pub(crate) fn receive(from: &mut impl Read) -> io::Result<(u64, Digest)> {
    receive_up_to(from, u64::MAX)
}

pub(crate) fn receive_up_to(from: &mut impl Read, limit: u64) -> io::Result<(u64, Digest)> {
    let mut digest = Context::new(&SHA256);
    let mut buffer = vec![0; CHUNK];
    let mut count = 0;
    while count < limit {
        let wanted = usize::try_from(limit - count).unwrap_or(CHUNK).min(CHUNK);
        let read = match from.read(&mut buffer[..wanted]) {
            Ok(0) => break,
            // A process that was stopped and goes on again.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        digest.update(&buffer[..read]);
        count += read as u64;
    }
    Ok((count, digest.finish()))
}
