//! The datagrams between a tunnel and its server.

use super::Shared;
use crate::exit::burst::{BYTES, DATAGRAMS, is_uncut};
use gotatun::packet::{Packet, PacketBufPool};
use gotatun::udp::socket::UdpSocket;
use gotatun::udp::{UdpRecv, UdpSend};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use tokio::io::Interest;

/// Datagrams to the server. Those of one length that follow each other go in one call (udp(7), `UDP_SEGMENT`).
#[derive(Clone)]
pub(super) struct ToServer(pub(super) UdpSocket);

impl UdpSend for ToServer {
    type SendManyBuf = ();

    async fn send_to(&self, packet: Packet, to: SocketAddr) -> io::Result<()> {
        self.0.send_to(packet, to).await
    }

    fn max_number_of_packets_to_send(&self) -> usize {
        DATAGRAMS
    }

    /// What the kernel does not take is lost, as on any link.
    async fn send_many_to(
        &self,
        (): &mut (),
        packets: &mut Vec<(Packet, SocketAddr)>,
    ) -> io::Result<()> {
        let mut rest = packets.as_slice();
        while let Some((these, others)) = rest.split_at_checked(burst(rest))
            && !these.is_empty()
        {
            rest = others;
            match self.send(these).await {
                Err(error) if these.len() > 1 && is_uncut(&error) => {
                    for one in these {
                        let _ = self.send(std::slice::from_ref(one)).await;
                    }
                }
                Ok(()) | Err(_) => {}
            }
        }
        packets.clear();
        Ok(())
    }

    fn local_addr(&self) -> io::Result<Option<SocketAddr>> {
        UdpSend::local_addr(&self.0)
    }

    fn set_fwmark(&self, mark: u32) -> io::Result<()> {
        self.0.set_fwmark(mark)
    }
}

impl ToServer {
    /// Sends one burst.
    async fn send(&self, packets: &[(Packet, SocketAddr)]) -> io::Result<()> {
        let Some((first, to)) = packets.first() else {
            return Ok(());
        };
        let (to, segment) = (
            SockaddrStorage::from(*to),
            u16::try_from(first.len()).unwrap_or(0),
        );
        let socket = self.0.socket();
        let send = || {
            let mut pieces = [IoSlice::new(&[]); DATAGRAMS];
            for (piece, (packet, _)) in pieces.iter_mut().zip(packets) {
                *piece = IoSlice::new(packet);
            }
            let pieces = pieces.get(..packets.len()).unwrap_or_default();
            let cut = [ControlMessage::UdpGsoSegments(&segment)];
            let control = match packets {
                [_, _, ..] => &cut[..],
                _ => &[],
            };
            let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
            Ok(sendmsg(fd, pieces, control, flags, Some(&to)).map(drop)?)
        };
        socket.async_io(Interest::WRITABLE, send).await
    }
}

/// How many of these, from the first, can go in one call: to one place, of one length but for a last one that is shorter.
fn burst(packets: &[(Packet, SocketAddr)]) -> usize {
    let Some((first, to)) = packets.first() else {
        return 0;
    };
    let (segment, mut bytes, mut count) = (first.len(), 0, 0);
    for (packet, other) in packets.iter().take(DATAGRAMS) {
        bytes += packet.len();
        let fits = other == to && packet.len() <= segment && bytes <= BYTES;
        if count > 0 && !fits {
            break;
        }
        count += 1;
        if packet.len() < segment {
            break;
        }
    }
    count
}

/// The datagrams of the server. It is where the policy lets it be; one that moves must be judged first, so what comes
/// from elsewhere is not read.
pub(super) struct FromServer {
    socket: UdpSocket,
    server: SocketAddr,
    shared: Arc<Shared>,
}

impl FromServer {
    /// Those that come in by this socket.
    pub(super) fn new(socket: UdpSocket, server: SocketAddr, shared: Arc<Shared>) -> Self {
        // Without it they come one by one, which is slower and nothing else.
        let _ = socket.enable_udp_gro();
        Self {
            socket,
            server,
            shared,
        }
    }
}

impl UdpRecv for FromServer {
    type RecvManyBuf = <UdpSocket as UdpRecv>::RecvManyBuf;

    async fn recv_from(&mut self, pool: &mut PacketBufPool) -> io::Result<(Packet, SocketAddr)> {
        loop {
            let (packet, from) = self.socket.recv_from(pool).await?;
            if from == self.server {
                self.shared.heard();
                return Ok((packet, from));
            }
        }
    }

    async fn recv_many_from(
        &mut self,
        buffer: &mut Self::RecvManyBuf,
        pool: &mut PacketBufPool,
        packets: &mut Vec<(Packet, SocketAddr)>,
    ) -> io::Result<()> {
        self.socket.recv_many_from(buffer, pool, packets).await?;
        packets.retain(|(_, from)| *from == self.server);
        if !packets.is_empty() {
            self.shared.heard();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;

    #[test]
    fn datagrams_of_one_length_go_together_and_a_shorter_one_is_the_last() {
        let [here, there] = ["192.0.2.1:1", "192.0.2.2:1"].map(|at| at.parse().unwrap());
        let packets = |lens: &[usize], to: &[SocketAddr]| -> Vec<(Packet, SocketAddr)> {
            let each = lens.iter().zip(to.iter().cycle());
            each.map(|(len, to)| (Packet::from_bytes(BytesMut::zeroed(*len)), *to))
                .collect()
        };
        for (lens, together) in [
            (&[][..], 0),
            (&[100], 1),
            (&[100, 100, 100], 3),
            (&[100, 100, 40, 100], 3),
            (&[40, 100, 100], 1),
            (&[40_000, 40_000], 1),
            (&[100; 80], DATAGRAMS),
            (&[65_500], 1),
        ] {
            assert_eq!(burst(&packets(lens, &[here])), together, "{lens:?}");
        }
        assert_eq!(burst(&packets(&[100, 100], &[here, there])), 1);
    }
}
