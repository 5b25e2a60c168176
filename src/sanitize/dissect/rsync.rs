//! rsync's daemon protocol, in which a client names a module and then itself (`rsync(1)`, `rsyncd.conf(5)`): its answer to
//! the challenge is a digest that can be tried against guessed passwords.

use super::stream::{Opening, Step};
use super::{Notes, text};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const MODULE: Leak = Leak::new("rsync.module", Class::ServiceMeta, "module");
const USER: Leak = Leak::new("rsync.user", Class::PersonId, "user");
const DIGEST: Leak = Leak::new("rsync.digest", Class::Credential, "answer to the challenge");

pub(super) const LEAKS: &[Leak] = &[MODULE, USER, DIGEST];

const MARK: &[u8] = b"@RSYNCD: ";
/// Longest line that is waited for.
const LONGEST: usize = 1024;

/// Phases: the greeting is next, the module, the answer.
const GREETING: u8 = 0;
const NAME: u8 = 1;
const ANSWER: u8 = 2;

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream.strip_prefix(MARK) {
        None => Opening::mark(stream, MARK),
        Some([]) => Opening::Perhaps,
        Some([first, ..]) if first.is_ascii_digit() => Opening::Yes,
        Some(_) => Opening::No,
    }
}

pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let Some((line, taken)) = text::line(unread) else {
        return if unread.len() < LONGEST {
            Step::Wait
        } else {
            Step::Lost
        };
    };
    match *phase {
        GREETING => {
            *phase = NAME;
            Step::Took(taken)
        }
        // What the server says of itself is lines of text and `@RSYNCD:`; a list is asked for by `#list`.
        NAME if is_word(line) => {
            notes.certain(&MODULE, 0..line.len());
            *phase = ANSWER;
            Step::Took(taken)
        }
        ANSWER => {
            answer(line, notes);
            Step::Lost
        }
        _ => Step::Lost,
    }
}

/// `USER DIGEST`; without a challenge the arguments of the transfer come here.
fn answer(line: &[u8], notes: &mut Notes<'_>) {
    // MD4 and MD5, SHA-1, SHA-256, SHA-512, in base64 without padding.
    const DIGESTS: [usize; 4] = [22, 27, 43, 86];
    let Some(blank) = memchr::memrchr(b' ', line) else {
        return;
    };
    let digest = line.get(blank + 1..).unwrap_or_default();
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    if DIGESTS.contains(&digest.len()) && digest.iter().all(fits) {
        notes.certain(&USER, 0..blank);
        notes.certain(&DIGEST, blank + 1..line.len());
    }
}

fn is_word(line: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    !line.is_empty() && line.iter().all(fits)
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn module_user_and_digest_are_told() {
        let (told, protocol) = told(
            b"@RSYNCD: 31.0 sha512 sha256 sha1 md5 md4\nbackup\nanne 7cGEhxjbFvUTQo1wXGMD1w\n--server\0",
        );
        assert_eq!(protocol.map(|reading| reading.protocol), Some("rsync"));
        let expected = [
            ("rsync.module", "backup"),
            ("rsync.user", "anne"),
            ("rsync.digest", "7cGEhxjbFvUTQo1wXGMD1w"),
        ];
        assert_eq!(told, expected.map(|(leak, text)| (leak, text.to_owned())));
    }

    #[test]
    fn a_transfer_without_a_password_and_what_a_server_says_name_nobody() {
        let (told_of, _) = told(b"@RSYNCD: 30.0\nbackup\n--server\n--sender\n");
        assert_eq!(told_of, [("rsync.module", "backup".to_owned())]);
        let (told_of, _) = told(b"@RSYNCD: 31.0\nWelcome to us\n@RSYNCD: AUTHREQD abcdefghij\n");
        assert_eq!(told_of, []);
        let other = told(b"@RSYNCD: OK\nbackup\n").1;
        assert_ne!(other.map(|reading| reading.protocol), Some("rsync"));
    }
}
