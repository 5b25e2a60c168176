//! How the exits stand, with what the policy wants of them and what flows make of it.

use super::answers::seconds;
use crate::control::{ExitStatus, TakesOver};
use crate::exit::{Standing, Standings};
use crate::gateway::Survey;
use crate::packet::protocol;
use crate::policy::{Exit, ExitId, ExitState, Load, Policy};
use crate::report::Tally;
use crate::time::Time;
use std::collections::{BTreeSet, HashMap};

/// Everything there is to say of the exits, in their order.
pub(super) fn exits(
    standings: &Standings,
    surveys: &[Survey],
    totals: &Tally,
    now: Time,
) -> Vec<ExitStatus> {
    let policy = &standings.snapshot.policy;
    let flows = flows(surveys);
    let state = |exit: ExitId| {
        let standing = standings.exits.get(exit.index());
        standing.map(|it| it.state).unwrap_or_default()
    };
    let exits = policy.exit_ids().zip(&standings.exits);
    let exits = exits.filter_map(|(id, standing)| {
        let exit = policy.exit(id)?;
        let mut told = told(exit, standing, now);
        if !exit.kind.members().is_empty() {
            told = group(told, policy, id, &state);
        }
        if let Some(seen) = standing.egress {
            let country = standings.snapshot.data.lookup(seen).country;
            told.egress_country = country.map(|country| country.to_string());
        }
        (told.rules, told.takes_over) = rules(policy, id);
        told.flows = flows.get(&*told.name).copied().unwrap_or_default();
        told.refused = totals
            .without_exit
            .get(&told.name)
            .copied()
            .unwrap_or_default();
        Some(told)
    });
    exits.collect()
}

/// The exits that rules use: themselves, those that take over, and the members of both.
pub(super) fn used(policy: &Policy) -> BTreeSet<&str> {
    let named = policy.reroutes();
    let mut open: Vec<ExitId> = named
        .flat_map(|(_, exit, down)| [Some(exit), down])
        .flatten()
        .collect();
    let mut used = BTreeSet::new();
    while let Some(exit) = open.pop().and_then(|id| policy.exit(id)) {
        if used.insert(&*exit.name) {
            open.extend(exit.kind.members());
        }
    }
    used
}

fn told(exit: &Exit, standing: &Standing, now: Time) -> ExitStatus {
    let looked_after = standing.kept.then_some(standing.since);
    let age = looked_after.map(|since| since.as_secs_f64());
    let unseen = || standing.kept.then(|| "nobody has looked yet".to_owned());
    let latency = standing.state.latency.as_millis();
    ExitStatus {
        name: exit.name.to_string(),
        kind: exit.kind.name().into(),
        server: standing.server.as_ref().map(ToString::to_string),
        up: standing.state.up,
        since: age.map(|age| seconds(now) - age),
        age,
        why: standing.why.clone().or_else(unseen),
        latency_ms: u64::try_from(latency).ok().filter(|ms| *ms > 0),
        egress: standing.egress.map(|seen| seen.to_string()),
        egress_country: None,
        members: Vec::new(),
        carrier: None,
        carrier_udp: None,
        rules: Vec::new(),
        takes_over: Vec::new(),
        flows: 0,
        refused: 0,
    }
}

/// A group is up if it carries anything.
fn group(
    told: ExitStatus,
    policy: &Policy,
    id: ExitId,
    state: &impl Fn(ExitId) -> ExitState,
) -> ExitStatus {
    let name = |id: ExitId| Some(policy.exit(id)?.name.to_string());
    let carrier = |protocol, v4| {
        let load = Load { protocol, v4 };
        policy.carrier(id, load, state).and_then(name)
    };
    let members = policy.exit(id).map_or(&[][..], |exit| exit.kind.members());
    let every = [protocol::TCP, protocol::UDP, protocol::ICMP];
    let mut loads = every.into_iter().flat_map(|p| [(p, true), (p, false)]);
    ExitStatus {
        up: loads.any(|(protocol, v4)| carrier(protocol, v4).is_some()),
        since: None,
        age: None,
        why: None,
        members: members.iter().filter_map(|member| name(*member)).collect(),
        carrier: carrier(protocol::TCP, true),
        carrier_udp: carrier(protocol::UDP, true),
        ..told
    }
}

/// The rules that send flows by an exit, and who takes over for it.
fn rules(policy: &Policy, id: ExitId) -> (Vec<String>, Vec<TakesOver>) {
    let of_it = policy.reroutes().filter(|(_, exit, _)| *exit == id);
    let of_it = of_it.map(|(rule, _, down)| {
        let exit = down.and_then(|down| policy.exit(down));
        let takes_over = TakesOver {
            rule: rule.to_owned(),
            exit: exit.map(|exit| exit.name.to_string()),
        };
        (rule.to_owned(), takes_over)
    });
    of_it.unzip()
}

/// Flows by each exit.
fn flows(surveys: &[Survey]) -> HashMap<&str, u64> {
    let mut flows = HashMap::new();
    for survey in surveys {
        let exits = survey.snapshot.policy.exits().iter();
        for (exit, count) in exits.zip(&survey.by_exit) {
            *flows.entry(&*exit.name).or_default() += count;
        }
    }
    flows
}
