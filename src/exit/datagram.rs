//! UDP sockets: segments and merged datagrams in one call, and the errors that routers report.

use crate::packet::build::Unreachable;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use nix::{setsockopt_impl, sockopt_impl};
use socket2::Socket;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, RawFd};

sockopt_impl!(
    /// How the path MTU is found out (ip(7), `IP_MTU_DISCOVER`).
    MtuDiscover,
    SetOnly,
    libc::IPPROTO_IP,
    libc::IP_MTU_DISCOVER,
    i32
);

/// Hop limits above this are no traceroute: the kernel's own default is as good.
const PROBING: u8 = 40;

/// An unconnected UDP socket.
#[derive(Debug)]
pub struct Datagrams {
    socket: Socket,
    v6: bool,
    hop_limit: Option<u8>,
    dont_fragment: bool,
}

/// Datagrams that came in.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// From whom.
    pub from: SocketAddr,
    /// Bytes in all.
    pub len: usize,
    /// Bytes of one datagram if there are several, else 0.
    pub segment: u16,
}

/// An ICMP error that came back for a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the datagram went.
    pub to: SocketAddr,
    /// What happened to it.
    pub why: Unreachable,
    /// Who says so.
    pub offender: Option<IpAddr>,
}

impl Datagrams {
    pub(super) fn new(socket: Socket, v6: bool, merge: bool) -> io::Result<Self> {
        // Room for a burst of a call or a page load; the kernel's default drops it.
        socket.set_recv_buffer_size(1 << 20)?;
        if v6 {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        }
        if merge {
            setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
        }
        Ok(Self {
            socket,
            v6,
            hop_limit: None,
            dont_fragment: false,
        })
    }

    /// Sends one datagram, or several of `segment` bytes each.
    ///
    /// # Errors
    /// Those of `sendmsg(2)`.
    pub fn send(&self, payload: &[u8], to: SocketAddr, segment: u16) -> io::Result<()> {
        self.send_parts([payload, &[]], to, segment)
    }

    /// The same of a payload in two parts.
    pub(super) fn send_parts(
        &self,
        parts: [&[u8]; 2],
        to: SocketAddr,
        segment: u16,
    ) -> io::Result<()> {
        let to = SockaddrStorage::from(to);
        let pieces = parts.map(IoSlice::new);
        let several = [ControlMessage::UdpGsoSegments(&segment)];
        let control = if segment == 0 {
            &several[..0]
        } else {
            &several[..]
        };
        sendmsg(
            self.as_raw_fd(),
            &pieces,
            control,
            MsgFlags::MSG_DONTWAIT,
            Some(&to),
        )?;
        Ok(())
    }

    /// Has the following datagrams leave as the client's came in: with its hop limit if that is a probing one, and not
    /// fragmented where it forbade that.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn shape(&mut self, hop_limit: u8, dont_fragment: bool) -> io::Result<()> {
        let hop_limit = (hop_limit < PROBING).then(|| hop_limit.saturating_sub(1).max(1));
        if hop_limit != self.hop_limit {
            let hops = hop_limit.map_or(64, u32::from);
            if self.v6 {
                self.socket.set_unicast_hops_v6(hops)?
            } else {
                self.socket.set_ttl_v4(hops)?
            }
            self.hop_limit = hop_limit;
        }
        if dont_fragment != self.dont_fragment && !self.v6 {
            let discover = if dont_fragment {
                libc::IP_PMTUDISC_DO
            } else {
                libc::IP_PMTUDISC_WANT
            };
            setsockopt(&self.socket, MtuDiscover, &discover)?;
            self.dont_fragment = dont_fragment;
        }
        Ok(())
    }

    /// Receives into `buffer`; `control` is scratch that is kept between calls.
    ///
    /// # Errors
    /// Those of `recvmsg(2)`; *would block* when nothing is there.
    pub fn receive(&self, buffer: &mut [u8], control: &mut [u8]) -> io::Result<Received> {
        let mut pieces = [IoSliceMut::new(buffer)];
        let message = recvmsg::<SockaddrStorage>(
            self.as_raw_fd(),
            &mut pieces,
            Some(control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let from = message
            .address
            .as_ref()
            .and_then(address)
            .ok_or(io::ErrorKind::InvalidData)?;
        let mut segment = 0;
        for message in message.cmsgs()? {
            if let ControlMessageOwned::UdpGroSegments(size) = message {
                segment = u16::try_from(size).unwrap_or(0);
            }
        }
        let len = message.bytes;
        Ok(Received {
            from,
            len,
            segment: if len > usize::from(segment) {
                segment
            } else {
                0
            },
        })
    }

    /// The next ICMP error that came back; `None` if there is none.
    pub fn problem(&self, control: &mut [u8]) -> Option<Problem> {
        problem(self.as_raw_fd(), control)
    }
}

impl AsRawFd for Datagrams {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Scratch for control messages of [`Datagrams::receive`] and [`Datagrams::problem`].
pub fn control() -> Vec<u8> {
    nix::cmsg_space!([u8; 256])
}

fn problem(socket: RawFd, control: &mut [u8]) -> Option<Problem> {
    let mut nothing = [0; 8];
    let mut pieces = [IoSliceMut::new(&mut nothing)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket, &mut pieces, Some(control), flags).ok()?;
    let to = message.address.as_ref().and_then(address)?;
    message.cmsgs().ok()?.find_map(|message| {
        let (error, offender) = if let ControlMessageOwned::Ipv4RecvErr(error, by) = message {
            (
                error,
                by.map(|by| IpAddr::V4(u32::from_be(by.sin_addr.s_addr).into())),
            )
        } else if let ControlMessageOwned::Ipv6RecvErr(error, by) = message {
            (error, by.map(|by| IpAddr::V6(by.sin6_addr.s6_addr.into())))
        } else {
            return None;
        };
        meaning(&error).map(|why| Problem { to, why, offender })
    })
}

/// What a queued error says (`linux/errqueue.h`): ICMP types are those of RFC 792 and RFC 4443.
fn meaning(error: &libc::sock_extended_err) -> Option<Unreachable> {
    let from_icmp = matches!(
        error.ee_origin,
        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6
    );
    let v6 = error.ee_origin == libc::SO_EE_ORIGIN_ICMP6;
    if from_icmp && error.ee_type == if v6 { 3 } else { 11 } {
        return Some(Unreachable::HopLimit);
    }
    match i32::try_from(error.ee_errno).ok()? {
        libc::EMSGSIZE => Some(Unreachable::TooBig(
            u16::try_from(error.ee_info).unwrap_or(u16::MAX),
        )),
        libc::ECONNREFUSED => Some(Unreachable::Port),
        libc::ENETUNREACH => Some(Unreachable::Network),
        libc::EHOSTUNREACH => Some(Unreachable::Host),
        libc::EACCES | libc::EPERM => Some(Unreachable::Prohibited),
        _ => None,
    }
}

pub(super) fn address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = storage
        .as_sockaddr_in()
        .map(|v4| SocketAddrV4::new(v4.ip(), v4.port()).into());
    v4.or_else(|| {
        storage
            .as_sockaddr_in6()
            .map(|v6| SocketAddrV6::new(v6.ip(), v6.port(), 0, 0).into())
    })
}
