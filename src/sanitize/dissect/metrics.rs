//! Metrics: statsd and collectd over datagrams, Graphite and InfluxDB lines over both. Their paths name hosts.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::stream::{Opening, Step};
use super::{Notes, Reading, text};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const HOST: Leak = Leak::new("metrics.host", Class::HostName, "host");
const PATH: Leak = Leak::new("metrics.path", Class::HostName, "metric path");

pub(super) const LEAKS: &[Leak] = &[HOST, PATH];

/// First parts of a path after which a host comes, by custom.
const NAMED: [&[u8]; 8] = [
    b"server",
    b"servers",
    b"host",
    b"hosts",
    b"node",
    b"nodes",
    b"collectd",
    b"machines",
];

pub(super) const SHAPE: Shape = Shape::first(Set::range(0, 0x7f));

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    if collectd(payload, notes).is_some() {
        return Some(Reading::clear("collectd"));
    }
    notes.discard();
    if !payload.is_ascii() || payload.is_empty() {
        return None;
    }
    for (start, line) in text::lines(payload) {
        tell(line, start, notes)?;
    }
    Some(Reading::clear("metrics"))
}

pub(super) fn open(stream: &[u8]) -> Opening {
    match text::line(stream) {
        Some((line, _)) if graphite(line).is_some() => Opening::Yes,
        None if stream.len() < 256
            && stream.first().is_some_and(u8::is_ascii_alphabetic)
            && is_path(stream) =>
        {
            Opening::Perhaps
        }
        _ => Opening::No,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    match text::line(unread) {
        None => Step::Wait,
        Some((line, taken)) if tell(line, 0, notes).is_some() => Step::Took(taken),
        Some(_) => Step::Lost,
    }
}

/// Whether all bytes can be of a metric's line.
fn is_path(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| byte.is_ascii_alphanumeric() || b"._-:;=/, ".contains(byte))
}

fn tell(line: &[u8], start: usize, notes: &mut Notes<'_>) -> Option<()> {
    if let Some(host) = influx_host(line) {
        notes.certain(&HOST, host.start + start..host.end + start);
        return Some(());
    }
    if statsd(line).is_some()
        && let Some(host) = tagged_host(line)
    {
        notes.certain(&HOST, host.start + start..host.end + start);
    }
    let path = statsd(line).or_else(|| graphite(line))?;
    // Three parts or more: one of them usually is a host.
    if line
        .get(..path)?
        .iter()
        .filter(|byte| **byte == b'.')
        .count()
        >= 2
    {
        let (first, rest) = line.split_at_checked(memchr::memchr(b'.', line)?)?;
        if NAMED.iter().any(|named| named.eq_ignore_ascii_case(first)) {
            let length = rest
                .get(1..)?
                .iter()
                .take_while(|byte| **byte != b'.')
                .count();
            let host = start + first.len() + 1;
            notes.probable(&HOST, host..host + length);
        } else {
            notes.suspected(&PATH, start..start + path);
        }
    }
    Some(())
}

/// `path:value|type`, and maybe `|@rate` and `|#tags`; the length of the path.
fn statsd(line: &[u8]) -> Option<usize> {
    let colon = memchr::memchr(b':', line)?;
    let mut fields = line.get(colon + 1..)?.split(|byte| *byte == b'|');
    let value = fields.next()?;
    let kind = fields.next()?;
    let number = !value.is_empty()
        && value
            .iter()
            .all(|b| b.is_ascii_digit() || b"+-.e:".contains(b));
    let known = [&b"c"[..], b"g", b"ms", b"h", b"s", b"d"].contains(&kind);
    (number && known && colon > 0 && is_path(line.get(..colon)?)).then_some(colon)
}

/// `…|#env:prod,host:NAME`, the tags of a dialect of statsd.
fn tagged_host(line: &[u8]) -> Option<std::ops::Range<usize>> {
    let tags = memchr::memmem::find(line, b"|#")? + 2;
    let mut at = tags;
    for tag in line.get(tags..)?.split(|byte| matches!(byte, b',' | b'|')) {
        for name in [&b"host:"[..], b"hostname:", b"host_name:"] {
            if tag.starts_with(name) && tag.len() > name.len() {
                return Some(at + name.len()..at + tag.len());
            }
        }
        at += tag.len() + 1;
    }
    None
}

/// `path value timestamp`; the length of the path.
fn graphite(line: &[u8]) -> Option<usize> {
    let mut words = text::words(line, 0);
    let (path, name) = words.next()?;
    let (_, value) = words.next()?;
    let (_, time) = words.next()?;
    let number =
        |word: &[u8]| std::str::from_utf8(word).is_ok_and(|word| word.parse::<f64>().is_ok());
    let plausible = name.contains(&b'.') && is_path(name) && number(value) && number(time);
    (plausible && words.next().is_none()).then_some(path.end)
}

/// `measurement,host=NAME,… field=value`.
fn influx_host(line: &[u8]) -> Option<std::ops::Range<usize>> {
    let tags = line.get(..memchr::memchr(b' ', line)?)?;
    let fields = line.get(tags.len() + 1..)?;
    if !fields.contains(&b'=') {
        return None;
    }
    let start = memchr::memmem::find(tags, b",host=")? + b",host=".len();
    let length = memchr::memchr(b',', tags.get(start..)?).unwrap_or(tags.len() - start);
    Some(start..start + length)
}

/// Parts of a type and a length that includes both (collectd's binary protocol); a text part of type 0 is the host.
fn collectd(payload: &[u8], notes: &mut Notes<'_>) -> Option<()> {
    let mut bytes = Bytes::new(payload);
    if payload.first_chunk() != Some(&[0, 0]) {
        return None;
    }
    let mut parts = 0;
    while !bytes.is_empty() {
        parts += 1;
        let kind = bytes
            .u16()
            .filter(|kind| matches!(kind, 0..=9 | 0x100..=0x210))?;
        let length = usize::from(bytes.u16()?).checked_sub(4)?;
        let mut value = bytes.sub(length)?;
        if kind == 0 {
            let host = value.until(0)?;
            if !value.is_empty() || !text::is_text(bytes.slice(&host)) {
                return None;
            }
            notes.certain(&HOST, host);
        }
    }
    // A host, and what is measured there.
    (parts > 1).then_some(())
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::{found, told};
    use super::*;

    #[test]
    fn lines_of_each_kind_are_known() {
        let line = b"shop.annes-pc.cpu:0.5|g|@0.1\n";
        assert_eq!(found(read, line).unwrap()[0].leak, "metrics.path");
        for line in [
            &b"servers.annes-pc.cpu:0.5|g"[..],
            b"views:1|c|#env:a,host:annes-pc",
        ] {
            let told = found(read, line).unwrap();
            assert_eq!(&line[told[0].span.clone()], b"annes-pc");
        }
        let line = b"cpu,host=annes-pc,cpu=0 usage=0.5 1612750000";
        let told = found(read, line).unwrap();
        assert_eq!(&line[told[0].span.clone()], b"annes-pc");
        assert_eq!(found(read, b"a:b|c"), None);
        assert_eq!(found(read, b"hello world"), None);
    }

    #[test]
    fn collectd_names_its_host() {
        let packet = b"\0\0\0\x0dannes-pc\0\0\x08\0\x0c\0\0\0\0\0\0\0\x07";
        assert_eq!(found(read, packet).unwrap()[0].span, 4..12);
        assert_eq!(found(read, &packet[..20]), None);
    }

    #[test]
    fn graphite_comes_over_streams() {
        assert_eq!(
            told(b"servers.annes-pc.cpu 0.5 1612750000\n").0,
            [("metrics.host", "annes-pc".to_owned())]
        );
    }
}
