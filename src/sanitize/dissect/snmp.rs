//! SNMP (RFC 1157, RFC 3416; version 3: RFC 3412, RFC 3414): the community, a user's name, the system's name.

use super::ber::{self, INTEGER, OCTETS, OID, SEQUENCE};
use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const COMMUNITY: Leak = Leak::new("snmp.community", Class::Credential, "community");
const USER: Leak = Leak::new("snmp.user", Class::PersonId, "user name");
const SYSTEM: Leak = Leak::new(
    "snmp.system-name",
    Class::HostName,
    "sysName, sysContact or sysLocation",
);

pub(super) const LEAKS: &[Leak] = &[COMMUNITY, USER, SYSTEM];

pub(super) const SHAPE: Shape = Shape::first(Set::of(&[SEQUENCE]));

/// sysContact, sysName and sysLocation: 1.3.6.1.2.1.1 and 4, 5 or 6.
const SYSTEM_GROUP: [u8; 7] = [0x2b, 6, 1, 2, 1, 1, 4];

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    let mut message = ber::expect(&mut bytes, SEQUENCE)?;
    if !bytes.is_empty() {
        return None;
    }
    match ber::expect(&mut message, INTEGER)?.rest() {
        [0 | 1] => community_based(message, notes)?,
        [3] => user_based(message, notes)?,
        _ => return None,
    }
    Some(Reading::clear("snmp"))
}

fn community_based(mut message: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    let mut community = ber::expect(&mut message, OCTETS)?;
    let (kind, data) = ber::element(&mut message)?;
    if !(0xa0..=0xa8).contains(&kind) || !message.is_empty() {
        return None;
    }
    notes.certain(&COMMUNITY, community.remainder());
    variables(data, notes);
    Some(())
}

/// Values of the system group, in answers and notifications.
fn variables(mut data: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    for _ in 0..3 {
        ber::expect(&mut data, INTEGER)?;
    }
    let mut list = ber::expect(&mut data, SEQUENCE)?;
    while let Some(mut pair) = ber::expect(&mut list, SEQUENCE) {
        let name = ber::expect(&mut pair, OID)?;
        let (kind, mut value) = ber::element(&mut pair)?;
        if let [group @ .., 4..=6, _] = name.rest()
            && SYSTEM_GROUP.starts_with(group)
            && group.len() == 6
            && kind == OCTETS
        {
            notes.certain(&SYSTEM, value.remainder());
        }
    }
    Some(())
}

fn user_based(mut message: Bytes<'_>, notes: &mut Notes<'_>) -> Option<()> {
    ber::expect(&mut message, SEQUENCE)?;
    let mut security = ber::expect(&mut message, OCTETS)?;
    let mut parameters = ber::expect(&mut security, SEQUENCE)?;
    ber::expect(&mut parameters, OCTETS)?;
    ber::expect(&mut parameters, INTEGER)?;
    ber::expect(&mut parameters, INTEGER)?;
    let mut user = ber::expect(&mut parameters, OCTETS)?;
    notes.certain(&USER, user.remainder());
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    const GET: &[u8] = b"\x30\x26\x02\x01\x01\x04\x06public\xa0\x19\x02\x01\x01\x02\x01\x00\x02\x01\x00\x30\x0e\x30\x0c\x06\x08\x2b\x06\x01\x02\x01\x01\x01\x00\x05\x00";

    #[test]
    fn the_community_is_a_credential() {
        let told = found(read, GET).unwrap();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].class, Class::Credential);
        assert_eq!(&GET[told[0].span.clone()], b"public");
    }

    #[test]
    fn every_cut_and_addition_is_no_snmp() {
        for length in 0..GET.len() {
            assert_eq!(found(read, &GET[..length]), None);
        }
        assert_eq!(found(read, &[GET, &[0]].concat()), None);
    }

    #[test]
    fn the_system_name_of_an_answer_is_a_host_name() {
        let answer = b"\x30\x2b\x02\x01\x01\x04\x06public\xa2\x1e\x02\x01\x01\x02\x01\x00\x02\x01\x00\x30\x13\x30\x11\x06\x08\x2b\x06\x01\x02\x01\x01\x05\x00\x04\x05nas-1";
        assert_eq!(found(read, answer).unwrap()[1].leak, "snmp.system-name");
    }
}
