//! Whom a flow is meant for: by the answers its client was given, and by what the flow itself shows.

mod known;
mod opening;
mod request;
mod shown;
mod sniff;

pub use known::{Learned, Names};
pub use shown::{Protocol, Shown};
pub use sniff::{Datagrams, Outcome, Stream};

/// Most bytes that are read before a name is given up.
pub const LONGEST_OPENING: usize = 16 << 10;
