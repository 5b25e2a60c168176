//! What would have to be different for another verdict: hypotheses are made from the conditions of the rules, tried, and
//! the one that changes least is told. Every hypothesis is judged by the policy itself, so what is told is true.

use super::changed::Changed;
use super::compiled::{Policy, Rule};
use super::condition::{Condition, Written};
use super::evaluate::Seen;
use super::facts::Facts;
use super::truth::Truth;
use super::verdict::{Decision, Origin, Verdict};

/// Rules tried for a hypothesis; a policy may have thousands.
const TRIED: usize = 256;

/// How many rules that decide alike, one behind the other, are undone.
const DEEP: usize = 4;

/// The smallest change that gives another verdict, as a sentence; `None` if none of the hypotheses does.
pub(super) fn smallest(policy: &Policy, facts: &Facts<'_>, decision: &Decision) -> Option<String> {
    let seen = Seen::new(facts, policy);
    let undone = match decision.origin {
        Origin::Rule(index) => policy.rules.get(usize::from(index)),
        Origin::Default => None,
    };
    let undoing = undone.into_iter().flat_map(|rule| {
        let conditions = policy.conditions_of(rule).collect::<Vec<_>>();
        conditions
            .into_iter()
            .map(move |part| (rule, vec![part], false))
    });
    let stops = matches!(decision.verdict, Verdict::Block(_));
    let doing = policy
        .rules
        .iter()
        .filter(|rule| rule.effect.stops() != stops)
        .take(TRIED)
        .map(|rule| (rule, failing(policy, rule, &seen), true));
    let mut best: Option<(usize, String)> = None;
    for (rule, parts, wanted) in undoing.chain(doing) {
        let cost = parts.len();
        if cost == 0 || best.as_ref().is_some_and(|(least, _)| *least <= cost) {
            continue;
        }
        if let Some(sentence) = attempt(policy, facts, decision, (rule, &parts, wanted)) {
            best = Some((cost, sentence));
        }
    }
    match best {
        Some((_, sentence)) => Some(sentence),
        None => undo(policy, facts, decision),
    }
}

/// The conditions of a rule that do not hold.
fn failing<'p>(
    policy: &'p Policy,
    rule: &'p Rule,
    seen: &Seen<'_>,
) -> Vec<(&'p Condition, &'p Written)> {
    policy
        .conditions_of(rule)
        .filter(|(condition, _)| {
            seen.condition(condition, rule.effect.stops(), rule.evidence) != Truth::Yes
        })
        .collect()
}

type Hypothesis<'p> = (&'p Rule, &'p [(&'p Condition, &'p Written)], bool);

/// Makes the conditions come out as wanted and judges again.
fn attempt(
    policy: &Policy,
    facts: &Facts<'_>,
    decision: &Decision,
    (rule, parts, wanted): Hypothesis<'_>,
) -> Option<String> {
    let mut changed = Changed::new(facts);
    let mut said = Vec::new();
    for (condition, written) in parts {
        let any_suffices = rule.effect.stops() != condition.negate;
        let wanted = wanted != condition.negate;
        let (test, key) = (&condition.test, written.key);
        said.push(if wanted {
            changed.satisfy(policy, facts, test, (key, any_suffices))?
        } else {
            changed.violate(test, written)?
        });
    }
    let other = changed.judge(policy, facts);
    differs(&other, decision).then(|| sentence(policy, &other, &said))
}

/// Has the rule that decides not match, then the one that decides instead, and so on until the verdict is another.
fn undo(policy: &Policy, facts: &Facts<'_>, decision: &Decision) -> Option<String> {
    let (mut changed, mut now, mut said) = (Changed::new(facts), *decision, Vec::new());
    for _ in 0..DEEP {
        let Origin::Rule(index) = now.origin else {
            return None;
        };
        let rule = policy.rules.get(usize::from(index))?;
        let mut ways = policy
            .conditions_of(rule)
            .filter_map(|(condition, written)| {
                let mut other = changed.clone();
                let how = if condition.negate {
                    let key = (written.key, !rule.effect.stops());
                    other.satisfy(policy, facts, &condition.test, key)?
                } else {
                    other.violate(&condition.test, written)?
                };
                let then = other.judge(policy, facts);
                (then.origin != now.origin).then_some((other, then, how))
            });
        let (other, then, how) = ways.next()?;
        drop(ways);
        said.push(how);
        if differs(&then, decision) {
            return Some(sentence(policy, &then, &said));
        }
        (changed, now) = (other, then);
    }
    None
}

fn differs(other: &Decision, decision: &Decision) -> bool {
    other.verdict.name() != decision.verdict.name()
}

fn sentence(policy: &Policy, other: &Decision, said: &[String]) -> String {
    let by = match other.origin {
        Origin::Default => "by default".into(),
        Origin::Rule(_) => format!("by `{}`", policy.rule_id(other.origin)),
    };
    let verb = match other.verdict.name() {
        "allow" => "allowed",
        "block" => "blocked",
        _ => "rerouted",
    };
    format!("it would be {verb} {by} if {}", said.join(" and "))
}
