//! Protocols of one verb a line: SMTP (RFC 5321), POP3 (RFC 1939), FTP (RFC 959), IRC (RFC 2812), NNTP (RFC 3977). They share verbs such
//! as `USER` and `PASS`, so they share a dissector; a leak is named after the protocol where the verb tells it, and
//! `login` where it does not.

use super::Notes;
use super::stream::{Opening, Step};
use super::text;
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;
use std::ops::Range;

const USER: Leak = Leak::new("login.user", Class::PersonId, "user");
const PASSWORD: Leak = Leak::new("login.password", Class::Credential, "password");
const TOKEN: Leak = Leak::new("login.authentication", Class::Credential, "authentication");
const MAIL: Leak = Leak::new("smtp.address", Class::PersonId, "sender or recipient");
const HELLO: Leak = Leak::new("smtp.host", Class::HostName, "name in the greeting");
const TEXT: Leak = Leak::new("smtp.message", Class::Content, "mail");
const NICK: Leak = Leak::new("irc.person", Class::PersonId, "nick or user");
const CHANNEL: Leak = Leak::new("irc.channel", Class::ChannelId, "channel");
const SPOKEN: Leak = Leak::new("irc.message", Class::Content, "message");
const FILE: Leak = Leak::new("ftp.file", Class::ContentId, "file or folder");
const GROUP: Leak = Leak::new("nntp.group", Class::ChannelId, "news group");

pub(super) const LEAKS: &[Leak] = &[
    USER, PASSWORD, TOKEN, MAIL, HELLO, TEXT, NICK, CHANNEL, SPOKEN, FILE, GROUP,
];

/// Phases: a verb is next; the answer to a challenge; the lines of a mail.
const VERB: u8 = 0;
const ANSWER: u8 = 1;
const DATA: u8 = 2;

/// Verbs that open a conversation of one of the protocols.
const OPENERS: [&[u8]; 28] = [
    b"EHLO",
    b"HELO",
    b"LHLO",
    b"USER",
    b"PASS",
    b"AUTH",
    b"APOP",
    b"CAPA",
    b"STLS",
    b"NICK",
    b"CAP",
    b"STARTTLS",
    b"QUIT",
    b"FEAT",
    b"SYST",
    b"HOST",
    b"OPTS",
    b"CLNT",
    b"NOOP",
    b"MODE",
    b"STAT",
    b"RSET",
    b"MAIL",
    b"PBSZ",
    b"LANG",
    b"WEBIRC",
    b"AUTHINFO",
    b"AUTHENTICATE",
];

pub(super) fn open(stream: &[u8]) -> Opening {
    let end = stream.iter().position(|byte| b" \r\n".contains(byte));
    let verb = stream
        .get(..end.unwrap_or(stream.len()))
        .unwrap_or_default();
    match end {
        Some(_) if is_opener(verb) => Opening::Yes,
        None if OPENERS.iter().any(|opener| {
            opener
                .get(..verb.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(verb))
        }) =>
        {
            Opening::Perhaps
        }
        _ => Opening::No,
    }
}

/// Whether a conversation of these protocols may begin with this verb.
pub(super) fn is_opener(verb: &[u8]) -> bool {
    OPENERS
        .iter()
        .any(|opener| opener.eq_ignore_ascii_case(verb))
}

pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    if let [0x16, 3, ..] = unread {
        return Step::Switch;
    }
    if *phase == DATA {
        return mail(phase, unread, notes);
    }
    let line = text::line(unread);
    let (bytes, taken) = line.map_or((unread, None), |(line, taken)| (line, Some(taken)));
    let next = match *phase {
        ANSWER if !is_verb(bytes) => {
            notes.certain(&TOKEN, text::trimmed(bytes, 0));
            ANSWER
        }
        _ => tell(bytes, notes),
    };
    match taken {
        None => Step::Wait,
        Some(taken) => {
            let portion = portion(bytes);
            if portion > 0 && taken == unread.len() {
                return Step::Wait;
            }
            let end = taken.saturating_add(portion);
            notes.certain(&TEXT, taken..end.min(unread.len()));
            *phase = next;
            Step::Took(end)
        }
    }
}

/// The length of the part of a mail that follows a `BDAT` line (RFC 3030), 0 after any other.
fn portion(line: &[u8]) -> usize {
    let mut words = text::words(line, 0).map(|(_, word)| word);
    let verb = words.next().unwrap_or_default();
    if !verb.eq_ignore_ascii_case(b"BDAT") {
        return 0;
    }
    let length = words.next().and_then(|size| std::str::from_utf8(size).ok());
    length.and_then(|size| size.parse().ok()).unwrap_or(0)
}

/// Lines of a mail up to one with a single dot.
fn mail(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let end = text::lines(unread)
        .find(|(_, line)| *line == b".")
        .map(|(start, _)| start);
    match (end, memchr::memrchr(b'\n', unread)) {
        (Some(0), _) => {
            *phase = VERB;
            text::line(unread).map_or(Step::Wait, |(_, taken)| Step::Took(taken))
        }
        (Some(end), _) => {
            notes.certain(&TEXT, 0..end);
            Step::Took(end)
        }
        (None, Some(last)) => {
            notes.certain(&TEXT, 0..last + 1);
            Step::Took(last + 1)
        }
        (None, None) => {
            notes.certain(&TEXT, 0..unread.len());
            Step::Wait
        }
    }
}

/// Whether a line after a challenge is a command again: answers are one word of base64.
fn is_verb(line: &[u8]) -> bool {
    const VERBS: [&[u8]; 12] = [
        b"MAIL ", b"RCPT ", b"EHLO ", b"HELO ", b"QUIT", b"STAT", b"LIST", b"RSET", b"NOOP",
        b"AUTH ", b"RETR ", b"USER ",
    ];
    VERBS.iter().any(|verb| {
        line.get(..verb.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(verb))
    })
}

/// Tells one command and says what its next line is.
fn tell(line: &[u8], notes: &mut Notes<'_>) -> u8 {
    // An IRC message may begin with its sender.
    let mut words = text::words(line, 0).skip_while(|(_, word)| word.starts_with(b":"));
    let Some((verb_span, verb)) = words.next() else {
        return VERB;
    };
    let rest = text::trimmed(line.get(verb_span.end..).unwrap_or_default(), verb_span.end);
    let is = |known: &[&[u8]]| known.iter().any(|known| known.eq_ignore_ascii_case(verb));
    if is(&[b"PASS"]) {
        notes.certain(&PASSWORD, rest);
    } else if is(&[b"USER"]) {
        user(line, rest, notes);
    } else if is(&[b"AUTH", b"AUTHENTICATE", b"APOP"]) {
        return authenticate(verb, words, notes);
    } else if is(&[b"EHLO", b"HELO", b"LHLO"]) {
        hello(line, rest, notes);
    } else if is(&[b"MAIL", b"RCPT", b"VRFY"]) {
        if let Some(address) = address(line, rest) {
            notes.certain(&MAIL, address);
        }
    } else if is(&[b"AUTHINFO"]) {
        return news(words, notes);
    } else if is(&[b"DATA", b"POST", b"IHAVE", b"TAKETHIS"]) {
        return DATA;
    } else if is(&[b"GROUP", b"LISTGROUP"]) {
        notes.certain(&GROUP, rest);
    } else if is(&[b"NICK", b"OPER", b"WEBIRC"]) {
        notes.certain(&NICK, rest);
    } else if is(&[b"JOIN", b"PART"]) {
        notes.certain(&CHANNEL, rest);
    } else if is(&[b"AWAY"]) {
        notes.certain(&SPOKEN, rest);
    } else if is(&[b"PRIVMSG", b"NOTICE", b"TOPIC"]) {
        spoken(line, rest, notes);
    } else if is(&FILES) && !line.ends_with(b"\0") && !is_number(line, &rest) {
        notes.certain(&FILE, rest);
    }
    VERB
}

/// Commands of FTP that name a file or folder.
const FILES: [&[u8]; 12] = [
    b"STOR", b"RETR", b"APPE", b"CWD", b"DELE", b"RNFR", b"RNTO", b"MKD", b"RMD", b"SIZE", b"MDTM",
    b"XCWD",
];

/// The name in a greeting, where it is a device's: an address, or a public name as servers have, tells no more than the
/// packet does.
fn hello(line: &[u8], rest: Range<usize>, notes: &mut Notes<'_>) {
    const PRIVATE: [&[u8]; 5] = [b"local", b"lan", b"home", b"internal", b"localdomain"];
    let name = line.get(rest.clone()).unwrap_or_default();
    let last = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    let public = last.len() < name.len()
        && !PRIVATE
            .iter()
            .any(|private| private.eq_ignore_ascii_case(last));
    if !public && !name.starts_with(b"[") && !name.eq_ignore_ascii_case(b"localhost") {
        notes.certain(&HELLO, rest);
    }
}

/// `FROM:<anne@a.example>`, or without the marks.
fn address(line: &[u8], rest: Range<usize>) -> Option<Range<usize>> {
    if let Some(address) = text::between(line, 0, b"<", b">") {
        return Some(address);
    }
    let bare = line.get(rest.clone())?;
    let colon = memchr::memchr(b':', bare).map_or(0, |colon| colon + 1);
    let mut words = text::words(bare.get(colon..)?, rest.start + colon);
    words.next().map(|(span, _)| span)
}

/// Of news readers (RFC 4643): `AUTHINFO USER name`, `AUTHINFO PASS password`, `AUTHINFO SASL mechanism [answer]`.
fn news<'a>(
    mut words: impl Iterator<Item = (Range<usize>, &'a [u8])>,
    notes: &mut Notes<'_>,
) -> u8 {
    let kind = words.next().map(|(_, kind)| kind.to_ascii_uppercase());
    match (kind.as_deref(), words.next()) {
        (Some(b"USER"), Some((user, _))) => notes.certain(&USER, user),
        (Some(b"PASS"), Some((password, _))) => notes.certain(&PASSWORD, password),
        (Some(b"SASL"), _) => {
            if let Some((answer, _)) = words.next() {
                notes.certain(&TOKEN, answer);
            }
            return ANSWER;
        }
        _ => {}
    }
    VERB
}

/// IRC gives four parameters, the last the full name; the others one.
fn user(line: &[u8], rest: Range<usize>, notes: &mut Notes<'_>) {
    let parameters = line.get(rest.clone()).unwrap_or_default();
    let leak: &Leak = if text::words(parameters, 0).count() >= 4 {
        &NICK
    } else {
        &USER
    };
    notes.certain(leak, rest);
}

/// `AUTH mechanism [answer]`; `AUTH TLS` of FTP asks for encryption; `APOP user digest`.
fn authenticate<'a>(
    verb: &[u8],
    mut words: impl Iterator<Item = (Range<usize>, &'a [u8])>,
    notes: &mut Notes<'_>,
) -> u8 {
    let Some((span, mechanism)) = words.next() else {
        return VERB;
    };
    if [&b"TLS"[..], b"SSL", b"TLS-C", b"TLS-P"]
        .iter()
        .any(|tls| tls.eq_ignore_ascii_case(mechanism))
    {
        return VERB;
    }
    if verb.eq_ignore_ascii_case(b"APOP") {
        notes.certain(&USER, span);
    }
    if let Some((answer, _)) = words.next() {
        notes.certain(&TOKEN, answer);
    }
    ANSWER
}

fn spoken(line: &[u8], rest: Range<usize>, notes: &mut Notes<'_>) {
    let parameters = line.get(rest.clone()).unwrap_or_default();
    let Some(blank) = memchr::memchr(b' ', parameters) else {
        return;
    };
    let target = rest.start..rest.start + blank;
    let leak: &Leak = if matches!(parameters.first(), Some(b'#' | b'&')) {
        &CHANNEL
    } else {
        &NICK
    };
    notes.certain(leak, target);
    notes.certain(&SPOKEN, rest.start + blank + 1..rest.end);
}

/// POP3 retrieves by number.
fn is_number(line: &[u8], span: &Range<usize>) -> bool {
    line.get(span.clone())
        .is_some_and(|word| word.iter().all(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;
    use crate::sanitize::dissect::stream::Reader;

    #[test]
    fn user_and_password_are_told_in_any_case_of_the_verb() {
        assert_eq!(
            told(b"user anne\r\nPass secret\r\nSTOR diary.txt\r\nRETR 1\r\n").0,
            [
                ("login.user", "anne".to_owned()),
                ("login.password", "secret".to_owned()),
                ("ftp.file", "diary.txt".to_owned())
            ]
        );
    }

    #[test]
    fn news_readers_and_mail_in_portions_are_read() {
        assert_eq!(
            told(b"AUTHINFO USER anne\r\nauthinfo pass s3cret\r\n").0,
            [
                ("login.user", "anne".to_owned()),
                ("login.password", "s3cret".to_owned())
            ]
        );
        assert_eq!(
            told(b"EHLO [192.0.2.1]\r\nmail from: anne@a.example size=9\r\nBDAT 4 LAST\r\nhi\r\nQUIT\r\n").0,
            [
                ("smtp.address", "anne@a.example".to_owned()),
                ("smtp.message", "hi\r\n".to_owned())
            ]
        );
    }

    #[test]
    fn folders_groups_and_what_is_posted_are_told() {
        assert_eq!(
            told(b"USER a\r\nCWD /home/anne\r\nRNTO b.txt\r\nPWD\r\n").0[1..],
            [
                ("ftp.file", "/home/anne".to_owned()),
                ("ftp.file", "b.txt".to_owned())
            ]
        );
        assert_eq!(
            told(
                b"MODE READER\r\nGROUP alt.health\r\nPOST\r\nFrom: a@x\r\n\r\nhi\r\n.\r\nQUIT\r\n"
            )
            .0,
            [
                ("nntp.group", "alt.health".to_owned()),
                ("smtp.message", "From: a@x\r\n\r\nhi\r\n".to_owned())
            ]
        );
    }

    #[test]
    fn only_a_devices_own_name_is_told_of_a_greeting() {
        for (name, count) in [
            ("annes-pc", 1),
            ("mac.local", 1),
            ("mx.a.example", 0),
            ("[::1]", 0),
        ] {
            assert_eq!(
                told(format!("EHLO {name}\r\n").as_bytes()).0.len(),
                count,
                "{name}"
            );
        }
    }

    #[test]
    fn answers_on_later_lines_are_credentials() {
        let (told, _) = told(b"EHLO pc-1\r\nAUTH LOGIN\r\nYW5uZQ==\r\nc2VjcmV0\r\nMAIL FROM:<a@x>\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n");
        let leaks: Vec<_> = told.into_iter().map(|(leak, _)| leak).collect();
        assert_eq!(
            leaks,
            [
                "smtp.host",
                "login.authentication",
                "login.authentication",
                "smtp.address",
                "smtp.message"
            ]
        );
    }

    #[test]
    fn encryption_asked_for_is_no_credential() {
        let (told, reading) = told(b"AUTH TLS\r\n\x16\x03\x01\x00\x01\x00\x17\x03\x03");
        assert_eq!(told, []);
        assert!(reading.unwrap().sealed);
    }

    #[test]
    fn chat_tells_person_channel_and_message() {
        let (told, _) = told(
            b"NICK anne\r\nUSER anne 0 * :Anne D\r\nJOIN #room\r\nPRIVMSG #room :hi there\r\n",
        );
        let leaks: Vec<_> = told.into_iter().map(|(leak, _)| leak).collect();
        assert_eq!(
            leaks,
            [
                "irc.person",
                "irc.person",
                "irc.channel",
                "irc.channel",
                "irc.message"
            ]
        );
    }

    #[test]
    fn an_unfinished_password_is_told_before_its_line_ends() {
        let mut reader = Reader::default();
        let mut found = Vec::new();
        reader.read(b"USER anne\r\nPASS sec", &mut found);
        assert_eq!(
            found.last().map(|f| (f.leak, f.span.clone())),
            Some(("login.password", 16..19))
        );
        reader.read(b"ret\r\n", &mut found);
        assert_eq!(
            found.last().map(|f| (f.leak, f.span.clone())),
            Some(("login.password", 0..3))
        );
    }
}
