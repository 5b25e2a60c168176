//! Syslog (RFC 5424, RFC 3164), in datagrams and over streams (RFC 6587): the host's name and the message.

use super::shape::{Set, Shape};
use super::stream::{Opening, Step};
use super::{Notes, Reading, text};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const HOST: Leak = Leak::new("syslog.host", Class::HostName, "host");
const MESSAGE: Leak = Leak::new("syslog.message", Class::Content, "message");

pub(super) const LEAKS: &[Leak] = &[HOST, MESSAGE];

pub(super) const SHAPE: Shape = Shape::first(Set::of(b"<"));

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let priority = priority(payload)?;
    let rest = payload.get(priority..)?;
    if !text::is_text(rest.strip_suffix(&[0]).unwrap_or(rest).trim_ascii_end()) {
        return None;
    }
    message(rest, priority, notes);
    Some(Reading::clear("syslog"))
}

pub(super) fn open(stream: &[u8]) -> Opening {
    let digits = stream
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    // Octet counting puts the length and a blank before each message.
    let counted = match stream.get(digits..) {
        Some([b' ', rest @ ..]) if (1..=5).contains(&digits) => Some(rest),
        _ => None,
    };
    let frame = counted.unwrap_or(stream);
    if priority(frame).is_some() {
        return Opening::Yes;
    }
    let may_grow = frame.len() < 5
        && frame.first().is_none_or(|first| *first == b'<')
        && frame.iter().skip(1).all(u8::is_ascii_digit);
    if may_grow {
        Opening::Perhaps
    } else {
        Opening::No
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let start = memchr::memchr(b'<', unread.get(..8).unwrap_or(unread));
    let line = text::line(unread);
    let (bytes, taken) = line.map_or((unread, None), |(line, taken)| (line, Some(taken)));
    let read = start.and_then(|start| {
        let priority = start + priority(bytes.get(start..)?)?;
        message(bytes.get(priority..)?, priority, notes);
        Some(())
    });
    match (read, taken) {
        (_, None) => Step::Wait,
        (Some(()), Some(taken)) => Step::Took(taken),
        (None, Some(_)) => Step::Lost,
    }
}

/// The length of `<n>` with n up to 191.
fn priority(bytes: &[u8]) -> Option<usize> {
    let rest = bytes.strip_prefix(b"<")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let value: u16 = std::str::from_utf8(rest.get(..digits)?)
        .ok()?
        .parse()
        .ok()?;
    (value <= 191 && digits <= 3 && rest.get(digits) == Some(&b'>')).then_some(digits + 2)
}

fn message(rest: &[u8], start: usize, notes: &mut Notes<'_>) {
    let mut words = text::words(rest, start);
    let host = match words.next() {
        // Version, time, host.
        Some((_, b"1")) => words.nth(1),
        // Month, day, maybe a year, time, host.
        Some((_, month)) if MONTHS.iter().any(|name| month == *name) => match words.nth(1) {
            Some((_, year)) if !year.contains(&b':') => words.nth(1),
            _ => words.next(),
        },
        // One word of date and time (RFC 3339), host.
        Some((_, [b'0'..=b'9', _, _, _, b'-', _, _, b'-', _, _, b'T', ..])) => words.next(),
        _ => None,
    };
    let from = host.map_or(start, |(span, host)| {
        let end = span.end;
        match host.strip_suffix(b":") {
            _ if host == b"-" => {}
            None => notes.certain(&HOST, span),
            // Where the host was left out a program's tag stands; either ends in a colon.
            Some(tag) => notes.probable(&HOST, span.start..span.start + tag.len()),
        }
        end
    });
    let text = rest.get(from - start..).unwrap_or_default();
    notes.certain(&MESSAGE, text::trimmed(text, from));
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::{found, told};
    use super::*;

    #[test]
    fn the_host_follows_the_time_however_that_is_written() {
        for line in [
            &b"<30>Feb  8 10:11:12 annes-pc sshd[1]: hi"[..],
            b"<30>Feb 08 2021 10:11:12 annes-pc sshd[1]: hi",
            b"<30>2021-02-08T10:11:12.123+01:00 annes-pc sshd[1]: hi",
            b"<30>1 2021-02-08T10:11:12Z annes-pc sshd 1 - - hi",
        ] {
            let told = found(read, line).unwrap();
            assert_eq!(&line[told[0].span.clone()], b"annes-pc");
        }
    }

    #[test]
    fn both_formats_tell_host_and_message() {
        for line in [
            &b"<34>1 2003-10-11T22:14:15Z annes-pc su - ID47 - failed"[..],
            b"<34>Oct 11 22:14:15 annes-pc su: failed",
        ] {
            let told = found(read, line).unwrap();
            assert_eq!(&line[told[0].span.clone()], b"annes-pc");
            assert_eq!(told[1].leak, "syslog.message");
        }
    }

    #[test]
    fn a_bare_message_is_content_and_noise_is_nothing() {
        assert_eq!(
            found(read, b"<13>link down").unwrap()[0].leak,
            "syslog.message"
        );
        assert_eq!(found(read, b"<192>x"), None);
        assert_eq!(found(read, b"<13>\x80\x01\x02"), None);
    }

    #[test]
    fn messages_over_a_stream_are_read_line_by_line() {
        let (told, _) = told(b"<34>Oct 11 22:14:15 a-pc su: x\n<34>Oct 11 22:14:16 b-pc su: y\n");
        let hosts: Vec<_> = told
            .iter()
            .filter(|(leak, _)| *leak == "syslog.host")
            .collect();
        assert_eq!(hosts.len(), 2);
    }
}
