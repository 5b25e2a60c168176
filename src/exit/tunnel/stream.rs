//! The bytes of one connection between a flow and a tunnel's endpoint. Both ends see how the other one ended: a pipe
//! alone cannot tell a reset from an end.

use crate::gateway::{ExitFault, Failure};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const GOING_ON: u8 = 0;
const RESET: u8 = 1;
const REFUSED: u8 = 2;
const NO_WAY: u8 = 3;

/// What the endpoint writes first: the connection stands.
const GREETING: u8 = 1;

/// One end.
#[derive(Debug)]
pub(in crate::exit) struct Pipe {
    socket: Socket,
    fate: Arc<AtomicU8>,
}

impl Pipe {
    /// Two ends that never block.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let (ours, theirs) = Socket::pair(Domain::UNIX, kind, None)?;
        let fate = Arc::new(AtomicU8::new(GOING_ON));
        let other = Arc::clone(&fate);
        Ok((
            Self { socket: ours, fate },
            Self {
                socket: theirs,
                fate: other,
            },
        ))
    }

    /// The flow's end: whether the connection stands.
    ///
    /// # Errors
    /// Why it never will.
    pub(in crate::exit) fn is_connected(&self) -> Result<bool, Failure> {
        match (&self.socket).read(&mut [0]) {
            Ok(1..) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Ok(0) | Err(_) => Err(match self.fate.load(Ordering::Acquire) {
                REFUSED => Failure::Refused,
                NO_WAY => Failure::Unreachable,
                _ => Failure::Exit(ExitFault::Unreachable),
            }),
        }
    }

    /// The endpoint's end: it stands.
    pub(super) fn greet(&mut self) {
        // The first byte always fits.
        let _ = (&self.socket).write(&[GREETING]);
    }

    /// The other end was reset, or is to see that this one was when it is dropped.
    pub(super) fn was_reset(&self) -> bool {
        self.fate.load(Ordering::Acquire) == RESET
    }

    pub(in crate::exit) fn reset(&self) {
        self.fate.store(RESET, Ordering::Release);
    }

    pub(super) fn refuse(&self) {
        self.fate.store(REFUSED, Ordering::Release);
    }

    /// The endpoint's end: behind the tunnel there is no way to the destination.
    pub(super) fn give_up(&self) {
        self.fate.store(NO_WAY, Ordering::Release);
    }

    pub(in crate::exit) fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        match (&self.socket).read(room) {
            Ok(0) if !room.is_empty() && self.was_reset() => Err(ErrorKind::ConnectionReset.into()),
            outcome => outcome,
        }
    }

    pub(in crate::exit) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        // A signal would end the process.
        self.socket.send_with_flags(bytes, libc::MSG_NOSIGNAL)
    }

    pub(in crate::exit) fn finish(&self) -> io::Result<()> {
        self.socket.shutdown(Shutdown::Write)
    }
}

impl AsFd for Pipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_is_told_from_an_end() {
        for reset in [false, true] {
            let (flow, mut endpoint) = Pipe::pair().unwrap();
            assert!(!flow.is_connected().unwrap());
            endpoint.greet();
            assert!(flow.is_connected().unwrap());
            assert_eq!(endpoint.write(b"last").unwrap(), 4);
            if reset {
                endpoint.reset();
            }
            drop(endpoint);
            let mut room = [0; 10];
            assert_eq!(flow.read(&mut room).unwrap(), 4);
            let end = flow.read(&mut room);
            assert_eq!(end.is_err(), reset);
            assert!(flow.write(b"too late").is_err());
        }
    }

    #[test]
    fn a_refusal_is_told_from_an_endpoint_that_is_gone() {
        let (flow, endpoint) = Pipe::pair().unwrap();
        endpoint.refuse();
        drop(endpoint);
        assert_eq!(flow.is_connected(), Err(Failure::Refused));
        let (flow, endpoint) = Pipe::pair().unwrap();
        endpoint.give_up();
        drop(endpoint);
        assert_eq!(flow.is_connected(), Err(Failure::Unreachable));
        let (flow, endpoint) = Pipe::pair().unwrap();
        drop(endpoint);
        assert_eq!(
            flow.is_connected(),
            Err(Failure::Exit(ExitFault::Unreachable))
        );
    }
}
