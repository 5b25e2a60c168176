//! Which rules can match at all, without asking each: every rule is filed under its most selective condition.
//!
//! Rules that do not come up would have come out as *no*, which has no effect on a decision; those that do are evaluated
//! in full. Rules without a selective condition always come up.

use super::compiled::{Effect, Observe, OnUnknown, Rule};
use super::condition::{Condition, Test};
use super::evaluate::{Demand, Seen};
use foldhash::fast::FixedState;
use ipnet::IpNet;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;

/// Rules by what they ask for, in order.
type Files<K> = HashMap<K, Vec<u16>, FixedState>;

/// All files.
#[derive(Debug, Default)]
pub(super) struct Index {
    rules: u16,
    always: Vec<u16>,
    ports: Files<u16>,
    asns: Files<u32>,
    all_asns: Vec<u16>,
    /// By prefix length and masked address.
    v4: BTreeMap<u8, Files<u32>>,
    v6: BTreeMap<u8, Files<u128>>,
    /// By number of the set of names.
    sets: Vec<Vec<u16>>,
    /// Of these, rules that come out as *no* as soon as the client was given any names and none matches.
    until_named: Vec<u16>,
    /// The others: only a name that the flow shows, and that is believed, settles them.
    until_shown: Vec<u16>,
    /// Rules that ask for nothing but a name come out alike while none is known, so the first of a kind stands for all.
    kinds: HashSet<Kind, FixedState>,
}

/// All that matters of a rule whose condition is unknown.
type Kind = (Effect, OnUnknown, Observe, Demand);

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
        let best = conditions
            .iter()
            .filter(|condition| !condition.negate)
            .map(|condition| (selectivity(&condition.test), &condition.test))
            .filter(|(selectivity, _)| *selectivity > 0)
            .max_by_key(|(selectivity, _)| *selectivity);
        match best.map(|(_, test)| test) {
            Some(Test::Domain(sets)) => {
                for set in sets.iter() {
                    let place = set.number();
                    if self.sets.len() <= place {
                        self.sets.resize_with(place + 1, Vec::new);
                    }
                    if let Some(file) = self.sets.get_mut(place) {
                        push(file, number);
                    }
                }
                let kind = (rule.effect, rule.on_unknown, rule.observe, rule.evidence);
                if conditions.len() == 1 && !self.kinds.insert(kind) {
                    return;
                }
                if rule.effect.stops() && rule.evidence == Demand::Any {
                    self.until_named.push(number);
                } else {
                    self.until_shown.push(number);
                }
            }
            Some(Test::Ip(networks)) => {
                for net in networks.iter().flat_map(|networks| networks.prefixes()) {
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
            }
            Some(Test::Asn(asns)) => {
                for asn in asns.iter() {
                    push(self.asns.entry(*asn).or_default(), number);
                }
                self.all_asns.push(number);
            }
            Some(Test::Port(ranges)) => {
                for port in ranges.iter().flat_map(|(first, last)| *first..=*last) {
                    push(self.ports.entry(port).or_default(), number);
                }
            }
            _ => self.always.push(number),
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
        let facts = seen.facts;
        found.open(&self.always)?;
        found.open_some(self.ports.get(&facts.destination.port()))?;
        match facts.address.asn {
            Some(asn) => found.open_some(self.asns.get(&asn))?,
            None => found.open(&self.all_asns)?,
        }
        self.open_networks(seen.destination, found)?;
        if facts.address.looked_up_as != seen.destination {
            self.open_networks(facts.address.looked_up_as, found)?;
        }
        if self.sets.is_empty() {
            return Some(());
        }
        if facts.has_no_answer() {
            found.open(&self.until_named)?;
        }
        if !seen.confirmed {
            found.open(&self.until_shown)?;
        }
        for set in seen.hit_sets()? {
            found.open_some(self.sets.get(set.number()))?;
        }
        Some(())
    }

    fn open_networks<'i>(&'i self, address: IpAddr, found: &mut Candidates<'i>) -> Option<()> {
        match address {
            IpAddr::V4(address) => {
                for (length, files) in &self.v4 {
                    let mask = u32::MAX.unbounded_shl(32 - u32::from(*length));
                    found.open_some(files.get(&(address.to_bits() & mask)))?;
                }
            }
            IpAddr::V6(address) => {
                for (length, files) in &self.v6 {
                    let mask = u128::MAX.unbounded_shl(128 - u32::from(*length));
                    found.open_some(files.get(&(address.to_bits() & mask)))?;
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

    fn open_some(&mut self, file: Option<&'i Vec<u16>>) -> Option<()> {
        file.map_or(Some(()), |file| self.open(file))
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
