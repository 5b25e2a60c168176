//! iSCSI (RFC 7143, sections 11.12 and 13): what an initiator says of itself as it logs in. Its name is the machine's for
//! life.

use super::Notes;
use super::bytes::Bytes;
use super::stream::{Opening, Step};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const INITIATOR: Leak = Leak::new("iscsi.initiator", Class::DeviceId, "initiator name");
const ALIAS: Leak = Leak::new("iscsi.alias", Class::HostName, "initiator alias");
const USER: Leak = Leak::new("iscsi.user", Class::PersonId, "user");
const RESPONSE: Leak = Leak::new("iscsi.response", Class::Credential, "answer to a challenge");
const TARGET: Leak = Leak::new("iscsi.target", Class::DestMeta, "target name");

pub(super) const LEAKS: &[Leak] = &[INITIATOR, ALIAS, USER, RESPONSE, TARGET];

/// A log-in, as it is always marked: at once.
const LOGIN: u8 = 0x43;
/// Text that is asked for, at once or in turn.
const TEXT: u8 = 0x04;
const HEADER: usize = 48;
/// A log-in longer than this is not waited for.
const LONG: usize = 3000;

pub(super) fn open(stream: &[u8]) -> Opening {
    let mut bytes = Bytes::new(stream);
    // Operation, flags, two versions, no more headers, the length of the text.
    let known = bytes.u8().is_none_or(|operation| operation == LOGIN)
        && bytes
            .u8()
            .is_none_or(|flags| flags & 0x30 == 0 && flags & 0x0c != 0x08)
        && bytes.u8().is_none_or(|version| version == 0)
        && bytes.u8().is_none_or(|version| version == 0)
        && bytes.u8().is_none_or(|more| more == 0)
        && bytes.u8().is_none_or(|length| length == 0);
    match known {
        true if stream.len() >= HEADER + 4 => {
            let text = stream.get(HEADER..).unwrap_or_default();
            let key = text.iter().take_while(|byte| byte.is_ascii_graphic());
            if key.count() >= 4 {
                Opening::Yes
            } else {
                Opening::No
            }
        }
        true => Opening::Perhaps,
        false => Opening::No,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let &[operation, _, _, _, more, ref rest @ ..] = unread else {
        return Step::Wait;
    };
    let Some(length) = Bytes::new(rest).u24().map(|length| length as usize) else {
        return Step::Wait;
    };
    if operation != LOGIN && operation & 0x3f != TEXT {
        return Step::Lost;
    }
    let start = HEADER + 4 * usize::from(more);
    let whole = start + length.next_multiple_of(4);
    if unread.len() < whole.min(LONG) {
        return Step::Wait;
    }
    let text = unread.get(start..(start + length).min(unread.len()));
    let mut at = start;
    for pair in text.unwrap_or_default().split(|byte| *byte == 0) {
        if let Some(equals) = memchr::memchr(b'=', pair) {
            key(pair, at..at + pair.len(), equals, notes);
        }
        at += pair.len() + 1;
    }
    Step::Took(whole)
}

/// Tells one pair by its key.
fn key(pair: &[u8], place: std::ops::Range<usize>, equals: usize, notes: &mut Notes<'_>) {
    let leak: &Leak = match pair.get(..equals) {
        Some(b"InitiatorName") => &INITIATOR,
        Some(b"InitiatorAlias") => &ALIAS,
        Some(b"CHAP_N" | b"SRP_U") => &USER,
        Some(b"CHAP_R" | b"SRP_M") => &RESPONSE,
        Some(b"TargetName") => &TARGET,
        _ => return,
    };
    notes.certain(leak, place.start + equals + 1..place.end);
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    fn login(text: &[u8]) -> Vec<u8> {
        let mut stream = vec![0x43, 0x87, 0, 0, 0, 0, 0, text.len() as u8];
        stream.resize(48, 0);
        stream.extend(text);
        stream.resize(stream.len().next_multiple_of(4), 0);
        stream
    }

    #[test]
    fn the_machine_and_the_user_are_told() {
        let name = login(b"InitiatorName=iqn.1993-08.org.debian:01:abc\0InitiatorAlias=annes-pc\0");
        let answer = login(b"CHAP_N=anne\0CHAP_R=0x0123\0");
        let (told, protocol) = told(&[name, answer].concat());
        assert_eq!(protocol.map(|reading| reading.protocol), Some("iscsi"));
        let expected = [
            ("iscsi.initiator", "iqn.1993-08.org.debian:01:abc"),
            ("iscsi.alias", "annes-pc"),
            ("iscsi.user", "anne"),
            ("iscsi.response", "0x0123"),
        ];
        assert_eq!(told, expected.map(|(leak, text)| (leak, text.to_owned())));
    }

    #[test]
    fn what_follows_the_log_in_is_not_read() {
        let mut stream = login(b"InitiatorName=iqn.a\0");
        stream.extend([1; 48]);
        stream.extend(login(b"InitiatorName=iqn.b\0"));
        assert_eq!(told(&stream).0.len(), 1);
    }
}
