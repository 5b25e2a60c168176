//! DNS (RFC 1035) with EDNS (RFC 6891), multicast DNS (RFC 6762) and LLMNR (RFC 4795), over datagrams and streams.
//!
//! A name asked for is the destination's. A name without a dot or below `.local` belongs to the LAN: it names a device,
//! or its owner. EDNS options tell the client's network (RFC 7871) and, by vendors' options, its hardware address.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::stream::{Opening, Step};
use super::{Notes, Reading};
use crate::sanitize::class::{Certainty, Class};
use crate::sanitize::finding::{Codec, Leak};
use std::ops::Range;

const QUERY: Leak = Leak::new("dns.query", Class::DestMeta, "queried name");
const LOCAL_NAME: Leak = Leak::new("dns.local-name", Class::HostName, "name on the LAN");
const CLIENT_SUBNET: Leak =
    Leak::new("dns.client-subnet", Class::Location, "client subnet").with(Codec::EdnsPadding);
const OWNER: Leak =
    Leak::new("dns.owner-option", Class::DeviceId, "owner option").with(Codec::EdnsPadding);
const VENDOR_OPTION: Leak = Leak::new("dns.vendor-option", Class::DeviceId, "vendor's EDNS option")
    .with(Codec::EdnsPadding);

pub(super) const LEAKS: &[Leak] = &[QUERY, LOCAL_NAME, CLIENT_SUBNET, OWNER, VENDOR_OPTION];

/// No message has more than 511 questions.
pub(super) const SHAPE: Shape = Shape::ANY.fifth(Set::of(&[0, 1]));

const ADDRESS: u16 = 1;
const POINTER: u16 = 12;
const ADDRESS_V6: u16 = 28;
const SERVICE: u16 = 33;
const OPT: u16 = 41;
/// More entries than this no query or announcement has.
const MOST_RECORDS: u32 = 400;

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    bytes.u16()?;
    let flags = bytes.u16()?;
    let [questions, answers, authorities, additionals] =
        [bytes.u16()?, bytes.u16()?, bytes.u16()?, bytes.u16()?];
    let records = [answers, authorities, additionals]
        .iter()
        .map(|n| u32::from(*n))
        .sum::<u32>();
    let total = records + u32::from(questions);
    let opcode = flags >> 11 & 15;
    // The reserved bit is zero; the opcodes in use are query, inverse, status, notify, update.
    if total == 0
        || total > MOST_RECORDS
        || flags & 0x0040 != 0
        || ![0, 1, 2, 4, 5].contains(&opcode)
    {
        return None;
    }
    for _ in 0..questions {
        let name = name(&mut bytes)?;
        let kind = bytes.u16()?;
        let class = bytes.u16()? & 0x7fff;
        if !matches!(class, 1 | 3 | 4 | 254 | 255) {
            return None;
        }
        tell_name(&bytes, name, kind, notes);
    }
    for _ in 0..records {
        record(&mut bytes, notes)?;
    }
    bytes.is_empty().then_some(Reading::clear("dns"))
}

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        // Length, id, flags of a standard query, one question, no answer.
        [
            0,
            HEADER_BYTE..=255,
            _,
            _,
            0 | 1,
            0 | 0x10 | 0x20 | 0x30,
            0,
            1,
            0,
            0,
            ..,
        ] => Opening::Yes,
        [0, HEADER_BYTE..=255, rest @ ..] if rest.len() < 8 => Opening::Perhaps,
        [0] => Opening::Perhaps,
        _ => Opening::No,
    }
}

/// Whether a message may carry a signature over all of it (TSIG, RFC 8945; SIG(0), RFC 2931): a last record of that type.
/// What cannot be read counts as signed.
pub(in crate::sanitize) fn is_signed(payload: &[u8]) -> bool {
    records(payload).is_none_or(|last| matches!(last, 24 | 250))
}

/// The type of the last record.
fn records(payload: &[u8]) -> Option<u16> {
    let mut bytes = Bytes::new(payload);
    bytes.skip(4)?;
    let questions = bytes.u16()?;
    let count = u32::from(bytes.u16()?) + u32::from(bytes.u16()?) + u32::from(bytes.u16()?);
    for _ in 0..questions {
        name(&mut bytes)?;
        bytes.skip(4)?;
    }
    let mut last = 0;
    for _ in 0..count {
        name(&mut bytes)?;
        last = bytes.u16()?;
        bytes.skip(6)?;
        let length = bytes.u16()?;
        bytes.skip(usize::from(length))?;
    }
    Some(last)
}

/// Shortest message with a question.
const HEADER_BYTE: u8 = 17;

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    let Some(length) = bytes.u16().map(usize::from) else {
        return Step::Wait;
    };
    let Some(message) = bytes.span(length) else {
        return Step::Wait;
    };
    if notes.within(message, read).is_none() {
        return Step::Lost;
    }
    Step::Took(length + 2)
}

/// A name with its place and whether it has several labels; follows no pointer, for only the place counts.
struct Name {
    span: Range<usize>,
    dotted: bool,
    pointer: bool,
}

fn name(bytes: &mut Bytes<'_>) -> Option<Name> {
    let start = bytes.position();
    let mut labels = 0;
    loop {
        let end = bytes.position();
        let finish = |pointer| {
            Some(Name {
                span: start..end,
                dotted: labels > 1 || pointer,
                pointer,
            })
        };
        match bytes.u8()? {
            0 => return finish(false),
            length @ 1..=63 => {
                bytes.skip(usize::from(length))?;
                labels += 1;
            }
            0xc0..=0xff => {
                bytes.u8()?;
                return finish(true);
            }
            _ => return None,
        }
        if bytes.position() - start > 255 {
            return None;
        }
    }
}

fn tell_name(bytes: &Bytes<'_>, name: Name, kind: u16, notes: &mut Notes<'_>) {
    let wire = bytes.slice(&name.span);
    // Label lengths read as dots; the first one is left out.
    let Some(first) = name
        .span
        .start
        .checked_add(1)
        .filter(|first| *first < name.span.end)
    else {
        return;
    };
    let text: Vec<u8> = wire
        .iter()
        .skip(1)
        .map(|byte| if *byte < 0x20 { b'.' } else { *byte })
        .collect();
    let lower = text.to_ascii_lowercase();
    let service = wire.get(1) == Some(&b'_');
    let local = !name.dotted
        || [
            &b".local"[..],
            b".lan",
            b".home.arpa",
            b".internal",
            b".fritz.box",
        ]
        .iter()
        .any(|suffix| lower.ends_with(suffix));
    let reverse = lower.ends_with(b".arpa") && !lower.ends_with(b".home.arpa");
    if reverse || service {
        return;
    }
    let leak: &Leak = if local && kind != OPT {
        &LOCAL_NAME
    } else {
        &QUERY
    };
    notes.decoded(leak, Certainty::Certain, first..name.span.end, &text);
}

fn record(bytes: &mut Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    let owner = name(bytes)?;
    let kind = bytes.u16()?;
    bytes.u16()?;
    bytes.u32()?;
    let length = bytes.u16()?;
    let mut data = bytes.sub(usize::from(length))?;
    match kind {
        OPT => options(data, notes)?,
        // Of an announcement: whose addresses, which instance, on which host.
        ADDRESS | ADDRESS_V6 | SERVICE => {
            if !owner.pointer {
                tell_local(bytes, owner, notes);
            }
            if kind == SERVICE {
                data.skip(6)?;
                let host = name(&mut data)?;
                tell_target(bytes, &host, notes);
            }
        }
        POINTER => {
            let instance = name(&mut data)?;
            tell_target(bytes, &instance, notes);
        }
        _ => {}
    }
    Some(())
}

/// Tells the owner of an address record if the name is one of the LAN; others are told when asked for.
fn tell_local(bytes: &Bytes<'_>, name: Name, notes: &mut Notes<'_>) {
    if bytes
        .slice(&name.span)
        .to_ascii_lowercase()
        .ends_with(b"\x05local")
    {
        tell_name(bytes, name, ADDRESS, notes);
    }
}

/// Tells the first label of what a record points to: the name of a device or of one of its services.
fn tell_target(bytes: &Bytes<'_>, name: &Name, notes: &mut Notes<'_>) {
    let wire = bytes.slice(&name.span);
    let local = name.pointer || wire.to_ascii_lowercase().ends_with(b"\x05local");
    if let Some(length) = wire.first().map(|length| usize::from(*length))
        && local
        && wire.get(1) != Some(&b'_')
    {
        let start = name.span.start + 1;
        notes.certain(&LOCAL_NAME, start..(start + length).min(name.span.end));
    }
}

fn options(mut data: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    while !data.is_empty() {
        let code = data.u16()?;
        let length = data.u16()?;
        let span = data.span(usize::from(length))?;
        match code {
            8 => {
                // Family, prefix length of the source, of the scope, address. A prefix of 0 tells nothing.
                let [_, _, 1..=128, _, ..] = data.slice(&span) else {
                    continue;
                };
                notes.certain(&CLIENT_SUBNET, span);
            }
            4 => notes.certain(&OWNER, span),
            20_292 | 26_946 | 65_001..=65_534 => notes.probable(&VENDOR_OPTION, span),
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::{found, told};
    use super::*;

    fn query(name: &[u8], additional: &[u8]) -> Vec<u8> {
        let mut bytes = vec![
            0x12,
            0x34,
            1,
            0,
            0,
            1,
            0,
            0,
            0,
            0,
            0,
            u8::from(!additional.is_empty()),
        ];
        bytes.extend(name);
        bytes.extend([0, 0, 1, 0, 1]);
        bytes.extend(additional);
        bytes
    }

    #[test]
    fn names_of_the_lan_are_devices_and_others_destinations() {
        let class = |name: &[u8]| found(read, &query(name, b"")).unwrap()[0].class;
        assert_eq!(class(b"\x07example\x03com"), Class::DestMeta);
        assert_eq!(class(b"\x09annes-mac\x05local"), Class::HostName);
        assert_eq!(class(b"\x04wpad"), Class::HostName);
        assert_eq!(
            found(read, &query(b"\x05_http\x04_tcp\x05local", b"")),
            Some(vec![])
        );
    }

    #[test]
    fn the_client_subnet_and_vendors_options_are_told() {
        let opt = b"\0\0\x29\x10\0\0\0\0\0\0\x16\0\x08\0\x08\0\x01\x20\0\xc6\x33\x64\x07\xfd\xe9\0\x06\x3c\x22\xfb\0\0\x01";
        let told = found(read, &query(b"\x07example\x03com", opt)).unwrap();
        let leaks: Vec<_> = told.iter().map(|f| f.leak).collect();
        assert_eq!(
            leaks,
            ["dns.query", "dns.client-subnet", "dns.vendor-option"]
        );
        assert_eq!(told[1].class, Class::Location);
    }

    #[test]
    fn the_walk_must_end_with_the_message() {
        let mut bytes = query(b"\x07example\x03com", b"");
        bytes.push(0);
        assert_eq!(found(read, &bytes), None);
        assert_eq!(found(read, &bytes[..20]), None);
    }

    #[test]
    fn a_query_over_a_stream_is_read_behind_its_length() {
        let message = query(b"\x07example\x03com", b"");
        let stream = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
        assert_eq!(told(&stream).0[0].0, "dns.query");
    }
}
