//! Whom a flow is meant for: by the answers its client was given, and by what the flow itself shows.

mod cache;
mod known;
mod opening;
mod question;
mod request;
mod screen;
mod shown;
mod sniff;

pub use cache::{Cache, Cached};
pub use known::{Learned, Names};
pub use question::{Key, Question};
pub use screen::{is_below, rebinds, screen};
pub use shown::{Protocol, Shown};
pub use sniff::{Datagrams, Outcome, Stream};

/// Most bytes that are read before a name is given up.
pub const LONGEST_OPENING: usize = 16 << 10;
