//! Redis (RESP): `AUTH` and `HELLO … AUTH`, inline or as an array of strings; passwords that are set, a
//! client's name, values that are written.

use super::Notes;
use super::bytes::Bytes;
use super::stream::{Opening, Step};
use super::text;
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;
use std::ops::Range;

const PASSWORD: Leak = Leak::new("redis.password", Class::Credential, "user or password");

const CLIENT: Leak = Leak::new("redis.client", Class::HostName, "name of the client");
const KEY: Leak = Leak::new("redis.key", Class::ContentId, "key");
const VALUE: Leak = Leak::new("redis.value", Class::Content, "value or message");

pub(super) const LEAKS: &[Leak] = &[PASSWORD, CLIENT, KEY, VALUE];

/// Most words of a command that are read.
const MOST: usize = 8;

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        [b'*', b'1'..=b'9', rest @ ..] => match rest.iter().position(|byte| !byte.is_ascii_digit())
        {
            None => Opening::Perhaps,
            Some(at) => Opening::mark(rest.get(at..).unwrap_or_default(), b"\r\n$"),
        },
        [b'*'] => Opening::Perhaps,
        // Inline, of the commands that only this protocol begins with.
        _ => match text::line(stream) {
            Some((line, _)) if is_inline(line) => Opening::Yes,
            None if b"AUTH ".starts_with(stream.get(..5).unwrap_or(stream)) => Opening::Perhaps,
            _ => Opening::No,
        },
    }
}

/// `AUTH password` or `AUTH user password`, not `AUTH PLAIN` as mail has it.
fn is_inline(line: &[u8]) -> bool {
    const MECHANISMS: [&[u8]; 9] = [
        b"PLAIN",
        b"LOGIN",
        b"CRAM-MD5",
        b"DIGEST-MD5",
        b"XOAUTH2",
        b"OAUTHBEARER",
        b"NTLM",
        b"GSSAPI",
        b"TLS",
    ];
    let mut words = text::words(line, 0).map(|(_, word)| word);
    let auth = words
        .next()
        .is_some_and(|word| word.eq_ignore_ascii_case(b"AUTH"));
    let mechanism = words.next().is_none_or(|word| {
        word.eq_ignore_ascii_case(b"SSL")
            || word.starts_with(b"SCRAM-")
            || MECHANISMS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(word))
    });
    auth && !mechanism && words.count() <= 1
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    if unread.first() == Some(&b'*') {
        return array(unread, notes);
    }
    match text::line(unread) {
        None => Step::Wait,
        Some((line, taken)) => {
            let words: Vec<_> = text::words(line, 0)
                .map(|(span, _)| span)
                .take(MOST)
                .collect();
            command(line, &words, notes);
            Step::Took(taken)
        }
    }
}

fn array(unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    let Some(count) = number(&mut bytes, b'*') else {
        return wait(unread);
    };
    let mut words: Vec<Range<usize>> = Vec::new();
    for index in 0..count {
        let Some(length) = number(&mut bytes, b'$') else {
            return wait(bytes.rest());
        };
        let start = bytes.position();
        let Some(span) = bytes.span(length) else {
            // A long value that is not a word of interest: skip over it, if it is the last.
            let last = index + 1 == count;
            let ours = words.first().is_some_and(|word| is_auth(unread, word));
            return if last && !ours {
                Step::Took(start.saturating_add(length).saturating_add(2))
            } else {
                Step::Wait
            };
        };
        if words.len() < MOST {
            words.push(span);
        }
        if bytes.skip(2).is_none() {
            return Step::Wait;
        }
    }
    command(unread, &words, notes);
    Step::Took(bytes.position())
}

/// A line of a mark and a number; commands have no negative ones.
fn number(bytes: &mut Bytes<'_>, mark: u8) -> Option<usize> {
    bytes.tag(&[mark])?;
    let line = bytes.until(b'\n')?;
    let digits = bytes.slice(&line).trim_ascii_end();
    std::str::from_utf8(digits)
        .ok()?
        .parse()
        .ok()
        .filter(|n| *n <= 1 << 29)
}

fn wait(rest: &[u8]) -> Step {
    if rest.contains(&b'\n') {
        Step::Lost
    } else {
        Step::Wait
    }
}

fn is_auth(bytes: &[u8], word: &Range<usize>) -> bool {
    bytes
        .get(word.clone())
        .is_some_and(|word| word.eq_ignore_ascii_case(b"AUTH"))
}

fn command(bytes: &[u8], words: &[Range<usize>], notes: &mut Notes<'_>) {
    let hello = words
        .first()
        .and_then(|word| bytes.get(word.clone()))
        .is_some_and(|word| word.eq_ignore_ascii_case(b"HELLO"));
    let auth = words.iter().position(|word| is_auth(bytes, word));
    match auth {
        Some(0) => {}
        Some(_) if hello => {}
        _ => return other(bytes, words, notes),
    }
    for word in words.iter().skip(auth.unwrap_or(0) + 1).take(2) {
        notes.certain(&PASSWORD, word.clone());
    }
}

/// Commands that set a password or a name, or that write.
fn other(bytes: &[u8], words: &[Range<usize>], notes: &mut Notes<'_>) {
    const WRITES: [&[u8]; 13] = [
        b"SET", b"SETNX", b"GETSET", b"APPEND", b"PUBLISH", b"LPUSH", b"RPUSH", b"SADD", b"HSET",
        b"MSET", b"XADD", b"SETEX", b"PSETEX",
    ];
    let [verb, first, rest @ ..] = words else {
        return;
    };
    let is = |span: &Range<usize>, word: &[u8]| {
        let bytes = bytes.get(span.clone());
        bytes.is_some_and(|bytes| bytes.eq_ignore_ascii_case(word))
    };
    if is(verb, b"CLIENT") && is(first, b"SETNAME") {
        rest.iter()
            .for_each(|name| notes.certain(&CLIENT, name.clone()));
    } else if is(verb, b"CONFIG") && is(first, b"SET") {
        if let [name, value, ..] = rest
            && (is(name, b"requirepass") || is(name, b"masterauth"))
        {
            notes.certain(&PASSWORD, value.clone());
        }
    } else if is(verb, b"ACL") && is(first, b"SETUSER") {
        for rule in rest {
            if matches!(bytes.get(rule.start), Some(b'>' | b'#')) {
                notes.certain(&PASSWORD, rule.start + 1..rule.end);
            }
        }
    } else if WRITES.iter().any(|known| is(verb, known)) {
        notes.certain(&KEY, first.clone());
        rest.iter()
            .for_each(|value| notes.certain(&VALUE, value.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn authentication_is_told_in_either_form() {
        let expected = [
            ("redis.password", "anne".to_owned()),
            ("redis.password", "secret".to_owned()),
        ];
        assert_eq!(
            told(b"*3\r\n$4\r\nAUTH\r\n$4\r\nanne\r\n$6\r\nsecret\r\n").0,
            expected
        );
        assert_eq!(told(b"AUTH anne secret\r\n").0, expected);
        assert_eq!(
            told(b"*5\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n$4\r\nanne\r\n$6\r\nsecret\r\n").0,
            expected
        );
    }

    #[test]
    fn passwords_names_and_values_that_are_set_are_told() {
        let command = |words: &[&str]| {
            let words = words
                .iter()
                .map(|word| format!("${}\r\n{word}\r\n", word.len()));
            let words: Vec<_> = words.collect();
            told(format!("*{}\r\n{}", words.len(), words.concat()).as_bytes()).0
        };
        let password = |word: &str| vec![("redis.password", word.to_owned())];
        assert_eq!(
            command(&["CONFIG", "SET", "requirepass", "s3"]),
            password("s3")
        );
        assert_eq!(
            command(&["acl", "setuser", "bob", "on", ">s3"]),
            password("s3")
        );
        assert_eq!(command(&["CONFIG", "SET", "maxmemory", "s3"]), []);
        assert_eq!(command(&["GET", "k"]), []);
        assert_eq!(
            command(&["CLIENT", "SETNAME", "annes-pc"]),
            [("redis.client", "annes-pc".to_owned())]
        );
        assert_eq!(
            command(&["SET", "mail", "anne"]),
            [
                ("redis.key", "mail".to_owned()),
                ("redis.value", "anne".to_owned())
            ]
        );
    }

    #[test]
    fn other_commands_tell_nothing_and_are_stepped_over() {
        let stream = [
            &b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5000\r\n"[..],
            &[b'x'; 5000],
            b"\r\n*2\r\n$4\r\nauth\r\n$2\r\npw\r\n",
        ]
        .concat();
        assert_eq!(told(&stream).0, [("redis.password", "pw".to_owned())]);
    }
}
