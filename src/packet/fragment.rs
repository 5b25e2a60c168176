//! Reassembly of IPv4 and IPv6 fragments within bounds; any overlap refuses the datagram (RFC 5722; the same for IPv4).
use super::Parsed;
use crate::time::Time;

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Datagrams under way.
    pub datagrams: usize,
    /// Datagrams under way of one source.
    pub per_source: usize,
    /// Bytes held in all.
    pub bytes: usize,
    /// How long the first fragment waits for the last.
    pub timeout: std::time::Duration,
}

/// Why a fragment was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// It overlaps one that is held; the whole datagram is dropped.
    Overlap,
    // …
}

/// Datagrams under way.
#[derive(Debug)]
pub struct Reassembler {}

impl Reassembler {
    /// An empty one.
    pub fn new(_limits: Limits) -> Self {
        todo!()
    }

    /// Takes a fragment; returns the whole packet, unfragmented (IPv6: without the fragment header), when it was the last.
    ///
    /// # Errors
    /// [`Refused`] when a bound or an overlap forbids it.
    pub fn take(
        &mut self,
        _parsed: &Parsed,
        _bytes: &[u8],
        _now: Time,
    ) -> Result<Option<Vec<u8>>, Refused> {
        todo!()
    }

    /// Forgets what has waited too long; returns how many datagrams.
    pub fn expire(&mut self, _now: Time) -> usize {
        todo!()
    }
}
