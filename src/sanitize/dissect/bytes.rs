//! A cursor over bytes from outside: every step can fail, none can panic.

use std::ops::Range;

/// Reads a payload front to back and knows where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a> {
    whole: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Bytes<'a> {
    /// All of `payload`.
    pub(super) fn new(payload: &'a [u8]) -> Self {
        Self {
            whole: payload,
            at: 0,
            end: payload.len(),
        }
    }

    /// The bytes not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.whole.get(self.at..self.end).unwrap_or_default()
    }

    /// Whether all is read.
    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.rest().first_chunk()?;
        self.at += N;
        Some(array)
    }

    /// The next byte.
    pub(super) fn u8(&mut self) -> Option<u8> {
        let [byte] = self.array()?;
        Some(byte)
    }

    /// The next two bytes, big-endian.
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next two bytes, little-endian.
    pub(super) fn u16_le(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// The place of the next `length` bytes in the payload, stepping over them.
    pub(super) fn span(&mut self, length: usize) -> Option<Range<usize>> {
        let start = self.at;
        let end = start.checked_add(length).filter(|&end| end <= self.end)?;
        self.at = end;
        Some(start..end)
    }

    /// The bytes at a place of the payload.
    pub(super) fn slice(&self, span: &Range<usize>) -> &'a [u8] {
        self.whole.get(span.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_past_the_end_fails_and_moves_nothing() {
        let mut bytes = Bytes::new(&[1, 2, 3]);
        assert_eq!(bytes.u16(), Some(0x0102));
        assert_eq!(bytes.u16(), None);
        assert_eq!(bytes.span(2), None);
        assert_eq!(bytes.span(usize::MAX), None);
        assert_eq!(bytes.u8(), Some(3));
        assert!(bytes.is_empty());
    }
}
