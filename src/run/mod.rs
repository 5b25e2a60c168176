//! The loops: gateways between a link and the sockets of the outside.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the shell has the clock, the threads and the sockets"
)]

mod answers;
mod clock;
mod daemon;
pub mod demo;
mod early;
mod exec;
mod fabric;
mod gate;
mod mapped;
mod shard;
mod standing;
mod upstream;

pub use clock::Clock;
pub use daemon::{Load, Running, run, start};
pub use early::Early;
pub use exec::exec;
pub use fabric::Fabric;
pub use gate::{Gate, Handle, Plan, default_shards, descriptors, memory};
