//! OICQ, the protocol of QQ over UDP: 0x02, version (2 bytes), command (2), sequence (2), account number (4,
//! big-endian), data, 0x03. There is no published specification; the layout and the commands are those on which the
//! free clients and analysers of it agree. The account number stands in the clear in every datagram.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading};
use crate::sanitize::class::{Certainty, Class};
use crate::sanitize::finding::Leak;

const ACCOUNT: Leak = Leak::new("oicq.account", Class::PersonId, "account number");

pub(super) const LEAKS: &[Leak] = &[ACCOUNT];

pub(super) const SHAPE: Shape = Shape::first(Set::of(&[START]));

const START: u8 = 0x02;
const END: u8 = 0x03;
/// Account numbers begin at 10000.
const LOWEST_ACCOUNT: u32 = 10_000;

/// Commands of the 2003 to 2012 generations, ascending.
const COMMANDS: [u16; 50] = [
    0x0001, 0x0002, 0x0004, 0x0005, 0x0006, 0x0009, 0x000a, 0x000b, 0x000d, 0x0012, 0x0016, 0x0017,
    0x0018, 0x001a, 0x001c, 0x001d, 0x0021, 0x0022, 0x0026, 0x0027, 0x0029, 0x0030, 0x0031, 0x003c,
    0x003d, 0x003e, 0x0058, 0x005c, 0x0062, 0x0065, 0x0067, 0x0080, 0x0081, 0x0091, 0x00a7, 0x00a8,
    0x00ae, 0x00b5, 0x00ba, 0x00cd, 0x00ce, 0x00d1, 0x00dd, 0x00e0, 0x00e3, 0x00e5, 0x0825, 0x0828,
    0x0836, 0x0839,
];

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let (Some(&START), Some(&END)) = (payload.first(), payload.last()) else {
        return None;
    };
    let mut bytes = Bytes::new(payload);
    bytes.skip(3)?;
    let command = bytes.u16()?;
    COMMANDS.binary_search(&command).ok()?;
    bytes.skip(2)?;
    let span = bytes.span(4)?;
    let account = u32::from_be_bytes(*bytes.slice(&span).first_chunk()?);
    // Before the end mark; requests for a token carry the number 0.
    if bytes.is_empty() || (account != 0 && account < LOWEST_ACCOUNT) {
        return None;
    }
    if account != 0 {
        notes.decoded(
            &ACCOUNT,
            Certainty::Certain,
            span,
            account.to_string().as_bytes(),
        );
    }
    Some(Reading::clear("oicq"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sanitize::finding::Finding;

    fn packet(command: u16, account: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![START, 0x36, 0x49];
        bytes.extend(command.to_be_bytes());
        bytes.extend([0x12, 0x34]);
        bytes.extend(account.to_be_bytes());
        bytes.extend(data);
        bytes.push(END);
        bytes
    }

    fn found(payload: &[u8]) -> Option<Vec<Finding>> {
        let mut found = Vec::new();
        read(payload, &mut Notes::new(payload, &mut found)).map(|_| found)
    }

    #[test]
    fn the_account_number_is_told_and_masked_in_decimal() {
        let found = found(&packet(0x0022, 512_345_687, &[9; 30])).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].leak, "oicq.account");
        assert_eq!(found[0].class, Class::PersonId);
        assert_eq!(found[0].span, 7..11);
        assert_eq!(found[0].sample, "5…87");
    }

    #[test]
    fn frame_marks_alone_prove_nothing() {
        assert_eq!(
            found(&packet(0x7777, 512_345_687, &[9; 30])),
            None,
            "command"
        );
        assert_eq!(found(&packet(0x0022, 9_999, &[9; 30])), None, "account");
        let mut packet = packet(0x0022, 512_345_687, &[]);
        assert!(found(&packet).is_some());
        packet.pop();
        assert_eq!(found(&packet), None, "no end mark");
        assert_eq!(found(&[START, END]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn a_datagram_without_a_number_is_known_and_clean() {
        assert_eq!(found(&packet(0x0062, 0, &[1])), Some(Vec::new()));
    }

    #[test]
    fn commands_are_sorted_for_the_search() {
        assert!(COMMANDS.is_sorted());
    }
}
