//! The ways out. Every socket to the outside is made here, and none without a permit.
#![expect(clippy::disallowed_types, reason = "the shell holds the sockets")]

mod association;
mod burst;
mod channel;
mod datagram;
mod direct;
mod echo;
mod egress;
pub mod handshake;
mod health;
pub mod http_connect;
mod keeper;
mod plan;
mod profile;
mod secret;
mod service;
pub mod socks5;
mod standing;
mod stream;
mod talk;
pub mod tunnel;
mod ways;

pub use association::Association;
pub use burst::{Burst, Target};
pub use channel::Secured;
pub use datagram::{Datagrams, Problem, Received, control};
pub use direct::Direct;
pub use echo::Echo;
pub use plan::Exits;
pub use profile::{Profile, Profiles};
pub use secret::{Credentials, Hidden};
pub use service::{Prepared, Service};
pub use standing::{Finding, Publish, Standing, Standings};
pub use stream::{Advance, Stream};
pub use talk::Talk;
pub use ways::{Carrier, Proxy, Watch, Ways};

use crate::gateway::{ExitFault, Failure};
use std::io;

/// What an error of dialling means for the flow.
pub fn failure(error: &io::Error) -> Failure {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, PermissionDenied, TimedOut};
    const NOTHING_LEFT: [i32; 5] = [
        libc::EMFILE,
        libc::ENFILE,
        libc::ENOMEM,
        libc::ENOBUFS,
        libc::EADDRNOTAVAIL,
    ];
    let kind = error.kind();
    if matches!(kind, ConnectionRefused | ConnectionReset) {
        Failure::Refused
    } else if kind == TimedOut {
        Failure::TimedOut
    } else if kind == PermissionDenied {
        Failure::Forbidden
    } else if error
        .raw_os_error()
        .is_some_and(|code| NOTHING_LEFT.contains(&code))
    {
        Failure::Exhausted
    } else {
        Failure::Unreachable
    }
}

/// What an error on the way to a proxy means for the flow.
fn exit_failure(error: &io::Error) -> Failure {
    if failure(error) == Failure::Exhausted {
        Failure::Exhausted
    } else if error.kind() == io::ErrorKind::InvalidData {
        Failure::Exit(ExitFault::Malformed)
    } else {
        Failure::Exit(ExitFault::Unreachable)
    }
}
