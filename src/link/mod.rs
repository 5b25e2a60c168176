//! Where packets come in and go out: the TUN interface, and the memory their bytes wait in.
#![expect(
    clippy::disallowed_types,
    reason = "this is the shell: it opens devices"
)]

pub mod rings;
pub mod tun;

pub use rings::{Ring, RingId, Rings};
pub use tun::{Offloads, Tun};
