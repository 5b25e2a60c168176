//! What a payload gives away in the clear: bytes in, findings out. Which finding is acted on, the policy says.
//!
//! Four stages, cheapest first: `scope` judges the destination alone; the dissectors read known protocols to their
//! last byte; declared [`Secret`]s are searched in every encoding; values that go to several servers are told by what
//! the [`Memory`] has seen. A datagram is judged before it is sent, a stream chunk by chunk.

mod class;
mod dissect;
mod fanout;
mod finding;
mod redact;
mod scope;
mod secret;
mod vocabulary;

pub use class::{Certainty, Class};
pub use dissect::Reading;
pub use fanout::{Bounds, COMPARED, Memory};
pub use finding::{Excerpt, Finding, Leak, mask};
pub use scope::{Discovery, Scope, scope, scope_within};
pub use secret::{Kind, MAX_NAME, MAX_SECRETS, MAX_VALUE, MIN_VALUE, Secret, SecretError};
pub use vocabulary::{Term, vocabulary};

use crate::time::Time;
use dissect::{Notes, Reader};
use ring::hmac;
use secret::{Cursor, Payload, Scanner};
use std::net::{IpAddr, SocketAddr};

/// What a detector may know of a datagram beside its payload.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Inside address.
    pub client: IpAddr,
    /// Inside port.
    pub sport: u16,
    /// Outside address and port.
    pub remote: SocketAddr,
    /// How many datagrams of this flow came before.
    pub index: u32,
    /// When.
    pub now: Time,
    /// The policy blocks the jurisdiction of the remote address.
    pub blocked: bool,
}

/// Everything that does not change between payloads: the compiled secrets. Shared between threads.
#[derive(Debug)]
pub struct Sanitizer {
    scanner: Option<Scanner>,
    key: hmac::Key,
}

impl Default for Sanitizer {
    /// Without secrets, and with a key that everyone knows.
    fn default() -> Self {
        Self {
            scanner: None,
            key: hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]),
        }
    }
}

/// What is remembered of one direction of one TCP flow: under 100 bytes, and up to 4 KiB while a message is incomplete.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    cursor: Option<Cursor>,
    reader: Reader,
    position: u64,
}

/// Bytes of a stream that are searched for declared secrets after it proved to be encrypted.
const SEALED_DEPTH: u64 = 2048;

impl Sanitizer {
    /// Compiles the declared secrets. Their number and size are bounded ([`MAX_SECRETS`], [`MAX_VALUE`]); no error
    /// echoes a value.
    pub fn new(secrets: &[Secret]) -> Result<Self, SecretError> {
        Ok(Self {
            scanner: Scanner::new(secrets)?,
            ..Self::default()
        })
    }

    /// The same, with a key for pseudonyms. The shell takes it from the system's randomness at start: with a known key
    /// a pseudonym can be traced back by trying names.
    #[must_use]
    pub fn with_key(mut self, key: &[u8; 32]) -> Self {
        self.key = hmac::Key::new(hmac::HMAC_SHA256, key);
        self
    }

    /// Rewrites what was found in a datagram or chunk, in place and without changing its length: header values, cookies,
    /// parameters, EDNS and DHCP options, RTCP names. True if all of it is gone; if not, the rest must be dropped.
    /// Transport checksums are the caller's.
    #[must_use]
    pub fn redact(&self, payload: &mut [u8], found: &[Finding]) -> bool {
        redact::redact(&self.key, payload, found)
    }

    /// The same in a stream. `held` are the bytes that have not left yet; what was found counts from `chunk` in them.
    /// False also if a part of it has left.
    #[must_use]
    pub fn redact_stream(&self, held: &mut [u8], chunk: usize, found: &[Finding]) -> bool {
        redact::redact_stream(&self.key, held, chunk, found)
    }

    /// Judges an outgoing datagram before it is sent: appends what it gives away to `found`, spans relative to
    /// `payload`, and says what it proved to be. Allocates only if something is found, or remembered in `memory`.
    pub fn datagram(
        &self,
        memory: &mut Memory,
        context: &Context,
        payload: &[u8],
        found: &mut Vec<Finding>,
    ) -> Option<Reading> {
        let first = found.len();
        if let Some(scanner) = &self.scanner {
            scanner.scan(&mut scanner.begin(), Payload::Datagram(payload), found);
        }
        let mut notes = Notes::new(payload, found);
        let reading = dissect::datagram(payload, &mut notes);
        if reading.is_none() {
            dissect::unknown(payload, &mut notes);
        }
        if memory.compares(context) {
            let parts = fanout::parts(reading, notes);
            memory.judge(context, payload, parts, found);
        }
        drop_doubles(found, first);
        reading
    }

    /// Judges the next outgoing bytes of a TCP flow before they are sent. Spans are relative to `chunk`, which begins
    /// at [`Stream::position`] as it was before the call; a value that straddles chunks is told with its last one.
    pub fn stream(&self, stream: &mut Stream, chunk: &[u8], found: &mut Vec<Finding>) {
        let first = found.len();
        stream.reader.read(chunk, found);
        if let Some(scanner) = &self.scanner
            && !(stream.is_sealed() && stream.position >= SEALED_DEPTH)
        {
            let cursor = stream.cursor.get_or_insert_with(|| scanner.begin());
            scanner.scan(cursor, Payload::Chunk(chunk), found);
            drop_doubles(found, first);
        }
        stream.position = stream.position.saturating_add(chunk.len() as u64);
    }

    /// Whether nothing of the later bytes of a stream is looked at: no protocol is being read, and no secret searched.
    pub fn is_done(&self, stream: &Stream) -> bool {
        let searched =
            self.scanner.is_some() && !(stream.is_sealed() && stream.position >= SEALED_DEPTH);
        stream.reader.is_done() && !searched
    }

    /// Whether secrets were declared: then every payload that can be read is searched to its end.
    pub fn has_secrets(&self) -> bool {
        self.scanner.is_some()
    }
}

/// Leaves out values known only by their names or their look, where a declared secret says better what they are.
fn drop_doubles(found: &mut Vec<Finding>, first: usize) {
    let new = found.get(first..).unwrap_or_default();
    let is_secret = |finding: &&Finding| finding.leak == secret::SECRET.name;
    if new.len() < 2 || !new.iter().any(|finding| is_secret(&finding)) {
        return;
    }
    let secrets = new.iter().filter(is_secret);
    let secrets: Vec<_> = secrets.map(|finding| finding.span.clone()).collect();
    let mut index = 0;
    found.retain(|finding| {
        index += 1;
        let vague = matches!(finding.detector, "parameter" | "text");
        let inside = |secret: &std::ops::Range<usize>| {
            secret.start <= finding.span.start && finding.span.end <= secret.end
        };
        index <= first || !vague || !secrets.iter().any(inside)
    });
}

/// The name of every dissector, each once, sorted.
pub fn dissectors() -> Vec<&'static str> {
    let mut names: Vec<_> = dissect::names().collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// Reads a datagram with the dissector of this name alone, whatever others would make of it: for tests that aim at one.
/// False if it does not know the datagram; then nothing is found.
pub fn dissect_alone(name: &str, payload: &[u8], found: &mut Vec<Finding>) -> bool {
    dissect::datagram_by(name, payload, &mut Notes::new(payload, found))
}

impl Stream {
    /// A stream that is read as this protocol, whatever it looks like: for tests that aim at one. `None` if no
    /// dissector of this name reads streams.
    pub fn of(protocol: &str) -> Option<Self> {
        Some(Self {
            reader: Reader::of(protocol)?,
            ..Self::default()
        })
    }

    /// Bytes judged so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What the stream proved to be, once it is known.
    pub fn reading(&self) -> Option<Reading> {
        self.reader.reading()
    }

    /// How many of the last bytes belong to a message that is not complete, at most 4 KiB. What they hold may be told
    /// only when the rest is there: to let nothing leave before, hold them back for a bounded time.
    pub fn pending(&self) -> usize {
        self.reader.pending()
    }

    fn is_sealed(&self) -> bool {
        self.reading().is_some_and(|reading| reading.sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(server: u8) -> Context {
        Context {
            client: IpAddr::from([192, 168, 7, 2]),
            sport: 40_000,
            remote: SocketAddr::from(([203, 0, 113, server], 8000)),
            index: 0,
            now: Time::from_secs(1_612_750_000),
            blocked: false,
        }
    }

    const PING: &[u8] = b"ping seq=1 n=512345687 r=M5xk2Rj9";

    #[test]
    fn a_declared_number_is_told_at_the_first_ping() {
        let secrets = [Secret::new("user", "512345687", Kind::Guess).unwrap()];
        let sanitizer = Sanitizer::new(&secrets).unwrap();
        let mut found = Vec::new();
        sanitizer.datagram(&mut Memory::default(), &context(1), PING, &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].leak, found[0].certainty),
            ("secret", Certainty::Certain)
        );
        assert_eq!(&PING[found[0].span.clone()], b"512345687");
    }

    #[test]
    fn an_unknown_number_is_told_at_the_third_server() {
        let sanitizer = Sanitizer::default();
        let mut memory = Memory::default();
        let mut told = Vec::new();
        for server in 1..=4 {
            let mut found = Vec::new();
            sanitizer.datagram(&mut memory, &context(server), PING, &mut found);
            told.push(!found.is_empty());
        }
        assert_eq!(told, [false, false, true, true]);
    }

    #[test]
    fn a_protocol_that_was_read_is_not_compared_across_servers() {
        let sanitizer = Sanitizer::default();
        let mut memory = Memory::default();
        let oicq = b"\x02\x36\x49\x00\x22\x01\x02\x1e\x89\xc5\xd7abcdefghijklmnop\x03";
        for server in 1..=4 {
            let mut found = Vec::new();
            let reading = sanitizer.datagram(&mut memory, &context(server), oicq, &mut found);
            assert_eq!(reading.map(|reading| reading.protocol), Some("oicq"));
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].leak, "oicq.account");
        }
    }

    #[test]
    fn a_stream_keeps_its_place_across_chunks() {
        let secrets = [Secret::new("mail", "alice@example.com", Kind::Guess).unwrap()];
        let sanitizer = Sanitizer::new(&secrets).unwrap();
        let mut stream = Stream::default();
        let mut found = Vec::new();
        sanitizer.stream(&mut stream, b"From: alice@exam", &mut found);
        assert_eq!((found.len(), stream.position()), (0, 16));
        sanitizer.stream(&mut stream, b"ple.com\r\n", &mut found);
        assert_eq!(found[0].span, 0..7);
        assert_eq!(stream.position(), 25);
    }
}
