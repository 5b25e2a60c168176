//! SOCKS 5 (RFC 1928, RFC 1929) and SOCKS 4: user and password, the destination; then whatever is carried.

use super::Notes;
use super::bytes::Bytes;
use super::stream::{Opening, Step};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const USER: Leak = Leak::new("socks.user", Class::PersonId, "user");
const PASSWORD: Leak = Leak::new("socks.password", Class::Credential, "password");
const DESTINATION: Leak = Leak::new("socks.destination", Class::DestMeta, "destination");

pub(super) const LEAKS: &[Leak] = &[USER, PASSWORD, DESTINATION];

/// Phases: the greeting, authentication or request, what is carried.
const GREETING: u8 = 0;
const REQUEST: u8 = 1;
const CARRIED: u8 = 2;

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        [5, count @ 1..=10, methods @ ..] => {
            let plausible = methods
                .iter()
                .take(usize::from(*count))
                .all(|method| *method <= 9 || *method >= 0x80);
            match (plausible, methods.len() >= usize::from(*count)) {
                (true, true) => Opening::Yes,
                (true, false) => Opening::Perhaps,
                (false, _) => Opening::No,
            }
        }
        [4, 1 | 2, _, _, _, _, _, _, _, ..] => Opening::Yes,
        [4, 1 | 2, ..] | [4 | 5] => Opening::Perhaps,
        _ => Opening::No,
    }
}

pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    let read = match (*phase, unread) {
        (CARRIED, _) => return Step::Switch,
        (GREETING, [4, ..]) => socks4(&mut bytes, notes).map(|()| CARRIED),
        (GREETING, _) => greeting(&mut bytes).map(|()| REQUEST),
        (_, [1, ..]) => authentication(&mut bytes, notes).map(|()| REQUEST),
        (_, [5, ..]) => request(&mut bytes, notes).map(|()| CARRIED),
        _ => return Step::Lost,
    };
    match read {
        None => Step::Wait,
        Some(next) => {
            *phase = next;
            Step::Took(bytes.position())
        }
    }
}

fn greeting(bytes: &mut Bytes<'_>) -> Option<()> {
    bytes.u8()?;
    let methods = bytes.u8()?;
    bytes.skip(usize::from(methods))
}

fn authentication(bytes: &mut Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    bytes.u8()?;
    let user = bytes.u8()?;
    let user = bytes.span(usize::from(user))?;
    notes.certain(&USER, user);
    let password = bytes.u8()?;
    let there = usize::from(password).min(bytes.len());
    let span = bytes.span(there)?;
    notes.certain(&PASSWORD, span);
    (there == usize::from(password)).then_some(())
}

fn request(bytes: &mut Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    bytes.skip(3)?;
    match bytes.u8()? {
        1 => bytes.skip(4)?,
        4 => bytes.skip(16)?,
        _ => {
            let length = bytes.u8()?;
            notes.certain(&DESTINATION, bytes.span(usize::from(length))?);
        }
    }
    bytes.skip(2)
}

/// Command, port, address, a user's name; an address of 0.0.0.x means that a host name follows.
fn socks4(bytes: &mut Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    bytes.skip(4)?;
    let address = bytes.array::<4>()?;
    notes.certain(&USER, bytes.until(0)?);
    if let [0, 0, 0, 1..=255] = address {
        notes.certain(&DESTINATION, bytes.until(0)?);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn user_password_destination_and_what_follows_are_told() {
        let mut stream =
            b"\x05\x02\x00\x02\x01\x04anne\x06secret\x05\x01\x00\x03\x09a.example\0\x50".to_vec();
        stream.extend(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        let leaks: Vec<_> = told(&stream).0.into_iter().map(|(leak, _)| leak).collect();
        assert_eq!(
            leaks,
            [
                "socks.user",
                "socks.password",
                "socks.destination",
                "http.host"
            ]
        );
    }

    #[test]
    fn version_4_tells_its_user() {
        assert_eq!(told(b"\x04\x01\0\x50\x01\x02\x03\x04anne\0").0[0].1, "anne");
    }
}
