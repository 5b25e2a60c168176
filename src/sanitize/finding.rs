//! One thing found in one payload, and how to show it without giving it away.

use super::class::{Certainty, Class};
use std::fmt::{self, Debug, Write};
use std::ops::Range;

/// One thing found in one payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub class: Class,
    /// Which detector: `sd-rtn`, `oicq`, `secret`, `probe-fanout`, …
    pub detector: &'static str,
    /// Which field, in words (`account number`); for a declared secret the name the user gave it and its encoding.
    pub field: String,
    /// The name by which a policy's `leak` list calls it: `oicq.account`, `sd-rtn.identifier`, `secret`, `probe-fanout`.
    pub leak: &'static str,
    /// How sure.
    pub certainty: Certainty,
    /// Where it lies in the payload, in bytes. What began in an earlier chunk of a stream starts at 0; what ended in one,
    /// and is known only now, is empty at 0.
    pub span: Range<usize>,
    /// How far before that it really begins and ends, for a field of a message that came in several chunks: with
    /// `(3, 0)` its first three bytes came in earlier ones. Not told of declared secrets.
    pub earlier: (usize, usize),
    /// The bytes there do not read as the value: they are masked or compressed, so nothing can be written over them.
    pub decoded: bool,
    /// A masked sample that can be shown: `5…87`.
    pub sample: String,
}

/// A finding in its surroundings, for a report. The value is what leaks: never print it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// The value, its first 256 bytes.
    pub value: Vec<u8>,
    /// The bytes before it; those of other findings are left out.
    pub before: Vec<Option<u8>>,
    /// The bytes after it, likewise.
    pub after: Vec<Option<u8>>,
}

impl Excerpt {
    /// Bytes shown on each side.
    const AROUND: usize = 24;
    /// Bytes kept of a value.
    const VALUE: usize = 256;

    /// Cuts a finding out of its payload, in which `all` was found.
    pub fn of(payload: &[u8], finding: &Finding, all: &[Finding]) -> Self {
        let Range { start, end } = finding.span;
        let shown = |from: usize, to: usize| -> Vec<Option<u8>> {
            let bytes = payload.get(from..to.min(payload.len()));
            let mut shown: Vec<_> = bytes
                .unwrap_or_default()
                .iter()
                .copied()
                .map(Some)
                .collect();
            for Range { start, end } in all.iter().map(|other| &other.span) {
                let (start, end) = (start.saturating_sub(from), end.saturating_sub(from));
                let end = end.min(shown.len());
                shown.get_mut(start..end).unwrap_or_default().fill(None);
            }
            shown
        };
        let value = payload.get(start..end.min(start.saturating_add(Self::VALUE)));
        Self {
            value: value.unwrap_or_default().to_vec(),
            before: shown(start.saturating_sub(Self::AROUND), start),
            after: shown(end, end.saturating_add(Self::AROUND)),
        }
    }
}

impl Debug for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Excerpt").finish_non_exhaustive()
    }
}

/// A leak that some detector can find: the vocabulary of a policy's `leak` list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leak {
    /// The detector that finds it: `oicq`.
    pub detector: &'static str,
    /// Its name: the detector's, or the detector's and a field's (`oicq.account`).
    pub name: &'static str,
    /// What kind of thing it is.
    pub class: Class,
    /// The field in words: `account number`.
    pub field: &'static str,
    /// How it can be rewritten, if it can.
    pub(super) codec: Codec,
}

/// How a field is rewritten without changing any length. What integrity protects has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codec {
    /// It cannot.
    None,
    /// The value of a header line becomes blanks.
    Blanks,
    /// The value of a parameter or quoted string becomes as many `x`.
    Letters,
    /// The value becomes other letters and digits, the same ones each time.
    Pseudonym,
    /// An EDNS option becomes padding (RFC 7830).
    EdnsPadding,
    /// A DHCP option becomes padding (RFC 2132, section 3.1).
    DhcpPadding,
}

impl Leak {
    /// A leak of the detector before the first dot of `name`.
    pub(super) const fn new(name: &'static str, class: Class, field: &'static str) -> Self {
        let mut length = 0;
        let mut rest = name.as_bytes();
        while let [byte, tail @ ..] = rest {
            if *byte == b'.' {
                break;
            }
            length += 1;
            rest = tail;
        }
        Self {
            detector: name.split_at(length).0,
            name,
            class,
            field,
            codec: Codec::None,
        }
    }

    /// The same leak, which can be rewritten.
    pub(super) const fn with(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// This leak at `span`, whose bytes are `value`.
    pub(super) fn at(&self, certainty: Certainty, span: Range<usize>, value: &[u8]) -> Finding {
        Finding {
            class: self.class,
            detector: self.detector,
            field: self.field.to_owned(),
            leak: self.name,
            certainty,
            span,
            earlier: (0, 0),
            decoded: false,
            sample: mask(value),
        }
    }
}

/// A sample of a value that can be shown: the first character and, if the value has eight or more, the last two
/// (`5…87`). Values that are not printable text are shown as the hexadecimal of their first and last byte; of a value
/// below four bytes nothing is shown. Never the whole value.
pub fn mask(value: &[u8]) -> String {
    const SHORT: usize = 4;
    const LONG: usize = 8;
    // The two last characters may take four bytes each.
    let mut sample = String::with_capacity(16);
    match readable(value) {
        Some(text) => {
            let has = |count: usize| text.chars().nth(count - 1).is_some();
            if has(SHORT) {
                sample.extend(text.chars().next());
            }
            sample.push('…');
            if has(LONG) {
                let last = text.char_indices().rev().nth(1).map_or(0, |(at, _)| at);
                sample.push_str(text.get(last..).unwrap_or_default());
            }
        }
        None => {
            let shown = |byte: Option<&u8>, sample: &mut String| {
                if let Some(byte) = byte {
                    // Writing to a string cannot fail.
                    let _ = write!(sample, "{byte:02x}");
                }
            };
            if value.len() >= SHORT {
                shown(value.first(), &mut sample);
            }
            sample.push('…');
            if value.len() >= LONG {
                shown(value.last(), &mut sample);
            }
        }
    }
    sample
}

/// The value as text, if it is nothing but that.
fn readable(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    // Most values are ASCII, and many bytes long: decoding them would cost more than finding them.
    let plain = value.iter().all(|byte| matches!(byte, b' '..0x7f));
    (plain || !text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_show_ends_only() {
        assert_eq!(mask(b"512345687"), "5…87");
        assert_eq!(mask(b"secret"), "s…");
        assert_eq!(mask(b"abc"), "…");
        assert_eq!(mask(b""), "…");
        assert_eq!(mask("zürich-müller".as_bytes()), "z…er");
        assert_eq!(mask(&[0x05, 0xff, 0x00, 0x01]), "05…");
        assert_eq!(mask(&[0x05, 0xff, 0, 1, 2, 3, 4, 0xa7]), "05…a7");
    }

    #[test]
    fn control_characters_never_reach_a_terminal() {
        assert_eq!(mask(b"\x1b[31mred\x1b[0m"), "1b…6d");
    }
}
