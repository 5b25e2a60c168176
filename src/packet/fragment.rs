//! Reassembly of IPv4 and IPv6 fragments within bounds; any overlap refuses the datagram (RFC 5722; the same for IPv4).
use super::checksum::{self, Sum};
use super::parse::IPV6_LEN;
use super::{Fragment, MAX_LEN, Parsed, Transport};
use crate::time::Time;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Datagrams under way.
    pub datagrams: usize,
    /// Datagrams under way of one source.
    pub per_source: usize,
    /// Bytes held in all; each fragment counts 64 more than its data.
    pub bytes: usize,
    /// How long the first fragment waits for the last.
    pub timeout: std::time::Duration,
}

/// Why a fragment was not taken. Each has a stable name for counters and events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// It overlaps one that is held; the whole datagram is dropped.
    Overlap,
    /// It ends elsewhere, or lies beyond the end, than another says; the whole datagram is dropped.
    Inconsistent,
    /// Its datagram was dropped before; what comes later is dropped with it (RFC 5722, section 4), until the timeout.
    Dropped,
    /// Too many datagrams are under way.
    Datagrams,
    /// Too many datagrams of this source are under way.
    DatagramsPerSource,
    /// Too many bytes are held; the whole datagram is dropped.
    Bytes,
    /// The datagram would be longer than a packet can be; it is dropped.
    TooLong,
    /// It is no fragment.
    NotFragment,
}

/// Datagrams under way.
#[derive(Debug)]
pub struct Reassembler {
    limits: Limits,
    /// Sorted by source first: those of one source are counted in passing, and no hash can be attacked.
    datagrams: BTreeMap<Key, Datagram>,
    /// Bytes held by all datagrams.
    held: usize,
    /// Nothing has waited too long before this moment.
    due: Option<Time>,
    /// Datagrams that were forgotten for their age and not yet reported.
    forgotten: usize,
}

/// What makes fragments parts of one datagram (RFC 791, section 3.2). IPv6 has no protocol there (RFC 8200, section
/// 4.5), but an honest sender does not mix them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    protocol: u8,
}

#[derive(Debug)]
struct Datagram {
    since: Time,
    /// False once it was dropped; kept to refuse the fragments that are still to come.
    alive: bool,
    /// Everything before the data, from the first fragment, without the fragment header.
    header: Vec<u8>,
    /// Offset to data.
    pieces: BTreeMap<usize, Box<[u8]>>,
    /// Bytes of data in all pieces.
    data: usize,
    /// Length of the whole, once the last fragment is here.
    end: Option<usize>,
    /// What it counts against [`Limits::bytes`].
    held: usize,
}

/// Counted for each piece beside its data.
const PIECE: usize = 64;

impl Refused {
    /// The stable name, for counters and events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlap => "fragment-overlap",
            Self::Inconsistent => "fragment-inconsistent",
            Self::Dropped => "fragment-of-dropped",
            Self::Datagrams => "fragment-datagrams",
            Self::DatagramsPerSource => "fragment-datagrams-per-source",
            Self::Bytes => "fragment-bytes",
            Self::TooLong => "fragment-too-long",
            Self::NotFragment => "not-a-fragment",
        }
    }
}

impl Reassembler {
    /// An empty one.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            datagrams: BTreeMap::new(),
            held: 0,
            due: None,
            forgotten: 0,
        }
    }

    /// Takes a fragment; returns the whole packet, unfragmented (IPv6: without the fragment header), when it was the last.
    /// Nobody has read that packet: it goes through [`Parsed::read`] with [`Checksum::Verify`](super::Checksum::Verify).
    ///
    /// # Errors
    /// [`Refused`] when a bound or an overlap forbids it.
    pub fn take(
        &mut self,
        parsed: &Parsed,
        bytes: &[u8],
        now: Time,
    ) -> Result<Option<Vec<u8>>, Refused> {
        let Transport::Fragment(fragment) = parsed.transport else {
            return Err(Refused::NotFragment);
        };
        self.forget_old(now);
        let data = parsed.payload(bytes);
        if fragment.offset == 0 && !fragment.more {
            // An atomic fragment has nothing to do with others of its identification (RFC 6946).
            return rebuild(header(parsed, bytes), [data].into_iter()).map(Some);
        }
        let key = Key {
            src: parsed.src,
            dst: parsed.dst,
            id: fragment.id,
            protocol: parsed.protocol,
        };
        self.admit(key, now)?;
        let room = self.limits.bytes.saturating_sub(self.held);
        let Some(datagram) = self.datagrams.get_mut(&key) else {
            return Err(Refused::Datagrams);
        };
        let before = datagram.held;
        let header = match fragment.offset {
            0 => header(parsed, bytes),
            _ => Vec::new(),
        };
        let added = datagram.add(fragment, header, data, room);
        if added.is_err() {
            datagram.drop_pieces();
        }
        let complete = added.is_ok() && datagram.is_complete();
        self.held = self.held - before + datagram.held;
        added?;
        if !complete {
            return Ok(None);
        }
        let Some(whole) = self.remove(&key) else {
            return Ok(None);
        };
        rebuild(whole.header, whole.pieces.values().map(|piece| &**piece)).map(Some)
    }

    /// Forgets what has waited too long; returns how many datagrams, since the last call, will never be whole.
    pub fn expire(&mut self, now: Time) -> usize {
        self.forget_old(now);
        std::mem::take(&mut self.forgotten)
    }

    /// When to call [`expire`](Self::expire) next; `None` if nothing is held. Nothing need have expired then.
    pub fn next(&self) -> Option<Time> {
        self.due
    }

    /// How many datagrams are under way, dropped ones that are still remembered among them.
    pub fn datagrams(&self) -> usize {
        self.datagrams.len()
    }

    /// How many bytes are held, counted as [`Limits::bytes`] says.
    pub fn bytes(&self) -> usize {
        self.held
    }

    /// Makes room for a datagram unless it is under way already.
    fn admit(&mut self, key: Key, now: Time) -> Result<(), Refused> {
        if self.datagrams.contains_key(&key) {
            return Ok(());
        }
        if self.datagrams.len() >= self.limits.datagrams {
            return Err(Refused::Datagrams);
        }
        let first = Key {
            dst: Ipv4Addr::UNSPECIFIED.into(),
            id: 0,
            protocol: 0,
            ..key
        };
        let of_source = self
            .datagrams
            .range(first..)
            .take_while(|(other, _)| other.src == key.src);
        if of_source.count() >= self.limits.per_source {
            return Err(Refused::DatagramsPerSource);
        }
        self.datagrams.insert(key, Datagram::new(now));
        self.due.get_or_insert(now + self.limits.timeout);
        Ok(())
    }

    fn remove(&mut self, key: &Key) -> Option<Datagram> {
        let datagram = self.datagrams.remove(key)?;
        self.held -= datagram.held;
        if self.datagrams.is_empty() {
            self.due = None;
        }
        Some(datagram)
    }

    fn forget_old(&mut self, now: Time) {
        if self.due.is_none_or(|due| now < due) {
            return;
        }
        let timeout = self.limits.timeout;
        let (held, forgotten) = (&mut self.held, &mut self.forgotten);
        self.datagrams.retain(|_, datagram| {
            let young = now < datagram.since + timeout;
            if !young {
                *held -= datagram.held;
                *forgotten += usize::from(datagram.alive);
            }
            young
        });
        let oldest = self.datagrams.values().map(|d| d.since).min();
        self.due = oldest.map(|since| since + timeout);
    }
}

impl Datagram {
    fn new(since: Time) -> Self {
        Self {
            since,
            alive: true,
            header: Vec::new(),
            pieces: BTreeMap::new(),
            data: 0,
            end: None,
            held: 0,
        }
    }

    /// Adds a piece that costs at most `room`. After an error the datagram can never be whole.
    fn add(
        &mut self,
        fragment: Fragment,
        header: Vec<u8>,
        data: &[u8],
        room: usize,
    ) -> Result<(), Refused> {
        if !self.alive {
            return Err(Refused::Dropped);
        }
        let start = usize::from(fragment.offset);
        let stop = start + data.len();
        let before = self.pieces.range(..=start).next_back();
        let after = self.pieces.range(start..).next();
        if before.is_some_and(|(at, piece)| at + piece.len() > start)
            || after.is_some_and(|(at, _)| *at < stop)
        {
            return Err(Refused::Overlap);
        }
        match (fragment.more, self.end) {
            (true, Some(end)) if stop > end => return Err(Refused::Inconsistent),
            (false, Some(_)) => return Err(Refused::Inconsistent),
            // Pieces do not overlap, so one that comes after this lies beyond its end.
            (false, None) if after.is_some() => return Err(Refused::Inconsistent),
            (false, None) => self.end = Some(stop),
            (true, _) => {}
        }
        let cost = PIECE + header.len() + data.len();
        if cost > room {
            return Err(Refused::Bytes);
        }
        if start == 0 {
            self.header = header;
        }
        self.held += cost;
        self.data += data.len();
        self.pieces.insert(start, data.into());
        Ok(())
    }

    /// As no pieces overlap and none lies beyond the end, they are whole when they are as long as the whole.
    fn is_complete(&self) -> bool {
        self.end == Some(self.data)
    }

    fn drop_pieces(&mut self) {
        *self = Self {
            alive: false,
            ..Self::new(self.since)
        };
    }
}

/// Everything before the data of a first fragment, as it is in the whole packet: an IPv6 fragment header is taken out.
fn header(parsed: &Parsed, bytes: &[u8]) -> Vec<u8> {
    if parsed.src.is_ipv4() {
        return bytes.get(..parsed.ip_len).unwrap_or_default().to_vec();
    }
    let len = parsed.ip_len.saturating_sub(8);
    let mut header = bytes.get(..len).unwrap_or_default().to_vec();
    // The last next-header field before the fragment header.
    let (mut field, mut at) = (6, IPV6_LEN);
    while at < len {
        field = at;
        at += 8 + usize::from(header.get(at + 1).copied().unwrap_or(0)) * 8;
    }
    if let Some(next) = header.get_mut(field) {
        *next = parsed.protocol;
    }
    header
}

/// Puts the pieces, in order, behind the header, and makes its length, fragment fields and checksum right.
fn rebuild<'a>(
    mut packet: Vec<u8>,
    pieces: impl Iterator<Item = &'a [u8]> + Clone,
) -> Result<Vec<u8>, Refused> {
    let header = packet.len();
    let len = header + pieces.clone().map(<[u8]>::len).sum::<usize>();
    if len > MAX_LEN {
        return Err(Refused::TooLong);
    }
    packet.reserve_exact(len - header);
    for piece in pieces {
        packet.extend_from_slice(piece);
    }
    if packet.first().is_some_and(|first| first >> 4 == 4) {
        checksum::put(&mut packet, 2, len as u16);
        checksum::put(&mut packet, 6, 0);
        checksum::put(&mut packet, 10, 0);
        let sum = Sum::of(packet.get(..header).unwrap_or_default()).finish();
        checksum::put(&mut packet, 10, sum);
    } else {
        checksum::put(&mut packet, 4, (len - IPV6_LEN.min(len)) as u16);
    }
    Ok(packet)
}

#[cfg(test)]
mod tests;
