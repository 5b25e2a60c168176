//! The client hello at the front of a stream, however its records are cut.

use super::LONGEST_OPENING;
use super::shown::{Protocol, Shown, canonical};
use super::sniff::Outcome;
use crate::payload::bytes::Bytes;
use crate::payload::hello::ClientHello;
use std::borrow::Cow;

/// Record and handshake types (RFC 8446, section 5.1 and appendix B.3).
pub(super) const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// A plain record is no longer than this.
const LONGEST_RECORD: usize = 1 << 14;
/// Bytes before the body of a handshake message.
const HEADER: usize = 4;

/// Reads the client hello from the beginning of a stream of TLS records; the caller has seen that the first byte is a
/// handshake's.
pub(super) fn records(stream: &[u8]) -> Outcome {
    if stream.get(1).is_some_and(|major| *major != 3) {
        return Outcome::Shown(Shown::nobody(Protocol::Other));
    }
    let mut bytes = Bytes::new(stream);
    let mut message: Cow<'_, [u8]> = Cow::Borrowed(&[]);
    while !bytes.is_empty() {
        let (Some(kind), Some(major), Some(_), Some(length)) =
            (bytes.u8(), bytes.u8(), bytes.u8(), bytes.u16())
        else {
            return Outcome::Wait;
        };
        let length = usize::from(length);
        if kind != HANDSHAKE || major != 3 || length > LONGEST_RECORD {
            return Outcome::Unreadable;
        }
        let there = bytes.rest();
        let piece = there.get(..length.min(there.len())).unwrap_or_default();
        bytes.skip(piece.len());
        if message.is_empty() {
            message = Cow::Borrowed(piece);
        } else {
            message.to_mut().extend_from_slice(piece);
        }
        let outcome = hello(&message, Protocol::Tls);
        if outcome != Outcome::Wait {
            return outcome;
        }
    }
    Outcome::Wait
}

/// Reads the handshake message as far as it is there.
pub(super) fn hello(message: &[u8], protocol: Protocol) -> Outcome {
    let mut bytes = Bytes::new(message);
    let Some(kind) = bytes.u8() else {
        return Outcome::Wait;
    };
    if kind != CLIENT_HELLO {
        return Outcome::Unreadable;
    }
    let Some(length) = bytes.u24() else {
        return Outcome::Wait;
    };
    let length = length as usize;
    if HEADER + length > LONGEST_OPENING {
        return Outcome::Unreadable;
    }
    let Some(body) = bytes.sub(length) else {
        return Outcome::Wait;
    };
    let hello = ClientHello::read(body, false);
    if !hello.whole {
        return Outcome::Unreadable;
    }
    let name = hello.server_name.and_then(|span| message.get(span));
    Outcome::Shown(Shown {
        protocol,
        name: name.and_then(canonical),
        outer: hello.encrypted,
    })
}
