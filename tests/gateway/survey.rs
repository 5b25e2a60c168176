//! What goes on now: flows counted by how they go, and listed, those used last first.

use crate::world::{Segment, World, udp};
use cordon::gateway::{Cause, Path};
use cordon::packet::{Tcp, protocol};
use cordon::policy::{ExitState, Load};
use std::time::Duration;

const POLICY: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
    [exits]\nnl = { kind = \"socks5\", server = \"193.0.0.1:1080\" }\n\
    de = { kind = \"socks5\", server = \"5.9.0.1:1080\", udp = true }\n\
    both = { kind = \"failover\", members = [\"nl\", \"de\"] }\n\
    [[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n\
    [[rule]]\nid = \"abroad\"\nip = [\"192.5.5.241\"]\naction = \"reroute\"\nexit = \"both\"\n\
    exit_down = \"de\"\n";

fn syn(world: &mut World, from: &str, to: &str) {
    let segment = Segment {
        from,
        to,
        flags: Tcp::SYN,
        seq: 1000,
        ack: 0,
        payload: &[],
    };
    world.packet(&segment.bytes());
}

#[test]
fn flows_are_counted_by_how_they_go_and_listed_with_what_decided() {
    let mut world = World::router(POLICY, &[]);
    world.packet(&udp("192.168.1.2:1000", "198.41.0.4:9", b"passes"));
    world.wait(Duration::from_secs(1));
    world.packet(&udp("192.168.1.2:1000", "1.2.4.8:9", b"is blocked"));
    world.wait(Duration::from_secs(1));
    syn(&mut world, "192.168.1.2:1001", "192.5.5.241:443");
    let survey = world.gateway.survey(10, world.now);
    let census = survey.census;
    assert_eq!((census.tcp, census.udp, census.icmp), (1, 2, 0));
    assert_eq!((census.pass, census.blocked, census.terminate), (1, 1, 1));
    assert_eq!((census.kernel, census.waiting), (0, 0));
    assert_eq!(survey.by_exit, [1, 0, 0], "the member that carries it");
    let listed: Vec<_> = survey
        .flows
        .iter()
        .map(|flow| (flow.key.dst.to_string(), flow.path, flow.sent.packets))
        .collect();
    assert_eq!(
        listed,
        [
            ("192.5.5.241".to_owned(), Path::None, 0),
            ("1.2.4.8".to_owned(), Path::None, 0),
            ("198.41.0.4".to_owned(), Path::Pass, 1),
        ]
    );
    let policy = &survey.snapshot.policy;
    let rules: Vec<&str> = survey
        .flows
        .iter()
        .map(|flow| match flow.cause {
            Cause::Policy(decision) => policy.rule_id(decision.origin),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(rules, ["abroad", "no-prc", "default"]);
}

#[test]
fn a_list_has_no_more_flows_than_were_asked_for_and_they_are_those_used_last() {
    let mut world = World::router(POLICY, &[]);
    for port in 1..50 {
        let to = format!("198.41.0.4:{port}");
        world.packet(&udp("192.168.1.2:1000", &to, b"x"));
        world.wait(Duration::from_millis(10));
    }
    for most in [0, 1, 7, 49, 1000] {
        let survey = world.gateway.survey(most, world.now);
        assert_eq!(survey.census.flows(), 49);
        let ports: Vec<u16> = survey.flows.iter().map(|flow| flow.key.dport).collect();
        let wanted: Vec<u16> = (1..50).rev().take(most).collect();
        assert_eq!(ports, wanted);
    }
}

#[test]
fn who_carries_a_group_is_told_for_each_kind_of_traffic() {
    let world = World::router(POLICY, &[]);
    let policy = &world.gateway.snapshot().policy;
    let ids: Vec<_> = policy.exit_ids().collect();
    let [nl, de, both] = ids[..] else {
        panic!("{ids:?}")
    };
    let carrier = |protocol, down| {
        let state = |exit| ExitState {
            up: Some(exit) != down,
            ..ExitState::default()
        };
        policy.carrier(both, Load { protocol, v4: true }, state)
    };
    assert_eq!(carrier(protocol::TCP, None), Some(nl));
    assert_eq!(carrier(protocol::TCP, Some(nl)), Some(de));
    assert_eq!(carrier(protocol::UDP, None), Some(de));
    assert_eq!(carrier(protocol::UDP, Some(de)), None);
    let reroutes: Vec<_> = policy.reroutes().collect();
    assert_eq!(reroutes, [("abroad", both, Some(de))]);
}
