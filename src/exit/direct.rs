//! From this machine itself.

use super::{Datagrams, Echo};
use crate::policy::Permit;
use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// Makes sockets that leave from this machine.
#[derive(Clone, Debug, Default)]
pub struct Direct {
    /// Firewall mark of our own traffic, by which routing rules keep it out of the gate; needs `CAP_NET_ADMIN`.
    pub mark: Option<u32>,
    /// The link takes UDP super-datagrams, so that merged ones may be received.
    pub merge: bool,
    /// The only interface by which packets may leave, if there is one.
    pub interface: Option<Box<str>>,
    /// The addresses they leave from, at most one of each family; another family cannot leave then.
    pub addresses: Vec<IpAddr>,
}

impl Direct {
    /// Begins to connect to the permit's destination; the socket becomes writable when that is decided.
    ///
    /// # Errors
    /// Those of `socket(2)` and `connect(2)`.
    pub fn dial(&self, permit: &Permit) -> io::Result<TcpStream> {
        self.connect(permit.destination())
    }

    /// Begins to connect to a proxy, or to a permit's destination.
    ///
    /// # Errors
    /// Those of `socket(2)` and `connect(2)`.
    pub(super) fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.socket(to.ip(), Type::STREAM, Protocol::TCP)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&to.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(TcpStream::from_std(socket.into()))
    }

    /// A socket for the datagrams of one client address and port to remotes of `permit`'s family.
    ///
    /// # Errors
    /// Those of `socket(2)` and `setsockopt(2)`.
    pub fn datagrams(&self, permit: &Permit) -> io::Result<Datagrams> {
        self.datagrams_to(permit.destination().ip(), self.merge)
    }

    /// The same to a relay; `merge` if merged datagrams may come in.
    pub(super) fn datagrams_to(&self, to: IpAddr, merge: bool) -> io::Result<Datagrams> {
        let socket = self.socket(to, Type::DGRAM, Protocol::UDP)?;
        Datagrams::new(socket, to.is_ipv6(), merge)
    }

    /// A socket for echo requests: an unprivileged one where the machine allows it, else a raw one.
    ///
    /// # Errors
    /// Those of `socket(2)`; *permission denied* where this user may have neither.
    pub fn echo(&self, permit: &Permit) -> io::Result<Echo> {
        let to = permit.destination().ip();
        let protocol = if to.is_ipv4() {
            Protocol::ICMPV4
        } else {
            Protocol::ICMPV6
        };
        match self.socket(to, Type::DGRAM, protocol) {
            Ok(socket) => Ok(Echo::new(socket, to.is_ipv6(), false)),
            Err(_) => Ok(Echo::new(
                self.socket(to, Type::RAW, protocol)?,
                to.is_ipv6(),
                true,
            )),
        }
    }

    fn socket(&self, to: IpAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let domain = if to.is_ipv4() {
            Domain::IPV4
        } else {
            Domain::IPV6
        };
        let socket = Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol))?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        if let Some(interface) = &self.interface {
            socket.bind_device(Some(interface.as_bytes()))?;
        }
        if !self.addresses.is_empty() {
            let from = self
                .addresses
                .iter()
                .find(|from| from.is_ipv4() == to.is_ipv4());
            let from = from.ok_or(io::ErrorKind::NetworkUnreachable)?;
            socket.bind(&SocketAddr::new(*from, 0).into())?;
        }
        Ok(socket)
    }
}
