//! The ways out. Every socket to the outside is made here, and none without a permit.
#![expect(clippy::disallowed_types, reason = "the shell holds the sockets")]

mod datagram;
mod direct;
mod echo;

pub use datagram::{Datagrams, Problem, Received, control};
pub use direct::Direct;
pub use echo::Echo;

use crate::gateway::Failure;
use std::io;

/// What an error of dialling means for the flow.
pub fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Failure::Refused,
        io::ErrorKind::TimedOut => Failure::TimedOut,
        io::ErrorKind::PermissionDenied => Failure::Forbidden,
        _ => match error.raw_os_error() {
            Some(
                libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS | libc::EADDRNOTAVAIL,
            ) => Failure::Exhausted,
            _ => Failure::Unreachable,
        },
    }
}
