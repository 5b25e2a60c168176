//! Who operates addresses and names, and where the company that controls them is seated: a curated file, and those of
//! users beside it.

use super::column::{Column, Fact};
use super::pack::sha256;
use super::rows::{Family, Row, Step, flatten, number};
use super::source::{Meta, Source};
use super::{Asn, BadData, Country, OperatorId};
use foldhash::fast::RandomState;
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::HashMap;
use std::net::IpAddr;

/// An operator: an organisation that runs servers, under the law of its seat.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Short name for policies, such as `agora`.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// Where the company that controls it is seated.
    pub seat: Country,
    /// The operator it belongs to.
    pub parent: Option<OperatorId>,
    /// Autonomous systems it runs.
    pub asns: Vec<Asn>,
    /// Prefixes it runs, in whoever's autonomous system.
    pub prefixes: Vec<IpNet>,
    /// Those of its prefixes that are announced from many places.
    pub anycast: Vec<IpNet>,
    /// Domains it runs; each stands for all names below it too.
    pub domains: Vec<String>,
    /// What the entry rests on.
    pub source: String,
    /// When that was last looked at, `YYYY-MM-DD`.
    pub as_of: String,
    /// What a reader should know.
    pub note: String,
}

/// All operators, indexed.
#[derive(Debug, Default)]
pub struct Operators {
    all: Vec<Operator>,
    /// Anycast prefixes that belong to no operator.
    anycast: Vec<Anycast>,
    by_id: HashMap<String, OperatorId, RandomState>,
    by_asn: HashMap<Asn, OperatorId, RandomState>,
    by_domain: HashMap<String, OperatorId, RandomState>,
    /// All ids, those of later files behind those of earlier ones.
    by_file: Vec<OperatorId>,
    digests: Vec<u8>,
}

/// A list of anycast prefixes.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Anycast {
    #[expect(dead_code, reason = "for readers of the file")]
    name: String,
    prefix: Vec<IpNet>,
    #[expect(dead_code, reason = "for readers of the file")]
    source: String,
    as_of: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    operator: Vec<Entry>,
    #[serde(default)]
    anycast: Vec<Anycast>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: String,
    name: String,
    seat: Country,
    parent: Option<String>,
    #[serde(default)]
    asn: Vec<Asn>,
    #[serde(default)]
    prefix: Vec<IpNet>,
    #[serde(default)]
    anycast: Vec<IpNet>,
    #[serde(default)]
    domain: Vec<String>,
    source: String,
    as_of: String,
    #[serde(default)]
    note: String,
}

impl Operators {
    /// The operators that the program knows.
    pub fn embedded() -> Result<Self, BadData> {
        Self::read(&[
            include_str!("data/operators.toml"),
            include_str!("data/anycast.toml"),
        ])
    }

    /// The operators that the program knows, and those of users' files. An entry of a later file replaces the one with
    /// its id, and its numbers, prefixes and domains win over those of earlier files.
    pub fn with(files: &[&str]) -> Result<Self, BadData> {
        let mut all = vec![
            include_str!("data/operators.toml"),
            include_str!("data/anycast.toml"),
        ];
        all.extend(files);
        Self::read(&all)
    }

    /// Reads operator files; later ones win.
    pub fn read(files: &[&str]) -> Result<Self, BadData> {
        let mut operators = Self::default();
        let mut parents = Vec::new();
        for text in files {
            let file: File =
                toml::from_str(text).map_err(|error| BadData::Entry(error.to_string()))?;
            operators.digests.extend(sha256(text.as_bytes()));
            let mut claims = HashMap::new();
            for entry in file.operator {
                check_claims(&mut claims, &entry)?;
                parents.push((entry.id.clone(), entry.parent.clone()));
                operators.add(entry)?;
            }
            for list in file.anycast {
                check_date(&list.as_of)?;
                operators.anycast.push(list);
            }
        }
        operators.link_parents(&parents)?;
        operators.index();
        Ok(operators)
    }

    /// The entry of an operator.
    pub fn get(&self, id: OperatorId) -> Option<&Operator> {
        self.all.get(usize::from(id.0))
    }

    /// The operator with this id in the file.
    pub fn by_id(&self, id: &str) -> Option<OperatorId> {
        self.by_id.get(id).copied()
    }

    /// The operator that runs an autonomous system.
    pub fn by_asn(&self, asn: Asn) -> Option<OperatorId> {
        self.by_asn.get(&asn).copied()
    }

    /// The operator that runs a name (lower case, without trailing dot): the one with the longest domain above it.
    pub fn by_name(&self, name: &str) -> Option<OperatorId> {
        let mut rest = name;
        loop {
            if let Some(id) = self.by_domain.get(rest) {
                return Some(*id);
            }
            rest = rest.split_once('.')?.1;
        }
    }

    /// Whether `id` is `wanted` or belongs to it, over any number of parents.
    pub fn belongs_to(&self, id: OperatorId, wanted: OperatorId) -> bool {
        let mut at = Some(id);
        while let Some(id) = at {
            if id == wanted {
                return true;
            }
            // Ends: `link_parents` refuses circles.
            at = self.get(id).and_then(|operator| operator.parent);
        }
        false
    }

    /// All of them, with the ids of this snapshot.
    pub fn iter(&self) -> impl Iterator<Item = (OperatorId, &Operator)> {
        (0..).map(OperatorId).zip(&self.all)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// SHA-256 over the files.
    pub(super) fn digest(&self) -> [u8; 32] {
        sha256(&self.digests)
    }

    /// Which operator runs which range of a family.
    pub(super) fn columns(&self, family: Family) -> Vec<Column> {
        let mut rows: Vec<Row> = Vec::new();
        for id in &self.by_file {
            let Some(operator) = self.get(*id) else {
                continue;
            };
            let prefixes = operator.prefixes.iter().chain(&operator.anycast);
            rows.extend(prefixes.filter_map(|prefix| row(*prefix, family, u32::from(id.0) + 1)));
        }
        if rows.is_empty() {
            Vec::new()
        } else {
            vec![Column::encode(
                Fact::Operator,
                family,
                &flatten(rows, family),
            )]
        }
    }

    /// The anycast prefixes, as a source like any other.
    pub(super) fn anycast_source(&self) -> Option<Source> {
        let own = self.all.iter().flat_map(|operator| &operator.anycast);
        let prefixes: Vec<IpNet> = own
            .chain(self.anycast.iter().flat_map(|list| &list.prefix))
            .copied()
            .collect();
        let column = |family| {
            let rows: Vec<Row> = prefixes
                .iter()
                .filter_map(|prefix| row(*prefix, family, 1))
                .collect();
            let steps: Vec<Step> = flatten(rows, family);
            Column::encode(Fact::Anycast, family, &steps)
        };
        let dates = self
            .all
            .iter()
            .map(|operator| &operator.as_of)
            .chain(self.anycast.iter().map(|list| &list.as_of));
        let built = dates.filter_map(|date| unix_date(date)).max()?;
        Some(Source {
            meta: Meta {
                name: "operators".into(),
                licence: "MIT OR Apache-2.0".into(),
                attribution: "Cordon, and the operators' own documents".into(),
                built,
            },
            columns: vec![column(Family::V4), column(Family::V6)],
            names: None,
            digest: self.digest(),
        })
    }

    fn add(&mut self, entry: Entry) -> Result<(), BadData> {
        check_id(&entry.id)?;
        check_date(&entry.as_of)?;
        let domains = entry
            .domain
            .iter()
            .map(|domain| check_domain(domain))
            .collect::<Result<_, _>>()?;
        let operator = Operator {
            id: entry.id,
            name: entry.name,
            seat: entry.seat,
            parent: None,
            asns: entry.asn,
            prefixes: entry.prefix,
            anycast: entry.anycast,
            domains,
            source: entry.source,
            as_of: entry.as_of,
            note: entry.note,
        };
        let id = match self.by_id.get(&operator.id).copied() {
            Some(id) => id,
            None => self.next_id()?,
        };
        self.by_file.retain(|other| *other != id);
        self.by_file.push(id);
        self.by_id.insert(operator.id.clone(), id);
        match self.all.get_mut(usize::from(id.0)) {
            Some(older) => *older = operator,
            None => self.all.push(operator),
        }
        Ok(())
    }

    /// One less than all `u16` are to be had, because columns hold the number + 1.
    fn next_id(&self) -> Result<OperatorId, BadData> {
        let number = u16::try_from(self.all.len()).ok();
        let number = number.filter(|number| *number < u16::MAX);
        number.map(OperatorId).ok_or(BadData::TooMany("operators"))
    }

    fn link_parents(&mut self, parents: &[(String, Option<String>)]) -> Result<(), BadData> {
        // The last entry of an id is the one that counts.
        for (id, parent) in parents {
            let parent = match parent {
                None => None,
                Some(parent) => Some(self.by_id(parent).ok_or_else(|| {
                    BadData::Entry(format!(
                        "operator “{id}” names the parent “{parent}”, which is not there"
                    ))
                })?),
            };
            if let Some(operator) = self
                .by_id(id)
                .and_then(|id| self.all.get_mut(usize::from(id.0)))
            {
                operator.parent = parent;
            }
        }
        for (id, operator) in self.iter() {
            let mut at = operator.parent;
            for _ in 0..=self.len() {
                at = match at {
                    None => break,
                    Some(parent) if parent == id => {
                        return Err(BadData::Entry(format!(
                            "operator “{}” is its own ancestor",
                            operator.id
                        )));
                    }
                    Some(parent) => self.get(parent).and_then(|operator| operator.parent),
                };
            }
        }
        Ok(())
    }

    /// What later files claim wins.
    fn index(&mut self) {
        for id in &self.by_file {
            let Some(operator) = self.all.get(usize::from(id.0)) else {
                continue;
            };
            for asn in &operator.asns {
                self.by_asn.insert(*asn, *id);
            }
            for domain in &operator.domains {
                self.by_domain.insert(domain.clone(), *id);
            }
        }
    }
}

/// Within one file nothing may stand twice: one of the two would silently not count.
fn check_claims(claims: &mut HashMap<String, String>, entry: &Entry) -> Result<(), BadData> {
    let asns = entry.asn.iter().map(|asn| format!("AS{asn}"));
    let prefixes = entry.prefix.iter().chain(&entry.anycast);
    let prefixes = prefixes.map(|prefix| format!("prefix {}", prefix.trunc()));
    let domains = entry.domain.iter().map(|domain| format!("domain {domain}"));
    let id = std::iter::once(format!("operator “{}”", entry.id));
    for claim in id.chain(asns).chain(prefixes).chain(domains) {
        if let Some(other) = claims.insert(claim.clone(), entry.id.clone()) {
            let id = &entry.id;
            return Err(BadData::Entry(format!(
                "{claim} stands twice in one file: with “{other}” and with “{id}”"
            )));
        }
    }
    Ok(())
}

fn row(prefix: IpNet, family: Family, value: u32) -> Option<Row> {
    let (of, first) = number(prefix.network());
    let (_, last) = match prefix {
        IpNet::V4(v4) => number(IpAddr::V4(v4.broadcast())),
        IpNet::V6(v6) => number(IpAddr::V6(v6.broadcast())),
    };
    (of == family).then_some(Row { first, last, value })
}

fn check_id(id: &str) -> Result<(), BadData> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !id.is_empty() && id.bytes().all(fits) {
        return Ok(());
    }
    Err(BadData::Entry(format!(
        "operator id “{id}” may have only a-z, 0-9 and “-”"
    )))
}

/// A leading dot is allowed, as policies write domains with one.
fn check_domain(domain: &str) -> Result<String, BadData> {
    let bare = domain.strip_prefix('.').unwrap_or(domain);
    let fits = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    if bare.len() <= 253
        && bare
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(fits))
    {
        return Ok(bare.to_owned());
    }
    Err(BadData::Entry(format!(
        "“{domain}” is no domain name in lower case (write A-labels for other scripts)"
    )))
}

fn check_date(date: &str) -> Result<(), BadData> {
    match unix_date(date) {
        Some(_) => Ok(()),
        None => Err(BadData::Entry(format!(
            "“{date}” is no date like 2026-06-17"
        ))),
    }
}

/// Midnight UTC of a date, in seconds since the Unix epoch.
fn unix_date(date: &str) -> Option<u64> {
    let date: jiff::civil::Date = date.parse().ok()?;
    let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(midnight.timestamp().as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn file(more: &str) -> String {
        format!(
            "[[operator]]\nid = \"a\"\nname = \"A\"\nseat = \"CN\"\nsource = \"s\"\nas_of = \"2026-01-01\"\n{more}"
        )
    }

    fn refusal(more: &str) -> String {
        Operators::read(&[&file(more)]).unwrap_err().to_string()
    }

    #[test]
    fn the_shipped_file_claims_nothing_twice_and_rests_on_something() {
        let operators = Operators::embedded().unwrap();
        assert!(operators.len() >= 60);
        let (mut asns, mut domains, mut prefixes) =
            (HashSet::new(), HashSet::new(), HashSet::new());
        for (id, operator) in operators.iter() {
            for asn in &operator.asns {
                assert!(asns.insert(*asn), "AS{asn} stands twice");
            }
            for domain in &operator.domains {
                assert!(domains.insert(domain.clone()), "{domain} stands twice");
                assert_eq!(operators.by_name(&format!("www.{domain}")), Some(id));
            }
            for prefix in operator.prefixes.iter().chain(&operator.anycast) {
                assert!(prefixes.insert(*prefix), "{prefix} stands twice");
                assert_eq!(prefix.trunc(), *prefix, "{prefix} has host bits");
            }
            assert!(!operator.source.is_empty(), "{}", operator.id);
            let tells = operator.asns.len() + operator.domains.len() + operator.prefixes.len();
            assert!(tells > 0, "{} cannot be recognised", operator.id);
        }
        let agora = operators.get(operators.by_id("agora").unwrap()).unwrap();
        assert_eq!(
            (agora.seat.to_string().as_str(), agora.asns.as_slice()),
            ("CN", &[140_899][..])
        );
        for name in [
            "edge.agora.io",
            "a.agoraio.cn",
            "agoralab.co",
            "x.sd-rtn.com",
        ] {
            assert_eq!(operators.by_name(name), operators.by_id("agora"), "{name}");
        }
        assert_eq!(operators.by_name("notagora.io"), None);
        assert_eq!(operators.by_name(""), None);
    }

    #[test]
    fn a_subsidiary_belongs_to_its_parents() {
        let operators = Operators::embedded().unwrap();
        let [github, microsoft, google] =
            ["github", "microsoft", "google"].map(|id| operators.by_id(id).unwrap());
        assert!(operators.belongs_to(github, microsoft) && operators.belongs_to(github, github));
        assert!(!operators.belongs_to(microsoft, github) && !operators.belongs_to(github, google));
    }

    #[test]
    fn a_users_file_adds_and_replaces() {
        let own = "[[operator]]\nid = \"agora\"\nname = \"Mine\"\nseat = \"US\"\nasn = [64500, 13335]\n\
                   domain = [\".agora.io\"]\nsource = \"me\"\nas_of = \"2026-01-01\"\n";
        let operators = Operators::with(&[own]).unwrap();
        let agora = operators.by_id("agora").unwrap();
        assert_eq!(operators.get(agora).unwrap().name, "Mine");
        assert_eq!(
            operators.by_asn(13_335),
            Some(agora),
            "the later file wins the number"
        );
        assert_eq!(operators.by_asn(140_899), None, "the older entry is gone");
        assert_eq!(operators.by_name("www.agora.io"), Some(agora));
    }

    #[test]
    fn mistakes_are_told_with_their_place() {
        assert!(
            refusal("asn = [1]\nasns = [2]\n").contains("line 8"),
            "{}",
            refusal("asns = [2]\n")
        );
        assert!(refusal("domain = [\"Agora.io\"]\n").contains("Agora.io"));
        assert!(refusal("domain = [\"\"]\n").contains("no domain"));
        assert!(refusal("parent = \"b\"\n").contains("“b”, which is not there"));
        assert!(refusal("parent = \"a\"\n").contains("its own ancestor"));
        assert!(refusal("prefix = [\"1.2.3.0/33\"]\n").contains("line 7"));
        assert!(refusal(&file("")).contains("operator “a” stands twice"));
        let other = file("asn = [7]\n").replace("\"a\"", "\"b\"");
        assert!(refusal(&format!("asn = [7]\n{other}")).contains("AS7 stands twice"));
        assert!(
            Operators::read(&[&file("").replace("CN", "UK")])
                .unwrap_err()
                .to_string()
                .contains("write GB")
        );
        assert!(Operators::read(&[&file("").replace("2026-01-01", "x")]).is_err());
        assert!(Operators::read(&[&file("").replace("\"a\"", "\"A B\"")]).is_err());
    }
}
