//! Capture files as a stream of frames: pcap (all byte orders, micro- and nanoseconds) and pcapng, also compressed with
//! gzip or zstd. Memory does not grow with the file.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the shell: it opens files"
)]

mod record;

use crate::time::Time;
use record::{Format, Next};
use std::fs::File;
use std::io::{self, BufReader, Cursor, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes read at once: few enough to stay in a processor's second cache until they are looked at.
const BUFFER: usize = 256 << 10;
/// The largest block a capture may have.
const LARGEST_BLOCK: usize = 64 << 20;
/// Bytes looked at to tell the format.
const HEAD: usize = 4096;

/// A capture being read.
pub struct Capture {
    input: Input,
    format: Format,
    number: u64,
    progress: Progress,
}

/// How far a capture has been read, in bytes of the file as stored; may be asked from another thread.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<AtomicU64>);

/// One captured frame.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Counted from 1, as other tools count.
    pub number: u64,
    /// When it was captured.
    pub at: Time,
    /// Link type (<https://www.tcpdump.org/linktypes.html>).
    pub link: u32,
    /// What was captured of it; may be less than went over the wire.
    pub bytes: &'a [u8],
    /// Its length on the wire, in bytes.
    pub wire: u32,
}

/// Why a capture cannot be read on. What was read before stands.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be opened or read.
    #[error("cannot be read")]
    Io(#[from] io::Error),
    /// Neither pcap nor pcapng.
    #[error("is neither a pcap nor a pcapng capture")]
    Format,
    /// The file ends inside a frame.
    #[error("ends within frame {0}; what came before was read")]
    Cut(u64),
    /// A frame that no capture holds.
    #[error("is damaged at frame {0}; what came before was read")]
    Damaged(u64),
}

impl Progress {
    /// Bytes of the file read so far.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Capture {
    /// Opens a file, whatever its compression.
    ///
    /// # Errors
    /// [`CaptureError::Io`] or [`CaptureError::Format`].
    pub fn open(path: &Path) -> Result<Self, CaptureError> {
        let progress = Progress::default();
        let counted = Counted {
            inner: File::open(path)?,
            progress: progress.clone(),
        };
        let mut capture = Self::read(counted)?;
        capture.progress = progress;
        Ok(capture)
    }

    /// Reads a capture from anywhere.
    ///
    /// # Errors
    /// [`CaptureError::Io`] or [`CaptureError::Format`].
    pub fn read(reader: impl Read + Send + 'static) -> Result<Self, CaptureError> {
        let (head, reader) = peek(reader)?;
        let plain: Box<dyn Read + Send> = match head.as_slice() {
            [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(reader))),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::new(reader)?),
            _ => Box::new(reader),
        };
        let mut input = Input::new(plain);
        input.fill(HEAD).map_err(|_| CaptureError::Format)?;
        let (format, header) = Format::of(input.unread()).ok_or(CaptureError::Format)?;
        input.consume(header);
        Ok(Self {
            input,
            format,
            number: 0,
            progress: Progress::default(),
        })
    }

    /// How far the file has been read.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Calls `each` with every frame, to the end of the capture.
    ///
    /// # Errors
    /// [`CaptureError`]; the frames before were handed out.
    pub fn frames(&mut self, mut each: impl FnMut(Frame<'_>)) -> Result<(), CaptureError> {
        loop {
            let next = self.number + 1;
            match self.format.next(self.input.unread()) {
                Next::Frame(length, frame) => {
                    self.number = next;
                    each(Frame {
                        number: next,
                        at: frame.at,
                        link: frame.link,
                        bytes: frame.bytes,
                        wire: frame.wire,
                    });
                    self.input.consume(length);
                }
                Next::Other(length) => self.input.consume(length),
                Next::Short(length) if length <= LARGEST_BLOCK => match self.input.fill(length) {
                    Ok(true) => {}
                    Ok(false) if self.input.unread().is_empty() => return Ok(()),
                    Ok(false) => return Err(CaptureError::Cut(next)),
                    Err(error) => return Err(failed(error, next)),
                },
                Next::Short(_) | Next::Damaged => return Err(CaptureError::Damaged(next)),
            }
        }
    }
}

/// What it means that the bytes of this frame cannot be read: of a compressed file, that it is cut or damaged.
fn failed(error: io::Error, frame: u64) -> CaptureError {
    if error.kind() == ErrorKind::UnexpectedEof {
        CaptureError::Cut(frame)
    } else if error.raw_os_error().is_none() {
        // Not the system says so, but a decoder.
        CaptureError::Damaged(frame)
    } else {
        CaptureError::Io(error)
    }
}

/// Reads the beginning and gives it back in front of the rest.
fn peek<R: Read>(mut reader: R) -> io::Result<(Vec<u8>, impl Read + use<R>)> {
    let mut head = Vec::with_capacity(HEAD);
    reader.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    Ok((head.clone(), Cursor::new(head).chain(reader)))
}

/// Bytes read and not looked at yet, in one piece.
struct Input {
    reader: Box<dyn Read + Send>,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    fn new(reader: Box<dyn Read + Send>) -> Self {
        Self {
            reader,
            bytes: vec![0; BUFFER],
            start: 0,
            end: 0,
        }
    }

    fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    fn consume(&mut self, length: usize) {
        self.start = self.start.saturating_add(length).min(self.end);
    }

    /// Reads on until at least `length` bytes are unread; false at the end of the file. What is ahead is read as far as
    /// there is room.
    fn fill(&mut self, length: usize) -> io::Result<bool> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < length {
            if self.end == self.bytes.len() {
                // Room grows with what has come, never with what a length field promises.
                self.bytes.resize(self.bytes.len().saturating_mul(2), 0);
            }
            let room = self.bytes.get_mut(self.end..).unwrap_or_default();
            match self.reader.read(room) {
                Ok(0) => return Ok(false),
                Ok(count) => self.end += count.min(room.len()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.progress.0.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
