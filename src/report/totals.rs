//! What many flows came to, counted as they end; a bounded number is kept whole for a report.

use super::audit::Fanout;
use super::judged::Judged;
use super::lines::Summary;
use crate::sanitize::Class;
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Flows kept whole: those with findings or a verdict other than allow first.
const MOST_FLOWS: usize = 2000;
/// Findings of flows kept whole, and moments of each.
const MOST_FINDINGS: usize = 20_000;
const MOST_MOMENTS: usize = 40;
/// Identifiers followed across flows.
const MOST_IDENTIFIERS: usize = 5000;
/// Flows, devices and companions remembered of one identifier.
const MOST_TIES: usize = 50;

/// Everything a report needs.
#[derive(Debug, Default)]
pub struct Totals {
    /// The counts of the summary line.
    pub summary: Summary,
    /// First and last packet.
    pub period: Option<(Time, Time)>,
    /// Who received what, by country and operator.
    pub receivers: BTreeMap<(String, String), Receiver>,
    /// What each rule decided.
    pub rules: BTreeMap<(String, &'static str), Decided>,
    /// What each sanitize entry would have done.
    pub sanitizers: BTreeMap<(String, &'static str), Decided>,
    /// Identifiers in the clear, by class and value.
    pub identifiers: BTreeMap<(Class, Vec<u8>), Identifier>,
    /// Flows kept whole, with the capture they are from.
    pub flows: Vec<(String, Judged)>,
    /// Values sent to several servers.
    pub fanouts: Vec<(String, Fanout)>,
    /// Flows that were counted and not kept.
    pub dropped: usize,
    /// Findings of the flows kept.
    kept: usize,
}

/// What one country and operator received.
#[derive(Clone, Debug, Default)]
pub struct Receiver {
    /// Flows.
    pub flows: usize,
    /// Bytes both ways.
    pub bytes: u64,
    /// Flows the policy stops.
    pub blocked: usize,
    /// Classes found, with the number of flows.
    pub classes: BTreeMap<Class, usize>,
    /// Some names of what was contacted.
    pub names: BTreeSet<String>,
}

/// What one rule or entry came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Decided {
    /// Flows, or findings of an entry.
    pub count: usize,
    /// Packets of those flows, or that carried those findings.
    pub packets: u64,
}

/// What an identifier in the clear ties together.
#[derive(Clone, Debug, Default)]
pub struct Identifier {
    /// A masked sample.
    pub sample: String,
    /// The field it was found in.
    pub field: String,
    /// Flows it was seen in.
    pub flows: usize,
    /// Devices that sent it.
    pub sources: BTreeSet<IpAddr>,
    /// Countries it went to.
    pub countries: BTreeSet<String>,
    /// Servers it went to.
    pub servers: BTreeSet<IpAddr>,
    /// Samples and classes of other identifiers in the same flows.
    pub with: BTreeSet<(Class, String)>,
}

impl Totals {
    /// Counts a flow, and keeps it if it tells something or there is room.
    pub fn add(&mut self, capture: &str, mut judged: Judged) {
        self.summary.count(&judged);
        let flow = &judged.flow;
        let (first, last) = self.period.unwrap_or((flow.first, flow.last));
        self.period = Some((first.min(flow.first), last.max(flow.last)));
        self.receive(&judged);
        self.tie(&judged);
        let rule = self
            .rules
            .entry((judged.rule.clone(), judged.verdict))
            .or_default();
        rule.count += 1;
        rule.packets += flow.packets;
        for (told, action) in flow.findings.iter().zip(&judged.actions) {
            if let Some((entry, action)) = action {
                let decided = self
                    .sanitizers
                    .entry((entry.clone(), action.name()))
                    .or_default();
                decided.count += 1;
                decided.packets += told.count;
            }
        }
        let telling = !judged.flow.findings.is_empty() || judged.verdict != "allow";
        let most = if telling { MOST_FLOWS } else { MOST_FLOWS / 2 };
        if self.flows.len() < most && self.kept < MOST_FINDINGS {
            for told in &mut judged.flow.findings {
                told.trim(MOST_MOMENTS);
            }
            self.kept += judged.flow.findings.len();
            self.flows.push((capture.to_owned(), judged));
        } else {
            self.dropped += 1;
        }
    }

    /// Whether this is what a gate saw and did, not what a capture shows.
    pub fn is_live(&self) -> bool {
        self.summary.captures == 0
    }

    /// Keeps the fan-outs of a capture.
    pub fn add_fanouts(&mut self, capture: &str, fanouts: Vec<Fanout>) {
        self.summary.fanouts += fanouts.len();
        self.fanouts.extend(
            fanouts
                .into_iter()
                .map(|fanout| (capture.to_owned(), fanout)),
        );
    }

    fn receive(&mut self, judged: &Judged) {
        let receiver = self
            .receivers
            .entry((place(judged), operator(judged)))
            .or_default();
        receiver.flows += 1;
        receiver.bytes += judged.flow.bytes;
        receiver.blocked += usize::from(judged.verdict == "block");
        let classes: BTreeSet<Class> = judged.flow.findings.iter().map(|told| told.class).collect();
        for class in classes {
            *receiver.classes.entry(class).or_insert(0) += 1;
        }
        for name in judged.flow.all_names() {
            if receiver.names.len() < 5 {
                receiver.names.insert(name.to_owned());
            }
        }
    }

    /// Follows what identifies across flows. What names a destination or a program ties nobody to anybody.
    fn tie(&mut self, judged: &Judged) {
        let ties = |class: Class| {
            !matches!(
                class,
                Class::DestMeta
                    | Class::Software
                    | Class::ServiceMeta
                    | Class::AppId
                    | Class::Content
            )
        };
        let told: Vec<_> = judged
            .flow
            .findings
            .iter()
            .filter(|told| ties(told.class) && !told.excerpt.value.is_empty())
            .collect();
        for one in &told {
            let key = (one.class, one.excerpt.value.clone());
            if self.identifiers.len() >= MOST_IDENTIFIERS && !self.identifiers.contains_key(&key) {
                continue;
            }
            let identifier = self.identifiers.entry(key).or_default();
            identifier.sample.clone_from(&one.sample);
            identifier.field.clone_from(&one.field);
            identifier.flows += 1;
            bounded(&mut identifier.sources, judged.flow.key.source.ip());
            bounded(&mut identifier.servers, judged.flow.key.destination.ip());
            bounded(&mut identifier.countries, place(judged));
            for other in told
                .iter()
                .filter(|other| other.excerpt.value != one.excerpt.value)
            {
                bounded(&mut identifier.with, (other.class, other.sample.clone()));
            }
        }
    }
}

/// Country of the destination, or why it has none.
pub(super) fn place(judged: &Judged) -> String {
    match (judged.country, judged.facts.special) {
        (Some(country), _) => country.to_string(),
        (None, Some(special)) => special.name().to_owned(),
        (None, None) => "unknown".to_owned(),
    }
}

/// Operator of the destination, as people know it.
pub(super) fn operator(judged: &Judged) -> String {
    match (&judged.operator, judged.facts.asn) {
        (Some((_, name)), _) => name.clone(),
        (None, Some(asn)) => format!("AS{asn}"),
        (None, None) => "—".to_owned(),
    }
}

fn bounded<T: Ord>(set: &mut BTreeSet<T>, value: T) {
    if set.len() < MOST_TIES {
        set.insert(value);
    }
}
