//! A short conversation by an exit, of somebody who has no loop to be woken by: it looks again every little while.

use super::channel::Secured;
use super::stream::{Advance, Stream};
use crate::gateway::Failure;
use rustls::{ClientConnection, StreamOwned};
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Between two looks.
const GLANCE: Duration = Duration::from_millis(1);

/// A connection that stands, in the clear or inside TLS with the other end.
pub struct Talk(Box<dyn Wire>);

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

struct Socket(Stream);

/// Waits until a connection is the flow's.
pub(super) async fn finish(mut stream: Stream) -> Result<Stream, Failure> {
    loop {
        if let Advance::Ready(_) = stream.advance()? {
            return Ok(stream);
        }
        sleep(GLANCE).await;
    }
}

impl Talk {
    /// Waits until the connection stands; with `secured` what is said is for nobody but the other end.
    ///
    /// # Errors
    /// Why it never will.
    pub async fn begin(stream: Stream, secured: Option<&Secured>) -> Result<Self, Failure> {
        let socket = Socket(finish(stream).await?);
        let Some(Secured { config, name }) = secured else {
            return Ok(Self(Box::new(socket)));
        };
        let session = ClientConnection::new(Arc::clone(config), name.clone());
        let session = session.map_err(|_| Failure::Unreachable)?;
        Ok(Self(Box::new(StreamOwned::new(session, socket))))
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn say(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.0.write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) => pause(error).await?,
            }
        }
        while let Err(error) = self.0.flush() {
            pause(error).await?;
        }
        Ok(())
    }

    /// Waits for bytes; zero is the end.
    ///
    /// # Errors
    /// If the connection breaks.
    pub async fn hear(&mut self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(room) {
                Err(error) => pause(error).await?,
                heard => return heard,
            }
        }
    }
}

impl std::fmt::Debug for Talk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Talk")
    }
}

impl Read for Socket {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.0.read(room)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

async fn pause(error: io::Error) -> io::Result<()> {
    if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
        return Err(error);
    }
    sleep(GLANCE).await;
    Ok(())
}
