//! TLS (RFC 8446, RFC 5246): the client hello, and up to version 1.2 the client's certificate.

use super::Notes;
use super::bytes::Bytes;
use super::stream::{Opening, Step};
use super::x509;
use crate::payload::hello::ClientHello;
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const SERVER_NAME: Leak = Leak::new("tls.server-name", Class::DestMeta, "server name");
const CERTIFICATE: Leak = Leak::new(
    "tls.client-certificate",
    Class::PersonId,
    "subject of the client certificate",
);

pub(super) const LEAKS: &[Leak] = &[SERVER_NAME, CERTIFICATE];

const RECORD_HEADER: usize = 5;
/// A record as long as this is read as far as it is there.
const LONG: usize = 4000;
/// The phase after a client hello: a certificate that follows is the client's.
const GREETED: u8 = 1;

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        [22, 3, 0..=4, ..] => Opening::Yes,
        [22] | [22, 3] => Opening::Perhaps,
        _ => Opening::No,
    }
}

/// Reads one record.
pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    if let [20 | 23, 3, ..] = unread {
        return Step::Sealed;
    }
    let mut bytes = Bytes::new(unread);
    let (Some(kind), Some(3), Some(_), Some(length)) =
        (bytes.u8(), bytes.u8(), bytes.u8(), bytes.u16())
    else {
        return if unread.len() < RECORD_HEADER {
            Step::Wait
        } else {
            Step::Lost
        };
    };
    let whole = usize::from(length) + RECORD_HEADER;
    match kind {
        22 => {
            // A record cut short is read as far as it is there: a certificate names its owner early.
            let length = usize::from(length).min(bytes.len());
            if let Some(record) = bytes.sub(length) {
                handshake(phase, record, notes);
            }
            if unread.len() < whole.min(LONG) {
                return Step::Wait;
            }
            Step::Took(whole)
        }
        21 => Step::Took(whole),
        _ => Step::Lost,
    }
}

/// Reads the messages of one handshake record.
fn handshake(phase: &mut u8, mut record: Bytes<'_>, notes: &mut Notes<'_>) {
    while let (Some(kind), Some(length)) = (record.u8(), record.u24()) {
        let length = (length as usize).min(record.len());
        let Some(message) = record.sub(length) else {
            return;
        };
        match kind {
            1 => {
                *phase = GREETED;
                client_hello(message, false, notes);
            }
            11 if *phase == GREETED => certificate(message, notes),
            _ => {}
        }
    }
}

/// Tells the server name of a client hello; that of DTLS has a cookie more.
pub(super) fn client_hello(hello: Bytes<'_>, datagrams: bool, notes: &mut Notes<'_>) {
    if let Some(name) = ClientHello::read(hello, datagrams).server_name {
        notes.certain(&SERVER_NAME, name);
    }
}

/// Reads the first certificate of a client's chain.
pub(super) fn certificate(mut message: Bytes<'_>, notes: &mut Notes<'_>) {
    message.u24();
    let Some(length) = message.u24() else { return };
    let length = (length as usize).min(message.len());
    let names = message.sub(length).and_then(x509::subject);
    for name in names.into_iter().flatten() {
        notes.certain(&CERTIFICATE, name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;
    use crate::payload::hello::samples::hello;

    #[test]
    fn the_server_name_is_told_and_application_data_seals_the_stream() {
        let mut stream = hello(b"example.com");
        stream.extend([20, 3, 3, 0, 1, 1, 23, 3, 3, 0, 2, 9, 9]);
        let (told, reading) = told(&stream);
        assert_eq!(told, [("tls.server-name", "example.com".to_owned())]);
        assert!(reading.unwrap().sealed);
    }

    #[test]
    fn a_hello_cut_short_tells_nothing() {
        let stream = hello(b"example.com");
        assert_eq!(told(&stream[..stream.len() - 1]).0, []);
    }
}
