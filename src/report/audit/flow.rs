//! One flow of a capture and what was found in it.

use crate::link::frame::Segment;
use crate::sanitize::{
    COMPARED, Certainty, Class, Context, Excerpt, Finding, Reading, Sanitizer, Stream,
};
use crate::time::Time;
use std::net::SocketAddr;

use super::assembly::Assembly;

/// Datagrams of an encrypted flow that are looked at.
const SEALED: u32 = 8;
/// Frame numbers kept of one finding; beyond that only their count grows.
const MOST_FRAMES: usize = 1000;
/// Findings kept of one flow.
const MOST_FINDINGS: usize = 64;
/// Bytes that a finding takes, and one more frame of it.
const FINDING: usize = 1024;
const REPEATED: usize = 16;
/// Moments kept of one finding.
const MOST_MOMENTS: usize = 200;

/// Which flow: protocol, the side that opened it, the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Transport protocol number.
    pub protocol: u8,
    /// The side that opened it.
    pub source: SocketAddr,
    /// The other side.
    pub destination: SocketAddr,
}

impl Key {
    /// The other direction.
    pub(super) fn turned(self) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ..self
        }
    }
}

/// One flow.
#[derive(Debug)]
pub struct Flow {
    /// Which.
    pub key: Key,
    /// Frames both ways.
    pub packets: u64,
    /// Bytes of IP packets both ways.
    pub bytes: u64,
    /// First and last frame.
    pub first: Time,
    /// See `first`.
    pub last: Time,
    /// What it proved to be.
    pub reading: Option<Reading>,
    /// Names of the other side, as the flow itself told them.
    pub names: Vec<String>,
    /// Names that its opener was given for the other side before it began, and when.
    pub resolved: Vec<(Box<str>, Time)>,
    /// What was found, each kind of finding once.
    pub findings: Vec<Told>,
    /// Frames that carried what was to be stopped and left before that could be known.
    pub leaked: Vec<u64>,
    /// Datagrams of the opener so far.
    pub(super) index: u32,
    pub(super) opener: Assembly,
    pub(super) stream: Stream,
    /// What its findings take, in bytes, roughly.
    kept: usize,
}

/// A finding with all frames it was found in.
#[derive(Clone, Debug)]
pub struct Told {
    /// What kind of thing.
    pub class: Class,
    /// Which detector.
    pub detector: &'static str,
    /// Which field.
    pub field: String,
    /// Its name in policies.
    pub leak: &'static str,
    /// How sure.
    pub certainty: Certainty,
    /// Frames, counted from 1; of very many the first ones.
    pub packets: Vec<u64>,
    /// How many frames.
    pub count: u64,
    /// Where it begins in the payload of the first of them.
    pub offset: usize,
    /// Its length there.
    pub length: usize,
    /// A masked sample.
    pub sample: String,
    /// When the first of them were captured.
    pub moments: Vec<Time>,
    /// The value where first found, and the bytes around it.
    pub excerpt: Excerpt,
}

impl Flow {
    pub(in crate::report) fn new(key: Key, at: Time) -> Self {
        Self {
            key,
            packets: 0,
            bytes: 0,
            first: at,
            last: at,
            reading: None,
            names: Vec::new(),
            resolved: Vec::new(),
            findings: Vec::new(),
            leaked: Vec::new(),
            index: 0,
            opener: Assembly::default(),
            stream: Stream::default(),
            kept: 0,
        }
    }

    /// All names of the other side, best evidence first, each once.
    pub fn all_names(&self) -> impl Iterator<Item = &str> {
        let resolved = self.resolved.iter().map(|(name, _)| name.as_ref());
        let others = resolved.filter(|name| !self.names.iter().any(|told| told == name));
        self.names.iter().map(String::as_str).chain(others)
    }

    /// Adds what was found in the payload of a frame. A finding of the same kind and value is the same finding.
    pub(super) fn tell(&mut self, (number, at): (u64, Time), payload: &[u8], found: &[Finding]) {
        for finding in found {
            let value = payload.get(finding.span.clone()).unwrap_or_default();
            if finding.class == Class::DestMeta {
                self.name(value, finding);
            }
            let excerpt = || Excerpt::of(payload, finding, found);
            self.note((number, at), finding, excerpt);
        }
    }

    /// Adds one finding; the excerpt is asked for if it is a new one. Where it stands among the flow's, if it is kept.
    pub(in crate::report) fn note(
        &mut self,
        (number, at): (u64, Time),
        finding: &Finding,
        excerpt: impl FnOnce() -> Excerpt,
    ) -> Option<usize> {
        let known = self.findings.iter().position(|told| {
            told.leak == finding.leak
                && told.field == finding.field
                && (told.sample == finding.sample || told.class == Class::Content)
        });
        if known.is_none() && self.findings.len() < MOST_FINDINGS {
            self.kept += FINDING;
            self.findings
                .push(Told::new(finding, (number, at), excerpt()));
            return Some(self.findings.len() - 1);
        }
        if self.findings.get_mut(known?)?.again(number, at) {
            self.kept += REPEATED;
        }
        known
    }

    /// Takes a segment of the opener; `found` is empty before and after.
    pub(super) fn segment(
        &mut self,
        (number, at): (u64, Time),
        (segment, payload): (Segment, &[u8]),
        sanitizer: &Sanitizer,
        found: &mut Vec<Finding>,
    ) {
        if segment.syn {
            self.opener.start(segment.sequence.wrapping_add(1));
        }
        let Self { opener, stream, .. } = self;
        let mut told: Vec<(u64, Vec<u8>, Vec<Finding>)> = Vec::new();
        opener.take(segment.sequence, payload, number, |number, bytes| {
            sanitizer.stream(stream, bytes, found);
            if !found.is_empty() {
                told.push((number, bytes.to_vec(), std::mem::take(found)));
            }
        });
        for (number, bytes, found) in told {
            self.tell((number, at), &bytes, &found);
        }
        self.reading = self.stream.reading().or(self.reading);
    }

    /// What is known of the opener's next datagram beside its payload; none if it need not be looked at. `blocked` says
    /// whether the policy blocks the jurisdiction of an address.
    pub(super) fn datagram(
        &mut self,
        now: Time,
        blocked: impl FnOnce(SocketAddr) -> bool,
    ) -> Option<Context> {
        let index = self.index;
        self.index = index.saturating_add(1);
        // A server's name may stand in any of the first packets of a flow that is encrypted, and nothing after them.
        if index >= SEALED && self.reading.is_some_and(|reading| reading.sealed) {
            return None;
        }
        Some(Context {
            client: self.key.source.ip(),
            sport: self.key.source.port(),
            remote: self.key.destination,
            index,
            now,
            // Of later ones nothing new is remembered.
            blocked: index < COMPARED && blocked(self.key.destination),
        })
    }

    /// Bytes that it takes beyond those that every flow takes, roughly.
    pub(super) fn weight(&self) -> usize {
        self.opener.held() + self.stream.pending() + self.kept
    }

    /// Keeps a destination's name where it stands readable in the payload.
    fn name(&mut self, value: &[u8], finding: &Finding) {
        let host = matches!(
            finding.leak,
            "tls.server-name" | "http.host" | "sd-rtn.server" | "socks.destination" | "coap.host"
        );
        let name = String::from_utf8_lossy(value).into_owned();
        if host && !name.is_empty() && !self.names.contains(&name) && self.names.len() < 8 {
            self.names.push(name);
        }
    }
}

impl Told {
    fn new(finding: &Finding, (number, at): (u64, Time), excerpt: Excerpt) -> Self {
        let (start, end) = (finding.span.start, finding.span.end);
        Self {
            class: finding.class,
            detector: finding.detector,
            field: finding.field.clone(),
            leak: finding.leak,
            certainty: finding.certainty,
            packets: vec![number],
            count: 1,
            offset: start,
            length: end - start,
            sample: finding.sample.clone(),
            moments: vec![at],
            excerpt,
        }
    }

    /// Whether it is worth a line of its own: sure enough, and more than a destination's name or a program's.
    pub fn is_grave(&self) -> bool {
        self.certainty > Certainty::Suspected
            && !matches!(
                self.class,
                Class::DestMeta | Class::Software | Class::ServiceMeta
            )
    }

    /// Keeps no more of its frames than a page shows.
    pub(in crate::report) fn trim(&mut self, moments: usize) {
        self.packets.truncate(1);
        self.packets.shrink_to_fit();
        self.moments.truncate(moments);
        self.moments.shrink_to_fit();
    }

    /// Adds a frame; whether it takes room.
    fn again(&mut self, number: u64, at: Time) -> bool {
        if self.packets.last() == Some(&number) {
            return false;
        }
        self.count += 1;
        if self.moments.len() < MOST_MOMENTS {
            self.moments.push(at);
        }
        let room = self.packets.len() < MOST_FRAMES;
        if room {
            self.packets.push(number);
        }
        room
    }
}
