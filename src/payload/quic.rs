//! QUIC packets with a long header, versions 1 (RFC 9000, RFC 9001), with its last drafts, and 2 (RFC 9369). An Initial packet is decrypted with
//! the key that stands in it; the tag of the cipher proves that it is one.

use super::bytes::Bytes;
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey, quic};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

/// What differs between versions (RFC 9001, section 5.2; RFC 9369, section 3.3).
#[derive(Debug)]
struct Version {
    number: u32,
    initial: u8,
    salt: [u8; 20],
    key: &'static [u8],
    iv: &'static [u8],
    hp: &'static [u8],
}

const SALT_1: [u8; 20] = [
    0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad,
    0xcc, 0xbb, 0x7f, 0x0a,
];
/// Of drafts 29 to 32 and of drafts 23 to 28 (draft-ietf-quic-tls, section 5.2).
const SALT_29: [u8; 20] = [
    0xaf, 0xbf, 0xec, 0x28, 0x99, 0x93, 0xd2, 0x4c, 0x9e, 0x97, 0x86, 0xf1, 0x9c, 0x61, 0x11, 0xe0,
    0x43, 0x90, 0xa8, 0x99,
];
const SALT_23: [u8; 20] = [
    0xc3, 0xee, 0xf7, 0x12, 0xc7, 0x2e, 0xbb, 0x5a, 0x11, 0xa7, 0xd2, 0x43, 0x2b, 0xb4, 0x63, 0x65,
    0xbe, 0xf9, 0xf5, 0x02,
];

static VERSIONS: [Version; 10] = [
    Version::one(1, SALT_1),
    Version::one(0xff00_001b, SALT_23),
    Version::one(0xff00_001c, SALT_23),
    Version::one(0xff00_001d, SALT_29),
    Version::one(0xff00_001e, SALT_29),
    Version::one(0xff00_001f, SALT_29),
    Version::one(0xff00_0020, SALT_29),
    Version::one(0xff00_0021, SALT_1),
    Version::one(0xff00_0022, SALT_1),
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

impl Version {
    /// Version 1, or a draft of it.
    const fn one(number: u32, salt: [u8; 20]) -> Self {
        Self {
            number,
            initial: 0,
            salt,
            key: b"tls13 quic key",
            iv: b"tls13 quic iv",
            hp: b"tls13 quic hp",
        }
    }
}

/// Longest packet that is decrypted.
pub(crate) const LONGEST: usize = 2048;
/// Bytes of the cipher's tag.
const TAG: usize = 16;

/// A packet of a known version at the front of a datagram; others may follow it.
#[derive(Debug)]
pub(crate) struct Packet<'a> {
    version: &'static Version,
    /// It is the first of a connection, or one that repeats or continues it.
    pub(crate) initial: bool,
    destination: &'a [u8],
    /// From its first byte to its last.
    pub(crate) bytes: &'a [u8],
    /// Where its number begins.
    number: usize,
}

impl<'a> Packet<'a> {
    /// Reads the header (RFC 9000, section 17.2). `None` if there is none of a known version.
    pub(crate) fn first(datagram: &'a [u8]) -> Option<Self> {
        let mut bytes = Bytes::new(datagram);
        let first = bytes.u8().filter(|first| first & 0xc0 == 0xc0)?;
        let number = bytes.u32()?;
        let version = VERSIONS.iter().find(|version| version.number == number)?;
        let destination = connection_id(&mut bytes)?;
        connection_id(&mut bytes)?;
        // Counted from the Initial: 0-RTT, Handshake, Retry.
        let kind = (first >> 4 & 3).wrapping_sub(version.initial) & 3;
        if kind == 0 {
            let token = variable(&mut bytes)?;
            bytes.skip(usize::try_from(token).ok()?)?;
        }
        let length = match kind {
            // A Retry says no length: it is all there is.
            3 => bytes.len(),
            _ => usize::try_from(variable(&mut bytes)?).ok()?,
        };
        let number = bytes.position();
        bytes.skip(length)?;
        (length > TAG).then_some(())?;
        Some(Self {
            version,
            initial: kind == 0,
            destination,
            bytes: datagram.get(..bytes.position())?,
            number,
        })
    }

    /// Removes header protection and decrypts a client's packet (RFC 9001, section 5) with the key that its own header
    /// gives. `None` if that does not fit: a server's, or a client's after the server chose another connection id.
    pub(crate) fn open<'p>(&self, plain: &'p mut [u8; LONGEST]) -> Option<&'p [u8]> {
        let version = self.version;
        let secret = client_secret(version, self.destination)?;
        let protection =
            quic::HeaderProtectionKey::new(&quic::AES_128, &expand::<16>(&secret, version.hp)?)
                .ok()?;
        let sample = self.bytes.get(self.number.checked_add(4)?..)?.get(..16)?;
        let [first_mask, number_mask @ ..] = protection.new_mask(sample).ok()?;
        let packet = plain.get_mut(..self.bytes.len())?;
        packet.copy_from_slice(self.bytes);
        let first = packet.first_mut()?;
        *first ^= first_mask & 0x0f;
        let number_length = usize::from(*first & 3) + 1;
        let mut iv = expand::<12>(&secret, version.iv)?;
        let (header, sealed) =
            packet.split_at_mut_checked(self.number.checked_add(number_length)?)?;
        let number = header.get_mut(self.number..)?;
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
}

/// The pieces of the handshake that the frames of an Initial packet carry, each with its offset (RFC 9000, section 19.6).
/// Ends at the first frame that has no place there.
pub(crate) fn crypto(frames: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut bytes = Bytes::new(frames);
    std::iter::from_fn(move || {
        loop {
            match variable(&mut bytes)? {
                // Padding and ping.
                0 | 1 => {}
                kind @ (2 | 3) => acknowledgement(&mut bytes, kind == 3)?,
                6 => {
                    let offset = variable(&mut bytes)?;
                    let length = usize::try_from(variable(&mut bytes)?).ok()?;
                    let span = bytes.span(length)?;
                    return Some((offset, bytes.slice(&span)));
                }
                _ => return None,
            }
        }
    })
}

fn connection_id<'a>(bytes: &mut Bytes<'a>) -> Option<&'a [u8]> {
    let length = bytes.u8().filter(|length| *length <= 20)?;
    let span = bytes.span(usize::from(length))?;
    Some(bytes.slice(&span))
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

/// Length of a key, for ring.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn client_secret(version: &Version, destination: &[u8]) -> Option<Prk> {
    let secret = Salt::new(HKDF_SHA256, &version.salt).extract(destination);
    let secret = expand::<32>(&secret, b"tls13 client in")?;
    Some(Prk::new_less_safe(HKDF_SHA256, &secret))
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

/// Initial packets for tests.
#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    pub(crate) const VERSION_COUNT: usize = VERSIONS.len();
    const DESTINATION: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

    /// Protects these frames as a client does, in one of the versions.
    pub(crate) fn initial(version: usize, frames: &[u8]) -> Vec<u8> {
        let version = &VERSIONS[version];
        let mut header = vec![0xc3 | version.initial << 4];
        header.extend(version.number.to_be_bytes());
        header.push(8);
        header.extend(DESTINATION);
        header.extend([0, 0]);
        header.extend((0x4000 | (frames.len() + 4 + TAG) as u16).to_be_bytes());
        let start = header.len();
        header.extend([0, 0, 0, 2]);
        let secret = client_secret(version, &DESTINATION).unwrap();
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

    /// Frames that carry these pieces, each with its offset, padded to `length` bytes.
    pub(crate) fn frames(pieces: &[(usize, &[u8])], length: usize) -> Vec<u8> {
        let mut frames = vec![1];
        for (offset, piece) in pieces {
            frames.push(6);
            frames.extend((0x4000 | *offset as u16).to_be_bytes());
            frames.extend((0x4000 | piece.len() as u16).to_be_bytes());
            frames.extend(*piece);
        }
        frames.resize(length.max(frames.len()), 0);
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{VERSION_COUNT, frames, initial};
    use super::*;

    #[test]
    fn keys_are_those_of_rfc_9001_appendix_a_1() {
        let destination = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];
        let secret = client_secret(&VERSIONS[0], &destination).unwrap();
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
    fn what_a_client_sealed_is_opened_in_both_versions_and_ends_where_it_says() {
        for version in 0..VERSION_COUNT {
            let mut datagram = initial(version, &frames(&[(40, b"tail"), (0, b"head")], 200));
            let length = datagram.len();
            datagram.extend([0; 30]);
            let packet = Packet::first(&datagram).unwrap();
            assert!(packet.initial);
            assert_eq!(packet.bytes.len(), length);
            let mut plain = [0; LONGEST];
            let pieces: Vec<_> = crypto(packet.open(&mut plain).unwrap()).collect();
            assert_eq!(pieces, [(40, &b"tail"[..]), (0, b"head")]);
        }
    }

    #[test]
    fn a_changed_byte_or_an_unknown_version_opens_nothing() {
        let mut datagram = initial(0, &frames(&[(0, b"head")], 200));
        datagram[100] ^= 1;
        let packet = Packet::first(&datagram).unwrap();
        assert!(packet.open(&mut [0; LONGEST]).is_none());
        datagram[4] = 9;
        assert!(Packet::first(&datagram).is_none());
    }
}
