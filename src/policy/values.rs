//! From a key's value in the file to a test, and to the one way it is written.

use super::condition::{Condition, Key, Places, Test, Written};
use super::domains::Pattern;
use super::draft::{Draft, List};
use super::networks;
use super::resolve;
use super::senders::senders;
use crate::document::{Fields, Node, Reader, Shown, accept, suggestion};
use crate::jurisdiction::{Data, Groups, OperatorId, asn, country, network};
use std::sync::Arc;

/// What somebody may write who does not know that these are true or false anyway.
const NEGATED_FLAGS: [(&str, &str); 5] = [
    ("not_anycast", "anycast"),
    ("not_sni_missing", "sni_missing"),
    ("not_cleartext", "cleartext"),
    ("not_no_dns", "no_dns"),
    ("not_sni_mismatch", "sni_mismatch"),
];

/// Every key of a rule's conditions, with and without `not_`; also those that [`conditions`] refuses.
pub(super) fn condition_keys() -> impl Iterator<Item = &'static str> {
    let plain = Key::ALL.iter().map(|key| key.name());
    let negated = Key::ALL.iter().filter_map(|key| key.negated());
    let refused = NEGATED_FLAGS.iter().map(|(name, _)| *name);
    plain.chain(negated).chain(refused)
}

/// Reads all conditions of a rule, in the order of evaluation.
pub(super) fn conditions(
    fields: &Fields<'_>,
    draft: &mut Draft<'_>,
    reader: &mut Reader<'_>,
) -> Vec<(Condition, Written)> {
    let mut read = Vec::new();
    for (name, flag) in NEGATED_FLAGS {
        if fields.get(name).is_some() {
            let message = format!("there is no `{name}`; write `{flag} = false`");
            reader.problem(fields.key_start(name), message);
        }
    }
    for key in Key::ALL {
        for (name, negate) in [(Some(key.name()), false), (key.negated(), true)] {
            let Some(node) = name.and_then(|name| fields.get(name)) else {
                continue;
            };
            if let Some((test, written)) = condition(key, node, draft, reader) {
                read.push((Condition { test, negate }, written));
            }
        }
    }
    read
}

/// Reads the value of one key.
pub(super) fn condition(
    key: Key,
    node: Node<'_>,
    draft: &mut Draft<'_>,
    reader: &mut Reader<'_>,
) -> Option<(Test, Written)> {
    let written = |value: String, reader: &Reader<'_>| Written {
        key,
        value: value.into(),
        place: reader.place(node.start),
    };
    if let Some(test) = flag(key) {
        let wanted = node.boolean(reader)?;
        return Some((test(wanted), written(wanted.to_string(), reader)));
    }
    let members = node.members();
    if members.is_empty() {
        reader.problem(node.start, format!("`{}` lists nothing", key.name()));
        return None;
    }
    let mut words = Words::default();
    let test = match key {
        Key::Proto => Test::Proto(protocols(&members, &mut words, reader)),
        Key::Port => Test::Port(words.each(&members, reader, port).into()),
        Key::From => Test::From(senders(&members, &mut words, draft, reader)),
        Key::Ip => addresses(&members, &mut words, draft, reader),
        Key::Asn => {
            let number = |node: Node<'_>, reader: &mut Reader<'_>| {
                asn(node, reader).map(|number| (number, number.to_string()))
            };
            Test::Asn(words.each(&members, reader, number).into())
        }
        Key::Operator => {
            let read = words.each(&members, reader, |node, reader| {
                operators(node, draft.data, reader)
            });
            Test::Operator(read.concat().into())
        }
        Key::Country => Test::Country(places(&members, &mut words, draft.groups, reader)),
        Key::OperatorCountry => {
            Test::OperatorCountry(places(&members, &mut words, draft.groups, reader))
        }
        Key::Jurisdiction => Test::Jurisdiction(places(&members, &mut words, draft.groups, reader)),
        Key::Domain => names(&members, &mut words, draft, reader),
        Key::To => targets(&members, &mut words, draft, reader),
        Key::Schedule => schedules(&members, &mut words, draft, reader),
        Key::Anycast | Key::SniMissing | Key::Cleartext | Key::NoDns | Key::SniMismatch => {
            return None;
        }
    };
    (words.0.len() == members.len()).then(|| (test, written(words.list(), reader)))
}

/// The test of a key that is true or false.
fn flag(key: Key) -> Option<fn(bool) -> Test> {
    match key {
        Key::Anycast => Some(Test::Anycast),
        Key::SniMissing => Some(Test::SniMissing),
        Key::Cleartext => Some(Test::Cleartext),
        Key::NoDns => Some(Test::NoDns),
        Key::SniMismatch => Some(Test::SniMismatch),
        Key::Proto
        | Key::Port
        | Key::From
        | Key::Ip
        | Key::Asn
        | Key::Operator
        | Key::Country
        | Key::OperatorCountry
        | Key::Jurisdiction
        | Key::Domain
        | Key::To
        | Key::Schedule => None,
    }
}

/// The values of a list as they are written.
#[derive(Default)]
pub(super) struct Words(Vec<String>);

impl Words {
    /// Reads each member to a value and the way it is written; what cannot be read is left out.
    pub(super) fn each<T>(
        &mut self,
        members: &[Node<'_>],
        reader: &mut Reader<'_>,
        mut read: impl FnMut(Node<'_>, &mut Reader<'_>) -> Option<(T, String)>,
    ) -> Vec<T> {
        let mut values = Vec::with_capacity(members.len());
        for member in members {
            if let Some((value, word)) = read(*member, reader) {
                values.push(value);
                self.0.push(word);
            }
        }
        values
    }

    fn list(&self) -> String {
        format!("[{}]", self.0.join(", "))
    }
}

/// A TOML string.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

/// A moment in seconds since the Unix epoch: a date (its first second, UTC), or a date and time with an offset.
pub(super) fn instant(node: Node<'_>, reader: &mut Reader<'_>) -> Option<u64> {
    let text = node.datetime(reader)?.to_string();
    let timestamp = text.parse::<jiff::Timestamp>().or_else(|_| {
        let date: jiff::civil::Date = text.parse()?;
        Ok::<_, jiff::Error>(date.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp())
    });
    let is_local =
        text.contains([':']) && !text.contains(['Z', '+']) && text.matches('-').count() < 3;
    let seconds = timestamp
        .ok()
        .filter(|_| !is_local)
        .and_then(|timestamp| u64::try_from(timestamp.as_second()).ok())
        .ok_or_else(|| {
            format!("{text} is not a date from 1970 on, or a date and time with an offset like 2027-01-15T08:00:00Z")
        });
    accept(seconds, node, reader)
}

fn protocols(members: &[Node<'_>], words: &mut Words, reader: &mut Reader<'_>) -> Box<[u8]> {
    const NAMED: [(&str, &[u8]); 3] = [("tcp", &[6]), ("udp", &[17]), ("icmp", &[1, 58])];
    let numbers = words.each(members, reader, |node, reader| {
        if node.is_integer() {
            let number = node.integer(0..=255, reader)?;
            let number = u8::try_from(number).ok()?;
            return Some((vec![number], number.to_string()));
        }
        let numbers = node.word(&NAMED, reader)?;
        Some((numbers.to_vec(), quoted(node.string(reader)?)))
    });
    numbers.concat().into()
}

fn port(node: Node<'_>, reader: &mut Reader<'_>) -> Option<((u16, u16), String)> {
    if node.is_integer() {
        let port = u16::try_from(node.integer(0..=65535, reader)?).ok()?;
        return Some(((port, port), port.to_string()));
    }
    let text = node.string(reader)?;
    let range = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)))
        .filter(|(first, last): &(u16, u16)| first <= last)
        .ok_or_else(|| match text.parse::<u16>() {
            Ok(port) => format!("`{}` is a port as text; write {port}", Shown(text)),
            Err(_) => format!(
                "`{}` is not a port or a range like \"8000-8010\"",
                Shown(text)
            ),
        });
    let (first, last) = accept(range, node, reader)?;
    Some(((first, last), quoted(&format!("{first}-{last}"))))
}

/// An operator by its id, and those that belong to it.
fn operators(
    node: Node<'_>,
    data: &Data,
    reader: &mut Reader<'_>,
) -> Option<(Vec<OperatorId>, String)> {
    let text = node.string(reader)?;
    let ids = accept(resolve::operators(data, text), node, reader)?;
    Some((ids, quoted(text)))
}

/// Country codes, `@group`s and `local`.
fn places(
    members: &[Node<'_>],
    words: &mut Words,
    groups: &Groups,
    reader: &mut Reader<'_>,
) -> Arc<Places> {
    let read = words.each(members, reader, |node, reader| {
        let text = node.string(reader)?;
        accept(place(text, groups), node, reader)
    });
    let mut all = Places::default();
    for places in read {
        all.local |= places.local;
        all.countries = all.countries.union(&places.countries);
    }
    Arc::new(all)
}

fn place(text: &str, groups: &Groups) -> Result<(Places, String), String> {
    if text == "local" {
        let local = Places {
            local: true,
            ..Places::default()
        };
        return Ok((local, quoted(text)));
    }
    if let Some(group) = text.strip_prefix('@') {
        let countries = resolve::group(groups, group)?;
        let places = Places {
            countries,
            local: false,
        };
        return Ok((places, quoted(text)));
    }
    let country = country(text).map_err(|error| match groups.get(text) {
        Some(group) => format!("{error}; did you mean `@{}`?", group.name),
        None => error,
    })?;
    let mut places = Places::default();
    places.countries.insert(country);
    Ok((places, quoted(&country.to_string())))
}

fn targets(
    members: &[Node<'_>],
    words: &mut Words,
    draft: &mut Draft<'_>,
    reader: &mut Reader<'_>,
) -> Test {
    let read = words.each(members, reader, |node, reader| {
        let text = node.string(reader)?;
        let target = draft.targets.get(text).map(|tests| tests.to_vec());
        let target = target.ok_or_else(|| {
            let near = suggestion(text, draft.targets.keys().map(String::as_str));
            format!("no target is called `{}`{near}", Shown(text))
        });
        Some((accept(target, node, reader)?, quoted(text)))
    });
    Test::To(read.concat().into())
}

/// Addresses and networks, and `list:NAME`.
fn addresses(
    members: &[Node<'_>],
    words: &mut Words,
    draft: &Draft<'_>,
    reader: &mut Reader<'_>,
) -> Test {
    let mut own = Vec::new();
    let lists = words.each(members, reader, |node, reader| {
        let text = node.string(reader)?;
        if let Some(name) = text.strip_prefix("list:") {
            let networks = list(name, draft).and_then(|list| {
                list.networks
                    .clone()
                    .ok_or_else(|| format!("list `{name}` has no addresses"))
            });
            return Some((Some(accept(networks, node, reader)?), quoted(text)));
        }
        let net = accept(network(text), node, reader)?;
        own.push(net);
        Some((None, quoted(&networks::written(&net))))
    });
    let own = (!own.is_empty()).then(|| Arc::new(own.into_iter().collect()));
    Test::Ip(own.into_iter().chain(lists.into_iter().flatten()).collect())
}

/// Domain patterns, and `list:NAME`.
fn names(
    members: &[Node<'_>],
    words: &mut Words,
    draft: &mut Draft<'_>,
    reader: &mut Reader<'_>,
) -> Test {
    let mut own = Vec::new();
    let lists = words.each(members, reader, |node, reader| {
        let text = node.string(reader)?;
        if let Some(name) = text.strip_prefix("list:") {
            let set = list(name, draft).and_then(|list| {
                list.names
                    .ok_or_else(|| format!("list `{name}` has no names"))
            });
            return Some((Some(accept(set, node, reader)?), quoted(text)));
        }
        let pattern = accept(Pattern::parse(text), node, reader)?;
        let text = quoted(&pattern.to_string());
        own.push(pattern);
        Some((None, text))
    });
    let own = (!own.is_empty()).then(|| draft.domains.add(own));
    Test::Domain(own.into_iter().chain(lists.into_iter().flatten()).collect())
}

fn list<'l>(name: &str, draft: &'l Draft<'_>) -> Result<&'l List, String> {
    draft.lists.get(name).ok_or_else(|| {
        let near = suggestion(name, draft.lists.keys().map(String::as_str));
        format!("no list is called `{}`{near}", Shown(name))
    })
}

fn schedules(
    members: &[Node<'_>],
    words: &mut Words,
    draft: &Draft<'_>,
    reader: &mut Reader<'_>,
) -> Test {
    let read = words.each(members, reader, |node, reader| {
        let text = node.string(reader)?;
        let schedule = draft.schedules.get(text).cloned().ok_or_else(|| {
            let near = suggestion(text, draft.schedules.keys().map(String::as_str));
            format!("no schedule is called `{}`{near}", Shown(text))
        });
        Some((accept(schedule, node, reader)?, quoted(text)))
    });
    Test::Schedule(read.into())
}
