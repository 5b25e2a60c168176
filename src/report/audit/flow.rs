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
    /// The value's bytes where first found. They are what leaks: never print them.
    pub value: Vec<u8>,
    /// The bytes before it and after it.
    pub context: (Vec<u8>, Vec<u8>),
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
    pub(super) fn tell<'f>(
        &mut self,
        number: u64,
        payload: &[u8],
        found: impl Iterator<Item = &'f Finding>,
    ) {
        for finding in found {
            let value = payload.get(finding.span.clone()).unwrap_or_default();
            if finding.class == Class::DestMeta {
                self.name(value, finding);
            }
            let room = self.findings.len() < MOST_FINDINGS;
            let known = self.findings.iter_mut().find(|told| {
                told.leak == finding.leak
                    && told.field == finding.field
                    && told.sample == finding.sample
            });
            match known {
                Some(told) => told.again(number),
                None if room => {
                    self.findings.push(Told::new(finding, number, payload));
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
    fn new(finding: &Finding, number: u64, payload: &[u8]) -> Self {
        let (start, end) = (finding.span.start, finding.span.end);
        let slice = |from: usize, to: usize| payload.get(from..to).unwrap_or_default().to_vec();
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
            value: slice(start, end.min(start + 256)),
            context: (
                slice(start.saturating_sub(AROUND), start),
                slice(end, end.saturating_add(AROUND).min(payload.len())),
            ),
        }
    }

    fn again(&mut self, number: u64) {
        if self.packets.last() == Some(&number) {
            return;
        }
        self.count += 1;
        if self.packets.len() < MOST_FRAMES {
            self.packets.push(number);
        }
    }
}
