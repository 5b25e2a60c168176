//! Bytes come in: one IP packet is read and checked once, and never again.
//!
//! [`Parsed::read`] turns the bytes of a packet into offsets and facts; everything after it trusts them.

pub mod build;
pub mod checksum;
pub mod edit;
pub mod fragment;
pub mod offload;
mod parse;
#[cfg(test)]
pub(crate) mod samples;
pub mod split;

pub use offload::{Gso, Offload};
pub use parse::{
    Checksum, Echo, Fragment, IcmpError, MAX_LEN, Malformed, Parsed, Tcp, Transport, Udp,
};

/// IP protocol numbers (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;

    /// IPv6 hop-by-hop options (RFC 8200, section 4.3).
    pub(crate) const HOP_BY_HOP: u8 = 0;
    /// IPv6 routing header (RFC 8200, section 4.4).
    pub(crate) const ROUTING: u8 = 43;
    /// IPv6 fragment header (RFC 8200, section 4.5).
    pub(crate) const FRAGMENT: u8 = 44;
    /// IP authentication header (RFC 4302).
    pub(crate) const AUTHENTICATION: u8 = 51;
    /// IPv6 destination options (RFC 8200, section 4.6).
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
}
