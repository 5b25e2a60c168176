//! X11 clients (X Window System Protocol, section 8): the connection set-up, and with it the cookie that opens the screen
//! and keyboard to whoever has it.

use super::Notes;
use super::bytes::Bytes;
use super::stream::{Opening, Step};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const COOKIE: Leak = Leak::new("x11.cookie", Class::Credential, "authorization");

pub(super) const LEAKS: &[Leak] = &[COOKIE];

/// Protocol 11, revision 0, after the byte order and a byte that means nothing.
pub(super) fn open(stream: &[u8]) -> Opening {
    match stream {
        [b'B', _, version @ ..] => Opening::mark(version, &[0, 11, 0, 0]),
        [b'l', _, version @ ..] => Opening::mark(version, &[11, 0, 0, 0]),
        [b'B' | b'l'] => Opening::Perhaps,
        _ => Opening::No,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    // MIT-MAGIC-COOKIE-1 has 16 bytes; none that is in use has more than a few dozen.
    const LONGEST: usize = 256;
    let Some(&[order, _, _, _, _, _, name, name_2, data, data_2, _, _]) = unread.first_chunk()
    else {
        return Step::Wait;
    };
    let length = |pair| match order {
        b'B' => usize::from(u16::from_be_bytes(pair)),
        _ => usize::from(u16::from_le_bytes(pair)),
    };
    let (name, data) = (length([name, name_2]), length([data, data_2]));
    if name > LONGEST || data > LONGEST {
        return Step::Lost;
    }
    let mut bytes = Bytes::new(unread);
    // Name and cookie are filled up to whole words.
    let read = bytes
        .skip(12 + name.next_multiple_of(4))
        .and_then(|()| bytes.span(data));
    match read {
        None => Step::Wait,
        Some(cookie) => {
            notes.certain(&COOKIE, cookie);
            // What is drawn comes next; keys come from the other side.
            Step::Lost
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn the_cookie_is_told_in_both_byte_orders() {
        let little = b"l\0\x0b\0\0\0\x12\0\x10\0\0\0MIT-MAGIC-COOKIE-1\0\0qwertyuiopasdfgh";
        let big = b"B\0\0\x0b\0\0\0\x12\0\x10\0\0MIT-MAGIC-COOKIE-1\0\0qwertyuiopasdfgh";
        for stream in [little, big] {
            let (told, protocol) = told(stream);
            assert_eq!(protocol.map(|reading| reading.protocol), Some("x11"));
            assert_eq!(told, [("x11.cookie", "qwertyuiopasdfgh".to_owned())]);
        }
    }

    #[test]
    fn a_connection_without_a_cookie_and_text_tell_nothing() {
        let (told_of, protocol) = told(b"l\0\x0b\0\0\0\0\0\0\0\0\0\x62\0\x03\0");
        assert_eq!(told_of, []);
        assert_eq!(protocol.map(|reading| reading.protocol), Some("x11"));
        assert_ne!(
            told(b"list\r\n").1.map(|reading| reading.protocol),
            Some("x11")
        );
        assert_eq!(told(b"B\0\0\x0b\0\0\xff\xff\xff\xff\0\0").0, []);
    }
}
