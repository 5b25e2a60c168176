//! What a flow shows of whom it is meant for.

use std::net::IpAddr;

/// How the flow speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TLS over a stream.
    Tls,
    /// QUIC, versions 1 and 2.
    Quic,
    /// HTTP/1, in the clear.
    Http,
    /// Something that names nobody.
    Other,
}

/// What an opening shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// How it speaks.
    pub protocol: Protocol,
    /// The name it claims to be meant for: lower case, A-labels, no trailing dot.
    pub name: Option<Box<str>>,
    /// The name is that of the outer one of two client hellos: the one that counts is encrypted, or pretends to be.
    pub outer: bool,
}

impl Shown {
    pub(super) fn nobody(protocol: Protocol) -> Self {
        Self {
            protocol,
            name: None,
            outer: false,
        }
    }
}

/// A host name as names are written here; `None` for what is none, as an address.
pub(super) fn canonical(name: &[u8]) -> Option<Box<str>> {
    let name = name.strip_suffix(b".").unwrap_or(name);
    let is_label = |label: &[u8]| {
        (1..=63).contains(&label.len())
            && label
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
    };
    if name.len() > 253 || !name.split(|byte| *byte == b'.').all(is_label) {
        return None;
    }
    let text = std::str::from_utf8(name).ok()?;
    let is_address = text.parse::<IpAddr>().is_ok();
    (!is_address).then(|| text.to_ascii_lowercase().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_one_way_and_addresses_are_none() {
        assert_eq!(canonical(b"A.Example."), Some("a.example".into()));
        for bad in [
            &b""[..],
            b".",
            b"a..b",
            b"192.0.2.1",
            b"a b",
            b"a/b",
            &[b'a'; 64],
            b"\xff",
        ] {
            assert_eq!(canonical(bad), None, "{bad:?}");
        }
    }
}
