//! Under whose jurisdiction an address lies: several facts, not one.

use std::net::IpAddr;

/// A country or territory by its ISO 3166-1 alpha-2 code (and `XK`), in capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country([u8; 2]);

/// A number of an autonomous system (RFC 6793).
pub type Asn = u32;

/// Which entry of the operator file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OperatorId(pub(crate) u16);

/// A range with a purpose of its own; such an address has no country.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Special {
    /// Private, unique local.
    Private,
    /// Loopback.
    Loopback,
    /// Link-local.
    LinkLocal,
    /// Multicast.
    Multicast,
    /// Shared address space of carriers (RFC 6598).
    Cgnat,
    /// Documentation.
    Documentation,
    /// Benchmarking.
    Benchmarking,
    /// Reserved, and everything else that is not globally reachable; the limited broadcast address.
    Reserved,
    /// Unspecified.
    Unspecified,
}

/// Whether an address is announced from many places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Anycast {
    /// It is, by the operator's own documents.
    Yes,
    /// It is known not to be.
    No,
    /// Nobody says.
    Unknown,
}

/// How far the loaded sources agree on the location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Confidence {
    /// All that answer say the same, and there are at least two.
    Unanimous,
    /// More than half say the same.
    Majority,
    /// No answer has more than half.
    Contested,
    /// Only one source answers.
    Single,
    /// None answers.
    None,
}

/// Everything the data says about an address. Plain data: names are looked up in [`Data`] by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressFacts {
    /// The address the tables were asked for: embedded IPv4 addresses (mapped, 6to4, Teredo, NAT64) are unwrapped.
    pub looked_up_as: IpAddr,
    /// Its special range, if it lies in one.
    pub special: Option<Special>,
    /// Where most sources locate it.
    pub country: Option<Country>,
    /// Where the address block is registered.
    pub registered: Option<Country>,
    /// Who originates it.
    pub asn: Option<Asn>,
    /// Who operates it, by prefix or origin.
    pub operator: Option<OperatorId>,
    /// The seat of whoever controls it.
    pub operator_country: Option<Country>,
    /// Announced from many places?
    pub anycast: Anycast,
    /// How far the sources agree.
    pub confidence: Confidence,
}

/// The loaded tables: one immutable snapshot.
#[derive(Debug)]
pub struct Data {}

impl Data {
    /// All facts of an address. Never allocates.
    pub fn lookup(&self, _address: IpAddr) -> AddressFacts {
        todo!()
    }
    /// The operator that a domain name (lower case, without trailing dot) belongs to, by suffix on label boundaries.
    pub fn operator_of_name(&self, _name: &str) -> Option<OperatorId> {
        todo!()
    }
}
