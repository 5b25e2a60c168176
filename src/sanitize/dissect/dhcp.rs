//! DHCP (RFC 2131, RFC 2132) and DHCPv6 (RFC 8415): the hardware address, the device's name and its identifiers.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading};
use crate::sanitize::class::Class;
use crate::sanitize::finding::{Codec, Leak};

const HARDWARE: Leak = Leak::new("dhcp.hardware-address", Class::DeviceId, "hardware address");
const CLIENT_ID: Leak =
    Leak::new("dhcp.client-id", Class::DeviceId, "client identifier").with(Codec::DhcpPadding);
const HOST_NAME: Leak =
    Leak::new("dhcp.host-name", Class::HostName, "host name").with(Codec::DhcpPadding);
const VENDOR: Leak =
    Leak::new("dhcp.vendor-class", Class::Software, "vendor class").with(Codec::DhcpPadding);

pub(super) const LEAKS: &[Leak] = &[HARDWARE, CLIENT_ID, HOST_NAME, VENDOR];

pub(super) const SHAPE: Shape = Shape::first(Set::of(&[1, 2]));
/// A message type, and an option below 256.
pub(super) const SHAPE_V6: Shape = Shape::first(Set::range(1, 11)).fifth(Set::of(&[0]));

const MAGIC: [u8; 4] = [0x63, 0x82, 0x53, 0x63];

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    let [1..=2, _, hardware_length @ 0..=16, _] = bytes.array::<4>()? else {
        return None;
    };
    bytes.skip(24)?;
    let mut hardware = bytes.sub(16)?;
    bytes.skip(64 + 128)?;
    bytes.tag(&MAGIC)?;
    let address = hardware.span(usize::from(hardware_length))?;
    if bytes.slice(&address).iter().any(|byte| *byte != 0) {
        notes.certain(&HARDWARE, address);
    }
    loop {
        match bytes.u8() {
            Some(0) => {}
            // The end; what follows is padding.
            Some(255) | None => return Some(Reading::clear("dhcp")),
            Some(option) => {
                let length = bytes.u8()?;
                let mut value = bytes.sub(usize::from(length))?;
                match option {
                    12 => notes.certain(&HOST_NAME, value.remainder()),
                    60 => notes.certain(&VENDOR, value.remainder()),
                    61 => notes.certain(&CLIENT_ID, value.remainder()),
                    81 => {
                        // Flags and two result codes precede the name (RFC 4702).
                        value.skip(3);
                        notes.certain(&HOST_NAME, value.remainder());
                    }
                    _ => {}
                }
            }
        }
    }
}

pub(super) fn read_v6(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    bytes.u8().filter(|kind| (1..=11).contains(kind))?;
    bytes.skip(3)?;
    let mut proved = false;
    while !bytes.is_empty() {
        let option = bytes.u16().filter(|option| (1..=200).contains(option))?;
        let length = bytes.u16()?;
        let mut value = bytes.sub(usize::from(length))?;
        match option {
            1 => {
                // Types of DUID (RFC 8415, section 11).
                proved |= matches!(value.rest(), [0, 1..=4, _, ..]);
                notes.certain(&CLIENT_ID, value.remainder());
            }
            16 => {
                value.skip(4);
                notes.certain(&VENDOR, value.remainder());
            }
            39 => {
                value.skip(1);
                notes.certain(&HOST_NAME, value.remainder());
            }
            _ => {}
        }
    }
    proved.then_some(Reading::clear("dhcpv6"))
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    fn request(options: &[u8]) -> Vec<u8> {
        let mut bytes = vec![1, 1, 6, 0];
        bytes.resize(28, 0);
        bytes.extend([0x3c, 0x22, 0xfb, 0, 0, 1]);
        bytes.resize(236, 0);
        bytes.extend(MAGIC);
        bytes.extend(options);
        bytes
    }

    #[test]
    fn names_and_addresses_of_the_device_are_told() {
        let told = found(
            read,
            &request(b"\x35\x01\x01\x0c\x05phone\x51\x05\0\0\0ph\xff\0\0"),
        )
        .unwrap();
        let leaks: Vec<_> = told.iter().map(|f| f.leak).collect();
        assert_eq!(
            leaks,
            ["dhcp.hardware-address", "dhcp.host-name", "dhcp.host-name"]
        );
        assert_eq!(told[0].span, 28..34);
    }

    #[test]
    fn an_option_past_the_end_is_no_dhcp() {
        assert_eq!(found(read, &request(b"\x0c\x50phone")), None);
        assert_eq!(found(read, &request(b"")[..235]), None);
    }

    #[test]
    fn a_dhcpv6_client_identifier_is_told() {
        let solicit = [
            &[1, 7, 7, 7, 0, 1, 0, 10, 0, 3, 0, 1][..],
            &[0x3c, 0x22, 0xfb, 0, 0, 1],
            &[0, 8, 0, 2, 0, 0],
        ]
        .concat();
        let told = found(read_v6, &solicit).unwrap();
        assert_eq!(told[0].leak, "dhcp.client-id");
        assert_eq!(found(read_v6, &solicit[..20]), None);
    }
}
