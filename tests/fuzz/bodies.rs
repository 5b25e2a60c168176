//! What each fuzz target does with its bytes. `tests/fuzz_corpus.rs` replays the corpus through the same functions.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::wildcard_enum_match_arm,
    reason = "a panic is how a fuzz target reports"
)]

#[path = "bodies/dissect.rs"]
mod dissect;
#[path = "bodies/fragment.rs"]
mod fragment;
#[path = "bodies/jurisdiction.rs"]
mod jurisdiction;
#[path = "bodies/names.rs"]
mod names;
#[path = "bodies/packet.rs"]
mod packet;
#[path = "bodies/policy.rs"]
mod policy;
#[path = "bodies/sanitize.rs"]
mod sanitize;

/// A function that panics if the bytes show a fault.
pub(crate) type Body = fn(&[u8]);

/// All targets; each has its corpus in `corpus/<name>/`.
pub(crate) fn targets() -> impl Iterator<Item = &'static (&'static str, Body)> {
    WHOLE.iter().chain(dissect::TARGETS)
}

/// Those that take what the program takes.
const WHOLE: &[(&str, Body)] = &[
    ("packet", packet::run),
    ("fragment", fragment::run),
    ("datagram", sanitize::datagram),
    ("stream", sanitize::stream),
    ("capture", sanitize::capture),
    ("policy", policy::run),
    ("jurisdiction", jurisdiction::run),
    ("question", names::question),
    ("hello", names::hello),
    ("initial", names::initial),
];
