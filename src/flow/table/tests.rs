use super::*;
use std::collections::HashSet;

const LIMITS: Limits = Limits {
    flows: 8,
    per_source: 3,
};

fn key(host: u8, sport: u16) -> FlowKey {
    FlowKey {
        protocol: 6,
        src: [10, 0, 0, host].into(),
        dst: [192, 0, 2, 1].into(),
        sport,
        dport: 443,
    }
}

#[test]
fn a_flow_is_found_by_key_and_by_handle_until_it_is_removed() {
    let mut table = FlowTable::new(LIMITS, 1);
    assert!(table.is_empty());
    let id = table.insert(key(1, 1), "a").expect("room");
    assert_eq!(table.find(&key(1, 1)), Some(id));
    assert_eq!(table.find(&key(1, 2)), None);
    assert_eq!(table.get(id), Some((&key(1, 1), &"a")));
    *table.get_mut(id).expect("the flow").1 = "b";
    assert_eq!(table.remove(id), Some((key(1, 1), "b")));
    assert_eq!(table.find(&key(1, 1)), None);
    assert_eq!(table.get(id), None);
    assert_eq!(table.get_mut(id), None);
    assert_eq!(table.remove(id), None);
    assert!(table.is_empty());
}

#[test]
fn a_handle_never_names_the_next_flow_in_its_slot() {
    let mut table = FlowTable::new(LIMITS, 1);
    let old = table.insert(key(1, 1), ()).expect("room");
    table.remove(old);
    let new = table.insert(key(1, 1), ()).expect("room");
    assert_eq!(old.index(), new.index());
    assert_ne!(old, new);
    assert_eq!(table.get(old), None);
    assert_eq!(table.remove(old), None);
    assert_eq!(table.find(&key(1, 1)), Some(new));
}

#[test]
fn a_full_table_refuses_new_flows_and_keeps_the_old() {
    let mut table = FlowTable::new(LIMITS, 1);
    let ids: Vec<FlowId> = (0..8)
        .map(|i| table.insert(key(i, 1), i).expect("room"))
        .collect();
    assert_eq!(table.insert(key(9, 1), 9), Err(Exhausted::Flows));
    assert_eq!(table.len(), 8);
    for (i, id) in ids.iter().enumerate() {
        assert_eq!(table.get(*id).map(|(_, v)| usize::from(*v)), Some(i));
    }
    table.remove(ids[3]);
    let id = table.insert(key(9, 1), 9).expect("room again");
    assert!(id.index() < LIMITS.flows);
}

#[test]
fn one_source_cannot_take_more_than_its_share() {
    let mut table = FlowTable::new(LIMITS, 1);
    let first = table.insert(key(1, 1), ()).expect("room");
    for sport in 2..=3 {
        table.insert(key(1, sport), ()).expect("room");
    }
    assert_eq!(table.insert(key(1, 4), ()), Err(Exhausted::FlowsPerSource));
    assert_eq!((table.len(), table.of_source([10, 0, 0, 1].into())), (3, 3));
    assert!(table.insert(key(2, 1), ()).is_ok());
    table.remove(first);
    assert_eq!(table.of_source([10, 0, 0, 1].into()), 2);
    assert!(table.insert(key(1, 4), ()).is_ok());
}

#[test]
fn limits_of_zero_refuse_everything() {
    let none = Limits {
        flows: 0,
        per_source: 3,
    };
    assert_eq!(
        FlowTable::new(none, 1).insert(key(1, 1), ()),
        Err(Exhausted::Flows)
    );
    let none = Limits {
        flows: 8,
        per_source: 0,
    };
    assert_eq!(
        FlowTable::new(none, 1).insert(key(1, 1), ()),
        Err(Exhausted::FlowsPerSource)
    );
}

#[test]
fn a_key_inserted_again_replaces_its_flow() {
    let mut table = FlowTable::new(LIMITS, 1);
    let old = table.insert(key(1, 1), "old").expect("room");
    let new = table.insert(key(1, 1), "new").expect("room");
    assert_eq!((table.len(), table.of_source([10, 0, 0, 1].into())), (1, 1));
    assert_eq!(table.get(old), None);
    assert_eq!(table.get(new), Some((&key(1, 1), &"new")));
}

#[test]
fn the_order_of_handles_is_the_same_for_every_seed() {
    let order = |seed| {
        let mut table = FlowTable::new(
            Limits {
                flows: 100,
                per_source: 100,
            },
            seed,
        );
        let ids: Vec<FlowId> = (0..50)
            .map(|sport| table.insert(key(1, sport), ()).expect("room"))
            .collect();
        for id in ids.iter().step_by(3) {
            table.remove(*id);
        }
        for sport in 50..60 {
            table.insert(key(1, sport), ()).expect("room");
        }
        let ids: Vec<FlowId> = table.ids().collect();
        assert_eq!(ids.len(), table.len());
        ids
    };
    assert_eq!(order(1), order(2));
}

#[test]
fn memory_follows_the_flows_and_not_the_limits() {
    let mut table = FlowTable::new(
        Limits {
            flows: 1 << 30,
            per_source: 1 << 30,
        },
        1,
    );
    assert_eq!(table.slots.capacity() + table.index.capacity(), 0);
    let ids: Vec<FlowId> = (0..5000)
        .map(|sport| table.insert(key(1, sport), ()).expect("room"))
        .collect();
    assert!(table.slots.capacity() < 10_000);
    for id in &ids {
        table.remove(*id);
    }
    assert_eq!(table.slots.capacity() + table.index.capacity(), 0);
    // Handles of before stay dead in the slots that grow again.
    let id = table.insert(key(1, 0), ()).expect("room");
    assert_eq!(id.index(), 0);
    assert_eq!(table.get(ids[0]), None);
}

#[test]
fn the_key_of_the_hash_is_not_printed() {
    let table = FlowTable::<()>::new(LIMITS, 0x1234_5678_9abc_def0);
    let printed = format!("{table:?}");
    assert!(printed.contains("len: 0"), "{printed}");
    assert!(!printed.contains("seed"), "{printed}");
}

#[test]
fn every_bound_has_a_name_of_its_own() {
    assert_eq!(Exhausted::Flows.name(), "flows");
    assert_eq!(Exhausted::FlowsPerSource.name(), "flows-per-source");
}
#[test]
fn the_hash_spreads_whatever_the_seed() {
    for seed in [0, 1, 2, 1 << 63, u64::MAX, 0x1234_5678_9abc_def0] {
        let hash = KeyedHash::new(seed);
        let spread = |hashes: Vec<u64>| {
            let lows: HashSet<u64> = hashes.iter().map(|hash| hash & 0xfff).collect();
            let tags: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
            // 256 random numbers have about 248 different low parts and 111 of 128 tags.
            assert!(lows.len() > 220 && tags.len() > 90, "seed {seed:#x}");
        };
        spread((0..=255).map(|host| hash.of(&key(host, 1).src)).collect());
        spread((0..=255).map(|host| hash.of(&key(host, 1))).collect());
        spread((0..=255).map(|sport| hash.of(&key(1, sport))).collect());
        let v6 = |host: u8| FlowKey {
            src: [host; 16].into(),
            dst: [0x20; 16].into(),
            ..key(1, 1)
        };
        spread((0..=255).map(|host| hash.of(&v6(host).src)).collect());
        spread((0..=255).map(|host| hash.of(&v6(host))).collect());
    }
}
