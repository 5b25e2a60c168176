//! SMB over TCP (MS-SMB, MS-SMB2): the NetBIOS session request, and the NTLM authentication of a session set-up.

use super::bytes::Bytes;
use super::stream::{Opening, Step};
use super::{Notes, ntlm};
use crate::sanitize::finding::Leak;

/// It tells what NTLM tells.
pub(super) const LEAKS: &[Leak] = ntlm::LEAKS;

/// Bytes of a message that are searched.
const READ: usize = 3000;

pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        [0, _, _, _, 0xfd..=0xff, rest @ ..] => Opening::mark(rest, b"SMB"),
        [0x81, 0, 0, 0x44, 32, b'A'..=b'P', ..] => Opening::Yes,
        [0 | 0x81, ..] if stream.len() < 6 => Opening::Perhaps,
        _ => Opening::No,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    let (Some(kind), Some(length)) = (bytes.u8(), bytes.u24()) else {
        return Step::Wait;
    };
    let length = length as usize;
    if bytes.len() < length.min(READ) {
        return Step::Wait;
    }
    match (kind, bytes.peek()) {
        (0x81 | 0x85, _) | (0, None) => {}
        // A transform header: encrypted from here on.
        (0, Some(0xfd)) => return Step::Sealed,
        (0, Some(0xfe | 0xff)) => {
            let start = bytes.position();
            ntlm::search(start..start + length.min(bytes.len()), notes);
        }
        _ => return Step::Lost,
    }
    Step::Took(length + 4)
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn a_session_setup_tells_the_user() {
        let mut ntlm = b"NTLMSSP\0\x03\0\0\0".to_vec();
        for (length, offset) in [(0_u16, 52_u32), (0, 52), (0, 52), (8, 52), (0, 60)] {
            ntlm.extend(length.to_le_bytes());
            ntlm.extend(length.to_le_bytes());
            ntlm.extend(offset.to_le_bytes());
        }
        ntlm.extend(b"a\0n\0n\0e\0");
        let body = [b"\xfeSMB".as_slice(), &[0; 60], &ntlm].concat();
        let stream = [&[0, 0, 0, body.len() as u8][..], &body].concat();
        let (told, reading) = told(&stream);
        assert_eq!(told, [("ntlm.user", "a\0n\0n\0e\0".to_owned())]);
        assert_eq!(reading.unwrap().protocol, "smb");
    }
}
