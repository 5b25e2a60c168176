//! IMAP (RFC 9051): `LOGIN` and `AUTHENTICATE`, whose answer may come on a later line.

use super::Notes;
use super::stream::{Opening, Step};
use super::{text, verbs};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const USER: Leak = Leak::new("imap.user", Class::PersonId, "user");
const CREDENTIAL: Leak = Leak::new(
    "imap.credential",
    Class::Credential,
    "password or authentication",
);

const MESSAGE: Leak = Leak::new("imap.message", Class::Content, "mail");

pub(super) const LEAKS: &[Leak] = &[USER, CREDENTIAL, MESSAGE];

const COMMANDS: [&[u8]; 16] = [
    b"CAPABILITY",
    b"LOGIN",
    b"AUTHENTICATE",
    b"STARTTLS",
    b"ID",
    b"NOOP",
    b"SELECT",
    b"LOGOUT",
    b"NAMESPACE",
    b"ENABLE",
    b"LIST",
    b"COMPRESS",
    b"APPEND",
    b"EXAMINE",
    b"FETCH",
    b"UID",
];

/// Commands that are known by a tag without a number.
const UNNUMBERED: [&[u8]; 4] = [b"CAPABILITY", b"LOGIN", b"AUTHENTICATE", b"STARTTLS"];

/// Phases: a command is next; the answer to a challenge; the lines of a mail.
const COMMAND: u8 = 0;
const ANSWER: u8 = 1;
const MAIL: u8 = 2;

pub(super) fn open(stream: &[u8]) -> Opening {
    match text::line(stream) {
        Some((line, _)) if command(line).is_some() => Opening::Yes,
        None if stream.len() < 64 && may_begin(stream) => Opening::Perhaps,
        _ => Opening::No,
    }
}

/// A tag, and maybe a blank and the beginning of a command.
fn may_begin(stream: &[u8]) -> bool {
    let mut words = stream.splitn(3, |byte| *byte == b' ');
    let tag = words.next().unwrap_or_default();
    let tagged = tag.len() <= 20
        && tag
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'.');
    let verb = words.next().unwrap_or_default();
    let whole = words.next().is_some();
    tagged
        && COMMANDS.iter().any(|known| {
            let head = known.get(..verb.len()).unwrap_or_default();
            head.eq_ignore_ascii_case(verb) && (!whole || known.len() == verb.len())
        })
}

/// The command's place among the words of a tagged line.
fn command(line: &[u8]) -> Option<&'static [u8]> {
    let mut words = text::words(line, 0).map(|(_, word)| word);
    let tag = words.next()?;
    let verb = words.next()?;
    // A tag has a digit, or mail verbs such as `AUTH LOGIN` would pass.
    let counts = tag.iter().any(u8::is_ascii_digit) && tag.len() <= 20;
    // Without a number in its tag a line is taken for one of a few commands only; other protocols begin like that.
    let letters = tag.len() <= 8
        && tag
            .iter()
            .all(|byte| byte.is_ascii_alphabetic() || *byte == b'.')
        && !verbs::is_opener(tag);
    COMMANDS
        .iter()
        .find(|known| known.eq_ignore_ascii_case(verb))
        .filter(|known| counts || (letters && UNNUMBERED.contains(known)))
        .copied()
}

pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    if let [0x16, 3, ..] = unread {
        return Step::Switch;
    }
    let line = text::line(unread);
    let (bytes, taken) = line.map_or((unread, None), |(line, taken)| (line, Some(taken)));
    let next = if *phase == ANSWER && command(bytes).is_none() {
        notes.certain(&CREDENTIAL, text::trimmed(bytes, 0));
        ANSWER
    } else if *phase == MAIL && command(bytes).is_none() {
        notes.certain(&MESSAGE, text::trimmed(bytes, 0));
        MAIL
    } else {
        tell(bytes, notes)
    };
    match taken {
        None => Step::Wait,
        Some(taken) => {
            *phase = next;
            Step::Took(taken)
        }
    }
}

fn tell(line: &[u8], notes: &mut Notes<'_>) -> u8 {
    let mut words = text::words(line, 0).skip(2);
    match command(line) {
        Some(b"LOGIN") => {
            // A literal follows on its own line.
            if let Some((span, _)) = words.next().filter(|(_, word)| !word.starts_with(b"{")) {
                let end = span.end;
                notes.certain(&USER, unquoted(line, span));
                notes.certain(
                    &CREDENTIAL,
                    text::trimmed(line.get(end..).unwrap_or_default(), end),
                );
                return COMMAND;
            }
            ANSWER
        }
        Some(b"AUTHENTICATE") => {
            if let Some((span, _)) = words.nth(1) {
                notes.certain(&CREDENTIAL, span);
            }
            ANSWER
        }
        // A literal follows.
        Some(b"APPEND") if line.ends_with(b"}") => MAIL,
        _ => COMMAND,
    }
}

fn unquoted(line: &[u8], span: std::ops::Range<usize>) -> std::ops::Range<usize> {
    match line.get(span.clone()) {
        Some([b'"', .., b'"']) => span.start + 1..span.end - 1,
        _ => span,
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn a_login_tells_user_and_password() {
        assert_eq!(
            told(b"a1 CAPABILITY\r\na2 LOGIN \"anne\" \"se cret\"\r\n").0,
            [
                ("imap.user", "anne".to_owned()),
                ("imap.credential", "\"se cret\"".to_owned())
            ]
        );
    }

    #[test]
    fn an_answer_on_a_later_line_is_a_credential() {
        let (told, _) = told(b"a1 AUTHENTICATE PLAIN\r\nAGFubmUAcHc=\r\na2 SELECT INBOX\r\n");
        assert_eq!(told, [("imap.credential", "AGFubmUAcHc=".to_owned())]);
    }

    #[test]
    fn a_tag_may_be_a_letter_and_a_stored_mail_is_content() {
        assert_eq!(
            told(b". login anne secret\r\n").0,
            [
                ("imap.user", "anne".to_owned()),
                ("imap.credential", "secret".to_owned())
            ]
        );
        assert_eq!(
            told(b"a1 APPEND Sent {9}\r\nhi, bob\r\na2 LOGOUT\r\n").0,
            [("imap.message", "hi, bob".to_owned())]
        );
        assert_eq!(
            told(b"AUTH LOGIN\r\nYW5uZQ==\r\n").1.unwrap().protocol,
            "verbs"
        );
    }

    #[test]
    fn with_starttls_nothing_is_told() {
        let (told, reading) = told(b"a1 STARTTLS\r\n\x16\x03\x01\x00\x01\x00\x17\x03\x03");
        assert_eq!(told, []);
        assert!(reading.unwrap().sealed);
    }
}
