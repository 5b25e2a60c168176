//! STOMP clients (STOMP 1.2): login and passcode of the first frame, and JSON that is sent.

use super::stream::{Opening, Step};
use super::{Notes, parameters, text};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const USER: Leak = Leak::new("stomp.user", Class::PersonId, "user");
const PASSWORD: Leak = Leak::new("stomp.password", Class::Credential, "passcode");

pub(super) const LEAKS: &[Leak] = &[USER, PASSWORD];

pub(super) fn open(stream: &[u8]) -> Opening {
    [&b"CONNECT\n"[..], b"CONNECT\r\n", b"STOMP\n", b"STOMP\r\n"]
        .iter()
        .fold(Opening::No, |answer, mark| {
            answer.or(Opening::mark(stream, mark))
        })
}

/// A command, header lines, an empty line, a body that ends with a zero byte; line ends between frames are heart-beats.
pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let beats = unread
        .iter()
        .take_while(|byte| matches!(byte, b'\n' | b'\r'))
        .count();
    if beats > 0 {
        return Step::Took(beats);
    }
    let Some(end) = memchr::memchr(0, unread) else {
        return Step::Wait;
    };
    let frame = unread.get(..end).unwrap_or_default();
    let mut body = None;
    for (start, line) in text::lines(frame).skip(1) {
        if line.is_empty() {
            body = frame.get(start..).map(|rest| (start, rest));
            break;
        }
        match text::header(line, start) {
            Some((b"login", value)) => notes.certain(&USER, value),
            Some((b"passcode", value)) => notes.certain(&PASSWORD, value),
            Some(_) => {}
            None => return Step::Lost,
        }
    }
    if let Some((start, body)) = body {
        parameters::json(body, start, notes);
    }
    Step::Took(end + 1)
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn the_login_and_what_is_sent_are_told() {
        let (told, protocol) = told(
            b"CONNECT\naccept-version:1.2\nlogin:anne\npasscode:s3cret9\n\n\0\nSEND\ndestination:/q\n\n{\"imei\":356938035643809}\0",
        );
        assert_eq!(protocol.map(|reading| reading.protocol), Some("stomp"));
        assert_eq!(
            told,
            [
                ("stomp.user", "anne".to_owned()),
                ("stomp.password", "s3cret9".to_owned()),
                ("parameter.device", "356938035643809".to_owned()),
            ]
        );
    }

    #[test]
    fn an_http_tunnel_is_none() {
        let (_, protocol) = told(b"CONNECT a.example:443 HTTP/1.1\r\n\r\n");
        assert_eq!(protocol.map(|reading| reading.protocol), Some("http"));
    }
}
