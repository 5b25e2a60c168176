//! Which rule takes all that a later one could: found without comparing each with each.
//!
//! Whatever a wider condition has, it has one member of the narrower one. So each rule is filed under the members of one
//! of its conditions, and a later rule is compared only with those that are filed under a member of its own.

use super::compiled::{Effect, Observe, OnUnknown, Policy, Rule};
use super::condition::{Condition, Key, Member, Places, Test, Written};
use super::domains::SetId;
use crate::jurisdiction::{Asn, Country, OperatorId};
use foldhash::fast::FixedState;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// Sets of names that lie within others.
pub(super) type Within = BTreeSet<(SetId, SetId)>;

/// What was found.
#[derive(Debug)]
pub(super) struct Covered {
    /// Of each rule the first one before it that takes all of it, by their numbers.
    pub(super) by: Vec<Option<usize>>,
    /// The first rule that was not compared with all that it should have been, if they were too many.
    pub(super) unknown_from: Option<usize>,
}

/// One member of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Token<'p> {
    Flag(Key, bool),
    Proto(u8),
    Asn(Asn),
    Operator(OperatorId),
    Set(SetId),
    Sender(&'p Member),
    /// A country, or `None` for what lies in none.
    Place(Key, Option<Country>),
    /// Ports or addresses: how many of the first bits are the same, and these.
    Block(Space, u8, u128),
    Schedule,
}

/// What is numbered in bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Space {
    Port,
    V4,
    V6,
}

/// Rules by what they ask for.
#[derive(Debug, Default)]
struct Files<'p> {
    files: HashMap<Token<'p>, Vec<usize>, FixedState>,
    /// Lengths of the blocks among them.
    lengths: BTreeSet<(Space, u8)>,
    /// Rules that could be filed under nothing.
    rest: Vec<usize>,
}

impl Policy {
    /// Looks at each rule; gives up after `most` comparisons of two.
    pub(super) fn covered(&self, most: usize) -> Covered {
        let names = self.domains.within();
        let mut files = Files::default();
        let mut by = Vec::with_capacity(self.rules.len());
        let mut left = most;
        for (number, rule) in self.rules.iter().enumerate() {
            let mut first = None;
            for earlier in files.candidates(self, rule, &names, number) {
                if left == 0 {
                    by.resize(self.rules.len(), None);
                    return Covered {
                        by,
                        unknown_from: Some(number),
                    };
                }
                left -= 1;
                let wide = self.rules.get(earlier);
                if wide.is_some_and(|wide| self.covers(wide, rule, &names)) {
                    first = Some(earlier);
                    break;
                }
            }
            by.push(first);
            // One that is only observed today takes nothing.
            if rule.observe == Observe::Never {
                files.file(self, rule, number);
            }
        }
        Covered {
            by,
            unknown_from: None,
        }
    }

    /// Whether whatever makes `rule` fire makes `earlier` fire first.
    fn covers(&self, earlier: &Rule, rule: &Rule, names: &Within) -> bool {
        // Of a flow that only claims a name, an allow leaves it to a later reroute which way it goes.
        let claimed = |(condition, _): (&Condition, &Written)| condition.test.asks_for_name();
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
}

impl<'p> Files<'p> {
    /// Files a rule under the members of the one of its conditions that fewest others are filed under.
    fn file(&mut self, policy: &'p Policy, rule: &Rule, number: usize) {
        let conditions = policy.conditions_of(rule);
        let usable = conditions.filter(|(condition, _)| !condition.negate);
        let tokens = usable.filter_map(|(condition, _)| {
            let mut tokens = Vec::new();
            members(&condition.test, &mut tokens)?;
            let length = |token| self.files.get(token).map_or(0, Vec::len);
            let fullest = tokens.iter().map(length).max().unwrap_or(0);
            Some((fullest, tokens))
        });
        let Some((_, tokens)) = tokens.min_by_key(|(fullest, _)| *fullest) else {
            self.rest.push(number);
            return;
        };
        for token in tokens {
            if let Token::Block(space, length, _) = token {
                self.lengths.insert((space, length));
            }
            self.files.entry(token).or_default().push(number);
        }
    }

    /// The rules before this one that may take all of it, in their order.
    fn candidates(
        &self,
        policy: &'p Policy,
        rule: &Rule,
        names: &Within,
        number: usize,
    ) -> Vec<usize> {
        let mut found = self.rest.clone();
        for (condition, _) in policy.conditions_of(rule) {
            if condition.negate {
                continue;
            }
            // What has no member lies within whatever there is.
            let Some(tokens) = self.one_member(&condition.test, names) else {
                return (0..number).collect();
            };
            let files = tokens.iter().filter_map(|token| self.files.get(token));
            found.extend(files.flatten());
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Everything under which a condition may be filed that has some member of this one.
    fn one_member(&self, test: &'p Test, names: &Within) -> Option<Vec<Token<'p>>> {
        let tokens = match test {
            Test::Proto(numbers) => vec![Token::Proto(*numbers.first()?)],
            Test::Port(ranges) => self.blocks_around(Space::Port, ranges.first()?.0.into()),
            Test::Ip(parts) => match parts.first()?.first()? {
                IpAddr::V4(v4) => self.blocks_around(Space::V4, v4.to_bits().into()),
                IpAddr::V6(v6) => self.blocks_around(Space::V6, v6.to_bits()),
            },
            Test::From(senders) => vec![Token::Sender(senders.first()?)],
            Test::Asn(numbers) => vec![Token::Asn(*numbers.first()?)],
            Test::Operator(ids) => vec![Token::Operator(*ids.first()?)],
            Test::Country(places) => either(Key::Country, first_place(places)?),
            Test::OperatorCountry(places) => either(Key::OperatorCountry, first_place(places)?),
            Test::Jurisdiction(places) => {
                vec![Token::Place(Key::Jurisdiction, first_place(places)?)]
            }
            Test::Domain(sets) => {
                let set = *sets.first()?;
                let wider = names
                    .range((set, SetId::FIRST)..)
                    .map_while(|(one, wider)| (*one == set).then_some(Token::Set(*wider)));
                wider.chain([Token::Set(set)]).collect()
            }
            Test::To(parts) => self.one_member(&parts.first()?.0, names)?,
            Test::Anycast(_)
            | Test::SniMissing(_)
            | Test::Cleartext(_)
            | Test::NoDns(_)
            | Test::SniMismatch(_)
            | Test::Schedule(_) => {
                let mut tokens = Vec::new();
                members(test, &mut tokens)?;
                tokens
            }
        };
        Some(tokens)
    }

    /// All blocks in use that a number may lie in.
    fn blocks_around(&self, space: Space, number: u128) -> Vec<Token<'p>> {
        let lengths = self.lengths.iter().filter(|(of, _)| *of == space);
        lengths
            .map(|(_, length)| space.block(*length, number))
            .collect()
    }
}

impl Space {
    fn bits(self) -> u8 {
        match self {
            Self::Port => 16,
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The block of this length that a number lies in.
    fn block<'p>(self, length: u8, number: u128) -> Token<'p> {
        let shift = u32::from(self.bits().saturating_sub(length));
        Token::Block(self, length, number.checked_shr(shift).unwrap_or(0))
    }
}

/// Adds every member of a condition; `None` if there are too many.
fn members<'p>(test: &'p Test, tokens: &mut Vec<Token<'p>>) -> Option<()> {
    const MOST: usize = 256;
    match test {
        Test::Proto(numbers) => tokens.extend(numbers.iter().copied().map(Token::Proto)),
        Test::Port(ranges) => {
            for (first, last) in ranges.iter().take(MOST) {
                add_ports((*first).into(), (*last).into(), tokens);
            }
            (ranges.len() <= MOST).then_some(())?;
        }
        Test::Ip(parts) => {
            let nets = parts.iter().flat_map(|part| part.prefixes()).take(MOST + 1);
            tokens.extend(nets.map(|net| match net.network() {
                IpAddr::V4(v4) => Space::V4.block(net.prefix_len(), v4.to_bits().into()),
                IpAddr::V6(v6) => Space::V6.block(net.prefix_len(), v6.to_bits()),
            }));
        }
        Test::From(senders) => tokens.extend(senders.iter().map(Token::Sender)),
        Test::Asn(numbers) => tokens.extend(numbers.iter().copied().map(Token::Asn)),
        Test::Operator(ids) => tokens.extend(ids.iter().copied().map(Token::Operator)),
        Test::Domain(sets) => tokens.extend(sets.iter().copied().map(Token::Set)),
        Test::Country(places) => add_places(Key::Country, places, tokens),
        Test::OperatorCountry(places) => add_places(Key::OperatorCountry, places, tokens),
        Test::Jurisdiction(places) => add_places(Key::Jurisdiction, places, tokens),
        Test::Anycast(wanted) => tokens.push(Token::Flag(Key::Anycast, *wanted)),
        Test::SniMissing(wanted) => tokens.push(Token::Flag(Key::SniMissing, *wanted)),
        Test::Cleartext(wanted) => tokens.push(Token::Flag(Key::Cleartext, *wanted)),
        Test::NoDns(wanted) => tokens.push(Token::Flag(Key::NoDns, *wanted)),
        Test::SniMismatch(wanted) => tokens.push(Token::Flag(Key::SniMismatch, *wanted)),
        Test::Schedule(_) => tokens.push(Token::Schedule),
        Test::To(parts) => {
            for (part, _) in parts.iter().take(MOST + 1) {
                members(part, tokens)?;
            }
        }
    }
    (tokens.len() <= MOST).then_some(())
}

/// The blocks that make up a range of ports.
fn add_ports(first: u32, last: u32, tokens: &mut Vec<Token<'_>>) {
    let mut at = first;
    while at <= last {
        let room = (last - at + 1).ilog2();
        let free = at.trailing_zeros().min(16).min(room);
        let length = u8::try_from(16 - free).unwrap_or(16);
        tokens.push(Space::Port.block(length, at.into()));
        at += 1 << free;
    }
}

fn add_places(key: Key, places: &Places, tokens: &mut Vec<Token<'_>>) {
    let countries = places.countries.iter().map(Some);
    let local = places.local.then_some(None);
    tokens.extend(countries.chain(local).map(|place| Token::Place(key, place)));
}

/// A country, `Some(None)` for what lies in none; `None` if there is nothing.
fn first_place(places: &Places) -> Option<Option<Country>> {
    let country = places.countries.iter().next();
    country.map(Some).or(places.local.then_some(None))
}

/// Where something is located or run is also under whose jurisdiction it is.
fn either<'p>(key: Key, place: Option<Country>) -> Vec<Token<'p>> {
    [key, Key::Jurisdiction]
        .map(|key| Token::Place(key, place))
        .to_vec()
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
pub(super) fn is_exact(test: &Test) -> bool {
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

pub(super) fn is_within(inner: &Test, outer: &Test, names: &Within) -> bool {
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

#[cfg(test)]
mod tests;
