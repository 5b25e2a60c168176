//! DTLS up to 1.2 (RFC 6347) and the plain records of 1.3 (RFC 9147): the client hello and the client's certificate.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading, tls};
use crate::sanitize::finding::Leak;

/// It tells what TLS tells.
pub(super) const LEAKS: &[Leak] = tls::LEAKS;

pub(super) const SHAPE: Shape = Shape::first(Set::range(20, 26));

const CLIENT_HELLO: u8 = 1;
const CERTIFICATE: u8 = 11;
const CLIENT_KEY_EXCHANGE: u8 = 16;

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    let mut sealed = false;
    // A client's certificate comes in one flight with its key exchange; a server's does not.
    let client = has_message(payload, CLIENT_KEY_EXCHANGE);
    bytes.peek()?;
    while !bytes.is_empty() {
        let (kind, epoch, record) = record(&mut bytes)?;
        sealed |= epoch > 0 || kind == 23;
        if epoch == 0 && kind == 22 {
            handshake(record, client, notes);
        }
    }
    Some(Reading {
        protocol: "dtls",
        sealed,
    })
}

fn record<'a>(bytes: &mut Bytes<'a>) -> Option<(u8, u16, Bytes<'a>)> {
    let kind = bytes.u8().filter(|kind| (20..=26).contains(kind))?;
    let [0xfe, 0xfc..=0xff] = bytes.array::<2>()? else {
        return None;
    };
    let epoch = bytes.u16()?;
    bytes.skip(6)?;
    let length = bytes.u16()?;
    Some((kind, epoch, bytes.sub(usize::from(length))?))
}

fn handshake(mut record: Bytes<'_>, client: bool, notes: &mut Notes<'_>) -> Option<()> {
    let kind = record.u8()?;
    record.skip(3 + 2)?;
    let offset = record.u24()?;
    let length = record.u24()? as usize;
    let body = record.sub(length.min(record.len()))?;
    match kind {
        CLIENT_HELLO if offset == 0 => tls::client_hello(body, true, notes),
        CERTIFICATE if offset == 0 && client => tls::certificate(body, notes),
        _ => {}
    }
    Some(())
}

fn has_message(payload: &[u8], message: u8) -> bool {
    let mut bytes = Bytes::new(payload);
    std::iter::from_fn(|| record(&mut bytes))
        .any(|(kind, epoch, record)| kind == 22 && epoch == 0 && record.peek() == Some(message))
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    #[test]
    fn records_must_end_with_the_datagram() {
        let record = [23, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 1, 0, 3, 9, 9, 9];
        assert_eq!(found(read, &record), Some(vec![]));
        assert_eq!(found(read, &record[..15]), None);
        assert_eq!(found(read, &[]), None);
        let mut found = Vec::new();
        let reading = read(&record, &mut Notes::new(&record, &mut found)).unwrap();
        assert!(reading.sealed);
    }
}
