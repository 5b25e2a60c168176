//! Lines, words and headers of text protocols.

use std::ops::Range;

/// The first line without its end (CRLF or LF), and how many bytes it takes with it; `None` if it has no end yet.
pub(crate) fn line(text: &[u8]) -> Option<(&[u8], usize)> {
    let end = memchr::memchr(b'\n', text)?;
    let line = text.get(..end)?;
    Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1))
}

/// Every line with its place, without line ends; the last one may be incomplete.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let start = at;
        let (line, taken) = line(rest).unwrap_or((rest, rest.len()));
        at += taken;
        Some((start, line))
    })
}

/// The place of `line` without surrounding blanks, where the line begins at `start`.
pub(crate) fn trimmed(line: &[u8], start: usize) -> Range<usize> {
    let front = line.len() - line.trim_ascii_start().len();
    let length = line.trim_ascii().len();
    start + front..start + front + length
}

/// The value of a header line `name: value` with its place; names compare without case.
pub(crate) fn header(line: &[u8], start: usize) -> Option<(&[u8], Range<usize>)> {
    let colon = memchr::memchr(b':', line)?;
    let (name, value) = line.split_at_checked(colon)?;
    let value = value.get(1..)?;
    Some((name.trim_ascii(), trimmed(value, start + colon + 1)))
}

/// Words parted by blanks, with their places.
pub(crate) fn words(text: &[u8], start: usize) -> impl Iterator<Item = (Range<usize>, &[u8])> {
    let mut at = 0;
    text.split(|byte| *byte == b' ' || *byte == b'\t')
        .map(move |word| {
            let from = start + at;
            at += word.len() + 1;
            (from..from + word.len(), word)
        })
        .filter(|(_, word)| !word.is_empty())
}

/// Where `needle` begins in `text`, without case.
pub(crate) fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, rest) = needle.split_first()?;
    let (lower, upper) = (first.to_ascii_lowercase(), first.to_ascii_uppercase());
    memchr::memchr2_iter(lower, upper, text).find(|at| {
        text.get(at + 1..at + needle.len())
            .is_some_and(|found| found.eq_ignore_ascii_case(rest))
    })
}

/// The place of what stands between `open` and the next `close`, searched from `from`.
pub(crate) fn between(text: &[u8], from: usize, open: &[u8], close: &[u8]) -> Option<Range<usize>> {
    let start = from + find(text.get(from..)?, open)? + open.len();
    let length = memchr::memmem::find(text.get(start..)?, close)?;
    Some(start..start + length)
}

/// Whether all bytes are printable ASCII, blanks or UTF-8 beyond ASCII, and there is at least one.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    let plain = |byte: &u8| *byte != 0x7f && matches!(byte, b' '..|b'\t'| b'\r' | b'\n');
    // Beyond ASCII there are 32 control characters more.
    !bytes.is_empty()
        && bytes.iter().all(plain)
        && (bytes.is_ascii()
            || std::str::from_utf8(bytes)
                .is_ok_and(|text| !text.contains(|c| ('\u{80}'..='\u{9f}').contains(&c))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_either_mark_and_the_last_may_be_open() {
        let all: Vec<_> = lines(b"a\r\nbc\nd").collect();
        assert_eq!(all, [(0, &b"a"[..]), (3, b"bc"), (6, b"d")]);
        assert_eq!(line(b"open"), None);
    }

    #[test]
    fn header_values_are_placed_without_blanks() {
        assert_eq!(header(b"Host:  a.b ", 10), Some((&b"Host"[..], 17..20)));
        assert_eq!(header(b"no colon", 0), None);
    }

    #[test]
    fn control_characters_of_either_kind_are_no_text() {
        assert!(is_text("Zürich\t1\r\n".as_bytes()));
        for odd in ["a\x1b", "a\x7f", "a\u{9b}b", ""] {
            assert!(!is_text(odd.as_bytes()), "{odd:?}");
        }
        assert!(!is_text(b"a\xff"));
    }

    #[test]
    fn words_keep_their_places() {
        let all: Vec<_> = words(b"MAIL  FROM:<a>", 5).map(|(span, _)| span).collect();
        assert_eq!(all, [5..9, 11..19]);
        assert_eq!(between(b"x <a@b> y", 0, b"<", b">"), Some(3..6));
    }
}
