//! Facts as they might have been.

use super::because::{plain, protocol};
use super::compiled::Policy;
use super::condition::{Key, Member, Places, Test, Written};
use super::facts::{Evidence, Facts, Name};
use super::networks::Networks;
use super::resolve;
use super::senders::{sender_text, source_of};
use super::verdict::Decision;
use crate::jurisdiction::{Anycast, Country, CountrySet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// The facts of a flow, some of them changed.
#[derive(Clone)]
pub(super) struct Changed<'f> {
    facts: Facts<'f>,
    /// Names that replace those of the flow.
    names: Option<Vec<(String, Evidence)>>,
    sender: Option<Member>,
}

impl<'f> Changed<'f> {
    pub(super) fn new(facts: &Facts<'f>) -> Self {
        Self {
            facts: *facts,
            names: None,
            sender: None,
        }
    }

    pub(super) fn judge(&self, policy: &Policy, original: &Facts<'_>) -> Decision {
        let names: Vec<Name<'_>> = match &self.names {
            Some(names) => names
                .iter()
                .map(|(name, evidence)| Name {
                    name,
                    evidence: *evidence,
                })
                .collect(),
            None => original.names.to_vec(),
        };
        let source = match &self.sender {
            Some(member) => source_of(Some(member)),
            None => original.source,
        };
        policy.decide(&Facts {
            source,
            names: &names,
            ..self.facts
        })
    }

    /// Makes a test hold; says how.
    pub(super) fn satisfy(
        &mut self,
        policy: &Policy,
        facts: &Facts<'_>,
        test: &Test,
        (key, any_suffices): (Key, bool),
    ) -> Option<String> {
        match test {
            Test::Proto(protocols) => {
                self.facts.protocol = *protocols.first()?;
                Some(format!("it were {}", protocol(self.facts.protocol)))
            }
            Test::Port(ranges) => {
                let port = ranges.first()?.0;
                self.facts.destination.set_port(port);
                Some(format!("the port were {port}"))
            }
            Test::From(members) => Some(self.come_from(members.first()?)),
            Test::Ip(networks) => Some(self.go_to(networks.first()?.first()?)),
            Test::Country(places) | Test::OperatorCountry(places) | Test::Jurisdiction(places) => {
                self.enter(places, key, any_suffices)
            }
            Test::Operator(operators) => {
                let operator = *operators.first()?;
                self.make_global();
                self.facts.address.operator = Some(operator);
                Some(format!(
                    "its operator were {}",
                    resolve::operator_id(facts.data, operator)
                ))
            }
            Test::Asn(numbers) => {
                let asn = *numbers.first()?;
                self.make_global();
                self.facts.address.asn = Some(asn);
                Some(format!("its autonomous system were {asn}"))
            }
            Test::Domain(sets) => {
                let name = policy.domains.example(*sets.first()?)?;
                self.names = Some(answered(name));
                Some(format!(
                    "the flow were for {name}, and the client's resolver said so"
                ))
            }
            Test::To(parts) => {
                let (test, written) = parts.first()?;
                self.satisfy(policy, facts, test, (written.key, any_suffices))
            }
            // Another time is no change of the flow.
            Test::Schedule(_) => None,
            Test::Anycast(wanted) => Some(self.set_anycast(*wanted)),
            Test::SniMissing(wanted) => Some(self.set_sni_missing(*wanted)),
            Test::Cleartext(wanted) => Some(self.set_cleartext(*wanted)),
            // With an answer other names come.
            Test::NoDns(_) | Test::SniMismatch(_) => None,
        }
    }

    /// Makes a test not hold; says how.
    pub(super) fn violate(&mut self, test: &Test, written: &Written) -> Option<String> {
        let list = plain(&written.value);
        match test {
            Test::Proto(protocols) => {
                let mut others = [6, 17, 1].into_iter();
                self.facts.protocol = others.find(|other| !protocols.contains(other))?;
                Some(format!("it were {}", protocol(self.facts.protocol)))
            }
            Test::Port(ranges) => {
                let free = |port: &u16| !ranges.iter().any(|(a, b)| (a..=b).contains(&port));
                let port = [443, 80, 53].into_iter().chain(1..=u16::MAX).find(free)?;
                self.facts.destination.set_port(port);
                Some(format!("the port were not in {list}"))
            }
            Test::From(_) => {
                let nobody = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
                self.sender = Some(Member::Net(nobody.into()));
                Some(format!("it did not come from {list}"))
            }
            Test::Ip(networks) => {
                self.leave(networks)?;
                Some(format!("the address were not in {list}"))
            }
            Test::Country(places) | Test::OperatorCountry(places) | Test::Jurisdiction(places) => {
                let said = format!("its {} were known and not in {list}", written.key.name());
                self.settle(written.key, outside(places)?);
                if written.key != Key::Country {
                    self.forget_names();
                }
                Some(said)
            }
            Test::Operator(_) => {
                self.make_global();
                self.facts.address.operator = None;
                self.facts.address.asn = self.facts.address.asn.or(Some(0));
                self.names = Some(Vec::new());
                Some(format!("its operator were not in {list}"))
            }
            Test::Asn(numbers) => {
                self.make_global();
                self.facts.address.asn = (0..).find(|asn| !numbers.contains(asn));
                Some(format!("its autonomous system were not in {list}"))
            }
            Test::Domain(_) => {
                self.names = Some(answered("name.invalid"));
                Some(format!("its name were known and did not match {list}"))
            }
            Test::To(parts) => {
                for (test, written) in parts.iter() {
                    self.violate(test, written)?;
                }
                Some(format!("it did not go to {list}"))
            }
            Test::Schedule(_) => None,
            Test::Anycast(wanted) => Some(self.set_anycast(!*wanted)),
            Test::SniMissing(wanted) => Some(self.set_sni_missing(!*wanted)),
            Test::Cleartext(wanted) => Some(self.set_cleartext(!*wanted)),
            Test::NoDns(_) | Test::SniMismatch(_) => Some(self.answer()),
        }
    }

    /// Has the address from the resolver, for the name that it shows.
    fn answer(&mut self) -> String {
        let claim = |name: &&Name<'_>| name.evidence.is_claim();
        let name = self.facts.names.iter().rfind(claim);
        self.names = Some(answered(name.map_or("name.invalid", |name| name.name)));
        "the client had the address from its resolver".into()
    }

    fn come_from(&mut self, member: &Member) -> String {
        self.sender = Some(member.clone());
        format!("it came from {}", sender_text(member))
    }

    fn go_to(&mut self, address: IpAddr) -> String {
        self.facts.destination.set_ip(address);
        self.facts.address = self.facts.data.lookup(address);
        format!("it went to {address}")
    }

    /// Lies in the first of the places.
    fn enter(&mut self, places: &Places, key: Key, any_suffices: bool) -> Option<String> {
        // A location alone touches a jurisdiction; to lie inside takes all facts.
        let key = match (key, any_suffices) {
            (Key::Jurisdiction, true) => Key::Country,
            (key, _) => key,
        };
        let said = self.settle(key, places.countries.iter().next()?);
        Some(
            match !any_suffices && key != Key::Country && self.forget_names() {
                true => format!("{said} and no name said otherwise"),
                false => said,
            },
        )
    }

    /// Goes to an address outside, of which the same is known.
    fn leave(&mut self, networks: &[Arc<Networks>]) -> Option<()> {
        let mut free = FREE.iter().filter_map(|text| text.parse::<IpAddr>().ok());
        let address = free.find(|address| !networks.iter().any(|part| part.contains(*address)))?;
        self.facts.destination.set_ip(address);
        self.facts.address.looked_up_as = address;
        Some(())
    }

    fn set_anycast(&mut self, fact: bool) -> String {
        self.facts.address.anycast = if fact { Anycast::Yes } else { Anycast::No };
        format!("it were {}anycast", if fact { "" } else { "not " })
    }

    fn set_sni_missing(&mut self, fact: bool) -> String {
        self.facts.opening.sni_missing = Some(fact);
        format!("it showed {} server name", if fact { "no" } else { "a" })
    }

    fn set_cleartext(&mut self, fact: bool) -> String {
        self.facts.opening.cleartext = Some(fact);
        format!("it were {}encrypted", if fact { "not " } else { "" })
    }

    /// Puts the address, or its operator's seat, or both in a country.
    fn settle(&mut self, key: Key, country: Country) -> String {
        self.make_global();
        let address = &mut self.facts.address;
        if key != Key::OperatorCountry {
            resolve::locate(address, &[country]);
        }
        if key != Key::Country {
            address.operator_country = Some(country);
        }
        if key == Key::Country {
            format!("it were located in {country}")
        } else if key == Key::OperatorCountry {
            format!("its operator had its seat in {country}")
        } else {
            format!("it were located in {country} and run from there")
        }
    }

    /// Drops the names of the flow that belong to an operator, who has a seat of its own; whether there were any.
    fn forget_names(&mut self) -> bool {
        let data = self.facts.data;
        let known = |name: &Name<'_>| data.operator_of_name(name.name).is_some();
        let has_any = self.names.is_none() && self.facts.names.iter().any(known);
        if has_any {
            let rest = self.facts.names.iter().filter(|name| !known(name));
            let rest = rest.map(|name| (name.name.to_owned(), name.evidence));
            self.names = Some(rest.collect());
        }
        has_any
    }

    fn make_global(&mut self) {
        self.facts.address.special = None;
        self.facts.address.embedded = None;
    }
}

/// A name that the flow shows and for which an answer gave the address.
fn answered(name: &str) -> Vec<(String, Evidence)> {
    let evidence = [Evidence::Dns { age: 0 }, Evidence::Sni];
    evidence.map(|evidence| (name.to_owned(), evidence)).into()
}

/// Addresses for documentation, and two of no network, to stand for any other.
const FREE: [&str; 5] = [
    "192.0.2.1",
    "198.51.100.1",
    "2001:db8::1",
    "0.0.0.1",
    "100::1",
];

/// A country that is not among the places.
fn outside(places: &Places) -> Option<Country> {
    let all: CountrySet = Country::all().collect();
    all.iter().find(|country| !places.contains(*country))
}
