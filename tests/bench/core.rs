//! Nanoseconds of the hot paths.

mod flow;
mod packet;
#[path = "../../src/packet/samples.rs"]
#[allow(dead_code, reason = "some are for tests")]
mod samples;

fn main() {
    divan::main();
}
