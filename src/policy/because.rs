//! Why a condition holds or not, in words: the value compared and what it was compared with.

use super::condition::{Condition, Key, Test, Written};
use super::evaluate::{Asked, Demand, Seen};
use super::facts::{Evidence, Name};
use super::resolve;
use super::truth::{Truth, Waits};
use crate::jurisdiction::{Anycast, CountrySet};

/// `KEY VALUE is in LIST`, or that it is not, or that it cannot be told.
pub(super) fn condition(
    seen: &Seen<'_>,
    condition: &Condition,
    written: &Written,
    stops: bool,
    demand: Demand,
) -> String {
    let asked = Asked {
        stops,
        negate: condition.negate,
        demand,
    };
    test(seen, &condition.test, written, asked)
}

fn test(seen: &Seen<'_>, test: &Test, written: &Written, asked: Asked) -> String {
    let truth = seen.test(test, asked);
    // What is said is about the value; with `not_` the condition holds if the value is not had.
    let had = if asked.negate { truth.not() } else { truth };
    if let Test::To(parts) = test {
        return target(seen, parts, written, had, asked);
    }
    let value = value(seen, written.key, asked.demand);
    let wanted = plain(&written.value);
    match (had, value) {
        (Truth::Unknown(waits), value) => {
            let value = value.unwrap_or_else(|| format!("{} is not known", written.key.name()));
            let why = unknown(seen, written.key, waits);
            format!("{value}{why}; asked for {wanted}")
        }
        (had, value) => {
            let value = value.unwrap_or_else(|| written.key.name().into());
            format!("{value} {} {wanted}", relation(written.key, had))
        }
    }
}

/// Of a target, the parts that speak for the outcome: one that is had, or all.
fn target(
    seen: &Seen<'_>,
    parts: &[(Test, Written)],
    written: &Written,
    had: Truth,
    asked: Asked,
) -> String {
    let outcome = match had {
        Truth::Yes => "goes to",
        Truth::No => "does not go to",
        Truth::Unknown(_) => "may go to",
    };
    let decisive = if asked.negate { Truth::No } else { Truth::Yes };
    let mut said: Vec<String> = parts
        .iter()
        .filter(|(part, _)| had != Truth::Yes || seen.test(part, asked) == decisive)
        .map(|(part, written)| test(seen, part, written, asked))
        .collect();
    if had == Truth::Yes {
        said.truncate(1);
    }
    format!("{outcome} {}: {}", plain(&written.value), said.join(", "))
}

fn relation(key: Key, truth: Truth) -> &'static str {
    let holds = truth == Truth::Yes;
    let (yes, no) = match key {
        Key::Anycast | Key::SniMissing | Key::Cleartext | Key::NoDns | Key::SniMismatch => {
            ("is", "is not")
        }
        Key::Domain => ("matches", "does not match"),
        Key::Proto
        | Key::Port
        | Key::From
        | Key::Ip
        | Key::Asn
        | Key::Operator
        | Key::Country
        | Key::OperatorCountry
        | Key::Jurisdiction
        | Key::To
        | Key::Schedule => ("is in", "is not in"),
    };
    if holds { yes } else { no }
}

/// The fact that a key is about, as the flow has it; `None` if it is not known.
fn value(seen: &Seen<'_>, key: Key, demand: Demand) -> Option<String> {
    let facts = seen.facts;
    let address = &facts.address;
    match key {
        Key::Proto => Some(format!("proto {}", protocol(facts.protocol))),
        Key::Port => Some(format!("port {}", facts.destination.port())),
        Key::Ip => Some(format!("ip {}", seen.destination)),
        Key::From => Some(format!("sender {}", sender(seen))),
        Key::Asn if seen.local => Some("asn local".into()),
        Key::Asn => address.asn.map(|asn| format!("asn {asn}")),
        Key::Operator => operators(seen),
        Key::Country | Key::OperatorCountry | Key::Jurisdiction if seen.local => {
            Some(format!("{} local", key.name()))
        }
        Key::Country => countries(address.located.into()).map(|list| format!("country {list}")),
        Key::OperatorCountry => {
            countries(seen.seat().countries).map(|list| format!("operator_country {list}"))
        }
        Key::Jurisdiction => {
            let located = countries(address.located.into()).unwrap_or_else(|| "unknown".into());
            let seat = countries(seen.seat().countries).unwrap_or_else(|| "unknown".into());
            Some(format!(
                "jurisdiction (location {located}, operator's seat {seat})"
            ))
        }
        Key::Domain => names(facts.names, demand),
        Key::Anycast => Some(format!("anycast {}", address.anycast.name())),
        Key::SniMissing => facts
            .opening
            .sni_missing
            .map(|fact| format!("sni_missing {fact}")),
        Key::Cleartext => facts
            .opening
            .cleartext
            .map(|fact| format!("cleartext {fact}")),
        Key::NoDns => Some(format!("no_dns {}", facts.has_no_answer())),
        Key::SniMismatch => facts
            .contradicts_answers()
            .map(|fact| format!("sni_mismatch {fact}")),
        Key::To | Key::Schedule => None,
    }
}

/// What makes a fact that is there insufficient, or one that is not there come yet.
fn unknown(seen: &Seen<'_>, key: Key, waits: Waits) -> &'static str {
    let anycast = seen.facts.address.anycast == Anycast::Yes;
    if anycast && matches!(key, Key::Country | Key::Jurisdiction) {
        return " (anycast: its location proves nothing)";
    }
    if waits.has(Waits::CLAIM) {
        return " (no answer gave this client the address for it)";
    }
    let may_come = key == Key::Domain && waits.has(Waits::NAME);
    match (may_come, seen.facts.names.is_empty()) {
        (true, true) => " (the flow may yet show one)",
        (true, false) => " (only the flow itself can tell which; it may yet)",
        (false, _) => "",
    }
}

pub(super) fn protocol(number: u8) -> String {
    match number {
        6 => "tcp".into(),
        17 => "udp".into(),
        1 | 58 => "icmp".into(),
        other => other.to_string(),
    }
}

fn sender(seen: &Seen<'_>) -> String {
    let source = &seen.facts.source;
    if let Some(peer) = source.peer {
        return format!("wg:{peer}");
    }
    match source.mac {
        Some([a, b, c, d, e, f]) => {
            format!(
                "{} (mac {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x})",
                source.address
            )
        }
        None => source.address.to_string(),
    }
}

fn operators(seen: &Seen<'_>) -> Option<String> {
    let data = seen.facts.data;
    let address = &seen.facts.address;
    let mut said = Vec::new();
    match address.operator {
        Some(operator) => said.push(format!("operator {}", resolve::operator_id(data, operator))),
        None if seen.local => said.push("operator local".into()),
        None => {
            if let Some(asn) = address.asn {
                said.push(format!("operator of asn {asn}, which is not listed,"));
            }
        }
    }
    for (name, operator) in seen.named_operators() {
        let id = resolve::operator_id(data, operator);
        if address.operator != Some(operator) {
            said.push(format!("operator {id} of {name}"));
        }
    }
    (!said.is_empty()).then(|| said.join(" and "))
}

fn countries(set: CountrySet) -> Option<String> {
    let codes: Vec<String> = set.iter().map(|country| country.to_string()).collect();
    (!codes.is_empty()).then(|| codes.join("/"))
}

fn names(names: &[Name<'_>], demand: Demand) -> Option<String> {
    let said: Vec<String> = names
        .iter()
        .filter(|name| super::evaluate::believed(name.evidence, demand))
        .map(|name| format!("{} ({})", name.name, evidence(name.evidence)))
        .collect();
    (!said.is_empty()).then(|| format!("name {}", said.join(" and ")))
}

pub(super) fn evidence(evidence: Evidence) -> String {
    match evidence {
        Evidence::Sni => "TLS SNI".into(),
        Evidence::Host => "HTTP Host".into(),
        Evidence::Quic => "QUIC SNI".into(),
        Evidence::Outer => "outer name of an encrypted client hello".into(),
        Evidence::Dns { age } => format!("DNS answer, {age} s old"),
    }
}

/// A list as people read it; one that would fill the page is cut.
pub(super) fn plain(list: &str) -> String {
    const LONGEST: usize = 120;
    let list = list.trim_matches(['[', ']']).replace('"', "");
    if list.chars().count() <= LONGEST {
        return list;
    }
    let start: String = list.chars().take(LONGEST).collect();
    format!("{start}…")
}
