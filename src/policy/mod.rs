//! What may leave, to whose jurisdiction, by which way: facts in, a decision out.

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

/// A name of the destination.
#[derive(Clone, Copy, Debug)]
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
    /// The data the facts came from.
    pub data: &'a Data,
    /// Wall clock in seconds since the Unix epoch; `None` while it is plainly not set.
    pub wall: Option<u64>,
}

/// The way out of a permitted flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// From this machine itself.
    Direct,
}

/// The right to open one connection, or to send to one remote. Only [`Policy::decide`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    protocol: u8,
    destination: SocketAddr,
    route: Route,
}

/// How a blocked flow is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// TCP RST, ICMP *administratively prohibited*.
    Reject,
    /// Silence.
    Drop,
}

/// What becomes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes nowhere.
    Block(Reply),
    /// It may leave as the permit says.
    Pass(Permit),
}

/// A policy, compiled.
#[derive(Debug)]
pub struct Policy {}

impl Permit {
    /// Transport protocol number.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }
    /// Where the connection may go, and nowhere else.
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }
    /// By which way.
    pub fn route(&self) -> Route {
        self.route
    }
}

/// What gave a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A rule, by its place in the compiled order; [`Policy::rule_id`] names it.
    Rule(u16),
    /// No rule matched.
    Default,
}

/// A verdict and where it came from. Plain data, made without allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the flow.
    pub verdict: Verdict,
    /// What gave it.
    pub origin: Origin,
    /// The block rule fired because a fact it needs is unknown (`on_unknown`).
    pub unknown: bool,
    /// The first rule that would have decided otherwise, were it not only observed (`mode`, `observe_until`).
    pub observed: Option<Origin>,
    /// A rule that could still win waits for a name of the destination.
    pub needs_name: bool,
}

/// The `[[sanitize]]` entries that concern a flow, by their place in the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Active(u64);

/// What an entry wants done with a payload that leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Tell, and let it pass.
    Report,
    /// Rewrite the field where a codec can, otherwise drop.
    Redact,
    /// Drop the datagram; a TCP flow is ended.
    Drop,
    /// End the flow and answer as a rejected one.
    Reject,
}

impl Active {
    /// No entry concerns the flow: its payload need not be read.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Policy {
    /// The verdict on a flow. A total, pure function; never allocates.
    pub fn decide(&self, _facts: &Facts<'_>) -> Decision {
        todo!()
    }
    /// Which sanitize entries concern the flow (their `from` and `to`).
    pub fn active(&self, _facts: &Facts<'_>) -> Active {
        todo!()
    }
    /// The strictest action any of the active entries wants for this finding, and that entry's place;
    /// `None` if no entry lists it. In observe mode never more than [`Action::Report`].
    pub fn action(
        &self,
        _active: Active,
        _finding: &crate::sanitize::Finding,
    ) -> Option<(u16, Action)> {
        todo!()
    }
    /// Id of what gave a verdict: the rule's, or `default`.
    pub fn rule_id(&self, _origin: Origin) -> &str {
        todo!()
    }
    /// Id of a sanitize entry.
    pub fn sanitizer_id(&self, _entry: u16) -> &str {
        todo!()
    }
}
