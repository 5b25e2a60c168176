//! The rule itself, without an index: everything is remembered, and all eights of bytes are compared. What
//! [`Memory`] tells is held against it: as long as no gram stands at more than 64 places of what is remembered, no
//! datagram takes 512 steps, and all of the last five seconds is remembered, they must agree.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a reference for tests"
)]

use super::marks::ACT;
use super::*;
use crate::time::Time;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

const START: Time = Time::from_secs(1_612_750_000);
const SPAN: Duration = Duration::from_secs(5);
const SENTENCE: Duration = Duration::from_secs(600);

type Eight = [u8; SHINGLE];

#[derive(Default)]
struct Naive {
    sent: Vec<(Context, BTreeSet<Eight>)>,
    convicted: BTreeMap<(IpAddr, Eight), Time>,
}

impl Naive {
    fn judge(
        &mut self,
        context: &Context,
        payload: &[u8],
        parts: &[Range<usize>],
    ) -> Vec<(Range<usize>, Certainty)> {
        let bytes = &payload[..payload.len().min(DEPTH)];
        let remember = context.index < COMPARED;
        let mut clocks = [false; DEPTH];
        if remember {
            clock::mark(bytes, context.now, &mut clocks);
        }
        let (mut sights, mut grave) = ([false; DEPTH], false);
        let mut values = BTreeSet::new();
        for at in parts.iter().flat_map(|part| places(part, bytes.len())) {
            let eight: Eight = bytes[at..at + SHINGLE].try_into().unwrap();
            values.insert(eight);
            let differing = eight.iter().collect::<BTreeSet<_>>().len();
            if differing < usize::from(VARIETY) || clocks[at..at + SHINGLE].contains(&true) {
                continue;
            }
            let (servers, blocked) = self.servers(context, &eight);
            let convicted = self.is_convicted(context, &eight);
            let shared = remember && (servers >= 3 || blocked >= 2);
            sights[at] = shared || convicted;
            grave |= convicted || remember && blocked >= 2;
        }
        if remember {
            self.sent.push((*context, values));
        }
        self.tell(context, bytes, &sights, grave)
    }

    /// Servers this value goes to, with the one of `context`, and how many of them lie where the policy blocks.
    fn servers(&self, context: &Context, eight: &Eight) -> (usize, usize) {
        let lately = self.sent.iter().filter(|(old, values)| {
            old.client == context.client
                && context.now.since(old.now) <= SPAN
                && values.contains(eight)
        });
        let all = lately.map(|(old, _)| old).chain([context]);
        let all: BTreeSet<_> = all.map(|at| (at.remote.ip(), at.blocked)).collect();
        let blocked = all.iter().filter(|(_, blocked)| *blocked).count();
        (all.len(), blocked)
    }

    fn is_convicted(&mut self, context: &Context, eight: &Eight) -> bool {
        let Some(seen) = self.convicted.get_mut(&(context.client, *eight)) else {
            return false;
        };
        if context.now.since(*seen) > SENTENCE {
            return false;
        }
        *seen = context.now;
        true
    }

    fn tell(
        &mut self,
        context: &Context,
        bytes: &[u8],
        sights: &[bool],
        grave: bool,
    ) -> Vec<(Range<usize>, Certainty)> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for at in (0..DEPTH).filter(|at| sights[*at]) {
            match runs.last_mut() {
                Some(last) if at <= last.end => last.end = at + SHINGLE,
                _ => runs.push(at..at + SHINGLE),
            }
        }
        let total: usize = runs.iter().map(|run| run.len()).sum();
        let text = |run: &Range<usize>| reads_as_identifier(&bytes[run.clone()]);
        let act = grave || total >= ACT || runs.iter().any(text);
        let certainty = if act {
            Certainty::Probable
        } else {
            Certainty::Suspected
        };
        for eight in runs.iter().flat_map(|run| bytes[run.clone()].windows(8)) {
            if act {
                let eight = eight.try_into().unwrap();
                self.convicted.insert((context.client, eight), context.now);
            }
        }
        runs.into_iter().map(|run| (run, certainty)).collect()
    }
}

fn places(part: &Range<usize>, length: usize) -> Range<usize> {
    part.start..(part.end.min(length) + 1).saturating_sub(SHINGLE)
}

/// A piece of a datagram: one of a few values, of which some are parts of others, or noise.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let value = |seed: usize| {
        let bytes = (0..40_usize).map(move |at| (((seed * 40 + at + 1) * 0x9e37_79b1) >> 13) as u8);
        bytes.collect::<Vec<u8>>()
    };
    prop_oneof![
        4 => (0..3_usize, 0..6_usize, 8..30_usize).prop_map(move |(seed, from, length)| value(seed)[from..from + length].to_vec()),
        2 => (0..3_usize, 8..20_usize).prop_map(move |(seed, length)| value(seed)[..length].to_vec()),
        1 => Just(1_612_750_000_123_u64.to_be_bytes().to_vec()),
        1 => Just([b"uid=", &value(1)[..3], b"5123456789"].concat()),
        1 => (5..9_usize, 8..60_usize).prop_map(|(period, length)| (0..length).map(|at| (at % period) as u8 + 200).collect()),
        3 => vec(any::<u8>(), 0..7),
        2 => vec(0..3_u8, 0..12),
    ]
}

type Sent = (Context, Vec<u8>, Vec<Range<usize>>);

fn sent(most: usize) -> impl Strategy<Value = Vec<Sent>> {
    let parts = prop_oneof![
        2 => Just(std::iter::once(0..DEPTH).collect::<Vec<_>>()),
        1 => (0..20_usize, 0..50_usize, 0..20_usize, 0..50_usize)
            .prop_map(|(a, b, c, d)| vec![a..a + b, a + b + c..a + b + c + d]),
    ];
    let one = (
        (0..8_u8, 0..8_u8),
        prop_oneof![9 => 0..COMPARED, 1 => 3..9_u32],
        prop_oneof![3 => 0..300_u64, 2 => 0..3_000_u64, 1 => Just(5_000), 1 => 4_000..6_000_u64],
        vec(piece(), 0..6).prop_map(|pieces| pieces.concat()),
        parts,
    );
    vec(one, 1..most).prop_map(|all| {
        let mut now = START;
        let one = |((client, server), index, wait, payload, parts)| {
            now += Duration::from_millis(wait);
            let context = Context {
                client: IpAddr::from([10, 0, 0, client / 6]),
                sport: 40_000,
                remote: SocketAddr::from(([203, 0, 113, server], 8000)),
                index,
                now,
                blocked: server < 2,
            };
            (context, payload, parts)
        };
        all.into_iter().map(one).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn what_is_shared_is_told_as_the_rule_says(sent in sent(120)) {
        let (mut memory, mut naive) = (Memory::default(), Naive::default());
        for (context, payload, parts) in sent {
            let mut found = Vec::new();
            memory.judge(&context, &payload, parts.iter().cloned(), &mut found);
            let told = found.iter().filter(|finding| finding.leak == "probe-fanout");
            let told: Vec<_> = told.map(|finding| (finding.span.clone(), finding.certainty)).collect();
            prop_assert_eq!(told, naive.judge(&context, &payload, &parts));
        }
    }
}
