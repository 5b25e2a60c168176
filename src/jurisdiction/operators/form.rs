//! The form of an operator file, and what its entries must be like.

use crate::document::{Fields, Node, Place, Problem, Reader, Shown, accept};
use crate::jurisdiction::written::{asn, country, date, each, name, network};
use crate::jurisdiction::{Asn, Country};
use ipnet::IpNet;
use std::collections::HashMap;

/// A file of operators, as far as it can be read.
#[derive(Debug)]
pub(super) struct File {
    pub(super) operators: Vec<Entry>,
    /// Of each operator, also of those that lack something, the parent that it names, and where it does.
    pub(super) parents: Vec<(String, Option<(String, Place)>)>,
    pub(super) anycast: Vec<Anycast>,
    pub(super) problems: Vec<Problem>,
}

/// An operator as its file has it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) seat: Country,
    pub(super) asns: Vec<Asn>,
    pub(super) prefixes: Vec<IpNet>,
    pub(super) anycast: Vec<IpNet>,
    pub(super) domains: Vec<String>,
    pub(super) source: String,
    pub(super) as_of: String,
    pub(super) note: String,
    pub(super) place: Place,
}

/// A list of anycast prefixes.
#[derive(Clone, Debug)]
pub(super) struct Anycast {
    pub(super) prefixes: Vec<IpNet>,
    pub(super) as_of: String,
}

/// Keys of an operator.
const KEYS: [&str; 11] = [
    "id", "name", "seat", "parent", "asn", "prefix", "anycast", "domain", "source", "as_of", "note",
];

/// Within one file nothing may stand twice: one of the two would silently not count.
type Claims = HashMap<String, (String, Place)>;

impl File {
    pub(super) fn read(file: &str, text: &str) -> Self {
        let (mut reader, tree) = Reader::parse(file, text);
        let root = Fields::whole(&tree);
        root.check_keys(&["operator", "anycast"], &mut reader);
        let mut claims = Claims::new();
        let operators = root.tables("operator", &mut reader);
        let mut parents = Vec::new();
        let operators = operators
            .into_iter()
            .filter_map(|node| entry(node, &mut claims, &mut parents, &mut reader))
            .collect();
        let anycast = root.tables("anycast", &mut reader);
        let anycast = anycast
            .into_iter()
            .filter_map(|node| list(node, &mut reader))
            .collect();
        Self {
            operators,
            parents,
            anycast,
            problems: reader.into_problems(),
        }
    }
}

/// An operator; `None` if it lacks something.
fn entry(
    node: Node<'_>,
    claims: &mut Claims,
    parents: &mut Vec<(String, Option<(String, Place)>)>,
    reader: &mut Reader<'_>,
) -> Option<Entry> {
    let fields = node.fields(&KEYS, reader)?;
    let id = fields.require("id", reader);
    let id = id.and_then(|node| Some((name(node, reader)?, node.start)));
    let asns = each(fields.get("asn"), reader, asn);
    let prefixes = each(fields.get("prefix"), reader, prefix);
    let anycast = each(fields.get("anycast"), reader, prefix);
    let domains = each(fields.get("domain"), reader, domain);
    let mut claim = Claim {
        id: id.map_or("", |(id, _)| id),
        claims,
    };
    claim.all(id.as_slice(), "operator ", reader);
    claim.all(&asns, "AS", reader);
    claim.all(&prefixes, "prefix ", reader);
    claim.all(&anycast, "prefix ", reader);
    claim.all(&domains, "domain ", reader);
    let title = fields.required_string("name", reader);
    let seat = fields.require("seat", reader);
    let seat = seat.and_then(|node| accept(country(node.string(reader)?), node, reader));
    let parent = fields.get("parent").and_then(|node| {
        let text = node.string(reader)?;
        Some((text.to_owned(), reader.place(node.start)))
    });
    let source = fields.required_string("source", reader);
    let as_of = fields.require("as_of", reader);
    let as_of = as_of.and_then(|node| date(node, reader));
    let note = fields.get("note").and_then(|node| node.string(reader));
    let id = id?.0.to_owned();
    parents.push((id.clone(), parent));
    Some(Entry {
        id,
        name: title?.to_owned(),
        seat: seat?,
        asns: values(asns),
        prefixes: values(prefixes),
        anycast: values(anycast),
        domains: values(domains),
        source: source?.to_owned(),
        as_of: as_of?,
        note: note.unwrap_or_default().to_owned(),
        place: reader.place(fields.start),
    })
}

fn list(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Anycast> {
    let fields = node.fields(&["name", "prefix", "source", "as_of"], reader)?;
    fields.required_string("name", reader);
    fields.required_string("source", reader);
    let prefixes = fields.require("prefix", reader);
    let as_of = fields.require("as_of", reader);
    Some(Anycast {
        prefixes: values(each(prefixes, reader, prefix)),
        as_of: as_of
            .and_then(|node| date(node, reader))
            .unwrap_or_default(),
    })
}

/// What an operator takes for its own.
struct Claim<'c> {
    id: &'c str,
    claims: &'c mut Claims,
}

impl Claim<'_> {
    fn all<T: ToString>(&mut self, values: &[(T, usize)], what: &str, reader: &mut Reader<'_>) {
        for (value, start) in values {
            let claim = format!("{what}{}", value.to_string());
            let place = reader.place(*start);
            if let Some((owner, first)) = self.claims.get(&claim) {
                let message =
                    format!("{claim} stands twice in this file: first at {first} (`{owner}`)");
                reader.problem(*start, message);
                continue;
            }
            self.claims.insert(claim, (self.id.to_owned(), place));
        }
    }
}

fn values<T>(read: Vec<(T, usize)>) -> Vec<T> {
    read.into_iter().map(|(value, _)| value).collect()
}

fn prefix(node: Node<'_>, reader: &mut Reader<'_>) -> Option<IpNet> {
    accept(network(node.string(reader)?), node, reader)
}

/// A leading dot is allowed, as policies write domains with one.
fn domain(node: Node<'_>, reader: &mut Reader<'_>) -> Option<String> {
    let text = node.string(reader)?;
    let bare = text.strip_prefix('.').unwrap_or(text);
    let fits = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
    };
    let is_name = |label: &str| !label.is_empty() && label.bytes().all(fits);
    let name = match bare.len() <= 253 && bare.split('.').all(is_name) {
        true => Ok(bare.to_owned()),
        false => Err(format!(
            "`{}` is not a domain name in lower case (write A-labels for other scripts)",
            Shown(text)
        )),
    };
    accept(name, node, reader)
}
