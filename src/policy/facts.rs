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
            Self::Sni | Self::Host | Self::Quic => true,
            Self::Dns { .. } => false,
        }
    }

    /// Its name as the commands print it: `sni`, `host`, `quic`, `dns`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sni => "sni",
            Self::Host => "host",
            Self::Quic => "quic",
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
    /// Names of the destination known for this client.
    pub names: &'a [Name<'a>],
    /// What its first payload showed.
    pub opening: Opening,
    /// The data the facts came from.
    pub data: &'a Data,
    /// Wall clock in seconds since the Unix epoch; `None` while it is plainly not set.
    pub wall: Option<u64>,
}
