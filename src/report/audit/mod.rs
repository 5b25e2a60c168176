//! What a capture shows: its flows, and what each gave away. The same sanitizer as the live gate's, driven by the
//! capture's own clock.

mod assembly;
mod fanout;
mod flow;
mod flows;

pub use fanout::Fanout;
pub use flow::{Flow, Key, Told};

use crate::link::frame::{self, Seen};
use crate::link::pcap::Frame;
use crate::names::Names;
use crate::packet::fragment::{Limits, Reassembler};
use crate::packet::protocol::UDP;
use crate::packet::{Checksum, Parsed};
use crate::sanitize::{Finding, Memory, Reading, Sanitizer};
use crate::time::Time;
pub(in crate::report) use fanout::Recent;
use flows::Flows;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const DNS: u16 = 53;
/// A flow silent for this long is over; what comes later is a new one.
const IDLE: Duration = Duration::from_secs(600);
/// Most flows under way, and most bytes that all of them may take beyond what every flow takes; beyond either, those
/// silent for longest are taken as over.
const MOST_FLOWS: usize = 65_536;
const MOST_BYTES: usize = 48 << 20;

/// Pairs of client and address whose names are remembered.
const MOST_NAMES: usize = 50_000;
/// Fragments that wait for others; together at most 4 MiB.
const FRAGMENTS: Limits = Limits {
    datagrams: 1024,
    per_source: 256,
    bytes: 4 << 20,
    timeout: Duration::from_secs(30),
};

/// A capture being audited.
#[derive(Debug)]
pub struct Audit {
    sanitizer: Sanitizer,
    memory: Memory,
    names: Names,
    fragments: Reassembler,
    flows: Flows,
    /// What the flows take, as [`MOST_BYTES`] counts.
    weight: usize,
    recent: Recent,
    fanouts: Vec<Fanout>,
    found: Vec<Finding>,
    swept: Time,
}

impl Audit {
    /// An audit that has seen nothing.
    pub fn new(sanitizer: Sanitizer) -> Self {
        Self {
            sanitizer,
            memory: Memory::default(),
            names: Names::new(MOST_NAMES, 0),
            fragments: Reassembler::new(FRAGMENTS),
            flows: Flows::default(),
            weight: 0,
            recent: Recent::default(),
            fanouts: Vec::new(),
            found: Vec::new(),
            swept: Time::default(),
        }
    }

    /// Takes a frame, as [`packet`](Self::packet) does. Fragments are put together: what they carry is read with the
    /// last of them, and the beginning with the first too, in case the capture has not all.
    pub fn frame(
        &mut self,
        frame: &Frame<'_>,
        mut blocked: impl FnMut(IpAddr, SocketAddr) -> bool,
        mut over: impl FnMut(Flow),
    ) {
        let Some(bytes) = frame::network(frame) else {
            return;
        };
        let Some(seen) = frame::read(bytes) else {
            return;
        };
        let moment = (frame.number, frame.at);
        if !seen.fragment {
            let from = seen.source.ip();
            return self.packet(moment, &seen, |to| blocked(from, to), over);
        }
        let whole = Parsed::read(bytes, Checksum::Trust)
            .ok()
            .and_then(|parsed| self.fragments.take(&parsed, bytes, frame.at).ok().flatten());
        let seen = match &whole {
            None if seen.source.port() == 0 => return,
            None => Some(seen),
            Some(whole) => frame::read(whole),
        };
        if let Some(seen) = seen {
            let from = seen.source.ip();
            self.packet(moment, &seen, |to| blocked(from, to), &mut over);
        }
    }

    /// Takes the packet of a frame. `blocked` says whether the policy blocks the jurisdiction of an address. `over` is
    /// called with every flow that is over by then.
    pub fn packet(
        &mut self,
        (number, at): (u64, Time),
        seen: &Seen<'_>,
        blocked: impl FnOnce(SocketAddr) -> bool,
        mut over: impl FnMut(Flow),
    ) {
        self.sweep(at, &mut over);
        let Self { flows, names, .. } = self;
        let (flow, from_opener) = flows.of(seen, |key| {
            let mut flow = Box::new(Flow::new(key, at));
            flow.reading = Reading::of_ip(key.protocol);
            let known = names.of(key.source.ip(), key.destination.ip(), at);
            flow.resolved
                .extend(known.map(|learned| (learned.name.clone(), learned.at)));
            flow
        });
        flow.packets += 1;
        flow.bytes += seen.length as u64;
        flow.last = flow.last.max(at);
        let datagram = seen.protocol == UDP && !seen.payload.is_empty();
        if !from_opener {
            if datagram && flow.key.destination.port() == DNS {
                names.learn(flow.key.source.ip(), seen.payload, at);
            }
            return;
        }
        let found = &mut self.found;
        if let Some(segment) = seen.segment {
            let before = flow.weight();
            let segment = (segment, seen.payload);
            flow.segment((number, at), segment, &self.sanitizer, found);
            self.weight = (self.weight + flow.weight()).saturating_sub(before);
        } else if datagram && let Some(context) = flow.datagram(at, blocked) {
            let memory = &mut self.memory;
            let reading = self
                .sanitizer
                .datagram(memory, &context, seen.payload, found);
            flow.reading = reading.or(flow.reading);
            let key = flow.key;
            self.recent.remember(key, (number, at), seen.payload);
            if !found.is_empty() {
                self.tell(key, (number, at), seen.payload);
            }
        }
    }

    /// Takes what was found in a datagram.
    fn tell(&mut self, key: Key, (number, at): (u64, Time), payload: &[u8]) {
        let Some(flow) = self.flows.get_mut(&key) else {
            return;
        };
        let before = flow.weight();
        flow.tell((number, at), payload, &self.found);
        self.weight = (self.weight + flow.weight()).saturating_sub(before);
        let shared = |finding: &&Finding| finding.detector == "probe-fanout";
        for finding in self.found.iter().filter(shared) {
            let value = payload.get(finding.span.clone()).unwrap_or_default();
            let before =
                self.recent
                    .fan_out(key, (number, at), (value, finding), &mut self.fanouts);
            for (key, number) in before {
                if let Some(flow) = self.flows.get_mut(key) {
                    flow.leaked.push(*number);
                }
            }
        }
        self.found.clear();
    }

    /// Everything that is not over yet, in the order in which it began, and all fan-outs.
    pub fn finish(mut self, over: impl FnMut(Flow)) -> Vec<Fanout> {
        let mut rest: Vec<Box<Flow>> = self.flows.drain().collect();
        rest.sort_by_key(|flow| (flow.first, flow.key));
        rest.into_iter().map(|flow| *flow).for_each(over);
        self.fanouts
    }

    /// Hands out flows that have been silent for long.
    fn sweep(&mut self, now: Time, over: &mut impl FnMut(Flow)) {
        let full = self.flows.len() >= MOST_FLOWS || self.weight >= MOST_BYTES;
        if now.since(self.swept) < Duration::from_secs(10) && !full {
            return;
        }
        self.swept = now;
        let idle = if full { IDLE / 60 } else { IDLE };
        let mut gone: Vec<Key> = self
            .flows
            .iter()
            .filter(|flow| now.since(flow.last) > idle)
            .map(|flow| flow.key)
            .collect();
        if gone.is_empty() && full {
            let mut all: Vec<(Time, Key)> = self
                .flows
                .iter()
                .map(|flow| (flow.last, flow.key))
                .collect();
            all.sort_unstable();
            let oldest = all.len().div_ceil(4);
            gone = all.into_iter().take(oldest).map(|(_, key)| key).collect();
        }
        gone.sort_unstable();
        for key in gone {
            if let Some(flow) = self.flows.remove(&key) {
                self.weight = self.weight.saturating_sub(flow.weight());
                over(*flow);
            }
        }
    }
}

#[cfg(test)]
mod tests;
