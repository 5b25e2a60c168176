//! Facts that a test states.

use super::domains;
use super::draft::Draft;
use super::facts::{Evidence, Name, Opening};
use super::resolve;
use super::values::instant;
use crate::document::{Fields, Node, Reader, Shown, accept};
use crate::jurisdiction::{self, AddressFacts, Anycast, Asn, Country, OperatorId};

/// The keys of facts in a test.
pub(super) const FACTS: [&str; 11] = [
    "name",
    "evidence",
    "no_dns",
    "country",
    "operator",
    "operator_country",
    "asn",
    "anycast",
    "sni_missing",
    "cleartext",
    "at",
];

const EVIDENCE: [(&str, Evidence); 5] = [
    ("sni", Evidence::Sni),
    ("host", Evidence::Host),
    ("quic", Evidence::Quic),
    ("outer", Evidence::Outer),
    ("dns", Evidence::Dns { age: 0 }),
];

/// What it states; the rest comes from the data.
#[derive(Clone, Debug, Default)]
pub(super) struct Given {
    names: Vec<Box<str>>,
    evidence: Option<Evidence>,
    /// What the flow shows was not answered by the resolver.
    no_dns: bool,
    /// Where sources locate it; none if that is unknown.
    countries: Option<Vec<Country>>,
    operator: Option<Option<OperatorId>>,
    operator_country: Option<Option<Country>>,
    asn: Option<Asn>,
    anycast: Option<bool>,
    pub(super) opening: Opening,
    pub(super) wall: Option<u64>,
}

impl Given {
    pub(super) fn read(fields: &Fields<'_>, draft: &Draft<'_>, reader: &mut Reader<'_>) -> Self {
        Self {
            names: fields
                .get("name")
                .map(|node| names(node, reader))
                .unwrap_or_default(),
            evidence: fields
                .get("evidence")
                .and_then(|node| node.word(&EVIDENCE, reader)),
            no_dns: fields
                .get("no_dns")
                .and_then(|node| node.boolean(reader))
                .unwrap_or(false),
            countries: fields
                .get("country")
                .and_then(|node| countries(node, reader)),
            operator: fields.get("operator").and_then(|node| {
                let text = node.string(reader)?;
                if text == "unknown" {
                    return Some(None);
                }
                let operator =
                    resolve::operators(draft.data, text).map(|_| draft.data.operator_by_id(text));
                accept(operator, node, reader)
            }),
            operator_country: fields
                .get("operator_country")
                .and_then(|node| country(node, reader)),
            asn: fields
                .get("asn")
                .and_then(|node| node.integer(0..=u32::MAX, reader)),
            anycast: fields.get("anycast").and_then(|node| node.boolean(reader)),
            opening: Opening {
                sni_missing: fields
                    .get("sni_missing")
                    .and_then(|node| node.boolean(reader)),
                cleartext: fields
                    .get("cleartext")
                    .and_then(|node| node.boolean(reader)),
            },
            wall: fields.get("at").and_then(|node| instant(node, reader)),
        }
    }

    /// The names of the destination: from DNS answers unless it says otherwise, and shown by the flow if it says so.
    pub(super) fn names(&self) -> Vec<Name<'_>> {
        let answered = !self.no_dns && self.evidence != Some(Evidence::Outer);
        let answer = answered.then_some(Evidence::Dns { age: 0 });
        let shown = self.evidence.filter(|evidence| evidence.is_in_flow());
        let names = self.names.iter();
        names
            .flat_map(|name| {
                let evidence = answer.into_iter().chain(shown);
                evidence.map(move |evidence| Name { name, evidence })
            })
            .collect()
    }

    pub(super) fn apply(&self, address: &mut AddressFacts) {
        let states_a_fact = self.countries.is_some()
            || self.operator.is_some()
            || self.operator_country.is_some()
            || self.asn.is_some()
            || self.anycast.is_some();
        if states_a_fact {
            // A documentation address may then stand for any on the internet.
            address.special = None;
        }
        if let Some(countries) = &self.countries {
            resolve::locate(address, countries);
        }
        if let Some(operator) = self.operator {
            address.operator = operator;
        }
        if let Some(country) = self.operator_country {
            address.operator_country = country;
        }
        if let Some(asn) = self.asn {
            address.asn = Some(asn);
        }
        if let Some(anycast) = self.anycast {
            address.anycast = if anycast { Anycast::Yes } else { Anycast::No };
        }
    }
}

fn names(node: Node<'_>, reader: &mut Reader<'_>) -> Vec<Box<str>> {
    let members = node.members().into_iter();
    let read = members.filter_map(|member| {
        let text = member.string(reader)?;
        let name = domains::canonical(text)
            .ok_or_else(|| format!("`{}` is not a domain name", Shown(text)));
        accept(name, member, reader).map(Into::into)
    });
    read.collect()
}

/// What sources say, each a code; or `unknown`.
fn countries(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Vec<Country>> {
    let members = node.members().into_iter();
    let read: Option<Vec<Option<Country>>> = members.map(|one| country(one, reader)).collect();
    Some(read?.into_iter().flatten().collect())
}

/// A country code, or `unknown`.
fn country(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Option<Country>> {
    let text = node.string(reader)?;
    if text == "unknown" {
        return Some(None);
    }
    accept(jurisdiction::country(text), node, reader).map(Some)
}
