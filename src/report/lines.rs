//! An audit as JSON Lines: flows, fan-outs, a summary.

use super::audit::Fanout;
use super::judged::Judged;
use crate::jurisdiction::Country;
use crate::policy::Action;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// One flow.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "flow")]
pub struct FlowLine<'a> {
    capture: &'a str,
    proto: String,
    src: IpAddr,
    sport: u16,
    dst: IpAddr,
    dport: u16,
    packets: u64,
    bytes: u64,
    first: f64,
    last: f64,
    country: Option<String>,
    operator: Option<&'a str>,
    protocol: Option<&'static str>,
    names: Vec<&'a str>,
    verdict: &'static str,
    rule: &'a str,
    would: Option<&'a str>,
    findings: Vec<FindingLine<'a>>,
    leaked_packets: usize,
}

#[derive(Debug, Serialize)]
struct FindingLine<'a> {
    class: &'static str,
    detector: &'static str,
    leak: &'static str,
    field: &'a str,
    certainty: &'static str,
    packets: &'a [u64],
    count: u64,
    offset: usize,
    length: usize,
    sample: &'a str,
    action: &'static str,
}

/// One value sent to several servers.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename = "fanout")]
pub struct FanoutLine<'a> {
    capture: &'a str,
    src: IpAddr,
    value: String,
    length: usize,
    destinations: &'a [IpAddr],
    countries: Vec<String>,
    span_ms: u128,
    class: &'static str,
    certainty: &'static str,
    packets: &'a [u64],
}

/// What all flows came to.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(tag = "type", rename = "summary")]
pub struct Summary {
    /// Captures read.
    pub captures: usize,
    /// Flows in them.
    pub flows: usize,
    /// Flows the policy blocks.
    pub blocked: usize,
    /// Flows the policy sends another way.
    pub rerouted: usize,
    /// Flows with a finding, by its class.
    pub findings: BTreeMap<&'static str, usize>,
    /// Flows by the country of their destination.
    pub countries: BTreeMap<String, usize>,
    /// Values sent to several servers.
    pub fanouts: usize,
    /// Frames that were to be stopped and left before that could be known.
    pub leaked_packets: usize,
}

impl<'a> FlowLine<'a> {
    /// The line of a flow.
    pub fn new(capture: &'a str, judged: &'a Judged) -> Self {
        let flow = &judged.flow;
        let seconds = |time: crate::time::Time| time.as_nanos() as f64 / 1e9;
        Self {
            capture,
            proto: protocol(flow.key.protocol),
            src: flow.key.source.ip(),
            sport: flow.key.source.port(),
            dst: flow.key.destination.ip(),
            dport: flow.key.destination.port(),
            packets: flow.packets,
            bytes: flow.bytes,
            first: seconds(flow.first),
            last: seconds(flow.last),
            country: judged.country.map(|country| country.to_string()),
            operator: judged.operator.as_ref().map(|(id, _)| id.as_str()),
            protocol: flow.reading.map(|reading| reading.protocol),
            names: flow.all_names().collect(),
            verdict: judged.verdict,
            rule: &judged.rule,
            would: judged.would.as_deref(),
            findings: flow
                .findings
                .iter()
                .zip(&judged.actions)
                .map(|(told, action)| FindingLine {
                    class: told.class.name(),
                    detector: told.detector,
                    leak: told.leak,
                    field: &told.field,
                    certainty: told.certainty.name(),
                    packets: &told.packets,
                    count: told.count,
                    offset: told.offset,
                    length: told.length,
                    sample: &told.sample,
                    action: action_name(action.as_ref().map(|(_, action)| *action)),
                })
                .collect(),
            leaked_packets: judged.leaked,
        }
    }
}

impl<'a> FanoutLine<'a> {
    /// The line of a fan-out; of its value only the beginning is shown.
    pub fn new(
        capture: &'a str,
        fanout: &'a Fanout,
        countries: impl Iterator<Item = Country>,
    ) -> Self {
        let mut countries: Vec<String> = countries.map(|country| country.to_string()).collect();
        countries.sort_unstable();
        countries.dedup();
        Self {
            capture,
            src: fanout.source,
            value: shown(&fanout.value),
            length: fanout.value.len(),
            destinations: &fanout.destinations,
            countries,
            span_ms: fanout.last.since(fanout.first).as_millis(),
            class: fanout.class.name(),
            certainty: fanout.certainty.name(),
            packets: &fanout.packets,
        }
    }
}

impl Summary {
    /// Counts a flow.
    pub fn count(&mut self, judged: &Judged) {
        self.flows += 1;
        self.blocked += usize::from(judged.verdict == "block");
        self.rerouted += usize::from(judged.verdict == "reroute");
        self.leaked_packets += judged.leaked;
        let mut classes: Vec<&'static str> = judged
            .flow
            .findings
            .iter()
            .map(|told| told.class.name())
            .collect();
        classes.sort_unstable();
        classes.dedup();
        for class in classes {
            *self.findings.entry(class).or_insert(0) += 1;
        }
        if let Some(country) = judged.country {
            *self.countries.entry(country.to_string()).or_insert(0) += 1;
        }
    }
}

/// The first four bytes in hexadecimal.
pub(super) fn shown(value: &[u8]) -> String {
    let head = value.get(..4).unwrap_or_default();
    format!("{}…", data_encoding::HEXLOWER.encode(head))
}

/// Name of a transport protocol.
pub(super) fn protocol(number: u8) -> String {
    match number {
        1 | 58 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        other => other.to_string(),
    }
}

/// What is done about a finding.
pub(super) fn action_name(action: Option<Action>) -> &'static str {
    action.map_or("pass", Action::name)
}
