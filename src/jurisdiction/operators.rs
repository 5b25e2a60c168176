//! Who operates addresses and names, and where the company that controls them is seated: a curated file, and those of
//! users beside it.

mod form;

use super::column::{Column, Fact};
use super::pack::sha256;
use super::rows::{Family, Row, Step, flatten, number};
use super::source::{Meta, Source};
use super::written::unix_date;
use super::{Asn, Country, OperatorId};
use crate::document::{LoadError, Place, Problem, Shown, suggestion};
use foldhash::fast::RandomState;
use form::{Anycast, Entry, File};
use ipnet::IpNet;
use std::collections::{HashMap, HashSet};
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

/// Of each entry, its operator, the parent that it names, and where it does. Of several the last one counts.
type Parents = Vec<(String, Option<(String, Place)>)>;

impl Operators {
    /// The operators that the program knows.
    pub fn embedded() -> Result<Self, LoadError> {
        Self::with(&[])
    }

    /// The operators that the program knows, and those of users' files. An entry of a later file replaces the one with
    /// its id, and its numbers, prefixes and domains win over those of earlier files.
    ///
    /// Each file is what errors call it, and its text.
    pub fn with(files: &[(&str, &str)]) -> Result<Self, LoadError> {
        let mut all = vec![
            ("operators.toml", include_str!("data/operators.toml")),
            ("anycast.toml", include_str!("data/anycast.toml")),
        ];
        all.extend(files);
        Self::read(&all)
    }

    /// Reads operator files; later ones win.
    ///
    /// # Errors
    /// Everything that is wrong in any of them, each with its place.
    pub fn read(files: &[(&str, &str)]) -> Result<Self, LoadError> {
        let mut operators = Self::default();
        let mut parents = Parents::new();
        let mut problems = Vec::new();
        for (name, text) in files {
            let mut file = File::read(name, text);
            problems.append(&mut file.problems);
            operators.digests.extend(sha256(text.as_bytes()));
            parents.extend(file.parents);
            for entry in file.operators {
                problems.extend(operators.add(entry));
            }
            operators.anycast.extend(file.anycast);
        }
        operators.link_parents(&parents, &mut problems);
        operators.check_circles(&parents, &mut problems);
        LoadError::unless_none(problems)?;
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
            .chain(self.anycast.iter().flat_map(|list| &list.prefixes))
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

    /// Takes an entry; says so where there is no room for it.
    fn add(&mut self, entry: Entry) -> Option<Problem> {
        let id = self
            .by_id(&entry.id)
            .or_else(|| self.next_id())
            .ok_or_else(|| Problem {
                place: entry.place,
                message: "there are more operators than can be numbered".into(),
            });
        let id = match id {
            Ok(id) => id,
            Err(problem) => return Some(problem),
        };
        let operator = Operator {
            id: entry.id,
            name: entry.name,
            seat: entry.seat,
            parent: None,
            asns: entry.asns,
            prefixes: entry.prefixes,
            anycast: entry.anycast,
            domains: entry.domains,
            source: entry.source,
            as_of: entry.as_of,
            note: entry.note,
        };
        self.by_file.retain(|other| *other != id);
        self.by_file.push(id);
        self.by_id.insert(operator.id.clone(), id);
        match self.all.get_mut(usize::from(id.0)) {
            Some(older) => *older = operator,
            None => self.all.push(operator),
        }
        None
    }

    /// One less than all `u16` are to be had, because columns hold the number + 1.
    fn next_id(&self) -> Option<OperatorId> {
        let number = u16::try_from(self.all.len()).ok();
        let number = number.filter(|number| *number < u16::MAX);
        number.map(OperatorId)
    }

    fn link_parents(&mut self, parents: &Parents, problems: &mut Vec<Problem>) {
        let named: HashSet<&str> = parents.iter().map(|(id, _)| id.as_str()).collect();
        for (id, parent) in parents {
            let found = parent.as_ref().and_then(|(parent, _)| self.by_id(parent));
            // What an operator lacks is told once, and not again where it is named.
            if let Some((parent, place)) = parent
                && found.is_none()
                && !named.contains(parent.as_str())
            {
                let known = self.all.iter().map(|operator| operator.id.as_str());
                let near = suggestion(parent, known);
                problems.push(Problem {
                    place: place.clone(),
                    message: format!("no operator is called `{}`{near}", Shown(parent)),
                });
            }
            if let Some(id) = self.by_id(id)
                && let Some(operator) = self.all.get_mut(usize::from(id.0))
            {
                operator.parent = found;
            }
        }
    }

    /// Tells of each operator that is above itself. Takes one step for each operator, and one for each in a circle.
    fn check_circles(&self, parents: &Parents, problems: &mut Vec<Problem>) {
        let parent_of = |id: OperatorId| self.get(id).and_then(|operator| operator.parent);
        let named: HashMap<&str, Option<&Place>> = parents
            .iter()
            .map(|(id, parent)| (id.as_str(), parent.as_ref().map(|(_, place)| place)))
            .collect();
        let mut seen: HashMap<OperatorId, OperatorId, RandomState> = HashMap::default();
        for (start, _) in self.iter() {
            let mut at = Some(start);
            while let Some(id) = at.filter(|id| !seen.contains_key(id)) {
                seen.insert(id, start);
                at = parent_of(id);
            }
            // Whoever comes back to where this walk has been has found a circle.
            let Some(first) = at.filter(|id| seen.get(id) == Some(&start)) else {
                continue;
            };
            let next = |id: &OperatorId| parent_of(*id).filter(|id| *id != first);
            for operator in std::iter::successors(Some(first), next).filter_map(|id| self.get(id)) {
                if let Some(Some(place)) = named.get(operator.id.as_str()) {
                    problems.push(Problem {
                        place: (*place).clone(),
                        message: format!("operator `{}` is its own ancestor", operator.id),
                    });
                }
            }
        }
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

fn row(prefix: IpNet, family: Family, value: u32) -> Option<Row> {
    let (of, first) = number(prefix.network());
    let (_, last) = match prefix {
        IpNet::V4(v4) => number(IpAddr::V4(v4.broadcast())),
        IpNet::V6(v6) => number(IpAddr::V6(v6.broadcast())),
    };
    (of == family).then_some(Row { first, last, value })
}

#[cfg(test)]
mod tests;
