//! What a rule may look at.

use crate::jurisdiction::{AddressFacts, Data};
use std::net::{IpAddr, SocketAddr};

/// How it is known that a flow goes to a name, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Server name of a TLS client hello.
    Sni,
    /// `Host` of an HTTP request.
    Host,
    /// Server name of a QUIC Initial.
    Quic,
    /// Server name of the outer one of two client hellos (RFC 9849): it stands for a name that is encrypted, and the
    /// client was not given this address for it.
    Outer,
    /// An answer given to this client by the resolver, this many seconds ago.
    Dns {
        /// Age in seconds.
        age: u32,
    },
}

impl Evidence {
    /// Whether the flow itself shows the name; the other evidence is a DNS answer.
    pub fn is_in_flow(self) -> bool {
        match self {
            Self::Sni | Self::Host | Self::Quic | Self::Outer => true,
            Self::Dns { .. } => false,
        }
    }

    /// Whether it is meant to be the name of the destination itself, shown by the flow.
    pub(super) fn is_claim(self) -> bool {
        self.is_in_flow() && self != Self::Outer
    }

    /// Its name as the commands print it: `sni`, `host`, `quic`, `outer`, `dns`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sni => "sni",
            Self::Host => "host",
            Self::Quic => "quic",
            Self::Outer => "outer",
            Self::Dns { .. } => "dns",
        }
    }
}

/// A name of the destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name<'a> {
    /// Lower case, A-labels, no trailing dot.
    pub name: &'a str,
    /// How it is known.
    pub evidence: Evidence,
}

/// Who sends.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Inside address.
    pub address: IpAddr,
    /// Hardware address, if the link shows it.
    pub mac: Option<[u8; 6]>,
    /// Name of the WireGuard peer, if it came in by one.
    pub peer: Option<&'a str>,
}

/// What the first payload of the flow showed; `None` until it was seen, and where it cannot be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// It is TLS or QUIC and names no server.
    pub sni_missing: Option<bool>,
    /// It is not encrypted.
    pub cleartext: Option<bool>,
}

impl Facts<'_> {
    /// Whether an answer to this client gave this address for the name.
    pub(super) fn is_answered(&self, name: &str) -> bool {
        let mut names = self.names.iter();
        names.any(|known| !known.evidence.is_in_flow() && known.name == name)
    }

    /// Whether no answer to this client gave this address.
    pub(super) fn has_no_answer(&self) -> bool {
        self.names.iter().all(|name| name.evidence.is_in_flow())
    }

    /// Whether the flow claims a name for which no answer gave this address; `None` while it may still show one.
    pub(super) fn contradicts_answers(&self) -> Option<bool> {
        let mut claims = self.names.iter().filter(|name| name.evidence.is_claim());
        if claims.clone().next().is_none() && self.opening.sni_missing.is_none() {
            return None;
        }
        Some(claims.any(|claim| !self.is_answered(claim.name)))
    }
}

/// Everything a rule may look at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Who sends.
    pub source: Source<'a>,
    /// Transport protocol number; ICMPv6 counts as `icmp` in rules.
    pub protocol: u8,
    /// Destination address and port (0 for protocols without ports).
    pub destination: SocketAddr,
    /// Facts of the destination address.
    pub address: AddressFacts,
    /// Names of the destination known for this client. A name that the flow shows is believed only if an answer gave the
    /// client this address for the same name; otherwise it can stop traffic and let none go.
    pub names: &'a [Name<'a>],
    /// What its first payload showed.
    pub opening: Opening,
    /// The data the facts came from.
    pub data: &'a Data,
    /// Wall clock in seconds since the Unix epoch; `None` while it is plainly not set.
    pub wall: Option<u64>,
}
