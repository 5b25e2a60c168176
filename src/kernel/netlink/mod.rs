//! rtnetlink, blocking: what `ip link`, `ip address`, `ip route`, `ip rule` and `ip neighbour` do.
//!
//! [`Netlink`] speaks to the network namespace of the thread that opened it, for ever, wherever it is used afterwards.

mod address;
mod link;
mod neighbour;
mod route;
mod rule;

pub use address::Address;
pub use link::VethEnd;
pub use neighbour::Neighbour;
pub use route::{Route, Target};
pub use rule::Rule;

use anyhow::{Context, Result};
use netlink_bindings::traits::NetlinkRequest;
use netlink_socket2::{NetlinkSocket, ReplyError};
use std::ffi::CString;
use std::net::IpAddr;

/// The longest name of a network interface in bytes (`IFNAMSIZ` without the closing zero).
pub const MAX_NAME: usize = 15;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, for everything that is done twice.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// `AF_INET` or `AF_INET6`, as netlink headers carry it.
    const fn raw(self) -> u8 {
        match self {
            Self::V4 => libc::AF_INET as u8,
            Self::V6 => libc::AF_INET6 as u8,
        }
    }

    const fn from_raw(family: u8) -> Option<Self> {
        if family == Self::V4.raw() {
            Some(Self::V4)
        } else if family == Self::V6.raw() {
            Some(Self::V6)
        } else {
            None
        }
    }
}

/// A connection to the kernel's routing tables and interfaces.
pub struct Netlink {
    socket: NetlinkSocket,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink").finish_non_exhaustive()
    }
}

impl Netlink {
    /// Opens a connection to the network namespace of the calling thread.
    ///
    /// # Errors
    /// If the kernel grants no netlink socket.
    pub fn open() -> Result<Self> {
        let mut netlink = Self {
            socket: NetlinkSocket::new(),
        };
        // The socket is made by the first request; the loopback interface is there in every namespace.
        netlink
            .index("lo")
            .context("cannot speak rtnetlink with the kernel")?;
        Ok(netlink)
    }

    /// Sends a request that is answered by nothing but an acknowledgement.
    fn acknowledged<R: NetlinkRequest>(
        &mut self,
        request: &R,
        what: impl FnOnce() -> String,
    ) -> Result<()> {
        self.socket
            .request(request)
            .map_err(ReplyError::from)
            .and_then(|mut reply| reply.recv_ack())
            .map_err(|error| Refused::new(what(), &error).into())
    }

    /// Sends a dump request and hands every answer to `each`.
    fn dump<R: NetlinkRequest>(
        &mut self,
        request: &R,
        what: &str,
        mut each: impl FnMut(R::ReplyType<'_>),
    ) -> Result<()> {
        let refused = |error: &ReplyError| Refused::new(what.to_owned(), error);
        let mut reply = self
            .socket
            .request(request)
            .map_err(|error| refused(&error.into()))?;
        while let Some(answer) = reply.recv() {
            each(answer.map_err(|error| refused(&error))?);
        }
        Ok(())
    }
}

/// A request that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {what}: {reason}{}", advice(*.errno))]
pub struct Refused {
    what: String,
    reason: String,
    errno: i32,
}

impl Refused {
    fn new(what: String, error: &ReplyError) -> Self {
        let io = error.as_io_error();
        let detail = error
            .ext_ack()
            .and_then(|attributes| attributes.get_msg().ok())
            .map(|message| format!(" ({})", message.to_string_lossy()))
            .unwrap_or_default();
        Self {
            what,
            reason: format!("{}{detail}", plain(io)),
            errno: io.raw_os_error().unwrap_or(0),
        }
    }

    /// The error of the C library's numbering (`EEXIST`, …); 0 if there was none.
    pub const fn errno(&self) -> i32 {
        self.errno
    }
}

/// The error number of a refusal anywhere in the chain of `error`.
pub fn errno(error: &anyhow::Error) -> Option<i32> {
    error.chain().find_map(|cause| {
        cause
            .downcast_ref::<Refused>()
            .map(Refused::errno)
            .or_else(|| cause.downcast_ref::<std::io::Error>()?.raw_os_error())
    })
}

/// What the operator can do about an error number: the second half of a sentence, or nothing.
pub(crate) const fn advice(errno: i32) -> &'static str {
    match errno {
        libc::EPERM | libc::EACCES => {
            "; it needs CAP_NET_ADMIN in this network namespace (run it as root)"
        }
        libc::EEXIST => "; it is there already (another program, or an earlier run, made it)",
        libc::ENODEV => "; there is no interface of that name or number",
        libc::ENOENT | libc::ESRCH => "; it is not there (any more)",
        libc::EOPNOTSUPP | libc::EAFNOSUPPORT => {
            "; this kernel was built without it, or it is switched off"
        }
        libc::ENETUNREACH => "; the gateway must be reachable through the interface named",
        libc::EBUSY => "; another program uses it",
        _ => "",
    }
}

/// An operating system's error without the number Rust appends.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((sentence, _)) => sentence.to_owned(),
        None => text,
    }
}

/// The name as netlink wants it.
///
/// # Errors
/// If it is empty, longer than [`MAX_NAME`] bytes, or holds what no interface may be called.
fn name(of: &str) -> Result<CString> {
    anyhow::ensure!(
        !of.is_empty() && of.len() <= MAX_NAME,
        "the interface name {of:?} has {} bytes: choose one of 1 to {MAX_NAME} bytes",
        of.len()
    );
    anyhow::ensure!(
        !of.contains(|c: char| c == '/' || c.is_whitespace() || c.is_control())
            && !matches!(of, "." | ".."),
        "no interface can be called {of:?}: choose a name without blanks and slashes"
    );
    Ok(CString::new(of)?)
}

#[cfg(test)]
mod tests;
