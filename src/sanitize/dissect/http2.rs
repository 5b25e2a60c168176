//! HTTP/2 in the clear (RFC 9113): a client that knows its server speaks it, or that was upgraded to it. What its requests
//! tell is judged as in [`super::http`]; gRPC is nothing else.

use super::bytes::Bytes;
use super::hpack::Field;
use super::stream::{Opening, Step};
use super::{Notes, http, parameters};
use crate::sanitize::finding::Leak;
use std::ops::Range;

/// What it tells are leaks of HTTP.
pub(super) const LEAKS: &[Leak] = &[];

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Phases: the preface is next, the first frame, any frame.
const START: u8 = 0;
const FIRST: u8 = 1;

/// Types of frames, and their flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Bytes before what a frame holds.
const HEADER: usize = 9;

pub(super) fn open(stream: &[u8]) -> Opening {
    Opening::mark(stream, PREFACE)
}

pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    if *phase == START {
        return match open(unread) {
            Opening::Yes => {
                *phase = FIRST;
                Step::Took(PREFACE.len())
            }
            Opening::Perhaps => Step::Wait,
            Opening::No => Step::Lost,
        };
    }
    let Some(frame) = Frame::read(unread, 0) else {
        return Step::Wait;
    };
    if *phase == FIRST && frame.kind != SETTINGS {
        return Step::Lost;
    }
    *phase = FIRST + 1;
    match frame.kind {
        HEADERS => headers(unread, notes),
        DATA => data(&frame, unread, notes),
        CONTINUATION => Step::Lost,
        _ => Step::Took(frame.end),
    }
}

/// One frame, of which all but the header may still be missing.
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    /// What it holds, without padding.
    content: Range<usize>,
    end: usize,
}

impl Frame {
    /// The frame at a place of the unread bytes; `None` if too little of it is there.
    fn read(unread: &[u8], at: usize) -> Option<Self> {
        let mut bytes = Bytes::new(unread.get(at..)?);
        let length = usize::try_from(bytes.u24()?).ok()?;
        let (kind, flags, stream) = (bytes.u8()?, bytes.u8()?, bytes.u32()?);
        let end = at + HEADER + length;
        let mut content = at + HEADER..end;
        if matches!(kind, DATA | HEADERS) && flags & PADDED != 0 {
            let padding = usize::from(bytes.u8()?);
            content = content.start + 1..content.end.saturating_sub(padding);
        }
        if kind == HEADERS && flags & PRIORITY != 0 {
            content.start += 5;
        }
        content.end = content.end.max(content.start);
        Some(Self {
            kind,
            flags,
            stream,
            content,
            end,
        })
    }
}

/// A header block, in one frame and those that continue it.
fn headers(unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut block = Block::default();
    let (mut at, mut stream) = (0, None);
    let whole = loop {
        let Some(frame) = Frame::read(unread, at) else {
            break false;
        };
        if let Some(first) = stream
            && (frame.kind != CONTINUATION || frame.stream != first)
        {
            return Step::Lost;
        }
        stream = Some(frame.stream);
        block.add(unread, frame.content.clone());
        at = frame.end;
        if at > unread.len() {
            break false;
        }
        if frame.flags & END_HEADERS != 0 {
            break true;
        }
    };
    if !whole && unread.len() < http::LONG_HEAD {
        return Step::Wait;
    }
    let mut table = notes.take_table();
    let read = table.read(&block.bytes, |field| tell(field, &block, notes));
    // Of a block that is too long to wait for, what there is is told; what its rest adds to the table is not known.
    if !whole || read.is_err() {
        return Step::Lost;
    }
    notes.keep_table(table);
    Step::Took(at)
}

/// A header block, and where its parts stand in the unread bytes.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    /// Where each part begins, in the block and in the unread bytes.
    parts: Vec<(usize, usize)>,
}

impl Block {
    fn add(&mut self, unread: &[u8], part: Range<usize>) {
        let end = part.end.min(unread.len());
        self.parts.push((self.bytes.len(), part.start));
        let part = unread.get(part.start..end).unwrap_or_default();
        self.bytes.extend_from_slice(part);
    }

    /// Where a place of the block stands in the unread bytes.
    fn place(&self, at: usize) -> usize {
        let mut parts = self.parts.iter().rev();
        let part = parts.find(|(start, _)| *start <= at);
        part.map_or(0, |(start, place)| at - start + place)
    }

    fn span(&self, span: &Range<usize>) -> Range<usize> {
        let end = span
            .end
            .checked_sub(1)
            .map_or(0, |last| self.place(last) + 1);
        self.place(span.start).min(end)..end
    }
}

/// Tells what a field says, as HTTP/1 would say it.
fn tell(field: Field, block: &Block, notes: &mut Notes<'_>) {
    let Field {
        name,
        value,
        span,
        plain,
    } = field;
    let mut found = Vec::new();
    let mut own = Notes::new(&value, &mut found);
    match name.as_slice() {
        b":path" => http::address(&value, 0, &mut own),
        b":authority" => http::field(b"host", &value, 0..value.len(), &mut own),
        name => http::field(name, &value, 0..value.len(), &mut own),
    }
    for finding in &mut found {
        let within = match plain {
            true => span.start + finding.span.start..span.start + finding.span.end,
            // Of a value in code only the whole has a place.
            false => span.clone(),
        };
        finding.span = block.span(&within);
    }
    notes.adopt(found, 0);
}

/// A part of a body; short ones are read whole.
fn data(frame: &Frame, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    if frame.end > unread.len() && frame.end <= http::SHORT_BODY {
        return Step::Wait;
    }
    let end = frame.content.end.min(unread.len());
    let bytes = unread.get(frame.content.start..end).unwrap_or_default();
    parameters::any(bytes, frame.content.start, notes);
    Step::Took(frame.end)
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;
    use super::*;
    use crate::sanitize::dissect::stream::Reader;
    use proptest::prelude::*;

    fn frame(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags, 0, 0, 0, u8::from(kind != SETTINGS)]);
        frame.extend(content);
        frame
    }

    fn stream(frames: &[Vec<u8>]) -> Vec<u8> {
        [PREFACE.to_vec(), frame(SETTINGS, 0, b""), frames.concat()].concat()
    }

    /// `authorization`, a cookie that is kept, `:path`, `:authority` in code (`www.example.com`).
    fn block() -> Vec<u8> {
        let mut block = b"\x82\x86\x44\x18/a?imei=356938035643809&".to_vec();
        block.extend(b"\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff");
        block.extend(b"\x57\x0cBasic dGVzdA\x60\x04id=9\x7a\x04UA/1");
        block
    }

    const TOLD: [(&str, &str); 5] = [
        ("parameter.device", "356938035643809"),
        (
            "http.host",
            "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}:k\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
        ),
        ("http.authorization", "Basic dGVzdA"),
        ("http.cookie", "id=9"),
        ("http.user-agent", "UA/1"),
    ];

    #[test]
    fn a_request_is_told_as_that_of_http_1_is() {
        let (told, protocol) = told(&stream(&[frame(HEADERS, END_HEADERS, &block())]));
        assert_eq!(protocol.map(|reading| reading.protocol), Some("http2"));
        let names: Vec<_> = told.iter().map(|(leak, _)| *leak).collect();
        assert_eq!(names, TOLD.map(|(leak, _)| leak));
        for (told, expected) in told.iter().zip(TOLD) {
            if expected.0 != "http.host" {
                assert_eq!(told.1, expected.1);
            }
        }
        assert_eq!(told[1].1.len(), TOLD[1].1.len());
    }

    #[test]
    fn padding_priority_and_continuations_change_nothing_but_places() {
        let block = block();
        let (first, second) = block.split_at(40);
        let padded = [&[3, 0, 0, 0, 0, 16], first, &[0; 3]].concat();
        let cut = stream(&[
            frame(HEADERS, PADDED | PRIORITY, &padded),
            frame(CONTINUATION, END_HEADERS, second),
        ]);
        let (told, _) = told(&cut);
        let names: Vec<_> = told.iter().map(|(leak, _)| *leak).collect();
        assert_eq!(names, TOLD.map(|(leak, _)| leak));
        assert_eq!(told[2].1, "Basic dGVzdA");
    }

    #[test]
    fn later_requests_name_what_earlier_ones_said_however_the_stream_is_cut() {
        // Entries 62 to 66: the software, the cookie, the authorization, the host, the path.
        let frames = [
            frame(HEADERS, END_HEADERS, &block()),
            frame(HEADERS, END_HEADERS, b"\x82\x86\x84\xbf\xc0"),
        ];
        let stream = stream(&frames);
        let (mut reader, mut found) = (Reader::default(), Vec::new());
        for byte in stream.chunks(1) {
            reader.read(byte, &mut found);
        }
        let leaks: Vec<_> = found.iter().map(|finding| finding.leak).collect();
        assert_eq!(leaks.len(), 7, "{leaks:?}");
        assert_eq!(leaks[5..], ["http.cookie", "http.authorization"]);
        assert_eq!(found[6].sample, "B…dA");
        assert_eq!(reader.pending(), 0);
    }

    #[test]
    fn of_a_block_that_is_too_long_what_there_is_is_told() {
        let long = [block(), b"\x40\x01x\x7f\xf1\x2e".to_vec(), vec![b'v'; 6000]].concat();
        let after = frame(HEADERS, END_HEADERS, &block());
        let (told, _) = told(&stream(&[frame(HEADERS, END_HEADERS, &long), after]));
        let names: Vec<_> = told.iter().map(|(leak, _)| *leak).collect();
        assert_eq!(names, TOLD.map(|(leak, _)| leak));
    }

    #[test]
    fn bodies_are_read_and_what_is_out_of_order_is_not() {
        let leaks = |frames: &[Vec<u8>]| -> Vec<_> {
            let told = told(&stream(frames)).0;
            told.into_iter().map(|(leak, _)| leak).collect()
        };
        let body = frame(DATA, PADDED, b"\x02{\"user\":\"anne\"}\0\0");
        assert_eq!(leaks(&[body]), ["parameter.person"]);
        assert!(leaks(&[frame(CONTINUATION, END_HEADERS, &block())]).is_empty());
        let between = [frame(HEADERS, 0, b"\x82"), frame(SETTINGS, 0, b"")];
        assert!(leaks(&between).is_empty());
        let without = [PREFACE, &frame(HEADERS, END_HEADERS, &block())].concat();
        assert_eq!(told(&without).0, []);
        let other = told(b"PRI * HTTP/1.1\r\n\r\n").1;
        assert_ne!(other.map(|reading| reading.protocol), Some("http2"));
    }

    proptest! {
        /// Headers of random flags around random bytes, some of which are a block's.
        #[test]
        fn whatever_frames_come_fields_lie_within_what_was_read(
            frames in prop::collection::vec(
                (prop::sample::select(vec![DATA, HEADERS, SETTINGS, CONTINUATION, 8]), any::<u8>(),
                 prop::collection::vec(any::<u8>(), 0..60), any::<bool>()),
                0..12,
            ),
            length in 1_usize..200,
        ) {
            let frames: Vec<Vec<u8>> = frames
                .into_iter()
                .map(|(kind, flags, bytes, real)| {
                    let content = if real { [block(), bytes].concat() } else { bytes };
                    frame(kind, flags, &content)
                })
                .collect();
            let mut reader = Reader::default();
            for chunk in stream(&frames).chunks(length) {
                let mut found = Vec::new();
                reader.read(chunk, &mut found);
                for finding in found {
                    prop_assert!(finding.span.start <= finding.span.end);
                    prop_assert!(finding.span.end <= chunk.len());
                    prop_assert!(finding.earlier.1 <= finding.earlier.0);
                }
            }
        }
    }

    #[test]
    fn an_upgraded_connection_is_read_on() {
        let mut bytes = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\n\r\n".to_vec();
        bytes.extend(stream(&[frame(HEADERS, END_HEADERS, b"\x60\x04id=9")]));
        let (told, _) = told(&bytes);
        assert_eq!(told[1], ("http.cookie", "id=9".to_owned()));
    }
}
