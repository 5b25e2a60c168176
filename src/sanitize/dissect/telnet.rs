//! Telnet (RFC 854): options first, then what is typed. The first line is taken for the user, the second for the
//! password; either may come a character at a time.

use super::Notes;
use super::stream::{Opening, Step};
use super::text;
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const USER: Leak = Leak::new("telnet.user", Class::PersonId, "first line typed");
const PASSWORD: Leak = Leak::new("telnet.password", Class::Credential, "second line typed");
const TYPED: Leak = Leak::new("telnet.typed", Class::Content, "line typed");
const VARIABLE: Leak = Leak::new(
    "telnet.variable",
    Class::PersonId,
    "user or display told in an option",
);

pub(super) const LEAKS: &[Leak] = &[USER, PASSWORD, TYPED, VARIABLE];

const COMMAND: u8 = 0xff;
const SUBNEGOTIATION: u8 = 0xfa;

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        [COMMAND, SUBNEGOTIATION..=0xfe, 0..=50, ..] => Opening::Yes,
        [COMMAND] | [COMMAND, SUBNEGOTIATION..=0xfe] => Opening::Perhaps,
        _ => Opening::No,
    }
}

/// Reads one option or one line. The phase counts lines.
pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    match unread {
        [COMMAND, SUBNEGOTIATION, ..] => match memchr::memmem::find(unread, &[COMMAND, 0xf0]) {
            None => Step::Wait,
            Some(end) => {
                option(unread.get(..end).unwrap_or_default(), notes);
                Step::Took(end + 2)
            }
        },
        [COMMAND, 0xfb..=0xfe, _, ..] => Step::Took(3),
        [COMMAND, 0xfb..=0xfe] | [COMMAND] => Step::Wait,
        [COMMAND, ..] => Step::Took(2),
        _ => {
            let leak = match *phase {
                0 => &USER,
                1 => &PASSWORD,
                _ => &TYPED,
            };
            typed(phase, leak, unread, notes)
        }
    }
}

/// What is typed, up to a carriage return or the next command; each line that is not empty counts the phase on.
pub(super) fn typed(
    phase: &mut u8,
    leak: &'static Leak,
    unread: &[u8],
    notes: &mut Notes<'_>,
) -> Step {
    let stop = unread
        .iter()
        .position(|byte| matches!(byte, b'\r' | b'\n' | 0 | &COMMAND));
    let line = text::trimmed(
        unread
            .get(..stop.unwrap_or(unread.len()))
            .unwrap_or_default(),
        0,
    );
    let empty = line.is_empty();
    notes.probable(leak, line);
    match stop {
        None => Step::Wait,
        Some(0) => Step::Took(
            unread
                .iter()
                .take_while(|byte| b"\r\n\0".contains(byte))
                .count()
                .max(1),
        ),
        Some(end) => {
            if !empty {
                *phase = phase.saturating_add(1);
            }
            Step::Took(end)
        }
    }
}

/// Environment (RFC 1572, RFC 1408), X display (RFC 1096), location (RFC 779): they name the user.
fn option(option: &[u8], notes: &mut Notes<'_>) {
    const HEADER: usize = 4;
    if let [_, _, 23 | 35 | 36 | 39, 0, value @ ..] = option {
        notes.certain(&VARIABLE, HEADER..HEADER + value.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;
    use crate::sanitize::dissect::stream::Reader;

    const STREAM: &[u8] = b"\xff\xfb\x18\xff\xfa\x18\0xterm\xff\xf0anne\r\0secret\r\nls\r\n";

    #[test]
    fn the_first_lines_are_user_and_password() {
        assert_eq!(
            told(STREAM).0,
            [
                ("telnet.user", "anne".to_owned()),
                ("telnet.password", "secret".to_owned()),
                ("telnet.typed", "ls".to_owned())
            ]
        );
    }

    #[test]
    fn each_typed_character_is_told_as_it_comes() {
        let mut reader = Reader::default();
        let mut found = Vec::new();
        for byte in STREAM.chunks(1) {
            reader.read(byte, &mut found);
        }
        let characters = found.iter().filter(|f| f.leak == "telnet.password").count();
        assert_eq!(characters, 6);
        assert!(found.iter().all(|f| f.span == (0..1)));
    }
}
