//! Remote Desktop (MS-RDPBCGR, section 2.2.1.1): the connection request carries a user's name as a cookie for load
//! balancers; without TLS the client's name follows.

use super::bytes::Bytes;
use super::stream::{Opening, Step};
use super::{Notes, text};
use crate::sanitize::class::{Certainty, Class};
use crate::sanitize::finding::Leak;

const USER: Leak = Leak::new("rdp.user", Class::PersonId, "user name in the cookie");
const CLIENT: Leak = Leak::new("rdp.client", Class::HostName, "client name");

pub(super) const LEAKS: &[Leak] = &[USER, CLIENT];

const REQUEST: u8 = 0xe0;

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        [3, 0, _, _, _, REQUEST, 0, 0, ..] => Opening::Yes,
        [3] | [3, 0] | [3, 0, _] | [3, 0, _, _] | [3, 0, _, _, _] => Opening::Perhaps,
        [3, 0, _, _, _, REQUEST, ..] if stream.len() < 8 => Opening::Perhaps,
        _ => Opening::No,
    }
}

/// Reads one TPKT (RFC 1006); after the request TLS may take over.
pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    if let [0x16, 3, ..] = unread {
        return Step::Switch;
    }
    let mut bytes = Bytes::new(unread);
    let (Some([3, 0]), Some(length)) = (bytes.array(), bytes.u16()) else {
        return if unread.len() < 4 {
            Step::Wait
        } else {
            Step::Lost
        };
    };
    let Some(packet) = unread.get(..usize::from(length)) else {
        return Step::Wait;
    };
    if let Some(user) = text::between(packet, 0, b"Cookie: mstshash=", b"\r") {
        notes.certain(&USER, user);
    }
    client_name(packet, notes);
    Step::Took(packet.len())
}

/// The core data block of the client: a type, a length, and at byte 24 a name of 15 UTF-16 characters.
fn client_name(packet: &[u8], notes: &mut Notes<'_>) -> Option<()> {
    const CORE: &[u8] = b"Duca";
    const NAME: usize = 32;
    let mut bytes = Bytes::new(packet);
    bytes.skip(memchr::memmem::find(packet, CORE)? + CORE.len())?;
    // The length of what follows, in one or two bytes (PER).
    bytes.skip(if bytes.peek()? & 0x80 == 0 { 1 } else { 2 })?;
    bytes.tag(&[0x01, 0xc0])?;
    bytes.skip(22)?;
    let span = bytes.span(NAME)?;
    let name: Vec<u8> = bytes
        .slice(&span)
        .iter()
        .copied()
        .filter(|byte| *byte != 0)
        .collect();
    if !name.is_empty() {
        notes.decoded(&CLIENT, Certainty::Certain, span, &name);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn the_cookie_tells_the_user_and_tls_follows() {
        let cookie = b"Cookie: mstshash=anne\r\n";
        let mut stream = vec![
            3,
            0,
            0,
            11 + cookie.len() as u8,
            6 + cookie.len() as u8,
            0xe0,
            0,
            0,
            0,
            0,
            0,
        ];
        stream.extend(cookie);
        stream.extend([0x16, 3, 1, 0, 1, 0, 0x17, 3, 3]);
        let (told, reading) = told(&stream);
        assert_eq!(told, [("rdp.user", "anne".to_owned())]);
        assert!(reading.unwrap().sealed);
    }
}
