//! A policy half read: names that rules refer to, and what holds where a rule says nothing.

use super::bundle::{Files, beside};
use super::compiled::{Declared, Default, Effect, OnUnknown};
use super::condition::{Key, Member, Test, Written};
use super::domains::{DomainsBuilder, SetId};
use super::exits::{self, Exit, ExitKind};
use super::lists::{self, Attributes, FORMATS, Format, Listed};
use super::load::Surroundings;
use super::networks::Networks;
use super::schedule::Schedule;
use super::senders::sender;
use super::values;
use super::verdict::Reply;
use crate::document::{Fields, Node, Place, Problem, Reader, Shown, accept};
use crate::jurisdiction::{Data, Groups};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What has been declared so far.
#[derive(Debug)]
pub(super) struct Draft<'d> {
    pub(super) data: &'d Data,
    pub(super) groups: &'d Groups,
    files: &'d dyn Files,
    /// The folder of the policy's own file, with its slash.
    folder: String,
    pub(super) sources: BTreeMap<String, Arc<[Member]>>,
    pub(super) targets: BTreeMap<String, Arc<[(Test, Written)]>>,
    pub(super) schedules: BTreeMap<String, Arc<Schedule>>,
    pub(super) lists: BTreeMap<String, List>,
    pub(super) domains: DomainsBuilder,
    pub(super) exits: Vec<Exit>,
    /// Where each id was given.
    pub(super) ids: BTreeMap<String, Place>,
    pub(super) declared: Declared,
    /// What holds where a rule says nothing.
    pub(super) default: Default,
    /// Doubts that come up while reading.
    pub(super) notes: Vec<Problem>,
}

/// A subscribed list.
#[derive(Clone, Debug)]
pub(super) struct List {
    pub(super) names: Option<SetId>,
    pub(super) networks: Option<Arc<Networks>>,
}

impl<'d> Draft<'d> {
    pub(super) fn new(file: &str, around: &Surroundings<'d>, files: &'d dyn Files) -> Self {
        Self {
            data: around.data,
            groups: around.groups,
            files,
            folder: file
                .rsplit_once('/')
                .map_or(String::new(), |(folder, _)| format!("{folder}/")),
            sources: BTreeMap::new(),
            targets: BTreeMap::new(),
            schedules: BTreeMap::new(),
            lists: BTreeMap::new(),
            domains: DomainsBuilder::default(),
            exits: Vec::new(),
            ids: BTreeMap::new(),
            declared: Declared::default(),
            default: Default {
                effect: Effect::Block(Reply::Reject),
                observed: false,
                locked: None,
                on_unknown: OnUnknown::Block,
                exit_down: None,
                max_data_age: None,
            },
            notes: Vec::new(),
        }
    }

    /// What the defaults need to be there for.
    pub(super) fn declare_exits(&mut self, root: &Fields<'_>, reader: &mut Reader<'_>) {
        for (name, start, node) in entries(root, "exits", reader) {
            let taken = self.exits.iter().find(|exit| *exit.name == *name);
            let taken = taken.map(|exit| exit.place.clone());
            if is_new("exit", name, start, taken.as_ref(), reader) {
                let read = exits::exit(name, node, &self.exits, reader);
                // What is broken is told once, not again where it is used: its name stays known.
                self.exits.push(read.unwrap_or_else(|| Exit {
                    name: name.into(),
                    kind: ExitKind::Direct,
                    egress: None,
                    place: reader.place(start),
                }));
            }
        }
        if self.exits.len() > usize::from(u16::MAX) {
            reader.problem(root.key_start("exits"), "more than 65535 exits");
        }
    }

    /// Names that rules and sanitizers refer to.
    pub(super) fn declare_names(&mut self, root: &Fields<'_>, reader: &mut Reader<'_>) {
        self.declare_schedules(root, reader);
        self.declare_lists(root, reader);
        self.declare_sources(root, reader);
        self.declare_targets(root, reader);
    }

    fn declare_schedules(&mut self, root: &Fields<'_>, reader: &mut Reader<'_>) {
        for (name, start, node) in entries(root, "schedules", reader) {
            let taken = place_of(&self.declared.schedules, name);
            if !is_new("schedule", name, start, taken, reader) {
                continue;
            }
            let schedule = Schedule::read(node, reader).unwrap_or_default();
            let written = schedule.written.clone().into();
            let entry = (name.into(), written, reader.place(start));
            self.declared.schedules.push(entry);
            self.schedules.insert(name.into(), Arc::new(schedule));
        }
    }

    fn declare_sources(&mut self, root: &Fields<'_>, reader: &mut Reader<'_>) {
        for (name, start, node) in entries(root, "sources", reader) {
            let taken = place_of(&self.declared.sources, name);
            is_new("source", name, start, taken, reader);
            let nodes = node.members();
            if nodes.is_empty() {
                let message = format!("source `{}` has no members", Shown(name));
                reader.problem(node.start, message);
            }
            let members: Arc<[Member]> = nodes
                .iter()
                .filter_map(|node| sender(*node, reader))
                .map(|(member, _)| member)
                .collect();
            let entry = (name.into(), Arc::clone(&members), reader.place(start));
            self.declared.sources.push(entry);
            self.sources.insert(name.into(), members);
        }
    }

    fn declare_targets(&mut self, root: &Fields<'_>, reader: &mut Reader<'_>) {
        let keys: Vec<&str> = target_keys().map(Key::name).collect();
        for (name, start, node) in entries(root, "targets", reader) {
            let taken = place_of(&self.declared.targets, name);
            is_new("target", name, start, taken, reader);
            let Some(fields) = node.fields(&keys, reader) else {
                continue;
            };
            let mut tests = Vec::new();
            for key in target_keys() {
                let node = fields.get(key.name());
                tests.extend(node.and_then(|node| values::condition(key, node, self, reader)));
            }
            if fields.is_empty() {
                let message = format!("target `{}` has no members", Shown(name));
                reader.problem(node.start, message);
            }
            let written: Vec<Written> = tests.iter().map(|(_, written)| written.clone()).collect();
            let entry = (name.into(), written, reader.place(start));
            self.declared.targets.push(entry);
            self.targets.insert(name.into(), tests.into());
        }
    }

    fn declare_lists(&mut self, root: &Fields<'_>, reader: &mut Reader<'_>) {
        for (name, start, node) in entries(root, "lists", reader) {
            let taken = place_of(&self.declared.lists, name);
            if !is_new("list", name, start, taken, reader) {
                continue;
            }
            let listed = self.list(name, start, node, reader).unwrap_or_default();
            self.add_list(name, listed);
        }
    }

    /// Reads an entry of `[lists]`, and the list.
    fn list(
        &mut self,
        name: &str,
        start: usize,
        node: Node<'_>,
        reader: &mut Reader<'_>,
    ) -> Option<Listed> {
        let fields = node.fields(&["file", "format", "attribute"], reader)?;
        let file = fields.require("file", reader);
        let format = fields
            .require("format", reader)
            .and_then(|node| node.word(&FORMATS, reader));
        let attribute = fields.get("attribute").and_then(|node| node.string(reader));
        let (file, format) = file.zip(format)?;
        if attribute.is_some() && format != Format::V2fly {
            let message = "`attribute` is for the format \"v2fly\" only";
            reader.problem(fields.key_start("attribute"), message);
        }
        let name_of_file = file.string(reader)?;
        let fetched = self.fetch_list(reader.file(), name_of_file, format, attribute);
        let (path, listed, doubts) = accept(fetched, file, reader)?;
        let path = path.strip_prefix(&self.folder).unwrap_or(&path);
        let written = written_list(path, format, attribute).into();
        let entry = (name.into(), written, reader.place(start));
        self.declared.lists.push(entry);
        self.notes.extend(doubts.into_iter().map(|doubt| Problem {
            place: reader.place(start),
            message: format!("list `{name}`: {doubt}"),
        }));
        Some(listed)
    }

    /// The path of a list, what it says with those that it includes, and what is doubtful about that.
    fn fetch_list(
        &self,
        by: &str,
        name: &str,
        format: Format,
        attribute: Option<&str>,
    ) -> Result<(String, Listed, Vec<String>), String> {
        const MOST: usize = 256;
        let first = beside(by, name)?;
        let attributes: Attributes = attribute.into_iter().map(str::to_owned).collect();
        let mut open = vec![(first.clone(), attributes)];
        let mut done = Vec::new();
        let mut doubts = Vec::new();
        let mut all = Listed::default();
        while let Some((path, attributes)) = open.pop() {
            if done.contains(&(path.clone(), attributes.clone())) {
                continue;
            }
            if done.len() >= MOST {
                return Err(format!(
                    "list `{}` includes more than {MOST} others",
                    Shown(name)
                ));
            }
            let text = self.files.read(&path);
            let text = text.map_err(|why| format!("`{}` cannot be read: {why}", Shown(&path)))?;
            let listed = lists::read(format, &text, &attributes);
            for (other, attributes) in &listed.includes {
                open.push((beside(&path, other)?, attributes.clone()));
            }
            doubts.extend(doubt(&path, &listed));
            all.append(listed);
            done.push((path, attributes));
        }
        if all.names.is_empty() && all.networks.is_empty() {
            return Err(format!(
                "`{}` has no entries in the format \"{}\"",
                Shown(&first),
                format.name()
            ));
        }
        if all.left_out > 0 {
            let (entries, ask, are) = match all.left_out {
                1 => ("entry", "asks", "is"),
                _ => ("entries", "ask", "are"),
            };
            doubts.insert(
                0,
                format!(
                    "{} {entries} {ask} for more than a name and {are} left out",
                    all.left_out
                ),
            );
        }
        Ok((first, all, doubts))
    }

    /// A list that says nothing is one that could not be read; it stands for whatever it is used as.
    fn add_list(&mut self, name: &str, listed: Listed) {
        let (has_names, has_networks) = (!listed.names.is_empty(), !listed.networks.is_empty());
        let names = (has_names || !has_networks)
            .then(|| self.domains.add_except(listed.names, listed.exceptions));
        let networks = (has_networks || !has_names)
            .then(|| Arc::new(listed.networks.into_iter().collect::<Networks>()));
        self.lists.insert(name.into(), List { names, networks });
    }
}

/// What of a list's file cannot be understood.
fn doubt(path: &str, listed: &Listed) -> Option<String> {
    let (line, count) = listed.broken?;
    let lines = match count {
        1 => "1 line".into(),
        _ => format!("{count} lines"),
    };
    Some(format!(
        "{lines} cannot be understood, the first at {}:{line}",
        Shown(path)
    ))
}

/// As it is written in `[lists]`.
fn written_list(file: &str, format: Format, attribute: Option<&str>) -> String {
    let attribute = attribute
        .map(|attribute| format!(", attribute = {}", values::quoted(attribute)))
        .unwrap_or_default();
    format!(
        "{{ file = {}, format = \"{}\"{attribute} }}",
        values::quoted(file),
        format.name()
    )
}

fn target_keys() -> impl Iterator<Item = Key> {
    Key::ALL.into_iter().filter(|key| key.is_of_target())
}

fn place_of<'p, T>(declared: &'p [(Box<str>, T, Place)], name: &str) -> Option<&'p Place> {
    declared
        .iter()
        .find(|(other, ..)| **other == *name)
        .map(|(.., place)| place)
}

fn entries<'v>(
    root: &Fields<'v>,
    key: &str,
    reader: &mut Reader<'_>,
) -> Vec<(&'v str, usize, Node<'v>)> {
    root.get(key)
        .map(|node| node.entries(reader))
        .unwrap_or_default()
}

/// A name that no other file has given.
fn is_new(
    what: &str,
    name: &str,
    start: usize,
    taken: Option<&Place>,
    reader: &mut Reader<'_>,
) -> bool {
    if let Some(place) = taken {
        reader.problem(
            start,
            format!("{what} `{}` is taken at {place}", Shown(name)),
        );
        return false;
    }
    is_name(what, name, start, reader)
}

/// Names and ids are words that need no quotes in a test or on a command line.
pub(super) fn is_name(what: &str, name: &str, start: usize, reader: &mut Reader<'_>) -> bool {
    let fits = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !fits {
        reader.problem(
            start,
            format!(
                "{what} `{}` may have up to 64 letters, digits, `-` and `_`, and nothing else",
                Shown(name)
            ),
        );
    }
    fits
}
