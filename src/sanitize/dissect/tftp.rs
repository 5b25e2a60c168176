//! TFTP requests (RFC 1350, RFC 2347): the name of a file that then travels in the clear. Boot files are often named
//! after the device's hardware address.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const FILE: Leak = Leak::new("tftp.file", Class::Content, "file");

pub(super) const LEAKS: &[Leak] = &[FILE];

pub(super) const SHAPE: Shape = Shape::first(Set::of(&[0]));

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    bytes.u16().filter(|opcode| matches!(opcode, 1 | 2))?;
    let name = bytes.until(0)?;
    let mode = bytes.until(0)?;
    let printable = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(|b| !b.is_ascii_control());
    let known = [&b"netascii"[..], b"octet", b"mail"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(bytes.slice(&mode)));
    if !known || !printable(bytes.slice(&name)) {
        return None;
    }
    while !bytes.is_empty() {
        bytes.until(0)?;
        bytes.until(0)?;
    }
    notes.certain(&FILE, name);
    Some(Reading::clear("tftp"))
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    #[test]
    fn the_file_of_a_request_is_told() {
        let told = found(read, b"\0\x01pxe/3c22fb.cfg\0octet\0blksize\x001428\0").unwrap();
        assert_eq!(told[0].span, 2..16);
        assert_eq!(found(read, b"\0\x01file\0octet"), None, "no end");
        assert_eq!(found(read, b"\0\x01file\0other\0"), None, "no mode");
        assert_eq!(found(read, b"\0\x04\0\x01"), None);
    }
}
