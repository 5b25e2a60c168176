//! NATS clients (NATS client protocol): the `CONNECT` line with its options in JSON, and JSON that is published.

use super::stream::{Opening, Step};
use super::{Notes, parameters, text};
use crate::sanitize::finding::Leak;

/// All it tells are parameters.
pub(super) const LEAKS: &[Leak] = &[];

/// A published message up to this length is read.
const SHORT: usize = 2000;

pub(super) fn open(stream: &[u8]) -> Opening {
    Opening::mark(stream, b"CONNECT {")
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let Some((line, taken)) = text::line(unread) else {
        return Step::Wait;
    };
    let mut words = text::words(line, 0);
    match words.next() {
        Some((word, b"CONNECT")) => {
            let options = line.get(word.end..).unwrap_or_default();
            parameters::json(options, word.end, notes);
            Step::Took(taken)
        }
        Some((_, b"PUB" | b"HPUB")) => published(unread, taken, words.last(), notes),
        Some((_, b"SUB" | b"UNSUB" | b"PING" | b"PONG" | b"INFO" | b"+OK" | b"-ERR")) => {
            Step::Took(taken)
        }
        // After the options a server may demand TLS.
        _ if matches!(unread, [0x16, 3, ..]) => Step::Switch,
        _ => Step::Lost,
    }
}

/// The message after a line whose last word is its length.
fn published(
    unread: &[u8],
    start: usize,
    length: Option<(std::ops::Range<usize>, &[u8])>,
    notes: &mut Notes<'_>,
) -> Step {
    let length = length
        .and_then(|(_, digits)| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse::<usize>().ok());
    let Some(length) = length else {
        return Step::Lost;
    };
    let message = unread.get(start..).unwrap_or_default();
    if message.len() < length && length <= SHORT {
        return Step::Wait;
    }
    parameters::json(message.get(..length).unwrap_or(message), start, notes);
    Step::Took(start.saturating_add(length).saturating_add(2))
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn options_and_published_objects_are_told() {
        let (told, protocol) = told(
            b"CONNECT {\"verbose\":false,\"user\":\"anne\",\"pass\":\"s3cret9\"}\r\nPUB a.b 23\r\n{\"imei\":356938035643809}\r\nPING\r\n",
        );
        let leaks: Vec<_> = told.iter().map(|(leak, _)| *leak).collect();
        assert_eq!(protocol.map(|reading| reading.protocol), Some("nats"));
        assert_eq!(
            leaks,
            [
                "parameter.person",
                "parameter.credential",
                "parameter.device"
            ]
        );
    }
}
