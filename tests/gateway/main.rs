//! Scenarios: bytes and a fake clock go into a gateway; packets, orders and events come out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test may fail loudly"
)]

mod bulk;
mod datagrams;
mod dns;
mod interleavings;
mod leaks;
mod names;
mod passing;
mod quic;
mod redaction;
mod streams;
mod survey;
mod world;
