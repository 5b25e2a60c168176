//! The WireGuard device under a tunnel: packets of the endpoint in, datagrams to the server out, and back.

use super::conf::Conf;
use super::server::{FromServer, ToServer};
use super::{Shared, Signal};
use crate::exit::Direct;
use bytes::BytesMut;
use gotatun::device::{Device, DeviceBuilder, Peer};
use gotatun::packet::{Ip, Packet, PacketBufPool};
use gotatun::tun::{IpRecv, IpSend, MtuWatcher};
use gotatun::udp::socket::{SockOpt, UdpSocket};
use gotatun::udp::{UdpTransportFactory, UdpTransportFactoryParams};
use gotatun::x25519::{PublicKey, StaticSecret};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use tokio::sync::{mpsc, oneshot};

/// Packets that leave together.
const BATCH: usize = 128;
/// Bytes that wait in the kernel to be encrypted or decrypted.
const SOCKET_BUFFER: usize = 4 << 20;

/// Opens the device and has a task of the current runtime look after it until `stop` is dropped.
pub(super) async fn start(
    conf: &Conf,
    (server, direct): (SocketAddr, &Direct),
    (inbound, outbound): (SyncSender<Packet>, mpsc::Receiver<BytesMut>),
    (shared, signal): (Arc<Shared>, Arc<Signal>),
    stop: oneshot::Receiver<()>,
) -> Result<(), gotatun::device::Error> {
    let public_key = PublicKey::from(conf.public_key);
    let mut peer = Peer::new(public_key).with_endpoint(server);
    peer.preshared_key = conf.preshared_key.as_deref().copied();
    peer.keepalive = conf.keepalive;
    // Their text is that of the other type, too.
    let allowed = conf
        .allowed
        .iter()
        .filter_map(|net| net.to_string().parse().ok());
    let outer = Outer {
        server,
        direct: direct.clone(),
        shared: Arc::clone(&shared),
    };
    let receive = Leaving {
        packets: outbound,
        batch: Vec::with_capacity(BATCH),
        mtu: conf.mtu,
        signal: Arc::clone(&signal),
    };
    let mut device = DeviceBuilder::new()
        .with_udp(outer)
        .with_ip_pair(
            Arriving {
                packets: inbound,
                signal,
            },
            receive,
        )
        .with_private_key(StaticSecret::from(*conf.private_key))
        .with_listen_port(conf.listen_port)
        .with_peer(peer.with_allowed_ips(allowed))
        .build()
        .await?;
    tokio::spawn(async move {
        tokio::select! {
            _ = stop => {}
            () = live(&mut device, &public_key, &shared) => shared.broke(),
        }
        device.stop().await;
    });
    Ok(())
}

/// Shakes hands and then waits until the device breaks.
async fn live(device: &mut Device<(Outer, Arriving, Leaving)>, peer: &PublicKey, shared: &Shared) {
    if device.force_handshake(peer).await.is_ok() {
        shared.shook_hands();
        device.wait().await;
    }
}

/// Packets that came out of the tunnel, on their way to the endpoint.
struct Arriving {
    packets: SyncSender<Packet>,
    signal: Arc<Signal>,
}

impl IpSend for Arriving {
    async fn send(&mut self, packet: Packet<Ip>) -> io::Result<()> {
        // What there is no room for is lost, as on any link: waiting would hold locks of the device.
        if self.packets.try_send(packet.into_bytes()).is_ok() {
            self.signal.wake();
        }
        Ok(())
    }
}

/// Packets of the endpoint, on their way into the tunnel.
struct Leaving {
    packets: mpsc::Receiver<BytesMut>,
    batch: Vec<BytesMut>,
    mtu: u16,
    signal: Arc<Signal>,
}

impl IpRecv for Leaving {
    async fn recv<'a>(
        &'a mut self,
        _pool: &mut PacketBufPool,
    ) -> io::Result<impl Iterator<Item = Packet<Ip>> + Send + 'a> {
        if self.packets.recv_many(&mut self.batch, BATCH).await == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // There is room again.
        self.signal.wake();
        let packets = self.batch.drain(..);
        Ok(packets.filter_map(|bytes| Packet::from_bytes(bytes).try_into_ip().ok()))
    }

    fn mtu(&self) -> MtuWatcher {
        MtuWatcher::new(self.mtu)
    }
}

/// Opens the socket to the server.
struct Outer {
    server: SocketAddr,
    direct: Direct,
    shared: Arc<Shared>,
}

impl UdpTransportFactory for Outer {
    type Send = ToServer;
    type Recv = FromServer;

    async fn bind(
        &mut self,
        params: &UdpTransportFactoryParams,
    ) -> io::Result<(ToServer, FromServer)> {
        let any: IpAddr = match self.server.ip() {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let Direct {
            mark,
            interface,
            addresses,
            ..
        } = &self.direct;
        let own = addresses.iter().find(|own| own.is_ipv4() == any.is_ipv4());
        if own.is_none() && !addresses.is_empty() {
            return Err(io::ErrorKind::NetworkUnreachable.into());
        }
        let options = SockOpt {
            fwmark: *mark,
            recv_buffer_size: Some(SOCKET_BUFFER),
            send_buffer_size: Some(SOCKET_BUFFER),
            only_v6: any.is_ipv6().then_some(true),
        };
        let at = SocketAddr::new(*own.unwrap_or(&any), params.port);
        let socket = UdpSocket::bind(at, options)?;
        if let Some(interface) = interface {
            let same = socket2::Socket::from(socket.as_fd().try_clone_to_owned()?);
            same.bind_device(Some(interface.as_bytes()))?;
        }
        Ok((
            ToServer(socket.clone()),
            FromServer::new(socket, self.server, Arc::clone(&self.shared)),
        ))
    }
}
