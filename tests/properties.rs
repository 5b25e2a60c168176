//! Laws that hold for every input. A law of another module is a file here and a line below.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests, which may panic"
)]

#[path = "properties/flow.rs"]
mod flow;
#[path = "properties/packet.rs"]
mod packet;
#[path = "../src/packet/samples.rs"]
#[allow(dead_code, reason = "some are for other tests")]
mod samples;
