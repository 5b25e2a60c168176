//! Reading the first bytes of a flow for whom it asks for, as they come and however they are cut.

use super::opening::HANDSHAKE;
use super::request::{Begins, Body, Head, begins, chunk};
use super::shown::{Protocol, Shown};
use super::{LONGEST_OPENING, opening};
use crate::payload::quic::{LONGEST, Packet, crypto};
use crate::payload::text;
use std::ops::Range;

/// What the bytes so far come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// More bytes will tell.
    Wait,
    /// This is shown.
    Shown(Shown),
    /// It cannot be read, and will not.
    Unreadable,
}

/// One direction of a stream: the client hello of TLS, or one HTTP request after the other.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    stage: Stage,
    /// Bytes of a message that is not complete.
    kept: Vec<u8>,
    /// Something was shown, or cannot be.
    settled: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    /// Nobody knows yet what it is.
    #[default]
    Opening,
    /// A request's head is next.
    Head,
    /// So many bytes of a body are to be stepped over, then `Chunks` or the next head.
    Body {
        left: u64,
        chunked: bool,
    },
    /// The line that says the size of a chunk is next.
    Chunk,
    /// The lines behind the last chunk.
    Trailers,
    Done,
}

impl Stream {
    /// Reads on; what is shown is appended to `shown`.
    pub fn read(&mut self, bytes: &[u8], shown: &mut Vec<Shown>) {
        let mut rest = bytes;
        while !rest.is_empty() && self.stage != Stage::Done {
            if let Stage::Body { left, chunked } = self.stage {
                let step = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                rest = rest.get(step..).unwrap_or_default();
                self.stage = match left - step as u64 {
                    0 if chunked => Stage::Chunk,
                    0 => Stage::Head,
                    left => Stage::Body { left, chunked },
                };
                continue;
            }
            let room = LONGEST_OPENING.saturating_sub(self.kept.len());
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.kept.extend_from_slice(now);
            rest = later;
            let taken = self.advance(shown).min(self.kept.len());
            // A body is stepped over where it lies.
            if matches!(self.stage, Stage::Body { .. }) {
                let unread = self.kept.len() - taken;
                rest = bytes
                    .get(bytes.len().saturating_sub(rest.len() + unread)..)
                    .unwrap_or_default();
                self.kept.clear();
            } else {
                self.kept.drain(..taken);
            }
            if self.kept.len() >= LONGEST_OPENING {
                self.finish();
            }
        }
        if self.kept.is_empty() || self.stage == Stage::Done {
            // A connection at rest keeps nothing.
            self.kept = Vec::new();
        }
    }

    /// Nothing is shown yet, and more bytes will tell.
    pub fn is_waiting(&self) -> bool {
        !self.settled && !self.is_unlikely()
    }

    /// Bytes at the end of what was read that belong to a message that is not complete, and may show a name.
    pub fn pending(&self) -> usize {
        if self.is_unlikely() {
            0
        } else {
            self.kept.len()
        }
    }

    /// Nothing more will be shown.
    pub fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }

    /// The bytes so far would begin a request of a method that nobody registered. They are read on, as some servers take
    /// any, but not waited for: most of what begins so is no request at all.
    fn is_unlikely(&self) -> bool {
        self.stage == Stage::Opening && self.kept.first() != Some(&HANDSHAKE) && {
            let method = self.kept.split(|byte| *byte == b' ').next();
            method.is_some_and(|method| method.iter().any(u8::is_ascii_lowercase))
        }
    }

    fn finish(&mut self) {
        (self.stage, self.settled) = (Stage::Done, true);
    }

    /// Takes steps over what is kept until a body is next or more bytes are needed. Returns how many bytes were read.
    fn advance(&mut self, shown: &mut Vec<Shown>) -> usize {
        let mut read = 0;
        loop {
            let unread = self.kept.get(read..).unwrap_or_default();
            if unread.is_empty() {
                return read;
            }
            let (stage, taken) = match self.stage {
                Stage::Opening => match open(unread) {
                    Open::Wait => return read,
                    Open::Requests => (Stage::Head, 0),
                    Open::Shows(outcome) => {
                        if let Outcome::Shown(one) = outcome {
                            shown.push(one);
                        }
                        self.finish();
                        return read;
                    }
                },
                Stage::Head => match head(unread) {
                    Some((stage, taken, one)) => {
                        self.settled = true;
                        shown.extend(one);
                        (stage, taken)
                    }
                    None => return read,
                },
                Stage::Chunk | Stage::Trailers => match text::line(unread) {
                    Some((line, taken)) => (after_line(self.stage, line), taken),
                    None => return read,
                },
                Stage::Body { .. } | Stage::Done => return read,
            };
            read += taken;
            if stage == Stage::Done {
                self.finish();
            }
            self.stage = stage;
        }
    }
}

enum Open {
    Wait,
    Requests,
    Shows(Outcome),
}

fn open(stream: &[u8]) -> Open {
    if stream.first() == Some(&HANDSHAKE) {
        return match opening::records(stream) {
            Outcome::Wait => Open::Wait,
            outcome @ (Outcome::Shown(_) | Outcome::Unreadable) => Open::Shows(outcome),
        };
    }
    match begins(stream) {
        Begins::Yes => Open::Requests,
        Begins::Perhaps => Open::Wait,
        Begins::No => Open::Shows(Outcome::Shown(Shown::nobody(Protocol::Other))),
    }
}

/// Reads the head of a request: what comes next, its length, and what it shows.
fn head(stream: &[u8]) -> Option<(Stage, usize, Option<Shown>)> {
    // Blank lines before a request are skipped (RFC 9112, section 2.2).
    if let Some((b"", taken)) = text::line(stream) {
        return Some((Stage::Head, taken, None));
    }
    match begins(stream) {
        Begins::Yes => {}
        Begins::Perhaps => return None,
        Begins::No => return Some((Stage::Done, 0, None)),
    }
    let head = Head::read(stream)?;
    let stage = match head.body {
        Body::Bytes(0) => Stage::Head,
        Body::Bytes(left) => Stage::Body {
            left,
            chunked: false,
        },
        Body::Chunks => Stage::Chunk,
        Body::Tunnel => Stage::Opening,
        Body::Unknown => Stage::Done,
    };
    let shown = Shown {
        name: head.host,
        ..Shown::nobody(Protocol::Http)
    };
    Some((stage, head.len, Some(shown)))
}

fn after_line(stage: Stage, line: &[u8]) -> Stage {
    match (stage, line) {
        (Stage::Trailers, b"") => Stage::Head,
        (Stage::Trailers, _) => Stage::Trailers,
        (_, size) => match chunk(size) {
            None => Stage::Done,
            Some(0) => Stage::Trailers,
            Some(left) => Stage::Body {
                left,
                chunked: true,
            },
        },
    }
}

/// The first datagrams of a flow: the client hello that QUIC's Initial packets carry, in whatever order they come.
#[derive(Clone, Debug, Default)]
pub struct Datagrams {
    hello: Vec<u8>,
    /// Which parts of it are there: sorted, apart from each other.
    there: Vec<Range<usize>>,
}

/// Pieces of a client hello that lie apart from each other.
const MOST_PIECES: usize = 64;

impl Datagrams {
    /// Reads the next datagram.
    pub fn read(&mut self, datagram: &[u8]) -> Outcome {
        let mut rest = datagram;
        let mut is_quic = !self.there.is_empty();
        while let Some(packet) = Packet::first(rest) {
            is_quic = true;
            rest = rest.get(packet.bytes.len()..).unwrap_or_default();
            let mut plain = [0; LONGEST];
            if !packet.initial {
                continue;
            }
            let Some(frames) = packet.open(&mut plain) else {
                return Outcome::Unreadable;
            };
            for (offset, piece) in crypto(frames) {
                if self.place(offset, piece).is_none() {
                    return Outcome::Unreadable;
                }
            }
        }
        match self.there.first() {
            Some(Range { start: 0, end }) => {
                let hello = self.hello.get(..*end).unwrap_or_default();
                opening::hello(hello, Protocol::Quic)
            }
            _ if is_quic => Outcome::Wait,
            // A version that nobody here knows: it may well be encrypted, and name somebody.
            _ if datagram.first().is_some_and(|first| *first >= 0xc0) => Outcome::Unreadable,
            _ => Outcome::Shown(Shown::nobody(Protocol::Other)),
        }
    }

    /// Puts a piece of the client hello in its place; `None` if it has none there or contradicts another.
    fn place(&mut self, offset: u64, piece: &[u8]) -> Option<()> {
        let start = usize::try_from(offset).ok()?;
        let end = start
            .checked_add(piece.len())
            .filter(|end| *end <= LONGEST_OPENING)?;
        if self.hello.len() < end {
            self.hello.resize(end, 0);
        }
        for known in &self.there {
            let shared = start.max(known.start)..end.min(known.end);
            if !shared.is_empty()
                && self.hello.get(shared.clone())
                    != piece.get(shared.start - start..shared.end - start)
            {
                return None;
            }
        }
        self.hello.get_mut(start..end)?.copy_from_slice(piece);
        let (mut start, mut end) = (start, end);
        self.there.retain(|known| {
            let touches = known.start <= end && start <= known.end;
            if touches {
                (start, end) = (start.min(known.start), end.max(known.end));
            }
            !touches
        });
        let place = self.there.partition_point(|known| known.start < start);
        self.there.insert(place, start..end);
        (self.there.len() <= MOST_PIECES).then_some(())
    }
}

#[cfg(test)]
mod tests;
