//! Beacons of common devices and programs, which name themselves to the LAN: Dropbox LAN sync, Ubiquiti, MikroTik,
//! Xiaomi's miIO, Tuya. None has a published specification; the layouts are those that free implementations share.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading, text};
use crate::sanitize::class::{Certainty, Class};
use crate::sanitize::finding::Leak;

const DEVICE: Leak = Leak::new("vendor.device", Class::DeviceId, "device identifier");
const NAME: Leak = Leak::new("vendor.name", Class::HostName, "device name");

pub(super) const LEAKS: &[Leak] = &[DEVICE, NAME];

pub(super) const DROPBOX: Shape = Shape::first(Set::of(b"{"));
pub(super) const MIIO: Shape = Shape::first(Set::of(&[0x21]));
pub(super) const TUYA: Shape = Shape::first(Set::of(&[0]));
pub(super) const UBIQUITI: Shape = Shape::first(Set::of(&[1, 2]));
pub(super) const MIKROTIK: Shape = Shape::ANY.fifth(Set::of(&[0]));

/// JSON with `host_int` and `namespaces`.
pub(super) fn dropbox(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    if !payload.starts_with(b"{") || !payload.ends_with(b"}") {
        return None;
    }
    text::find(payload, b"\"namespaces\"")?;
    let key = text::find(payload, b"\"host_int\"")? + 10;
    let start = key + payload.get(key..)?.iter().position(u8::is_ascii_digit)?;
    let length = payload
        .get(start..)?
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    notes.certain(&DEVICE, start..start + length);
    if let Some(name) = text::between(payload, 0, b"\"displayname\": \"", b"\"") {
        notes.certain(&NAME, name);
    }
    Some(Reading::clear("dropbox"))
}

/// Magic, length, a word, the device's number, a stamp, a checksum. A greeting has all bits set.
pub(super) fn miio(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    bytes.tag(&[0x21, 0x31])?;
    if usize::from(bytes.u16()?) != payload.len() {
        return None;
    }
    bytes.u32()?;
    let device = bytes.span(4)?;
    bytes.skip(4 + 16)?;
    if bytes.slice(&device) != [0xff; 4] {
        notes.certain(&DEVICE, device);
    }
    Some(Reading::clear("miio"))
}

/// A frame of magic, number, command, length, payload, checksum, magic.
pub(super) fn tuya(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    bytes.tag(&[0, 0, 0x55, 0xaa])?;
    bytes.skip(8)?;
    let length = bytes.u32()?;
    if !payload.ends_with(&[0, 0, 0xaa, 0x55]) || length as usize != bytes.len() {
        return None;
    }
    if let Some(id) = text::between(payload, 0, b"\"gwId\":\"", b"\"") {
        notes.certain(&DEVICE, id);
    }
    Some(Reading::clear("tuya"))
}

/// Version, command, length, then type, length and value to the end.
pub(super) fn ubiquiti(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    bytes.u8().filter(|version| matches!(version, 1 | 2))?;
    let command = bytes.u8()?;
    if usize::from(bytes.u16()?) != bytes.len() {
        return None;
    }
    if payload == [1, 0, 0, 0] {
        return Some(Reading::clear("ubiquiti"));
    }
    let mut proved = false;
    if !matches!(command, 0 | 6 | 8 | 9 | 11) {
        return None;
    }
    while !bytes.is_empty() {
        let kind = bytes.u8()?;
        let length = bytes.u16()?;
        let value = bytes.span(usize::from(length))?;
        match (kind, length) {
            (1, 6) | (2, 10) => {
                proved = true;
                notes.certain(&DEVICE, value.start..value.start + 6);
            }
            (11, _) => notes.certain(&NAME, value),
            _ => {}
        }
    }
    proved.then_some(Reading::clear("ubiquiti"))
}

/// Two words, then type, length and value to the end (MNDP); the first value is the hardware address.
pub(super) fn mikrotik(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    bytes.skip(4)?;
    if bytes.rest().first_chunk() != Some(&[0, 1, 0, 6]) {
        return None;
    }
    while !bytes.is_empty() {
        let kind = bytes.u16().filter(|kind| (1..=20).contains(kind))?;
        let length = bytes.u16()?;
        let value = bytes.span(usize::from(length))?;
        match kind {
            1 | 11 => notes.note(&DEVICE, Certainty::Certain, value),
            5 => notes.certain(&NAME, value),
            _ => {}
        }
    }
    Some(Reading::clear("mikrotik"))
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    #[test]
    fn each_beacon_tells_its_device() {
        type Read = fn(&[u8], &mut Notes<'_>) -> Option<Reading>;
        let each: [(Read, &[u8], &[u8]); 5] = [
            (dropbox, b"{\"host_int\": 28173049, \"version\": [2, 0], \"displayname\": \"\", \"namespaces\": [1]}", b"28173049"),
            (miio, b"\x21\x31\x00\x20\0\0\0\0ABCDssss0123456789abcdef", b"ABCD"),
            (tuya, b"\0\0\x55\xaa\0\0\0\0\0\0\0\x13\0\0\0\x19{\"gwId\":\"ab12\"}ssss\0\0\xaa\x55\x20", b""),
            (ubiquiti, b"\x01\x00\x00\x09\x01\x00\x06\x3c\x22\xfb\0\0\x01", b"\x3c\x22\xfb\0\0\x01"),
            (mikrotik, b"\0\0\0\0\0\x01\0\x06\x3c\x22\xfb\0\0\x01\0\x05\0\x02r1", b"\x3c\x22\xfb\0\0\x01"),
        ];
        for (read, beacon, value) in each {
            match found(read, beacon) {
                Some(told) => assert_eq!(&beacon[told[0].span.clone()], value),
                None => assert!(value.is_empty(), "{beacon:?}"),
            }
        }
    }
}
