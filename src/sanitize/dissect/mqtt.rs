//! MQTT 3.1, 3.1.1 and 5 (OASIS): client identifier, user and password, topics and what is published.

use super::bytes::Bytes;
use super::stream::{Opening, Step};
use super::{Notes, text};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;
use std::ops::Range;

const CLIENT: Leak = Leak::new("mqtt.client", Class::DeviceId, "client identifier");
const USER: Leak = Leak::new("mqtt.user", Class::PersonId, "user name");
const PASSWORD: Leak = Leak::new("mqtt.password", Class::Credential, "password");
const TOPIC: Leak = Leak::new("mqtt.topic", Class::ChannelId, "topic");
const MESSAGE: Leak = Leak::new("mqtt.message", Class::Content, "message");

pub(super) const LEAKS: &[Leak] = &[CLIENT, USER, PASSWORD, TOPIC, MESSAGE];

const LONG: usize = 3000;

pub(super) fn open(stream: &[u8]) -> Opening {
    let Some(rest) = stream.strip_prefix(&[0x10]) else {
        return if stream.is_empty() {
            Opening::Perhaps
        } else {
            Opening::No
        };
    };
    let length = rest
        .iter()
        .take(4)
        .take_while(|byte| **byte >= 0x80)
        .count()
        + 1;
    match rest.get(length..) {
        None => Opening::Perhaps,
        Some(name) => Opening::mark(name, b"\0\x04MQTT").or(Opening::mark(name, b"\0\x06MQIsdp")),
    }
}

/// Reads one packet. The phase keeps the protocol's version.
pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    let Some((head, length)) = bytes.u8().zip(variable(&mut bytes)) else {
        return if unread.len() < 5 {
            Step::Wait
        } else {
            Step::Lost
        };
    };
    let whole = bytes.position() + length;
    if unread.len() < whole.min(LONG) {
        return Step::Wait;
    }
    if let Some(packet) = bytes.sub(length.min(bytes.len())) {
        match head >> 4 {
            1 => connect(phase, packet, notes),
            3 => publish(*phase, head, packet, notes),
            8 => subscribe(*phase, packet, notes),
            _ => Some(()),
        };
    }
    Step::Took(whole)
}

/// A length of seven bits a byte, lowest first.
fn variable(bytes: &mut Bytes<'_>) -> Option<usize> {
    let mut value = 0;
    for shift in [0, 7, 14, 21] {
        let byte = bytes.u8()?;
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn string(bytes: &mut Bytes<'_>) -> Option<Range<usize>> {
    let length = bytes.u16()?;
    bytes.span(usize::from(length))
}

/// Version 5 has properties in many places.
fn properties(version: u8, bytes: &mut Bytes<'_>) -> Option<()> {
    if version < 5 {
        return Some(());
    }
    let length = variable(bytes)?;
    bytes.skip(length)
}

fn connect(phase: &mut u8, mut packet: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    string(&mut packet)?;
    let version = packet.u8()?;
    *phase = version;
    let flags = packet.u8()?;
    packet.skip(2)?;
    properties(version, &mut packet)?;
    notes.certain(&CLIENT, string(&mut packet)?);
    if flags & 0x04 != 0 {
        properties(version, &mut packet)?;
        notes.certain(&TOPIC, string(&mut packet)?);
        notes.certain(&MESSAGE, string(&mut packet)?);
    }
    if flags & 0x80 != 0 {
        notes.certain(&USER, string(&mut packet)?);
    }
    if flags & 0x40 != 0 {
        notes.certain(&PASSWORD, string(&mut packet)?);
    }
    Some(())
}

fn publish(version: u8, head: u8, mut packet: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    notes.certain(&TOPIC, string(&mut packet)?);
    if head & 0x06 != 0 {
        packet.u16()?;
    }
    properties(version, &mut packet)?;
    let message = packet.remainder();
    if text::is_text(packet.slice(&message)) {
        notes.certain(&MESSAGE, message);
    }
    Some(())
}

fn subscribe(version: u8, mut packet: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    packet.u16()?;
    properties(version, &mut packet)?;
    while !packet.is_empty() {
        notes.certain(&TOPIC, string(&mut packet)?);
        packet.u8()?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn connect_and_publish_tell_who_and_what() {
        let mut stream = b"\x10\x1d\0\x04MQTT\x04\xc2\0\x3c\0\x03dev\0\x04anne\0\x04pass".to_vec();
        stream[1] = stream.len() as u8 - 2;
        stream.extend(b"\x30\x09\0\x04room21C");
        let (told, _) = told(&stream);
        assert_eq!(
            told,
            [
                ("mqtt.client", "dev".to_owned()),
                ("mqtt.user", "anne".to_owned()),
                ("mqtt.password", "pass".to_owned()),
                ("mqtt.topic", "room".to_owned()),
                ("mqtt.message", "21C".to_owned()),
            ]
        );
    }
}
