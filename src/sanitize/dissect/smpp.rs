//! SMPP 3.4: who binds with which password, and short messages with their sender and receiver.

use super::Notes;
use super::bytes::Bytes;
use super::stream::{Opening, Step};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const SYSTEM: Leak = Leak::new("smpp.system", Class::PersonId, "system identifier");
const PASSWORD: Leak = Leak::new("smpp.password", Class::Credential, "password");
const NUMBER: Leak = Leak::new("smpp.number", Class::PersonId, "telephone number");
const MESSAGE: Leak = Leak::new("smpp.message", Class::Content, "short message");

pub(super) const LEAKS: &[Leak] = &[SYSTEM, PASSWORD, NUMBER, MESSAGE];

const HEADER: usize = 16;
/// Binding as receiver, transmitter and both.
const BINDS: [u32; 3] = [1, 2, 9];
const SUBMIT: u32 = 4;
const DELIVER: u32 = 5;

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        // A bind: length below 256, no status.
        [
            0,
            0,
            0,
            18..=255,
            0,
            0,
            0,
            1 | 2 | 9,
            0,
            0,
            0,
            0,
            _,
            _,
            _,
            _,
            first,
            ..,
        ] if first.is_ascii_graphic() => Opening::Yes,
        [0, 0, 0, 18..=255, ..] if stream.len() < 17 => Opening::Perhaps,
        [0] | [0, 0] | [0, 0, 0] => Opening::Perhaps,
        _ => Opening::No,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    let (Some(length), Some(command)) = (bytes.u32(), bytes.u32()) else {
        return Step::Wait;
    };
    let length = length as usize;
    if length < HEADER {
        return Step::Lost;
    }
    let Some(body) = unread.get(..length) else {
        return Step::Wait;
    };
    let mut bytes = Bytes::new(body);
    bytes.skip(HEADER);
    if BINDS.contains(&command) {
        bind(bytes, notes);
    } else if command == SUBMIT || command == DELIVER {
        message(bytes, notes);
    }
    Step::Took(length)
}

fn bind(mut bytes: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    notes.certain(&SYSTEM, bytes.until(0)?);
    notes.certain(&PASSWORD, bytes.until(0)?);
    Some(())
}

fn message(mut bytes: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    bytes.until(0)?;
    for _ in 0..2 {
        bytes.skip(2)?;
        notes.certain(&NUMBER, bytes.until(0)?);
    }
    bytes.skip(3)?;
    bytes.until(0)?;
    bytes.until(0)?;
    bytes.skip(4)?;
    let length = bytes.u8()?;
    notes.certain(&MESSAGE, bytes.span(usize::from(length))?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn a_bind_tells_its_password() {
        let body = b"esme\0pw123\0\0\x34\0\0\0";
        let mut stream = vec![
            0,
            0,
            0,
            16 + body.len() as u8,
            0,
            0,
            0,
            9,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            1,
        ];
        stream.extend(body);
        assert_eq!(told(&stream).0[1], ("smpp.password", "pw123".to_owned()));
    }
}
