//! A cursor over bytes from outside: every step can fail, none can panic.

use std::ops::Range;

/// Reads a payload front to back and knows where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a> {
    whole: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Bytes<'a> {
    /// All of `payload`.
    pub(crate) fn new(payload: &'a [u8]) -> Self {
        Self {
            whole: payload,
            at: 0,
            end: payload.len(),
        }
    }

    /// The bytes not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.whole.get(self.at..self.end).unwrap_or_default()
    }

    /// Whether all is read.
    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.end
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.rest().first_chunk()?;
        self.at += N;
        Some(array)
    }

    /// The next byte.
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let [byte] = self.array()?;
        Some(byte)
    }

    /// The next two bytes, big-endian.
    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// The next two bytes, little-endian.
    pub(crate) fn u16_le(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// The place of the next `length` bytes in the payload, stepping over them.
    pub(crate) fn span(&mut self, length: usize) -> Option<Range<usize>> {
        let start = self.at;
        let end = start.checked_add(length).filter(|&end| end <= self.end)?;
        self.at = end;
        Some(start..end)
    }

    /// A cursor over the next `length` bytes, stepping over them.
    pub(crate) fn sub(&mut self, length: usize) -> Option<Self> {
        let span = self.span(length)?;
        Some(Self {
            whole: self.whole,
            at: span.start,
            end: span.end,
        })
    }

    /// The next byte, left where it is.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest().first().copied()
    }

    /// The next three bytes, big-endian.
    pub(crate) fn u24(&mut self) -> Option<u32> {
        self.array()
            .map(|[a, b, c]| u32::from_be_bytes([0, a, b, c]))
    }

    /// The next four bytes, big-endian.
    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// The next four bytes, little-endian.
    pub(crate) fn u32_le(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// Steps over `length` bytes.
    pub(crate) fn skip(&mut self, length: usize) -> Option<()> {
        self.span(length).map(|_| ())
    }

    /// Steps over these very bytes.
    pub(crate) fn tag(&mut self, expected: &[u8]) -> Option<()> {
        self.rest().starts_with(expected).then_some(())?;
        self.skip(expected.len())
    }

    /// Bytes not read yet.
    pub(crate) fn len(&self) -> usize {
        self.end.saturating_sub(self.at)
    }

    /// Where the next byte lies in the payload.
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// The place of what is not read yet, stepping over it.
    pub(crate) fn remainder(&mut self) -> Range<usize> {
        let span = self.at..self.end;
        self.at = self.end;
        span
    }

    /// The place of the bytes before the next `stop`, stepping over both.
    pub(crate) fn until(&mut self, stop: u8) -> Option<Range<usize>> {
        let length = memchr::memchr(stop, self.rest())?;
        let span = self.span(length)?;
        self.skip(1)?;
        Some(span)
    }

    /// The bytes at a place of the payload.
    pub(crate) fn slice(&self, span: &Range<usize>) -> &'a [u8] {
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

    #[test]
    fn a_part_keeps_its_place_in_the_payload() {
        let mut bytes = Bytes::new(b"..abc..");
        bytes.skip(2);
        let mut part = bytes.sub(3).unwrap();
        assert_eq!(part.rest(), b"abc");
        part.u8();
        assert_eq!(part.span(2), Some(3..5));
        assert_eq!(part.u8(), None);
        assert_eq!(bytes.rest(), b"..");
    }
}
