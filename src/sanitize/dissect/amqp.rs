//! AMQP clients: the answer to the server's choice of mechanisms, in AMQP 0-9-1 (section 1.4.2.3) and in AMQP 1.0
//! (part 5, section 5.3.3.2).

use super::Notes;
use super::bytes::Bytes;
use super::stream::{Opening, Step};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;
use std::ops::Range;

const USER: Leak = Leak::new("amqp.user", Class::PersonId, "user");
const PASSWORD: Leak = Leak::new("amqp.password", Class::Credential, "password");

pub(super) const LEAKS: &[Leak] = &[USER, PASSWORD];

/// Phases: a protocol header is next, frames of 0-9-1, frames of 1.0.
const HEADER: u8 = 0;
const FRAMES: u8 = 1;
const FRAMES_1: u8 = 2;

pub(super) fn open(stream: &[u8]) -> Opening {
    Opening::mark(stream, b"AMQP")
}

pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    match *phase {
        HEADER => match unread {
            [b'A', b'M', b'Q', b'P', 0, 0, 9, _, ..] => {
                *phase = FRAMES;
                Step::Took(8)
            }
            [b'A', b'M', b'Q', b'P', 2, 1, 0, 0, ..] => {
                // TLS is next.
                Step::Lost
            }
            [b'A', b'M', b'Q', b'P', 0 | 3, 1, 0, 0, ..] => {
                *phase = FRAMES_1;
                Step::Took(8)
            }
            _ if unread.len() < 8 => Step::Wait,
            _ => Step::Lost,
        },
        FRAMES => frame(unread, notes),
        _ if unread.starts_with(b"AMQP") => {
            *phase = HEADER;
            step(phase, unread, notes)
        }
        _ => frame_1(unread, notes),
    }
}

/// Type, channel, length, content, an end mark.
fn frame(unread: &[u8], notes: &mut Notes<'_>) -> Step {
    const METHOD: u8 = 1;
    const START_OK: u32 = 10 << 16 | 11;
    let mut bytes = Bytes::new(unread);
    let (Some(kind), Some(_), Some(length)) = (bytes.u8(), bytes.u16(), bytes.u32()) else {
        return Step::Wait;
    };
    let whole = (length as usize).saturating_add(8);
    if kind != METHOD {
        return Step::Took(whole);
    }
    let Some(mut content) = bytes.sub(length as usize) else {
        return if whole > 4000 {
            Step::Took(whole)
        } else {
            Step::Wait
        };
    };
    if content.u32() == Some(START_OK)
        && let Some((plain, response)) = start_ok(&mut content)
    {
        answer(plain, response, notes);
    }
    Step::Took(whole)
}

/// Whether the mechanism is PLAIN, and the response.
fn start_ok(content: &mut Bytes<'_>) -> Option<(bool, Range<usize>)> {
    let properties = content.u32()? as usize;
    content.skip(properties)?;
    let length = usize::from(content.u8()?);
    let mechanism = content.span(length)?;
    let plain = content.slice(&mechanism) == b"PLAIN";
    let length = content.u32()? as usize;
    Some((plain, content.span(length)?))
}

/// Length, offset of the body in words, type 1 for SASL, channel.
fn frame_1(unread: &[u8], notes: &mut Notes<'_>) -> Step {
    const SASL: u8 = 1;
    let mut bytes = Bytes::new(unread);
    let (Some(length), Some(offset), Some(kind)) = (bytes.u32(), bytes.u8(), bytes.u8()) else {
        return Step::Wait;
    };
    let length = length as usize;
    if length < 8 {
        return Step::Lost;
    }
    if kind != SASL {
        return Step::Took(length);
    }
    if unread.len() < length {
        return if length > 4000 {
            Step::Took(length)
        } else {
            Step::Wait
        };
    }
    let mut frame = Bytes::new(unread.get(..length).unwrap_or_default());
    if let Some((plain, response)) = init(&mut frame, usize::from(offset) * 4) {
        answer(plain, response, notes);
    }
    Step::Took(length)
}

/// The described list `sasl-init`: mechanism as a symbol, response as binary.
fn init(frame: &mut Bytes<'_>, body: usize) -> Option<(bool, Range<usize>)> {
    frame.skip(body)?;
    frame.tag(&[0x00, 0x53, 0x41])?;
    match frame.u8()? {
        0xc0 => frame.skip(2)?,
        0xd0 => frame.skip(8)?,
        _ => return None,
    }
    frame.tag(&[0xa3])?;
    let length = usize::from(frame.u8()?);
    let mechanism = frame.span(length)?;
    let plain = frame.slice(&mechanism) == b"PLAIN";
    let length = match frame.u8()? {
        0xa0 => usize::from(frame.u8()?),
        0xb0 => frame.u32()? as usize,
        _ => return None,
    };
    Some((plain, frame.span(length)?))
}

/// PLAIN is an identity to act as, the user and the password, parted by zero bytes (RFC 4616).
fn answer(plain: bool, response: Range<usize>, notes: &mut Notes<'_>) {
    let payload = notes.payload();
    let bytes = payload.get(response.clone()).unwrap_or_default();
    let parted = || {
        let user = memchr::memchr(0, bytes)? + 1;
        let password = user + memchr::memchr(0, bytes.get(user..)?)? + 1;
        Some((user, password))
    };
    match parted().filter(|_| plain) {
        Some((user, password)) => {
            notes.certain(&USER, response.start + user..response.start + password - 1);
            notes.certain(&PASSWORD, response.start + password..response.end);
        }
        None => notes.probable(&PASSWORD, response),
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    const TOLD: [(&str, &str); 2] = [("amqp.user", "anne"), ("amqp.password", "s3cret9")];

    #[test]
    fn the_answer_of_0_9_1_is_told() {
        let mut content =
            b"\0\x0a\0\x0b\0\0\0\x03abc\x05PLAIN\0\0\0\x0d\0anne\0s3cret9\x05en_US".to_vec();
        let mut stream = b"AMQP\0\0\x09\x01\x01\0\0\0\0\0".to_vec();
        stream.push(content.len() as u8);
        stream.append(&mut content);
        stream.push(0xce);
        let (told, protocol) = told(&stream);
        assert_eq!(protocol.map(|reading| reading.protocol), Some("amqp"));
        assert_eq!(told, TOLD.map(|(leak, text)| (leak, text.to_owned())));
    }

    #[test]
    fn the_answer_of_1_0_is_told() {
        let mut body = b"\0\x53\x41\xc0\x18\x02\xa3\x05PLAIN\xa0\x0d\0anne\0s3cret9".to_vec();
        let mut stream = b"AMQP\x03\x01\0\0\0\0\0".to_vec();
        stream.push((body.len() + 8) as u8);
        stream.extend([2, 1, 0, 0]);
        stream.append(&mut body);
        let (told, _) = told(&stream);
        assert_eq!(told, TOLD.map(|(leak, text)| (leak, text.to_owned())));
    }
}
