//! From a policy file to a policy. Everything that is wrong is found in one pass and told with its place.

use super::cases::Case;
use super::compiled::{Declared, Default, Effect, Observe, OnUnknown, Policy, Rule, Sanitizer};
use super::condition::{Condition, Key, Member, Test, Written};
use super::domains::DomainsBuilder;
use super::evaluate::Demand;
use super::exits::{self, Exit};
use super::problem::{LoadError, Place, suggestion};
use super::reader::{Fields, Node, Reader, Shown};
use super::values;
use super::verdict::{Action, ExitId, Reply};
use crate::jurisdiction::{Data, Groups};
use crate::sanitize::{Term, vocabulary};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What has been read so far.
pub(super) struct Draft<'d> {
    pub(super) data: &'d Data,
    pub(super) groups: &'d Groups,
    pub(super) sources: BTreeMap<String, Arc<[Member]>>,
    pub(super) targets: BTreeMap<String, Arc<[(Test, Written)]>>,
    pub(super) domains: DomainsBuilder,
    exits: Vec<Exit>,
    declared: Declared,
    default: Default,
    rules: Vec<(Rule, Vec<(Condition, Written)>)>,
    sanitizers: Vec<Sanitizer>,
    cases: Vec<Case>,
    /// Where each id was given.
    ids: BTreeMap<String, Place>,
}

const ROOT: [&str; 10] = [
    "version", "name", "mode", "default", "sources", "targets", "exits", "sanitize", "rule", "test",
];

/// What a policy refers to outside itself.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Where operators are looked up. Their numbers go into the policy, so it belongs to this snapshot: load it again
    /// when the data is replaced.
    pub data: &'a Data,
    /// Named groups of countries.
    pub groups: &'a Groups,
}

impl Policy {
    /// Reads a policy. `file` is what errors call it.
    pub fn load(file: &str, text: &str, around: &Surroundings<'_>) -> Result<Self, LoadError> {
        let (mut reader, tree) = Reader::parse(file, text);
        let root = Fields::root(&tree, &ROOT, &mut reader);
        let mut draft = Draft::new(around);
        let name = draft.read(&root, &mut reader);
        let policy = draft.finish(name);
        for case in &policy.cases {
            if let Some(problem) = case.problem(&policy) {
                reader.add(problem);
            }
        }
        let problems = reader.into_problems();
        if problems.is_empty() {
            Ok(policy)
        } else {
            Err(LoadError(problems))
        }
    }
}

impl<'d> Draft<'d> {
    fn new(around: &Surroundings<'d>) -> Self {
        Self {
            data: around.data,
            groups: around.groups,
            sources: BTreeMap::new(),
            targets: BTreeMap::new(),
            domains: DomainsBuilder::default(),
            exits: Vec::new(),
            declared: Declared::default(),
            default: Default {
                effect: Effect::Block(Reply::Reject),
                observed: false,
                on_unknown: OnUnknown::Block,
                exit_down: None,
            },
            rules: Vec::new(),
            sanitizers: Vec::new(),
            cases: Vec::new(),
            ids: BTreeMap::new(),
        }
    }

    /// Reads a whole file; the name it gives itself comes back.
    fn read(&mut self, root: &Fields<'_>, reader: &mut Reader<'_>) -> Box<str> {
        if let Some(node) = root.require("version", reader) {
            node.integer(1..=1, reader);
        }
        let name = root.get("name").and_then(|node| node.string(reader));
        let modes = [("enforce", false), ("observe", true)];
        self.default.observed = root
            .get("mode")
            .and_then(|node| node.word(&modes, reader))
            .unwrap_or(false);
        self.read_exits(root, reader);
        self.read_default(root, reader);
        self.read_sources(root, reader);
        self.read_targets(root, reader);
        for node in tables(root, "sanitize", reader) {
            if let Some(sanitizer) = self.sanitizer(node, reader) {
                self.sanitizers.push(sanitizer);
            }
        }
        for node in tables(root, "rule", reader) {
            if let Some(rule) = self.rule(node, reader) {
                self.rules.push(rule);
            }
        }
        for node in tables(root, "test", reader) {
            if let Some(case) = Case::read(node, self, reader) {
                self.cases.push(case);
            }
        }
        self.count(root, reader);
        name.unwrap_or_default().into()
    }

    /// Places of rules are kept in 16 bits, those of sanitizers in the bits of one word.
    fn count(&self, root: &Fields<'_>, reader: &mut Reader<'_>) {
        if self.rules.len() > usize::from(u16::MAX) {
            reader.problem(root.key_start("rule"), "more than 65535 rules");
        }
        if self.exits.len() > usize::from(u16::MAX) {
            reader.problem(root.key_start("exits"), "more than 65535 exits");
        }
        if self.sanitizers.len() > 64 {
            reader.problem(root.key_start("sanitize"), "more than 64 sanitizers");
        }
    }

    fn read_exits(&mut self, root: &Fields<'_>, reader: &mut Reader<'_>) {
        for (name, start, node) in entries(root, "exits", reader) {
            is_name("exit", name, start, reader);
            if let Some(exit) = exits::exit(name, node, &self.exits, reader) {
                self.exits.push(exit);
            }
        }
    }

    fn read_default(&mut self, root: &Fields<'_>, reader: &mut Reader<'_>) {
        const KEYS: [&str; 4] = ["action", "reply", "on_unknown", "exit_down"];
        let fields = root
            .get("default")
            .and_then(|node| node.fields(&KEYS, reader));
        let Some(fields) = fields else {
            return;
        };
        let reply = fields
            .get("reply")
            .and_then(|node| node.word(&REPLIES, reader));
        let allows = [("allow", true), ("block", false)];
        let allows = fields
            .get("action")
            .and_then(|node| node.word(&allows, reader));
        self.default.effect = match (allows, reply) {
            (Some(true), None) => Effect::Allow,
            (Some(true), Some(_)) => {
                reader.problem(fields.key_start("reply"), "`reply` is for blocks only");
                Effect::Allow
            }
            (Some(false) | None, reply) => Effect::Block(reply.unwrap_or(Reply::Reject)),
        };
        if let Some(node) = fields.get("on_unknown") {
            self.default.on_unknown = node
                .word(&ON_UNKNOWN, reader)
                .unwrap_or(self.default.on_unknown);
        }
        self.default.exit_down = self.exit_down(&fields, reader);
    }

    fn read_sources(&mut self, root: &Fields<'_>, reader: &mut Reader<'_>) {
        for (name, start, node) in entries(root, "sources", reader) {
            is_name("source", name, start, reader);
            let nodes = node.members();
            if nodes.is_empty() {
                reader.problem(
                    node.start,
                    format!("source `{}` has no members", Shown(name)),
                );
            }
            let members: Arc<[Member]> = nodes
                .iter()
                .filter_map(|node| values::sender(*node, reader))
                .map(|(member, _)| member)
                .collect();
            self.declared
                .sources
                .push((name.into(), Arc::clone(&members), reader.place(start)));
            self.sources.insert(name.into(), members);
        }
    }

    fn read_targets(&mut self, root: &Fields<'_>, reader: &mut Reader<'_>) {
        let keys: Vec<&str> = target_keys().map(Key::name).collect();
        for (name, start, node) in entries(root, "targets", reader) {
            is_name("target", name, start, reader);
            let Some(fields) = node.fields(&keys, reader) else {
                continue;
            };
            let mut tests = Vec::new();
            for key in target_keys() {
                let node = fields.get(key.name());
                tests.extend(node.and_then(|node| values::condition(key, node, self, reader)));
            }
            if target_keys().all(|key| fields.get(key.name()).is_none()) {
                reader.problem(
                    node.start,
                    format!("target `{}` has no members", Shown(name)),
                );
            }
            let written = tests.iter().map(|(_, written)| written.clone()).collect();
            self.declared
                .targets
                .push((name.into(), written, reader.place(start)));
            self.targets.insert(name.into(), tests.into());
        }
    }

    fn sanitizer(&mut self, node: Node<'_>, reader: &mut Reader<'_>) -> Option<Sanitizer> {
        const KEYS: [&str; 5] = ["id", "from", "to", "leak", "action"];
        const ACTIONS: [(&str, Action); 4] = [
            ("report", Action::Report),
            ("redact", Action::Redact),
            ("drop", Action::Drop),
            ("reject", Action::Reject),
        ];
        let fields = node.fields(&KEYS, reader)?;
        let id = self.id(&fields, reader);
        let [from, to] = [Key::From, Key::To].map(|key| {
            let node = fields.get(key.name())?;
            let (test, written) = values::condition(key, node, self, reader)?;
            let negate = false;
            Some((Condition { test, negate }, written))
        });
        let leaks = fields
            .require("leak", reader)
            .map(|node| leaks(node, reader));
        let action = fields
            .require("action", reader)
            .and_then(|node| node.word(&ACTIONS, reader));
        Some(Sanitizer {
            id: id?,
            from,
            to,
            leaks: leaks?,
            action: action?,
            observed: self.default.observed,
        })
    }

    fn rule(
        &mut self,
        node: Node<'_>,
        reader: &mut Reader<'_>,
    ) -> Option<(Rule, Vec<(Condition, Written)>)> {
        let keys: Vec<&str> = RULE_KEYS
            .into_iter()
            .chain(values::condition_keys())
            .collect();
        let fields = node.fields(&keys, reader)?;
        let id = self.id(&fields, reader);
        let effect = self.effect(&fields, reader);
        let conditions = values::conditions(&fields, self, reader);
        let on_unknown = fields
            .get("on_unknown")
            .and_then(|node| node.word(&ON_UNKNOWN, reader));
        let demands = [("any", Demand::Any), ("sni", Demand::InFlow)];
        let evidence = fields
            .get("evidence")
            .and_then(|node| node.word(&demands, reader));
        let until = fields
            .get("observe_until")
            .and_then(|node| values::instant(node, reader));
        let effect = effect?;
        if on_unknown.is_some() && !effect.stops() {
            let message = "`on_unknown` is for blocks only: what is unknown never matches a rule that lets traffic go";
            reader.problem(fields.key_start("on_unknown"), message);
        }
        let rule = Rule {
            conditions: 0..0,
            effect,
            on_unknown: on_unknown.unwrap_or(self.default.on_unknown),
            observe: match until {
                _ if self.default.observed && effect != Effect::Allow => Observe::Always,
                Some(until) => Observe::Until(until),
                None => Observe::Never,
            },
            evidence: evidence.unwrap_or_default(),
            id: id?,
            place: reader.place(node.start),
        };
        Some((rule, conditions))
    }

    fn effect(&self, fields: &Fields<'_>, reader: &mut Reader<'_>) -> Option<Effect> {
        let words = [("allow", 0), ("block", 1), ("reroute", 2)];
        let action = fields.require("action", reader)?.word(&words, reader)?;
        let reply = fields
            .get("reply")
            .and_then(|node| node.word(&REPLIES, reader));
        let exit = fields
            .get("exit")
            .and_then(|node| exits::by_name(node, &self.exits, reader));
        let down = self.exit_down(fields, reader);
        if action != 1 && fields.get("reply").is_some() {
            reader.problem(fields.key_start("reply"), "`reply` is for blocks only");
        }
        for key in ["exit", "exit_down"] {
            if action != 2 && fields.get(key).is_some() {
                reader.problem(
                    fields.key_start(key),
                    format!("`{key}` is for reroutes only"),
                );
            }
        }
        match action {
            0 => Some(Effect::Allow),
            1 => Some(Effect::Block(reply.unwrap_or(Reply::Reject))),
            _ => {
                fields.require("exit", reader)?;
                Some(Effect::Reroute { exit: exit?, down })
            }
        }
    }

    /// `exit_down`: `"block"` or the name of another exit; the default's if it is not said.
    fn exit_down(&self, fields: &Fields<'_>, reader: &mut Reader<'_>) -> Option<ExitId> {
        let Some(node) = fields.get("exit_down") else {
            return self.default.exit_down;
        };
        if node.string(reader)? == "block" {
            return None;
        }
        exits::by_name(node, &self.exits, reader)
    }

    /// An id that no other rule or sanitizer has.
    fn id(&mut self, fields: &Fields<'_>, reader: &mut Reader<'_>) -> Option<Box<str>> {
        let node = fields.require("id", reader)?;
        let id = node.string(reader)?;
        if id == "default" {
            reader.problem(
                node.start,
                "`default` is the id of what happens when no rule matches",
            );
            return None;
        }
        if !is_name("id", id, node.start, reader) {
            return None;
        }
        if let Some(first) = self.ids.get(id) {
            let message = format!("id `{id}` is taken at {first}");
            reader.problem(node.start, message);
            return None;
        }
        self.ids.insert(id.into(), reader.place(node.start));
        Some(id.into())
    }

    fn finish(self, name: Box<str>) -> Policy {
        let (mut rules, mut conditions, mut written) = (Vec::new(), Vec::new(), Vec::new());
        for (mut rule, parts) in self.rules {
            let start = u32::try_from(conditions.len()).unwrap_or(u32::MAX);
            for (condition, text) in parts {
                conditions.push(condition);
                written.push(text);
            }
            rule.conditions = start..u32::try_from(conditions.len()).unwrap_or(u32::MAX);
            rules.push(rule);
        }
        Policy {
            name,
            default: self.default,
            rules,
            conditions,
            written,
            sanitizers: self.sanitizers,
            exits: self.exits,
            domains: self.domains.build(),
            cases: self.cases,
            declared: self.declared,
        }
    }
}

/// Keys of a rule beside its conditions.
const RULE_KEYS: [&str; 8] = [
    "id",
    "action",
    "reply",
    "exit",
    "exit_down",
    "on_unknown",
    "evidence",
    "observe_until",
];
const REPLIES: [(&str, Reply); 2] = [("reject", Reply::Reject), ("drop", Reply::Drop)];
const ON_UNKNOWN: [(&str, OnUnknown); 2] =
    [("block", OnUnknown::Block), ("allow", OnUnknown::Allow)];

fn target_keys() -> impl Iterator<Item = Key> {
    Key::ALL.into_iter().filter(|key| key.is_of_target())
}

fn tables<'v>(root: &Fields<'v>, key: &str, reader: &mut Reader<'_>) -> Vec<Node<'v>> {
    root.get(key)
        .map(|node| node.tables(reader))
        .unwrap_or_default()
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

/// Names and ids are words that need no quotes in a test or on a command line.
fn is_name(what: &str, name: &str, start: usize, reader: &mut Reader<'_>) -> bool {
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

/// What a sanitizer looks for: leaks, detectors and classes by name.
fn leaks(node: Node<'_>, reader: &mut Reader<'_>) -> Vec<Term> {
    let members = node.members();
    if members.is_empty() {
        reader.problem(node.start, "`leak` lists nothing");
    }
    let mut leaks = Vec::new();
    for member in members {
        let Some(text) = member.string(reader) else {
            continue;
        };
        match vocabulary().iter().find(|term| term.name() == text) {
            Some(term) => leaks.push(*term),
            None => {
                let near = suggestion(text, vocabulary().iter().map(|term| term.name()));
                reader.problem(
                    member.start,
                    format!("no leak is called `{}`{near}", Shown(text)),
                );
            }
        }
    }
    leaks
}
