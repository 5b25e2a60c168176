//! HTTP/1 requests (RFC 9110, RFC 9112): credentials, cookies, identifiers and coordinates in what is asked for, in
//! headers and in bodies that name their values; the host and the software. Also answers of a server, as far as they
//! set cookies, and RTSP (RFC 7826), whose heads are alike.

use super::stream::{Opening, Step};
use super::{Notes, ntlm, parameters, text, websocket};
use crate::sanitize::class::Class;
use crate::sanitize::finding::{Codec, Leak};
use std::ops::Range;

const HOST: Leak = Leak::new("http.host", Class::DestMeta, "host");
const AUTHORIZATION: Leak =
    Leak::new("http.authorization", Class::Credential, "authorization").with(Codec::Blanks);
const COOKIE: Leak = Leak::new("http.cookie", Class::SessionId, "cookie").with(Codec::Blanks);
const USER_AGENT: Leak =
    Leak::new("http.user-agent", Class::Software, "software").with(Codec::Blanks);
const FROM: Leak = Leak::new("http.from", Class::PersonId, "mail address").with(Codec::Blanks);
const FORWARDED: Leak =
    Leak::new("http.forwarded", Class::Location, "address behind a proxy").with(Codec::Blanks);

const USER: Leak = Leak::new("http.user", Class::PersonId, "user name").with(Codec::Blanks);

pub(super) const LEAKS: &[Leak] = &[
    HOST,
    AUTHORIZATION,
    COOKIE,
    USER_AGENT,
    FROM,
    FORWARDED,
    USER,
];

const METHODS: [&[u8]; 33] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"CONNECT ",
    b"TRACE ",
    b"PROPFIND ",
    b"REPORT ",
    b"SUBSCRIBE ",
    b"UNSUBSCRIBE ",
    b"NOTIFY ",
    // WebDAV (RFC 4918, RFC 3253), media sources.
    b"PROPPATCH ",
    b"MKCOL ",
    b"COPY ",
    b"MOVE ",
    b"LOCK ",
    b"UNLOCK ",
    b"SEARCH ",
    b"MERGE ",
    b"SOURCE ",
    // RTSP (RFC 7826) has heads alike.
    b"DESCRIBE ",
    b"ANNOUNCE ",
    b"SETUP ",
    b"PLAY ",
    b"PAUSE ",
    b"RECORD ",
    b"TEARDOWN ",
    b"GET_PARAMETER ",
    b"SET_PARAMETER ",
    b"REDIRECT ",
];

/// Phases: a head is next, the lines of a long head, the chunks of a body, another protocol, WebSocket frames.
const HEAD: u8 = 0;
const LINES: u8 = 1;
const CHUNKS: u8 = 2;
const OTHER: u8 = 3;
const FRAMES: u8 = 4;
// Above it stands what the frames carry.

/// A head longer than this is read line by line; a body up to this length is read whole.
pub(super) const LONG_HEAD: usize = 3000;
pub(super) const SHORT_BODY: usize = 1000;

pub(super) fn open(stream: &[u8]) -> Opening {
    let mut answer = Opening::mark(stream, b"HTTP/1.");
    for method in METHODS {
        answer = answer.or(Opening::mark(stream, method));
    }
    if answer != Opening::Yes {
        return answer;
    }
    // The same words begin other protocols' requests.
    match text::line(stream) {
        Some((line, _)) if is_first_line(line) => Opening::Yes,
        Some(_) => Opening::No,
        None if stream.len() < LONG_HEAD => Opening::Perhaps,
        None => Opening::Yes,
    }
}

pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    match *phase {
        HEAD => head(phase, unread, notes),
        LINES => lines(phase, unread, notes),
        CHUNKS => chunk(phase, unread, notes),
        FRAMES.. => {
            let mut inner = *phase - FRAMES;
            let step = websocket::step(&mut inner, unread, notes);
            *phase = FRAMES.saturating_add(inner);
            step
        }
        _ => Step::Switch,
    }
}

/// Header lines one by one, of a head that is too long to wait for or that ends a body.
fn lines(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let Some(last) = memchr::memrchr(b'\n', unread) else {
        header(unread, 0, notes);
        return Step::Wait;
    };
    for (start, line) in text::lines(unread.get(..=last).unwrap_or_default()) {
        if line.is_empty() {
            *phase = HEAD;
            let end = unread.get(start..).and_then(text::line);
            return Step::Took(start + end.map_or(0, |(_, taken)| taken));
        }
        header(line, start, notes);
    }
    Step::Took(last + 1)
}

fn is_first_line(line: &[u8]) -> bool {
    let versions: [&[u8]; 4] = [b"HTTP/1.1", b"HTTP/1.0", b"RTSP/1.0", b"RTSP/2.0"];
    line.starts_with(b"HTTP/1.")
        || versions.iter().any(|version| {
            line.strip_suffix(*version)
                .is_some_and(|rest| rest.ends_with(b" "))
        })
}

/// What a head says of what follows it.
#[derive(Default)]
struct Body {
    length: usize,
    next: u8,
}

fn head(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let crlf = memchr::memmem::find(unread, b"\r\n\r\n").map(|end| end + 4);
    let end = crlf.or_else(|| memchr::memmem::find(unread, b"\n\n").map(|end| end + 2));
    let head = unread
        .get(..end.unwrap_or(unread.len()))
        .unwrap_or_default();
    let mut lines = text::lines(head);
    let Some((_, first)) = lines.next() else {
        return Step::Wait;
    };
    let complete = text::line(head).is_some();
    if complete && !is_first_line(first) {
        return Step::Lost;
    }
    target(first, notes);
    let mut body = Body::default();
    if first.starts_with(b"CONNECT ") {
        body.next = OTHER;
    }
    for (start, line) in lines {
        header(line, start, notes);
        describe(line, &mut body);
    }
    let Some(end) = end else {
        if unread.len() < LONG_HEAD {
            return Step::Wait;
        }
        *phase = LINES;
        let lines = memchr::memrchr(b'\n', unread).map_or(0, |at| at + 1);
        return Step::Took(lines);
    };
    let there = unread.get(end..).unwrap_or_default();
    if body.length <= SHORT_BODY && there.len() < body.length && end + body.length < LONG_HEAD {
        return Step::Wait;
    }
    let bytes = there.get(..body.length).unwrap_or(there);
    parameters::any(bytes, end, notes);
    *phase = body.next;
    Step::Took(end.saturating_add(body.length))
}

/// The query of a request's target.
fn target(line: &[u8], notes: &mut Notes<'_>) {
    let Some((span, target)) = text::words(line, 0).nth(1) else {
        return;
    };
    if !line.starts_with(b"HTTP/") {
        address(target, span.start, notes);
    }
}

/// The query of an address, and what it says before its host.
pub(super) fn address(target: &[u8], start: usize, notes: &mut Notes<'_>) {
    if let Some(user) = text::between(target, 0, b"://", b"@").filter(|user| {
        target
            .get(user.clone())
            .is_some_and(|user| !user.contains(&b'/'))
    }) {
        notes.probable(&AUTHORIZATION, user.start + start..user.end + start);
    }
    if let Some(mark) = memchr::memchr(b'?', target) {
        let query = target.get(mark + 1..).unwrap_or_default();
        parameters::query(query, start + mark + 1, notes);
    }
}

/// Tells one header line, which begins at `start`.
fn header(line: &[u8], start: usize, notes: &mut Notes<'_>) {
    let Some((name, value)) = text::header(line, start) else {
        return;
    };
    let bytes = line
        .get(value.start.saturating_sub(start)..)
        .unwrap_or_default()
        .trim_ascii_end();
    field(name, bytes, value, notes);
}

/// Tells what a header says: `bytes`, which stand at `value`.
pub(super) fn field(name: &[u8], bytes: &[u8], value: Range<usize>, notes: &mut Notes<'_>) {
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    if is(b"host") {
        notes.certain(&HOST, value);
    } else if is(b"authorization") || is(b"proxy-authorization") {
        user(bytes, value.start, notes);
        notes.certain(&AUTHORIZATION, value);
    } else if is(b"cookie") || is(b"set-cookie") {
        notes.certain(&COOKIE, value);
    } else if is(b"user-agent") {
        notes.certain(&USER_AGENT, value);
    } else if is(b"from") {
        notes.certain(&FROM, value);
    } else if is(b"x-forwarded-for") || is(b"forwarded") || is(b"x-real-ip") {
        notes.certain(&FORWARDED, value);
    } else if is(b"referer") {
        address(bytes, value.start, notes);
    } else {
        // `X-Device-Id` and its kind.
        let bare = match name.first_chunk() {
            Some(b"x-" | b"X-") => name.get(2..).unwrap_or_default(),
            _ => name,
        };
        parameters::pair(bare, bytes, value, notes);
    }
}

/// Tells who logs in where the answer to a challenge says it: Digest (RFC 7616, section 3.4), and NTLM in base64 (RFC 4559,
/// section 4.1). What stands at `start` is all of the field.
fn user(bytes: &[u8], start: usize, notes: &mut Notes<'_>) {
    let Some(space) = memchr::memchr(b' ', bytes) else {
        return;
    };
    let (scheme, answer) = bytes.split_at_checked(space).unwrap_or_default();
    let is = |known: &[u8]| scheme.eq_ignore_ascii_case(known);
    if is(b"digest") {
        if let Some(user) = text::between(bytes, 0, b"username=\"", b"\"") {
            notes.certain(&USER, user.start + start..user.end + start);
        }
    } else if is(b"ntlm") || is(b"negotiate") {
        let token = answer.trim_ascii();
        let end = start + bytes.trim_ascii_end().len();
        ntlm::coded(token, end - token.len()..end, notes);
    }
}

fn describe(line: &[u8], body: &mut Body) {
    let Some((name, Range { start, end })) = text::header(line, 0) else {
        return;
    };
    let value = line.get(start..end).unwrap_or_default();
    if name.eq_ignore_ascii_case(b"content-length") {
        body.length = std::str::from_utf8(value)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(0);
    } else if name.eq_ignore_ascii_case(b"transfer-encoding")
        && text::find(value, b"chunked").is_some()
    {
        body.next = CHUNKS;
    } else if name.eq_ignore_ascii_case(b"upgrade") {
        body.next = if text::find(value, b"websocket").is_some() {
            FRAMES
        } else {
            OTHER
        };
    }
}

/// The size of a chunk in hexadecimal, its bytes, and a line end.
fn chunk(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let Some((line, taken)) = text::line(unread) else {
        return Step::Wait;
    };
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let size = std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| usize::from_str_radix(digits.trim(), 16).ok());
    let there = unread.get(taken..).unwrap_or_default();
    match size {
        None => Step::Lost,
        Some(0) => {
            *phase = LINES;
            Step::Took(taken)
        }
        Some(size) if size <= SHORT_BODY && there.len() < size => Step::Wait,
        Some(size) => {
            parameters::any(there.get(..size).unwrap_or(there), taken, notes);
            Step::Took(taken.saturating_add(size).saturating_add(2))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn headers_and_queries_are_told_in_their_places() {
        let (told, _) = told(
            b"GET /x?imei=356938035643809&q=1 HTTP/1.1\r\nHost: a.example\r\nAuthorization:  Basic dGVzdA==\r\nCookie: s=1\r\nUser-Agent: UA/1 (SM-G960F)\r\n\r\n",
        );
        assert_eq!(
            told,
            [
                ("parameter.device", "356938035643809".to_owned()),
                ("http.host", "a.example".to_owned()),
                ("http.authorization", "Basic dGVzdA==".to_owned()),
                ("http.cookie", "s=1".to_owned()),
                ("http.user-agent", "UA/1 (SM-G960F)".to_owned()),
            ]
        );
    }

    #[test]
    fn who_logs_in_is_told_where_the_answer_says_it() {
        let request = |answer: &str| format!("GET / HTTP/1.1\r\nAuthorization: {answer}\r\n\r\n");
        let digest = request("Digest realm=\"r\", username=\"anne\", response=\"0f\"");
        let (told, _) = told(digest.as_bytes());
        assert_eq!(told[0], ("http.user", "anne".to_owned()));
        assert_eq!(told[1].0, "http.authorization");

        let mut message = b"NTLMSSP\0\x03\0\0\0".to_vec();
        for (length, offset) in [(0_u16, 52_u32), (0, 52), (0, 52), (8, 52), (6, 60)] {
            message.extend([length.to_le_bytes(), length.to_le_bytes()].concat());
            message.extend(offset.to_le_bytes());
        }
        message.extend(b"a\0n\0n\0e\0p\0c\x001\0");
        let token = data_encoding::BASE64.encode(&message);
        let ntlm = request(&format!("NTLM {token}"));
        let mut found = Vec::new();
        crate::sanitize::dissect::stream::Reader::default().read(ntlm.as_bytes(), &mut found);
        let leaks: Vec<_> = found.iter().map(|finding| finding.leak).collect();
        assert_eq!(
            leaks,
            ["ntlm.user", "ntlm.workstation", "http.authorization"]
        );
        let at = ntlm.find(&token).unwrap();
        assert_eq!(found[0].span, at..at + token.len());
        for other in ["NTLM", "NTLM ", "Negotiate %%%", "Digest username="] {
            let (told, _) = super::super::notes::testing::told(request(other).as_bytes());
            assert!(
                told.iter().all(|(leak, _)| *leak == "http.authorization"),
                "{other}"
            );
        }
    }

    #[test]
    fn cameras_and_chunked_bodies_are_read() {
        let leaks = |stream: &[u8]| told(stream).0.into_iter().map(|t| t.0).collect::<Vec<_>>();
        assert_eq!(
            leaks(b"DESCRIBE rtsp://a/1 RTSP/1.0\r\nCSeq: 1\r\nAuthorization: Basic YTpi\r\n\r\n"),
            ["http.authorization"]
        );
        assert_eq!(
            leaks(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{\"user\":\"anne\"}\r\n0\r\n\r\n"),
            ["parameter.person"]
        );
    }

    #[test]
    fn forms_are_read_and_the_next_request_after_any_body() {
        let form = b"POST /a HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 23\r\n\r\nuser=anne&password=1234";
        let mut stream = form.to_vec();
        stream.extend(b"POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: b.example\r\n\r\n");
        let (told, _) = told(&stream);
        assert_eq!(
            told,
            [
                ("parameter.person", "anne".to_owned()),
                ("parameter.credential", "1234".to_owned()),
                ("http.host", "b.example".to_owned()),
            ]
        );
    }

    #[test]
    fn a_tunnel_is_read_on_as_what_it_carries() {
        let (told, _) = told(b"CONNECT h:25 HTTP/1.1\r\nHost: h:25\r\n\r\nSSH-2.0-x\r\n");
        assert_eq!(told[1].0, "ssh.software");
    }

    #[test]
    fn what_only_begins_like_a_request_is_not_one() {
        assert_eq!(told(b"GET mykey\r\nAuthorization: x\r\n").0, []);
    }
}
