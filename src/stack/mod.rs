//! The endpoint that the inside talks to: TCP terminated, UDP and echo mapped to sockets of the outside.

mod outbox;
mod tcp;

pub use outbox::Outbox;
pub use tcp::{Connection, Phase, Ring, Rings, Shape, Terminator};
