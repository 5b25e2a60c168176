//! What tells at a glance that a datagram is not of a protocol, so that noise meets few dissectors.

/// A set of byte values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    low: u128,
    high: u128,
}

/// Every datagram that a dissector knows has its first and its fifth byte in these sets.
///
/// The fifth tells apart protocols that begin with a random number; what is shorter counts as if it fitted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    first: Set,
    fifth: Set,
}

impl Set {
    pub(super) const ANY: Self = Self {
        low: u128::MAX,
        high: u128::MAX,
    };

    /// These bytes.
    pub(super) const fn of(bytes: &[u8]) -> Self {
        let (mut set, mut rest) = (Self { low: 0, high: 0 }, bytes);
        while let [byte, tail @ ..] = rest {
            set = set.with(*byte);
            rest = tail;
        }
        set
    }

    /// From one byte to another, both included.
    pub(super) const fn range(from: u8, to: u8) -> Self {
        let (mut set, mut byte) = (Self::of(&[to]), from);
        while byte < to {
            set = set.with(byte);
            byte += 1;
        }
        set
    }

    /// What is in either.
    pub(super) const fn or(self, other: Self) -> Self {
        Self {
            low: self.low | other.low,
            high: self.high | other.high,
        }
    }

    const fn with(self, byte: u8) -> Self {
        let bit = 1 << (byte & 0x7f);
        if byte < 0x80 {
            self.or(Self { low: bit, high: 0 })
        } else {
            self.or(Self { low: 0, high: bit })
        }
    }

    const fn has(self, byte: u8) -> bool {
        let half = if byte < 0x80 { self.low } else { self.high };
        half >> (byte & 0x7f) & 1 == 1
    }
}

impl Shape {
    /// Whatever the first byte is.
    pub(super) const ANY: Self = Self::first(Set::ANY);

    /// With one of these first bytes.
    pub(super) const fn first(first: Set) -> Self {
        Self {
            first,
            fifth: Set::ANY,
        }
    }

    /// With one of these fifth bytes.
    pub(super) const fn fifth(self, fifth: Set) -> Self {
        Self { fifth, ..self }
    }
}

/// By a byte's value, the shapes it fits, as bits by their places in a list.
pub(super) struct Table {
    first: [u64; 256],
    fifth: [u64; 256],
}

impl Table {
    /// Of at most 64 shapes.
    pub(super) const fn new(shapes: &[Shape]) -> Self {
        assert!(shapes.len() <= 64, "more shapes than bits");
        let mut table = Self {
            first: [0; 256],
            fifth: [0; 256],
        };
        let (mut bit, mut rest) = (1, shapes);
        while let [shape, tail @ ..] = rest {
            mark(&mut table.first, shape.first, bit);
            mark(&mut table.fifth, shape.fifth, bit);
            bit <<= 1;
            rest = tail;
        }
        table
    }

    /// The places of the shapes that a datagram fits, in order.
    pub(super) fn fitting(&self, datagram: &[u8]) -> impl Iterator<Item = usize> + use<> {
        let bits = |table: &[u64; 256], byte: Option<&u8>, absent| {
            byte.and_then(|byte| table.get(usize::from(*byte)))
                .map_or(absent, |bits| *bits)
        };
        let mut left =
            bits(&self.first, datagram.first(), 0) & bits(&self.fifth, datagram.get(4), u64::MAX);
        std::iter::from_fn(move || {
            let place = left.trailing_zeros();
            left &= left.checked_sub(1)?;
            Some(place as usize)
        })
    }
}

/// Sets a bit in the place of every byte of a set.
const fn mark(places: &mut [u64; 256], set: Set, bit: u64) {
    let (mut byte, mut rest): (u8, &mut [u64]) = (0, places);
    while let [place, tail @ ..] = rest {
        if set.has(byte) {
            *place |= bit;
        }
        byte = byte.wrapping_add(1);
        rest = tail;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_they_were_given() {
        let set = Set::range(0x7e, 0x81).or(Set::of(b"\0a\xff"));
        let held: Vec<u8> = (0..=255).filter(|byte| set.has(*byte)).collect();
        assert_eq!(held, [0, b'a', 0x7e, 0x7f, 0x80, 0x81, 0xff]);
        assert!((0..=255).all(|byte| Set::ANY.has(byte)));
    }

    #[test]
    fn a_datagram_fits_by_its_first_and_its_fifth_byte() {
        let table = Table::new(&[
            Shape::ANY,
            Shape::first(Set::of(b"a")),
            Shape::ANY.fifth(Set::of(b"e")),
        ]);
        let fitting = |datagram: &[u8]| table.fitting(datagram).collect::<Vec<_>>();
        assert_eq!(fitting(b"abcde"), [0, 1, 2]);
        assert_eq!(fitting(b"bbcdx"), [0]);
        assert_eq!(fitting(b"a"), [0, 1, 2]);
        assert!(fitting(b"").is_empty());
    }
}
