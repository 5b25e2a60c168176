//! GTP control messages (3GPP TS 29.060, TS 29.274): a subscriber's IMSI, telephone number and IMEI. They belong
//! inside a mobile operator's network and have no business on any other.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const SUBSCRIBER: Leak = Leak::new(
    "gtp.subscriber",
    Class::PersonId,
    "IMSI or telephone number",
);
const EQUIPMENT: Leak = Leak::new("gtp.equipment", Class::DeviceId, "IMEI");

pub(super) const LEAKS: &[Leak] = &[SUBSCRIBER, EQUIPMENT];

pub(super) const SHAPE: Shape = Shape::first(Set::range(0x30, 0x37).or(Set::of(&[0x40, 0x48])));

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    let flags = bytes.u8()?;
    let kind = bytes.u8()?;
    let length = usize::from(bytes.u16()?);
    match flags >> 5 {
        2 if length + 4 == payload.len() => version_2(flags, bytes, notes)?,
        1 if length + 8 == payload.len() && flags & 0x18 == 0x10 => {
            version_1((flags, kind), bytes, notes)?
        }
        _ => return None,
    }
    Some(Reading::clear("gtp"))
}

/// Every element has a type, a length and an instance.
fn version_2(flags: u8, mut bytes: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    if flags & 0x17 != 0 {
        return None;
    }
    bytes.skip(if flags & 0x08 == 0 { 4 } else { 8 })?;
    bytes.peek()?;
    while !bytes.is_empty() {
        let element = bytes.u8()?;
        let length = bytes.u16()?;
        bytes.u8()?;
        let value = bytes.span(usize::from(length))?;
        match element {
            1 | 76 => notes.certain(&SUBSCRIBER, value),
            75 => notes.certain(&EQUIPMENT, value),
            _ => {}
        }
    }
    Some(())
}

/// Elements below 128 have a length fixed by their type. Of the create request, which names the subscriber, those
/// before the first long one are read.
fn version_1((flags, kind): (u8, u8), mut bytes: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    const CREATE: u8 = 16;
    bytes.skip(4)?;
    if flags & 7 != 0 {
        bytes.skip(4)?;
    }
    if kind != CREATE {
        return None;
    }
    loop {
        let length = match bytes.u8()? {
            2 => {
                notes.certain(&SUBSCRIBER, bytes.span(8)?);
                continue;
            }
            3 => 6,
            14 | 15 | 19 | 20 | 21 | 8 => 1,
            16 | 17 => 4,
            26 => 2,
            28 => 1,
            128.. => break,
            _ => return None,
        };
        bytes.skip(length)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    #[test]
    fn a_session_request_tells_the_subscriber() {
        let mut bytes = vec![0x48, 32, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 8, 0];
        bytes.extend([0x62, 0x02, 0x21, 0x43, 0x65, 0x87, 0x09, 0xf1]);
        bytes[3] = bytes.len() as u8 - 4;
        assert_eq!(found(read, &bytes).unwrap()[0].leak, "gtp.subscriber");
        bytes.push(0);
        assert_eq!(found(read, &bytes), None);
    }
}
