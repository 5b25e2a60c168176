//! What the observer outside saw, judged apart from the gate: by addresses and bytes alone.

use super::cast::{ROOM, Role, SERVERS, Server, USER};
use crate::kernel::namespace::lab::Capture;
use crate::packet::{Checksum, Parsed, protocol};
use std::net::IpAddr;

/// What reached one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reached {
    /// Packets.
    pub(super) packets: u64,
    /// Those of them with the user's number or the room's id in any readable form.
    pub(super) identifying: u64,
}

/// What reached all of them, in the order of the cast.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    pub(super) servers: Vec<(Server, Reached)>,
    /// Packets to addresses that nobody of the cast has.
    pub(super) strangers: u64,
    /// Packets that passed unseen: then nothing is proved.
    pub(super) missed: u64,
}

impl Proof {
    /// Reads a capture taken where the servers are.
    pub(super) fn of(capture: &Capture) -> Self {
        let mut servers: Vec<(Server, Reached)> = SERVERS
            .iter()
            .map(|server| (*server, Reached::default()))
            .collect();
        let (needles, mut strangers) = (needles(), 0);
        for frame in capture.kept.iter().filter(|frame| !frame.outgoing) {
            let Ok(parsed) = Parsed::read(&frame.bytes, Checksum::Trust) else {
                continue;
            };
            if is_discovery(&parsed, &frame.bytes) {
                continue;
            }
            let identifying = needles.iter().any(|needle| contains(&frame.bytes, needle));
            let to = servers
                .iter_mut()
                .find(|(server, _)| server.address.parse() == Ok::<IpAddr, _>(parsed.dst));
            match to {
                Some((_, reached)) => {
                    reached.packets += 1;
                    reached.identifying += u64::from(identifying);
                }
                None if is_neighbourly(parsed.dst) => {}
                None => strangers += 1,
            }
        }
        Self {
            servers,
            strangers,
            missed: capture.missed,
        }
    }

    /// Packets that reached servers nothing may reach.
    pub(super) fn forbidden(&self) -> u64 {
        self.servers
            .iter()
            .filter(|(server, _)| server.forbidden)
            .map(|(_, reached)| reached.packets)
            .sum()
    }

    /// Packets that reached servers of one role.
    pub(super) fn reached(&self, role: Role) -> u64 {
        self.servers
            .iter()
            .filter(|(server, _)| server.role == role)
            .map(|(_, reached)| reached.packets)
            .sum()
    }

    /// Packets that told who talks, to whomever.
    pub(super) fn identifying(&self) -> u64 {
        self.servers
            .iter()
            .map(|(_, reached)| reached.identifying)
            .sum()
    }

    /// Nothing that must not leave has left, and nothing passed unseen.
    pub(super) fn is_clean(&self) -> bool {
        self.forbidden() == 0 && self.identifying() == 0 && self.strangers == 0 && self.missed == 0
    }
}

/// The identifiers as somebody on the way would look for them.
fn needles() -> Vec<Vec<u8>> {
    let number = USER.to_string().into_bytes();
    let hex = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
            .into_bytes()
    };
    vec![
        hex(&number),
        hex(ROOM.as_bytes()),
        number,
        ROOM.as_bytes().to_vec(),
        USER.to_le_bytes().to_vec(),
        USER.to_be_bytes().to_vec(),
    ]
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

/// Neighbour discovery: it asks and tells hardware addresses, whoever's address it is about, and never leaves its link
/// (RFC 4861, section 4: with any other hop limit it is not taken).
fn is_discovery(parsed: &Parsed, bytes: &[u8]) -> bool {
    let kind = parsed.payload(bytes).first();
    parsed.protocol == protocol::ICMPV6
        && parsed.hop_limit == 255
        && kind.is_some_and(|kind| (133..=137).contains(kind))
}

/// What routers say to each other on a link.
fn is_neighbourly(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            address.is_multicast() || address.octets().starts_with(&[203, 0, 113])
        }
        IpAddr::V6(address) => {
            address.is_multicast()
                || address.is_unicast_link_local()
                || address.segments()[0] == 0xfd77
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::namespace::lab::Frame;
    use crate::packet::build;

    fn frame(to: &str, payload: &[u8]) -> Frame {
        let mut buffer = vec![0; build::HEADROOM];
        buffer.extend_from_slice(payload);
        let from = "203.0.113.1:9".parse().unwrap();
        let (start, _) =
            build::udp_in_place(&mut buffer, build::HEADROOM, from, to.parse().unwrap(), 0);
        Frame {
            outgoing: false,
            ethertype: 0x0800,
            bytes: buffer[start..].to_vec(),
        }
    }

    #[test]
    fn the_proof_fails_on_a_forbidden_packet_a_number_a_stranger_and_a_missed_packet() {
        let clean = Capture {
            seen: 1,
            missed: 0,
            kept: vec![frame("88.198.55.11:4000", b"hello")],
        };
        assert!(Proof::of(&clean).is_clean());
        let spoil = |frame: Frame| {
            Proof::of(&Capture {
                kept: vec![frame],
                ..clean.clone()
            })
        };
        assert_eq!(spoil(frame("114.114.114.114:8000", b"x")).forbidden(), 1);
        assert_eq!(
            spoil(frame("88.198.55.11:4000", b"uid=512345687")).identifying(),
            1
        );
        assert_eq!(
            spoil(frame("88.198.55.11:4000", &USER.to_le_bytes())).identifying(),
            1
        );
        assert_eq!(spoil(frame("8.8.8.8:1", b"x")).strangers, 1);
        assert!(
            !Proof::of(&Capture {
                missed: 1,
                ..clean.clone()
            })
            .is_clean()
        );
    }
}
