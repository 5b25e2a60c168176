use super::*;
use std::time::Duration;

const START: Time = Time::from_secs(1_800_000_000);
const MS: Duration = Duration::from_millis(1);

fn advance<T: Copy + Ord>(wheel: &mut Wheel<T>, now: Time) -> Vec<T> {
    let mut due = Vec::new();
    wheel.advance(now, &mut due);
    due.sort_unstable();
    due
}

#[test]
fn an_item_fires_at_its_deadline_or_up_to_a_slot_later() {
    for after in [
        0u32, 1, 3, 4, 5, 255, 256, 257, 16_383, 16_384, 100_000, 10_000_000,
    ] {
        let mut wheel = Wheel::new(START);
        let at = START + MS * after;
        wheel.schedule(at, after);
        if after > 0 {
            assert!(advance(&mut wheel, Time::from_nanos(at.as_nanos() - 1)).is_empty());
        }
        assert_eq!(
            advance(&mut wheel, at + MS * 4),
            [after],
            "after {after} ms"
        );
        assert!(advance(&mut wheel, at + MS * 4).is_empty());
        assert_eq!(wheel.next(), None);
    }
}

#[test]
fn a_deadline_that_has_passed_fires_at_the_next_turn() {
    let mut wheel = Wheel::new(START);
    assert!(advance(&mut wheel, START + MS * 1000).is_empty());
    wheel.schedule(START, 1);
    wheel.schedule(Time::default(), 2);
    assert!(wheel.next().expect("something is due") <= START + MS * 1000);
    assert_eq!(advance(&mut wheel, START + MS * 1000), [1, 2]);
    assert_eq!(wheel.next(), None);
}

#[test]
fn time_that_goes_backwards_fires_nothing_early() {
    let mut wheel = Wheel::new(START);
    wheel.schedule(START + MS * 100, 1);
    assert!(advance(&mut wheel, START + MS * 50).is_empty());
    assert!(advance(&mut wheel, START).is_empty());
    assert_eq!(advance(&mut wheel, START + MS * 104), [1]);
}

#[test]
fn following_next_reaches_every_deadline_in_few_steps() {
    let mut wheel = Wheel::new(START);
    let deadlines: Vec<Time> = (0..20).map(|i| START + MS * (1 << i)).collect();
    for at in &deadlines {
        wheel.schedule(*at, *at);
    }
    let (mut fired, mut turns) = (Vec::new(), 0);
    while let Some(now) = wheel.next() {
        turns += 1;
        for at in advance(&mut wheel, now) {
            assert!(
                now >= at && now.since(at) < MS * 4,
                "fired at the wrong time"
            );
            fired.push(at);
        }
    }
    assert_eq!(fired, deadlines);
    assert!(turns <= 20 * LEVELS, "{turns} turns");
}

#[test]
fn a_long_idle_gap_is_jumped_over() {
    // A wheel that went slot by slot would need 4 * 10^12 steps.
    let mut wheel = Wheel::new(Time::default());
    let end = Time::from_nanos(u64::MAX);
    wheel.schedule(end, 1);
    assert!(advance(&mut wheel, Time::from_nanos(u64::MAX - 2 * SLOT)).is_empty());
    assert_eq!(advance(&mut wheel, end), [1]);
    assert_eq!(wheel.next(), None);
}

#[test]
fn an_item_may_be_scheduled_many_times() {
    let mut wheel = Wheel::new(START);
    for ms in [10, 20, 10] {
        wheel.schedule(START + MS * ms, 7);
    }
    assert_eq!(advance(&mut wheel, START + MS * 14), [7, 7]);
    assert_eq!(advance(&mut wheel, START + MS * 24), [7]);
}

#[test]
fn entries_are_used_again() {
    let mut wheel = Wheel::new(START);
    let mut now = START;
    for round in 0..1000 {
        for ms in 1..=10 {
            wheel.schedule(now + MS * ms * 100, round);
        }
        now += MS * 1004;
        assert_eq!(advance(&mut wheel, now).len(), 10);
    }
    assert_eq!(wheel.entries.len(), 10);
}
