//! Rewriting fields in place. Lengths never change, so no header has to, and nothing is touched that a signature or
//! checksum of the protocol itself protects.

use super::dissect;
use super::finding::{Codec, Finding};
use data_encoding::BASE64URL_NOPAD;
use ring::hmac;
use std::ops::Range;

/// Code of the padding option (RFC 7830).
const EDNS_PADDING: [u8; 2] = [0, 12];
/// Code, length: what precedes the data of an EDNS option.
const EDNS_HEADER: usize = 4;

/// Rewrites what was found in a datagram: true if nothing of it remains, false at the first that cannot be rewritten.
pub(super) fn redact(key: &hmac::Key, payload: &mut [u8], found: &[Finding]) -> bool {
    found
        .iter()
        .all(|finding| apply(codec(finding), key, payload, finding.span.clone()).is_some())
}

/// The same in a stream, of which `held` has not left yet. What was found lies in the part from `chunk` on, but for what
/// came [earlier](Finding::earlier). Only text can be rewritten: what protects binary messages is not looked for here.
pub(super) fn redact_stream(
    key: &hmac::Key,
    held: &mut [u8],
    chunk: usize,
    found: &[Finding],
) -> bool {
    found.iter().all(|finding| {
        let place = |at: usize, earlier: usize| (chunk + at).checked_sub(earlier);
        let span = place(finding.span.start, finding.earlier.0)
            .zip(place(finding.span.end, finding.earlier.1));
        let codec = match codec(finding) {
            codec @ (Codec::Blanks | Codec::Letters) => codec,
            Codec::None | Codec::Pseudonym | Codec::EdnsPadding | Codec::DhcpPadding => Codec::None,
        };
        span.and_then(|(start, end)| apply(codec, key, held, start..end))
            .is_some()
    })
}

fn codec(finding: &Finding) -> Codec {
    dissect::leaks()
        .find(|leak| leak.name == finding.leak && !finding.decoded)
        .map_or(Codec::None, |leak| leak.codec)
}

fn apply(
    codec: Codec,
    key: &hmac::Key,
    payload: &mut [u8],
    Range { start, end }: Range<usize>,
) -> Option<()> {
    match codec {
        Codec::None => None,
        Codec::Blanks => {
            payload.get_mut(start..end)?.fill(b' ');
            Some(())
        }
        Codec::Letters => {
            // A bare number must stay one; `=` and a quotation mark take any letter.
            let before = *payload.get(start.checked_sub(1)?)?;
            let value = payload.get_mut(start..end)?;
            matches!(before, b'=' | b'"').then(|| value.fill(b'x'))
        }
        Codec::Pseudonym => {
            let value = payload.get_mut(start..end)?;
            let tag = hmac::sign(key, value);
            let text = BASE64URL_NOPAD.encode(tag.as_ref());
            for (byte, letter) in value.iter_mut().zip(text.bytes().cycle()) {
                *byte = letter;
            }
            Some(())
        }
        Codec::EdnsPadding => {
            if dissect::is_signed_dns(payload) {
                return None;
            }
            let option = payload.get_mut(start.checked_sub(EDNS_HEADER)?..end)?;
            let (code, rest) = option.split_first_chunk_mut()?;
            *code = EDNS_PADDING;
            rest.get_mut(2..)?.fill(0);
            Some(())
        }
        Codec::DhcpPadding => {
            let header = dhcp_header(payload, start, end)?;
            payload.get_mut(start - header..end)?.fill(0);
            Some(())
        }
    }
}

/// How far before its value a DHCP option begins: code and length, and for a full name (option 81) three bytes more.
fn dhcp_header(payload: &[u8], start: usize, end: usize) -> Option<usize> {
    const NAME: u8 = 81;
    const NAME_FLAGS: usize = 3;
    let fits = |header: usize, extra: usize| {
        let [code, length] = *payload.get(start.checked_sub(header)?..)?.first_chunk()?;
        (usize::from(length) == end - start + extra).then_some(code)
    };
    if fits(2 + NAME_FLAGS, NAME_FLAGS) == Some(NAME) {
        return Some(2 + NAME_FLAGS);
    }
    fits(2, 0)
        .filter(|code| matches!(code, 12 | 60 | 61))
        .map(|_| 2)
}

#[cfg(test)]
mod tests {
    use crate::sanitize::{Context, Finding, Memory, Sanitizer, Stream};
    use crate::time::Time;
    use std::net::{IpAddr, SocketAddr};

    fn judge(payload: &[u8]) -> Vec<Finding> {
        let context = Context {
            client: IpAddr::from([10, 0, 0, 1]),
            sport: 1,
            remote: SocketAddr::from(([203, 0, 113, 1], 53)),
            index: 9,
            now: Time::from_secs(1),
            blocked: false,
        };
        let mut found = Vec::new();
        Sanitizer::default().datagram(&mut Memory::default(), &context, payload, &mut found);
        found
    }

    /// Redacts what is found, but for names of destinations.
    fn redacted(payload: &[u8]) -> (bool, Vec<u8>) {
        let mut payload = payload.to_vec();
        let mut found = judge(&payload);
        found.retain(|finding| {
            finding.leak != "dns.query" && finding.leak != "dhcp.hardware-address"
        });
        let all = Sanitizer::default().redact(&mut payload, &found);
        (all, payload)
    }

    fn query(additional: &[u8], count: u8) -> Vec<u8> {
        let mut bytes =
            b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01".to_vec();
        bytes[11] = count;
        bytes.extend(additional);
        bytes
    }

    const OPT: &[u8] = b"\0\0\x29\x10\0\0\0\0\0\0\x0c\0\x08\0\x08\0\x01\x20\0\xc6\x33\x64\x07";

    #[test]
    fn a_client_subnet_becomes_padding() {
        let (all, payload) = redacted(&query(OPT, 1));
        assert!(all);
        assert!(payload.ends_with(b"\0\x0c\0\x08\0\0\0\0\0\0\0\0"));
        let leaks: Vec<_> = judge(&payload).iter().map(|f| f.leak).collect();
        assert_eq!(leaks, ["dns.query"]);
    }

    #[test]
    fn a_signed_query_is_not_touched() {
        let signature = b"\x03key\0\0\xfa\0\xff\0\0\0\0\0\0";
        let payload = query(&[OPT, signature].concat(), 2);
        let (all, after) = redacted(&payload);
        assert!(!all);
        assert_eq!(after, payload);
    }

    #[test]
    fn a_device_name_in_dhcp_becomes_padding() {
        let mut request = vec![1, 1, 6, 0];
        request.resize(236, 0);
        request.extend(b"\x63\x82\x53\x63\x35\x01\x01\x0c\x05phone\x51\x08\0\0\0phone\xff");
        let (all, payload) = redacted(&request);
        assert!(all);
        assert!(payload.ends_with(b"\x35\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xff"));
        assert_eq!(judge(&payload), []);
    }

    #[test]
    fn a_canonical_name_becomes_a_stable_pseudonym() {
        let packet = b"\x80\xc9\0\x01\0\0\0\x07\x81\xca\0\x05\0\0\0\x07\x01\x0danne@10.0.0.7\0";
        let (all, payload) = redacted(packet);
        assert!(all);
        assert_eq!(payload.len(), packet.len());
        assert_eq!(payload, redacted(packet).1);
        assert_eq!(judge(&payload)[0].leak, "rtcp.random-cname");
    }

    #[test]
    fn header_values_become_blanks_and_parameters_letters() {
        let sanitizer = Sanitizer::default();
        let request = b"GET /?imei=356938035643809 HTTP/1.1\r\nCookie: s=12\r\n\r\n";
        let (mut stream, mut found) = (Stream::default(), Vec::new());
        sanitizer.stream(&mut stream, request, &mut found);
        let mut payload = request.to_vec();
        assert!(sanitizer.redact(&mut payload, &found));
        assert_eq!(
            payload,
            b"GET /?imei=xxxxxxxxxxxxxxx HTTP/1.1\r\nCookie:     \r\n\r\n"
        );
    }

    #[test]
    fn what_is_masked_or_compressed_is_left_for_dropping() {
        let sanitizer = Sanitizer::default();
        let mut compressed = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        // The host `www.example.com` in Huffman code.
        compressed.extend(
            b"\0\0\x0e\x01\x04\0\0\0\x01\x57\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff",
        );
        let mut masked = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x81\x8f\0\0\0\x01".to_vec();
        masked.extend(b"{\x22urer\x22;\x22anoe\x22}");
        for (bytes, leak) in [
            (compressed, "http.authorization"),
            (masked, "parameter.person"),
        ] {
            let (mut stream, mut found) = (Stream::default(), Vec::new());
            sanitizer.stream(&mut stream, &bytes, &mut found);
            found.retain(|finding| finding.leak == leak);
            assert_eq!(found.len(), 1, "{leak} {:?}", stream.reading());
            let mut payload = bytes.clone();
            assert!(!sanitizer.redact(&mut payload, &found), "{leak}");
            assert_eq!(payload, bytes, "{leak}");
        }
    }

    #[test]
    fn what_has_no_codec_is_left_for_dropping() {
        let (all, payload) = redacted(b"<34>Oct 11 22:14:15 annes-pc su: failed");
        assert!(!all);
        assert_eq!(payload, b"<34>Oct 11 22:14:15 annes-pc su: failed");
    }
}
