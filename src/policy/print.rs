//! A policy as text: everything resolved and in order, in one file. What it reads back as is the same policy.

use super::compiled::{Effect, Observe, OnUnknown, Policy, Rule};
use super::condition::{Key, Written};
use super::evaluate::Demand;
use super::senders::sender_text;
use super::values::quoted;
use super::verdict::{ExitId, Reply};
use std::fmt::{Display, Formatter, Result};

impl Display for Policy {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        writeln!(f, "version = 1")?;
        if !self.name.is_empty() {
            writeln!(f, "name = {}", quoted(&self.name))?;
        }
        if self.observed {
            writeln!(f, "mode = \"observe\"")?;
        }
        self.print_default(f)?;
        self.print_names(f)?;
        for entry in &self.sanitizers {
            writeln!(f, "\n[[sanitize]]\nid = \"{}\"", entry.id)?;
            for (_, written) in entry.from.iter().chain(&entry.to) {
                print_condition(f, written, false)?;
            }
            let leaks: Vec<String> = entry.leaks.iter().map(|term| quoted(term.name())).collect();
            writeln!(f, "leak = [{}]", leaks.join(", "))?;
            writeln!(f, "action = \"{}\"", entry.action.name())?;
            self.print_mode(f, entry.observed)?;
            print_locked(f, entry.locked)?;
        }
        for rule in &self.rules {
            self.print_rule(f, rule)?;
        }
        for case in &self.cases {
            case.print(f)?;
        }
        Ok(())
    }
}

impl Policy {
    fn print_default(&self, f: &mut Formatter<'_>) -> Result {
        let default = &self.default;
        writeln!(f, "\n[default]\naction = \"{}\"", default.effect.name())?;
        if let Effect::Block(reply) = default.effect {
            writeln!(f, "reply = \"{}\"", reply.name())?;
        }
        writeln!(f, "on_unknown = \"{}\"", default.on_unknown.name())?;
        writeln!(f, "exit_down = {}", self.exit_down(default.exit_down))?;
        if let Some(days) = default.max_data_age {
            writeln!(f, "max_data_age = {days}")?;
        }
        self.print_mode(f, default.observed)?;
        print_locked(f, default.locked.is_some())
    }

    /// What is observed is said where the policy as a whole says otherwise.
    fn print_mode(&self, f: &mut Formatter<'_>, observed: bool) -> Result {
        match observed {
            _ if observed == self.observed => Ok(()),
            true => writeln!(f, "mode = \"observe\""),
            false => writeln!(f, "mode = \"enforce\""),
        }
    }

    fn print_names(&self, f: &mut Formatter<'_>) -> Result {
        if !self.declared.sources.is_empty() {
            writeln!(f, "\n[sources]")?;
        }
        for (name, members, _) in &self.declared.sources {
            let members: Vec<String> = members
                .iter()
                .map(|one| quoted(&sender_text(one)))
                .collect();
            writeln!(f, "{name} = [{}]", members.join(", "))?;
        }
        for (section, entries) in [
            ("schedules", &self.declared.schedules),
            ("lists", &self.declared.lists),
        ] {
            if !entries.is_empty() {
                writeln!(f, "\n[{section}]")?;
            }
            for (name, written, _) in entries {
                writeln!(f, "{name} = {written}")?;
            }
        }
        if !self.declared.targets.is_empty() {
            writeln!(f, "\n[targets]")?;
        }
        for (name, parts, _) in &self.declared.targets {
            let parts: Vec<String> = parts
                .iter()
                .map(|part| format!("{} = {}", part.key.name(), part.value))
                .collect();
            writeln!(f, "{name} = {{ {} }}", parts.join(", "))?;
        }
        if !self.exits.is_empty() {
            writeln!(f, "\n[exits]")?;
        }
        for exit in &self.exits {
            let text = exit.written(|id| self.exit_name(id));
            writeln!(f, "{} = {text}", exit.name)?;
        }
        Ok(())
    }

    fn print_rule(&self, f: &mut Formatter<'_>, rule: &Rule) -> Result {
        writeln!(f, "\n[[rule]]\nid = \"{}\"", rule.id)?;
        for (condition, written) in self.conditions_of(rule) {
            print_condition(f, written, condition.negate)?;
        }
        writeln!(f, "action = \"{}\"", rule.effect.name())?;
        match rule.effect {
            Effect::Allow => {}
            Effect::Block(reply) => {
                if reply != Reply::Reject {
                    writeln!(f, "reply = \"{}\"", reply.name())?;
                }
                writeln!(f, "on_unknown = \"{}\"", rule.on_unknown.name())?;
            }
            Effect::Reroute { exit, down } => {
                writeln!(f, "exit = \"{}\"", self.exit_name(exit))?;
                writeln!(f, "exit_down = {}", self.exit_down(down))?;
            }
        }
        if rule.evidence == Demand::InFlow {
            writeln!(f, "evidence = \"sni\"")?;
        }
        if let Observe::Until(until) = rule.observe {
            let until = i64::try_from(until).ok();
            let until = until.and_then(|until| jiff::Timestamp::from_second(until).ok());
            writeln!(f, "observe_until = {}", until.unwrap_or_default())?;
        }
        // An allow does not take over the mode of the policy.
        match (rule.effect, rule.observe) {
            (Effect::Allow, Observe::Always) => writeln!(f, "mode = \"observe\"")?,
            (Effect::Allow, _) => {}
            (_, observe) => self.print_mode(f, observe == Observe::Always)?,
        }
        print_locked(f, rule.locked)
    }

    fn exit_down(&self, exit: Option<ExitId>) -> String {
        quoted(&exit.map_or("block".into(), |exit| self.exit_name(exit)))
    }
}

fn print_locked(f: &mut Formatter<'_>, locked: bool) -> Result {
    if locked {
        writeln!(f, "locked = true")?;
    }
    Ok(())
}

impl OnUnknown {
    fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Allow => "allow",
        }
    }
}

fn print_condition(f: &mut Formatter<'_>, written: &Written, negate: bool) -> Result {
    let Written { key, value, .. } = written;
    let name = match negate {
        true => key.negated().unwrap_or(key.name()),
        false => key.name(),
    };
    // One sender or target is written as itself; a list says the same.
    let single = value
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match (key, single) {
        (Key::From | Key::To | Key::Schedule, Some(single)) if !single.contains(',') => {
            writeln!(f, "{name} = {single}")
        }
        _ => writeln!(f, "{name} = {value}"),
    }
}
