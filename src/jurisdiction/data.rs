//! The loaded tables: one immutable snapshot that answers look-ups.

use super::column::Fact;
use super::compile::{Compiled, Record};
use super::embedded;
use super::names::AsNames;
use super::operators::{Operator, Operators};
use super::pack::sha256;
use super::place::{Place, anycast};
use super::source::{Meta, Source};
use super::special::{self, Embedding, Special};
use super::{AddressFacts, Anycast, Asn, BadData, Confidence, Country, FewCountries, OperatorId};
use std::net::{IpAddr, Ipv4Addr};

/// The loaded tables: one immutable snapshot.
#[derive(Debug)]
pub struct Data {
    tables: Compiled,
    sources: Vec<SourceInfo>,
    names: AsNames,
    operators: Operators,
    digest: [u8; 32],
}

/// What is told about a loaded source.
#[derive(Clone, Debug)]
pub struct SourceInfo {
    /// Where it comes from.
    pub meta: Meta,
    /// What it speaks about.
    pub facts: Vec<Fact>,
    /// How many IPv4 ranges it has, over all facts.
    pub v4: usize,
    /// How many IPv6 ranges it has, over all facts.
    pub v6: usize,
    /// SHA-256 of what it was read from.
    pub digest: [u8; 32],
}

/// What one source says about an address.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Which source.
    pub source: &'a SourceInfo,
    /// Its answer.
    pub says: Says,
}

/// The answer of a source to one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// Where it is located.
    Located(Country),
    /// Where it is registered.
    Registered(Country),
    /// Who originates it.
    Origin(Asn),
    /// Whether it is anycast.
    Anycast(Anycast),
}

impl Data {
    /// The data that the program carries.
    pub fn embedded() -> Result<Self, BadData> {
        let operators =
            Operators::embedded().map_err(|_| BadData::Corrupt("its list of operators"))?;
        Self::compile(Self::embedded_sources()?, operators)
    }

    /// The sources that the program carries, to be compiled together with others.
    pub fn embedded_sources() -> Result<Vec<Source>, BadData> {
        embedded::sources()
    }

    /// Merges sources into one snapshot. Where only one answer can count, earlier sources count first.
    pub fn compile(mut sources: Vec<Source>, operators: Operators) -> Result<Self, BadData> {
        sources.extend(operators.anycast_source());
        let tables = Compiled::new(&sources, &operators)?;
        let digests: Vec<u8> = sources
            .iter()
            .flat_map(|source| source.digest)
            .chain(operators.digest())
            .collect();
        let names = sources
            .iter_mut()
            .filter_map(|source| source.names.take())
            .collect();
        let infos = sources.iter().zip(&tables.counts);
        let infos = infos.map(|(source, counts)| SourceInfo::new(source, *counts));
        Ok(Self {
            sources: infos.collect(),
            names: AsNames::new(names),
            operators,
            digest: sha256(&digests),
            tables,
        })
    }

    /// All facts of an address. Never allocates.
    #[inline]
    pub fn lookup(&self, address: IpAddr) -> AddressFacts {
        // Goes on with numbers in registers: reading parts of an address across the parts in which it was just copied
        // would wait for the copy, and all look-ups for each other.
        match address {
            IpAddr::V4(v4) => self.lookup_v4(v4.to_bits()),
            IpAddr::V6(v6) => self.lookup_v6(v6.to_bits()),
        }
    }

    /// The operator that a domain name (lower case, without trailing dot) belongs to, by suffix on label boundaries.
    pub fn operator_of_name(&self, name: &str) -> Option<OperatorId> {
        self.operators.by_name(name)
    }

    /// Who runs what lies at an address: as its names tell (as for [`operator_of_name`](Self::operator_of_name)), or
    /// else the address, which may be rented.
    pub fn operator_behind<'n>(
        &self,
        address: &AddressFacts,
        mut names: impl Iterator<Item = &'n str>,
    ) -> Option<&Operator> {
        let by_name = names.find_map(|name| self.operator_of_name(name));
        self.operator(by_name.or(address.operator)?)
    }

    /// The entry of an operator. `None` only for an id of another snapshot.
    pub fn operator(&self, id: OperatorId) -> Option<&Operator> {
        self.operators.get(id)
    }

    /// The operator with this id in the operator file, such as `agora`.
    pub fn operator_by_id(&self, id: &str) -> Option<OperatorId> {
        self.operators.by_id(id)
    }

    /// All operators.
    pub fn operators(&self) -> &Operators {
        &self.operators
    }

    /// The name of an autonomous system. The first call decompresses the names (some milliseconds, 4 MB).
    pub fn as_name(&self, asn: Asn) -> Option<&str> {
        self.names.name(asn)
    }

    /// The loaded sources, in the order in which they count.
    pub fn sources(&self) -> &[SourceInfo] {
        &self.sources
    }

    /// SHA-256 over all sources and operators: which data a decision was made with.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// The first 12 hexadecimal digits of [`Data::digest`].
    pub fn version(&self) -> String {
        let mut hex = data_encoding::HEXLOWER.encode(&self.digest);
        hex.truncate(12);
        hex
    }

    /// When the oldest source that speaks of locations was built, in seconds since the Unix epoch.
    pub fn oldest_location(&self) -> Option<u64> {
        let locations = self
            .sources
            .iter()
            .filter(|source| source.facts.contains(&Fact::Location));
        locations.map(|source| source.meta.built).min()
    }

    /// What each source says about an address; empty for special addresses. Allocates: for people, not for packets.
    pub fn answers(&self, address: IpAddr) -> Vec<Answer<'_>> {
        let (inner, _) = special::unwrap(address);
        if special::classify(inner).is_some() {
            return Vec::new();
        }
        let record = self.record(inner);
        let mut answers = Vec::new();
        for (voice, &value) in self
            .tables
            .voices
            .iter()
            .zip(self.tables.answers_of(record.place()))
        {
            let country = Country::from_number(value);
            let says = match voice.fact {
                Fact::Location => country.map(Says::Located),
                Fact::Registration => country.map(Says::Registered),
                Fact::Origin => Some(Says::Origin(value)),
                Fact::Anycast => Some(Says::Anycast(anycast(value))),
                Fact::AsCountry | Fact::Operator => None,
            };
            let says = says.filter(|_| value != 0);
            if let (Some(says), Some(source)) = (says, self.sources.get(voice.source)) {
                answers.push(Answer { source, says });
            }
        }
        let first = self
            .tables
            .first_origin
            .and_then(|source| self.sources.get(source));
        if let Some(source) = first.filter(|_| record.asn != 0) {
            answers.push(Answer {
                source,
                says: Says::Origin(record.asn),
            });
        }
        answers
    }

    /// Ranges after merging (IPv4, IPv6), and bytes that the tables occupy.
    pub fn size(&self) -> (usize, usize, usize) {
        let Compiled { v4, v6, .. } = &self.tables;
        (v4.len(), v6.len(), self.tables.memory())
    }

    fn lookup_v4(&self, address: u32) -> AddressFacts {
        let v4 = Ipv4Addr::from_bits(address);
        if special::is_plain_v4(v4) {
            self.told(IpAddr::V4(v4), None, self.record_v4(address))
        } else {
            self.facts(IpAddr::V4(v4))
        }
    }

    fn lookup_v6(&self, address: u128) -> AddressFacts {
        let v6 = IpAddr::V6(address.into());
        if special::is_plain_v6(address) {
            return self.told(v6, None, self.record_v6(address));
        }
        match special::unwrap(v6) {
            (inner, Some(embedding)) => self.embedded_facts(inner, embedding),
            (_, None) => self.facts(v6),
        }
    }

    /// The facts of an address that is not embedded in another.
    #[cold]
    fn facts(&self, address: IpAddr) -> AddressFacts {
        let special = special::classify(address);
        let record = match special {
            None => self.record(address),
            Some(_) => &Record::NOTHING,
        };
        self.told(address, special, record)
    }

    /// What a record tells of an address.
    #[inline]
    fn told(&self, address: IpAddr, special: Option<Special>, record: &Record) -> AddressFacts {
        let mut facts = AddressFacts {
            looked_up_as: address,
            embedded: None,
            special,
            country: record.country,
            located: FewCountries::of(record.country),
            registered: record.registered,
            registered_in: FewCountries::of(record.registered),
            asn: Some(record.asn).filter(|asn| *asn != 0),
            operator: record.operator,
            operator_country: record.seat,
            anycast: record.anycast,
            confidence: record.confidence,
        };
        if record.is_wide() {
            self.widen(&mut facts, record.place());
        }
        facts
    }

    /// What several sources say that one record cannot hold.
    #[cold]
    fn widen(&self, facts: &mut AddressFacts, place: u32) {
        if let Some(place) = self.tables.places.get(place as usize) {
            facts.located = place.located;
            facts.registered_in = place.registered_in;
            facts.asn = facts.asn.or(Some(place.asn).filter(|asn| *asn != 0));
        }
    }

    fn record(&self, address: IpAddr) -> &Record {
        match address {
            IpAddr::V4(v4) => self.record_v4(v4.to_bits()),
            IpAddr::V6(v6) => self.record_v6(v6.to_bits()),
        }
    }

    #[inline]
    fn record_v4(&self, address: u32) -> &Record {
        self.tables.record(self.tables.v4.get(address))
    }

    #[inline]
    fn record_v6(&self, address: u128) -> &Record {
        self.tables.record(self.tables.v6.get(address))
    }

    #[cold]
    fn embedded_facts(&self, inner: IpAddr, embedding: Embedding) -> AddressFacts {
        let mut facts = self.facts(inner);
        facts.embedded = Some(embedding);
        match embedding {
            Embedding::Teredo { server } if facts.special.is_none() => {
                self.add_relay(&mut facts, server);
            }
            Embedding::Teredo { .. }
            | Embedding::Mapped
            | Embedding::Nat64
            | Embedding::SixToFour => {}
        }
        facts
    }

    /// Teredo traffic passes its server, so where that is counts as well; the facts of the client come first.
    fn add_relay(&self, facts: &mut AddressFacts, server: Ipv4Addr) {
        let relay = self.facts(IpAddr::V4(server));
        facts.located = facts.located.union(&relay.located);
        facts.registered_in = facts.registered_in.union(&relay.registered_in);
        facts.operator = facts.operator.or(relay.operator);
        facts.operator_country = facts.operator_country.or(relay.operator_country);
        if facts.country != relay.country && facts.confidence != Confidence::None {
            facts.confidence = Confidence::Contested;
        }
    }
}

impl SourceInfo {
    fn new(source: &Source, [v4, v6]: [usize; 2]) -> Self {
        Self {
            meta: source.meta.clone(),
            facts: source.facts(),
            v4,
            v6,
            digest: source.digest,
        }
    }
}

impl Compiled {
    #[inline]
    fn record(&self, number: Option<u32>) -> &Record {
        number
            .and_then(|number| self.records.get(number as usize))
            .unwrap_or(&Record::NOTHING)
    }

    fn answers_of(&self, place: u32) -> &[u32] {
        let width = self.voices.len();
        let start = place as usize * width;
        self.answers.get(start..start + width).unwrap_or_default()
    }

    fn memory(&self) -> usize {
        self.v4.memory()
            + self.v6.memory()
            + self.records.len() * size_of::<Record>()
            + self.places.len() * size_of::<Place>()
            + self.answers.len() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests;
