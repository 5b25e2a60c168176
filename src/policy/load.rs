//! From a policy file, and those it names, to a policy. Everything that is wrong is found in one pass and told with its
//! place.

use super::bundle::{Bundle, Files, NoFiles, Part};
use super::cases::Case;
use super::compiled::{Default, Effect, Observe, Policy};
use super::draft::Draft;
use super::index::Index;
use super::rules::{DraftRule, DraftSanitizer, mode};
use crate::document::{Fields, LoadError, Node, Problem, Reader};
use crate::jurisdiction::{Data, Groups};
use toml::Spanned;
use toml::de::DeTable;

/// What a policy refers to outside its files.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// Where operators are looked up. Their numbers go into the policy, so it belongs to this snapshot: load it again
    /// when the data is replaced.
    pub data: &'a Data,
    /// Named groups of countries.
    pub groups: &'a Groups,
}

impl Policy {
    /// Reads a policy that stands alone. `file` is what errors call it.
    pub fn load(file: &str, text: &str, around: &Surroundings<'_>) -> Result<Self, LoadError> {
        Self::load_with(file, text, around, &NoFiles)
    }

    /// Reads a policy with the files that it extends or includes, and its lists.
    pub fn load_with(
        file: &str,
        text: &str,
        around: &Surroundings<'_>,
        files: &dyn Files,
    ) -> Result<Self, LoadError> {
        let bundle = Bundle::collect(file, text, files);
        let (readers, trees): (Vec<_>, Vec<_>) = bundle
            .parts
            .iter()
            .map(|part| Reader::parse(&part.name, &part.text))
            .unzip();
        let mut loader = Loader {
            parts: &bundle.parts,
            trees: &trees,
            readers,
            draft: Draft::new(file, around, files),
        };
        let unit = loader.policy(0);
        loader.count(&unit);
        let Loader { readers, draft, .. } = loader;
        let policy = finish(draft, unit);
        let found = readers.into_iter().flat_map(Reader::into_problems);
        let mut problems: Vec<Problem> = found.chain(bundle.problems).collect();
        if problems.is_empty() {
            // These look at the policy as a whole, which makes sense only if nothing of it is missing.
            problems.extend(policy.cases.iter().filter_map(|case| case.problem(&policy)));
            problems.extend(policy.refused_exits(around.data));
        }
        LoadError::unless_none(problems).map(|()| policy)
    }
}

/// Goes through the files.
struct Loader<'d> {
    parts: &'d [Part],
    trees: &'d [Spanned<DeTable<'d>>],
    readers: Vec<Reader<'d>>,
    draft: Draft<'d>,
}

/// A policy with what it inherits.
struct Unit {
    name: Box<str>,
    default: Default,
    /// What is observed where nothing else is said.
    observed: bool,
    rules: Vec<DraftRule>,
    sanitizers: Vec<DraftSanitizer>,
    cases: Vec<Case>,
}

/// Keys of a policy; a file that is included may have only those from `version` on.
const ROOT: [&str; 14] = [
    "name",
    "mode",
    "extends",
    "default",
    "version",
    "include",
    "sources",
    "targets",
    "exits",
    "schedules",
    "lists",
    "sanitize",
    "rule",
    "test",
];
const INCLUDED: usize = 4;

impl<'d> Loader<'d> {
    /// Reads a policy: first the one it extends, then what it includes, then itself.
    fn policy(&mut self, place: usize) -> Unit {
        let extended = self.parts.get(place).and_then(|part| part.extends);
        let parent = extended.map(|parent| self.policy(parent));
        let files = self.files_of(place);
        self.each(&files, |draft, root, reader| {
            draft.declare_exits(root, reader)
        });
        let (mut name, mut given) = ("", None);
        self.each(&[place], |draft, root, reader| {
            if let Some(node) = root.require("version", reader) {
                node.integer(1..=1, reader);
            }
            name = root
                .get("name")
                .and_then(|node| node.string(reader))
                .unwrap_or("");
            given = mode(root, reader);
            draft.read_default(root, given, reader);
        });
        self.each(&files, |draft, root, reader| {
            draft.declare_names(root, reader)
        });
        let mut unit = Unit {
            name: name.into(),
            default: self.draft.default.clone(),
            observed: given
                .or(parent.as_ref().map(|parent| parent.observed))
                .unwrap_or(false),
            rules: Vec::new(),
            sanitizers: Vec::new(),
            cases: Vec::new(),
        };
        self.sanitizers_and_tests(&files, &mut unit);
        unit.rules = self.rules(place);
        for rule in &mut unit.rules {
            rule.observed = rule.mode.unwrap_or(unit.observed);
        }
        match parent {
            Some(parent) => inherit(unit, parent, given),
            None => unit,
        }
    }

    /// A file and all that it includes, the included ones first.
    fn files_of(&self, place: usize) -> Vec<usize> {
        let included = self.parts.get(place).map(|part| part.includes.values());
        let included = included.into_iter().flatten();
        included
            .flat_map(|part| self.files_of(*part))
            .chain([place])
            .collect()
    }

    /// Does something with the roots of some files.
    fn each(
        &mut self,
        files: &[usize],
        mut work: impl FnMut(&mut Draft<'d>, &Fields<'d>, &mut Reader<'d>),
    ) {
        for file in files {
            if let (Some(tree), Some(reader)) = (self.trees.get(*file), self.readers.get_mut(*file))
            {
                work(&mut self.draft, &Fields::whole(tree), reader);
            }
        }
    }

    fn sanitizers_and_tests(&mut self, files: &[usize], unit: &mut Unit) {
        self.each(files, |draft, root, reader| {
            for node in root.tables("sanitize", reader) {
                if let Some(mut read) = draft.sanitizer(node, reader) {
                    read.sanitizer.observed = read.mode.unwrap_or(unit.observed);
                    unit.sanitizers.push(read);
                }
            }
            for node in root.tables("test", reader) {
                unit.cases.extend(Case::read(node, draft, reader));
            }
        });
    }

    /// The rules of a file, those of included files at their places.
    fn rules(&mut self, file: usize) -> Vec<DraftRule> {
        let (Some(part), Some(tree)) = (self.parts.get(file), self.trees.get(file)) else {
            return Vec::new();
        };
        let root = Fields::whole(tree);
        let mut rules = Vec::new();
        for node in root
            .get("include")
            .map(|node| node.members())
            .unwrap_or_default()
        {
            if let Some(included) = part.includes.get(&node.start) {
                rules.extend(self.rules(*included));
            }
        }
        let Some(reader) = self.readers.get_mut(file) else {
            return rules;
        };
        for node in root.tables("rule", reader) {
            match node.peek("include") {
                Some(name) => {
                    if let Some(reader) = self.readers.get_mut(file) {
                        node.fields(&["include"], reader);
                        name.string(reader);
                    }
                    if let Some(included) = part.includes.get(&name.start) {
                        rules.extend(self.rules(*included));
                    }
                }
                None => {
                    if let Some(reader) = self.readers.get_mut(file) {
                        rules.extend(self.draft.rule(node, reader));
                    }
                }
            }
        }
        rules
    }

    /// Checks the keys of every file, what it names other files by, and that places fit the bits in which they are kept.
    fn count(&mut self, unit: &Unit) {
        for file in 0..self.parts.len() {
            let is_policy = file == 0 || self.parts.iter().any(|part| part.extends == Some(file));
            let known = ROOT
                .get(if is_policy { 0 } else { INCLUDED }..)
                .unwrap_or_default();
            self.each(&[file], |_, root, reader| {
                root.check_keys(known, reader);
                root.get("extends").map(|node| node.string(reader));
                for node in root.get("include").map(Node::members).unwrap_or_default() {
                    node.string(reader);
                }
            });
        }
        self.each(&[0], |_, root, reader| {
            if unit.rules.len() > usize::from(u16::MAX) {
                reader.problem(root.key_start("rule"), "more than 65535 rules");
            }
            if unit.sanitizers.len() > 64 {
                reader.problem(root.key_start("sanitize"), "more than 64 sanitizers");
            }
        });
    }
}

/// Puts what is inherited around a policy's own rules: what is locked before them, the rest after.
fn inherit(mut unit: Unit, parent: Unit, mode: Option<bool>) -> Unit {
    let (mut locked, mut rest): (Vec<DraftRule>, Vec<DraftRule>) =
        parent.rules.into_iter().partition(|rule| rule.rule.locked);
    if let Some(mode) = mode {
        for rule in &mut rest {
            rule.observed = rule.mode.unwrap_or(mode);
        }
    }
    locked.append(&mut unit.rules);
    locked.append(&mut rest);
    unit.rules = locked;
    let mut sanitizers = parent.sanitizers;
    for entry in &mut sanitizers {
        if let Some(mode) = mode
            && !entry.sanitizer.locked
        {
            entry.sanitizer.observed = entry.mode.unwrap_or(mode);
        }
    }
    sanitizers.append(&mut unit.sanitizers);
    unit.sanitizers = sanitizers;
    unit
}

fn finish(draft: Draft<'_>, unit: Unit) -> Policy {
    let (mut rules, mut conditions, mut written) = (Vec::new(), Vec::new(), Vec::new());
    let mut index = Index::default();
    for (number, draft) in (0..u16::MAX).zip(unit.rules) {
        let mut rule = draft.rule;
        // Where the whole policy observes, its allows go on: what they spare would not have been stopped.
        if draft.observed && (rule.effect != Effect::Allow || draft.mode.is_some()) {
            rule.observe = Observe::Always;
        }
        let start = conditions.len();
        for (condition, text) in draft.conditions {
            conditions.push(condition);
            written.push(text);
        }
        let own = conditions.get(start..).unwrap_or_default();
        index.file(number, &rule, own);
        let place = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        rule.conditions = place(start)..place(conditions.len());
        rules.push(rule);
    }
    let asks_for_names = conditions
        .iter()
        .any(|condition| condition.test.asks_for_name());
    let asks_for_openings = conditions
        .iter()
        .any(|condition| condition.test.asks_for_opening());
    Policy {
        name: unit.name,
        observed: unit.observed,
        default: unit.default,
        rules,
        conditions,
        written,
        sanitizers: unit
            .sanitizers
            .into_iter()
            .map(|entry| entry.sanitizer)
            .collect(),
        exits: draft.exits,
        domains: draft.domains.build(),
        index,
        asks_for_openings,
        asks_for_names,
        cases: unit.cases,
        declared: draft.declared,
        notes: draft.notes,
    }
}
