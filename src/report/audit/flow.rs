//! One flow of a capture and what was found in it.

use crate::sanitize::{Certainty, Class, Finding, Reading, Stream};
use crate::time::Time;
use std::net::SocketAddr;

use super::assembly::Assembly;

/// Frame numbers kept of one finding; beyond that only their count grows.
const MOST_FRAMES: usize = 1000;
/// Findings kept of one flow.
const MOST_FINDINGS: usize = 64;
/// Bytes shown around a finding.
const AROUND: usize = 24;
/// Moments kept of one finding.
const MOST_MOMENTS: usize = 200;

/// Which flow: protocol, the side that opened it, the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Transport protocol number.
    pub protocol: u8,
    /// The side that opened it.
    pub source: SocketAddr,
    /// The other side.
    pub destination: SocketAddr,
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
    /// What was found, each kind of finding once.
    pub findings: Vec<Told>,
    /// Frames that carried what was to be stopped and left before that could be known.
    pub leaked: Vec<u64>,
    /// Datagrams of the opener so far.
    pub(super) index: u32,
    pub(super) opener: Assembly,
    pub(super) stream: Stream,
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
    /// The value's bytes where first found. They are what leaks: never print them.
    pub value: Vec<u8>,
    /// The bytes before it and after it; those of other findings are left out.
    pub context: (Vec<Option<u8>>, Vec<Option<u8>>),
}

impl Flow {
    pub(super) fn new(key: Key, at: Time) -> Self {
        Self {
            key,
            packets: 0,
            bytes: 0,
            first: at,
            last: at,
            reading: None,
            names: Vec::new(),
            findings: Vec::new(),
            leaked: Vec::new(),
            index: 0,
            opener: Assembly::default(),
            stream: Stream::default(),
        }
    }

    /// Adds what was found in the payload of a frame. A finding of the same kind and value is the same finding.
    pub(super) fn tell(&mut self, (number, at): (u64, Time), payload: &[u8], found: &[Finding]) {
        for finding in found {
            let value = payload.get(finding.span.clone()).unwrap_or_default();
            if finding.class == Class::DestMeta {
                self.name(value, finding);
            }
            let room = self.findings.len() < MOST_FINDINGS;
            let known = self.findings.iter_mut().find(|told| {
                told.leak == finding.leak
                    && told.field == finding.field
                    && (told.sample == finding.sample || told.class == Class::Content)
            });
            match known {
                Some(told) => told.again(number, at),
                None if room => {
                    let mut told = Told::new(finding, (number, at), payload);
                    told.context = context(finding, payload, found);
                    self.findings.push(told);
                }
                None => {}
            }
        }
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
    fn new(finding: &Finding, (number, at): (u64, Time), payload: &[u8]) -> Self {
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
            value: payload
                .get(start..end.min(start + 256))
                .unwrap_or_default()
                .to_vec(),
            context: (Vec::new(), Vec::new()),
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

    fn again(&mut self, number: u64, at: Time) {
        if self.packets.last() == Some(&number) {
            return;
        }
        self.count += 1;
        if self.packets.len() < MOST_FRAMES {
            self.packets.push(number);
        }
        if self.moments.len() < MOST_MOMENTS {
            self.moments.push(at);
        }
    }
}

/// The bytes before and after a finding, without those of any other.
fn context(
    finding: &Finding,
    payload: &[u8],
    all: &[Finding],
) -> (Vec<Option<u8>>, Vec<Option<u8>>) {
    let (start, end) = (finding.span.start, finding.span.end);
    let shown = |from: usize, to: usize| -> Vec<Option<u8>> {
        (from..to.min(payload.len()))
            .map(|at| {
                let hidden = all.iter().any(|other| other.span.contains(&at));
                payload.get(at).copied().filter(|_| !hidden)
            })
            .collect()
    };
    (
        shown(start.saturating_sub(AROUND), start),
        shown(end, end.saturating_add(AROUND)),
    )
}
