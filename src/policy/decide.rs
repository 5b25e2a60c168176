//! First match: rules in order, each with three-valued conditions.

use super::compiled::{Effect, Observe, OnUnknown, Policy, Rule, Sanitizer};
use super::condition::Condition;
use super::evaluate::{Demand, Seen};
use super::facts::Facts;
use super::truth::{Truth, Waits};
use super::verdict::{Action, Active, Decision, Origin, Permit, Route, Verdict};
use crate::sanitize::{Certainty, Finding};
use std::net::SocketAddr;

impl Policy {
    /// The verdict on a flow. A total, pure function; never allocates.
    pub fn decide(&self, facts: &Facts<'_>) -> Decision {
        let seen = Seen::new(facts, self);
        let candidates = self.index.candidates(&seen);
        self.judge(&seen, candidates, &mut |_, _| {})
    }

    /// The verdict of these of the rules; what each comes out as is told on the way.
    pub(super) fn judge(
        &self,
        seen: &Seen<'_>,
        rules: impl Iterator<Item = u16>,
        tried: &mut impl FnMut(u16, Truth),
    ) -> Decision {
        let mut scan = Scan::new(seen.facts);
        for index in rules {
            let Some(rule) = self.rules.get(usize::from(index)) else {
                continue;
            };
            let truth = self.matches(rule, seen);
            tried(index, truth);
            if let Some(decision) = scan.rule(Origin::Rule(index), rule, truth) {
                return decision;
            }
        }
        scan.end(self.default.effect, self.default.observed)
    }

    /// Whether all conditions of a rule hold.
    fn matches(&self, rule: &Rule, seen: &Seen<'_>) -> Truth {
        let stops = rule.effect.stops();
        let mut all = Truth::Yes;
        for condition in self.conditions.get(rule.range()).unwrap_or_default() {
            all = all.and(seen.condition(condition, stops, rule.evidence));
            if all == Truth::No {
                break;
            }
        }
        all
    }

    /// Which sanitize entries concern the flow (their `from` and `to`). What cannot be told counts as concerned.
    pub fn active(&self, facts: &Facts<'_>) -> Active {
        if self.sanitizers.is_empty() {
            return Active::default();
        }
        let seen = Seen::new(facts, self);
        let entries = (0..64u16).zip(&self.sanitizers);
        Active(entries.fold(0, |bits, (index, entry)| {
            bits | u64::from(entry.concerns(&seen)) << index
        }))
    }

    /// The strictest action any of the active entries wants for this finding, and that entry's place;
    /// `None` if no entry lists it. Never more than [`Action::Report`] in observe mode, and for what is only suspected:
    /// a value that merely looks like an identifier is worth telling, not worth breaking a flow for.
    pub fn action(&self, active: Active, finding: &Finding) -> Option<(u16, Action)> {
        let most = if finding.certainty == Certainty::Suspected {
            Action::Report
        } else {
            Action::Reject
        };
        let mut strictest: Option<(u16, Action)> = None;
        for (index, entry) in self.entries(active) {
            let action = entry.effective_action().min(most);
            if entry.lists(finding) && strictest.is_none_or(|(_, other)| action > other) {
                strictest = Some((index, action));
            }
        }
        strictest
    }

    /// Whether one of the active entries wants payloads rewritten.
    pub fn redacts(&self, active: Active) -> bool {
        self.entries(active)
            .any(|(_, entry)| entry.effective_action() == Action::Redact)
    }

    /// The entries of a set.
    pub(super) fn entries(&self, active: Active) -> impl Iterator<Item = (u16, &Sanitizer)> {
        (0..64u16)
            .zip(&self.sanitizers)
            .filter(move |(index, _)| active.0 >> index & 1 == 1)
    }

    /// Id of what gave a verdict: the rule's, or `default`. Empty for a rule of another policy.
    pub fn rule_id(&self, origin: Origin) -> &str {
        match origin {
            Origin::Rule(index) => self
                .rules
                .get(usize::from(index))
                .map_or("", |rule| &rule.id),
            Origin::Default => "default",
        }
    }

    /// Id of a sanitize entry. Empty for an entry of another policy.
    pub fn sanitizer_id(&self, entry: u16) -> &str {
        self.sanitizers
            .get(usize::from(entry))
            .map_or("", |entry| &entry.id)
    }
}

impl Rule {
    /// The places of its conditions among those of the policy.
    pub(super) fn range(&self) -> std::ops::Range<usize> {
        self.conditions.start as usize..self.conditions.end as usize
    }

    /// Whether it decides when its conditions come out so.
    pub(super) fn fires(&self, truth: Truth) -> bool {
        match truth {
            Truth::Yes => true,
            Truth::Unknown(_) => self.effect.stops() && self.on_unknown == OnUnknown::Block,
            Truth::No => false,
        }
    }

    /// Whether it only records. While the clock is not set, a block is enforced and nothing else is.
    pub(super) fn is_observed(&self, wall: Option<u64>) -> bool {
        match self.observe {
            Observe::Never => false,
            Observe::Until(end) => wall.map_or(!self.effect.stops(), |now| now < end),
            Observe::Always => true,
        }
    }
}

impl Sanitizer {
    fn concerns(&self, seen: &Seen<'_>) -> bool {
        let maybe = |part: &Option<(Condition, _)>| {
            part.as_ref().is_none_or(|(condition, _)| {
                seen.condition(condition, true, Demand::Any) != Truth::No
            })
        };
        maybe(&self.from) && maybe(&self.to)
    }

    fn lists(&self, finding: &Finding) -> bool {
        self.leaks.iter().any(|term| term.matches(finding))
    }

    fn effective_action(&self) -> Action {
        if self.observed {
            Action::Report
        } else {
            self.action
        }
    }
}

/// What is known half way down the rules.
struct Scan {
    protocol: u8,
    destination: SocketAddr,
    wall: Option<u64>,
    /// The first rule that would have decided, were it not only observed.
    observed: Option<(Origin, Effect)>,
    /// The first reroute that the flow would fall under if it is what it claims to be.
    claimed: Option<(Origin, Effect)>,
    /// What rules that might still win wait for, by what they would do.
    block: Option<Waits>,
    allow: Option<Waits>,
    reroute: Option<Waits>,
}

impl Scan {
    fn new(facts: &Facts<'_>) -> Self {
        Self {
            protocol: facts.protocol,
            destination: facts.destination,
            wall: facts.wall,
            observed: None,
            claimed: None,
            block: None,
            allow: None,
            reroute: None,
        }
    }

    fn rule(&mut self, origin: Origin, rule: &Rule, truth: Truth) -> Option<Decision> {
        let fires = rule.fires(truth);
        if rule.is_observed(self.wall) {
            if fires {
                self.observed.get_or_insert((origin, rule.effect));
            }
            return None;
        }
        match truth {
            Truth::Yes => Some(self.decide(origin, rule.effect, None)),
            Truth::Unknown(waits) if fires => Some(self.decide(origin, rule.effect, Some(waits))),
            Truth::Unknown(waits) => {
                if waits == Waits::CLAIM && matches!(rule.effect, Effect::Reroute { .. }) {
                    self.claimed.get_or_insert((origin, rule.effect));
                }
                self.wait(rule.effect, waits);
                None
            }
            Truth::No => None,
        }
    }

    /// No rule decided.
    fn end(mut self, effect: Effect, observed: bool) -> Decision {
        if observed && effect != Effect::Allow {
            self.observed.get_or_insert((Origin::Default, effect));
            return self.decide(Origin::Default, Effect::Allow, None);
        }
        self.decide(Origin::Default, effect, None)
    }

    /// A rule that does not decide now, but might with more facts; not if one of them can never come.
    fn wait(&mut self, effect: Effect, waits: Waits) {
        if waits.has(Waits::NEVER.with(Waits::CLAIM)) {
            return;
        }
        let slot = match effect {
            Effect::Block(_) => &mut self.block,
            Effect::Allow => &mut self.allow,
            Effect::Reroute { .. } => &mut self.reroute,
        };
        *slot = Some(slot.map_or(waits, |before| before.with(waits)));
    }

    fn decide(&self, origin: Origin, effect: Effect, unknown: Option<Waits>) -> Decision {
        // A claim opens no other way for what is blocked; for what would go directly it may not be passed over.
        let (origin, effect) = match (effect, self.claimed) {
            (Effect::Allow, Some(claimed)) => claimed,
            _ => (origin, effect),
        };
        // A rule that waits matters only if it would do something else.
        let others = match effect {
            Effect::Block(_) => [self.allow, self.reroute, unknown],
            Effect::Allow => [self.block, self.reroute, None],
            Effect::Reroute { .. } => [self.block, self.allow, self.reroute],
        };
        let waits_for = |what| others.iter().flatten().any(|waits| waits.has(what));
        Decision {
            verdict: self.verdict(effect),
            origin,
            unknown: unknown.is_some(),
            observed: self
                .observed
                .filter(|(_, would)| *would != effect)
                .map(|(origin, _)| origin),
            needs_name: waits_for(Waits::NAME),
            needs_payload: waits_for(Waits::PAYLOAD),
        }
    }

    fn verdict(&self, effect: Effect) -> Verdict {
        let (route, fallback) = match effect {
            Effect::Block(reply) => return Verdict::Block(reply),
            Effect::Allow => (Route::Direct, None),
            Effect::Reroute { exit, down } => (Route::Via(exit), down),
        };
        Verdict::Pass(Permit {
            protocol: self.protocol,
            destination: self.destination,
            route,
            fallback,
        })
    }
}
