//! `[default]`: what holds where no rule matches, and where a rule says nothing.

use super::compiled::Effect;
use super::draft::Draft;
use super::exits;
use super::rules::{MODES, ON_UNKNOWN, REPLIES};
use super::verdict::{ExitId, Reply};
use crate::document::{Fields, Reader};

const KEYS: [&str; 7] = [
    "action",
    "reply",
    "on_unknown",
    "exit_down",
    "mode",
    "locked",
    "max_data_age",
];

impl Draft<'_> {
    /// `[default]` of a policy; `mode` is that of the whole policy, if it says one.
    pub(super) fn read_default(
        &mut self,
        root: &Fields<'_>,
        mode: Option<bool>,
        reader: &mut Reader<'_>,
    ) {
        let fields = root
            .get("default")
            .and_then(|node| node.fields(&KEYS, reader));
        if let Some(locked) = &self.default.locked {
            if let Some(fields) = fields {
                reader.problem(fields.start, format!("the defaults are locked at {locked}"));
            }
            return;
        }
        self.default.observed = mode.unwrap_or(self.default.observed);
        let Some(fields) = fields else {
            return;
        };
        let allows = [("allow", true), ("block", false)];
        let allows = fields
            .get("action")
            .and_then(|node| node.word(&allows, reader));
        let reply = fields
            .get("reply")
            .and_then(|node| node.word(&REPLIES, reader));
        self.default.effect = match (allows, reply, self.default.effect) {
            (Some(false), reply, _) => Effect::Block(reply.unwrap_or(Reply::Reject)),
            (None, Some(reply), Effect::Block(_)) => Effect::Block(reply),
            (Some(true), None, _) => Effect::Allow,
            (None, None, before) => before,
            (_, Some(_), _) => {
                reader.problem(fields.key_start("reply"), "`reply` is for blocks only");
                Effect::Allow
            }
        };
        if let Some(on_unknown) = fields
            .get("on_unknown")
            .and_then(|node| node.word(&ON_UNKNOWN, reader))
        {
            self.default.on_unknown = on_unknown;
        }
        self.default.exit_down = self.exit_down(&fields, reader);
        if let Some(observed) = fields
            .get("mode")
            .and_then(|node| node.word(&MODES, reader))
        {
            self.default.observed = observed;
        }
        if let Some(days) = fields
            .get("max_data_age")
            .and_then(|node| node.integer(1..=36_500, reader))
        {
            self.default.max_data_age = Some(days);
        }
        if fields.get("locked").and_then(|node| node.boolean(reader)) == Some(true) {
            self.default.locked = Some(reader.place(fields.key_start("locked")));
        }
    }

    /// `exit_down`: `"block"` or the name of another exit; the default's if it is not said.
    pub(super) fn exit_down(&self, fields: &Fields<'_>, reader: &mut Reader<'_>) -> Option<ExitId> {
        let Some(node) = fields.get("exit_down") else {
            return self.default.exit_down;
        };
        if node.string(reader)? == "block" {
            return None;
        }
        exits::by_name(node, &self.exits, reader)
    }
}
