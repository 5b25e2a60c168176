//! Where packets come in and go out: the TUN interface, and the memory their bytes wait in.
#![expect(
    clippy::disallowed_types,
    reason = "this is the shell: it opens devices"
)]

pub mod frame;
pub mod pcap;
pub mod rings;
pub mod tun;

pub use rings::Rings;
pub use tun::{Offloads, Tun};
