//! The table of flows and the wheel of timers, each against a plain model.
use cordon::flow::{Exhausted, FlowId, FlowKey, FlowTable, Limits, Wheel};
use cordon::time::Time;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// A slot of the wheel.
const SLOT: Duration = Duration::from_millis(4);

#[derive(Clone, Debug)]
enum Operation {
    Insert(u8, u16),
    Remove(Index),
    RemoveAgain(Index),
    Clear,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        8 => (0u8..4, 0u16..12).prop_map(|(host, port)| Operation::Insert(host, port)),
        4 => any::<Index>().prop_map(Operation::Remove),
        2 => any::<Index>().prop_map(Operation::RemoveAgain),
        1 => Just(Operation::Clear),
    ]
}

fn source(host: u8) -> IpAddr {
    // Half of the sources are IPv6.
    match host % 2 {
        0 => [10, 0, 0, host].into(),
        _ => [host; 16].into(),
    }
}

fn key(host: u8, sport: u16) -> FlowKey {
    FlowKey {
        protocol: 17,
        src: source(host),
        dst: match host % 2 {
            0 => [192, 0, 2, 1].into(),
            _ => [0x20; 16].into(),
        },
        sport,
        dport: 53,
    }
}

proptest! {
    #[test]
    fn the_table_is_a_bounded_map(
        operations in vec(operation(), 0..300),
        flows in 0usize..20,
        per_source in 0usize..8,
        seed in any::<u64>(),
    ) {
        let mut table = FlowTable::new(Limits { flows, per_source }, seed);
        let mut model: BTreeMap<(u8, u16), (FlowId, usize)> = BTreeMap::new();
        let mut dead: Vec<FlowId> = Vec::new();
        for (i, operation) in operations.into_iter().enumerate() {
            match operation {
                Operation::Insert(host, port) => {
                    let inserted = table.insert(key(host, port), i);
                    if let Some((old, _)) = model.remove(&(host, port)) {
                        dead.push(old);
                    }
                    let of_source = model.keys().filter(|(other, _)| *other == host).count();
                    match inserted {
                        Ok(id) => {
                            prop_assert!(model.len() < flows && of_source < per_source);
                            model.insert((host, port), (id, i));
                        }
                        Err(Exhausted::Flows) => prop_assert_eq!(model.len(), flows),
                        Err(Exhausted::FlowsPerSource) => prop_assert_eq!(of_source, per_source),
                    }
                }
                Operation::Remove(which) if !model.is_empty() => {
                    let at = *model.keys().nth(which.index(model.len())).expect("a flow");
                    let (id, value) = model.remove(&at).expect("a flow");
                    prop_assert_eq!(table.remove(id), Some((key(at.0, at.1), value)));
                    dead.push(id);
                }
                Operation::RemoveAgain(which) if !dead.is_empty() => {
                    prop_assert_eq!(table.remove(dead[which.index(dead.len())]), None);
                }
                Operation::Clear => {
                    for id in table.ids().collect::<Vec<_>>() {
                        prop_assert!(table.remove(id).is_some());
                        dead.push(id);
                    }
                    model.clear();
                }
                Operation::Remove(_) | Operation::RemoveAgain(_) => {}
            }
            prop_assert!(table.len() <= flows);
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.is_empty(), model.is_empty());
            for host in 0..4 {
                let of_source = model.keys().filter(|(other, _)| *other == host).count();
                prop_assert_eq!(table.of_source(source(host)), of_source);
                let pair = key(host, 0);
                let mut between: Vec<FlowId> = table.between(pair.src, pair.dst).collect();
                let mut expected: Vec<FlowId> = model
                    .iter()
                    .filter(|((other, _), _)| *other == host)
                    .map(|(_, (id, _))| *id)
                    .collect();
                between.sort_by_key(|id| id.index());
                expected.sort_by_key(|id| id.index());
                prop_assert_eq!(between, expected);
            }
        }
        for ((host, port), (id, value)) in &model {
            prop_assert_eq!(table.find(&key(*host, *port)), Some(*id));
            prop_assert_eq!(table.get(*id), Some((&key(*host, *port), value)));
        }
        for id in dead {
            prop_assert_eq!(table.get(id), None);
        }
        let slots: BTreeSet<usize> = table.ids().map(FlowId::index).collect();
        prop_assert_eq!(slots.len(), model.len());
        prop_assert!(slots.iter().all(|slot| *slot < flows));
    }

    #[test]
    fn every_timer_fires_once_and_in_its_time(
        start in any::<u64>(),
        steps in vec((vec(0u32..64, 0..6), 0u32..44), 1..60),
    ) {
        // Deadlines and steps of every magnitude: 2^n nanoseconds and a little.
        let span = |n: u32| Duration::from_nanos((1u64 << n) + u64::from(n) * 12_345);
        let mut now = Time::from_nanos(start / 2);
        let mut wheel = Wheel::new(now);
        let mut model: BTreeMap<usize, Time> = BTreeMap::new();
        let mut due = Vec::new();
        for (deadlines, step) in steps {
            for n in deadlines {
                let item = model.len() + due.len();
                let at = now + span(n.min(62));
                wheel.schedule(at, item);
                model.insert(item, at);
            }
            now += span(step);
            let before = due.len();
            wheel.advance(now, &mut due);
            for item in &due[before..] {
                let at = model.remove(item).expect("fired once");
                prop_assert!(at <= now, "fired early");
            }
            let next = wheel.next();
            prop_assert_eq!(next.is_none(), model.is_empty());
            for at in model.values() {
                prop_assert!(*at + SLOT > now, "forgotten");
                prop_assert!(next.is_some_and(|next| next < *at + SLOT), "woken too late");
            }
        }
    }
}
