//! Finding a flow, adding and removing one, and its timers.
use cordon::flow::{FlowKey, FlowTable, Limits, Wheel};
use cordon::time::Time;
use divan::{Bencher, black_box};
use std::net::IpAddr;
use std::time::Duration;

const LIMITS: Limits = Limits {
    flows: 1 << 20,
    per_source: 1 << 20,
};

/// The i-th flow, of one of 250 sources.
fn key(v6: bool, i: u32) -> FlowKey {
    let host = (i % 250) as u8;
    let (src, dst): (IpAddr, IpAddr) = if v6 {
        ([host; 16].into(), [0x20; 16].into())
    } else {
        ([10, 0, 0, host].into(), [192, 0, 2, 1].into())
    };
    FlowKey {
        protocol: 6,
        src,
        dst,
        sport: (i / 250) as u16,
        dport: ((i / 250) >> 16) as u16,
    }
}

fn table(v6: bool, flows: u32) -> FlowTable<[u64; 8]> {
    let mut table = FlowTable::new(LIMITS, 1);
    for i in 0..flows {
        assert!(table.insert(key(v6, i), [0; 8]).is_ok());
    }
    table
}

/// In an order that no cache foresees.
fn walk(i: &mut u32, flows: u32) -> u32 {
    *i = i.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    (*i >> 8) % flows
}

#[divan::bench(sample_size = 1000, args = [(false, 1_000), (false, 100_000), (true, 1_000), (true, 100_000)])]
fn find(bencher: Bencher<'_, '_>, (v6, flows): (bool, u32)) {
    let table = table(v6, flows);
    let mut i = 1;
    bencher.bench_local(|| {
        let id = table.find(black_box(&key(v6, walk(&mut i, flows))))?;
        table.get(id).map(|(_, state)| state.as_ptr())
    });
}

#[divan::bench(sample_size = 1000, args = [1_000, 100_000])]
fn find_nothing(bencher: Bencher<'_, '_>, flows: u32) {
    let table = table(false, flows);
    let mut i = 1;
    bencher.bench_local(|| table.find(black_box(&key(false, flows + walk(&mut i, flows)))));
}

#[divan::bench(sample_size = 1000, args = [1_000, 100_000])]
fn insert_and_remove(bencher: Bencher<'_, '_>, flows: u32) {
    let mut table = table(false, flows);
    let mut i = 1;
    bencher.bench_local(|| {
        let new = key(false, flows + walk(&mut i, flows));
        table
            .insert(black_box(new), [0; 8])
            .map(|id| table.remove(id).is_some())
    });
}

/// A timer set and met, among others that lie further away.
#[divan::bench(sample_size = 1000, args = [1_000, 100_000])]
fn schedule_and_advance(bencher: Bencher<'_, '_>, timers: u32) {
    let mut now = Time::from_secs(1_800_000_000);
    let mut wheel = Wheel::new(now);
    for i in 0..timers {
        wheel.schedule(now + Duration::from_secs(3600 + u64::from(i)), i);
    }
    let mut due = Vec::new();
    bencher.bench_local(|| {
        wheel.schedule(now + Duration::from_millis(4), 0);
        now += Duration::from_millis(8);
        due.clear();
        wheel.advance(now, &mut due);
        due.len()
    });
}
