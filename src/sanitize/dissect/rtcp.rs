//! RTCP (RFC 3550, section 6): the source description names the sender. Encrypted RTCP does not walk to its end.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading};
use crate::sanitize::class::Class;
use crate::sanitize::finding::{Codec, Leak};

const CNAME: Leak =
    Leak::new("rtcp.cname", Class::PersonId, "canonical name").with(Codec::Pseudonym);
const RANDOM_CNAME: Leak = Leak::new(
    "rtcp.random-cname",
    Class::SessionId,
    "random canonical name",
)
.with(Codec::Pseudonym);
const PERSON: Leak = Leak::new(
    "rtcp.person",
    Class::PersonId,
    "name, mail address or telephone number",
)
.with(Codec::Blanks);
const LOCATION: Leak = Leak::new("rtcp.location", Class::Location, "location").with(Codec::Blanks);
const TOOL: Leak = Leak::new("rtcp.tool", Class::Software, "tool").with(Codec::Blanks);
const NOTE: Leak = Leak::new("rtcp.note", Class::Content, "note").with(Codec::Blanks);

pub(super) const LEAKS: &[Leak] = &[CNAME, RANDOM_CNAME, PERSON, LOCATION, TOOL, NOTE];

pub(super) const SHAPE: Shape = Shape::first(Set::range(0x80, 0xbf));

const DESCRIPTION: u8 = 202;

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    bytes.peek()?;
    let mut first = true;
    while !bytes.is_empty() {
        let head = bytes.u8().filter(|head| head >> 6 == 2)?;
        let kind = bytes.u8()?;
        let words = bytes.u16()?;
        let body = bytes.sub(usize::from(words) * 4)?;
        // A compound begins with a report; a reduced one (RFC 5506) may be feedback alone.
        let known = if first {
            matches!(kind, 200 | 201 | 205 | 206)
        } else {
            (200..=207).contains(&kind)
        };
        if !known || body.len() < 4 {
            return None;
        }
        if kind == DESCRIPTION {
            description(head & 31, body, notes)?;
        }
        first = false;
    }
    Some(Reading::clear("rtcp"))
}

fn description(chunks: u8, mut body: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    for _ in 0..chunks {
        let start = body.position();
        body.u32()?;
        loop {
            let item = body.u8()?;
            if item == 0 {
                let used = body.position() - start;
                body.skip((used.next_multiple_of(4) - used).min(body.len()))?;
                break;
            }
            let length = body.u8()?;
            let value = body.span(usize::from(length))?;
            let leak: &Leak = match item {
                1 if body.slice(&value).contains(&b'@') => &CNAME,
                1 => &RANDOM_CNAME,
                2..=4 => &PERSON,
                5 => &LOCATION,
                6 => &TOOL,
                7 => &NOTE,
                8 => continue,
                _ => return None,
            };
            notes.certain(leak, value);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    fn compound(cname: &[u8]) -> Vec<u8> {
        let mut items = vec![0, 0, 0, 7, 1, cname.len() as u8];
        items.extend(cname);
        items.push(0);
        items.resize(items.len().next_multiple_of(4), 0);
        let mut bytes = vec![
            0x80,
            201,
            0,
            1,
            0,
            0,
            0,
            7,
            0x81,
            202,
            0,
            items.len() as u8 / 4,
        ];
        bytes.extend(items);
        bytes
    }

    #[test]
    fn a_name_with_a_host_is_a_person_and_a_random_one_a_session() {
        let class = |cname: &[u8]| found(read, &compound(cname)).unwrap()[0].class;
        assert_eq!(class(b"anne@10.0.0.7"), Class::PersonId);
        assert_eq!(class(b"x8Kd92ndTTq1"), Class::SessionId);
    }

    #[test]
    fn lengths_must_sum_to_the_datagram() {
        let mut bytes = compound(b"anne@10.0.0.7");
        bytes.extend([0; 4]);
        assert_eq!(found(read, &bytes), None);
        assert_eq!(found(read, &bytes[..20]), None);
    }
}
