//! HTTP `CONNECT` (RFC 9110, section 9.3.6) over HTTP/1.1 (RFC 9112), the client's side: bytes in, bytes out.

use super::handshake::{Progress, Refusal, Target};
use super::secret::Credentials;
use data_encoding::BASE64;
use std::io::Write as _;
use zeroize::Zeroizing;

/// A head of the proxy, with those of interim answers before it, is at most so many bytes.
const LONGEST_HEAD: usize = 16 << 10;
const MOST_FIELDS: usize = 64;
const END: &[u8] = b"\r\n\r\n";

/// The conversation up to the point where the flow begins.
#[derive(Debug)]
pub struct Connect {
    /// What is to be written; wiped, for it may hold a password.
    output: Zeroizing<Vec<u8>>,
    head: Vec<u8>,
    /// Bytes of interim answers.
    before: usize,
    done: bool,
}

impl Connect {
    /// Begins with the request. `None` if the user's name cannot be told from the password (RFC 7617, section 2) or
    /// what is to be sent would not be one line.
    pub fn new(target: &Target, credentials: Option<&Credentials>) -> Option<Self> {
        let target = target.to_string();
        let plain = target.bytes().all(|byte| byte.is_ascii_graphic());
        if !plain || credentials.is_some_and(|with| with.user.reveal().contains(':')) {
            return None;
        }
        let mut output = Zeroizing::new(Vec::with_capacity(1024));
        write!(output, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").ok()?;
        if let Some(credentials) = credentials {
            let (user, password) = (credentials.user.reveal(), credentials.password.reveal());
            let mut pair = Zeroizing::new(Vec::with_capacity(user.len() + password.len() + 1));
            pair.extend_from_slice(user.as_bytes());
            pair.push(b':');
            pair.extend_from_slice(password.as_bytes());
            let basic = Zeroizing::new(BASE64.encode(&pair));
            output.extend_from_slice(b"Proxy-Authorization: Basic ");
            output.extend_from_slice(basic.as_bytes());
            output.extend_from_slice(b"\r\n");
        }
        output.extend_from_slice(b"\r\n");
        Some(Self {
            output,
            head: Vec::new(),
            before: 0,
            done: false,
        })
    }

    pub(super) fn output(&self) -> &[u8] {
        &self.output
    }

    pub(super) fn written(&mut self, bytes: usize) {
        let bytes = bytes.min(self.output.len());
        self.output.drain(..bytes);
    }

    pub(super) fn progress(&self) -> Progress {
        if self.done {
            Progress::Done(None)
        } else {
            Progress::Waiting
        }
    }

    /// Takes bytes up to the end of a head; those behind it belong to the flow.
    pub(super) fn input(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        if self.done {
            return Ok(0);
        }
        if !self.output.is_empty() && !bytes.is_empty() {
            // An answer to a question that was not asked yet.
            return Err(Refusal::Malformed);
        }
        let known = self.head.len();
        let room = LONGEST_HEAD.saturating_sub(self.before + known);
        let bytes = bytes.get(..room).unwrap_or(bytes);
        self.head.extend_from_slice(bytes);
        // The end may lie across what came before and what came now.
        let from = known.saturating_sub(END.len() - 1);
        let end = self.head.get(from..).and_then(|fresh| {
            let at = fresh.windows(END.len()).position(|window| window == END)?;
            Some(from + at + END.len())
        });
        let Some(end) = end else {
            return if bytes.len() == room {
                Err(Refusal::Malformed)
            } else {
                Ok(bytes.len())
            };
        };
        self.head.truncate(end);
        self.judge()?;
        Ok(end - known)
    }

    /// Decides on a whole head.
    fn judge(&mut self) -> Result<(), Refusal> {
        let mut fields = [httparse::EMPTY_HEADER; MOST_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let len = match response.parse(&self.head) {
            Ok(httparse::Status::Complete(len)) => len,
            Ok(httparse::Status::Partial) | Err(_) => return Err(Refusal::Malformed),
        };
        let (Some(code), true) = (response.code, len == self.head.len()) else {
            return Err(Refusal::Malformed);
        };
        match code {
            // Whatever the fields say, there is no body: the tunnel begins at once (RFC 9110, section 9.3.6).
            200..=299 => {
                self.done = true;
                self.head = Vec::new();
                Ok(())
            }
            // An interim answer; the final one follows (RFC 9110, section 15.2). Nobody asked to switch protocols.
            100 | 102..=199 => {
                self.before += len;
                self.head.clear();
                Ok(())
            }
            _ => Err(refusal(code)),
        }
    }
}

fn refusal(code: u16) -> Refusal {
    match code {
        401 | 407 => Refusal::Credentials,
        403 | 451 => Refusal::Forbidden,
        405 | 501 => Refusal::Unsupported,
        408 | 504 => Refusal::TimedOut,
        400..=599 => Refusal::Unreachable,
        _ => Refusal::Malformed,
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "helpers of tests may fail the test"
    )]

    use super::super::secret::Hidden;
    use super::*;
    use proptest::prelude::*;

    fn target() -> Target {
        Target::Name("example.net".into(), 443)
    }

    fn asked() -> Connect {
        let mut connect = Connect::new(&target(), None).unwrap();
        connect.written(usize::MAX);
        connect
    }

    fn answered(answer: &[u8]) -> Result<usize, Refusal> {
        asked().input(answer)
    }

    #[test]
    fn the_request_is_one_head_with_the_authority_twice() {
        let connect = Connect::new(&target(), None).unwrap();
        let text = b"CONNECT example.net:443 HTTP/1.1\r\nHost: example.net:443\r\n\r\n";
        assert_eq!(connect.output(), text);
        let address = Target::Address("[2001:db8::1]:80".parse().unwrap());
        let connect = Connect::new(&address, None).unwrap();
        assert!(connect.output().starts_with(b"CONNECT [2001:db8::1]:80 "));
    }

    #[test]
    fn credentials_are_sent_as_basic_ones_and_only_if_they_can_be_told_apart() {
        // The example of RFC 7617, section 2.
        let mut credentials = Credentials {
            user: Hidden::new("Aladdin".into()),
            password: Hidden::new("open sesame".into()),
        };
        let connect = Connect::new(&target(), Some(&credentials)).unwrap();
        let text = String::from_utf8(connect.output().to_vec()).unwrap();
        let line = "\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n";
        assert!(text.ends_with(line), "{text}");
        credentials.user = Hidden::new("a:b".into());
        assert!(Connect::new(&target(), Some(&credentials)).is_none());
    }

    #[test]
    fn no_name_can_smuggle_a_second_line_in() {
        for name in ["a\r\nX: y", "a b", "a\0", "ä"] {
            let target = Target::Name(name.into(), 1);
            assert!(Connect::new(&target, None).is_none(), "{name:?}");
        }
    }

    #[test]
    fn the_flow_begins_right_behind_the_head_whatever_length_it_claims() {
        let head = b"HTTP/1.1 200 Connection established\r\nContent-Length: 9\r\n\r\n";
        for len in 0..head.len() {
            let mut connect = asked();
            assert_eq!(connect.input(&head[..len]), Ok(len));
            assert_eq!(connect.progress(), Progress::Waiting, "{len}");
            let rest = [&head[len..], b"SSH-2.0"].concat();
            assert_eq!(connect.input(&rest), Ok(head.len() - len), "{len}");
            assert_eq!(connect.progress(), Progress::Done(None));
            assert_eq!(connect.input(b"SSH-2.0"), Ok(0));
        }
    }

    #[test]
    fn interim_answers_are_passed_over_within_the_bound() {
        let mut connect = asked();
        let interim = b"HTTP/1.1 103 Early Hints\r\n\r\n";
        assert_eq!(connect.input(interim), Ok(interim.len()));
        assert_eq!(connect.progress(), Progress::Waiting);
        connect.input(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        assert_eq!(connect.progress(), Progress::Done(None));

        let mut endless = asked();
        let most = LONGEST_HEAD / interim.len() + 1;
        let outcome = (0..most).try_for_each(|_| endless.input(interim).map(|_| ()));
        assert_eq!(outcome, Err(Refusal::Malformed));
    }

    #[test]
    fn every_refusal_has_its_meaning() {
        for (code, meaning) in [
            (101, Refusal::Malformed),
            (301, Refusal::Malformed),
            (400, Refusal::Unreachable),
            (403, Refusal::Forbidden),
            (405, Refusal::Unsupported),
            (407, Refusal::Credentials),
            (501, Refusal::Unsupported),
            (502, Refusal::Unreachable),
            (504, Refusal::TimedOut),
            (999, Refusal::Malformed),
        ] {
            let answer = format!("HTTP/1.1 {code} x\r\n\r\n");
            assert_eq!(answered(answer.as_bytes()), Err(meaning), "{code}");
        }
    }

    #[test]
    fn what_is_no_head_and_what_never_ends_is_refused() {
        let fields = "A: b\r\n".repeat(MOST_FIELDS + 1);
        let many = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        for nonsense in [
            "\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/2 200 OK\r\n\r\n",
            "HTTP/1.1 2000 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nno field\r\n\r\n",
            "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n",
            &many,
        ] {
            let refused = answered(nonsense.as_bytes());
            assert_eq!(refused, Err(Refusal::Malformed), "{nonsense:?}");
        }
        let mut endless = asked();
        let outcome = (0..LONGEST_HEAD).try_for_each(|_| endless.input(b"xy").map(|_| ()));
        assert_eq!(outcome, Err(Refusal::Malformed));
        assert!(endless.head.len() <= LONGEST_HEAD);
        let mut hasty = Connect::new(&target(), None).unwrap();
        assert_eq!(
            hasty.input(b"HTTP/1.1 200 OK\r\n\r\n"),
            Err(Refusal::Malformed)
        );
    }

    proptest! {
        #[test]
        fn whatever_a_proxy_answers_no_more_is_taken_than_came(answers: Vec<Vec<u8>>) {
            let mut connect = asked();
            for answer in answers {
                match connect.input(&answer) {
                    Ok(taken) => prop_assert!(taken <= answer.len()),
                    Err(_) => break,
                }
            }
        }
    }
}
