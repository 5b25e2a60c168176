//! The bytes of one direction of a captured TCP connection in order, however segments were lost, repeated or swapped.

use std::collections::BTreeMap;

/// Most bytes and segments held for one direction until a gap before them is filled.
const MOST_BYTES: usize = 64 << 10;
const MOST_SEGMENTS: usize = 64;
/// A segment further ahead than this does not belong to the connection.
const WINDOW: u32 = 1 << 30;

/// What is known of one direction.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    /// Sequence number of the next byte; none before the first segment.
    next: Option<u32>,
    /// Segments ahead of a gap: by their distance from the first sequence number seen.
    waiting: BTreeMap<u32, (u64, Vec<u8>)>,
    held: usize,
    /// What `waiting` counts from.
    base: u32,
}

impl Assembly {
    /// The next byte will have this number.
    pub(super) fn start(&mut self, sequence: u32) {
        self.next = Some(sequence);
        self.base = sequence;
        self.waiting.clear();
        self.held = 0;
    }

    /// Bytes held until a gap before them is filled.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes a segment of the frame `number` and calls `each` with whatever is in order now, frame by frame. A gap that
    /// does not fill within the bounds is stepped over: the capture has lost it.
    pub(super) fn take(
        &mut self,
        sequence: u32,
        payload: &[u8],
        number: u64,
        mut each: impl FnMut(u64, &[u8]),
    ) {
        if payload.is_empty() {
            return;
        }
        let next = match self.next {
            Some(next) => next,
            None => {
                self.start(sequence);
                sequence
            }
        };
        let ahead = sequence.wrapping_sub(next);
        if ahead == 0 || ahead > u32::MAX - WINDOW {
            let old = next.wrapping_sub(sequence) as usize;
            if let Some(new) = payload.get(old..).filter(|new| !new.is_empty()) {
                self.advance(new.len());
                each(number, new);
            }
        } else if ahead < WINDOW {
            let key = sequence.wrapping_sub(self.base);
            let known = self.waiting.insert(key, (number, payload.to_vec()));
            self.held += payload.len();
            self.held -= known.map_or(0, |(_, old)| old.len());
        }
        self.release(&mut each);
    }

    fn advance(&mut self, length: usize) {
        if let Some(next) = &mut self.next {
            *next = next.wrapping_add(length as u32);
        }
    }

    /// Hands out what has become contiguous; beyond the bounds, what comes after the first gap.
    fn release(&mut self, each: &mut impl FnMut(u64, &[u8])) {
        while let (Some(next), Some((&key, _))) = (self.next, self.waiting.first_key_value()) {
            let distance = next.wrapping_sub(self.base);
            let full = self.held > MOST_BYTES || self.waiting.len() > MOST_SEGMENTS;
            if key > distance && !full {
                return;
            }
            let Some((_, (number, segment))) = self.waiting.pop_first() else {
                return;
            };
            self.held -= segment.len();
            if key > distance {
                self.next = Some(self.base.wrapping_add(key));
            }
            let old = distance.saturating_sub(key) as usize;
            if let Some(new) = segment.get(old..).filter(|new| !new.is_empty()) {
                self.advance(new.len());
                each(number, new);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assemble(start: u32, segments: &[(u32, &[u8])]) -> Vec<u8> {
        let mut assembly = Assembly::default();
        assembly.start(start);
        let mut all = Vec::new();
        for (sequence, payload) in segments {
            assembly.take(*sequence, payload, 1, |_, bytes| {
                all.extend_from_slice(bytes)
            });
        }
        all
    }

    #[test]
    fn swapped_repeated_and_overlapping_segments_come_in_order_once() {
        let segments: [(u32, &[u8]); 5] = [
            (4, b"def"),
            (1, b"abc"),
            (1, b"abc"),
            (3, b"cdefg"),
            (8, b"hi"),
        ];
        assert_eq!(assemble(1, &segments), b"abcdefghi");
    }

    #[test]
    fn sequence_numbers_wrap() {
        let segments: [(u32, &[u8]); 2] = [(1, b"cd"), (u32::MAX, b"ab")];
        assert_eq!(assemble(u32::MAX, &segments), b"abcd");
    }

    #[test]
    fn a_lost_segment_is_stepped_over_at_the_bound() {
        let mut assembly = Assembly::default();
        assembly.start(0);
        let mut seen = 0;
        for index in 0..200_u32 {
            assembly.take(10 + index * 1000, &[7; 1000], 1, |_, bytes| {
                seen += bytes.len()
            });
            assert!(assembly.held <= MOST_BYTES + 1000);
        }
        assert!(seen > 100_000);
    }
}
