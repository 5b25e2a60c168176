//! Which rules can match at all, without asking each: every rule is filed under its most selective condition.
//!
//! Rules that do not come up would have come out as *no*, which has no effect on a decision; those that do are evaluated
//! in full. What an origin or a name excludes depends on whether it is known, so there is one set of files for each state
//! of knowledge: a rule that asks for an origin and a port is found by the origin, or else by the port. Rules without a
//! selective condition always come up.

use super::compiled::{Effect, Observe, OnUnknown, Rule};
use super::condition::{Condition, Test};
use super::domains::SetId;
use super::evaluate::{Demand, Seen};
use foldhash::fast::FixedState;
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::Range;

/// Rules by what they ask for, in order.
type Files<K> = HashMap<K, Vec<u16>, FixedState>;

/// All files.
#[derive(Debug, Default)]
pub(super) struct Index {
    rules: u16,
    /// Rules that are found alike whatever is known.
    common: Shelf,
    /// The others, by [`Known::place`].
    shelves: [Shelf; Known::ALL.len()],
}

/// Rules by what excludes them.
#[derive(Debug, Default)]
struct Shelf {
    always: Vec<u16>,
    ports: Files<u16>,
    asns: Files<u32>,
    /// By prefix length and masked address.
    v4: BTreeMap<u8, Files<u32>>,
    v6: BTreeMap<u8, Files<u128>>,
    sets: Files<SetId>,
    /// Rules that ask for nothing but what is not known come out alike, so the first of a kind stands for all.
    kinds: HashSet<Kind, FixedState>,
}

/// All that matters of a rule whose conditions are all unknown; which they are, origin and name.
type Kind = (Effect, OnUnknown, Observe, Demand, [bool; 2]);

/// What is known of a flow, as far as it decides which conditions can exclude a rule.
#[derive(Clone, Copy, Debug)]
struct Known {
    origin: bool,
    names: Names,
}

/// What is known of a flow's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// No answer gave the client this address: a name that does not match excludes nothing.
    Unanswered,
    /// Answers did. Rules that stop are excluded by names that do not match.
    Answered,
    /// And what the flow claims is one of those names. It excludes all that it does not match.
    Confirmed,
}

/// How many files one flow may come up in; with more, all rules are asked.
const OPEN: usize = 24;

/// Prefixes and ports under which one rule is filed at most.
const COPIES: usize = 64;

/// Rules that may match, in order.
#[derive(Debug)]
pub(super) struct Candidates<'i> {
    files: [&'i [u16]; OPEN],
    open: usize,
    /// Instead of the files.
    all: Range<u16>,
}

impl Index {
    /// Files a rule; rules come in order.
    pub(super) fn file(&mut self, number: u16, rule: &Rule, conditions: &[Condition]) {
        self.rules = self.rules.max(number.saturating_add(1));
        let asks_for_facts = |test: &Test| matches!(test, Test::Asn(_) | Test::Domain(_));
        let any_known = |_: &Test| true;
        match most_selective(conditions, any_known) {
            Some(best @ Test::Ip(_)) => self.common.file(number, best),
            _ if positive(conditions).any(asks_for_facts) => {
                for (known, shelf) in Known::ALL.into_iter().zip(&mut self.shelves) {
                    match most_selective(conditions, |test| known.settles(test, rule)) {
                        Some(best) => shelf.file(number, best),
                        None => shelf.file_unsettled(number, rule, conditions),
                    }
                }
            }
            Some(best) => self.common.file(number, best),
            None => self.common.always.push(number),
        }
    }

    /// The rules that may match a flow.
    pub(super) fn candidates(&self, seen: &Seen<'_>) -> Candidates<'_> {
        let mut found = Candidates {
            files: [&[]; OPEN],
            open: 0,
            all: 0..0,
        };
        self.collect(seen, &mut found).unwrap_or_else(|| {
            // More files than fit.
            found.open = 0;
            found.all = self.all();
        });
        found
    }

    /// All rules.
    pub(super) fn all(&self) -> Range<u16> {
        0..self.rules
    }

    fn collect<'i>(&'i self, seen: &Seen<'_>, found: &mut Candidates<'i>) -> Option<()> {
        self.common.collect(seen, found)?;
        let shelf = self.shelves.get(Known::of(seen).place())?;
        shelf.collect(seen, found)
    }
}

impl Known {
    const ALL: [Self; 6] = [
        Self::new(false, Names::Unanswered),
        Self::new(true, Names::Unanswered),
        Self::new(false, Names::Answered),
        Self::new(true, Names::Answered),
        Self::new(false, Names::Confirmed),
        Self::new(true, Names::Confirmed),
    ];

    const fn new(origin: bool, names: Names) -> Self {
        Self { origin, names }
    }

    fn of(seen: &Seen<'_>) -> Self {
        let names = if seen.confirmed {
            Names::Confirmed
        } else if seen.facts.has_no_answer() {
            Names::Unanswered
        } else {
            Names::Answered
        };
        Self::new(seen.facts.address.asn.is_some(), names)
    }

    /// Its place in [`ALL`](Self::ALL).
    fn place(self) -> usize {
        let names = match self.names {
            Names::Unanswered => 0,
            Names::Answered => 2,
            Names::Confirmed => 4,
        };
        names + usize::from(self.origin)
    }

    /// Whether the test comes out as *no* for every flow of which this is known and that is in none of its files.
    fn settles(self, test: &Test, rule: &Rule) -> bool {
        match (test, self.names) {
            (Test::Asn(_), _) => self.origin,
            (Test::Domain(_), Names::Unanswered) => false,
            (Test::Domain(_), Names::Answered) => {
                rule.effect.stops() && rule.evidence == Demand::Any
            }
            (_, _) => true,
        }
    }
}

impl Shelf {
    /// Files a rule under one of its tests.
    fn file(&mut self, number: u16, test: &Test) {
        match test {
            Test::Domain(sets) => {
                for set in sets.iter() {
                    push(self.sets.entry(*set).or_default(), number);
                }
            }
            Test::Ip(networks) => {
                for net in networks.iter().flat_map(|networks| networks.prefixes()) {
                    self.file_network(number, net);
                }
            }
            Test::Asn(asns) => {
                for asn in asns.iter() {
                    push(self.asns.entry(*asn).or_default(), number);
                }
            }
            Test::Port(ranges) => {
                for port in ranges.iter().flat_map(|(first, last)| *first..=*last) {
                    push(self.ports.entry(port).or_default(), number);
                }
            }
            // Of no selectivity, so that they do not come here.
            Test::Proto(_)
            | Test::Anycast(_)
            | Test::SniMissing(_)
            | Test::Cleartext(_)
            | Test::NoDns(_)
            | Test::SniMismatch(_)
            | Test::From(_)
            | Test::Operator(_)
            | Test::Country(_)
            | Test::OperatorCountry(_)
            | Test::Jurisdiction(_)
            | Test::To(_)
            | Test::Schedule(_) => self.always.push(number),
        }
    }

    fn file_network(&mut self, number: u16, net: IpNet) {
        match net {
            IpNet::V4(net) => {
                let files = self.v4.entry(net.prefix_len()).or_default();
                push(files.entry(net.network().to_bits()).or_default(), number);
            }
            IpNet::V6(net) => {
                let files = self.v6.entry(net.prefix_len()).or_default();
                push(files.entry(net.network().to_bits()).or_default(), number);
            }
        }
    }

    /// Files a rule that no condition excludes as far as things are known. A name may still match it.
    fn file_unsettled(&mut self, number: u16, rule: &Rule, conditions: &[Condition]) {
        let asks = |what: fn(&Test) -> bool| positive(conditions).filter(|test| what(test)).count();
        let origins = asks(|test| matches!(test, Test::Asn(_)));
        let names = asks(|test| matches!(test, Test::Domain(_)));
        let kind = (
            rule.effect,
            rule.on_unknown,
            rule.observe,
            rule.evidence,
            [origins > 0, names > 0],
        );
        if origins + names < conditions.len() || self.kinds.insert(kind) {
            self.always.push(number);
            return;
        }
        for test in positive(conditions).filter(|test| matches!(test, Test::Domain(_))) {
            self.file(number, test);
        }
    }

    fn collect<'i>(&'i self, seen: &Seen<'_>, found: &mut Candidates<'i>) -> Option<()> {
        let facts = seen.facts;
        found.open(&self.always)?;
        found.open_one(&self.ports, &facts.destination.port())?;
        if let Some(asn) = &facts.address.asn {
            found.open_one(&self.asns, asn)?;
        }
        self.open_networks(seen.destination, found)?;
        if facts.address.looked_up_as != seen.destination {
            self.open_networks(facts.address.looked_up_as, found)?;
        }
        if self.sets.is_empty() {
            return Some(());
        }
        for set in seen.hit_sets()? {
            found.open_one(&self.sets, &set)?;
        }
        Some(())
    }

    fn open_networks<'i>(&'i self, address: IpAddr, found: &mut Candidates<'i>) -> Option<()> {
        match address {
            IpAddr::V4(address) => {
                for (length, files) in &self.v4 {
                    let mask = u32::MAX.unbounded_shl(32 - u32::from(*length));
                    found.open_one(files, &(address.to_bits() & mask))?;
                }
            }
            IpAddr::V6(address) => {
                for (length, files) in &self.v6 {
                    let mask = u128::MAX.unbounded_shl(128 - u32::from(*length));
                    found.open_one(files, &(address.to_bits() & mask))?;
                }
            }
        }
        Some(())
    }
}

impl<'i> Candidates<'i> {
    fn open(&mut self, file: &'i [u16]) -> Option<()> {
        if !file.is_empty() {
            *self.files.get_mut(self.open)? = file;
            self.open += 1;
        }
        Some(())
    }

    fn open_one<K: Eq + Hash>(&mut self, files: &'i Files<K>, key: &K) -> Option<()> {
        if files.is_empty() {
            return Some(());
        }
        files.get(key).map_or(Some(()), |file| self.open(file))
    }
}

impl Iterator for Candidates<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if !self.all.is_empty() {
            return self.all.next();
        }
        let open = self.files.get_mut(..self.open)?;
        let next = open.iter().filter_map(|file| file.first()).min().copied()?;
        for file in open {
            if let Some((first, rest)) = file.split_first()
                && *first == next
            {
                *file = rest;
            }
        }
        Some(next)
    }
}

/// Tests of the conditions without `not_`: only those exclude all flows but a few.
fn positive(conditions: &[Condition]) -> impl Iterator<Item = &Test> {
    let positive = conditions.iter().filter(|condition| !condition.negate);
    positive.map(|condition| &condition.test)
}

/// The test that lets the fewest flows through, of those that count.
fn most_selective(conditions: &[Condition], counts: impl Fn(&Test) -> bool) -> Option<&Test> {
    let tests = positive(conditions).filter(|test| selectivity(test) > 0 && counts(test));
    tests.max_by_key(|test| selectivity(test))
}

/// How few flows a test lets through, by experience; 0 for one under which rules are not filed.
fn selectivity(test: &Test) -> u8 {
    match test {
        Test::Domain(_) => 2,
        Test::Ip(networks) => {
            let prefixes = networks.iter().flat_map(|networks| networks.prefixes());
            if prefixes.take(COPIES + 1).count() <= COPIES {
                4
            } else {
                0
            }
        }
        Test::Asn(_) => 3,
        Test::Port(ranges) => {
            let ports = ranges.iter().flat_map(|(first, last)| *first..=*last);
            u8::from(ports.take(COPIES + 1).count() <= COPIES)
        }
        Test::Proto(_)
        | Test::Anycast(_)
        | Test::SniMissing(_)
        | Test::Cleartext(_)
        | Test::NoDns(_)
        | Test::SniMismatch(_)
        | Test::From(_)
        | Test::Operator(_)
        | Test::Country(_)
        | Test::OperatorCountry(_)
        | Test::Jurisdiction(_)
        | Test::To(_)
        | Test::Schedule(_) => 0,
    }
}

/// A rule may ask for one value twice.
fn push(file: &mut Vec<u16>, rule: u16) {
    if file.last() != Some(&rule) {
        file.push(rule);
    }
}
