//! ASN.1 basic encoding rules (ITU-T X.690), as SNMP, LDAP, Kerberos and certificates use them.

use super::bytes::Bytes;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// The next element: its tag and its content. Definite lengths of up to four bytes, tags of one byte.
pub(super) fn element<'a>(bytes: &mut Bytes<'a>) -> Option<(u8, Bytes<'a>)> {
    let tag = bytes.u8()?;
    let length = match bytes.u8()? {
        short @ 0..=0x7f => usize::from(short),
        long @ 0x81..=0x84 => {
            let mut length = 0;
            for _ in 0..long & 0x7f {
                length = length << 8 | usize::from(bytes.u8()?);
            }
            length
        }
        _ => return None,
    };
    Some((tag, bytes.sub(length)?))
}

/// The next element, if it has this tag.
pub(super) fn expect<'a>(bytes: &mut Bytes<'a>, tag: u8) -> Option<Bytes<'a>> {
    let (found, content) = element(bytes)?;
    (found == tag).then_some(content)
}

/// As [`expect`], but of an element cut short gives what is there.
pub(super) fn expect_begun<'a>(bytes: &mut Bytes<'a>, tag: u8) -> Option<Bytes<'a>> {
    bytes.peek().filter(|found| *found == tag)?;
    let whole = extent(bytes.rest())?;
    let header = header_length(bytes.rest())?;
    bytes.skip(header)?;
    bytes.sub((whole - header).min(bytes.len()))
}

/// The bytes of tag and length.
fn header_length(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [_, 0..=0x7f, ..] => Some(2),
        [_, long, ..] => Some(2 + usize::from(long & 0x7f)),
        _ => None,
    }
}

/// The length in bytes of the element that begins here, its own header included, as far as that can be told.
pub(super) fn extent(bytes: &[u8]) -> Option<usize> {
    let mut cursor = Bytes::new(bytes);
    cursor.u8()?;
    let length = match cursor.u8()? {
        short @ 0..=0x7f => usize::from(short),
        long @ 0x81..=0x84 => {
            let mut length = 0;
            for _ in 0..long & 0x7f {
                length = length << 8 | usize::from(cursor.u8()?);
            }
            length
        }
        _ => return None,
    };
    cursor.position().checked_add(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_nest_and_never_pass_their_parent() {
        let mut bytes = Bytes::new(&[0x30, 0x05, 0x02, 0x01, 0x07, 0x04, 0x03]);
        let mut sequence = expect(&mut bytes, SEQUENCE).unwrap();
        assert!(bytes.is_empty());
        assert_eq!(expect(&mut sequence, INTEGER).unwrap().rest(), [7]);
        assert!(
            element(&mut sequence).is_none(),
            "three bytes promised, none there"
        );
    }

    #[test]
    fn long_and_endless_lengths_are_told_apart() {
        assert_eq!(extent(&[0x30, 0x82, 0x01, 0x00]), Some(260));
        assert_eq!(extent(&[0x30, 0x80]), None);
        assert_eq!(extent(&[0x30, 0x82, 0x01]), None);
    }
}
