//! Out of losses without the terminator's clock, which is not shorter than a second. It sends one segment again when the
//! same is acknowledged three times, and waits for the clock where more is missing, or nothing comes any more. Here it is
//! told of such acknowledgements once more: for each further segment that a recovery finds missing (RFC 6582), and when
//! what is under way stays unacknowledged for longer than its round trip (RFC 8985, section 7).

use super::stretch::{HEADERS, acknowledgement};
use crate::packet::{Parsed, Tcp, Transport};
use crate::time::Time;
use std::time::Duration;

/// So many acknowledgements of the same have the first missing segment sent again (RFC 5681, section 3.2).
const SAME: u8 = 3;
/// Silence is at least so long before it says anything.
const SILENCE: Duration = Duration::from_millis(10);
/// A receiver may keep the acknowledgement of a single segment back (RFC 8985, section 7.2).
const KEPT_BACK: Duration = Duration::from_millis(200);
/// Times that silence is broken, each after twice as long, before it is left to the clock.
const ATTEMPTS: u32 = 4;

/// What is known of the segments of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recovery {
    /// The last acknowledgement, alone.
    last: Option<([u8; HEADERS], Parsed)>,
    acknowledged: u32,
    /// Where what was sent ends.
    sent: Option<u32>,
    same: u8,
    /// What had been sent when something was found missing.
    until: Option<u32>,
    /// Since when nothing new was acknowledged.
    since: Time,
    attempts: u32,
}

impl Recovery {
    pub(super) fn new(now: Time) -> Self {
        Self {
            last: None,
            acknowledged: 0,
            sent: None,
            same: 0,
            until: None,
            since: now,
            attempts: 0,
        }
    }

    /// A segment of ours to `port` leaves; those of others are none of its business.
    pub(super) fn leaves(&mut self, packet: &[u8], ports: (u16, u16), now: Time) {
        let Some((end, found)) = end(packet) else {
            return;
        };
        if found != ports {
            return;
        }
        if self.outstanding() == 0 {
            self.since = now;
        }
        if self.sent.is_none_or(|sent| is_behind(sent, end)) {
            self.sent = Some(end);
        }
    }

    /// Takes note of a segment that the terminator has taken. True if it is to be told that something is missing.
    pub(super) fn heard(&mut self, bytes: &[u8], parsed: &Parsed, now: Time) -> bool {
        let Transport::Tcp(header) = parsed.transport else {
            return false;
        };
        if header.flags & Tcp::ACK == 0 || header.flags & (Tcp::RST | Tcp::SYN) != 0 {
            return false;
        }
        let new = self.last.is_none() || is_behind(self.acknowledged, header.ack);
        if !new && header.ack != self.acknowledged {
            return false;
        }
        self.keep(bytes, parsed, &header);
        if new {
            (self.acknowledged, self.same) = (header.ack, 0);
            (self.since, self.attempts) = (now, 0);
            self.until = self.until.filter(|until| is_behind(header.ack, *until));
            return self.until.is_some();
        }
        if parsed.len > header.payload || self.outstanding() == 0 {
            return false;
        }
        self.same = self.same.saturating_add(1);
        if self.same != SAME || self.until.is_some() {
            return false;
        }
        self.until = self.sent;
        true
    }

    /// When silence has lasted too long, if anything is under way. `round` is how long a round trip takes, `mss` the bytes
    /// of a segment.
    pub(super) fn due(&self, round: Duration, mss: usize) -> Option<Time> {
        let outstanding = self.outstanding();
        if outstanding == 0 || self.attempts >= ATTEMPTS || self.last.is_none() {
            return None;
        }
        let mut silence = (2 * round).max(SILENCE);
        if outstanding as usize <= mss {
            silence += KEPT_BACK;
        }
        Some(self.since + silence * (1 << self.attempts))
    }

    /// Nothing came for too long.
    pub(super) fn is_silent(&mut self) {
        self.attempts += 1;
        self.until = self.sent;
    }

    /// Hands out what has the terminator send the first missing segment again: what was acknowledged last, with a window
    /// that differs, so that it counts anew, and then the same as often as it wants to hear it.
    pub(super) fn tell(&mut self, mut each: impl FnMut(&mut [u8], &Parsed)) {
        let Some((buffer, parsed)) = &mut self.last else {
            return;
        };
        let window = buffer
            .get_mut(parsed.ip_len + 14..)
            .and_then(|rest| rest.first_chunk_mut());
        if let Some(window) = window {
            let other = match u16::from_be_bytes(*window) {
                0 => 1,
                window => window - 1,
            };
            *window = other.to_be_bytes();
        }
        for _ in 0..=SAME {
            if let Some(bytes) = buffer.get_mut(..parsed.len) {
                each(bytes, parsed);
            }
        }
    }

    /// Bytes under way.
    fn outstanding(&self) -> u32 {
        match self.sent {
            Some(sent) if self.last.is_some() && is_behind(self.acknowledged, sent) => {
                sent.wrapping_sub(self.acknowledged)
            }
            _ => 0,
        }
    }

    fn keep(&mut self, bytes: &[u8], parsed: &Parsed, header: &Tcp) {
        let mut buffer = [0; HEADERS];
        let headers = bytes.get(..header.payload);
        let room = headers.and_then(|headers| buffer.get_mut(..headers.len()));
        if let (Some(headers), Some(room)) = (headers, room) {
            room.copy_from_slice(headers);
            let parsed = acknowledgement(room, parsed, header, header.ack);
            self.last = parsed.map(|parsed| (buffer, parsed));
        }
    }
}

/// Whether `a` comes before `b` (RFC 9293, section 3.4).
fn is_behind(a: u32, b: u32) -> bool {
    (1..1 << 31).contains(&b.wrapping_sub(a))
}

/// Where a segment of ours ends, and its ports.
fn end(packet: &[u8]) -> Option<(u32, (u16, u16))> {
    let tcp = match packet.first()? >> 4 {
        4 => packet.get(usize::from(packet.first()? & 15) * 4..)?,
        _ => packet.get(40..)?,
    };
    let word = |at: usize| Some(u16::from_be_bytes(*tcp.get(at..)?.first_chunk()?));
    let seq = u32::from_be_bytes(*tcp.get(4..)?.first_chunk()?);
    let payload = tcp.len().checked_sub(usize::from(tcp.get(12)? >> 4) * 4)?;
    let flags = *tcp.get(13)?;
    let more = u32::from(flags & Tcp::SYN != 0) + u32::from(flags & Tcp::FIN != 0);
    let end = seq.wrapping_add(payload as u32).wrapping_add(more);
    Some((end, (word(0)?, word(2)?)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

    use super::*;
    use crate::packet::Checksum;
    use crate::packet::checksum::{self, Sum};

    const PORTS: (u16, u16) = (0xc000, 9);
    const ROUND: Duration = Duration::from_millis(20);

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    /// A segment of ours from `seq` on, or the peer's acknowledgement of `ack`.
    fn segment(ours: bool, number: u32, payload: usize) -> Vec<u8> {
        let len = u16::try_from(40 + payload).unwrap().to_be_bytes();
        let mut bytes = vec![0x45, 0, len[0], len[1], 0, 0, 0, 0, 64, 6, 0, 0];
        bytes.extend([198, 51, 100, 1, 10, 9, 0, 2]);
        let sum = Sum::of(&bytes).finish();
        checksum::put(&mut bytes, 10, sum);
        let (ports, field) = match ours {
            true => ([0xc0, 0, 0, 9], 4),
            false => ([0, 9, 0xc0, 0], 8),
        };
        let mut tcp = [0; 20];
        tcp[..4].copy_from_slice(&ports);
        tcp[field..field + 4].copy_from_slice(&number.to_be_bytes());
        (tcp[12], tcp[13], tcp[14]) = (0x50, 0x10, 1);
        bytes.extend(tcp);
        bytes.extend(vec![7; payload]);
        bytes
    }

    fn heard(recovery: &mut Recovery, ack: u32, ms: u64) -> bool {
        let bytes = segment(false, ack, 0);
        let parsed = Parsed::read(&bytes, Checksum::Trust).unwrap();
        recovery.heard(&bytes, &parsed, at(ms))
    }

    /// One that has sent ten segments of a hundred bytes from 1000 on.
    fn busy() -> Recovery {
        let mut recovery = Recovery::new(at(0));
        assert!(!heard(&mut recovery, 1000, 0));
        for number in 0..10 {
            recovery.leaves(&segment(true, 1000 + 100 * number, 100), PORTS, at(1));
        }
        recovery
    }

    #[test]
    fn each_further_missing_segment_is_told_of_and_only_until_all_is_repaired() {
        let mut recovery = busy();
        assert!(!heard(&mut recovery, 1200, 2));
        let told = [0; 4].map(|_| heard(&mut recovery, 1200, 3));
        assert_eq!(told, [false, false, true, false]);
        recovery.leaves(&segment(true, 2000, 100), PORTS, at(4));
        assert!(heard(&mut recovery, 1500, 5), "more is missing");
        assert!(heard(&mut recovery, 1900, 6), "and more");
        assert!(!heard(&mut recovery, 2000, 7), "that was all");
        assert!(!heard(&mut recovery, 2100, 8));
    }

    #[test]
    fn silence_is_broken_soon_and_then_less_and_less_often() {
        let mut recovery = busy();
        assert_eq!(recovery.due(ROUND, 100), Some(at(41)));
        recovery.is_silent();
        assert_eq!(recovery.due(ROUND, 100), Some(at(81)));
        assert!(
            heard(&mut recovery, 1100, 50),
            "that was missing, and more is"
        );
        assert_eq!(recovery.due(ROUND, 100), Some(at(90)));
        assert!(heard(&mut recovery, 1900, 60));
        // The last one alone may be kept back.
        assert_eq!(recovery.due(ROUND, 100), Some(at(300)));
        for _ in 0..ATTEMPTS {
            assert!(recovery.due(ROUND, 100).is_some());
            recovery.is_silent();
        }
        assert_eq!(recovery.due(ROUND, 100), None, "the clock has it");
        assert!(!heard(&mut recovery, 2000, 70));
        assert_eq!(recovery.due(ROUND, 100), None, "nothing is under way");
    }

    #[test]
    fn what_is_told_is_the_last_acknowledgement_with_another_window() {
        let mut recovery = busy();
        let mut told = Vec::new();
        recovery.tell(|bytes, parsed| {
            assert_eq!(Parsed::read(bytes, Checksum::Trust).unwrap(), *parsed);
            told.push((bytes[28..32].to_vec(), bytes[34..36].to_vec()));
        });
        let one = (
            1000u32.to_be_bytes().to_vec(),
            255u16.to_be_bytes().to_vec(),
        );
        assert_eq!(told, vec![one; 4]);
    }

    #[test]
    fn segments_of_others_and_old_ones_change_nothing() {
        let mut recovery = busy();
        recovery.leaves(&segment(true, 9000, 100), (1, 2), at(2));
        assert_eq!(recovery.outstanding(), 1000);
        assert!(!heard(&mut recovery, 1500, 3) && !heard(&mut recovery, 1400, 4));
        assert_eq!(recovery.outstanding(), 500);
        recovery.leaves(&[0x45], PORTS, at(5));
        recovery.leaves(&[], PORTS, at(5));
        assert_eq!(recovery.outstanding(), 500);
    }
}
