//! What is said to a proxy before the bytes of a flow: pure, so that every answer can be tried on it.

use super::http_connect::Connect;
use super::socks5::Negotiation;
use crate::gateway::{ExitFault, Failure};
use std::fmt;
use std::net::SocketAddr;

/// Whom a proxy is to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// An address and port.
    Address(SocketAddr),
    /// A name (A-labels, at most 253 bytes), which the proxy looks up, and a port.
    Name(Box<str>, u16),
}

/// How far a handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More must be written or read.
    Waiting,
    /// What follows belongs to the flow. With SOCKS5 the address that the proxy bound.
    Done(Option<SocketAddr>),
}

/// Why a proxy did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// It answers what the protocol does not allow, or more than is bearable.
    #[error("the proxy's answer is malformed")]
    Malformed,
    /// It wants other credentials, or some where there are none.
    #[error("the proxy does not accept the credentials")]
    Credentials,
    /// It cannot do this at all.
    #[error("the proxy does not support this")]
    Unsupported,
    /// Its own rules forbid it.
    #[error("the proxy's rules forbid this destination")]
    Forbidden,
    /// The destination refused it.
    #[error("the destination refused the proxy")]
    Refused,
    /// It finds no way to the destination.
    #[error("the proxy cannot reach the destination")]
    Unreachable,
    /// The destination did not answer it in time.
    #[error("the destination did not answer the proxy")]
    TimedOut,
}

/// One conversation with one proxy.
#[derive(Debug)]
pub enum Handshake {
    /// RFC 1928.
    Socks5(Negotiation),
    /// RFC 9110, section 9.3.6.
    HttpConnect(Connect),
}

impl Handshake {
    /// What is to be written next; empty if it is the proxy's turn.
    pub fn output(&self) -> &[u8] {
        match self {
            Self::Socks5(negotiation) => negotiation.output(),
            Self::HttpConnect(connect) => connect.output(),
        }
    }

    /// That much of [`output`](Self::output) was written.
    pub fn written(&mut self, bytes: usize) {
        match self {
            Self::Socks5(negotiation) => negotiation.written(bytes),
            Self::HttpConnect(connect) => connect.written(bytes),
        }
    }

    /// Takes bytes of the proxy; says how many of them were its own, the others belong to the flow. Zero: it wants more
    /// than these at once, or is done.
    ///
    /// # Errors
    /// [`Refusal`]; the connection is of no use then.
    pub fn input(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match self {
            Self::Socks5(negotiation) => negotiation.input(bytes),
            Self::HttpConnect(connect) => connect.input(bytes),
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        match self {
            Self::Socks5(negotiation) => negotiation.progress(),
            Self::HttpConnect(connect) => connect.progress(),
        }
    }
}

impl Refusal {
    /// What it means for the flow.
    pub fn failure(self) -> Failure {
        match self {
            Self::Malformed => Failure::Exit(ExitFault::Malformed),
            Self::Credentials => Failure::Exit(ExitFault::Credentials),
            Self::Unsupported => Failure::Exit(ExitFault::Unsupported),
            Self::Forbidden => Failure::Forbidden,
            Self::Refused => Failure::Refused,
            Self::Unreachable => Failure::Unreachable,
            Self::TimedOut => Failure::TimedOut,
        }
    }
}

impl fmt::Display for Target {
    /// As `HOST:PORT` (RFC 9110, section 7.1): IPv6 addresses in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}
