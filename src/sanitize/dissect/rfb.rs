//! RFB (RFC 6143), as VNC speaks it: the answer to the challenge, keys that are pressed and text that is copied; of the
//! server, the name of the desktop, which mostly is user and machine.

use super::bytes::Bytes;
use super::stream::{Opening, Step};
use super::{Notes, text};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const RESPONSE: Leak = Leak::new("rfb.response", Class::Credential, "answer to the challenge");
const KEY: Leak = Leak::new("rfb.key", Class::Content, "key pressed");
const COPIED: Leak = Leak::new("rfb.text", Class::Content, "text copied");
const DESKTOP: Leak = Leak::new("rfb.desktop", Class::HostName, "name of the desktop");

pub(super) const LEAKS: &[Leak] = &[RESPONSE, KEY, COPIED, DESKTOP];

const MARK: &[u8] = b"RFB 00";
const GREETING: usize = 12;
const NONE: u8 = 1;
const CHALLENGE: u8 = 2;
/// Longest name of a desktop, longest text that is waited for.
const LONGEST: usize = 256;
const LONG: usize = 1000;

/// Phases: the greeting is next, the choice of either side, the client's messages.
const BEGINNING: u8 = 0;
const CHOICE: u8 = 1;
const MESSAGES: u8 = 2;

pub(super) fn open(stream: &[u8]) -> Opening {
    Opening::mark(stream, MARK)
}

pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    match *phase {
        BEGINNING if unread.len() < GREETING => Step::Wait,
        BEGINNING => {
            *phase = CHOICE;
            Step::Took(GREETING)
        }
        CHOICE => choice(phase, unread, notes),
        _ => message(unread, notes),
    }
}

/// Of a client the way it proves itself, the proof, and whether it shares; of a server how many ways there are, these, the
/// challenge, the result, and the desktop.
fn choice(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    // A message of the client begins with these.
    let begun = |message: Option<&u8>| message.is_none_or(|kind| matches!(kind, 0 | 2..=6));
    let taken = match unread {
        [NONE, 0 | 1, rest @ ..] if begun(rest.first()) && !rest.starts_with(&[0; 4]) => 2,
        [CHALLENGE, rest @ ..]
            if rest.len() > 16
                && rest.get(16).is_some_and(|shared| *shared < 2)
                && begun(rest.get(17)) =>
        {
            notes.certain(&RESPONSE, 1..17);
            18
        }
        // A log-in that is refused goes no further; a server with two ways offers them here.
        [CHALLENGE, rest @ ..] if rest.len() == 16 && !is_offer(rest) => {
            notes.certain(&RESPONSE, 1..17);
            return Step::Wait;
        }
        _ => return desktop(unread, notes),
    };
    *phase = MESSAGES;
    Step::Took(taken)
}

/// Whether two ways to log in stand here.
fn is_offer(bytes: &[u8]) -> bool {
    let known = |way: &u8| matches!(way, 1 | 2 | 5 | 6 | 16..=22);
    bytes.iter().take(2).all(known)
}

/// Width, height, sixteen bytes of how points look, the name.
fn desktop(unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let ways = match unread {
        [0, 0, 0, 1 | 2, ..] => 4,
        [ways, ..] => 1 + usize::from(*ways),
        [] => return Step::Wait,
    };
    for more in [0, 4, 16, 20, 1] {
        let mut bytes = Bytes::new(unread);
        let found = bytes.skip(ways + more).and_then(|()| {
            bytes.skip(4)?;
            let [bits, depth, .., a, b, c] = bytes.array::<16>()?;
            let fits = matches!(bits, 8 | 16 | 32) && depth <= bits && [a, b, c] == [0; 3];
            let length = bytes
                .u32()
                .filter(|length| fits && *length as usize <= LONGEST)?;
            bytes.span(length as usize)
        });
        if let Some(name) =
            found.filter(|name| text::is_text(unread.get(name.clone()).unwrap_or_default()))
        {
            notes.certain(&DESKTOP, name);
            return Step::Lost;
        }
    }
    if unread.len() < LONGEST + 100 {
        Step::Wait
    } else {
        Step::Lost
    }
}

/// One message of the client.
fn message(unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    match bytes.u8() {
        None => Step::Wait,
        Some(0) => Step::Took(20),
        Some(2) => match (bytes.u8(), bytes.u16()) {
            (_, Some(count)) => Step::Took(4 + 4 * usize::from(count)),
            _ => Step::Wait,
        },
        Some(3) => Step::Took(10),
        Some(4) if unread.len() < 8 => Step::Wait,
        Some(4) => {
            notes.certain(&KEY, 4..8);
            Step::Took(8)
        }
        Some(5) => Step::Took(6),
        Some(6) => {
            bytes.skip(3);
            let Some(length) = bytes.u32().map(|length| length as usize) else {
                return Step::Wait;
            };
            if bytes.len() < length.min(LONG) {
                return Step::Wait;
            }
            notes.certain(&COPIED, 8..(8 + length).min(unread.len()));
            Step::Took(length.saturating_add(8))
        }
        Some(_) => Step::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn the_answer_keys_and_copied_text_are_told() {
        let stream = [
            &b"RFB 003.008\n\x02"[..],
            &[9; 16],
            b"\x01\x02\0\0\x01\0\0\0\x05\x04\x01\0\0\0\0\0a\x06\0\0\0\0\0\0\x04anne",
        ];
        let (found, _) = told(&stream.concat());
        let leaks: Vec<_> = found.iter().map(|(leak, _)| *leak).collect();
        assert_eq!(leaks, ["rfb.response", "rfb.key", "rfb.text"]);
        assert_eq!(found[2].1, "anne");
        let refused = [stream[0], stream[1]].concat();
        assert_eq!(told(&refused).0, found[..1]);
    }

    #[test]
    fn a_desktop_is_told_by_its_server() {
        let screen =
            b"\x04\0\x03\0\x20\x18\0\x01\0\xff\0\xff\0\xff\x10\x08\0\0\0\0\0\0\0\x08annes-pc";
        for between in [&b"\x02\x02\x10"[..], b"\x01\x01\0\0\0\0", b"\0\0\0\x01"] {
            let stream = [&b"RFB 003.008\n"[..], between, screen].concat();
            let expected = [("rfb.desktop", "annes-pc".to_owned())];
            assert_eq!(told(&stream).0, expected, "{}", between.escape_ascii());
        }
        let challenged = [&b"RFB 003.008\n\x02\x02\x10"[..], &[9; 16], &[0; 4], screen];
        assert_eq!(told(&challenged.concat()).0.len(), 1);
    }
}
