//! Reading a stream message by message as its bytes come, however they are cut.

use super::notes::Notes;
use super::table::{FALLBACK, STREAM, Streams};
use super::{Reading, hpack};
use crate::sanitize::finding::Finding;

/// Most bytes kept that no message end was found in.
const KEEP: usize = 4096;

/// Whether a stream is of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// It is.
    Yes,
    /// It may be; more bytes will tell.
    Perhaps,
    /// It is not.
    No,
}

/// What one step made of the bytes not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The message is not complete. What was noted of it counts; the same bytes come again, with more.
    Wait,
    /// This many bytes are read. May exceed what is there: the rest is skipped as it comes.
    Took(usize),
    /// From here on another protocol speaks, as after STARTTLS.
    Switch,
    /// From here on all is encrypted.
    Sealed,
    /// From here on nothing can be told.
    Lost,
}

/// What is known of one direction of one stream.
#[derive(Clone, Debug, Default)]
pub(in crate::sanitize) struct Reader {
    stage: Stage,
    unread: Vec<u8>,
    skip: usize,
    /// What it was last read as.
    protocol: Option<&'static str>,
    sealed: bool,
    /// What was told of the incomplete message so far.
    told: Vec<Told>,
    /// What HTTP/2 compresses headers by.
    table: Option<Box<hpack::Table>>,
}

/// A field that was told, by where it lies in the unread bytes.
#[derive(Clone, Copy, Debug)]
struct Told {
    leak: &'static str,
    start: usize,
    end: usize,
}

#[derive(Clone, Debug, Default)]
enum Stage {
    #[default]
    Opening,
    Reading {
        dissector: u8,
        phase: u8,
    },
    Done,
}

impl Opening {
    /// Compares the beginning of a stream with fixed bytes.
    pub(super) fn mark(stream: &[u8], mark: &[u8]) -> Self {
        if stream.starts_with(mark) {
            Self::Yes
        } else if mark.starts_with(stream) {
            Self::Perhaps
        } else {
            Self::No
        }
    }

    /// The better of two.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::Perhaps, _) | (_, Self::Perhaps) => Self::Perhaps,
            (Self::No, Self::No) => Self::No,
        }
    }
}

impl Reader {
    /// One that takes the stream for this protocol, whatever it looks like; `None` if there is none of this name.
    pub(in crate::sanitize) fn of(protocol: &str) -> Option<Self> {
        let known = STREAM.iter().chain([&FALLBACK]);
        let dissector = known
            .zip(0..)
            .find(|(known, _)| known.protocol == protocol)?
            .1;
        Some(Self {
            stage: Stage::Reading {
                dissector,
                phase: 0,
            },
            ..Self::default()
        })
    }

    /// The protocol, once it is known.
    pub(in crate::sanitize) fn reading(&self) -> Option<Reading> {
        self.protocol.map(|protocol| Reading {
            protocol,
            sealed: self.sealed,
        })
    }

    /// Whether nothing more can be told.
    pub(in crate::sanitize) fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Bytes at the end of what was read that belong to a message which is not complete, or to a stream whose protocol
    /// is not decided. Text of no known protocol has no messages: nobody may wait for its end.
    pub(in crate::sanitize) fn pending(&self) -> usize {
        match self.stage {
            Stage::Reading { dissector, .. } if usize::from(dissector) >= STREAM.len() => 0,
            Stage::Opening | Stage::Reading { .. } | Stage::Done => self.unread.len(),
        }
    }

    /// Reads on. Spans of what is appended to `found` lie within `chunk`: a field that began before it starts at 0, one
    /// that ended before it is empty there. A field of an incomplete message is told again as more of it comes.
    pub(in crate::sanitize) fn read(&mut self, chunk: &[u8], found: &mut Vec<Finding>) {
        let mut rest = chunk;
        while !rest.is_empty() && !self.is_done() {
            let skipped = self.skip.min(rest.len());
            self.skip -= skipped;
            rest = rest.get(skipped..).unwrap_or_default();
            let room = KEEP.saturating_sub(self.unread.len());
            let (now, later) = rest.split_at(room.min(rest.len()));
            self.unread.extend_from_slice(now);
            rest = later;
            // Where `unread` ends within the chunk.
            let end = chunk.len() - rest.len();
            let read = self.advance(end, now.len(), found);
            self.unread.drain(..read.min(self.unread.len()));
            if self.unread.len() >= KEEP {
                self.stage = Stage::Done;
            }
        }
        if self.is_done() {
            self.unread = Vec::new();
            self.table = None;
        }
    }

    /// Takes steps over what is not read yet, which ends at `end` of the chunk and whose last `fresh` bytes are new.
    /// Returns how many bytes were read.
    fn advance(&mut self, end: usize, fresh: usize, found: &mut Vec<Finding>) -> usize {
        let mut read = 0;
        loop {
            let unread = self.unread.get(read..).unwrap_or_default();
            if unread.is_empty() {
                return read;
            }
            let Some((dissector, phase)) = open(&mut self.stage, unread) else {
                return read;
            };
            self.protocol = Some(dissector.protocol);
            let first = found.len();
            let mut notes = Notes::new(unread, found).after(&mut self.table);
            let step = (dissector.step)(phase, unread, &mut notes);
            let length = unread.len();
            place(found, first, &mut self.told, (length, end, fresh));
            if step != Step::Wait {
                self.told.clear();
            }
            match step {
                Step::Wait => return read,
                Step::Took(0) | Step::Lost => self.stage = Stage::Done,
                Step::Took(taken) => {
                    self.skip = taken.saturating_sub(length);
                    read += taken.min(length);
                }
                Step::Switch => self.stage = Stage::Opening,
                Step::Sealed => {
                    self.stage = Stage::Done;
                    self.sealed = true;
                }
            }
        }
    }
}

/// The dissector of the stream and its phase; tries all of them if none is chosen yet.
fn open<'a>(stage: &'a mut Stage, unread: &[u8]) -> Option<(&'static Streams, &'a mut u8)> {
    if matches!(stage, Stage::Opening) {
        *stage = match choose(unread) {
            Choice::Undecided => return None,
            Choice::None => Stage::Done,
            Choice::Dissector(dissector) => Stage::Reading {
                dissector,
                phase: 0,
            },
        };
    }
    match stage {
        Stage::Reading { dissector, phase } => Some((
            STREAM.get(usize::from(*dissector)).unwrap_or(&FALLBACK),
            phase,
        )),
        Stage::Opening | Stage::Done => None,
    }
}

/// What a stream is read with.
enum Choice {
    /// More bytes will tell.
    Undecided,
    /// Nothing.
    None,
    /// A place in the list; one beyond its end means the fallback.
    Dissector(u8),
}

fn choose(unread: &[u8]) -> Choice {
    let mut perhaps = false;
    for (index, dissector) in (0..).zip(STREAM) {
        match (dissector.open)(unread) {
            Opening::Yes => return Choice::Dissector(index),
            Opening::Perhaps => perhaps = true,
            Opening::No => {}
        }
    }
    match (FALLBACK.open)(unread) {
        _ if perhaps => Choice::Undecided,
        Opening::Yes => Choice::Dissector(u8::MAX),
        Opening::Perhaps | Opening::No => Choice::None,
    }
}

/// Moves the spans of new findings from the unread bytes to the chunk. The unread bytes, `length` long, end at `end` of
/// the chunk; the last `fresh` of them are new. What was told before and has not grown is left out.
fn place(
    found: &mut Vec<Finding>,
    first: usize,
    told: &mut Vec<Told>,
    (length, end, fresh): (usize, usize, usize),
) {
    let mut index = 0;
    found.retain_mut(|finding| {
        index += 1;
        if index <= first {
            return true;
        }
        let (start, stop) = (finding.span.start, finding.span.end);
        let known = told
            .iter_mut()
            .find(|told| told.leak == finding.leak && told.start == start);
        let news = match known {
            Some(known) if known.end >= stop => false,
            Some(known) => {
                known.end = stop;
                true
            }
            None => {
                told.push(Told {
                    leak: finding.leak,
                    start,
                    end: stop,
                });
                true
            }
        };
        let floor = end.saturating_sub(fresh);
        // How far from the end, so that nothing underflows when the unread bytes are longer than the chunk.
        let back = |at: usize| length - at.min(length);
        let place = |at: usize| end.saturating_sub(back(at)).max(floor);
        let earlier = |at: usize| (place(at) + back(at)).saturating_sub(end);
        finding.span = place(start)..place(stop);
        finding.earlier = (earlier(start), earlier(stop));
        news
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_of_a_message_known_only_at_its_end_is_still_told() {
        let bind = b"\x30\x19\x02\x01\x01\x60\x14\x02\x01\x03\x04\x08cn=admin\x80\x05secre";
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        for byte in bind.chunks(1) {
            assert!(found.is_empty());
            reader.read(byte, &mut found);
        }
        let told: Vec<_> = found.iter().map(|f| (f.leak, f.span.clone())).collect();
        assert_eq!(told, [("ldap.name", 0..0), ("ldap.password", 0..1)]);
        // The password began four bytes before the last one; the name ended seven before.
        assert_eq!(found[1].earlier, (4, 0));
        assert_eq!(found[0].earlier, (14, 6));
    }

    #[test]
    fn what_is_incomplete_or_undecided_is_pending() {
        let mut reader = Reader::default();
        reader.read(b"US", &mut Vec::new());
        assert_eq!(reader.pending(), 2);
        reader.read(b"ER anne\r\nPASS x", &mut Vec::new());
        assert_eq!(reader.pending(), 6);
        reader.read(b"\r\n", &mut Vec::new());
        assert_eq!(reader.pending(), 0);
        let mut reader = Reader::default();
        reader.read(&[0x9c; 100], &mut Vec::new());
        assert_eq!((reader.pending(), reader.is_done()), (0, true));
    }

    #[test]
    fn an_endless_message_is_given_up_at_the_bound() {
        let mut reader = Reader::default();
        reader.read(b"USER ", &mut Vec::new());
        for _ in 0..20 {
            reader.read(&[b'x'; 1000], &mut Vec::new());
            assert!(reader.pending() <= KEEP);
        }
        assert!(reader.is_done());
    }
}
