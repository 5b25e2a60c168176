//! Header edits that let the TCP terminator speak in super-segments, and the hop limit of a passed packet.
use super::{Offload, Parsed};

/// What the link can carry and what the flow's peer takes.
#[derive(Clone, Copy, Debug)]
pub struct Segmenting {
    /// MTU of the link in bytes.
    pub link_mtu: u16,
    /// The client's real MSS, as [`raise_mss`] returned it.
    pub flow_mss: u16,
    /// The link takes super-packets and partial checksums; otherwise checksums are written in full.
    pub offload: bool,
}

/// Edits a client's SYN so that the terminator sends segments as large as an IP packet can be; returns the real MSS.
/// Checksums of the packet are wrong afterwards; the terminator does not look at them.
pub fn raise_mss(_bytes: &mut [u8], _parsed: &Parsed, _link_mtu: u16) -> u16 {
    todo!()
}

/// Finishes a segment that the terminator emitted (IP checksum done, TCP checksum not): MSS of the SYN-ACK, the window
/// edge, checksum and offload metadata.
pub fn finish_segment(_bytes: &mut [u8], _how: &Segmenting) -> Offload {
    todo!()
}
