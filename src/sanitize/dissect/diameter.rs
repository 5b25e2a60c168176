//! Diameter (RFC 6733): the subscriber. It belongs between operators and has no business on any other network.

use super::Notes;
use super::bytes::Bytes;
use super::stream::{Opening, Step};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const SUBSCRIBER: Leak = Leak::new(
    "diameter.subscriber",
    Class::PersonId,
    "user name, IMSI or telephone number",
);
const HOST: Leak = Leak::new("diameter.host", Class::HostName, "origin host");

pub(super) const LEAKS: &[Leak] = &[SUBSCRIBER, HOST];

const HEADER: usize = 20;

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        // Version, a length in words, no reserved flag, a command below 2^16.
        [1, 0, _, length, flags, 0, _, _, ..] if length.is_multiple_of(4) && flags & 0x0f == 0 => {
            if stream.len() < HEADER + 8 {
                Opening::Perhaps
            } else {
                first_value(stream)
            }
        }
        [1] | [1, 0] | [1, 0, _] => Opening::Perhaps,
        [1, 0, _, length, ..] if stream.len() < 8 && length.is_multiple_of(4) => Opening::Perhaps,
        _ => Opening::No,
    }
}

/// The first value is the session (263) or the origin host (264).
fn first_value(stream: &[u8]) -> Opening {
    match stream.get(HEADER..HEADER + 4) {
        Some([0, 0, 1, 7 | 8]) => Opening::Yes,
        _ => Opening::No,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    let (Some(1), Some(length)) = (bytes.u8(), bytes.u24()) else {
        return if unread.len() < 4 {
            Step::Wait
        } else {
            Step::Lost
        };
    };
    let length = length as usize;
    let Some(message) = unread
        .get(..length)
        .filter(|message| message.len() >= HEADER)
    else {
        return if length < HEADER {
            Step::Lost
        } else {
            Step::Wait
        };
    };
    let mut bytes = Bytes::new(message);
    bytes.skip(HEADER);
    values(bytes, notes);
    Step::Took(length)
}

fn values(mut bytes: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    while !bytes.is_empty() {
        let code = bytes.u32()?;
        let flags = bytes.u8()?;
        let vendor = if flags & 0x80 == 0 { 0 } else { 4 };
        let length = (bytes.u24()? as usize).checked_sub(8 + vendor)?;
        bytes.skip(vendor)?;
        let value = bytes.span(length)?;
        bytes.skip((length.next_multiple_of(4) - length).min(bytes.len()))?;
        match code {
            1 | 444 => notes.certain(&SUBSCRIBER, value),
            264 => notes.certain(&HOST, value),
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn the_user_of_a_request_is_told() {
        let mut stream = vec![
            1, 0, 0, 0, 0x80, 0, 1, 16, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2,
        ];
        stream.extend(b"\0\0\x01\x08\x40\0\0\x0bh.x\0\0\0\0\x01\x40\0\0\x0canne");
        stream[3] = stream.len() as u8;
        assert_eq!(
            told(&stream).0[1],
            ("diameter.subscriber", "anne".to_owned())
        );
    }
}
