//! The subject of an X.509 certificate (RFC 5280, section 4.1).

use super::ber::{self, OID, SEQUENCE, SET};
use super::bytes::Bytes;
use std::ops::Range;

/// Common name (2.5.4.3), user id (0.9.2342.19200300.100.1.1) and mail address (1.2.840.113549.1.9.1).
const NAMING: [&[u8]; 3] = [
    &[0x55, 0x04, 0x03],
    &[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01],
    &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x01],
];

/// The places of the values that name the subject of the certificate which begins here.
pub(super) fn subject(mut bytes: Bytes<'_>) -> Option<impl Iterator<Item = Range<usize>>> {
    let mut certificate = ber::expect_begun(&mut bytes, SEQUENCE)?;
    let mut signed = ber::expect_begun(&mut certificate, SEQUENCE)?;
    // An explicit version, the serial number, the algorithm, the issuer, the validity.
    let (first, _) = ber::element(&mut signed)?;
    let before_subject = if first == 0xa0 { 4 } else { 3 };
    for _ in 0..before_subject {
        ber::element(&mut signed)?;
    }
    let mut subject = ber::expect(&mut signed, SEQUENCE)?;
    Some(std::iter::from_fn(move || {
        loop {
            let mut set = ber::expect(&mut subject, SET)?;
            let mut pair = ber::expect(&mut set, SEQUENCE)?;
            let kind = ber::expect(&mut pair, OID)?;
            let (_, mut value) = ber::element(&mut pair)?;
            if NAMING.contains(&kind.rest()) {
                return Some(value.remainder());
            }
        }
    }))
}
