//! Nanoseconds of the hot paths.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may fail loudly"
)]

mod flow;
mod gateway;
mod packet;
#[path = "../../src/packet/samples.rs"]
#[allow(dead_code, reason = "some are for tests")]
mod samples;

fn main() {
    divan::main();
}
