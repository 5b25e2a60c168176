//! The exits of a policy as they can be used now. Immutable: when something changes, another one takes its place.

use super::association::Association;
use super::direct::Direct;
use super::handshake::{Handshake, Target};
use super::http_connect::Connect;
use super::plan::Protocol;
use super::secret::Credentials;
use super::socks5::{Negotiation, Request};
use super::stream::Stream;
use super::tunnel::{self, Tunnel};
use crate::gateway::{ExitFault, Failure};
use crate::policy::{ExitState, Permit, Route, Server};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// All ways out: this machine itself, and the exits of the policy by their ids.
#[derive(Debug, Default)]
pub struct Ways {
    own: Arc<Direct>,
    exits: Vec<Way>,
}

/// One exit.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) state: ExitState,
    pub(super) means: Means,
    pub(super) watch: Arc<Watch>,
}

/// By which means an exit is used.
#[derive(Clone, Debug)]
pub(super) enum Means {
    /// By none: a group, or one that is not ready.
    None,
    Direct(Arc<Direct>),
    Proxy(Arc<Proxy>),
    Tunnel(Arc<Tunnel>),
}

/// A proxy at an address that the policy lets it have.
#[derive(Debug)]
pub struct Proxy {
    pub(super) server: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) credentials: Option<Arc<Credentials>>,
    pub(super) direct: Direct,
}

/// What whoever uses an exit tells whoever looks after it.
#[derive(Debug, Default)]
pub struct Watch {
    used: AtomicBool,
    pub(super) suspect: Notify,
}

/// The way of one mapping.
#[derive(Debug)]
pub enum Carrier {
    /// Sockets of this machine.
    Direct(Arc<Direct>),
    /// A relay of a proxy.
    Relay(Box<Association>),
    /// A way into a tunnel.
    Tunnel(tunnel::Datagrams),
}

impl Ways {
    /// No exits.
    pub fn direct(own: Direct) -> Self {
        Self::new(Arc::new(own), Vec::new())
    }

    pub(super) fn new(own: Arc<Direct>, exits: Vec<Way>) -> Self {
        Self { own, exits }
    }

    /// What is known of the exits, in their order.
    pub fn states(&self) -> Vec<ExitState> {
        self.exits.iter().map(|exit| exit.state).collect()
    }

    /// Begins to connect as a permit says. `name` is how the client calls the destination, if that is certain: an exit
    /// that looks names up itself is told this instead of the address.
    ///
    /// # Errors
    /// Why there is no connection to be had.
    pub fn dial(&self, permit: &Permit, name: Option<&str>) -> Result<Stream, Failure> {
        match self.means(permit)? {
            Means::Direct(direct) => direct.dial(permit).map(Stream::direct),
            Means::Proxy(proxy) => {
                let to = permit.destination();
                let target = match name {
                    Some(name) => Target::Name(name.into(), to.port()),
                    None => Target::Address(to),
                };
                let stream = proxy.connect(target);
                return stream.map_err(|error| super::exit_failure(&error));
            }
            Means::Tunnel(tunnel) => return tunnel.connect(permit).map(Stream::tunnelled),
            Means::None => return Err(Failure::Exit(ExitFault::Unreachable)),
        }
        .map_err(|error| super::failure(&error))
    }

    /// The way for the datagrams of one mapping.
    ///
    /// # Errors
    /// Why there is none.
    pub fn carrier(&self, permit: &Permit) -> Result<Carrier, Failure> {
        match self.means(permit)? {
            Means::Direct(direct) => Ok(Carrier::Direct(direct)),
            Means::Proxy(proxy) => match proxy.associate() {
                Ok(association) => Ok(Carrier::Relay(Box::new(association))),
                Err(error) => Err(super::exit_failure(&error)),
            },
            Means::Tunnel(tunnel) => tunnel.datagrams(permit).map(Carrier::Tunnel),
            Means::None => Err(Failure::Exit(ExitFault::Unreachable)),
        }
    }

    /// Who looks after the exit of a permit.
    pub fn watch(&self, permit: &Permit) -> Option<Arc<Watch>> {
        let exit = self.exits.get(permit.exit()?.index())?;
        Some(Arc::clone(&exit.watch))
    }

    fn means(&self, permit: &Permit) -> Result<Means, Failure> {
        match permit.route() {
            Route::Direct => Ok(Means::Direct(Arc::clone(&self.own))),
            Route::Via(exit) => {
                let way = self.exits.get(exit.index());
                let way = way.ok_or(Failure::Exit(ExitFault::Unreachable))?;
                way.watch.used();
                Ok(way.means.clone())
            }
        }
    }
}

impl Proxy {
    /// Asks for a connection.
    pub(super) fn connect(&self, target: Target) -> io::Result<Stream> {
        let handshake = match &self.protocol {
            Protocol::Socks5 => self.negotiation(Request::Connect(target)),
            Protocol::HttpConnect(_) => {
                let connect = Connect::new(&target, self.credentials.as_deref());
                Handshake::HttpConnect(connect.ok_or(io::ErrorKind::InvalidInput)?)
            }
        };
        self.dial(Some(handshake))
    }

    /// Asks for a relay of datagrams.
    pub(super) fn associate(&self) -> io::Result<Association> {
        if !matches!(self.protocol, Protocol::Socks5) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let control = self.dial(Some(self.negotiation(Request::Associate)))?;
        Ok(Association::new(control, self.server, self.direct.clone()))
    }

    /// Asks for nothing, to see whether it is there and accepts us, as far as its protocol tells.
    pub(super) fn greet(&self) -> io::Result<Stream> {
        match self.protocol {
            Protocol::Socks5 => self.dial(Some(self.negotiation(Request::Greet))),
            Protocol::HttpConnect(_) => self.dial(None),
        }
    }

    fn negotiation(&self, request: Request) -> Handshake {
        Handshake::Socks5(Negotiation::new(request, self.credentials.clone()))
    }

    fn dial(&self, handshake: Option<Handshake>) -> io::Result<Stream> {
        let secured = match &self.protocol {
            Protocol::Socks5 => None,
            Protocol::HttpConnect(secured) => secured.as_ref(),
        };
        Stream::by_proxy(self.direct.connect(self.server)?, secured, handshake)
    }
}

impl Means {
    /// A connection to who tells its egress; the policy was asked about that server when it was loaded.
    pub(super) fn open(&self, to: &Server) -> Result<Stream, Failure> {
        let unsupported = Err(Failure::Exit(ExitFault::Unsupported));
        match (self, to) {
            (Self::Direct(direct), Server::Address(to)) => match direct.connect(*to) {
                Ok(socket) => Ok(Stream::direct(socket)),
                Err(error) => Err(super::failure(&error)),
            },
            (Self::Tunnel(tunnel), Server::Address(to)) => tunnel.open(*to).map(Stream::tunnelled),
            (Self::Proxy(proxy), to) => {
                let target = match to {
                    Server::Address(address) => Target::Address(*address),
                    Server::Name(name, port) => Target::Name(name.clone(), *port),
                };
                let stream = proxy.connect(target);
                stream.map_err(|error| super::exit_failure(&error))
            }
            // Nobody there looks names up; the policy was refused for it.
            (Self::Direct(_) | Self::Tunnel(_), Server::Name(..)) => unsupported,
            (Self::None, _) => Err(Failure::Exit(ExitFault::Unreachable)),
        }
    }

    /// The same means, to the same place.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) => true,
            (Self::Direct(a), Self::Direct(b)) => Arc::ptr_eq(a, b),
            (Self::Proxy(a), Self::Proxy(b)) => a.server == b.server,
            (Self::Tunnel(a), Self::Tunnel(b)) => Arc::ptr_eq(a, b),
            (Self::None | Self::Direct(_) | Self::Proxy(_) | Self::Tunnel(_), _) => false,
        }
    }
}

impl Watch {
    /// Something was sent by the exit, or came by it.
    pub fn used(&self) {
        // Most often it is set already, and reading costs others nothing.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
    }

    /// Something went wrong there: it is worth a look at once.
    pub fn suspect(&self) {
        self.suspect.notify_one();
    }

    /// Whether something was sent since this was last asked.
    pub(super) fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }
}
