//! NTLM (MS-NLMP, section 2.2.1.3), wherever it is carried: domain, user and workstation of an authentication.

use super::Notes;
use super::bytes::Bytes;
use crate::sanitize::class::{Certainty, Class};
use crate::sanitize::finding::Leak;
use std::ops::Range;

const USER: Leak = Leak::new("ntlm.user", Class::PersonId, "user name");
const WORKSTATION: Leak = Leak::new("ntlm.workstation", Class::HostName, "workstation");
const RESPONSE: Leak = Leak::new("ntlm.response", Class::Credential, "answer to a challenge");

pub(super) const LEAKS: &[Leak] = &[USER, WORKSTATION, RESPONSE];

const MARK: &[u8] = b"NTLMSSP\0\x03\0\0\0";

/// Looks for an authentication in a part of the payload.
pub(super) fn search(part: Range<usize>, notes: &mut Notes<'_>) {
    let bytes = notes.payload().get(part.clone()).unwrap_or_default();
    if let Some(at) = memchr::memmem::find(bytes, MARK) {
        let start = part.start + at;
        let message = bytes.get(at..).unwrap_or_default();
        tell(message, |span| span.start + start..span.end + start, notes);
    }
}

/// Looks for an authentication in a token in base64, which stands at `span`.
pub(super) fn coded(token: &[u8], span: Range<usize>, notes: &mut Notes<'_>) {
    let message = data_encoding::BASE64.decode(token).unwrap_or_default();
    if let Some(at) = memchr::memmem::find(&message, MARK) {
        let message = message.get(at..).unwrap_or_default();
        tell(message, |_| span.clone(), notes);
    }
}

/// Tells what a message says; `place` is where each of its parts stands in the payload.
fn tell(
    message: &[u8],
    place: impl Fn(Range<usize>) -> Range<usize>,
    notes: &mut Notes<'_>,
) -> Option<()> {
    let mut bytes = Bytes::new(message);
    bytes.skip(MARK.len())?;
    field(&mut bytes)?;
    let response = field(&mut bytes)?;
    let _domain = field(&mut bytes)?;
    let user = field(&mut bytes)?;
    let workstation = field(&mut bytes)?;
    for (leak, span) in [
        (&USER, user),
        (&WORKSTATION, workstation),
        (&RESPONSE, response),
    ] {
        let value = message.get(span.clone()).filter(|value| !value.is_empty());
        if let Some(value) = value {
            // Names are UTF-16; the low bytes read as text.
            let text: Vec<u8> = value.iter().copied().filter(|byte| *byte != 0).collect();
            notes.decoded(leak, Certainty::Certain, place(span), &text);
        }
    }
    Some(())
}

/// Length, room, and offset from the message's beginning.
fn field(bytes: &mut Bytes<'_>) -> Option<Range<usize>> {
    let length = usize::from(bytes.u16_le()?);
    bytes.skip(2)?;
    let offset = usize::try_from(bytes.u32_le()?).ok()?;
    Some(offset..offset.checked_add(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sanitize::finding::Finding;

    #[test]
    fn user_and_workstation_are_told_decoded() {
        let mut message = MARK.to_vec();
        for (length, offset) in [(0_u16, 52_u32), (0, 52), (0, 52), (8, 52), (6, 60)] {
            message.extend(length.to_le_bytes());
            message.extend(length.to_le_bytes());
            message.extend(offset.to_le_bytes());
        }
        message.extend(b"a\0n\0n\0e\0p\0c\x001\0");
        let mut found: Vec<Finding> = Vec::new();
        search(0..message.len(), &mut Notes::new(&message, &mut found));
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].leak, found[0].span.clone()),
            ("ntlm.user", 52..60)
        );
        assert_eq!(found[1].class, Class::HostName);
    }
}
