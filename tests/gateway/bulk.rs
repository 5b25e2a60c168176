//! Laws that hold whatever comes in.

use crate::world::{Segment, World, udp};
use cordon::gateway::{Event, Fate, Order};
use cordon::packet::{Offload, Tcp};
use proptest::prelude::*;
use std::time::Duration;

const POLICY: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
    [[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n\
    [[rule]]\nid = \"no-telnet\"\nport = [23]\naction = \"block\"\nreply = \"drop\"\n";

#[derive(Clone, Debug)]
enum Step {
    Datagram { port: u16, to: usize },
    Syn { port: u16, to: usize },
    Noise(Vec<u8>),
    Wait(u64),
    Answer { connect: bool },
}

/// Destinations and whether the policy lets them be reached.
const TO: [(&str, bool); 5] = [
    ("198.41.0.4:80", true),
    ("1.2.4.8:80", false),
    ("192.5.5.241:23", false),
    ("192.5.5.241:443", true),
    ("224.0.0.251:5353", false),
];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..50u16, 0..TO.len()).prop_map(|(port, to)| Step::Datagram { port, to }),
        (1..50u16, 0..TO.len()).prop_map(|(port, to)| Step::Syn { port, to }),
        proptest::collection::vec(any::<u8>(), 0..120).prop_map(Step::Noise),
        (0..40_000u64).prop_map(Step::Wait),
        any::<bool>().prop_map(|connect| Step::Answer { connect }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No dial and no datagram goes where the policy says no, the table keeps its bound, and nothing panics.
    #[test]
    fn nothing_leaves_without_a_permit(steps in proptest::collection::vec(step(), 1..120)) {
        let mut limits = crate::world::limits();
        limits.flows.flows = 20;
        limits.flows.per_source = 15;
        let mut world = World::bounded(POLICY, &[], limits);
        let mut dialing = Vec::new();
        for step in steps {
            match step {
                Step::Datagram { port, to } => {
                    let (to, allowed) = TO[to];
                    let left = world.datagram(&format!("10.111.0.2:{port}"), to, b"payload");
                    prop_assert!(left.is_none() || allowed);
                }
                Step::Syn { port, to } => {
                    let from = format!("10.111.0.2:{port}");
                    let syn = Segment { from: &from, to: TO[to].0, flags: Tcp::SYN, seq: 1, ack: 0, payload: &[] };
                    world.packet(&syn.bytes());
                }
                Step::Noise(mut bytes) => {
                    let fate = world.gateway.packet(&mut bytes, &Offload::default(), world.now);
                    prop_assert_eq!(fate, Fate::Done);
                }
                Step::Wait(millis) => world.wait(Duration::from_millis(millis)),
                Step::Answer { connect } => {
                    if let Some(flow) = dialing.pop() {
                        if connect {
                            world.gateway.connected(flow, world.now);
                        } else {
                            world.gateway.failed(flow, cordon::gateway::Failure::Refused, world.now);
                        }
                    }
                }
            }
            for order in world.orders() {
                if let Order::Dial { flow, permit } = order {
                    let allowed = TO.iter().any(|(to, allowed)| *allowed && permit.destination() == to.parse().unwrap());
                    prop_assert!(allowed, "dial to {}", permit.destination());
                    dialing.push(flow);
                }
            }
            world.packets();
            prop_assert!(world.gateway.len() <= 15);
        }
        world.gateway.shutdown(world.now);
        prop_assert!(world.gateway.is_empty());
        let events = world.events();
        let opened = events.iter().filter(|e| matches!(e, Event::Open(_))).count();
        let closed = events.iter().filter(|e| matches!(e, Event::Close(_))).count();
        prop_assert_eq!(opened, closed, "every flow that begins ends");
    }
}

#[test]
fn one_source_cannot_take_the_place_of_others() {
    let mut limits = crate::world::limits();
    limits.flows.flows = 100;
    limits.flows.per_source = 30;
    let mut world = World::bounded(POLICY, &[], limits);
    for port in 1..=60 {
        world.packet(&udp(&format!("10.111.0.2:{port}"), "198.41.0.4:80", b"x"));
    }
    assert_eq!(world.gateway.len(), 30);
    assert!(
        world
            .datagram("10.111.0.3:1", "198.41.0.4:80", b"x")
            .is_some()
    );
    assert!(
        world
            .events()
            .iter()
            .any(|e| matches!(e, Event::Refused(r) if r.what == "flows-per-source"))
    );
}
