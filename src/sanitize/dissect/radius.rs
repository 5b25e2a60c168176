//! RADIUS (RFC 2865, RFC 2866, RFC 5176): user name, station addresses, subscriber number.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const USER: Leak = Leak::new("radius.user", Class::PersonId, "user name");
const PASSWORD: Leak = Leak::new("radius.password", Class::Credential, "obscured password");
const STATION: Leak = Leak::new(
    "radius.station",
    Class::DeviceId,
    "calling or called station",
);
const ACCESS_SERVER: Leak = Leak::new("radius.access-server", Class::HostName, "access server");

pub(super) const LEAKS: &[Leak] = &[USER, PASSWORD, STATION, ACCESS_SERVER];

pub(super) const SHAPE: Shape = Shape::first(
    Set::range(1, 5)
        .or(Set::range(11, 13))
        .or(Set::range(40, 45)),
);

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    let code = bytes.u8()?;
    if !matches!(code, 1..=5 | 11..=13 | 40..=45) {
        return None;
    }
    bytes.u8()?;
    if usize::from(bytes.u16()?) != payload.len() {
        return None;
    }
    bytes.skip(16)?;
    // Status queries and bare answers have no attribute that would prove anything.
    bytes.peek()?;
    while !bytes.is_empty() {
        let kind = bytes.u8().filter(|kind| *kind != 0)?;
        let length = bytes.u8()?.checked_sub(2)?;
        let mut value = bytes.sub(usize::from(length))?;
        match kind {
            1 => notes.certain(&USER, value.remainder()),
            2 | 3 => notes.certain(&PASSWORD, value.remainder()),
            26 => vendor(value, notes),
            30 | 31 => notes.certain(&STATION, value.remainder()),
            32 => notes.certain(&ACCESS_SERVER, value.remainder()),
            // An EAP identity response (RFC 3748, section 5.1).
            79 => {
                if let [2, _, _, _, 1, ..] = value.rest() {
                    value.skip(5);
                    notes.certain(&USER, value.remainder());
                }
            }
            _ => {}
        }
    }
    Some(Reading::clear("radius"))
}

/// The subscriber's IMSI, as 3GPP puts it (TS 29.061, section 16.4.7).
fn vendor(mut value: Bytes<'_>, notes: &mut Notes<'_>) {
    const GPP: u32 = 10_415;
    if value.u32() == Some(GPP) && value.u8() == Some(1) {
        value.skip(1);
        notes.certain(&USER, value.remainder());
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    fn request(attributes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![1, 7, 0, 20 + attributes.len() as u8];
        bytes.extend([9; 16]);
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn the_user_and_the_station_are_told() {
        let told = found(read, &request(b"\x01\x07alice\x1f\x1300-11-22-33-44-55")).unwrap();
        assert_eq!(told[0].class, Class::PersonId);
        assert_eq!(told[1].class, Class::DeviceId);
    }

    #[test]
    fn attributes_must_fill_the_packet_exactly() {
        assert_eq!(found(read, &request(b"\x01\x08alice")), None);
        assert_eq!(found(read, &request(b"\x01\x01alice")), None);
        assert_eq!(found(read, &request(b"")), None);
    }
}
