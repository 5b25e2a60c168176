//! By which address others see an exit: where to ask for it.

use super::exits::Server;
use crate::document::Shown;
use std::fmt;

/// A place on the web that tells whoever asks it by which address it sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Where it is asked.
    pub server: Server,
    /// It is asked inside TLS, so that nobody on the way can answer in its place.
    pub tls: bool,
    /// What it is asked for: a path that begins with `/`, and a query.
    pub path: Box<str>,
}

impl Egress {
    /// Reads `http://HOST[:PORT][/PATH]`, or the same with `https`.
    ///
    /// # Errors
    /// Says that it is none.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is not http://HOST/PATH or https://HOST/PATH",
                Shown(text)
            )
        };
        let (tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            _ => return Err(wrong()),
        };
        let (host, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        // It becomes a part of a request line.
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains('#') {
            return Err(wrong());
        }
        let port = if tls { 443 } else { 80 };
        let server = Server::parse(host)
            .or_else(|_| Server::parse(&format!("{host}:{port}")))
            .map_err(|_| wrong())?;
        Ok(Self {
            server,
            tls,
            path: path.into(),
        })
    }
}

impl fmt::Display for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.server, self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_place_is_read_with_its_port_and_path_and_shown_as_it_is_asked() {
        for (text, shown) in [
            ("http://198.51.100.1", "http://198.51.100.1:80/"),
            (
                "https://[2001:db8::1]/cdn-cgi/trace",
                "https://[2001:db8::1]:443/cdn-cgi/trace",
            ),
            (
                "https://WhatIs.Example:8443/ip?format=json",
                "https://whatis.example:8443/ip?format=json",
            ),
        ] {
            assert_eq!(Egress::parse(text).unwrap().to_string(), shown);
        }
        for text in [
            "",
            "ftp://a/",
            "http://",
            "http:///x",
            "http://a b/",
            "https://a/x y",
            "https://a/\r\nHost: b",
            "http://2001:db8::1/",
            "https://a/#x",
            "198.51.100.1",
        ] {
            assert!(Egress::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_as_the_same_and_nothing_brings_it_down(text in "(https?://)?[a-z0-9.:\\[\\]]{0,12}(/[ -~]{0,8})?") {
            if let Ok(egress) = Egress::parse(&text) {
                prop_assert_eq!(Egress::parse(&egress.to_string()), Ok(egress));
            }
        }
    }
}
