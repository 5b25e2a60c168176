//! The ways out. Every socket to the outside is made here, and none without a permit.
#![expect(clippy::disallowed_types, reason = "the shell holds the sockets")]

mod burst;
mod datagram;
mod direct;
mod echo;

pub use burst::{Burst, Target};
pub use datagram::{Datagrams, Problem, Received, control};
pub use direct::Direct;
pub use echo::Echo;

use crate::gateway::Failure;
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
