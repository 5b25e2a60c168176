//! Capture files as a stream of frames: pcap (all byte orders, micro- and nanoseconds) and pcapng, also compressed with
//! gzip or zstd. Memory does not grow with the file.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the shell: it opens files"
)]

use crate::time::Time;
use pcap_parser::{Block, PcapBlockOwned, PcapError, create_reader, traits::PcapReaderIterator};
use std::fs::File;
use std::io::{self, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes read at once, and the largest block a capture may have.
const BUFFER: usize = 1 << 20;
const LARGEST_BLOCK: usize = 64 << 20;
/// Bytes looked at to tell the format.
const HEAD: usize = 4096;

/// A capture being read.
pub struct Capture {
    reader: Box<dyn PcapReaderIterator + Send>,
    interfaces: Vec<Interface>,
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

/// What a capture says of an interface.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u32,
    /// Units of time a second.
    resolution: u64,
    /// Seconds to add.
    offset: i64,
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
        // The format is told from the first read alone, which a decoder may leave short.
        let (_, plain) = peek(plain)?;
        let reader = create_reader(BUFFER, plain).map_err(|_| CaptureError::Format)?;
        Ok(Self {
            reader,
            interfaces: Vec::new(),
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
        let mut capacity = BUFFER;
        loop {
            let step = match self.reader.next() {
                Ok((length, block)) => {
                    if let Some(frame) = frame(&block, &mut self.interfaces, &mut self.number) {
                        each(frame);
                    }
                    Step::Consume(length)
                }
                Err(PcapError::Eof) => return Ok(()),
                Err(PcapError::Incomplete(needed)) => Step::Refill(needed),
                Err(PcapError::UnexpectedEof) => return Err(CaptureError::Cut(self.number + 1)),
                Err(PcapError::ReadError) => {
                    return Err(CaptureError::Io(io::ErrorKind::UnexpectedEof.into()));
                }
                Err(_) => return Err(CaptureError::Damaged(self.number + 1)),
            };
            match step {
                Step::Consume(length) => self.reader.consume(length),
                Step::Refill(_) if self.reader.reader_exhausted() => {
                    return Err(CaptureError::Cut(self.number + 1));
                }
                Step::Refill(needed) => self.refill(needed, &mut capacity)?,
            }
        }
    }

    /// Reads on; a block that does not fit gets room, up to a bound.
    fn refill(&mut self, needed: usize, capacity: &mut usize) -> Result<(), CaptureError> {
        if self.reader.data().len().saturating_add(needed) > *capacity {
            *capacity = capacity.saturating_mul(2);
            if *capacity > LARGEST_BLOCK || !self.reader.grow(*capacity) {
                return Err(CaptureError::Damaged(self.number + 1));
            }
        }
        self.reader
            .refill()
            .map_err(|_| CaptureError::Cut(self.number + 1))
    }
}

/// What to do once a block has been looked at.
enum Step {
    /// It took this many bytes.
    Consume(usize),
    /// It needs this many bytes more.
    Refill(usize),
}

/// Reads the beginning and gives it back in front of the rest.
fn peek<R: Read>(mut reader: R) -> io::Result<(Vec<u8>, impl Read + use<R>)> {
    let mut head = Vec::with_capacity(HEAD);
    reader.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
    Ok((head.clone(), Cursor::new(head).chain(reader)))
}

/// The frame in a block, if it holds one; interfaces are learnt in passing.
fn frame<'a>(
    block: &'a PcapBlockOwned<'_>,
    interfaces: &mut Vec<Interface>,
    number: &mut u64,
) -> Option<Frame<'a>> {
    let (interface, stamp, captured, data, wire) = match block {
        PcapBlockOwned::LegacyHeader(header) => {
            let resolution = if header.is_nanosecond_precision() {
                1_000_000_000
            } else {
                1_000_000
            };
            *interfaces = vec![Interface {
                // The upper bits tell of a frame check sequence.
                link: header.network.0.cast_unsigned() & 0x0fff_ffff,
                resolution,
                offset: 0,
            }];
            return None;
        }
        PcapBlockOwned::Legacy(block) => {
            let interface = *interfaces.first()?;
            let stamp = u64::from(block.ts_sec)
                .saturating_mul(interface.resolution)
                .saturating_add(u64::from(block.ts_usec));
            (interface, stamp, block.caplen, block.data, block.origlen)
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            interfaces.clear();
            return None;
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(block)) => {
            interfaces.push(Interface {
                link: block.linktype.0.cast_unsigned(),
                resolution: block.ts_resolution().unwrap_or(1_000_000).max(1),
                offset: block.ts_offset(),
            });
            return None;
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(block)) => {
            let interface = *interfaces.get(usize::try_from(block.if_id).ok()?)?;
            let stamp = u64::from(block.ts_high) << 32 | u64::from(block.ts_low);
            (interface, stamp, block.caplen, block.data, block.origlen)
        }
        PcapBlockOwned::NG(Block::SimplePacket(block)) => {
            let interface = *interfaces.first()?;
            (interface, 0, block.origlen, block.data, block.origlen)
        }
        PcapBlockOwned::NG(_) => return None,
    };
    *number += 1;
    let captured = usize::try_from(captured)
        .unwrap_or(usize::MAX)
        .min(data.len());
    Some(Frame {
        number: *number,
        at: interface.time(stamp),
        link: interface.link,
        bytes: data.get(..captured)?,
        wire,
    })
}

impl Interface {
    fn time(&self, stamp: u64) -> Time {
        let nanos = u128::from(stamp) * 1_000_000_000 / u128::from(self.resolution);
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX);
        let shifted = nanos.saturating_add(i128::from(self.offset) * 1_000_000_000);
        Time::from_nanos(u64::try_from(shifted.max(0)).unwrap_or(u64::MAX))
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
mod tests {
    use super::*;
    use std::io::Write;

    fn pcap(magic: u32, frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [magic, 0x0004_0002, 0, 0, 65_535, 101] {
            bytes.extend(word.to_le_bytes());
        }
        for (index, frame) in frames.iter().enumerate() {
            for word in [1_612_750_000, index, frame.len(), frame.len() + 3] {
                bytes.extend((word as u32).to_le_bytes());
            }
            bytes.extend(*frame);
        }
        bytes
    }

    fn pcapng(frames: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut block = |kind: u32, body: &[u8]| {
            let length = (body.len().next_multiple_of(4) + 12) as u32;
            bytes.extend(kind.to_le_bytes());
            bytes.extend(length.to_le_bytes());
            bytes.extend(body);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes.extend(length.to_le_bytes());
        };
        block(
            0x0a0d_0d0a,
            &[
                &0x1a2b_3c4d_u32.to_le_bytes()[..],
                &[1, 0, 0, 0],
                &[0xff; 8],
            ]
            .concat(),
        );
        // Nanoseconds.
        block(
            1,
            &[101, 0, 0, 0, 0, 0, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0],
        );
        for (index, frame) in frames.iter().enumerate() {
            let stamp = 1_612_750_000_000_000_000_u64 + index as u64;
            let mut body = vec![0; 4];
            body.extend(((stamp >> 32) as u32).to_le_bytes());
            body.extend((stamp as u32).to_le_bytes());
            body.extend((frame.len() as u32).to_le_bytes());
            body.extend((frame.len() as u32).to_le_bytes());
            body.extend(*frame);
            block(6, &body);
        }
        bytes
    }

    /// Number, nanoseconds, bytes.
    type Read = (u64, u64, Vec<u8>);

    fn read(bytes: Vec<u8>) -> (Vec<Read>, Result<(), CaptureError>) {
        let mut capture = Capture::read(Cursor::new(bytes)).unwrap();
        let mut all = Vec::new();
        let end = capture.frames(|frame| {
            assert_eq!(frame.link, 101);
            all.push((frame.number, frame.at.as_nanos(), frame.bytes.to_vec()));
        });
        (all, end)
    }

    const FRAMES: [&[u8]; 2] = [b"abc", b"defghi"];

    #[test]
    fn frames_come_in_order_with_their_times_in_every_format() {
        for (bytes, tick) in [
            (pcap(0xa1b2_c3d4, &FRAMES), 1000),
            (pcap(0xa1b2_3c4d, &FRAMES), 1),
            (pcapng(&FRAMES), 1),
        ] {
            let (all, end) = read(bytes);
            end.unwrap();
            let start = 1_612_750_000_000_000_000;
            assert_eq!(
                all,
                [
                    (1, start, b"abc".to_vec()),
                    (2, start + tick, b"defghi".to_vec())
                ]
            );
        }
    }

    #[test]
    fn compressed_captures_are_read_as_they_are() {
        let plain = pcap(0xa1b2_c3d4, &FRAMES);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        assert_eq!(read(gzip.finish().unwrap()).0.len(), 2);
        assert_eq!(read(zstd::encode_all(&plain[..], 1).unwrap()).0.len(), 2);
    }

    #[test]
    fn a_cut_capture_gives_what_it_has_and_says_so() {
        let whole = pcap(0xa1b2_c3d4, &FRAMES);
        for length in 25..whole.len() {
            let (all, end) = read(whole[..length].to_vec());
            assert!(all.len() < 2);
            if length != 24 + 16 + 3 {
                assert!(
                    matches!(end, Err(CaptureError::Cut(_))),
                    "{length}: {end:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_capture_is_refused() {
        for bytes in [
            &b""[..],
            b"hello, this is no capture file at all",
            &[0x1f, 0x8b],
        ] {
            assert!(Capture::read(Cursor::new(bytes.to_vec())).is_err());
        }
    }
}
