//! A connection to a proxy or a destination: in the clear, or inside TLS.

use super::tunnel::Pipe;
use crate::gateway::Failure;
use mio::net::TcpStream;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Plaintext that waits to be encrypted or sent; more is not taken.
const UNSENT: usize = 128 << 10;
/// Bytes looked at in one go while shaking hands.
const GLANCE: usize = 2048;

/// Bytes out and in, never blocking.
#[derive(Debug)]
pub(super) enum Channel {
    Plain(TcpStream),
    Tls(Box<Tls>),
    /// Through a tunnel, whose endpoint has the connection.
    Tunnel(Pipe),
}

/// How TLS is spoken with one server.
#[derive(Clone, Debug)]
pub struct Secured {
    /// Whom to believe.
    pub config: Arc<rustls::ClientConfig>,
    /// For whom its certificate must be.
    pub name: ServerName<'static>,
}

/// Why a connection never stood.
#[derive(Debug)]
pub(super) enum Broken {
    Socket(io::Error),
    Tunnel(Failure),
}

#[derive(Debug)]
pub(super) struct Tls {
    socket: TcpStream,
    session: ClientConnection,
}

impl Channel {
    pub(super) fn new(socket: TcpStream, secured: Option<&Secured>) -> io::Result<Self> {
        let Some(Secured { config, name }) = secured else {
            return Ok(Self::Plain(socket));
        };
        let mut session =
            ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
        session.set_buffer_limit(Some(UNSENT));
        Ok(Self::Tls(Box::new(Tls { socket, session })))
    }

    /// Whether the connection to the other end stands.
    ///
    /// # Errors
    /// Why it never will.
    pub(super) fn is_connected(&self) -> Result<bool, Broken> {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.socket,
            Self::Tunnel(pipe) => return pipe.is_connected().map_err(Broken::Tunnel),
        };
        if socket.peer_addr().is_ok() {
            return Ok(true);
        }
        match socket.take_error() {
            // Writable without a peer: the answer is still to come.
            Ok(None) => Ok(false),
            Ok(Some(error)) | Err(error) => Err(Broken::Socket(error)),
        }
    }

    /// Has the connection end with a RST when it is dropped.
    pub(super) fn reset(&self) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &tls.socket,
            Self::Tunnel(pipe) => return pipe.reset(),
        };
        // A close with bytes unsent and a zero linger time is a RST (tcp(7)).
        let _ = socket2::SockRef::from(socket).set_linger(Some(std::time::Duration::ZERO));
    }

    /// A read of fewer bytes than were asked for shows that there are no more now.
    pub(super) fn short_reads_drain(&self) -> bool {
        matches!(self, Self::Plain(_) | Self::Tunnel(_))
    }

    /// A write of fewer bytes than there were shows that the socket is full: what TLS takes at once is bounded by itself.
    pub(super) fn short_writes_fill(&self) -> bool {
        matches!(self, Self::Plain(_) | Self::Tunnel(_))
    }

    /// Writes what the kernel takes.
    ///
    /// # Errors
    /// Those of `send(2)`, *would block* among them.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tunnel(pipe) => pipe.write(bytes),
            Self::Tls(tls) => {
                tls.flush()?;
                let written = tls.session.writer().write(bytes)?;
                // What does not leave now waits within its bound.
                ignore_full(tls.flush())?;
                match written {
                    0 if !bytes.is_empty() => Err(ErrorKind::WouldBlock.into()),
                    written => Ok(written),
                }
            }
        }
    }

    /// Reads; zero is the end.
    ///
    /// # Errors
    /// Those of `recv(2)`, *would block* among them; with TLS also an end that the other side did not announce, so
    /// that nobody on the way can cut a stream short.
    pub(super) fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(room),
            Self::Tunnel(pipe) => pipe.read(room),
            Self::Tls(tls) => tls.read(|reader| reader.read(room)),
        }
    }

    /// Shows bytes that came to `take`, which says how many it took; the others stay. Says how many were shown, and how
    /// many taken.
    ///
    /// # Errors
    /// As for [`read`](Self::read); *unexpected end* if nothing more comes.
    pub(super) fn glance(
        &mut self,
        mut take: impl FnMut(&[u8]) -> usize,
    ) -> io::Result<(usize, usize)> {
        let (shown, taken) = match self {
            Self::Plain(socket) => {
                let mut bytes = [0; GLANCE];
                let shown = socket.peek(&mut bytes)?;
                let taken = take(bytes.get(..shown).unwrap_or_default()).min(shown);
                socket.read_exact(bytes.get_mut(..taken).unwrap_or_default())?;
                (shown, taken)
            }
            // Nobody shakes hands through a tunnel.
            Self::Tunnel(_) => (0, 0),
            Self::Tls(tls) => tls.read(|reader| {
                let bytes = reader.fill_buf()?;
                let (shown, taken) = (bytes.len(), take(bytes).min(bytes.len()));
                reader.consume(taken);
                Ok((shown, taken))
            })?,
        };
        if shown == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok((shown, taken))
    }

    /// Goes on until the channel is secure; true once it is, as one in the clear always is.
    ///
    /// # Errors
    /// What that failed of.
    pub(super) fn secure(&mut self) -> io::Result<bool> {
        let Self::Tls(tls) = self else {
            return Ok(true);
        };
        loop {
            ignore_full(tls.flush())?;
            if !tls.session.is_handshaking() {
                return Ok(true);
            }
            match tls.take_records() {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends what waits to be sent.
    ///
    /// # Errors
    /// Those of `send(2)`; *would block* if some of it still waits.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) | Self::Tunnel(_) => Ok(()),
            Self::Tls(tls) => tls.flush(),
        }
    }

    /// Nothing more will be written.
    ///
    /// # Errors
    /// Those of `shutdown(2)`.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.shutdown(Shutdown::Write),
            Self::Tunnel(pipe) => pipe.finish(),
            Self::Tls(tls) => {
                tls.session.send_close_notify();
                ignore_full(tls.flush())
            }
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(socket) => socket.as_fd(),
            Self::Tls(tls) => tls.socket.as_fd(),
            Self::Tunnel(pipe) => pipe.as_fd(),
        }
    }
}

impl Tls {
    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(&mut self.socket)? == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Reads plaintext, and records as long as there is none.
    fn read<T>(
        &mut self,
        mut read: impl FnMut(&mut rustls::Reader<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match read(&mut self.session.reader()) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            self.take_records()?;
        }
    }

    /// Hands the session what the other side sent.
    fn take_records(&mut self) -> io::Result<()> {
        // The end of the connection is told to the session, which knows whether it was announced.
        let ended = self.session.read_tls(&mut self.socket)? == 0;
        let processed = self.session.process_new_packets();
        // An alert explains itself to the other side.
        ignore_full(self.flush())?;
        processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        if ended && self.session.is_handshaking() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

fn ignore_full(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
        outcome => outcome,
    }
}
