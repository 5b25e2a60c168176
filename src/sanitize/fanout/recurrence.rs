//! A value that comes again at the same place of a new flow's first datagram. On its own a constant of the protocol
//! looks the same; so it is told only if it reads as an identifier, or if another device of the site sends something
//! else at that very place. Never more than a suspicion.

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

#[derive(Clone, Debug, Default)]
struct Shelf(VecDeque<Opening>);

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
        clocks: &[bool],
        identifies: impl Fn(&[u8]) -> bool,
    ) -> Option<Range<usize>> {
        if self.0.is_empty() {
            self.0 = vec![Shelf::default(); SHELVES];
        }
        let length = payload.len().min(DEPTH);
        let shelf = (usize::from(context.remote.port()) ^ length) % SHELVES;
        self.0
            .get_mut(shelf)?
            .compare(context, payload, clocks, identifies)
    }
}

impl Shelf {
    fn compare(
        &mut self,
        context: &Context,
        payload: &[u8],
        clocks: &[bool],
        identifies: impl Fn(&[u8]) -> bool,
    ) -> Option<Range<usize>> {
        let mut head = [0; DEPTH];
        let length = payload.len().min(DEPTH);
        head.get_mut(..length)?
            .copy_from_slice(payload.get(..length)?);
        let place = self
            .recurring(context, &head, length, clocks)
            .find(|place| {
                let value = head.get(place.clone()).unwrap_or_default();
                identifies(value) || self.differs_elsewhere(context, &head, length, place)
            });
        self.remember(context, head, length);
        place
    }

    /// The maximal runs that equal those of an earlier flow of this client, clocks left out.
    fn recurring<'a>(
        &'a self,
        context: &'a Context,
        head: &'a [u8; DEPTH],
        length: usize,
        clocks: &'a [bool],
    ) -> impl Iterator<Item = Range<usize>> + 'a {
        let earlier = self.alike(context, length).filter(|old| {
            old.client == context.client
                && old.sport != context.sport
                && context.now.since(old.at) >= LATER
        });
        earlier.flat_map(move |old| {
            let same: Vec<bool> = head
                .iter()
                .zip(&old.head)
                .zip(clocks)
                .take(length)
                .map(|((new, old), clock)| new == old && !clock)
                .collect();
            let mut runs = Vec::new();
            let mut at = 0;
            for run in same.chunk_by(|a, b| a == b) {
                let varied = head
                    .get(at..at + run.len())
                    .is_some_and(|value| value.iter().any(|byte| Some(byte) != value.first()));
                if run.first() == Some(&true) && run.len() >= SHORTEST && varied {
                    runs.push(at..at + run.len());
                }
                at += run.len();
            }
            runs
        })
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
        self.0
            .iter()
            .filter(move |old| old.remote_port == port && old.length == length)
    }

    fn remember(&mut self, context: &Context, head: [u8; DEPTH], length: usize) {
        let mine = |old: &Opening| {
            old.client == context.client
                && old.remote_port == context.remote.port()
                && old.length == length
        };
        if self.0.iter().filter(|old| mine(old)).count() >= MOST_ALIKE {
            // The first stays, to compare over long times; the newest makes room.
            if let Some(last) = self.0.iter().rposition(mine) {
                self.0.remove(last);
            }
        }
        while self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(Opening {
            client: context.client,
            sport: context.sport,
            remote_port: context.remote.port(),
            at: context.now,
            length,
            head,
        });
    }
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
        openings.compare(context, payload, &[false; DEPTH], |value| {
            super::super::reads_as_identifier(value)
        })
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
            assert!(openings.0.iter().all(|shelf| shelf.0.len() <= MOST));
        }
    }
}
