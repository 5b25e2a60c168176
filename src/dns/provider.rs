//! The resolver's sockets.

use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{QuicSocketBinder, RuntimeProvider, TokioHandle, TokioTime};
use quinn::Runtime;
use socket2::{Domain, Protocol, Socket, Type};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

/// A connection takes no longer than this to be made.
const CONNECT: Duration = Duration::from_secs(2);

/// Makes sockets that carry our mark.
#[derive(Clone, Default)]
pub(super) struct Provider {
    handle: TokioHandle,
    mark: Option<u32>,
}

impl Provider {
    pub(super) fn new(mark: Option<u32>) -> Self {
        Self {
            handle: TokioHandle::default(),
            mark,
        }
    }

    fn socket(&self, to: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
        let domain = Domain::for_address(to);
        let socket = Socket::new(domain, kind.nonblocking().cloexec(), Some(protocol))?;
        if let Some(mark) = self.mark {
            socket.set_mark(mark)?;
        }
        Ok(socket)
    }

    fn datagrams(&self, local: SocketAddr) -> io::Result<std::net::UdpSocket> {
        let socket = self.socket(local, Type::DGRAM, Protocol::UDP)?;
        socket.bind(&local.into())?;
        Ok(socket.into())
    }
}

impl RuntimeProvider for Provider {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = UdpSocket;
    type Tcp = AsyncIoTokioAsStd<TcpStream>;

    fn create_handle(&self) -> TokioHandle {
        self.handle.clone()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        _: Option<SocketAddr>,
        wait: Option<Duration>,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<Self::Tcp>>>> {
        let socket = self.socket(server, Type::STREAM, Protocol::TCP);
        Box::pin(async move {
            let socket = socket?;
            // Without it each query would wait for the acknowledgement of the one before.
            socket.set_tcp_nodelay(true)?;
            let socket = TcpSocket::from_std_stream(socket.into());
            let connect = socket.connect(server);
            let stream = tokio::time::timeout(wait.unwrap_or(CONNECT), connect).await??;
            Ok(AsyncIoTokioAsStd(stream))
        })
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        _: SocketAddr,
    ) -> Pin<Box<dyn Send + Future<Output = io::Result<UdpSocket>>>> {
        let socket = self.datagrams(local);
        Box::pin(async move { UdpSocket::from_std(socket?) })
    }

    fn quic_binder(&self) -> Option<&dyn QuicSocketBinder> {
        Some(self)
    }
}

impl QuicSocketBinder for Provider {
    fn bind_quic(
        &self,
        local: SocketAddr,
        _: SocketAddr,
    ) -> io::Result<Arc<dyn quinn::AsyncUdpSocket>> {
        quinn::TokioRuntime.wrap_udp_socket(self.datagrams(local)?)
    }
}
