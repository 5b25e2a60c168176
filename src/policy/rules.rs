//! `[[rule]]` and `[[sanitize]]` as they stand in a file.

use super::compiled::{Effect, Observe, OnUnknown, Rule, Sanitizer};
use super::condition::{Condition, Key, Written};
use super::draft::{Draft, is_name};
use super::evaluate::Demand;
use super::exits;
use super::values;
use super::verdict::{Action, Reply};
use crate::document::{Fields, Node, Reader, Shown, suggestion};
use crate::sanitize::{Term, vocabulary};

pub(super) const REPLIES: [(&str, Reply); 2] = [("reject", Reply::Reject), ("drop", Reply::Drop)];
pub(super) const ON_UNKNOWN: [(&str, OnUnknown); 2] =
    [("block", OnUnknown::Block), ("allow", OnUnknown::Allow)];
/// Whether it is only observed.
pub(super) const MODES: [(&str, bool); 2] = [("enforce", false), ("observe", true)];

/// A rule on its way into a policy.
#[derive(Debug)]
pub(super) struct DraftRule {
    pub(super) rule: Rule,
    pub(super) conditions: Vec<(Condition, Written)>,
    /// What it says itself of being observed.
    pub(super) mode: Option<bool>,
    /// What comes of that and of the modes of the policies that have it.
    pub(super) observed: bool,
}

/// A sanitizer on its way into a policy.
#[derive(Debug)]
pub(super) struct DraftSanitizer {
    pub(super) sanitizer: Sanitizer,
    pub(super) mode: Option<bool>,
}

/// Keys of a rule beside its conditions.
const RULE_KEYS: [&str; 10] = [
    "id",
    "action",
    "reply",
    "exit",
    "exit_down",
    "on_unknown",
    "evidence",
    "observe_until",
    "mode",
    "locked",
];

impl Draft<'_> {
    pub(super) fn rule(&mut self, node: Node<'_>, reader: &mut Reader<'_>) -> Option<DraftRule> {
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
        let mode = mode(&fields, reader);
        let locked = flag(&fields, "locked", reader);
        let effect = effect?;
        if on_unknown.is_some() && !effect.stops() {
            let message = "`on_unknown` is for blocks only: what is unknown never matches a rule that lets traffic go";
            reader.problem(fields.key_start("on_unknown"), message);
        }
        let rule = Rule {
            conditions: 0..0,
            effect,
            on_unknown: on_unknown.unwrap_or(self.default.on_unknown),
            observe: until.map_or(Observe::Never, Observe::Until),
            evidence: evidence.unwrap_or_default(),
            locked,
            id: id?,
            place: reader.place(node.start),
        };
        Some(DraftRule {
            rule,
            conditions,
            mode,
            observed: false,
        })
    }

    pub(super) fn sanitizer(
        &mut self,
        node: Node<'_>,
        reader: &mut Reader<'_>,
    ) -> Option<DraftSanitizer> {
        const KEYS: [&str; 7] = ["id", "from", "to", "leak", "action", "mode", "locked"];
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
        let mode = mode(&fields, reader);
        let locked = flag(&fields, "locked", reader);
        let sanitizer = Sanitizer {
            id: id?,
            from,
            to,
            leaks: leaks?,
            action: action?,
            observed: false,
            locked,
        };
        Some(DraftSanitizer { sanitizer, mode })
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

    /// An id that no other rule or sanitizer has.
    fn id(&mut self, fields: &Fields<'_>, reader: &mut Reader<'_>) -> Option<Box<str>> {
        let node = fields.require("id", reader)?;
        let id = node.string(reader)?;
        if id == "default" {
            let message = "`default` is the id of what happens when no rule matches";
            reader.problem(node.start, message);
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
}

/// `mode`: whether it is only observed.
pub(super) fn mode(fields: &Fields<'_>, reader: &mut Reader<'_>) -> Option<bool> {
    fields
        .get("mode")
        .and_then(|node| node.word(&MODES, reader))
}

fn flag(fields: &Fields<'_>, key: &str, reader: &mut Reader<'_>) -> bool {
    let node = fields.get(key);
    node.and_then(|node| node.boolean(reader)).unwrap_or(false)
}

/// What a sanitizer looks for: leaks, detectors and classes by name.
fn leaks(node: Node<'_>, reader: &mut Reader<'_>) -> Vec<Term> {
    let members = node.members();
    if members.is_empty() {
        reader.problem(node.start, "`leak` lists nothing");
    }
    let leaks = members.into_iter();
    leaks.filter_map(|member| leak(member, reader)).collect()
}

/// One word of the vocabulary of leaks.
pub(super) fn leak(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Term> {
    let text = node.string(reader)?;
    let known = vocabulary().iter().find(|term| term.name() == text);
    if known.is_none() {
        let near = suggestion(text, vocabulary().iter().map(|term| term.name()));
        reader.problem(
            node.start,
            format!("no leak is called `{}`{near}", Shown(text)),
        );
    }
    known.copied()
}
