//! What is known of a client's bytes that wait to leave: what was found in them, and whom they ask for.

use super::pass::HOLD;
use crate::names::{self, Shown};
use crate::sanitize::{self, Finding, Sanitizer};
use crate::stack::Connection;
use crate::time::Time;

/// No message is held back that is longer than this, in bytes.
const MESSAGE: usize = 4096;

/// The bytes at the front of the client's ring, as far as they were looked at.
#[derive(Debug, Default)]
pub(super) struct Inspection {
    stream: sanitize::Stream,
    /// So many of them were searched.
    pub(super) cleared: usize,
    /// So many behind the end of the ring, at its beginning, were searched too.
    ahead: usize,
    /// So many behind those are being judged.
    judged: usize,
    /// Reads whom the client asks for, where a rule may want to know.
    names: Option<Box<names::Stream>>,
    /// So many of them were read for names.
    read: usize,
    /// Since when an incomplete message at their end is held back.
    held: Option<Time>,
}

/// What is looked for, and where it goes.
pub(super) struct Look<'a> {
    /// Nothing is searched for without it.
    pub(super) sanitizer: Option<&'a Sanitizer>,
    pub(super) found: &'a mut Vec<Finding>,
    pub(super) shown: &'a mut Vec<Shown>,
    /// The client has said all.
    pub(super) ended: bool,
    pub(super) now: Time,
}

impl Inspection {
    /// Of bytes that are read for names, or not.
    pub(super) fn new(reads_names: bool) -> Self {
        Self {
            names: reads_names.then(Box::default),
            ..Self::default()
        }
    }

    /// How many bytes at the front may leave now. None if something was found or shown, which is left in the look. A
    /// message that is not complete waits a moment, unless the client has ended, so that nothing of what its end may
    /// show has left.
    pub(super) fn ready(&mut self, bytes: &[u8], look: &mut Look<'_>) -> usize {
        if self.read_names(bytes, look.shown) {
            return 0;
        }
        match look.sanitizer {
            Some(sanitizer) => {
                let fresh = bytes.get(self.cleared..).unwrap_or_default();
                if !fresh.is_empty() {
                    sanitizer.stream(&mut self.stream, fresh, look.found);
                    if !look.found.is_empty() {
                        return 0;
                    }
                }
            }
            None => self.stream = sanitize::Stream::default(),
        }
        self.cleared = bytes.len();
        let end = self.cleared + self.ahead;
        let unnamed = self.names.as_ref().map_or(0, |names| names.pending());
        let pending = match look.ended {
            true => 0,
            false => self.stream.pending().max(unnamed).min(end),
        };
        let over = |since: Time| look.now.since(since) >= HOLD;
        let over = self.held.is_some_and(over);
        self.held = match pending {
            0 => None,
            _ => self.held.or(Some(look.now)),
        };
        if over {
            self.cleared
        } else {
            (end - pending).min(self.cleared)
        }
    }

    /// A message that goes on where the ring begins anew cannot be seen whole from its end: reads on there, so that
    /// nothing of it leaves before the rest is judged. True if there was more.
    pub(super) fn read_on(&mut self, connection: &mut Connection, look: &mut Look<'_>) -> bool {
        let from = self.cleared + self.ahead;
        let more = connection.queued().saturating_sub(from).min(MESSAGE);
        let Some(sanitizer) = look.sanitizer.filter(|_| more > 0 && from <= MESSAGE) else {
            return false;
        };
        let mut bytes = vec![0; from + more];
        let copied = connection.peek(&mut bytes);
        let fresh = bytes.get(from..copied).unwrap_or_default();
        sanitizer.stream(&mut self.stream, fresh, look.found);
        self.judged = fresh.len();
        if look.found.is_empty() {
            self.judge(self.cleared);
        }
        !fresh.is_empty()
    }

    /// Where the bytes begin that were looked at last.
    pub(super) fn chunk(&self) -> usize {
        self.cleared + self.ahead
    }

    /// What was found may leave: so many bytes at the front are searched, and those behind the ring's end.
    pub(super) fn judge(&mut self, front: usize) {
        self.cleared = front;
        self.ahead += std::mem::take(&mut self.judged);
    }

    /// Reads on for names; true if any was shown.
    pub(super) fn read_names(&mut self, bytes: &[u8], shown: &mut Vec<Shown>) -> bool {
        if let Some(names) = &mut self.names {
            names.read(bytes.get(self.read..).unwrap_or_default(), shown);
            self.read = bytes.len();
            if names.is_done() {
                self.names = None;
            }
        }
        !shown.is_empty()
    }

    /// More bytes may show the first name.
    pub(super) fn is_waiting(&self) -> bool {
        self.names.as_ref().is_some_and(|names| names.is_waiting())
    }

    /// The client's bytes were taken.
    pub(super) fn taken(&mut self, bytes: usize) {
        self.cleared = self.cleared.saturating_sub(bytes);
        self.read = self.read.saturating_sub(bytes);
        if self.cleared == 0 {
            self.cleared = std::mem::take(&mut self.ahead);
        }
    }
}
