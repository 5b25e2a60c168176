//! Packets for the inside, until the shell has written them to the link.

use crate::packet::{Offload, offload};
use std::collections::VecDeque;
use std::ops::Range;

/// A bounded store of packets, each with its offload header in front, ready for one `write`.
#[derive(Debug)]
pub struct Outbox {
    bytes: Box<[u8]>,
    used: usize,
    packets: VecDeque<Range<usize>>,
}

/// The largest entry: an offload header and an IP packet.
const LARGEST: usize = offload::LEN + 65_535;
/// Room for a few super-packets, small enough to stay in the second-level cache.
const CAPACITY: usize = 4 * LARGEST;

impl Outbox {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; CAPACITY].into_boxed_slice(),
            used: 0,
            packets: VecDeque::with_capacity(64),
        }
    }

    /// True if a packet of any size fits.
    pub fn has_room(&self) -> bool {
        self.bytes.len() - self.used >= LARGEST
    }

    /// Room for a packet of `len` bytes, to be written and then [committed](Self::commit); `None` if it does not fit.
    pub fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        let start = self.used + offload::LEN;
        self.bytes.get_mut(start..start + len)
    }

    /// Adds the packet of `len` bytes that was just written into [`room`](Self::room).
    pub fn commit(&mut self, len: usize, offload: Offload) {
        let end = self.used + offload::LEN + len;
        let Some(header) = self.bytes.get_mut(self.used..self.used + offload::LEN) else {
            return;
        };
        header.copy_from_slice(&offload.encode());
        self.packets.push_back(self.used..end);
        self.used = end;
    }

    /// Adds a finished packet whose checksums are full; false if it does not fit.
    pub fn add(&mut self, packet: &[u8]) -> bool {
        let Some(room) = self.room(packet.len()) else {
            return false;
        };
        room.copy_from_slice(packet);
        self.commit(packet.len(), Offload::default());
        true
    }

    /// The oldest packet, offload header first.
    pub fn take(&mut self) -> Option<&[u8]> {
        let Some(range) = self.packets.pop_front() else {
            self.used = 0;
            return None;
        };
        self.bytes.get(range)
    }

    /// True without any packet.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

impl Default for Outbox {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_come_out_in_order_with_their_header_and_room_is_given_back() {
        let mut outbox = Outbox::new();
        for round in 0..3 {
            assert!(outbox.add(&[round; 20]));
            outbox.room(3).unwrap().fill(7);
            outbox.commit(
                3,
                Offload {
                    partial_checksum: true,
                    ..Offload::default()
                },
            );
            assert_eq!(outbox.take().unwrap()[offload::LEN..], [round; 20]);
            let second = outbox.take().unwrap();
            assert_eq!(
                Offload::decode(second).map(|o| o.partial_checksum),
                Some(true)
            );
            assert_eq!(second[offload::LEN..], [7; 3]);
            assert!(outbox.take().is_none());
        }
        assert_eq!(outbox.used, 0);
    }

    #[test]
    fn a_full_outbox_refuses_and_keeps_what_it_holds() {
        let mut outbox = Outbox::new();
        let mut added = 0;
        while outbox.add(&[1; 60_000]) {
            added += 1;
        }
        assert!(added >= 4 && !outbox.has_room());
        assert_eq!(
            std::iter::from_fn(|| outbox.take().map(<[u8]>::len)).count(),
            added
        );
        assert!(outbox.take().is_none() && outbox.has_room());
    }
}
