//! Why: the same decision, with every rule that was tried, where each fact came from, and what would change it.

use super::because;
use super::compiled::{Policy, Rule};
use super::evaluate::Seen;
use super::facts::{Evidence, Facts, Name};
use super::flip;
use super::resolve;
use super::truth::Truth;
use super::verdict::{Decision, Origin, Route, Verdict};
use crate::jurisdiction::{Country, Says};
use serde::Serialize;
use std::net::IpAddr;

/// A decision and all that led to it; serialises as `cordon explain --json` prints it. The same inputs give the same
/// bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `allow`, `block` or `reroute`.
    pub verdict: &'static str,
    /// The rule that gave it, or `default`.
    pub rule: String,
    /// For a block: `reject` or `drop`.
    pub reply: Option<&'static str>,
    /// For a reroute: by which exit.
    pub exit: Option<String>,
    /// A block rule fired because a fact it needs is unknown.
    pub unknown: bool,
    /// Another rule would have decided otherwise, were it not only observed.
    pub observed: bool,
    /// That rule, and what it would have done.
    pub would: Option<Would>,
    /// What a packet would have to wait for before the verdict is final: `name`, `payload`.
    pub needs: Vec<&'static str>,
    /// What the policy was told.
    pub facts: FactSheet,
    /// Every rule tried, in order.
    pub trace: Vec<Step>,
    /// Sanitizers that read what the flow carries, if it may go at all.
    pub sanitizers: Vec<String>,
    /// The smallest change that would give another verdict, as a sentence.
    pub flip: Option<String>,
    /// The decision itself.
    #[serde(skip)]
    pub decision: Decision,
}

/// What an observed rule would have done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Would {
    /// `allow`, `block` or `reroute`.
    pub verdict: &'static str,
    /// The rule.
    pub rule: String,
}

/// One rule tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its id.
    pub rule: String,
    /// `yes`, `no` or `unknown`.
    pub matched: &'static str,
    /// It decided, or would have, were it not only observed.
    pub fired: bool,
    /// It only records.
    pub observed: bool,
    /// The values compared.
    pub because: String,
}

/// What the policy was told of the flow, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FactSheet {
    /// The destination.
    pub ip: IpAddr,
    /// The destination port; 0 for protocols without ports.
    pub port: u16,
    /// `tcp`, `udp`, `icmp` or a number.
    pub proto: String,
    /// The address that the tables were asked for.
    pub looked_up_as: IpAddr,
    /// Its special range, if it lies in one.
    pub special: Option<&'static str>,
    /// Where most sources locate it.
    pub country: Option<String>,
    /// Where it is registered.
    pub registered: Option<String>,
    /// Who originates it.
    pub asn: Option<u32>,
    /// The name of that autonomous system.
    pub as_name: Option<String>,
    /// Who operates it.
    pub operator: Option<String>,
    /// The seat of whoever controls it.
    pub operator_country: Option<String>,
    /// `yes`, `no` or `unknown`.
    pub anycast: &'static str,
    /// How far the sources agree on the location.
    pub confidence: &'static str,
    /// What each source says, and when it was built.
    pub sources: Vec<SourceFact>,
    /// The best name known.
    pub name: Option<String>,
    /// How it is known: `sni`, `host`, `quic`, `outer` or `dns`.
    pub name_evidence: Option<&'static str>,
    /// Every name known.
    pub names: Vec<NameFact>,
    /// Which data answered.
    pub data: String,
}

/// What one source says of one fact; the field of that fact is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SourceFact {
    /// The source.
    pub name: String,
    /// Where the address is located.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Where it is registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registered: Option<String>,
    /// Who originates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
    /// Whether it is anycast: `yes`, `no`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anycast: Option<&'static str>,
    /// Who operates the address or one of its names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// The seat of that operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator_country: Option<String>,
    /// When the source was built, of an operator when it was last looked at; `YYYY-MM-DD`.
    pub built: String,
    /// Its age in days, if the clock is set.
    pub age_days: Option<u64>,
}

/// One name of the destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NameFact {
    /// The name.
    pub name: String,
    /// How it is known: `sni`, `host`, `quic`, `outer` or `dns`.
    pub evidence: &'static str,
    /// Shown by the flow: whether an answer gave the client this address for the same name.
    pub answered: Option<bool>,
    /// Age of the DNS answer in seconds.
    pub age: Option<u32>,
    /// The operator the name belongs to.
    pub operator: Option<String>,
}

impl Policy {
    /// Decides as [`Policy::decide`] does, and tells why. A pure function.
    pub fn explain(&self, facts: &Facts<'_>) -> Explanation {
        let seen = Seen::new(facts, self);
        let mut tried = Vec::new();
        let all = self.index.all();
        let decision = self.judge(&seen, all, &mut |index, truth| tried.push((index, truth)));
        let trace = tried
            .iter()
            .filter_map(|(index, truth)| {
                Some(self.step(self.rules.get(usize::from(*index))?, *truth, &seen))
            })
            .collect();
        let (reply, exit) = match decision.verdict {
            Verdict::Block(reply) => (Some(reply.name()), None),
            Verdict::Pass(permit) => match permit.route() {
                Route::Direct => (None, None),
                Route::Via(exit) => (None, Some(self.exit_name(exit))),
            },
        };
        let would = |origin: Origin| Would {
            verdict: self.effect_name(origin),
            rule: self.rule_id(origin).into(),
        };
        let needs = [
            ("name", decision.needs_name),
            ("payload", decision.needs_payload),
        ];
        Explanation {
            verdict: decision.verdict.name(),
            rule: self.rule_id(decision.origin).into(),
            reply,
            exit,
            unknown: decision.unknown,
            observed: decision.observed.is_some(),
            would: decision.observed.map(would),
            needs: needs
                .iter()
                .filter(|(_, needed)| *needed)
                .map(|(what, _)| *what)
                .collect(),
            facts: FactSheet::new(facts),
            trace,
            sanitizers: self
                .entries(self.active(facts))
                .map(|(_, entry)| entry.id.to_string())
                .collect(),
            flip: flip::smallest(self, facts, &decision),
            decision,
        }
    }

    fn step(&self, rule: &Rule, truth: Truth, seen: &Seen<'_>) -> Step {
        let stops = rule.effect.stops();
        let parts = self.conditions_of(rule).map(|(condition, written)| {
            let truth = seen.condition(condition, stops, rule.evidence);
            let why = because::condition(seen, condition, written, stops, rule.evidence);
            (truth, why)
        });
        let speaks = |part: &Truth| match truth {
            Truth::No => *part == Truth::No,
            Truth::Unknown(_) => matches!(part, Truth::Unknown(_)),
            Truth::Yes => true,
        };
        let mut said: Vec<String> = parts
            .filter(|(part, _)| speaks(part))
            .map(|(_, why)| why)
            .collect();
        if truth == Truth::No {
            // One reason is enough, and the first is the one that ended the evaluation.
            said.truncate(1);
        }
        if said.is_empty() {
            said.push("it asks for nothing".into());
        }
        if matches!(truth, Truth::Unknown(_)) {
            said.push(if rule.fires(truth) {
                "what is unknown is blocked (on_unknown)".into()
            } else if rule.effect.stops() {
                "what is unknown is left to later rules (on_unknown)".into()
            } else {
                "what is unknown never lets traffic go".into()
            });
        }
        Step {
            rule: rule.id.to_string(),
            matched: match truth {
                Truth::No => "no",
                Truth::Unknown(_) => "unknown",
                Truth::Yes => "yes",
            },
            fired: rule.fires(truth),
            observed: rule.is_observed(seen.facts.wall),
            because: said.join("; "),
        }
    }
}

impl FactSheet {
    fn new(facts: &Facts<'_>) -> Self {
        let address = &facts.address;
        let data = facts.data;
        let country = |country: Country| country.to_string();
        // Names shown by the flow are better evidence than DNS answers, which are better than a stand-in.
        let best = facts
            .names
            .iter()
            .max_by_key(|name| (name.evidence != Evidence::Outer, name.evidence.is_in_flow()));
        Self {
            ip: facts.destination.ip(),
            port: facts.destination.port(),
            proto: because::protocol(facts.protocol),
            looked_up_as: address.looked_up_as,
            special: address.special.map(|special| special.name()),
            country: address.country.map(country),
            registered: address.registered.map(country),
            asn: address.asn,
            as_name: address
                .asn
                .and_then(|asn| data.as_name(asn))
                .map(Into::into),
            operator: address
                .operator
                .map(|operator| resolve::operator_id(data, operator).into()),
            operator_country: address.operator_country.map(country),
            anycast: address.anycast.name(),
            confidence: address.confidence.name(),
            sources: sources(facts),
            name: best.map(|name| name.name.into()),
            name_evidence: best.map(|name| name.evidence.name()),
            names: facts
                .names
                .iter()
                .map(|name| NameFact::new(name, facts))
                .collect(),
            data: data.version(),
        }
    }
}

impl NameFact {
    fn new(name: &Name<'_>, facts: &Facts<'_>) -> Self {
        let data = facts.data;
        Self {
            name: name.name.into(),
            evidence: name.evidence.name(),
            age: match name.evidence {
                Evidence::Dns { age } => Some(age),
                Evidence::Sni | Evidence::Host | Evidence::Quic | Evidence::Outer => None,
            },
            answered: name
                .evidence
                .is_in_flow()
                .then(|| facts.is_answered(name.name)),
            operator: data
                .operator_of_name(name.name)
                .map(|operator| resolve::operator_id(data, operator).into()),
        }
    }
}

/// What each source says, and what the operator file says of those who run the address or its names.
fn sources(facts: &Facts<'_>) -> Vec<SourceFact> {
    let answers = facts.data.answers(facts.destination.ip()).into_iter();
    let told = answers.map(|answer| {
        let meta = &answer.source.meta;
        let mut told = SourceFact {
            name: meta.name.clone(),
            built: meta.built_on(),
            age_days: days_since(meta.built, facts.wall),
            ..SourceFact::default()
        };
        match answer.says {
            Says::Located(country) => told.country = Some(country.to_string()),
            Says::Registered(country) => told.registered = Some(country.to_string()),
            Says::Origin(asn) => told.asn = Some(asn),
            Says::Anycast(anycast) => told.anycast = Some(anycast.name()),
        }
        told
    });
    told.chain(operators(facts)).collect()
}

fn operators(facts: &Facts<'_>) -> Vec<SourceFact> {
    let of_names = facts.names.iter();
    let of_names = of_names.filter_map(|name| facts.data.operator_of_name(name.name));
    let mut known = Vec::new();
    for operator in facts.address.operator.into_iter().chain(of_names) {
        if !known.contains(&operator) {
            known.push(operator);
        }
    }
    let entries = known
        .into_iter()
        .filter_map(|operator| facts.data.operator(operator));
    let told = entries.map(|entry| SourceFact {
        name: "operators".into(),
        operator: Some(entry.id.clone()),
        operator_country: Some(entry.seat.to_string()),
        built: entry.as_of.clone(),
        age_days: midnight(&entry.as_of).and_then(|built| days_since(built, facts.wall)),
        ..SourceFact::default()
    });
    told.collect()
}

/// Midnight UTC of a date, in seconds since the Unix epoch.
fn midnight(date: &str) -> Option<u64> {
    let date: jiff::civil::Date = date.parse().ok()?;
    let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    u64::try_from(midnight.as_second()).ok()
}

fn days_since(built: u64, wall: Option<u64>) -> Option<u64> {
    const DAY: u64 = 86_400;
    wall.map(|now| now.saturating_sub(built) / DAY)
}
