//! What a rule asks: one test a key, compiled.

use super::domains::SetId;
use super::networks::Networks;
use super::schedule::Schedule;
use crate::document::Place;
use crate::jurisdiction::{Asn, Country, CountrySet, OperatorId};
use ipnet::IpNet;
use std::sync::Arc;

/// A key of a rule, without its `not_`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    // In the order of evaluation: what is cheap and rules out most comes first.
    Proto,
    Port,
    Anycast,
    SniMissing,
    Cleartext,
    NoDns,
    SniMismatch,
    From,
    Ip,
    Asn,
    Operator,
    Country,
    OperatorCountry,
    Jurisdiction,
    Domain,
    To,
    Schedule,
}

impl Key {
    pub(super) const ALL: [Self; 17] = [
        Self::Proto,
        Self::Port,
        Self::Anycast,
        Self::SniMissing,
        Self::Cleartext,
        Self::NoDns,
        Self::SniMismatch,
        Self::From,
        Self::Ip,
        Self::Asn,
        Self::Operator,
        Self::Country,
        Self::OperatorCountry,
        Self::Jurisdiction,
        Self::Domain,
        Self::To,
        Self::Schedule,
    ];

    /// As it is written.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Proto => "proto",
            Self::Port => "port",
            Self::Anycast => "anycast",
            Self::SniMissing => "sni_missing",
            Self::Cleartext => "cleartext",
            Self::NoDns => "no_dns",
            Self::SniMismatch => "sni_mismatch",
            Self::From => "from",
            Self::Ip => "ip",
            Self::Asn => "asn",
            Self::Operator => "operator",
            Self::Country => "country",
            Self::OperatorCountry => "operator_country",
            Self::Jurisdiction => "jurisdiction",
            Self::Domain => "domain",
            Self::To => "to",
            Self::Schedule => "schedule",
        }
    }

    /// With `not_` before it; `None` for those that are true or false anyway.
    pub(super) fn negated(self) -> Option<&'static str> {
        match self {
            Self::Proto => Some("not_proto"),
            Self::Port => Some("not_port"),
            Self::From => Some("not_from"),
            Self::Ip => Some("not_ip"),
            Self::Asn => Some("not_asn"),
            Self::Operator => Some("not_operator"),
            Self::Country => Some("not_country"),
            Self::OperatorCountry => Some("not_operator_country"),
            Self::Jurisdiction => Some("not_jurisdiction"),
            Self::Domain => Some("not_domain"),
            Self::To => Some("not_to"),
            Self::Schedule => Some("not_schedule"),
            Self::Anycast
            | Self::SniMissing
            | Self::Cleartext
            | Self::NoDns
            | Self::SniMismatch => None,
        }
    }

    /// Whether a target may have it: it says who receives.
    pub(super) fn is_of_target(self) -> bool {
        match self {
            Self::Ip
            | Self::Asn
            | Self::Operator
            | Self::Country
            | Self::OperatorCountry
            | Self::Jurisdiction
            | Self::Domain => true,
            Self::Proto
            | Self::Port
            | Self::Anycast
            | Self::SniMissing
            | Self::Cleartext
            | Self::NoDns
            | Self::SniMismatch
            | Self::From
            | Self::To
            | Self::Schedule => false,
        }
    }
}

/// What is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Test {
    /// Protocol numbers.
    Proto(Box<[u8]>),
    /// First and last port.
    Port(Box<[(u16, u16)]>),
    Anycast(bool),
    SniMissing(bool),
    Cleartext(bool),
    /// No answer to this client gave the address.
    NoDns(bool),
    /// The flow claims a name for which no answer gave the address.
    SniMismatch(bool),
    From(Arc<[Member]>),
    /// Any of these.
    Ip(Arc<[Arc<Networks>]>),
    Asn(Arc<[Asn]>),
    Operator(Arc<[OperatorId]>),
    Country(Arc<Places>),
    OperatorCountry(Arc<Places>),
    Jurisdiction(Arc<Places>),
    /// Any of these.
    Domain(Arc<[SetId]>),
    /// Any of these.
    Schedule(Arc<[Arc<Schedule>]>),
    /// Any of these.
    To(Arc<[(Self, Written)]>),
}

impl Test {
    /// Whether a name may matter whoever runs its servers.
    pub(super) fn asks_for_name(&self) -> bool {
        match self {
            Self::Domain(_) | Self::SniMissing(_) | Self::SniMismatch(_) => true,
            Self::To(parts) => parts.iter().any(|(part, _)| part.asks_for_name()),
            Self::Proto(_)
            | Self::Port(_)
            | Self::Anycast(_)
            | Self::Cleartext(_)
            | Self::NoDns(_)
            | Self::From(_)
            | Self::Ip(_)
            | Self::Asn(_)
            | Self::Operator(_)
            | Self::Country(_)
            | Self::OperatorCountry(_)
            | Self::Jurisdiction(_)
            | Self::Schedule(_) => false,
        }
    }

    /// Whether what the opening of a flow shows may matter: a name adds to those known of operators and seats.
    pub(super) fn asks_for_opening(&self) -> bool {
        match self {
            Self::SniMissing(_)
            | Self::Cleartext(_)
            | Self::SniMismatch(_)
            | Self::Operator(_)
            | Self::OperatorCountry(_)
            | Self::Jurisdiction(_)
            | Self::Domain(_) => true,
            Self::To(parts) => parts.iter().any(|(part, _)| part.asks_for_opening()),
            Self::Proto(_)
            | Self::Port(_)
            | Self::Anycast(_)
            | Self::NoDns(_)
            | Self::From(_)
            | Self::Ip(_)
            | Self::Asn(_)
            | Self::Country(_)
            | Self::Schedule(_) => false,
        }
    }
}

/// A sender.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Member {
    /// A hardware address.
    Mac([u8; 6]),
    /// A WireGuard peer.
    Peer(Box<str>),
    /// Inside addresses.
    Net(IpNet),
}

/// Values of a country key: countries, and `local` for what lies in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) countries: CountrySet,
    pub(super) local: bool,
}

impl Places {
    pub(super) fn contains(&self, country: Country) -> bool {
        self.countries.contains(country)
    }

    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.countries.is_within(&other.countries) && (other.local || !self.local)
    }
}

/// A test as a rule has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) test: Test,
    pub(super) negate: bool,
}

/// What stands in the file for a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) key: Key,
    /// The value, written one way, as TOML.
    pub(super) value: Box<str>,
    pub(super) place: Place,
}
