//! Bytes come in: one IP packet is read and checked once, and never again.
//!
//! [`Parsed::read`] turns the bytes of a packet into offsets and facts; everything after it trusts them.

pub mod build;
pub mod checksum;
pub mod edit;
pub mod fragment;
pub mod offload;
mod parse;

pub use offload::{Gso, Offload};
pub use parse::{Checksum, Echo, Fragment, IcmpError, Malformed, Parsed, Tcp, Transport, Udp};

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
}
