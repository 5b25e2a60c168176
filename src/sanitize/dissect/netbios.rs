//! NetBIOS names and datagrams over UDP (RFC 1002): the names of computers, users and work groups.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading};
use crate::sanitize::class::{Certainty, Class};
use crate::sanitize::finding::Leak;
use std::ops::Range;

const NAME: Leak = Leak::new("netbios.name", Class::HostName, "NetBIOS name");

pub(super) const LEAKS: &[Leak] = &[NAME];

/// A random number, and few questions.
pub(super) const NAMES: Shape = Shape::ANY.fifth(Set::of(&[0]));
pub(super) const DATAGRAMS: Shape = Shape::first(Set::range(0x10, 0x12));

/// Length of an encoded name, its length byte left out.
const ENCODED: u8 = 32;

/// Section 4.2: a header as in DNS, then questions and records.
pub(super) fn name_service(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    bytes.skip(4)?;
    let questions = bytes.u16()?;
    let records = bytes.u16()? as u32 + u32::from(bytes.u16()?) + u32::from(bytes.u16()?);
    if u32::from(questions) + records == 0 || questions > 4 || records > 8 {
        return None;
    }
    for _ in 0..questions {
        tell(&bytes, name(&mut bytes.clone())?, notes);
        name(&mut bytes)?;
        bytes.skip(4)?;
    }
    for index in 0..records {
        match bytes.peek()? {
            0xc0.. => bytes.skip(2)?,
            _ => {
                let name = name(&mut bytes)?;
                if questions == 0 && index == 0 {
                    tell(&bytes, name, notes);
                }
            }
        }
        bytes.skip(8)?;
        let length = bytes.u16()?;
        bytes.skip(usize::from(length))?;
    }
    bytes.is_empty().then_some(Reading::clear("netbios"))
}

/// Section 4.4: who sends to whom, then the data.
pub(super) fn datagram_service(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    bytes.u8().filter(|kind| (0x10..=0x12).contains(kind))?;
    bytes.skip(1 + 2 + 4 + 2)?;
    let length = usize::from(bytes.u16()?);
    bytes.skip(2)?;
    if length != bytes.len() {
        return None;
    }
    let source = name(&mut bytes)?;
    name(&mut bytes)?;
    tell(&bytes, source, notes);
    Some(Reading::clear("netbios"))
}

/// An encoded name (section 4.1), which may have a scope behind it; the place of its 32 letters.
fn name(bytes: &mut Bytes<'_>) -> Option<Range<usize>> {
    bytes.u8().filter(|length| *length == ENCODED)?;
    let span = bytes.span(usize::from(ENCODED))?;
    if !bytes
        .slice(&span)
        .iter()
        .all(|byte| (b'A'..=b'P').contains(byte))
    {
        return None;
    }
    loop {
        match bytes.u8()? {
            0 => return Some(span),
            length @ 1..=63 => bytes.skip(usize::from(length))?,
            _ => return None,
        }
    }
}

fn tell(bytes: &Bytes<'_>, span: Range<usize>, notes: &mut Notes<'_>) {
    let (pairs, _) = bytes.slice(&span).as_chunks::<2>();
    let decoded: Vec<u8> = pairs
        .iter()
        .map(|[high, low]| high.wrapping_sub(b'A') << 4 | low.wrapping_sub(b'A'))
        .take(15)
        .collect();
    let name = decoded.trim_ascii_end();
    // The wildcard of a status query, and the browser's group.
    if name.first() != Some(&b'*') && !name.starts_with(b"\x01\x02") {
        notes.decoded(&NAME, Certainty::Certain, span, name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    fn encoded(name: &[u8; 16]) -> Vec<u8> {
        let letters = name
            .iter()
            .flat_map(|byte| [b'A' + (byte >> 4), b'A' + (byte & 15)]);
        [32].into_iter().chain(letters).chain([0]).collect()
    }

    #[test]
    fn a_name_query_tells_the_decoded_name() {
        let mut bytes = vec![1, 2, 1, 0x10, 0, 1, 0, 0, 0, 0, 0, 0];
        bytes.extend(encoded(b"ANNES-LAPTOP   \0"));
        bytes.extend([0, 0x20, 0, 1]);
        let told = found(name_service, &bytes).unwrap();
        assert_eq!(
            (told[0].leak, told[0].sample.as_str()),
            ("netbios.name", "A…OP")
        );
        bytes.push(0);
        assert_eq!(found(name_service, &bytes), None);
    }

    #[test]
    fn a_datagram_tells_its_sender() {
        let mut names = encoded(b"ANNES-LAPTOP   \0");
        names.extend(encoded(b"WORKGROUP      \x1d"));
        let mut bytes = vec![0x11, 2, 0, 1, 10, 0, 0, 1, 0, 138];
        bytes.extend((names.len() as u16).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(names);
        assert_eq!(found(datagram_service, &bytes).unwrap().len(), 1);
    }
}
