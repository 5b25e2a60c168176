//! What is written correctly and yet surely not meant: rules that can never fire, allows that a block shadows, tests that
//! test nothing.

use super::cases::Case;
use super::compiled::{Effect, OnUnknown, Policy, Rule};
use super::condition::{Condition, Test, Written};
use super::cover::{Within, is_exact, is_within};
use super::evaluate::has_ports;
use super::exits::ExitKind;
use super::verdict::ExitId;
use crate::document::Problem;
use std::collections::BTreeSet;

impl Policy {
    /// Everything doubtful, in the order of the rules. None of it keeps the policy from working as written.
    pub fn lint(&self) -> Vec<Problem> {
        let mut found = self.notes.clone();
        self.lint_reach(&mut found);
        self.lint_blocks(&mut found);
        self.lint_reroutes(&mut found);
        self.lint_names(&mut found);
        self.lint_cases(&mut found);
        found.sort_by(|a, b| a.place.cmp(&b.place));
        found
    }

    fn lint_reach(&self, found: &mut Vec<Problem>) {
        // About a second's work. Only thousands of rules that are all alike need so much.
        const MOST: usize = 1 << 26;
        let covered = self.covered(MOST);
        for (rule, cover) in self.rules.iter().zip(&covered.by) {
            if let Some(why) = self.matches_nothing(rule) {
                found.push(Problem {
                    place: rule.place.clone(),
                    message: format!("rule `{}` never fires: {why}", rule.id),
                });
                continue;
            }
            let Some(cover) = cover.and_then(|cover| self.rules.get(cover)) else {
                continue;
            };
            let (id, by, place) = (&rule.id, &cover.id, &cover.place);
            let message = if cover.effect.stops() && !rule.effect.stops() {
                format!(
                    "rule `{id}` lets nothing go: block rule `{by}` at {place} stops all of it before"
                )
            } else {
                format!("rule `{id}` never fires: rule `{by}` at {place} takes all of it before")
            };
            found.push(Problem {
                place: rule.place.clone(),
                message,
            });
        }
        if let Some(rule) = covered.unknown_from.and_then(|from| self.rules.get(from)) {
            found.push(Problem {
                place: rule.place.clone(),
                message: format!(
                    "whether rule `{}` and those after it can fire was not looked into: too many rules are alike",
                    rule.id
                ),
            });
        }
    }

    /// Why no flow can match a rule, if its own keys contradict each other.
    fn matches_nothing(&self, rule: &Rule) -> Option<String> {
        let conditions = || self.conditions_of(rule);
        let wanted = |test: fn(&Test) -> bool| {
            conditions().any(|(condition, _)| !condition.negate && test(&condition.test))
        };
        let portless = |test: &Test| matches!(test, Test::Proto(protocols) if !protocols.iter().any(|number| has_ports(*number)));
        if wanted(|test| matches!(test, Test::Port(_))) && wanted(portless) {
            return Some("none of its protocols has ports".into());
        }
        let none = Within::new();
        conditions().find_map(|(wanted, written)| {
            let takes_all = |(other, _): &(&Condition, &Written)| {
                other.negate && is_exact(&other.test) && is_within(&wanted.test, &other.test, &none)
            };
            let taken = !wanted.negate && conditions().any(|other| takes_all(&other));
            let key = written.key.name();
            taken.then(|| format!("`not_{key}` leaves nothing of `{key}`"))
        })
    }

    /// Blocks that take more than their writer may think.
    fn lint_blocks(&self, found: &mut Vec<Problem>) {
        for rule in self.rules.iter().filter(|rule| rule.effect.stops()) {
            for (condition, written) in self.conditions_of(rule) {
                let Some(message) = takes_more(rule, condition) else {
                    continue;
                };
                found.push(Problem {
                    place: written.place.clone(),
                    message: format!("rule `{}`: {message}", rule.id),
                });
            }
        }
    }

    /// Reroutes by location, of which an anycast address has none that proves anything: where the default is to allow,
    /// what their writer meant to send another way goes directly.
    fn lint_reroutes(&self, found: &mut Vec<Problem>) {
        let anycast = |rule| {
            let mut conditions = self.conditions_of(rule);
            conditions.any(|(condition, _)| matches!(condition.test, Test::Anycast(_)))
        };
        if self.default.effect.stops() || self.rules.iter().any(anycast) {
            return;
        }
        for rule in &self.rules {
            let Effect::Reroute { .. } = rule.effect else {
                continue;
            };
            for (condition, written) in self.conditions_of(rule) {
                if rests_on_location(&condition.test) {
                    found.push(Problem {
                        place: written.place.clone(),
                        message: format!(
                            "rule `{}`: an anycast address lies in no one country, so this leaves it to later rules, and \
                             the default lets it go directly; ask for `jurisdiction`, or add a rule with `anycast`",
                            rule.id
                        ),
                    });
                }
            }
        }
    }

    fn lint_names(&self, found: &mut Vec<Problem>) {
        let parts = self
            .sanitizers
            .iter()
            .flat_map(|entry| [&entry.from, &entry.to]);
        let parts = parts.flatten().map(|(_, written)| written);
        let targets = self.declared.targets.iter().flat_map(|(_, parts, _)| parts);
        let used: BTreeSet<String> = self
            .written
            .iter()
            .chain(parts)
            .chain(targets)
            .flat_map(words)
            .collect();
        let declared = &self.declared;
        let sources = declared
            .sources
            .iter()
            .map(|(name, _, place)| ("source", "", name, place));
        let targets = declared
            .targets
            .iter()
            .map(|(name, _, place)| ("target", "", name, place));
        let times = declared
            .schedules
            .iter()
            .map(|(name, _, place)| ("schedule", "", name, place));
        let lists = declared
            .lists
            .iter()
            .map(|(name, _, place)| ("list", "list:", name, place));
        for (what, prefix, name, place) in sources.chain(targets).chain(times).chain(lists) {
            if !used.contains(&format!("{prefix}{name}")) {
                found.push(Problem {
                    place: place.clone(),
                    message: format!("{what} `{name}` is not used by any rule or sanitizer"),
                });
            }
        }
        let exits = self.used_exits();
        for (index, exit) in self.exits.iter().enumerate() {
            if u16::try_from(index).is_ok_and(|index| !exits.contains(&index)) {
                found.push(Problem {
                    place: exit.place.clone(),
                    message: format!("exit `{}` is not used by any rule", exit.name),
                });
            }
        }
    }

    /// Exits that some rule may use, themselves or as members of a group.
    fn used_exits(&self) -> BTreeSet<u16> {
        let mut open: Vec<ExitId> = self.default.exit_down.into_iter().collect();
        for rule in &self.rules {
            if let Effect::Reroute { exit, down } = rule.effect {
                open.push(exit);
                open.extend(down);
            }
        }
        let mut used = BTreeSet::new();
        while let Some(id) = open.pop() {
            if used.insert(id.0)
                && let Some(exit) = self.exit(id)
                && let ExitKind::Failover(members) | ExitKind::Fastest(members) = &exit.kind
            {
                open.extend(members);
            }
        }
        used
    }

    fn lint_cases(&self, found: &mut Vec<Problem>) {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        for case in &self.cases {
            let mut say = |message: String| {
                found.push(Problem {
                    place: case.place.clone(),
                    message,
                });
            };
            if case.is_vague() {
                say(format!(
                    "the test says only `{}`: name the rule that is to do it (`by RULE`), or it passes for any reason",
                    case.expect
                ));
            }
            if !seen.insert(&case.key) {
                say("the test repeats an earlier one".into());
            }
        }
        let tested: BTreeSet<&str> = self.cases.iter().filter_map(Case::names).collect();
        // What a policy inherits is tested where it is written.
        let own = self.cases.first().map(|case| &case.place.file);
        let own_rules = self
            .rules
            .iter()
            .filter(|rule| Some(&rule.place.file) == own);
        for rule in own_rules {
            if !self.cases.is_empty() && !tested.contains(rule.id.as_ref()) {
                found.push(Problem {
                    place: rule.place.clone(),
                    message: format!("no test expects rule `{}`", rule.id),
                });
            }
        }
    }
}

/// Whether a condition is about the location alone.
fn rests_on_location(test: &Test) -> bool {
    if let Test::To(parts) = test {
        return parts.iter().any(|(part, _)| rests_on_location(part));
    }
    matches!(test, Test::Country(_))
}

/// What a condition of a block matches beside what its writer may have in mind.
fn takes_more(rule: &Rule, condition: &Condition) -> Option<&'static str> {
    if let Test::Country(places) | Test::OperatorCountry(places) | Test::Jurisdiction(places) =
        &condition.test
        && condition.negate
        && !places.local
    {
        return Some(
            "this blocks the local network too, which is in no country; add \"local\" to spare it",
        );
    }
    let rare = matches!(condition.test, Test::Anycast(_)) && rule.on_unknown == OnUnknown::Block;
    rare.then_some(
        "of most addresses it is not known whether they are anycast, and those are blocked too; say \
         `on_unknown = \"allow\"` to spare them",
    )
}

/// The words of a list as it is written.
fn words(written: &Written) -> impl Iterator<Item = String> {
    let list = written.value.trim_matches(['[', ']']);
    list.split(", ")
        .map(|word| word.trim_matches('"').to_owned())
}
