//! MTProto in its plain transports (Telegram), recognised so that it passes: all but the number of the key is encrypted.
//! Its obfuscated form shows nothing at all, by intent.

use super::Notes;
use super::stream::{Opening, Step};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const KEY: Leak = Leak::new("mtproto.key", Class::SessionId, "number of the key");

pub(super) const LEAKS: &[Leak] = &[KEY];

/// What begins a connection of the intermediate and the padded intermediate transport, before a length.
const INTERMEDIATE: [u8; 4] = [0xee; 4];
const PADDED: [u8; 4] = [0xdd; 4];
/// The longest message a client sends (1 MiB).
const LONGEST: u32 = 1 << 20;

pub(super) fn open(stream: &[u8]) -> Opening {
    let marked = Opening::mark(stream, &INTERMEDIATE).or(Opening::mark(stream, &PADDED));
    match (marked, stream.get(4..).and_then(<[u8]>::first_chunk)) {
        (Opening::Yes, None) => Opening::Perhaps,
        (Opening::Yes, Some(length)) => {
            let length = u32::from_le_bytes(*length);
            if (20..=LONGEST).contains(&length) {
                Opening::Yes
            } else {
                Opening::No
            }
        }
        (other, _) => other,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    match unread.get(8..16) {
        None => Step::Wait,
        Some(key) => {
            // Without a key one is being agreed on.
            if key != [0; 8] {
                notes.certain(&KEY, 8..16);
            }
            Step::Sealed
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn the_key_is_a_session_and_the_rest_is_sealed() {
        let message = |key: [u8; 8], length: u32| {
            let mut stream = vec![0xee; 4];
            stream.extend(length.to_le_bytes());
            stream.extend(key);
            stream.extend([0x5a; 64]);
            stream
        };
        let (known, reading) = told(&message([7; 8], 72));
        assert_eq!(known[0].0, "mtproto.key");
        assert!(reading.is_some_and(|reading| reading.sealed));
        assert_eq!(told(&message([0; 8], 72)).0, []);
        assert_eq!(told(&message([7; 8], 3 << 20)).1, None);
    }
}
