//! Datagrams through a SOCKS5 proxy (RFC 1928, section 7): a connection that asks for a relay and must stay open, and a
//! socket to that relay.

use super::datagram::Datagrams;
use super::direct::Direct;
use super::socks5;
use super::stream::{Advance, Stream};
use crate::gateway::{ExitFault, Failure};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

/// Datagrams that wait until the relay is known; more are lost, as on any link.
const WAITING: usize = 32;
/// Bytes handed to the kernel in one call, so that the IP header still fits (RFC 791), and datagrams (`udp(7)`).
const MOST_BYTES: usize = 65_000;
const MOST_SEGMENTS: usize = 64;

/// The relay of one mapping.
#[derive(Debug)]
pub struct Association {
    control: Stream,
    server: SocketAddr,
    direct: Direct,
    relay: Option<Relay>,
    waiting: VecDeque<Waiting>,
    /// Where headers are put between datagrams that leave together.
    several: Vec<u8>,
}

#[derive(Debug)]
struct Relay {
    socket: Datagrams,
    address: SocketAddr,
}

#[derive(Debug)]
struct Waiting {
    to: SocketAddr,
    segment: u16,
    payload: Box<[u8]>,
}

impl Association {
    pub(super) fn new(control: Stream, server: SocketAddr, direct: Direct) -> Self {
        Self {
            control,
            server,
            direct,
            relay: None,
            waiting: VecDeque::new(),
            several: Vec::new(),
        }
    }

    /// The connection to the proxy.
    pub fn control(&mut self) -> &mut Stream {
        &mut self.control
    }

    /// The socket to the relay, once there is one.
    pub fn relay(&self) -> Option<RawFd> {
        self.relay.as_ref().map(|relay| relay.socket.as_raw_fd())
    }

    /// Goes on when the connection to the proxy has something to say; true when the relay has just become ready. `may`
    /// says whether datagrams may go to a relay at another address than its proxy's; it is told both.
    ///
    /// # Errors
    /// What the relay failed of, or ended by.
    pub fn advance(&mut self, may: impl FnOnce(IpAddr, IpAddr) -> bool) -> Result<bool, Failure> {
        if self.relay.is_some() {
            return self.watch().map(|()| false);
        }
        let bound = match self.control.advance()? {
            Advance::Waiting => return Ok(false),
            Advance::Ready(bound) => bound.ok_or(Failure::Exit(ExitFault::Malformed))?,
        };
        let address = if bound.ip().is_unspecified() {
            SocketAddr::new(self.server.ip(), bound.port())
        } else {
            bound
        };
        let (server, relay) = (self.server.ip(), address.ip());
        if relay != server && !may(server, relay) {
            return Err(Failure::Forbidden);
        }
        let socket = self.direct.datagrams_to(address.ip(), false);
        let socket = socket.map_err(|error| super::failure(&error))?;
        self.relay = Some(Relay { socket, address });
        for Waiting {
            to,
            segment,
            payload,
        } in std::mem::take(&mut self.waiting)
        {
            self.send(&payload, to, segment);
        }
        Ok(true)
    }

    /// Sends one datagram, or several of `segment` bytes each, or keeps them until the relay is ready. What the kernel
    /// does not take is lost, as on any link.
    pub fn send(&mut self, payload: &[u8], to: SocketAddr, segment: u16) {
        let Some(Relay { socket, address }) = &self.relay else {
            if self.waiting.len() < WAITING {
                let payload = payload.into();
                self.waiting.push_back(Waiting {
                    to,
                    segment,
                    payload,
                });
            }
            return;
        };
        let (header, len) = socks5::header(to);
        let header = header.get(..len).unwrap_or_default();
        let segment = usize::from(segment);
        if segment == 0 || payload.len() <= segment {
            let _ = socket.send_parts([header, payload], *address, 0);
            return;
        }
        let step = segment + len;
        let batch = (MOST_BYTES / step).clamp(1, MOST_SEGMENTS) * segment;
        for batch in payload.chunks(batch) {
            self.several.clear();
            for datagram in batch.chunks(segment) {
                self.several.extend_from_slice(header);
                self.several.extend_from_slice(datagram);
            }
            let size = u16::try_from(step).unwrap_or(u16::MAX);
            let together = socket.send_parts([&self.several, &[]], *address, size);
            if together.is_err() {
                // With their headers they may be longer than the link's packets, which the kernel then cuts one by one.
                for datagram in self.several.chunks(step) {
                    let _ = socket.send_parts([datagram, &[]], *address, 0);
                }
            }
        }
    }

    /// Receives a datagram into `buffer`: from whom it is, and where its payload lies. `Ok(None)` for what is not of the
    /// relay or is none.
    ///
    /// # Errors
    /// Those of `recvmsg(2)`; *would block* when nothing is there.
    pub fn receive(
        &self,
        buffer: &mut [u8],
        control: &mut [u8],
    ) -> io::Result<Option<(SocketAddr, std::ops::Range<usize>)>> {
        let Some(Relay { socket, address }) = &self.relay else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let received = socket.receive(buffer, control)?;
        if received.from != *address {
            return Ok(None);
        }
        let bytes = buffer.get(..received.len).unwrap_or_default();
        let read = socks5::read_datagram(bytes);
        Ok(read.map(|(from, payload)| (from, payload..received.len)))
    }

    /// Forgets an ICMP error that came back from the way to the relay; true if there was one.
    pub fn clear_problem(&self, control: &mut [u8]) -> bool {
        let relay = self.relay.as_ref();
        relay.is_some_and(|relay| relay.socket.problem(control).is_some())
    }

    /// The relay lives as long as the connection that asked for it.
    fn watch(&mut self) -> Result<(), Failure> {
        let mut nothing = [0; 64];
        match self.control.read(&mut nothing) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            // Nothing may be said there any more, and the end is the end.
            Ok(0) | Err(_) => Err(Failure::Exit(ExitFault::Unreachable)),
            Ok(_) => Err(Failure::Exit(ExitFault::Malformed)),
        }
    }
}
