//! From a permit to the exit that carries it: groups have members, and an exit may be down.

use super::compiled::{Effect, Policy};
use super::exits::ExitKind;
use super::verdict::{ExitId, Permit, Route};
use crate::packet::protocol;
use std::time::Duration;

/// What is known of an exit while flows are sent by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitState {
    /// It can be used. What nobody has tried yet can.
    pub up: bool,
    /// How long it takes to answer; the least one wins in a `fastest` group.
    pub latency: Duration,
    /// It reaches IPv4 destinations.
    pub v4: bool,
    /// It reaches IPv6 destinations.
    pub v6: bool,
}

/// What is to be carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Transport protocol number.
    pub protocol: u8,
    /// To an IPv4 destination, else an IPv6 one.
    pub v4: bool,
}

/// Why no exit carries a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unavailable {
    /// It is down, or all members of it that could carry the flow are.
    Down(ExitId),
    /// It does not carry such traffic.
    CannotCarry(ExitId),
}

impl Default for ExitState {
    fn default() -> Self {
        Self {
            up: true,
            latency: Duration::ZERO,
            v4: true,
            v6: true,
        }
    }
}

impl Load {
    fn of(permit: &Permit) -> Self {
        Self {
            protocol: permit.protocol,
            v4: permit.destination.is_ipv4(),
        }
    }
}

impl Unavailable {
    /// The exit that the rule names.
    pub fn exit(self) -> ExitId {
        match self {
            Self::Down(exit) | Self::CannotCarry(exit) => exit,
        }
    }

    /// A stable name for events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Down(_) => "exit-down",
            Self::CannotCarry(_) => "exit-cannot-carry",
        }
    }
}

impl Policy {
    /// The permit by the very exit that is to carry it now: a member in place of its group, and the one that takes over
    /// (`exit_down`) in place of one that is down or cannot carry it. Never a way that the permit does not name.
    ///
    /// # Errors
    /// If there is none: then the flow is blocked.
    pub fn resolve(
        &self,
        permit: Permit,
        state: impl Fn(ExitId) -> ExitState,
    ) -> Result<Permit, Unavailable> {
        let Route::Via(exit) = permit.route else {
            return Ok(permit);
        };
        let mut search = Search::new(self, Load::of(&permit), &state);
        let found = search.exit(exit);
        let reason = if search.down {
            Unavailable::Down(exit)
        } else {
            Unavailable::CannotCarry(exit)
        };
        let found = found.or_else(|| search.exit(permit.fallback?));
        let found = found.ok_or(reason)?;
        Ok(Permit {
            route: Route::Via(found.exit),
            fallback: None,
            ..permit
        })
    }

    /// The very exit by which such flows leave now that are sent by this one: itself, or a member of it.
    pub fn carrier(
        &self,
        exit: ExitId,
        load: Load,
        state: impl Fn(ExitId) -> ExitState,
    ) -> Option<ExitId> {
        let found = Search::new(self, load, &state).exit(exit);
        found.map(|found| found.exit)
    }

    /// The rules that send flows by an exit: the rule's id, its exit, and the one that takes over where that is down.
    pub fn reroutes(&self) -> impl Iterator<Item = (&str, ExitId, Option<ExitId>)> {
        self.rules.iter().filter_map(|rule| match rule.effect {
            Effect::Reroute { exit, down } => Some((&*rule.id, exit, down)),
            Effect::Allow | Effect::Block(_) => None,
        })
    }

    /// Whether an exit of this policy is the same in another one: the same name for the same thing at the same place.
    pub fn has_same_exit(&self, other: &Self, id: ExitId) -> bool {
        let (Some(ours), Some(theirs)) = (self.exit(id), other.exit(id)) else {
            return false;
        };
        ours.name == theirs.name
            && ours.kind == theirs.kind
            && match &ours.kind {
                // Members stand before their group, so this ends.
                ExitKind::Failover(members) | ExitKind::Fastest(members) => members
                    .iter()
                    .all(|member| *member < id && self.has_same_exit(other, *member)),
                ExitKind::Direct
                | ExitKind::Socks5 { .. }
                | ExitKind::HttpConnect { .. }
                | ExitKind::Wireguard { .. } => true,
            }
    }
}

/// Goes through exits and their members, each once.
struct Search<'a, S> {
    policy: &'a Policy,
    load: Load,
    state: &'a S,
    tried: Vec<bool>,
    /// One that could carry the flow is down.
    down: bool,
}

#[derive(Clone, Copy)]
struct Found {
    exit: ExitId,
    latency: Duration,
}

impl<'a, S: Fn(ExitId) -> ExitState> Search<'a, S> {
    fn new(policy: &'a Policy, load: Load, state: &'a S) -> Self {
        Self {
            policy,
            load,
            state,
            tried: vec![false; policy.exits().len()],
            down: false,
        }
    }

    fn exit(&mut self, id: ExitId) -> Option<Found> {
        // What was tried in vain needs no second try, whatever group it is in. What was found there is found again by
        // `fastest` groups only, for which it is no better.
        if std::mem::replace(self.tried.get_mut(id.index())?, true) {
            return None;
        }
        match &self.policy.exit(id)?.kind {
            ExitKind::Failover(members) => members.iter().find_map(|member| self.exit(*member)),
            ExitKind::Fastest(members) => {
                let found = members.iter().filter_map(|member| self.exit(*member));
                found.min_by_key(|found| found.latency)
            }
            kind @ (ExitKind::Direct
            | ExitKind::Socks5 { .. }
            | ExitKind::HttpConnect { .. }
            | ExitKind::Wireguard { .. }) => {
                let state = (self.state)(id);
                if !carries(kind, state, self.load) {
                    return None;
                }
                self.down |= !state.up;
                state.up.then_some(Found {
                    exit: id,
                    latency: state.latency,
                })
            }
        }
    }
}

/// Whether an exit of this kind can carry a flow at all.
fn carries(kind: &ExitKind, state: ExitState, load: Load) -> bool {
    let family = match load.v4 {
        true => state.v4,
        false => state.v6,
    };
    let transport = match kind {
        ExitKind::Socks5 { udp, .. } => {
            load.protocol == protocol::TCP || (*udp && load.protocol == protocol::UDP)
        }
        ExitKind::HttpConnect { .. } => load.protocol == protocol::TCP,
        ExitKind::Direct | ExitKind::Wireguard { .. } => true,
        ExitKind::Failover(_) | ExitKind::Fastest(_) => false,
    };
    family && transport
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "helpers of tests may fail the test"
    )]

    use super::*;
    use crate::jurisdiction::{Data, Groups};
    use crate::policy::Surroundings;

    const EXITS: &str = r#"version = 1
name = "test"
[default]
action = "allow"
[exits]
a = { kind = "socks5", server = "198.51.100.1:1080", udp = true }
b = { kind = "socks5", server = "198.51.100.2:1080" }
c = { kind = "http-connect", server = "198.51.100.3:3128" }
d = { kind = "wireguard", profile = "d" }
first = { kind = "failover", members = ["a", "b", "c"] }
fast = { kind = "fastest", members = ["first", "d"] }
"#;

    fn policy(text: &str) -> Policy {
        let data = Data::embedded().unwrap();
        let groups = Groups::embedded().unwrap();
        let around = Surroundings {
            data: &data,
            groups: &groups,
        };
        Policy::load("test.toml", text, &around).unwrap()
    }

    fn id(policy: &Policy, name: &str) -> ExitId {
        let at = policy.exits().iter().position(|exit| &*exit.name == name);
        ExitId(u16::try_from(at.unwrap()).unwrap())
    }

    /// By what name a flow leaves when these exits are down.
    fn way(exit: &str, fallback: Option<&str>, protocol: u8, down: &[&str]) -> String {
        let policy = policy(EXITS);
        let permit = Permit {
            protocol,
            destination: "192.0.2.1:9".parse().unwrap(),
            route: Route::Via(id(&policy, exit)),
            fallback: fallback.map(|name| id(&policy, name)),
        };
        let state = |exit: ExitId| {
            let name = &*policy.exit(exit).unwrap().name;
            ExitState {
                up: !down.contains(&name),
                latency: Duration::from_millis(if name == "d" { 20 } else { 30 }),
                ..ExitState::default()
            }
        };
        match policy.resolve(permit, state) {
            Ok(permit) => match permit.route {
                Route::Via(exit) => policy.exit(exit).unwrap().name.to_string(),
                Route::Direct => "direct".into(),
            },
            Err(unavailable) => {
                assert_eq!(unavailable.exit(), id(&policy, exit));
                unavailable.name().into()
            }
        }
    }

    #[test]
    fn a_failover_group_is_its_first_member_that_is_up_and_can_carry_the_flow() {
        assert_eq!(way("first", None, 6, &[]), "a");
        assert_eq!(way("first", None, 6, &["a"]), "b");
        assert_eq!(way("first", None, 6, &["a", "b"]), "c");
        assert_eq!(way("first", None, 6, &["a", "b", "c"]), "exit-down");
        assert_eq!(way("first", None, 17, &["a"]), "exit-down");
        assert_eq!(way("first", None, 1, &[]), "exit-cannot-carry");
    }

    #[test]
    fn a_fastest_group_is_its_fastest_member_that_is_up() {
        assert_eq!(way("fast", None, 6, &[]), "d");
        assert_eq!(way("fast", None, 6, &["d"]), "a");
        assert_eq!(way("fast", None, 1, &["a"]), "d");
    }

    #[test]
    fn the_other_exit_of_a_rule_takes_over_and_nothing_else_does() {
        assert_eq!(way("b", Some("c"), 6, &["b"]), "c");
        assert_eq!(way("b", Some("a"), 17, &[]), "a");
        assert_eq!(way("b", Some("c"), 6, &["b", "c"]), "exit-down");
        assert_eq!(way("b", None, 6, &["b"]), "exit-down");
        assert_eq!(way("c", None, 17, &[]), "exit-cannot-carry");
    }

    #[test]
    fn a_family_that_an_exit_does_not_reach_is_not_sent_there() {
        let policy = policy(EXITS);
        let permit = Permit {
            protocol: 6,
            destination: "[2001:db8::1]:9".parse().unwrap(),
            route: Route::Via(id(&policy, "d")),
            fallback: None,
        };
        let only_v4 = |_| ExitState {
            v6: false,
            ..ExitState::default()
        };
        let outcome = policy.resolve(permit, only_v4);
        assert_eq!(outcome.unwrap_err().name(), "exit-cannot-carry");
    }

    #[test]
    fn groups_of_groups_end_soon_however_deep_they_are() {
        let mut text = EXITS.to_owned();
        text.push_str("g0 = { kind = \"failover\", members = [\"a\", \"a\"] }\n");
        for n in 1..64 {
            let before = n - 1;
            text.push_str(&format!(
                "g{n} = {{ kind = \"fastest\", members = [\"g{before}\", \"g{before}\"] }}\n"
            ));
        }
        let policy = policy(&text);
        let permit = Permit {
            protocol: 6,
            destination: "192.0.2.1:9".parse().unwrap(),
            route: Route::Via(id(&policy, "g63")),
            fallback: None,
        };
        let down = |_| ExitState {
            up: false,
            ..ExitState::default()
        };
        assert!(policy.resolve(permit, down).is_err());
        let found = policy.resolve(permit, |_| ExitState::default()).unwrap();
        assert_eq!(found.route, Route::Via(id(&policy, "a")));
    }

    #[test]
    fn an_exit_is_the_same_only_if_its_members_are() {
        let ours = policy(EXITS);
        let theirs = policy(&EXITS.replace("198.51.100.2", "198.51.100.9"));
        let same = |name| ours.has_same_exit(&theirs, id(&ours, name));
        assert!(same("a") && same("c"));
        assert!(!same("b") && !same("first") && !same("fast"));
    }
}
