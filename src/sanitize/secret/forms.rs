//! The family of byte patterns in which one declared value can travel.

use super::{Kind, Secret};
use crate::sanitize::class::Certainty;
use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};
use md5::{Digest, Md5};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use std::collections::BTreeMap;

/// A pattern below this length hits random bytes too often: at 1,200 bytes a 4-byte pattern about once in 3.6 million
/// packets, a 5-byte one once in 900 million. It counts only where the bytes around it do not look random.
const SOLID: usize = 6;
/// Shortest pattern that is searched at all.
pub(super) const SHORTEST: usize = 4;
/// A binary integer below this has too few bytes of its own to be searched alone.
const SMALLEST_INTEGER: u64 = 1 << 24;

/// One way in which a secret can appear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Form {
    /// Place of the secret among the declared ones.
    pub(super) secret: u16,
    /// Length of the pattern in bytes.
    pub(super) length: u16,
    /// The encoding, as reports say it: `base64`, `u32 little-endian`.
    pub(super) encoding: &'static str,
    /// How sure a hit is.
    pub(super) certainty: Certainty,
    /// Too short to count among random bytes.
    pub(super) fragile: bool,
}

/// All patterns of all secrets, each once: the first declared secret keeps a pattern that two share.
#[derive(Default)]
pub(super) struct Family {
    forms: BTreeMap<Vec<u8>, Form>,
    secret: u16,
}

/// What kind a value is, and whether it reads as the kind declared for it.
pub(super) fn settle(value: &str, kind: Kind) -> (Kind, bool) {
    match kind {
        Kind::Guess if mac(value).is_some() => (Kind::Mac, true),
        Kind::Guess if uuid(value).is_some() => (Kind::Uuid, true),
        Kind::Guess if value.starts_with('+') && digits(value).is_some() => (Kind::Phone, true),
        Kind::Guess if digits(value).is_some() => (Kind::Number, true),
        Kind::Guess | Kind::Text => (Kind::Text, true),
        Kind::Number | Kind::Phone => (kind, digits(value).is_some()),
        Kind::Mac => (kind, mac(value).is_some()),
        Kind::Uuid => (kind, uuid(value).is_some()),
    }
}

impl Family {
    /// Adds every form of a secret; `index` is its place among the declared ones.
    pub(super) fn add(&mut self, index: u16, secret: &Secret) {
        self.secret = index;
        for text in spellings(secret) {
            self.text(&text);
        }
        match secret.kind {
            Kind::Number | Kind::Phone => {
                if let Some(digits) = digits(&secret.value) {
                    self.number(&digits);
                }
            }
            Kind::Mac => {
                if let Some(mac) = mac(&secret.value) {
                    self.mac(mac);
                }
            }
            Kind::Uuid => {
                if let Some(uuid) = uuid(&secret.value) {
                    self.uuid(uuid);
                }
            }
            Kind::Guess | Kind::Text => {}
        }
        let lower = secret.value.to_lowercase();
        self.digests(secret.value.as_bytes());
        if lower != secret.value {
            self.digests(lower.as_bytes());
        }
    }

    /// Bytes of all patterns together.
    pub(super) fn size(&self) -> usize {
        self.forms.keys().map(Vec::len).sum()
    }

    /// The patterns and, in the same order, what each means.
    pub(super) fn into_parts(self) -> (Vec<Vec<u8>>, Vec<Form>) {
        self.forms.into_iter().unzip()
    }

    fn put(&mut self, pattern: Vec<u8>, encoding: &'static str, certainty: Certainty) {
        let Ok(length) = u16::try_from(pattern.len()) else {
            return;
        };
        let uniform = pattern.windows(2).all(|pair| pair.first() == pair.last());
        if pattern.len() < SHORTEST || uniform {
            return;
        }
        let fragile = pattern.len() < SOLID;
        let (secret, certainty) = (
            self.secret,
            if fragile {
                certainty.min(Certainty::Probable)
            } else {
                certainty
            },
        );
        self.forms.entry(pattern).or_insert(Form {
            secret,
            length,
            encoding,
            certainty,
            fragile,
        });
    }

    fn text(&mut self, text: &str) {
        use Certainty::Certain;
        let bytes = text.as_bytes();
        self.put(bytes.to_vec(), "plain", Certain);
        let once = percent(bytes, &HEXUPPER);
        self.put(percent(&once, &HEXUPPER), "URL-encoded twice", Certain);
        self.put(once, "URL-encoded", Certain);
        self.put(percent(bytes, &HEXLOWER), "URL-encoded", Certain);
        self.put(text.replace(' ', "+").into_bytes(), "URL-encoded", Certain);
        self.put(quoted_printable(bytes), "quoted-printable", Certain);
        let units = || text.encode_utf16();
        self.put(
            units().flat_map(u16::to_le_bytes).collect(),
            "UTF-16LE",
            Certain,
        );
        self.put(
            units().flat_map(u16::to_be_bytes).collect(),
            "UTF-16BE",
            Certain,
        );
        self.binary(bytes, "");
    }

    /// Hexadecimal and base64 of bytes. `of` is empty for the value itself.
    fn binary(&mut self, bytes: &[u8], of: &'static str) {
        use Certainty::Certain;
        let (hex, base64) = match of {
            "" => ("hex", "base64"),
            other => (other, other),
        };
        for alphabet in [&HEXLOWER, &HEXUPPER] {
            self.put(alphabet.encode(bytes).into_bytes(), hex, Certain);
            for separator in [":", "-"] {
                let pairs: Vec<String> =
                    bytes.iter().map(|byte| alphabet.encode(&[*byte])).collect();
                self.put(pairs.join(separator).into_bytes(), hex, Certain);
            }
        }
        for alphabet in [&BASE64, &BASE64URL] {
            for shift in 0..3 {
                self.put(aligned_base64(bytes, shift, alphabet), base64, Certain);
            }
        }
    }

    fn number(&mut self, digits: &str) {
        use Certainty::Certain;
        self.bcd(digits);
        let Ok(value) = digits.parse::<u64>() else {
            return;
        };
        if value < SMALLEST_INTEGER {
            return;
        }
        if let Ok(value) = u32::try_from(value) {
            self.put(value.to_be_bytes().to_vec(), "u32 big-endian", Certain);
            self.put(value.to_le_bytes().to_vec(), "u32 little-endian", Certain);
        } else {
            // The bytes that are not zero, for fields of 5 to 7 bytes; all eight, to be sure among random bytes.
            let zeros = value.leading_zeros() as usize / 8;
            let (be, le) = (value.to_be_bytes(), value.to_le_bytes());
            self.put(
                be.iter().skip(zeros).copied().collect(),
                "integer big-endian",
                Certain,
            );
            self.put(
                le.iter().take(8 - zeros).copied().collect(),
                "integer little-endian",
                Certain,
            );
        }
        self.put(value.to_be_bytes().to_vec(), "u64 big-endian", Certain);
        self.put(value.to_le_bytes().to_vec(), "u64 little-endian", Certain);
        self.put(varint(value), "varint", Certain);
    }

    /// Two digits a byte, high nibble first and low nibble first (IMSI and MSISDN, 3GPP TS 29.002), at both
    /// alignments; half bytes at the edges are left out.
    fn bcd(&mut self, digits: &str) {
        let values: Vec<u8> = digits
            .bytes()
            .map(|digit| digit.wrapping_sub(b'0'))
            .collect();
        for skip in 0..2 {
            let (pairs, _) = values.get(skip..).unwrap_or_default().as_chunks::<2>();
            let high = pairs.iter().map(|[a, b]| a << 4 | b).collect();
            let low = pairs.iter().map(|[a, b]| b << 4 | a).collect();
            self.put(high, "BCD", Certainty::Certain);
            self.put(low, "swapped BCD", Certainty::Certain);
        }
    }

    fn mac(&mut self, mac: [u8; 6]) {
        use Certainty::Certain;
        let [a, b, c, d, e, f] = mac;
        self.put(mac.to_vec(), "raw bytes", Certain);
        self.put(vec![f, e, d, c, b, a], "raw bytes reversed", Certain);
        // Modified EUI-64 as in IPv6 addresses (RFC 4291, appendix A), and the plain expansion.
        self.put(vec![a ^ 2, b, c, 0xff, 0xfe, d, e, f], "EUI-64", Certain);
        self.put(vec![a, b, c, 0xff, 0xfe, d, e, f], "EUI-64", Certain);
        self.binary(&mac, "raw bytes in text");
        self.put(
            format!("{:x}{b:02x}:{c:02x}ff:fe{d:02x}:{e:02x}{f:02x}", a ^ 2).into_bytes(),
            "IPv6 interface id",
            Certain,
        );
        for alphabet in [&HEXLOWER, &HEXUPPER] {
            let groups: Vec<String> = [[a, b], [c, d], [e, f]]
                .iter()
                .map(|group| alphabet.encode(group))
                .collect();
            self.put(groups.join(".").into_bytes(), "dotted", Certain);
        }
    }

    fn uuid(&mut self, uuid: [u8; 16]) {
        self.put(uuid.to_vec(), "raw bytes", Certainty::Certain);
        self.binary(&uuid, "raw bytes in text");
        // Microsoft's GUID keeps its first three fields little-endian.
        let [a, b, c, d, e, f, g, h, rest @ ..] = uuid;
        let mut guid = vec![d, c, b, a, f, e, h, g];
        guid.extend(rest);
        self.put(guid, "raw GUID", Certainty::Certain);
    }

    fn digests(&mut self, value: &[u8]) {
        let md5: [u8; 16] = Md5::digest(value).into();
        self.digest(&md5, "MD5");
        self.digest(digest(&SHA1_FOR_LEGACY_USE_ONLY, value).as_ref(), "SHA-1");
        self.digest(digest(&SHA256, value).as_ref(), "SHA-256");
    }

    fn digest(&mut self, digest: &[u8], name: &'static str) {
        self.put(digest.to_vec(), name, Certainty::Certain);
        for alphabet in [&HEXLOWER, &HEXUPPER] {
            let hex = alphabet.encode(digest).into_bytes();
            if let Some(short) = hex.first_chunk::<16>() {
                self.put(short.to_vec(), "start of a digest", Certainty::Suspected);
            }
            self.put(hex, name, Certainty::Certain);
        }
        for alphabet in [&BASE64, &BASE64URL] {
            self.put(
                aligned_base64(digest, 0, alphabet),
                name,
                Certainty::Certain,
            );
        }
    }
}

/// The ways in which the value itself is written.
fn spellings(secret: &Secret) -> Vec<String> {
    let value = &secret.value;
    let mut all = vec![value.clone(), value.to_lowercase(), value.to_uppercase()];
    if matches!(secret.kind, Kind::Number | Kind::Phone)
        && let Some(digits) = digits(value)
    {
        if secret.kind == Kind::Phone {
            // Country codes have one to three digits (ITU-T E.164); what follows is found with any of them before it.
            const NATIONAL: usize = 8;
            all.extend(
                (1..=3)
                    .filter_map(|code| digits.get(code..))
                    .filter(|national| national.len() >= NATIONAL)
                    .map(str::to_owned),
            );
        }
        all.push(digits);
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// The digits of a number written with the usual separators, if it is nothing else: at most 20.
fn digits(value: &str) -> Option<String> {
    let bare = value.strip_prefix('+').unwrap_or(value);
    let separators = [' ', '-', '.', '/', '(', ')'];
    let plain = bare
        .chars()
        .all(|c| c.is_ascii_digit() || separators.contains(&c));
    let digits: String = bare.chars().filter(char::is_ascii_digit).collect();
    (plain && (super::MIN_VALUE..=20).contains(&digits.len())).then_some(digits)
}

/// Six bytes in hexadecimal with one kind of separator, or Cisco's three groups of four digits.
fn mac(value: &str) -> Option<[u8; 6]> {
    let separated = [':', '-']
        .iter()
        .any(|&separator| value.split(separator).count() == 6 && value.len() == 17)
        || (value.split('.').count() == 3 && value.len() == 14);
    if !separated {
        return None;
    }
    let hex: String = value
        .chars()
        .filter(|c| ![':', '-', '.'].contains(c))
        .collect();
    let bytes = data_encoding::HEXLOWER_PERMISSIVE
        .decode(hex.as_bytes())
        .ok()?;
    bytes.try_into().ok()
}

/// A UUID in its usual text form (RFC 9562, section 4).
fn uuid(value: &str) -> Option<[u8; 16]> {
    let groups: Vec<usize> = value.split('-').map(str::len).collect();
    if groups != [8, 4, 4, 4, 12] {
        return None;
    }
    let bytes = data_encoding::HEXLOWER_PERMISSIVE
        .decode(value.replace('-', "").as_bytes())
        .ok()?;
    bytes.try_into().ok()
}

/// Percent-encoding of everything but unreserved characters (RFC 3986, section 2.3).
fn percent(bytes: &[u8], alphabet: &data_encoding::Encoding) -> Vec<u8> {
    escape(bytes, b'%', alphabet, |byte| {
        byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
    })
}

/// Quoted-printable (RFC 2045, section 6.7) without line breaks.
fn quoted_printable(bytes: &[u8]) -> Vec<u8> {
    escape(bytes, b'=', &HEXUPPER, |byte| {
        (0x20..0x7f).contains(&byte) && byte != b'='
    })
}

fn escape(
    bytes: &[u8],
    mark: u8,
    alphabet: &data_encoding::Encoding,
    plain: impl Fn(u8) -> bool,
) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        if plain(byte) {
            escaped.push(byte);
        } else {
            escaped.push(mark);
            escaped.extend(alphabet.encode(&[byte]).bytes());
        }
    }
    escaped
}

/// The characters of base64 that depend on `bytes` alone when `shift` unknown bytes stand before them (modulo three)
/// and any stand after.
fn aligned_base64(bytes: &[u8], shift: usize, alphabet: &data_encoding::Encoding) -> Vec<u8> {
    let mut padded = vec![0; shift];
    padded.extend(bytes);
    let whole = padded.len() * 8 / 6;
    let unknown = (shift * 8).div_ceil(6);
    let text = alphabet.encode(&padded).into_bytes();
    text.get(unknown..whole).unwrap_or_default().to_vec()
}

/// Seven bits a byte, lowest first (protobuf, LEB128).
fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

#[cfg(test)]
mod tests;
