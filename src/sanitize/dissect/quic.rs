//! QUIC Initial packets, versions 1 (RFC 9000, RFC 9001) and 2 (RFC 9369): decrypted with the key that stands in them,
//! for the server name in the client hello. The tag of the cipher proves that it is one.

use super::bytes::Bytes;
use super::{Notes, Reading, tls};
use crate::sanitize::class::{Certainty, Class};
use crate::sanitize::finding::{Finding, Leak};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey, quic};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use std::ops::Range;

const SERVER_NAME: Leak = Leak::new("quic.server-name", Class::DestMeta, "server name");

pub(super) const LEAKS: &[Leak] = &[SERVER_NAME];

/// What differs between versions (RFC 9001, section 5.2; RFC 9369, section 3.3).
struct Version {
    number: u32,
    initial: u8,
    salt: [u8; 20],
    key: &'static [u8],
    iv: &'static [u8],
    hp: &'static [u8],
}

static VERSIONS: [Version; 2] = [
    Version {
        number: 1,
        initial: 0,
        salt: [
            0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8,
            0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a,
        ],
        key: b"tls13 quic key",
        iv: b"tls13 quic iv",
        hp: b"tls13 quic hp",
    },
    Version {
        number: 0x6b33_43cf,
        initial: 1,
        salt: [
            0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26,
            0x9d, 0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
        ],
        key: b"tls13 quicv2 key",
        iv: b"tls13 quicv2 iv",
        hp: b"tls13 quicv2 hp",
    },
];

/// Longest datagram that is decrypted, and most of a client hello that is put together.
const LONGEST: usize = 2048;
const TAG: usize = 16;

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let mut bytes = Bytes::new(payload);
    let first = bytes.u8().filter(|first| first & 0xc0 == 0xc0)?;
    let number = bytes.u32()?;
    let version = VERSIONS.iter().find(|version| version.number == number)?;
    let destination = connection_id(&mut bytes)?;
    connection_id(&mut bytes)?;
    if first >> 4 & 3 != version.initial {
        // Handshake and 0-RTT packets: the header ends here, the rest is encrypted.
        return (bytes.len() > TAG).then_some(Reading::sealed("quic"));
    }
    let token = variable(&mut bytes)?;
    bytes.skip(usize::try_from(token).ok()?)?;
    let length = usize::try_from(variable(&mut bytes)?).ok()?;
    let start = bytes.position();
    let packet = 0..start
        .checked_add(length)
        .filter(|end| *end <= payload.len())?;
    let mut plain = [0; LONGEST];
    let Some(frames) = decrypt(
        version,
        bytes.slice(&destination),
        payload,
        (start, packet.end),
        &mut plain,
    ) else {
        // A server's Initial, or a client's second with a connection id chosen by the server.
        return Some(Reading::sealed("quic"));
    };
    let mut hello = [0; LONGEST];
    if let Some(length) = assemble(frames, &mut hello) {
        let hello = hello.get(..length).unwrap_or_default();
        tell(hello, packet, notes);
    }
    Some(Reading::sealed("quic"))
}

fn connection_id(bytes: &mut Bytes<'_>) -> Option<Range<usize>> {
    let length = bytes.u8().filter(|length| *length <= 20)?;
    bytes.span(usize::from(length))
}

/// A variable-length integer (RFC 9000, section 16).
fn variable(bytes: &mut Bytes<'_>) -> Option<u64> {
    let first = bytes.u8()?;
    let mut value = u64::from(first & 0x3f);
    for _ in 1..1 << (first >> 6) {
        value = value << 8 | u64::from(bytes.u8()?);
    }
    Some(value)
}

/// Removes header protection and decrypts (RFC 9001, section 5); the frames are left in `plain`.
fn decrypt<'a>(
    version: &Version,
    destination: &[u8],
    payload: &[u8],
    (start, end): (usize, usize),
    plain: &'a mut [u8; LONGEST],
) -> Option<&'a [u8]> {
    let secret = Salt::new(HKDF_SHA256, &version.salt).extract(destination);
    let secret = Prk::new_less_safe(HKDF_SHA256, &expand::<32>(&secret, b"tls13 client in")?);
    let protection =
        quic::HeaderProtectionKey::new(&quic::AES_128, &expand::<16>(&secret, version.hp)?).ok()?;
    let sample = payload.get(start.checked_add(4)?..)?.get(..16)?;
    let [first_mask, number_mask @ ..] = protection.new_mask(sample).ok()?;
    let packet = plain.get_mut(..end)?;
    packet.copy_from_slice(payload.get(..end)?);
    let first = packet.first_mut()?;
    *first ^= first_mask & 0x0f;
    let number_length = usize::from(*first & 3) + 1;
    let mut iv = expand::<12>(&secret, version.iv)?;
    let (header, sealed) = packet.split_at_mut_checked(start.checked_add(number_length)?)?;
    let number = header.get_mut(start..)?;
    for (byte, mask) in number.iter_mut().zip(number_mask) {
        *byte ^= mask;
    }
    for (iv, byte) in iv.iter_mut().rev().zip(number.iter().rev()) {
        *iv ^= byte;
    }
    let key = UnboundKey::new(&AES_128_GCM, &expand::<16>(&secret, version.key)?).ok()?;
    let nonce = Nonce::assume_unique_for_key(iv);
    let frames = LessSafeKey::new(key)
        .open_in_place(nonce, Aad::from(header), sealed)
        .ok()?;
    Some(frames)
}

/// Length of a key, for ring.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label (RFC 8446, section 7.1) without context.
fn expand<const N: usize>(secret: &Prk, label: &[u8]) -> Option<[u8; N]> {
    let length = u16::try_from(N).ok()?.to_be_bytes();
    let label_length = [u8::try_from(label.len()).ok()?];
    let mut key = [0; N];
    let info = [&length[..], &label_length, label, &[0]];
    secret.expand(&info, Length(N)).ok()?.fill(&mut key).ok()?;
    Some(key)
}

/// Puts the pieces of the client hello that this packet carries in their places; returns how far they reach.
fn assemble(frames: &[u8], hello: &mut [u8; LONGEST]) -> Option<usize> {
    let mut bytes = Bytes::new(frames);
    let mut reach = 0;
    while !bytes.is_empty() {
        match variable(&mut bytes)? {
            // Padding and ping.
            0 | 1 => {}
            kind @ (2 | 3) => acknowledgement(&mut bytes, kind == 3)?,
            6 => {
                let offset = usize::try_from(variable(&mut bytes)?).ok()?;
                let length = usize::try_from(variable(&mut bytes)?).ok()?;
                let span = bytes.span(length)?;
                let end = offset.checked_add(length)?;
                if let Some(place) = hello.get_mut(offset..end) {
                    place.copy_from_slice(bytes.slice(&span));
                    reach = reach.max(end);
                }
            }
            _ => break,
        }
    }
    (reach > 0).then_some(reach)
}

fn acknowledgement(bytes: &mut Bytes<'_>, counts: bool) -> Option<()> {
    variable(bytes)?;
    variable(bytes)?;
    let ranges = variable(bytes)?;
    variable(bytes)?;
    for _ in 0..ranges {
        variable(bytes)?;
        variable(bytes)?;
    }
    for _ in 0..if counts { 3 } else { 0 } {
        variable(bytes)?;
    }
    Some(())
}

/// Tells the server name. It lies encrypted in the packet, so its place is the packet.
fn tell(hello: &[u8], packet: Range<usize>, notes: &mut Notes<'_>) {
    let mut bytes = Bytes::new(hello);
    let (Some(1), Some(_)) = (bytes.u8(), bytes.u24()) else {
        return;
    };
    let mut names: Vec<Finding> = Vec::new();
    tls::client_hello(bytes, false, &mut Notes::new(hello, &mut names));
    for name in names {
        let value = hello.get(name.span).unwrap_or_default();
        notes.decoded(&SERVER_NAME, Certainty::Certain, packet.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    const DESTINATION: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

    fn secret(version: &Version) -> Prk {
        let secret = Salt::new(HKDF_SHA256, &version.salt).extract(&DESTINATION);
        Prk::new_less_safe(
            HKDF_SHA256,
            &expand::<32>(&secret, b"tls13 client in").unwrap(),
        )
    }

    /// Protects these frames as a client does.
    fn initial(version: &Version, frames: &[u8]) -> Vec<u8> {
        let mut header = vec![0xc3 | version.initial << 4];
        header.extend(version.number.to_be_bytes());
        header.push(8);
        header.extend(DESTINATION);
        header.extend([0, 0]);
        header.extend((0x4000 | (frames.len() + 4 + TAG) as u16).to_be_bytes());
        let start = header.len();
        header.extend([0, 0, 0, 2]);
        let secret = secret(version);
        let mut iv = expand::<12>(&secret, version.iv).unwrap();
        iv[11] ^= 2;
        let key =
            UnboundKey::new(&AES_128_GCM, &expand::<16>(&secret, version.key).unwrap()).unwrap();
        let mut sealed = frames.to_vec();
        LessSafeKey::new(key)
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(iv),
                Aad::from(&header),
                &mut sealed,
            )
            .unwrap();
        let mask = quic::HeaderProtectionKey::new(
            &quic::AES_128,
            &expand::<16>(&secret, version.hp).unwrap(),
        )
        .unwrap()
        .new_mask(&sealed[..16])
        .unwrap();
        header[0] ^= mask[0] & 0x0f;
        for (byte, mask) in header[start..].iter_mut().zip(&mask[1..]) {
            *byte ^= mask;
        }
        [header, sealed].concat()
    }

    /// A client hello in two pieces, the second first.
    fn frames() -> Vec<u8> {
        let mut hello = vec![1, 0, 0, 61, 3, 3];
        hello.extend([5; 32]);
        hello.extend([0, 0, 2, 0x13, 1, 1, 0, 0, 20, 0, 0, 0, 16, 0, 14, 0, 0, 11]);
        hello.extend(b"example.com");
        let (head, tail) = hello.split_at(40);
        let mut frames = vec![1, 6, 40, tail.len() as u8];
        frames.extend(tail);
        frames.extend([0, 0, 6, 0, 40]);
        frames.extend(head);
        frames.resize(1000, 0);
        frames
    }

    #[test]
    fn keys_are_those_of_rfc_9001_appendix_a_1() {
        let secret = secret(&VERSIONS[0]);
        let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
        assert_eq!(
            hex(&expand::<16>(&secret, b"tls13 quic key").unwrap()),
            "1f369613dd76d5467730efcbe3b1a22d"
        );
        assert_eq!(
            hex(&expand::<12>(&secret, b"tls13 quic iv").unwrap()),
            "fa044b2f42a3fd3b46fb255c"
        );
        assert_eq!(
            hex(&expand::<16>(&secret, b"tls13 quic hp").unwrap()),
            "9f50449e04a0e810283a1e9933adedd2"
        );
    }

    #[test]
    fn the_server_name_is_told_in_both_versions_however_the_hello_is_cut() {
        for version in &VERSIONS {
            let packet = initial(version, &frames());
            let told = found(read, &packet).unwrap();
            assert_eq!(told.len(), 1);
            assert_eq!(told[0].sample, "e…om");
            assert_eq!(told[0].class, Class::DestMeta);
        }
    }

    #[test]
    fn a_broken_tag_tells_nothing() {
        let mut packet = initial(&VERSIONS[0], &frames());
        packet[600] ^= 1;
        assert_eq!(found(read, &packet), Some(vec![]));
        packet[4] = 9;
        assert_eq!(found(read, &packet), None, "unknown version");
    }
}
