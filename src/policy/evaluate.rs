//! Whether a condition holds for a flow.
//!
//! What counts as holding depends on which way an error would go. A rule that stops traffic fires if *any* fact touches
//! the value, a rule that lets traffic go only if *all* known facts lie inside it. `not_` means the same with all other
//! values: it stops what may be outside, and lets go what is known to be outside.

use super::compiled::Policy;
use super::condition::{Condition, Member, Places, Test};
use super::domains::{Domains, Hit, SetId};
use super::facts::{Evidence, Facts, Name};
use super::resolve;
use super::truth::{Truth, Waits};
use crate::jurisdiction::{Anycast, CountrySet, OperatorId};
use std::cell::OnceCell;
use std::net::IpAddr;

/// How a condition is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    /// By a rule that stops; otherwise by one that lets go.
    pub(super) stops: bool,
    /// With `not_`.
    pub(super) negate: bool,
    /// Which names count.
    pub(super) demand: Demand,
}

impl Asked {
    /// Whether one fact that has the value is enough for the value to count as had; otherwise all must have it.
    fn any_suffices(self) -> bool {
        self.stops != self.negate
    }
}

/// Which names a rule believes (`evidence`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Demand {
    /// All; those in the flow before those of DNS answers.
    #[default]
    Any,
    /// Only names that the flow itself shows.
    InFlow,
}

/// Countries that a fact names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) countries: CountrySet,
    /// The fact is known, and nothing beyond it is to be reckoned with.
    settles: bool,
}

/// How many hits and operators of names are kept from one look-up; beyond it they are looked up each time.
const KEPT: usize = 8;

/// The facts of one flow with what follows from them, worked out once.
#[derive(Debug)]
pub(super) struct Seen<'f> {
    pub(super) facts: &'f Facts<'f>,
    domains: &'f Domains,
    pub(super) destination: IpAddr,
    /// The destination has no country because it is no place on the internet.
    pub(super) local: bool,
    /// The data is older than the policy puts up with: it may touch, but settles nothing.
    stale: bool,
    /// The flow shows a name, be it only an outer one: no better one will come.
    shown: bool,
    /// The flow claims a name.
    claims: bool,
    /// Every name that the flow claims was answered with this address, and it claims one.
    pub(super) confirmed: bool,
    hits: [(usize, Hit); KEPT],
    found: usize,
    operators: OnceCell<[Option<OperatorId>; KEPT]>,
}

impl<'f> Seen<'f> {
    pub(super) fn new(facts: &'f Facts<'f>, policy: &'f Policy) -> Self {
        let domains = &policy.domains;
        let destination = facts.destination.ip().to_canonical();
        let claims = facts.names.iter().filter(|name| name.evidence.is_claim());
        let mut seen = Self {
            facts,
            domains,
            destination,
            local: resolve::is_local(&facts.address),
            stale: policy.is_stale(facts),
            shown: facts.names.iter().any(|name| name.evidence.is_in_flow()),
            claims: claims.clone().next().is_some(),
            confirmed: claims.clone().next().is_some()
                && claims.clone().all(|name| facts.is_answered(name.name)),
            hits: [(0, Hit::default()); KEPT],
            found: 0,
            operators: OnceCell::new(),
        };
        for (index, name) in facts.names.iter().enumerate() {
            domains.find(name.name, |hit| {
                if let Some(place) = seen.hits.get_mut(seen.found) {
                    *place = (index, hit);
                }
                seen.found += 1;
            });
        }
        seen
    }

    /// Whether the condition holds in a rule that stops or lets go.
    pub(super) fn condition(&self, condition: &Condition, stops: bool, demand: Demand) -> Truth {
        let negate = condition.negate;
        self.test(
            &condition.test,
            Asked {
                stops,
                negate,
                demand,
            },
        )
    }

    pub(super) fn test(&self, test: &Test, asked: Asked) -> Truth {
        match test {
            Test::Country(places) => self.in_places(places, asked, &[self.location(asked)]),
            Test::OperatorCountry(places) => self.in_places(places, asked, &[self.seat()]),
            Test::Jurisdiction(places) => {
                self.in_places(places, asked, &[self.location(asked), self.seat()])
            }
            Test::To(parts) if asked.negate => parts
                .iter()
                .fold(Truth::Yes, |all, (part, _)| all.and(self.test(part, asked))),
            Test::To(parts) => parts
                .iter()
                .fold(Truth::No, |any, (part, _)| any.or(self.test(part, asked))),
            Test::Proto(_)
            | Test::Port(_)
            | Test::Anycast(_)
            | Test::SniMissing(_)
            | Test::Cleartext(_)
            | Test::NoDns(_)
            | Test::SniMismatch(_)
            | Test::From(_)
            | Test::Ip(_)
            | Test::Asn(_)
            | Test::Operator(_)
            | Test::Domain(_)
            | Test::Schedule(_) => {
                let truth = self.has(test, asked);
                if asked.negate { truth.not() } else { truth }
            }
        }
    }

    /// Whether the flow has the value, `not_` aside.
    fn has(&self, test: &Test, asked: Asked) -> Truth {
        let facts = self.facts;
        match test {
            Test::Proto(protocols) => Truth::of(protocols.contains(&facts.protocol)),
            Test::Port(ranges) => self.port(ranges),
            Test::Anycast(wanted) => match facts.address.anycast {
                Anycast::Yes => Truth::of(*wanted),
                Anycast::No => Truth::of(!*wanted),
                Anycast::Unknown if self.local => Truth::of(!*wanted),
                Anycast::Unknown => Truth::Unknown(Waits::NEVER),
            },
            Test::SniMissing(wanted) => self.opening(facts.opening.sni_missing, *wanted),
            Test::Cleartext(wanted) => self.opening(facts.opening.cleartext, *wanted),
            Test::NoDns(wanted) => Truth::of(facts.has_no_answer() == *wanted),
            Test::SniMismatch(wanted) => match facts.contradicts_answers() {
                Some(fact) => Truth::of(fact == *wanted),
                None => self.no_name(),
            },
            Test::From(members) => self.from(members),
            Test::Ip(networks) => {
                let has = |address| networks.iter().any(|part| part.contains(address));
                let inner = || asked.any_suffices() && has(facts.address.looked_up_as);
                Truth::of(has(self.destination) || inner())
            }
            Test::Asn(numbers) => match facts.address.asn {
                Some(asn) => Truth::of(numbers.contains(&asn)),
                None => self.missing(),
            },
            Test::Operator(operators) => self.operator(operators, asked),
            Test::Domain(sets) => self.domain(sets, asked),
            Test::Schedule(schedules) => match facts.wall {
                Some(wall) => Truth::of(schedules.iter().any(|one| one.contains(wall))),
                None => Truth::Unknown(Waits::NEVER),
            },
            Test::Country(_) | Test::OperatorCountry(_) | Test::Jurisdiction(_) | Test::To(_) => {
                self.test(test, asked)
            }
        }
    }

    /// ICMP and the like have no port: no port matches them.
    fn port(&self, ranges: &[(u16, u16)]) -> Truth {
        let port = self.facts.destination.port();
        let inside = |(first, last): &(u16, u16)| (*first..=*last).contains(&port);
        Truth::of(has_ports(self.facts.protocol) && ranges.iter().any(inside))
    }

    fn opening(&self, fact: Option<bool>, wanted: bool) -> Truth {
        match fact {
            Some(value) => Truth::of(value == wanted),
            None if has_ports(self.facts.protocol) => Truth::Unknown(Waits::PAYLOAD),
            None => Truth::Unknown(Waits::NEVER),
        }
    }

    fn from(&self, members: &[Member]) -> Truth {
        let source = &self.facts.source;
        members.iter().fold(Truth::No, |any, member| {
            any.or(match member {
                Member::Mac(mac) => match source.mac {
                    Some(seen) => Truth::of(seen == *mac),
                    // A peer of a tunnel has no hardware address; elsewhere the link may only not show it.
                    None if source.peer.is_some() => Truth::No,
                    None => Truth::Unknown(Waits::NEVER),
                },
                Member::Peer(name) => Truth::of(source.peer == Some(name)),
                Member::Net(net) => Truth::of(net.contains(&source.address.to_canonical())),
            })
        })
    }

    /// The operator file is a list of those that matter, so an address whose origin is known and that no entry names
    /// is known to be none of them. A name may add an operator, never take one away.
    fn operator(&self, operators: &[OperatorId], asked: Asked) -> Truth {
        let address = match self.facts.address.operator {
            Some(operator) => Truth::of(operators.contains(&operator)),
            None if self.facts.address.asn.is_some() => Truth::No,
            None => self.missing(),
        };
        self.name_operators().fold(address, |all, operator| {
            let inside = Truth::of(operators.contains(&operator));
            if asked.any_suffices() {
                all.or(inside)
            } else {
                all.and(inside)
            }
        })
    }

    /// Whether what is claimed lies in the places, or with `not_` outside them.
    fn in_places(&self, places: &Places, asked: Asked, claims: &[Claim]) -> Truth {
        if self.local {
            return Truth::of(places.local != asked.negate);
        }
        let touches = |claim: &Claim| {
            if asked.negate {
                !claim.countries.is_within(&places.countries)
            } else {
                claim.countries.intersects(&places.countries)
            }
        };
        let lies_within = |claim: &Claim| {
            if asked.negate {
                !claim.countries.intersects(&places.countries)
            } else {
                claim.countries.is_within(&places.countries)
            }
        };
        let unknown = Truth::Unknown(Waits::NEVER);
        let settles = |claim: &Claim| claim.settles;
        if asked.stops {
            match claims.iter().any(touches) {
                true => Truth::Yes,
                false if claims.iter().all(settles) => Truth::No,
                false => unknown,
            }
        } else {
            match claims.iter().all(lies_within) {
                false => Truth::No,
                // Of several facts one that is missing does not speak against; but one must be there.
                true if claims.iter().any(settles) => Truth::Yes,
                true => unknown,
            }
        }
    }

    /// Where the sources locate the address.
    fn location(&self, asked: Asked) -> Claim {
        let address = &self.facts.address;
        // Where an anycast address is depends on where one asks, so its location settles nothing. One exception: a
        // block of some countries does not take all anycast addresses; that is what `anycast` is for.
        let anywhere = address.anycast == Anycast::Yes && (asked.negate || !asked.stops);
        Claim {
            countries: address.located.into(),
            settles: !address.located.is_empty() && !anywhere && !self.stale,
        }
    }

    /// Where those who run the destination have their seat.
    pub(super) fn seat(&self) -> Claim {
        let own = self.facts.address.operator_country;
        let named = self
            .name_operators()
            .filter_map(|operator| resolve::seat(self.facts.data, operator));
        Claim {
            countries: own.into_iter().chain(named).collect(),
            // A name may add a seat. It cannot stand for that of the address, as it can be made up.
            settles: own.is_some() && !self.stale,
        }
    }

    /// What stops needs one name to match; what lets go needs all names of the best evidence there is, and that an
    /// answer gave the address for what the flow claims.
    fn domain(&self, sets: &[SetId], asked: Asked) -> Truth {
        let in_flow_only = asked.demand == Demand::InFlow || (!asked.stops && self.claims);
        let considered = |name: &Name<'_>| {
            let outer = name.evidence == Evidence::Outer;
            (!in_flow_only || name.evidence.is_in_flow()) && (asked.stops || !outer)
        };
        let (mut some, mut all, mut any) = (false, true, false);
        for (index, name) in self.facts.names.iter().enumerate() {
            if considered(name) {
                let inside = sets.iter().any(|set| self.is_in(index, name, *set));
                some = true;
                all &= inside;
                any |= inside;
            }
        }
        if !some {
            return self.no_name();
        }
        let had = if asked.any_suffices() { any } else { all };
        let holds = had != asked.negate;
        let believed = match (in_flow_only, holds) {
            (true, _) => self.confirmed,
            (false, _) => !self.facts.has_no_answer(),
        };
        // Of a claim nothing follows but that traffic is stopped.
        if holds != asked.stops && !believed {
            return Truth::Unknown(Waits::CLAIM);
        }
        let final_answer = self.shown || !has_ports(self.facts.protocol);
        if asked.stops || holds || final_answer {
            return Truth::of(had);
        }
        // A DNS answer speaks against it, but the flow itself may show another name, which is better evidence.
        self.no_name()
    }

    fn is_in(&self, index: usize, name: &Name<'_>, set: SetId) -> bool {
        let matches = |set: SetId| match self.hits.get(..self.found) {
            Some(hits) => hits
                .iter()
                .any(|(of, hit)| *of == index && self.domains.sets_of(*hit).contains(&set)),
            None => self.domains.contains(set, name.name),
        };
        matches(set) && !self.domains.exceptions(set).is_some_and(matches)
    }

    /// The sets that names of the destination are in; `None` if they are more than were kept.
    pub(super) fn hit_sets(&self) -> Option<impl Iterator<Item = SetId> + '_> {
        let hits = self.hits.get(..self.found)?;
        Some(
            hits.iter()
                .flat_map(|(_, hit)| self.domains.sets_of(*hit))
                .copied(),
        )
    }

    /// No name is known; one may still be seen in the payload.
    fn no_name(&self) -> Truth {
        if has_ports(self.facts.protocol) && !self.shown {
            Truth::Unknown(Waits::NAME)
        } else {
            Truth::Unknown(Waits::NEVER)
        }
    }

    /// A fact of the address is missing; what is local does not have it.
    fn missing(&self) -> Truth {
        if self.local {
            Truth::No
        } else {
            Truth::Unknown(Waits::NEVER)
        }
    }

    /// Names with the operators they belong to.
    pub(super) fn named_operators(&self) -> impl Iterator<Item = (&'f str, OperatorId)> + '_ {
        self.facts.names.iter().filter_map(|name| {
            let operator = self.facts.data.operator_of_name(name.name)?;
            Some((name.name, operator))
        })
    }

    fn name_operators(&self) -> impl Iterator<Item = OperatorId> + '_ {
        let names = self.facts.names;
        let operator = |name: &Name<'_>| self.facts.data.operator_of_name(name.name);
        let kept = self
            .operators
            .get_or_init(|| std::array::from_fn(|index| names.get(index).and_then(operator)));
        let rest = names.get(KEPT..).unwrap_or_default();
        kept.iter()
            .copied()
            .chain(rest.iter().map(operator))
            .flatten()
    }
}

impl Policy {
    /// Whether the data is too old for this policy. While the clock is not set nobody can tell.
    fn is_stale(&self, facts: &Facts<'_>) -> bool {
        const DAY: u64 = 86_400;
        let (Some(days), Some(wall)) = (self.default.max_data_age, facts.wall) else {
            return false;
        };
        let built = facts.data.oldest_location().unwrap_or(0);
        wall.saturating_sub(built) / DAY > u64::from(days)
    }
}

/// Whether a name of this evidence counts under a demand.
pub(super) fn believed(evidence: Evidence, demand: Demand) -> bool {
    demand == Demand::Any || evidence.is_in_flow()
}

/// Protocols with ports, whose payload may show a name: TCP and UDP.
pub(super) fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17)
}
