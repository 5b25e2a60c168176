//! WebSocket frames of a client (RFC 6455, section 5), after the upgrade that [`super::http`] reads. The mask hides
//! nothing: its key stands in the frame. Some frames carry messages of a protocol of their own.

use super::bytes::Bytes;
use super::stream::{Opening, Step};
use super::{Notes, mqtt, parameters, sip, stomp, text};
use crate::sanitize::class::{Certainty, Class};
use crate::sanitize::finding::{Finding, Leak};

const MESSAGE: Leak = Leak::new("websocket.message", Class::Content, "message");

pub(super) const LEAKS: &[Leak] = &[MESSAGE];

/// Bytes of a frame that are unmasked and read.
const READ: usize = 2048;

/// Frames begin only after an upgrade, never a stream.
pub(super) fn open(_: &[u8]) -> Opening {
    Opening::No
}

/// Reads one frame. The phase is 0, or that of MQTT once it is spoken.
pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    match frame(phase, unread, notes) {
        Some(length) => Step::Took(length),
        None if unread.len() < READ => Step::Wait,
        None => Step::Lost,
    }
}

/// Reads one frame as far as it is needed; its whole length.
fn frame(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Option<usize> {
    let mut bytes = Bytes::new(unread);
    let opcode = bytes.u8()? & 15;
    let second = bytes.u8()?;
    let length = match second & 0x7f {
        126 => u64::from(bytes.u16()?),
        127 => u64::from(bytes.u32()?) << 32 | u64::from(bytes.u32()?),
        short => u64::from(short),
    };
    let length = usize::try_from(length).ok()?;
    let key = if second & 0x80 == 0 {
        [0; 4]
    } else {
        bytes.array::<4>()?
    };
    let span = bytes.span(length.min(READ))?;
    let start = span.start;
    let plain: Vec<u8> = bytes
        .slice(&span)
        .iter()
        .zip(key.iter().cycle())
        .map(|(byte, key)| byte ^ key)
        .collect();
    if let Some(found) = carried(phase, &plain) {
        notes.adopt(found, start);
    } else if opcode == 1 || (opcode <= 2 && text::is_text(&plain)) {
        notes.decoded(&MESSAGE, Certainty::Certain, span, &plain);
        let mut found: Vec<Finding> = Vec::new();
        parameters::json(&plain, 0, &mut Notes::new(&plain, &mut found));
        notes.adopt(found, start);
    }
    start.checked_add(length)
}

/// What a frame that is a message of another protocol tells; `None` if it is of none.
fn carried(phase: &mut u8, plain: &[u8]) -> Option<Vec<Finding>> {
    let mut found = Vec::new();
    let mut notes = Notes::new(plain, &mut found);
    if *phase > 0 || mqtt::open(plain) == Opening::Yes {
        mqtt::step(phase, plain, &mut notes);
    } else if stomp::open(plain) == Opening::Yes {
        stomp::step(&mut 0, plain, &mut notes);
    } else if sip::open(plain) == Opening::Yes {
        sip::step(&mut 0, plain, &mut notes);
    } else {
        return None;
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn masked_messages_are_read() {
        let mut stream = b"GET /chat HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".to_vec();
        let text = b"{\"uid\":512345687}";
        stream.extend([0x81, 0x80 | text.len() as u8, 1, 2, 3, 4]);
        stream.extend(
            text.iter()
                .zip([1, 2, 3, 4].iter().cycle())
                .map(|(a, b)| a ^ b),
        );
        let leaks: Vec<_> = told(&stream).0.into_iter().map(|(leak, _)| leak).collect();
        assert_eq!(leaks, ["websocket.message", "parameter.person"]);
    }

    #[test]
    fn messages_of_a_protocol_within_are_read_as_such() {
        let mut stream = b"GET /mqtt HTTP/1.1\r\nUpgrade: websocket\r\n\r\n".to_vec();
        for packet in [
            &b"\x10\x1d\0\x04MQTT\x04\xc2\0\x3c\0\x03tab\0\x04anne\0\x06secret"[..],
            b"\x30\x0a\0\x03a/bhello",
        ] {
            stream.extend([0x82, 0x80 | packet.len() as u8, 7, 2, 3, 4]);
            let mask = [7, 2, 3, 4].into_iter().cycle();
            stream.extend(packet.iter().zip(mask).map(|(byte, key)| byte ^ key));
        }
        let leaks: Vec<_> = told(&stream).0.into_iter().map(|(leak, _)| leak).collect();
        assert_eq!(
            leaks,
            [
                "mqtt.client",
                "mqtt.user",
                "mqtt.password",
                "mqtt.topic",
                "mqtt.message"
            ]
        );
    }
}
