//! A value that comes again at the same place of a new flow's first datagram. On its own a constant of the protocol
//! looks the same; so it is told only if it reads as an identifier, or if another device of the site sends something
//! else at that very place. Never more than a suspicion.

use super::clock;
use crate::sanitize::Context;
use crate::time::Time;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

/// Bytes of a datagram that are compared.
const DEPTH: usize = 64;
/// Shelves, by port and length, so that an opening is compared with few others; and openings of each, of all clients.
const SHELVES: usize = 64;
const MOST: usize = 32;
/// Openings of one client to one port.
const MOST_ALIKE: usize = 4;
/// Two flows of one moment may be one attempt; a value that is still there later stays with the device.
const LATER: Duration = Duration::from_secs(30);
/// Shortest value.
const SHORTEST: usize = 4;

/// The openings of unknown flows.
#[derive(Debug, Default)]
pub(super) struct Openings(Vec<Shelf>);

/// Openings in the order in which they were remembered, and the key of each: so few of them are looked at.
#[derive(Clone, Debug, Default)]
struct Shelf {
    keys: VecDeque<u64>,
    openings: VecDeque<Opening>,
}

#[derive(Clone, Debug)]
struct Opening {
    client: IpAddr,
    sport: u16,
    remote_port: u16,
    at: Time,
    length: usize,
    head: [u8; DEPTH],
}

impl Openings {
    /// Compares the first datagram of a flow with earlier ones to the same port, and remembers it. Returns the place of
    /// a value that stays with this client.
    pub(super) fn compare(
        &mut self,
        context: &Context,
        payload: &[u8],
        identifies: impl Fn(&[u8]) -> bool,
    ) -> Option<Range<usize>> {
        if self.0.is_empty() {
            self.0 = vec![Shelf::default(); SHELVES];
        }
        let length = payload.len().min(DEPTH);
        let shelf = (usize::from(context.remote.port()) ^ length) % SHELVES;
        self.0.get_mut(shelf)?.compare(context, payload, identifies)
    }
}

impl Shelf {
    fn compare(
        &mut self,
        context: &Context,
        payload: &[u8],
        identifies: impl Fn(&[u8]) -> bool,
    ) -> Option<Range<usize>> {
        let mut head = [0; DEPTH];
        let length = payload.len().min(DEPTH);
        head.get_mut(..length)?
            .copy_from_slice(payload.get(..length)?);
        let is_earlier =
            |old: &Opening| old.sport != context.sport && context.now.since(old.at) >= LATER;
        let (mut place, is_known) = (None, self.keys.contains(&key(context)));
        if is_known && self.mine(context, length).any(|(_, old)| is_earlier(old)) {
            let mut clocks = [false; super::DEPTH];
            clock::mark(payload, context.now, &mut clocks);
            let earlier = self.mine(context, length);
            let earlier = earlier.filter(|(_, old)| is_earlier(old));
            place = earlier
                .flat_map(|(_, old)| recurring(&head, old, &clocks))
                .find(|place| {
                    let value = head.get(place.clone()).unwrap_or_default();
                    identifies(value) || self.differs_elsewhere(context, &head, length, place)
                });
        }
        if is_known {
            self.make_room(context, length);
        }
        self.remember(context, head, length);
        place
    }

    /// Whether another client sends something else at this place, and the same around it: the protocol is the same, the
    /// value is not. At least four bytes must differ.
    fn differs_elsewhere(
        &self,
        context: &Context,
        head: &[u8; DEPTH],
        length: usize,
        place: &Range<usize>,
    ) -> bool {
        self.alike(context, length)
            .filter(|old| old.client != context.client)
            .any(|old| {
                let differing = |range: Range<usize>| {
                    let (new, old) = (head.get(range.clone()), old.head.get(range));
                    let pairs = new.into_iter().flatten().zip(old.into_iter().flatten());
                    pairs.filter(|(new, old)| new != old).count()
                };
                let inside = differing(place.clone());
                let outside = differing(0..length) - inside;
                let around = length - place.len();
                inside >= SHORTEST.min(place.len()) && outside * 2 <= around
            })
    }

    /// Openings to the same port and of the same length.
    fn alike(&self, context: &Context, length: usize) -> impl Iterator<Item = &Opening> {
        let port = context.remote.port();
        self.openings
            .iter()
            .filter(move |old| old.remote_port == port && old.length == length)
    }

    /// Those of this client, and where they are.
    fn mine(
        &self,
        context: &Context,
        length: usize,
    ) -> impl DoubleEndedIterator<Item = (usize, &Opening)> {
        let (client, port) = (context.client, context.remote.port());
        let key = key(context);
        let known = self.keys.iter().zip(&self.openings).enumerate();
        known
            .filter(move |(_, (other, _))| **other == key)
            .map(|(at, (_, old))| (at, old))
            .filter(move |(_, old)| {
                old.client == client && old.remote_port == port && old.length == length
            })
    }

    /// Forgets the newest of too many of this client. The first stays, to compare over long times.
    fn make_room(&mut self, context: &Context, length: usize) {
        let last = self.mine(context, length).nth(MOST_ALIKE - 1);
        if let Some(last) = last.map(|(last, _)| last) {
            self.keys.remove(last);
            self.openings.remove(last);
        }
    }

    fn remember(&mut self, context: &Context, head: [u8; DEPTH], length: usize) {
        while self.openings.len() >= MOST {
            self.keys.pop_front();
            self.openings.pop_front();
        }
        self.keys.push_back(key(context));
        self.openings.push_back(Opening {
            client: context.client,
            sport: context.sport,
            remote_port: context.remote.port(),
            at: context.now,
            length,
            head,
        });
    }
}

/// Differs for most clients.
fn key(context: &Context) -> u64 {
    let client = match context.client {
        IpAddr::V4(client) => u128::from(client.to_bits()),
        IpAddr::V6(client) => client.to_bits(),
    };
    (client >> 64) as u64 ^ client as u64 ^ u64::from(context.remote.port()) << 48
}

/// The maximal runs that equal those of an earlier opening, clocks left out.
fn recurring<'a>(
    head: &'a [u8; DEPTH],
    old: &'a Opening,
    clocks: &'a [bool],
) -> impl Iterator<Item = Range<usize>> + 'a {
    let is_same = move |at: usize| {
        at < old.length && head.get(at) == old.head.get(at) && clocks.get(at) == Some(&false)
    };
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < old.length {
            let start = at;
            at += 1;
            if !is_same(start) {
                continue;
            }
            while is_same(at) {
                at += 1;
            }
            let value = head.get(start..at).unwrap_or_default();
            let is_varied = value.iter().any(|byte| Some(byte) != value.first());
            if value.len() >= SHORTEST && is_varied {
                return Some(start..at);
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn context(client: u8, sport: u16, seconds: u64) -> Context {
        Context {
            client: IpAddr::from([10, 0, 0, client]),
            sport,
            remote: SocketAddr::from(([203, 0, 113, 1], 8000)),
            index: 0,
            now: Time::from_secs(1_612_750_000 + seconds),
            blocked: false,
        }
    }

    fn ping(sequence: u16, number: u32) -> Vec<u8> {
        let mut bytes = b"\x02PING".to_vec();
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(number.to_be_bytes());
        bytes.extend([0; 8]);
        bytes
    }

    fn compare(openings: &mut Openings, context: &Context, payload: &[u8]) -> Option<Range<usize>> {
        openings.compare(context, payload, super::super::reads_as_identifier)
    }

    #[test]
    fn a_number_that_stays_while_another_device_has_its_own_is_told() {
        let mut openings = Openings::default();
        assert_eq!(
            compare(&mut openings, &context(1, 1000, 0), &ping(7, 512_345_687)),
            None
        );
        assert_eq!(
            compare(&mut openings, &context(2, 1000, 5), &ping(9, 398_112_054)),
            None
        );
        let place = compare(
            &mut openings,
            &context(1, 2000, 3600),
            &ping(44, 512_345_687),
        );
        assert_eq!(place, Some(7..19));
    }

    #[test]
    fn a_constant_of_the_protocol_is_not_told() {
        let mut openings = Openings::default();
        for (client, sport, seconds) in
            [(1, 1000, 0), (2, 1000, 5), (1, 2000, 3600), (2, 2000, 3700)]
        {
            assert_eq!(
                compare(&mut openings, &context(client, sport, seconds), &ping(7, 1)),
                None
            );
        }
    }

    #[test]
    fn text_that_reads_as_an_identifier_needs_no_second_device() {
        let mut openings = Openings::default();
        let text = |sequence: u8| [b"p", &[sequence][..], b" uid=512345687"].concat();
        assert_eq!(compare(&mut openings, &context(1, 1000, 0), &text(1)), None);
        assert_eq!(
            compare(&mut openings, &context(1, 2000, 10), &text(2)),
            None,
            "too soon"
        );
        assert!(compare(&mut openings, &context(1, 3000, 60), &text(3)).is_some());
    }

    #[test]
    fn openings_are_bounded() {
        let mut openings = Openings::default();
        for index in 0..5000_u32 {
            let client = Context {
                client: IpAddr::from((0x0a00_0000 | index).to_be_bytes()),
                ..context(1, 1, 0)
            };
            compare(&mut openings, &client, &ping(1, index));
            assert!(openings.0.iter().all(|shelf| shelf.openings.len() <= MOST));
        }
    }
}
