//! Steam's in-home streaming beacon, which names the host, its addresses and the account; and the Source engine's
//! server query, which names nobody.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const HOST: Leak = Leak::new("steam.host", Class::HostName, "host name");
const ACCOUNT: Leak = Leak::new("steam.account", Class::PersonId, "account");
const HARDWARE: Leak = Leak::new(
    "steam.hardware-address",
    Class::DeviceId,
    "hardware address",
);

pub(super) const LEAKS: &[Leak] = &[HOST, ACCOUNT, HARDWARE];

pub(super) const SHAPE: Shape = Shape::first(Set::of(&[0xff])).fifth(Set::of(b"\x21TUVWi"));

const BEACON: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x21, 0x4c, 0x5f, 0xa0];

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let [0xff, 0xff, 0xff, 0xff, kind, ..] = payload else {
        return None;
    };
    let mut bytes = Bytes::new(payload);
    if bytes.tag(BEACON).is_some() {
        let header = bytes.u32_le()?;
        bytes.skip(usize::try_from(header).ok()?)?;
        let body = bytes.u32_le()?;
        let body = bytes.sub(usize::try_from(body).ok()?)?;
        return (bytes.is_empty() && beacon(body, notes).is_some())
            .then_some(Reading::clear("steam"));
    }
    let query = match kind {
        b'T' => payload
            .get(5..)
            .is_some_and(|rest| rest.starts_with(b"Source Engine Query\0")),
        b'U' | b'V' | b'W' => payload.len() == 9,
        b'i' => payload.len() == 5,
        _ => false,
    };
    query.then_some(Reading::clear("source-query"))
}

/// The status message, a protobuf: field 4 is the host's name, 9 the users, 15 the hardware addresses.
fn beacon(mut body: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    while !body.is_empty() {
        let key = varint(&mut body)?;
        match key & 7 {
            0 => {
                varint(&mut body)?;
            }
            1 => body.skip(8)?,
            5 => body.skip(4)?,
            2 => {
                let length = varint(&mut body)?;
                let span = body.span(usize::try_from(length).ok()?)?;
                match key >> 3 {
                    4 => notes.certain(&HOST, span),
                    9 => notes.certain(&ACCOUNT, span),
                    15 => notes.certain(&HARDWARE, span),
                    _ => {}
                }
            }
            _ => return None,
        }
    }
    Some(())
}

fn varint(bytes: &mut Bytes<'_>) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes.u8()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    #[test]
    fn the_beacon_tells_host_account_and_address() {
        let body = b"\x08\x08\x22\x08annes-pc\x4a\x09\x09\x01\0\0\0\x01\0\x10\x01\x7a\x113c-22-fb-00-00-01";
        let mut bytes = BEACON.to_vec();
        bytes.extend([2, 0, 0, 0, 0x10, 0]);
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
        let leaks: Vec<_> = found(read, &bytes)
            .unwrap()
            .iter()
            .map(|f| f.leak)
            .collect();
        assert_eq!(
            leaks,
            ["steam.host", "steam.account", "steam.hardware-address"]
        );
        bytes.pop();
        assert_eq!(found(read, &bytes), None);
    }

    #[test]
    fn a_server_query_is_clean() {
        assert_eq!(
            found(read, b"\xff\xff\xff\xffTSource Engine Query\0"),
            Some(vec![])
        );
        assert_eq!(found(read, b"\xff\xff\xff\xffX"), None);
    }
}
