//! End to end on the real kernel: every test runs in a network of its own, made of namespaces. It needs no root,
//! changes nothing on the machine, and leaves nothing behind.
//!
//! A test wraps its body in [`harness::in_lab`]. Where the kernel grants no user namespaces or `/dev/net/tun` cannot be
//! used, these tests fail and say why; `CORDON_SKIP_NETNS=1` skips them instead.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "these tests are about sockets, files and programs"
)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "helpers of tests may fail the test"
)]

mod abroad;
mod cable;
mod control;
mod demo;
mod divert;
mod doctor;
mod exec;
mod exits;
mod fastpath;
mod gate;
mod harness;
mod home;
mod ingress;
mod inside;
mod layer;
mod names;
mod nat;
mod openings;
mod questions;
mod resolvers;
mod servers;
mod traffic;
mod tun;
mod wireguard;
