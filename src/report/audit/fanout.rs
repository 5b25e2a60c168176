//! One value to several servers, told with everything that carried it before it was known.

use super::flow::Key;
use crate::sanitize::{Certainty, Class, Finding};
use crate::time::Time;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

/// Datagrams remembered, how much of each, and for how long.
const MOST: usize = 4096;
const DEPTH: usize = 256;
const WINDOW: Duration = Duration::from_secs(5);
/// Values told at most, and frames of one.
const MOST_FANOUTS: usize = 1000;
const MOST_FRAMES: usize = 1000;

/// One value sent to several servers.
#[derive(Clone, Debug)]
pub struct Fanout {
    /// Who sent it.
    pub source: IpAddr,
    /// The value. It is what leaks.
    pub value: Vec<u8>,
    /// What it looks like.
    pub class: Class,
    /// How sure.
    pub certainty: Certainty,
    /// The servers it went to, in order.
    pub destinations: Vec<IpAddr>,
    /// First and last frame.
    pub first: Time,
    /// See `first`.
    pub last: Time,
    /// Frames that carried it, counted from 1.
    pub packets: Vec<u64>,
    /// Flows and frames that carried it before it was known.
    pub leaked: Vec<(Key, u64)>,
}

/// The first bytes of recent datagrams.
#[derive(Debug, Default)]
pub(in crate::report) struct Recent {
    datagrams: VecDeque<Datagram>,
    /// The bytes of them all, each in a place of its own, used in turn.
    heads: Vec<[u8; DEPTH]>,
    /// The next place.
    next: usize,
}

#[derive(Debug)]
struct Datagram {
    key: Key,
    number: u64,
    at: Time,
    place: usize,
    length: usize,
}

impl Recent {
    pub(super) fn remember(&mut self, key: Key, (number, at): (u64, Time), payload: &[u8]) {
        let past = |old: &Datagram| at.since(old.at) > WINDOW;
        while self.datagrams.len() >= MOST || self.datagrams.front().is_some_and(past) {
            self.datagrams.pop_front();
        }
        let length = payload.len().min(DEPTH);
        if self.next == self.heads.len() {
            self.heads.push([0; DEPTH]);
        }
        if let (Some(place), Some(head)) = (self.heads.get_mut(self.next), payload.get(..length))
            && let Some(place) = place.get_mut(..length)
        {
            place.copy_from_slice(head);
        }
        self.datagrams.push_back(Datagram {
            key,
            number,
            at,
            place: self.next,
            length,
        });
        self.next = (self.next + 1) % MOST;
    }

    fn head(&self, datagram: &Datagram) -> &[u8] {
        let place = self.heads.get(datagram.place);
        place
            .and_then(|head| head.get(..datagram.length))
            .unwrap_or_default()
    }

    /// Adds the sending of a shared value; on its first one, returns what was sent before.
    pub(in crate::report) fn fan_out<'f>(
        &self,
        key: Key,
        (number, at): (u64, Time),
        (value, finding): (&[u8], &Finding),
        fanouts: &'f mut Vec<Fanout>,
    ) -> &'f [(Key, u64)] {
        let source = key.source.ip();
        let known = fanouts.iter().position(|known| {
            known.source == source
                && (memchr::memmem::find(&known.value, value).is_some()
                    || memchr::memmem::find(value, &known.value).is_some())
        });
        if known.is_none() {
            if fanouts.len() >= MOST_FANOUTS {
                return &[];
            }
            fanouts.push(self.opened(source, (number, at), value, finding));
        }
        let index = known.unwrap_or(fanouts.len() - 1);
        let Some(fanout) = fanouts.get_mut(index) else {
            return &[];
        };
        fanout.last = fanout.last.max(at);
        fanout.certainty = fanout.certainty.max(finding.certainty);
        fanout.add(key.destination.ip(), number);
        if known.is_none() { &fanout.leaked } else { &[] }
    }

    /// A new fan-out with what was sent before it was known.
    fn opened(
        &self,
        source: IpAddr,
        (number, at): (u64, Time),
        value: &[u8],
        finding: &Finding,
    ) -> Fanout {
        let mut new = Fanout {
            source,
            value: value.to_vec(),
            class: finding.class,
            certainty: finding.certainty,
            destinations: Vec::new(),
            first: at,
            last: at,
            packets: Vec::new(),
            leaked: Vec::new(),
        };
        for before in self.before(source, number, value) {
            new.first = new.first.min(before.at);
            new.add(before.key.destination.ip(), before.number);
            new.leaked.push((before.key, before.number));
        }
        new
    }

    fn before<'a>(
        &'a self,
        source: IpAddr,
        number: u64,
        value: &'a [u8],
    ) -> impl Iterator<Item = &'a Datagram> {
        self.datagrams.iter().filter(move |datagram| {
            datagram.key.source.ip() == source
                && datagram.number < number
                && memchr::memmem::find(self.head(datagram), value).is_some()
        })
    }
}

impl Fanout {
    fn add(&mut self, destination: IpAddr, number: u64) {
        if !self.destinations.contains(&destination) && self.destinations.len() < MOST_FRAMES {
            self.destinations.push(destination);
        }
        if self.packets.last() != Some(&number) && self.packets.len() < MOST_FRAMES {
            self.packets.push(number);
        }
    }
}
