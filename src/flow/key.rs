//! The five-tuple.
use crate::packet::Parsed;
use std::net::IpAddr;

/// The five-tuple of a flow, always written from the inside to the outside. Echo: `sport` is the identifier, `dport` 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Transport protocol number.
    pub protocol: u8,
    /// Inside address.
    pub src: IpAddr,
    /// Outside address.
    pub dst: IpAddr,
    /// Inside port.
    pub sport: u16,
    /// Outside port.
    pub dport: u16,
}

impl FlowKey {
    /// The key of a packet that comes from the inside; `None` if it belongs to no flow (a fragment, an ICMP error, …).
    pub fn of(_parsed: &Parsed) -> Option<Self> {
        todo!()
    }
}
