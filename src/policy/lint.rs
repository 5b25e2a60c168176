//! What is written correctly and yet surely not meant: rules that can never fire, allows that a block shadows, tests that
//! test nothing.

use super::cases::Case;
use super::compiled::{Effect, Observe, OnUnknown, Policy, Rule};
use super::condition::{Condition, Member, Test, Written};
use super::domains::SetId;
use super::evaluate::has_ports;
use super::exits::ExitKind;
use super::verdict::ExitId;
use crate::document::Problem;
use std::collections::BTreeSet;

/// Sets of names that lie within others.
type Within = BTreeSet<(SetId, SetId)>;

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
        let names = self.domains.within();
        for (index, rule) in self.rules.iter().enumerate() {
            if let Some(why) = self.matches_nothing(rule) {
                found.push(Problem {
                    place: rule.place.clone(),
                    message: format!("rule `{}` never fires: {why}", rule.id),
                });
                continue;
            }
            let before = self.rules.get(..index).unwrap_or_default();
            let mut covers = before.iter().filter(|one| self.covers(one, rule, &names));
            let Some(cover) = covers.next() else {
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

    /// Whether whatever makes `rule` fire makes `earlier` fire first.
    fn covers(&self, earlier: &Rule, rule: &Rule, names: &Within) -> bool {
        // Of a flow that only claims a name, an allow leaves it to a later reroute which way it goes.
        let claimed = |(condition, _): (&Condition, _)| condition.test.asks_for_name();
        if earlier.effect == Effect::Allow
            && matches!(rule.effect, Effect::Reroute { .. })
            && self.conditions_of(earlier).any(claimed)
        {
            return false;
        }
        // An earlier rule that is only observed today, or asks for better evidence, does not take everything.
        if earlier.observe != Observe::Never || earlier.evidence != rule.evidence {
            return false;
        }
        let takes_unknown = earlier.effect.stops() && earlier.on_unknown == OnUnknown::Block;
        let fires_on_unknown = rule.effect.stops() && rule.on_unknown == OnUnknown::Block;
        self.conditions_of(earlier).all(|(wide, _)| {
            let stances = (earlier.effect.stops(), rule.effect.stops());
            self.conditions_of(rule).any(|(narrow, _)| {
                implies(narrow, wide, stances, names)
                    && (takes_unknown || !fires_on_unknown || is_known(&wide.test))
            })
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

/// Whether `narrow` holding makes `wide` hold, in rules that stop (`true`) or let go.
fn implies(
    narrow: &Condition,
    wide: &Condition,
    (wide_stops, narrow_stops): (bool, bool),
    names: &Within,
) -> bool {
    // To touch is less than to lie inside: what stops because something touches need not lie inside.
    let comparable = wide_stops || !narrow_stops || is_exact(&wide.test);
    if narrow.negate != wide.negate || !comparable {
        return false;
    }
    if narrow.negate {
        is_within(&wide.test, &narrow.test, names)
    } else {
        is_within(&narrow.test, &wide.test, names)
            || (wide_stops && touches_more(&narrow.test, &wide.test))
    }
}

/// Whether the question is the same for rules that stop and rules that let go.
fn is_exact(test: &Test) -> bool {
    matches!(test, Test::Proto(_) | Test::Port(_))
        || is_known(test) && matches!(test, Test::From(_))
}

/// Whether the answer is never unknown.
fn is_known(test: &Test) -> bool {
    if let Test::From(members) = test {
        return !members
            .iter()
            .any(|member| matches!(member, Member::Mac(_)));
    }
    matches!(test, Test::Proto(_) | Test::Port(_) | Test::Ip(_))
}

fn is_within(inner: &Test, outer: &Test, names: &Within) -> bool {
    match (inner, outer) {
        (Test::Proto(a), Test::Proto(b)) => a.iter().all(|value| b.contains(value)),
        (Test::Port(a), Test::Port(b)) => a
            .iter()
            .all(|(first, last)| b.iter().any(|(from, to)| from <= first && last <= to)),
        (Test::From(a), Test::From(b)) => a.iter().all(|member| b.contains(member)),
        (Test::Ip(a), Test::Ip(b)) => a
            .iter()
            .all(|part| b.iter().any(|other| part.is_within(other))),
        (Test::Domain(a), Test::Domain(b)) => a.iter().all(|set| {
            let has = |other: &SetId| other == set || names.contains(&(*set, *other));
            b.iter().any(has)
        }),
        (Test::Asn(a), Test::Asn(b)) => a.iter().all(|value| b.contains(value)),
        (Test::Operator(a), Test::Operator(b)) => a.iter().all(|value| b.contains(value)),
        (Test::Country(a), Test::Country(b))
        | (Test::OperatorCountry(a), Test::OperatorCountry(b))
        | (Test::Jurisdiction(a), Test::Jurisdiction(b)) => a.is_within(b),
        (Test::To(a), part) => a.iter().all(|(inner, _)| is_within(inner, part, names)),
        (part, Test::To(b)) => b.iter().any(|(outer, _)| is_within(part, outer, names)),
        (a, b) => a == b,
    }
}

/// Whether touching a country by one key touches it by a wider one.
fn touches_more(narrow: &Test, wide: &Test) -> bool {
    if let (Test::Country(a) | Test::OperatorCountry(a), Test::Jurisdiction(b)) = (narrow, wide) {
        return a.is_within(b);
    }
    false
}

/// The words of a list as it is written.
fn words(written: &Written) -> impl Iterator<Item = String> {
    let list = written.value.trim_matches(['[', ']']);
    list.split(", ")
        .map(|word| word.trim_matches('"').to_owned())
}
