//! The socket of one mapping: of this machine, or the relay of an exit.

use crate::exit::tunnel::{self, Taken};
use crate::exit::{Association, Carrier, Datagrams, Echo, Problem, Watch, Ways};
use crate::gateway::{Answer, Datagram, ExitFault, Failure, Gateway, MappingId, Snapshot};
use crate::packet::protocol;
use crate::policy::Permit;
use crate::time::Time;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// Calls for a datagram before everything else gets its turn.
const PERSISTENCE: usize = 64;
/// After an exit has failed a mapping it is tried again, but not for every datagram …
const RETRY: Duration = Duration::from_millis(500);
/// … and still less if it said so itself.
const RETRY_REFUSED: Duration = Duration::from_secs(5);

/// The socket of a mapping.
pub(super) struct Mapped {
    pub(super) mapping: MappingId,
    socket: MappedSocket,
    watch: Option<Arc<Watch>>,
    /// What a tunnel told of datagrams that were sent.
    complaints: Vec<Problem>,
}

enum MappedSocket {
    Datagrams(Datagrams),
    Echo(Echo),
    Relay(Box<Association>),
    Tunnel(tunnel::Datagrams),
    /// The exit failed; not to be tried again before this.
    Broken(Time),
}

/// How a mapping's sockets are known to the registry.
#[derive(Clone, Copy)]
pub(super) struct Tokens {
    pub(super) datagrams: Token,
    pub(super) control: Token,
}

impl Mapped {
    /// Opens the socket for a datagram.
    pub(super) fn open(
        datagram: &Datagram,
        ways: &Ways,
        (registry, tokens): (&Registry, Tokens),
    ) -> Result<Self, Failure> {
        let (mapping, permit) = (datagram.mapping, &datagram.permit);
        let mut socket = socket(ways, permit)?;
        let registered = match &mut socket {
            MappedSocket::Datagrams(socket) => {
                listen(registry, socket.as_raw_fd(), tokens.datagrams)
            }
            MappedSocket::Echo(socket) => listen(registry, socket.as_raw_fd(), tokens.datagrams),
            MappedSocket::Relay(association) => {
                let interest = Interest::READABLE | Interest::WRITABLE;
                let control = association.control().as_fd().as_raw_fd();
                registry.register(&mut SourceFd(&control), tokens.control, interest)
            }
            MappedSocket::Tunnel(way) => listen(registry, way.as_raw_fd(), tokens.datagrams),
            MappedSocket::Broken(_) => Ok(()),
        };
        registered.map_err(|error| crate::exit::failure(&error))?;
        Ok(Self {
            mapping,
            socket,
            watch: ways.watch(permit),
            complaints: Vec::new(),
        })
    }

    /// It is broken, but may be tried again by now.
    pub(super) fn is_worth_another_try(&self, now: Time) -> bool {
        matches!(self.socket, MappedSocket::Broken(until) if now >= until)
    }

    /// This machine's own socket, which takes many datagrams at once.
    pub(super) fn datagrams(&mut self) -> Option<&mut Datagrams> {
        match &mut self.socket {
            MappedSocket::Datagrams(socket) => Some(socket),
            MappedSocket::Echo(_)
            | MappedSocket::Relay(_)
            | MappedSocket::Tunnel(_)
            | MappedSocket::Broken(_) => None,
        }
    }

    /// Its datagrams can go in bursts, from [`datagrams`](Self::datagrams).
    pub(super) fn bursts(&self) -> bool {
        matches!(self.socket, MappedSocket::Datagrams(_))
    }

    /// Tells who watches the exit that it is in use.
    pub(super) fn used(&self) {
        if let Some(watch) = &self.watch {
            watch.used();
        }
    }

    /// Sends, unless it [bursts](Self::bursts). What is not taken is lost, as on any link. False if the exit is broken.
    pub(super) fn send(&mut self, datagram: &Datagram, payload: &[u8]) -> bool {
        let to = datagram.permit.destination();
        self.used();
        let _ = match (&mut self.socket, datagram.echo) {
            (MappedSocket::Datagrams(_), _) => Ok(()),
            (MappedSocket::Relay(association), _) => {
                association.send(payload, to, datagram.segment);
                Ok(())
            }
            (MappedSocket::Tunnel(way), echo) => {
                let sequence = echo.map_or(0, |(_, sequence)| sequence);
                way.send(payload, to, sequence, datagram.segment);
                Ok(())
            }
            (MappedSocket::Echo(socket), Some((_, sequence))) => {
                socket.send(payload, to.ip(), sequence, datagram.hop_limit)
            }
            (MappedSocket::Echo(_), None) => Ok(()),
            (MappedSocket::Broken(_), _) => return false,
        };
        true
    }

    /// The connection to a proxy has something to say; true if there is a new socket to listen to.
    pub(super) fn advance(
        &mut self,
        snapshot: &Snapshot,
        (registry, tokens): (&Registry, Tokens),
        now: Time,
    ) -> Result<(), Failure> {
        let MappedSocket::Relay(association) = &mut self.socket else {
            return Ok(());
        };
        let (policy, data) = (&snapshot.policy, &snapshot.data);
        let may = |server, relay| {
            // Nobody far away may have us send to this machine or to its neighbours.
            data.lookup(server).special == data.lookup(relay).special
                && policy.forbids_exit_at(relay, None, data).is_none()
        };
        let outcome = association.advance(may).and_then(|ready| {
            match association.relay().filter(|_| ready) {
                None => Ok(()),
                Some(relay) => listen(registry, relay, tokens.datagrams)
                    .map_err(|error| crate::exit::failure(&error)),
            }
        });
        if let Err(failure) = outcome {
            self.fail(failure, now);
        }
        outcome
    }

    fn fail(&mut self, failure: Failure, now: Time) {
        let gone = failure == Failure::Exit(ExitFault::Unreachable);
        if gone && let Some(watch) = &self.watch {
            watch.suspect();
        }
        let pause = if gone { RETRY } else { RETRY_REFUSED };
        self.socket = MappedSocket::Broken(now + pause);
    }

    /// The next answer, with room for headers before it.
    pub(super) fn receive<'a>(
        &mut self,
        buffer: &'a mut [u8],
        scratch: &mut [u8],
    ) -> Option<(SocketAddr, Answer<'a>)> {
        let (from, payload, segment, sequence) = match &self.socket {
            MappedSocket::Datagrams(socket) => {
                let received = persist(|| socket.receive(room(buffer), scratch).map(Some))?;
                (received.from, 0..received.len, received.segment, 0)
            }
            MappedSocket::Relay(association) => {
                let (from, payload) = persist(|| association.receive(room(buffer), scratch))?;
                (from, payload, 0, 0)
            }
            MappedSocket::Tunnel(way) => {
                let complaints = &mut self.complaints;
                let (from, payload, sequence) = persist(|| match way.receive(room(buffer))? {
                    Some(Taken::Datagram(from, payload, sequence)) => {
                        Ok(Some((from, payload, sequence)))
                    }
                    Some(Taken::Problem(problem)) if complaints.len() < PERSISTENCE => {
                        complaints.push(problem);
                        Ok(None)
                    }
                    Some(Taken::Problem(_)) | None => Ok(None),
                })?;
                (from, payload, 0, sequence)
            }
            MappedSocket::Echo(socket) => {
                let reply = persist(|| socket.receive(room(buffer)))?;
                let from = SocketAddr::new(reply.from, 0);
                (from, reply.payload..reply.end, 0, reply.sequence)
            }
            MappedSocket::Broken(_) => return None,
        };
        let buffer = buffer.get_mut(..Answer::ROOM + payload.end)?;
        let answer = Answer {
            buffer,
            payload: Answer::ROOM + payload.start,
            segment,
            sequence,
        };
        Some((from, answer))
    }

    /// Tells the client of ICMP errors that came back out of a tunnel.
    pub(super) fn pass_complaints(&mut self, gateway: &mut Gateway) {
        for problem in self.complaints.drain(..) {
            gateway.unreachable(self.mapping, problem.to, problem.why, problem.offender);
        }
    }

    /// Tells the client of ICMP errors that came back.
    pub(super) fn problems(&self, gateway: &mut Gateway, scratch: &mut [u8]) {
        match &self.socket {
            MappedSocket::Datagrams(socket) => {
                while let Some(problem) = socket.problem(scratch) {
                    gateway.unreachable(self.mapping, problem.to, problem.why, problem.offender);
                }
            }
            MappedSocket::Relay(association) => {
                while association.clear_problem(scratch) {
                    if let Some(watch) = &self.watch {
                        watch.suspect();
                    }
                }
            }
            MappedSocket::Echo(_) | MappedSocket::Tunnel(_) | MappedSocket::Broken(_) => {}
        }
    }
}

fn socket(ways: &Ways, permit: &Permit) -> Result<MappedSocket, Failure> {
    let opened = match ways.carrier(permit)? {
        Carrier::Direct(direct) if permit.protocol() == protocol::UDP => {
            direct.datagrams(permit).map(MappedSocket::Datagrams)
        }
        Carrier::Direct(direct) => direct.echo(permit).map(MappedSocket::Echo),
        Carrier::Relay(association) => Ok(MappedSocket::Relay(association)),
        Carrier::Tunnel(way) => Ok(MappedSocket::Tunnel(way)),
    };
    opened.map_err(|error| crate::exit::failure(&error))
}

fn listen(registry: &Registry, socket: RawFd, token: Token) -> io::Result<()> {
    registry.register(&mut SourceFd(&socket), token, Interest::READABLE)
}

fn room(buffer: &mut [u8]) -> &mut [u8] {
    buffer.get_mut(Answer::ROOM..).unwrap_or_default()
}

/// Receives until there is something for us or nothing at all. An ICMP error that waits on the socket fails one call,
/// whatever the call is; a raw socket shows others' messages too.
fn persist<T>(mut receive: impl FnMut() -> io::Result<Option<T>>) -> Option<T> {
    for _ in 0..PERSISTENCE {
        match receive() {
            Ok(Some(received)) => return Some(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Ok(None) | Err(_) => {}
        }
    }
    None
}
