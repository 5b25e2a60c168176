//! A connection through an exit: dialled, introduced to the proxy if there is one, and then the flow's.

use super::channel::{Broken, Channel, Secured};
use super::handshake::{Handshake, Progress, Refusal};
use super::tunnel::Pipe;
use crate::gateway::Failure;
use mio::net::TcpStream;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

/// A connection that may still be on its way.
#[derive(Debug)]
pub struct Stream {
    channel: Channel,
    handshake: Option<Handshake>,
    /// The other end of the socket is a proxy: what goes wrong before it is done goes wrong there.
    by_proxy: bool,
    connected: bool,
}

/// What became of a connection on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// It waits for the other end.
    Waiting,
    /// It is the flow's from here on. With SOCKS5 the address that the proxy bound.
    Ready(Option<SocketAddr>),
}

impl Stream {
    /// To the destination itself.
    pub(super) fn direct(socket: TcpStream) -> Self {
        Self {
            channel: Channel::Plain(socket),
            handshake: None,
            by_proxy: false,
            connected: false,
        }
    }

    /// To the destination through a tunnel.
    pub(super) fn tunnelled(pipe: Pipe) -> Self {
        Self {
            channel: Channel::Tunnel(pipe),
            handshake: None,
            by_proxy: false,
            connected: false,
        }
    }

    /// To a proxy; without a handshake only to see whether it is there.
    ///
    /// # Errors
    /// If there is no TLS to be had for its name.
    pub(super) fn by_proxy(
        socket: TcpStream,
        secured: Option<&Secured>,
        handshake: Option<Handshake>,
    ) -> io::Result<Self> {
        Ok(Self {
            channel: Channel::new(socket, secured)?,
            handshake,
            by_proxy: true,
            connected: false,
        })
    }

    /// Goes on as far as it can; to be called whenever the socket is ready.
    ///
    /// # Errors
    /// What it failed of.
    pub fn advance(&mut self) -> Result<Advance, Failure> {
        if !self.connected {
            match self.channel.is_connected() {
                Ok(false) => return Ok(Advance::Waiting),
                Ok(true) => self.connected = true,
                Err(Broken::Socket(error)) => return Err(self.fault(&error)),
                Err(Broken::Tunnel(failure)) => return Err(failure),
            }
        }
        let outcome = match &mut self.handshake {
            None => self
                .channel
                .secure()
                .map_err(Interrupted::Broken)
                .map(|secure| match secure {
                    true => Advance::Ready(None),
                    false => Advance::Waiting,
                }),
            Some(handshake) => introduce(&mut self.channel, handshake),
        };
        match outcome {
            Ok(advance) => Ok(advance),
            Err(Interrupted::Refused(refusal)) => Err(refusal.failure()),
            Err(Interrupted::Broken(error)) => Err(self.fault(&error)),
        }
    }

    /// A read of fewer bytes than were asked for shows that there are no more now.
    pub fn short_reads_drain(&self) -> bool {
        self.channel.short_reads_drain()
    }

    /// A write of fewer bytes than there were shows that no more are taken now, and that it will be told when they are.
    pub fn short_writes_fill(&self) -> bool {
        self.channel.short_writes_fill()
    }

    /// Writes what the way takes.
    ///
    /// # Errors
    /// Those of `send(2)`, *would block* among them.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.channel.write(bytes)
    }

    /// Reads; zero is the end.
    ///
    /// # Errors
    /// Those of `recv(2)`, *would block* among them.
    pub fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.channel.read(room)
    }

    /// Sends what waits to be sent.
    ///
    /// # Errors
    /// Those of `send(2)`; *would block* if some of it still waits.
    pub fn flush(&mut self) -> io::Result<()> {
        self.channel.flush()
    }

    /// Nothing more will be written.
    ///
    /// # Errors
    /// Those of `shutdown(2)`.
    pub fn finish(&mut self) -> io::Result<()> {
        self.channel.finish()
    }

    /// Has the connection end with a RST when it is dropped.
    pub fn reset(&self) {
        self.channel.reset();
    }

    fn fault(&self, error: &io::Error) -> Failure {
        if self.by_proxy {
            super::exit_failure(error)
        } else {
            super::failure(error)
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

enum Interrupted {
    Refused(Refusal),
    Broken(io::Error),
}

/// Says and hears as much of a handshake as can be now.
fn introduce(channel: &mut Channel, handshake: &mut Handshake) -> Result<Advance, Interrupted> {
    loop {
        if let Progress::Done(bound) = handshake.progress() {
            return Ok(Advance::Ready(bound));
        }
        while !handshake.output().is_empty() {
            match channel.write(handshake.output()) {
                Ok(written) => handshake.written(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return listen(channel),
                Err(error) => return Err(Interrupted::Broken(error)),
            }
        }
        let mut outcome = Ok(0);
        let heard = channel.glance(|bytes| {
            outcome = handshake.input(bytes);
            outcome.unwrap_or(0)
        });
        match (outcome, heard) {
            (Err(refusal), _) => return Err(Interrupted::Refused(refusal)),
            (Ok(_), Ok((_, taken))) if taken > 0 => {}
            // What is there is not enough.
            (Ok(_), Ok(_)) => return Ok(Advance::Waiting),
            (Ok(_), Err(error)) if error.kind() == ErrorKind::WouldBlock => {
                return Ok(Advance::Waiting);
            }
            (Ok(_), Err(error)) => return Err(Interrupted::Broken(error)),
        }
    }
}

/// TLS has to hear before it can say anything.
fn listen(channel: &mut Channel) -> Result<Advance, Interrupted> {
    match channel.glance(|_| 0) {
        Ok(_) => Ok(Advance::Waiting),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Advance::Waiting),
        Err(error) => Err(Interrupted::Broken(error)),
    }
}
