//! Echo requests to the outside (RFC 792; RFC 4443, section 4).

use crate::packet::checksum::Sum;
use nix::sys::socket::{SockaddrStorage, recvfrom};
use socket2::{SockAddr, Socket};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

/// Length of an echo header in bytes.
const HEADER: usize = 8;

/// A socket for the echo requests of one client and identifier.
#[derive(Debug)]
pub struct Echo {
    socket: Socket,
    v6: bool,
    raw: bool,
    id: u16,
}

/// An echo reply that came in: where its payload lies in the buffer, and its sequence number.
#[derive(Clone, Copy, Debug)]
pub struct EchoReply {
    /// Who answered.
    pub from: IpAddr,
    /// Where the payload begins.
    pub payload: usize,
    /// Where it ends.
    pub end: usize,
    /// Sequence number.
    pub sequence: u16,
}

impl Echo {
    pub(super) fn new(socket: Socket, v6: bool, raw: bool) -> Self {
        // On a raw socket the identifier tells our replies from others'; the descriptor's number is unique meanwhile.
        let id = u16::try_from(socket.as_raw_fd() & 0xffff).unwrap_or(1);
        Self {
            socket,
            v6,
            raw,
            id,
        }
    }

    /// Sends one echo request.
    ///
    /// # Errors
    /// Those of `sendmsg(2)`.
    pub fn send(&self, payload: &[u8], to: IpAddr, sequence: u16, hop_limit: u8) -> io::Result<()> {
        let hops = u32::from(hop_limit.saturating_sub(1).max(1));
        if self.v6 {
            self.socket.set_unicast_hops_v6(hops)?
        } else {
            self.socket.set_ttl_v4(hops)?
        }
        let [id, seq] = [self.id.to_be_bytes(), sequence.to_be_bytes()];
        let mut header = [
            if self.v6 { 128 } else { 8 },
            0,
            0,
            0,
            id[0],
            id[1],
            seq[0],
            seq[1],
        ];
        if self.raw && !self.v6 {
            let sum = Sum::of(&header).bytes(payload).finish();
            header[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        let to: SockAddr = SocketAddr::new(to, 0).into();
        self.socket
            .send_to_vectored(&[IoSlice::new(&header), IoSlice::new(payload)], &to)?;
        Ok(())
    }

    /// Receives into `buffer`; `None` for a message that is no reply of ours.
    ///
    /// # Errors
    /// Those of `recvfrom(2)`; *would block* when nothing is there.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<EchoReply>> {
        let (len, from) = recvfrom::<SockaddrStorage>(self.as_raw_fd(), buffer)?;
        let Some(from) = from.as_ref().and_then(super::datagram::address) else {
            return Ok(None);
        };
        let bytes = buffer.get(..len).unwrap_or_default();
        // Only a raw socket of IPv4 shows the IP header (raw(7), ping(7)).
        let at = match bytes.first() {
            Some(first) if self.raw && !self.v6 => usize::from(first & 0x0f) * 4,
            _ => 0,
        };
        let Some([kind, _, _, _, id_0, id_1, seq_0, seq_1]) = bytes.get(at..at + HEADER) else {
            return Ok(None);
        };
        let ours = !self.raw || u16::from_be_bytes([*id_0, *id_1]) == self.id;
        let reply = *kind == if self.v6 { 129 } else { 0 };
        let sequence = u16::from_be_bytes([*seq_0, *seq_1]);
        Ok((ours && reply).then_some(EchoReply {
            from: from.ip(),
            payload: at + HEADER,
            end: len,
            sequence,
        }))
    }
}

impl AsRawFd for Echo {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
