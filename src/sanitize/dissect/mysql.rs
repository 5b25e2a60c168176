//! MySQL and MariaDB clients: the handshake response (protocol 4.1) with the user, and what the client says of its
//! machine; queries. Passwords are hashed with a challenge, and so can be tried against guessed ones, unless the client is
//! told to send them in the clear.

use super::Notes;
use super::bytes::Bytes;
use super::stream::{Opening, Step};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const USER: Leak = Leak::new("mysql.user", Class::PersonId, "user");
const DATABASE: Leak = Leak::new("mysql.database", Class::ServiceMeta, "database");
const PASSWORD: Leak = Leak::new("mysql.password", Class::Credential, "password");
const HOST: Leak = Leak::new("mysql.host", Class::HostName, "host name of the client");
const SOFTWARE: Leak = Leak::new("mysql.software", Class::Software, "software");

const DIGEST: Leak = Leak::new("mysql.digest", Class::Credential, "answer to the challenge");
const QUERY: Leak = Leak::new("mysql.query", Class::Content, "query");

pub(super) const LEAKS: &[Leak] = &[USER, DATABASE, PASSWORD, HOST, SOFTWARE, DIGEST, QUERY];

/// Length, sequence number, capabilities, largest packet, character set, 23 reserved bytes (MariaDB uses the last four).
const FIXED: usize = 36;
const RESERVED: std::ops::Range<usize> = 13..32;
/// The phase after the response, and commands of text.
const COMMANDS: u8 = 1;
const QUERY_COMMAND: u8 = 3;
const PREPARE_COMMAND: u8 = 0x16;
/// A packet longer than this is not waited for.
const LONG: usize = 2000;
/// Capabilities.
const WITH_DATABASE: u32 = 1 << 3;
const PROTOCOL_41: u32 = 1 << 9;
const TLS: u32 = 1 << 11;
const PLUGIN: u32 = 1 << 19;
const ATTRIBUTES: u32 = 1 << 20;

pub(super) fn open(stream: &[u8]) -> Opening {
    let zero = |at: usize| stream.get(at).is_none_or(|byte| *byte == 0);
    let fits = zero(2)
        && stream.get(3).is_none_or(|sequence| *sequence == 1)
        && stream.get(5).is_none_or(|byte| byte & 2 != 0)
        && RESERVED.into_iter().all(zero);
    match (fits, stream.len() >= FIXED) {
        (false, _) => Opening::No,
        (true, true) => Opening::Yes,
        // The first bytes alone say little.
        (true, false) if stream.len() >= 4 => Opening::Perhaps,
        (true, false) => Opening::No,
    }
}

/// Reads one packet. The phase is 1 after the response.
pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    let Some([a, b, c, sequence]) = bytes.array() else {
        return Step::Wait;
    };
    let length = u32::from_le_bytes([a, b, c, 0]) as usize;
    if *phase == COMMANDS {
        // A command, or more of the log-in.
        if unread.len() < (length + 4).min(LONG) {
            return Step::Wait;
        }
        if sequence == 0
            && let Some(QUERY_COMMAND | PREPARE_COMMAND) = bytes.u8()
        {
            notes.certain(&QUERY, 5..(length + 4).min(unread.len()));
        }
        return Step::Took(length + 4);
    }
    if sequence != 1 {
        return Step::Lost;
    }
    let Some(mut packet) = bytes.sub(length) else {
        return Step::Wait;
    };
    let capabilities = packet.u32_le().unwrap_or(0);
    if capabilities & PROTOCOL_41 == 0 {
        return Step::Lost;
    }
    if packet.skip(FIXED - 8).is_some() && packet.is_empty() {
        // Only a request for TLS.
        return if capabilities & TLS != 0 {
            Step::Sealed
        } else {
            Step::Lost
        };
    }
    response(&mut packet, capabilities, notes);
    *phase = COMMANDS;
    Step::Took(length + 4)
}

fn response(packet: &mut Bytes<'_>, capabilities: u32, notes: &mut Notes<'_>) -> Option<()> {
    let user = packet.until(0)?;
    notes.certain(&USER, user);
    let length = lenenc(packet)?;
    let secret = packet.span(length)?;
    if capabilities & WITH_DATABASE != 0 {
        notes.certain(&DATABASE, packet.until(0)?);
    }
    if capabilities & PLUGIN != 0 {
        let plugin = packet.until(0)?;
        let leak: &Leak = match packet.slice(&plugin) {
            b"mysql_clear_password" => &PASSWORD,
            _ => &DIGEST,
        };
        notes.certain(leak, secret);
    }
    if capabilities & ATTRIBUTES != 0 {
        let length = lenenc(packet)?;
        let mut attributes = packet.sub(length)?;
        while !attributes.is_empty() {
            let length = lenenc(&mut attributes)?;
            let name = attributes.span(length)?;
            let length = lenenc(&mut attributes)?;
            let value = attributes.span(length)?;
            match attributes.slice(&name) {
                b"_source_host" | b"_client_host" => notes.certain(&HOST, value),
                b"os_user" => notes.certain(&USER, value),
                b"program_name" => notes.certain(&SOFTWARE, value),
                _ => {}
            }
        }
    }
    Some(())
}

/// An integer of one to four bytes, as lengths are written; longer ones do not occur here.
fn lenenc(bytes: &mut Bytes<'_>) -> Option<usize> {
    match bytes.u8()? {
        short @ 0..=0xfa => Some(usize::from(short)),
        0xfc => bytes.u16_le().map(usize::from),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    fn handshake(capabilities: u32, rest: &[u8]) -> Vec<u8> {
        let mut packet = capabilities.to_le_bytes().to_vec();
        packet.extend([0, 0, 0, 1, 45]);
        packet.extend([0; 23]);
        packet.extend(rest);
        let mut stream = vec![packet.len() as u8, 0, 0, 1];
        stream.extend(packet);
        stream
    }

    #[test]
    fn the_user_and_what_the_machine_is_called_are_told() {
        let capabilities = 1 << 3 | 1 << 9 | 1 << 15 | 1 << 19 | 1 << 20;
        let rest = b"anne\0\x04hashshop\0mysql_native_password\0\x16\x0c_source_host\x08annes-pc";
        let (told, protocol) = told(&handshake(capabilities, rest));
        assert_eq!(protocol.map(|reading| reading.protocol), Some("mysql"));
        let values: Vec<_> = told
            .iter()
            .map(|(leak, value)| (*leak, value.as_str()))
            .collect();
        assert_eq!(
            values,
            [
                ("mysql.user", "anne"),
                ("mysql.database", "shop"),
                ("mysql.digest", "hash"),
                ("mysql.host", "annes-pc")
            ]
        );
    }

    #[test]
    fn queries_are_told_after_more_of_the_log_in() {
        let rest = b"anne\0\x04hash";
        let mut stream = handshake(1 << 9 | 1 << 15, rest);
        stream.extend(b"\x03\0\0\x03abc\x09\0\0\0\x03select 1\x01\0\0\0\x0e");
        let (told, _) = told(&stream);
        assert_eq!(told[1..], [("mysql.query", "select 1".to_owned())]);
    }

    #[test]
    fn a_password_in_the_clear_and_a_request_for_tls_are_known() {
        let rest = b"anne\0\x08s3cret9\0mysql_clear_password\0";
        let (clear, _) = told(&handshake(1 << 9 | 1 << 15 | 1 << 19, rest));
        assert_eq!(clear[1].0, "mysql.password");
        assert_eq!(told(&handshake(1 << 9 | 1 << 11, b"")).0, []);
    }
}
