//! A policy's own tests: a flow, and what is to become of it or of what it gives away.

use super::compiled::Policy;
use super::condition::Member;
use super::draft::Draft;
use super::facts::Facts;
use super::given::{FACTS, Given};
use super::rules::leak;
use super::senders::{parse_sender, source_of};
use super::values::quoted;
use super::verdict::{Decision, ExitId, Origin, Route, Verdict};
use crate::document::{Node, Place, Problem, Reader, Shown, accept, suggestion};
use crate::jurisdiction::Data;
use crate::sanitize::{Certainty, Finding, Leak, Term};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// One `[[test]]`.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) expect: Box<str>,
    pub(super) place: Place,
    /// The same for tests that ask the same.
    pub(super) key: Box<str>,
    written_flow: Box<str>,
    /// The facts it states, as they are written.
    stated: Vec<(&'static str, Box<str>)>,
    flow: Flow,
    expected: Expected,
    given: Given,
}

/// `SOURCE -> ADDRESS[:PORT][/PROTOCOL]`.
#[derive(Clone, Debug)]
struct Flow {
    source: Option<Member>,
    destination: SocketAddr,
    protocol: u8,
}

/// What is to come out.
#[derive(Clone, Debug)]
enum Expected {
    /// `[would ]VERB[ by RULE][ via EXIT]`.
    Verdict {
        would: bool,
        verb: Box<str>,
        rule: Option<Box<str>>,
        exit: Option<Box<str>>,
    },
    /// `ACTION[ by SANITIZER]` or `pass`, of a flow that gives this away.
    Action {
        leak: &'static Leak,
        action: Box<str>,
        entry: Option<Box<str>>,
    },
}

/// How a policy's test came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestResult {
    /// Where the test stands.
    pub place: Place,
    /// The flow as written.
    pub flow: String,
    /// What was expected, as written.
    pub expected: String,
    /// What came out, in the same words.
    pub found: String,
    /// Whether they agree.
    pub passed: bool,
}

impl Policy {
    /// Runs the policy's own tests against the data.
    pub fn run_tests(&self, data: &Data) -> Vec<TestResult> {
        let run = |case: &Case| {
            let (passed, found) = case.run(self, data);
            TestResult {
                place: case.place.clone(),
                flow: case.written_flow.to_string(),
                expected: case.expect.to_string(),
                found,
                passed,
            }
        };
        self.cases.iter().map(run).collect()
    }

    /// A decision in the words of a test's `expect`.
    fn describe(&self, decision: &Decision) -> String {
        let verb = decision.verdict.name();
        let mut text = format!("{verb} by {}", self.rule_id(decision.origin));
        if let Some(exit) = via(decision) {
            text += &format!(" via {}", self.exit_name(exit));
        }
        if let Some(origin) = decision.observed {
            let verb = self.effect_name(origin);
            text += &format!(", would {verb} by {}", self.rule_id(origin));
        }
        text
    }

    pub(super) fn exit_name(&self, exit: ExitId) -> String {
        let exit = self.exit(exit);
        exit.map(|exit| exit.name.to_string()).unwrap_or_default()
    }

    /// What the rule, or the default, does when it fires.
    pub(super) fn effect_name(&self, origin: Origin) -> &'static str {
        match origin {
            Origin::Rule(index) => self
                .rules
                .get(usize::from(index))
                .map_or("", |rule| rule.effect.name()),
            Origin::Default => self.default.effect.name(),
        }
    }
}

impl Case {
    /// Reads one `[[test]]`.
    pub(super) fn read(node: Node<'_>, draft: &Draft<'_>, reader: &mut Reader<'_>) -> Option<Self> {
        let keys: Vec<&str> = ["flow", "expect", "leak"]
            .into_iter()
            .chain(FACTS)
            .collect();
        let fields = node.fields(&keys, reader)?;
        let flow = fields.require("flow", reader);
        let expect = fields.require("expect", reader);
        let given = Given::read(&fields, draft, reader);
        let leak = fields.get("leak").map(|node| single_leak(node, reader));
        let (flow, expect) = (flow?, expect?);
        let (written_flow, written_expect) = (flow.string(reader)?, expect.string(reader)?);
        let read = accept(Flow::parse(written_flow, draft), flow, reader);
        let expected = match leak {
            Some(leak) => Expected::action(written_expect, leak?),
            None => Expected::verdict(written_expect),
        };
        let stated: Vec<(&'static str, Box<str>)> = ["leak"]
            .into_iter()
            .chain(FACTS)
            .filter_map(|key| Some((key, fields.get(key)?.written()?.into())))
            .collect();
        Some(Self {
            expect: written_expect.into(),
            place: reader.place(flow.start),
            key: format!("{written_flow} {stated:?}").into(),
            written_flow: written_flow.into(),
            stated,
            flow: read?,
            expected: accept(expected, expect, reader)?,
            given,
        })
    }

    /// What `expect` names that is not in the policy.
    pub(super) fn problem(&self, policy: &Policy) -> Option<Problem> {
        let problem = |what: &str, word: &str, near: String| Problem {
            place: self.place.clone(),
            message: format!("no {what} is called `{}`{near}", Shown(word)),
        };
        match &self.expected {
            Expected::Verdict { rule, exit, .. } => {
                if let Some(rule) = rule
                    && **rule != *"default"
                    && !policy.rule_ids().any(|id| *id == **rule)
                {
                    return Some(problem("rule", rule, suggestion(rule, policy.rule_ids())));
                }
                let names = || policy.exits.iter().map(|exit| exit.name.as_ref());
                let exit = exit.as_ref()?;
                let known = names().any(|name| *name == **exit);
                (!known).then(|| problem("exit", exit, suggestion(exit, names())))
            }
            Expected::Action { entry, .. } => {
                let ids = || policy.sanitizers.iter().map(|entry| entry.id.as_ref());
                let entry = entry.as_ref()?;
                let known = ids().any(|id| *id == **entry);
                (!known).then(|| problem("sanitizer", entry, suggestion(entry, ids())))
            }
        }
    }

    /// As it stands in the file, every fact that it states included.
    pub(super) fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n[[test]]\nflow = {}", quoted(&self.written_flow))?;
        for (key, value) in &self.stated {
            writeln!(f, "{key} = {value}")?;
        }
        writeln!(f, "expect = {}", quoted(&self.expect))
    }

    /// The rule or sanitizer it expects; it says none if it expects that nothing happens.
    pub(super) fn names(&self) -> Option<&str> {
        match &self.expected {
            Expected::Verdict { rule, .. } => rule.as_deref(),
            Expected::Action { entry, .. } => entry.as_deref(),
        }
    }

    /// Whether it would pass for whatever reason.
    pub(super) fn is_vague(&self) -> bool {
        let passes =
            matches!(&self.expected, Expected::Action { action, .. } if **action == *"pass");
        self.names().is_none() && !passes
    }

    /// Whether what was expected came out, and what did.
    fn run(&self, policy: &Policy, data: &Data) -> (bool, String) {
        let mut address = data.lookup(self.flow.destination.ip());
        self.given.apply(&mut address);
        let names = self.given.names();
        let facts = Facts {
            source: source_of(self.flow.source.as_ref()),
            protocol: self.flow.protocol,
            destination: self.flow.destination,
            address,
            names: &names,
            opening: self.given.opening,
            data,
            wall: self.given.wall,
        };
        match &self.expected {
            Expected::Verdict { .. } => {
                let decision = policy.decide(&facts);
                let agrees = self.expected.agrees(policy, &decision);
                (agrees, policy.describe(&decision))
            }
            Expected::Action {
                leak,
                action,
                entry,
            } => {
                let found = policy.action(policy.active(&facts), &finding(leak));
                let Some((by, taken)) = found else {
                    return (**action == *"pass", "pass".into());
                };
                let id = policy.sanitizer_id(by);
                let agrees =
                    **action == *taken.name() && entry.as_ref().is_none_or(|entry| **entry == *id);
                (agrees, format!("{} by {id}", taken.name()))
            }
        }
    }
}

impl Flow {
    fn parse(text: &str, draft: &Draft<'_>) -> Result<Self, String> {
        let (from, to) = text
            .split_once("->")
            .ok_or("a flow is written `SOURCE -> ADDRESS:PORT/PROTOCOL`")?;
        let (from, to) = (from.trim(), to.trim());
        let source = match draft.sources.get(from) {
            Some(members) => members.first().cloned(),
            None if from == "*" => None,
            None => Some(parse_sender(from)?),
        };
        let (destination, protocol) = to.rsplit_once('/').unwrap_or((to, "tcp"));
        let protocol = match protocol {
            "tcp" => 6,
            "udp" => 17,
            "icmp" => 1,
            number => number.parse().map_err(|_| {
                format!("`{}` is none of tcp, udp, icmp or a number", Shown(number))
            })?,
        };
        let destination = destination
            .parse::<SocketAddr>()
            .or_else(|_| {
                let bare = destination.trim_start_matches('[').trim_end_matches(']');
                let address = bare.parse::<IpAddr>();
                address.map(|address| SocketAddr::new(address, 0))
            })
            .map_err(|_| format!("`{}` is not ADDRESS or ADDRESS:PORT", Shown(destination)))?;
        Ok(Self {
            source,
            destination,
            protocol,
        })
    }
}

impl Expected {
    fn verdict(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is not `[would ]allow|block|reroute[ by RULE][ via EXIT]`",
                Shown(text)
            )
        };
        let mut words = text.split_whitespace().peekable();
        let would = words.next_if_eq(&"would").is_some();
        let verb = words
            .next()
            .filter(|verb| matches!(*verb, "allow" | "block" | "reroute"))
            .ok_or_else(wrong)?
            .into();
        let (mut rule, mut exit) = (None, None);
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(wrong)?.into();
            match word {
                "by" if rule.is_none() => rule = Some(value),
                "via" if exit.is_none() => exit = Some(value),
                _ => return Err(wrong()),
            }
        }
        Ok(Self::Verdict {
            would,
            verb,
            rule,
            exit,
        })
    }

    fn action(text: &str, leak: &'static Leak) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{}` is not `report|redact|drop|reject[ by SANITIZER]` or `pass`",
                Shown(text)
            )
        };
        let words: Vec<&str> = text.split_whitespace().collect();
        let (action, entry) = match words.as_slice() {
            ["pass"] => ("pass", None),
            [action] => (*action, None),
            [action, "by", entry] => (*action, Some(Box::from(*entry))),
            _ => return Err(wrong()),
        };
        if !matches!(action, "pass" | "report" | "redact" | "drop" | "reject") {
            return Err(wrong());
        }
        Ok(Self::Action {
            leak,
            action: action.into(),
            entry,
        })
    }

    fn agrees(&self, policy: &Policy, decision: &Decision) -> bool {
        let Self::Verdict {
            would,
            verb,
            rule,
            exit,
        } = self
        else {
            return false;
        };
        let (found, origin) = match (would, decision.observed) {
            (true, None) => return false,
            (true, Some(origin)) => (policy.effect_name(origin), origin),
            (false, _) => (decision.verdict.name(), decision.origin),
        };
        let by = |rule: &str| *rule == *policy.rule_id(origin);
        let through = |exit: &str| via(decision).is_some_and(|id| policy.exit_name(id) == *exit);
        *found == **verb && rule.as_deref().is_none_or(by) && exit.as_deref().is_none_or(through)
    }
}

fn via(decision: &Decision) -> Option<ExitId> {
    match decision.verdict {
        Verdict::Pass(permit) => match permit.route() {
            Route::Via(exit) => Some(exit),
            Route::Direct => None,
        },
        Verdict::Block(_) => None,
    }
}

/// A leak that one detector tells of one field: only such a one is found in a payload.
fn single_leak(node: Node<'_>, reader: &mut Reader<'_>) -> Option<&'static Leak> {
    let term = leak(node, reader)?;
    if let Term::Leak(leak) = term {
        return Some(leak);
    }
    let message = format!(
        "`{}` stands for several leaks; a test is about one",
        term.name()
    );
    reader.problem(node.start, message);
    None
}

/// What a detector would tell of it.
fn finding(leak: &Leak) -> Finding {
    Finding {
        class: leak.class,
        detector: leak.detector,
        field: String::new(),
        leak: leak.name,
        certainty: Certainty::Certain,
        span: 0..0,
        earlier: (0, 0),
        decoded: false,
        sample: String::new(),
    }
}
