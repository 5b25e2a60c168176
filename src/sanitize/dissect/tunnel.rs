//! Tunnels, recognised so that they pass untouched: WireGuard, Tailscale's path discovery, IKE and ESP over UDP
//! (RFC 3948, RFC 7296), OpenVPN's opening packet.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::{Notes, Reading};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const NODE: Leak = Leak::new(
    "tailscale.node",
    Class::SessionId,
    "discovery key of the node",
);

pub(super) const LEAKS: &[Leak] = &[NODE];

pub(super) const WIREGUARD: Shape = Shape::first(Set::range(1, 4));
pub(super) const TAILSCALE: Shape = Shape::first(Set::of(b"T"));
/// It begins with a random number.
pub(super) const IKE: Shape = Shape::ANY;
pub(super) const OPENVPN: Shape = Shape::first(Set::of(&[0x38, 0x50]));

/// `TS`, a speech bubble.
const DISCO: &[u8] = b"TS\xf0\x9f\x92\xac";

/// Type, three zero bytes, and a length fixed by the type (WireGuard paper, section 5.4).
pub(super) fn wireguard(payload: &[u8], _: &mut Notes<'_>) -> Option<Reading> {
    let [kind, 0, 0, 0, ..] = *payload else {
        return None;
    };
    let fits = match kind {
        1 => payload.len() == 148,
        2 => payload.len() == 92,
        3 => payload.len() == 64,
        4 => payload.len() >= 32 && payload.len().is_multiple_of(16),
        _ => false,
    };
    fits.then_some(Reading::sealed("wireguard"))
}

/// Magic, the sender's key, a nonce, a sealed box.
pub(super) fn tailscale(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    bytes.tag(DISCO)?;
    let key = bytes.span(32)?;
    bytes.skip(24 + 16)?;
    notes.certain(&NODE, key);
    Some(Reading::clear("tailscale"))
}

/// A header of 28 bytes that gives the length, maybe behind four zero bytes.
pub(super) fn ike(payload: &[u8], _: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    if payload.starts_with(&[0; 4]) {
        bytes.skip(4)?;
    }
    let start = bytes.len();
    let [initiator, _] = [bytes.array::<8>()?, bytes.array::<8>()?];
    bytes.skip(1)?;
    let version = bytes.u8()?;
    let exchange = bytes.u8()?;
    bytes.skip(1 + 4)?;
    let known = match version {
        0x20 => (34..=43).contains(&exchange),
        0x10 => matches!(exchange, 2 | 4 | 5 | 6 | 32 | 33),
        _ => false,
    };
    let exact = bytes.u32()? as usize == start;
    (known && exact && initiator != [0; 8]).then_some(Reading::clear("ike"))
}

/// A hard reset by the client: session id, maybe an authenticator of a usual length with packet number and time, no
/// acknowledgement, message 0.
pub(super) fn openvpn(payload: &[u8], _: &mut Notes<'_>) -> Option<Reading> {
    const AUTHENTICATORS: [usize; 5] = [16, 20, 32, 48, 64];
    let [0x38 | 0x50, ..] = payload else {
        return None;
    };
    let [.., 0, 0, 0, 0, 0] = payload else {
        return None;
    };
    let plain = 1 + 8 + 1 + 4;
    let authenticated = payload.len().checked_sub(plain + 8);
    let fits = payload.len() == plain
        || authenticated.is_some_and(|length| AUTHENTICATORS.contains(&length));
    fits.then_some(Reading::clear("openvpn"))
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    #[test]
    fn wireguard_is_known_by_type_and_length() {
        let packet = |kind: u8, length: usize| {
            let mut bytes = vec![9; length];
            bytes[..4].copy_from_slice(&[kind, 0, 0, 0]);
            bytes
        };
        for (kind, length) in [(1, 148), (2, 92), (3, 64), (4, 32), (4, 1232)] {
            assert_eq!(
                found(wireguard, &packet(kind, length)),
                Some(vec![]),
                "{kind}"
            );
        }
        for (kind, length) in [(1, 147), (4, 33), (5, 64)] {
            assert_eq!(found(wireguard, &packet(kind, length)), None, "{kind}");
        }
    }

    #[test]
    fn the_discovery_key_is_a_session() {
        let bytes = [DISCO, &[7; 32], &[8; 40]].concat();
        assert_eq!(found(tailscale, &bytes).unwrap()[0].span, 6..38);
    }

    #[test]
    fn key_exchange_and_openvpn_are_known() {
        let mut ike = vec![1; 8];
        ike.extend([0; 8]);
        ike.extend([33, 0x20, 34, 8, 0, 0, 0, 0, 0, 0, 0, 32, 9, 9, 9, 9]);
        assert_eq!(found(super::ike, &ike), Some(vec![]));
        ike.push(0);
        assert_eq!(found(super::ike, &ike), None);
        let mut reset = vec![0x38];
        reset.extend([7; 8]);
        reset.extend([0; 5]);
        assert_eq!(found(openvpn, &reset), Some(vec![]));
    }
}
