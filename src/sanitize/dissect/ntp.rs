//! NTP (RFC 5905): recognised so that its clocks are not taken for identifiers. It tells nothing of a person.

use super::shape::{Set, Shape};
use super::{Notes, Reading};
use crate::sanitize::finding::Leak;

pub(super) const LEAKS: &[Leak] = &[];

/// Versions 1 to 4, whatever the leap indicator.
pub(super) const SHAPE: Shape = Shape::first(
    Set::range(0x08, 0x27)
        .or(Set::range(0x48, 0x67))
        .or(Set::range(0x88, 0xa7))
        .or(Set::range(0xc8, 0xe7)),
);

/// Length of the header; an authenticator of 20 or 24 bytes may follow.
const HEADER: usize = 48;

pub(super) fn read(payload: &[u8], _: &mut Notes<'_>) -> Option<Reading> {
    let [first, stratum, poll, precision, ..] = *payload else {
        return None;
    };
    let (version, mode) = (first >> 3 & 7, first & 7);
    let length = [HEADER, HEADER + 20, HEADER + 24].contains(&payload.len());
    // Precision is a power of two below a second, or left out.
    let plausible = (1..=4).contains(&version)
        && (1..=5).contains(&mode)
        && stratum <= 16
        && poll <= 17
        && (precision == 0 || precision >= 0xdc);
    (length && plausible).then_some(Reading::clear("ntp"))
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    #[test]
    fn a_client_request_is_known_and_clean() {
        let mut packet = [0; 48];
        packet[0] = 0x23;
        assert_eq!(found(read, &packet), Some(vec![]));
        packet[3] = 0x50;
        assert_eq!(found(read, &packet), None);
        assert_eq!(found(read, &packet[..47]), None);
    }
}
