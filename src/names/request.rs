//! HTTP/1 requests (RFC 9112), one after the other: the host that each asks for, and where the next one begins.

use super::shown::canonical;
use crate::payload::text;
use std::ops::Range;

/// Whether bytes begin a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    Yes,
    Perhaps,
    No,
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of it.
    pub(super) len: usize,
    /// The host, if it is a name.
    pub(super) host: Option<Box<str>>,
    /// What follows.
    pub(super) body: Body,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// So many bytes, then the next request.
    Bytes(u64),
    /// Chunks, then the next request.
    Chunks,
    /// Another protocol.
    Tunnel,
    /// Nobody can tell.
    Unknown,
}

/// A method is no longer than this.
const LONGEST_METHOD: usize = 24;

/// Judges the first bytes by the request line.
pub(super) fn begins(stream: &[u8]) -> Begins {
    let is_token = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'-';
    let method = stream.iter().take_while(|byte| is_token(byte)).count();
    match stream.get(method) {
        _ if method > LONGEST_METHOD => Begins::No,
        None => Begins::Perhaps,
        Some(b' ') if method > 0 => match text::line(stream) {
            Some((line, _)) if version(line).is_some() => Begins::Yes,
            Some(_) => Begins::No,
            None => Begins::Perhaps,
        },
        Some(_) => Begins::No,
    }
}

/// The version at the end of a request line.
fn version(line: &[u8]) -> Option<u8> {
    match line.last_chunk::<9>()? {
        [
            b' ',
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            major @ b'1'..=b'2',
            b'.',
            b'0'..=b'9',
        ] => Some(*major),
        _ => None,
    }
}

impl Head {
    /// Reads a head from the front of `stream`; `None` while it is not complete.
    pub(super) fn read(stream: &[u8]) -> Option<Self> {
        let mut fields = Fields::default();
        let mut lines = text::lines(stream);
        let (_, first) = lines.next()?;
        for (start, line) in lines {
            if line.is_empty() {
                let (_, taken) = text::line(stream.get(start..)?)?;
                return Some(fields.finish(first, start + taken));
            }
            fields.add(line);
        }
        None
    }
}

/// What the lines of a head say.
#[derive(Default)]
struct Fields<'a> {
    hosts: Vec<&'a [u8]>,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
    contradicts: bool,
}

impl<'a> Fields<'a> {
    fn add(&mut self, line: &'a [u8]) {
        let Some((name, Range { start, end })) = text::header(line, 0) else {
            return;
        };
        let value = line.get(start..end).unwrap_or_default();
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts.push(value);
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value)
                .ok()
                .and_then(|digits| digits.parse().ok());
            self.contradicts |= length.is_none() || self.length.is_some_and(|l| Some(l) != length);
            self.length = length;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked |= text::find(value, b"chunked").is_some();
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        }
    }

    fn finish(self, first: &[u8], len: usize) -> Head {
        let mut words = text::words(first, 0).map(|(_, word)| word);
        let (method, target) = (
            words.next().unwrap_or_default(),
            words.next().unwrap_or_default(),
        );
        let connects = method.eq_ignore_ascii_case(b"connect");
        // A host in the request line outdoes the header (RFC 9112, section 3.2.2). Two headers name nobody.
        let host = match (authority(target, connects), self.hosts.as_slice()) {
            (Some(authority), _) => Some(authority),
            (None, [host]) => Some(*host),
            (None, _) => None,
        };
        let body = match version(first) {
            _ if connects || self.upgrade => Body::Tunnel,
            Some(b'1') if self.contradicts => Body::Unknown,
            Some(b'1') if self.chunked => Body::Chunks,
            Some(b'1') => Body::Bytes(self.length.unwrap_or(0)),
            // The preface of HTTP/2: its requests are compressed.
            _ => Body::Unknown,
        };
        Head {
            len,
            host: host.map(without_port).and_then(canonical),
            body,
        }
    }
}

/// The host in a request line: of a CONNECT, or of a full address.
fn authority(target: &[u8], connects: bool) -> Option<&[u8]> {
    if connects {
        return Some(target);
    }
    let start = memchr::memmem::find(target, b"://")? + 3;
    if target.starts_with(b"/") {
        return None;
    }
    let rest = target.get(start..)?;
    let end = rest
        .iter()
        .position(|byte| b"/?#".contains(byte))
        .unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    // What stands before the sign are the user's name and password.
    authority.rsplit(|byte| *byte == b'@').next()
}

fn without_port(host: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', host) {
        Some(colon) => host.get(..colon).unwrap_or_default(),
        None => host,
    }
}

/// Bytes of a chunk behind the line that says its size, with their line end; `None` if it says none, `Some(0)` for the
/// last.
pub(super) fn chunk(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?;
    let size = u64::from_str_radix(std::str::from_utf8(digits).ok()?.trim(), 16).ok()?;
    Some(if size == 0 { 0 } else { size.saturating_add(2) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(head: &str) -> Option<String> {
        Head::read(head.as_bytes())
            .expect("a whole head")
            .host
            .map(Into::into)
    }

    #[test]
    fn only_a_request_line_begins_a_request() {
        assert_eq!(begins(b"GET / HTTP/1.1\r\n"), Begins::Yes);
        assert_eq!(begins(b"GET / HT"), Begins::Perhaps);
        assert_eq!(begins(b"GE"), Begins::Perhaps);
        for other in [
            &b"USER anne\r\n"[..],
            b"\x16\x03",
            b" GET",
            b"SSH-2.0-x\r\n",
        ] {
            assert_eq!(begins(other), Begins::No, "{other:?}");
        }
        assert_eq!(begins(&[b'A'; 100]), Begins::No);
    }

    #[test]
    fn the_host_is_that_of_the_request_line_if_it_has_one() {
        assert_eq!(
            host("GET / HTTP/1.1\r\nhost : A.Example:8080\r\n\r\n"),
            Some("a.example".into())
        );
        assert_eq!(
            host("GET http://u@b.example/?x=http://c HTTP/1.1\r\nHost: a.example\r\n\r\n"),
            Some("b.example".into())
        );
        assert_eq!(
            host("CONNECT c.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n"),
            Some("c.example".into())
        );
        assert_eq!(
            host("GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n"),
            None
        );
        assert_eq!(
            host("GET /?x=http://c HTTP/1.0\nHost: a.example\n\n"),
            Some("a.example".into())
        );
    }

    #[test]
    fn two_hosts_name_nobody() {
        assert_eq!(
            host("GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n"),
            None
        );
    }

    #[test]
    fn what_follows_a_head_is_known_or_said_to_be_unknown() {
        let body = |head: &str| Head::read(head.as_bytes()).map(|head| head.body);
        assert_eq!(
            body("POST / HTTP/1.1\r\nContent-Length: 12\r\n\r\n"),
            Some(Body::Bytes(12))
        );
        assert_eq!(
            body("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
            Some(Body::Unknown)
        );
        assert_eq!(
            body("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Some(Body::Chunks)
        );
        assert_eq!(
            body("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"),
            Some(Body::Tunnel)
        );
        assert_eq!(body("PRI * HTTP/2.0\r\n\r\n"), Some(Body::Unknown));
        assert_eq!(body("GET / HTTP/1.1\r\nHost: a\r\n"), None);
        assert_eq!(
            (chunk(b"1f;x"), chunk(b"0"), chunk(b"z")),
            (Some(33), Some(0), None)
        );
    }
}
