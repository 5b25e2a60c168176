//! A policy's own tests: a flow, and what is to become of it.

use super::compiled::Policy;
use super::condition::Member;
use super::domains;
use super::facts::{Evidence, Facts, Name, Opening, Source};
use super::parse::Draft;
use super::problem::{Place, Problem, suggestion};
use super::reader::{Fields, Node, Reader, Shown};
use super::resolve;
use super::values::{accept, parse_sender, quoted};
use super::verdict::{Decision, ExitId, Origin, Route, Verdict};
use crate::jurisdiction::{AddressFacts, Anycast, Asn, Country, Data, OperatorId};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// One `[[test]]`.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) flow: Box<str>,
    pub(super) expect: Box<str>,
    pub(super) place: Place,
    /// The same for tests that ask the same.
    pub(super) key: Box<str>,
    /// The facts it states, as they are written.
    stated: Vec<(&'static str, Box<str>)>,
    flow_read: Flow,
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

/// `[would ]VERB[ by RULE][ via EXIT]`.
#[derive(Clone, Debug)]
struct Expected {
    would: bool,
    verb: Box<str>,
    rule: Option<Box<str>>,
    exit: Option<Box<str>>,
}

/// Facts that the test states; those it does not state come from the data.
#[derive(Clone, Debug, Default)]
struct Given {
    name: Option<(Box<str>, Evidence)>,
    country: Option<Option<Country>>,
    operator: Option<Option<OperatorId>>,
    operator_country: Option<Option<Country>>,
    asn: Option<Asn>,
    anycast: Option<bool>,
    opening: Opening,
    wall: Option<u64>,
}

/// Who sends, as a policy names senders.
#[derive(Clone, Debug)]
pub struct Sender(Option<Member>);

impl Sender {
    /// As a fact.
    pub fn source(&self) -> Source<'_> {
        source_of(self.0.as_ref())
    }
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

const KEYS: [&str; 12] = [
    "flow",
    "expect",
    "name",
    "evidence",
    "country",
    "operator",
    "operator_country",
    "asn",
    "anycast",
    "sni_missing",
    "cleartext",
    "at",
];

impl Policy {
    /// Runs the policy's own tests against the data.
    pub fn run_tests(&self, data: &Data) -> Vec<TestResult> {
        self.cases
            .iter()
            .map(|case| {
                let decision = case.decide(self, data);
                TestResult {
                    place: case.place.clone(),
                    flow: case.flow.to_string(),
                    expected: case.expect.to_string(),
                    found: self.describe(&decision),
                    passed: case.expected.agrees(self, &decision),
                }
            })
            .collect()
    }

    /// Who sends, by the name of a source (then its first member stands for it), by `mac:…`, `wg:PEER`, an address or a
    /// network, or by `*` for a sender of whom nothing is known.
    pub fn sender(&self, text: &str) -> Result<Sender, String> {
        let declared = &self.declared.sources;
        if let Some((_, members, _)) = declared.iter().find(|(name, ..)| **name == *text) {
            return Ok(Sender(members.first().cloned()));
        }
        if text == "*" {
            return Ok(Sender(None));
        }
        parse_sender(text).map(|member| Sender(Some(member)))
    }

    /// A decision in the words of a test's `expect`.
    fn describe(&self, decision: &Decision) -> String {
        let mut text = format!(
            "{} by {}",
            decision.verdict.name(),
            self.rule_id(decision.origin)
        );
        if let Some(exit) = via(decision) {
            text += &format!(" via {}", self.exit_name(exit));
        }
        if let Some(origin) = decision.observed {
            text += &format!(
                ", would {} by {}",
                self.effect_name(origin),
                self.rule_id(origin)
            );
        }
        text
    }

    pub(super) fn exit_name(&self, exit: ExitId) -> String {
        self.exit(exit)
            .map(|exit| exit.name.to_string())
            .unwrap_or_default()
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
        let fields = node.fields(&KEYS, reader)?;
        let flow = fields.require("flow", reader);
        let expect = fields.require("expect", reader);
        let given = Given::read(&fields, draft, reader);
        let (flow, expect) = (flow?, expect?);
        let (flow_text, expect_text) = (flow.string(reader)?, expect.string(reader)?);
        let flow_read = accept(Flow::parse(flow_text, draft), flow, reader);
        let expected = accept(Expected::parse(expect_text), expect, reader);
        Some(Self {
            key: format!("{flow_text} {given:?}").into(),
            flow: flow_text.into(),
            expect: expect_text.into(),
            place: reader.place(flow.start),
            flow_read: flow_read?,
            expected: expected?,
            stated: KEYS
                .into_iter()
                .filter(|key| !matches!(*key, "flow" | "expect"))
                .filter_map(|key| Some((key, fields.get(key)?.written()?.into())))
                .collect(),
            given,
        })
    }

    /// What `expect` names that is not in the policy.
    pub(super) fn problem(&self, policy: &Policy) -> Option<Problem> {
        let problem = |what: &str, word: &str, near: String| Problem {
            place: self.place.clone(),
            message: format!("no {what} is called `{}`{near}", Shown(word)),
        };
        if let Some(rule) = &self.expected.rule
            && **rule != *"default"
            && !policy.rule_ids().any(|id| *id == **rule)
        {
            return Some(problem("rule", rule, suggestion(rule, policy.rule_ids())));
        }
        let names = || policy.exits.iter().map(|exit| exit.name.as_ref());
        if let Some(exit) = &self.expected.exit
            && !names().any(|name| *name == **exit)
        {
            return Some(problem("exit", exit, suggestion(exit, names())));
        }
        None
    }

    /// The rule it expects.
    pub(super) fn rule(&self) -> Option<&str> {
        self.expected.rule.as_deref()
    }

    /// As it stands in the file, every fact that it states included.
    pub(super) fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n[[test]]\nflow = {}", quoted(&self.flow))?;
        for (key, value) in &self.stated {
            writeln!(f, "{key} = {value}")?;
        }
        writeln!(f, "expect = {}", quoted(&self.expect))
    }

    fn decide(&self, policy: &Policy, data: &Data) -> Decision {
        let mut address = data.lookup(self.flow_read.destination.ip());
        self.given.apply(&mut address);
        let names: Vec<Name<'_>> = self
            .given
            .name
            .iter()
            .map(|(name, evidence)| Name {
                name,
                evidence: *evidence,
            })
            .collect();
        policy.decide(&Facts {
            source: source_of(self.flow_read.source.as_ref()),
            protocol: self.flow_read.protocol,
            destination: self.flow_read.destination,
            address,
            names: &names,
            opening: self.given.opening,
            data,
            wall: self.given.wall,
        })
    }
}

/// A sender as a member of a source describes it: of a network its first address.
pub(super) fn source_of(member: Option<&Member>) -> Source<'_> {
    let mut source = Source {
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        mac: None,
        peer: None,
    };
    match member {
        Some(Member::Mac(mac)) => source.mac = Some(*mac),
        Some(Member::Peer(name)) => source.peer = Some(name),
        Some(Member::Net(net)) => source.address = net.addr(),
        None => {}
    }
    source
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
                bare.parse()
                    .map(|address: IpAddr| SocketAddr::new(address, 0))
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
    fn parse(text: &str) -> Result<Self, String> {
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
            .ok_or_else(wrong)?;
        let mut expected = Self {
            would,
            verb: verb.into(),
            rule: None,
            exit: None,
        };
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(wrong)?.into();
            match word {
                "by" => expected.rule = Some(value),
                "via" => expected.exit = Some(value),
                _ => return Err(wrong()),
            }
        }
        Ok(expected)
    }

    fn agrees(&self, policy: &Policy, decision: &Decision) -> bool {
        let (verb, origin) = if self.would {
            let Some(origin) = decision.observed else {
                return false;
            };
            (policy.effect_name(origin), origin)
        } else {
            (decision.verdict.name(), decision.origin)
        };
        *verb == *self.verb
            && self
                .rule
                .as_ref()
                .is_none_or(|rule| **rule == *policy.rule_id(origin))
            && self
                .exit
                .as_ref()
                .is_none_or(|exit| via(decision).is_some_and(|id| policy.exit_name(id) == **exit))
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

impl Given {
    fn read(fields: &Fields<'_>, draft: &Draft<'_>, reader: &mut Reader<'_>) -> Self {
        Self {
            name: Self::name(fields, reader),
            country: fields.get("country").and_then(|node| country(node, reader)),
            operator: fields.get("operator").and_then(|node| {
                let text = node.string(reader)?;
                if text == "unknown" {
                    return Some(None);
                }
                let operator =
                    resolve::operators(draft.data, text).map(|_| draft.data.operator_by_id(text));
                accept(operator, node, reader)
            }),
            operator_country: fields
                .get("operator_country")
                .and_then(|node| country(node, reader)),
            asn: fields
                .get("asn")
                .and_then(|node| node.integer(0..=u32::MAX, reader)),
            anycast: fields.get("anycast").and_then(|node| node.boolean(reader)),
            opening: Opening {
                sni_missing: fields
                    .get("sni_missing")
                    .and_then(|node| node.boolean(reader)),
                cleartext: fields
                    .get("cleartext")
                    .and_then(|node| node.boolean(reader)),
            },
            wall: fields
                .get("at")
                .and_then(|node| super::values::instant(node, reader)),
        }
    }

    fn name(fields: &Fields<'_>, reader: &mut Reader<'_>) -> Option<(Box<str>, Evidence)> {
        const WORDS: [(&str, Evidence); 4] = [
            ("sni", Evidence::Sni),
            ("host", Evidence::Host),
            ("quic", Evidence::Quic),
            ("dns", Evidence::Dns { age: 0 }),
        ];
        let evidence = match fields.get("evidence") {
            Some(node) => node.word(&WORDS, reader)?,
            None => Evidence::Dns { age: 0 },
        };
        let node = fields.get("name")?;
        let text = node.string(reader)?;
        let name = domains::canonical(text)
            .ok_or_else(|| format!("`{}` is not a domain name", Shown(text)));
        Some((accept(name, node, reader)?.into(), evidence))
    }

    fn apply(&self, address: &mut AddressFacts) {
        let states_a_fact = self.country.is_some()
            || self.operator.is_some()
            || self.operator_country.is_some()
            || self.asn.is_some()
            || self.anycast.is_some();
        if states_a_fact {
            // A documentation address may then stand for any on the internet.
            address.special = None;
        }
        if let Some(country) = self.country {
            resolve::locate(address, country);
        }
        if let Some(operator) = self.operator {
            address.operator = operator;
        }
        if let Some(country) = self.operator_country {
            address.operator_country = country;
        }
        if let Some(asn) = self.asn {
            address.asn = Some(asn);
        }
        if let Some(anycast) = self.anycast {
            address.anycast = if anycast { Anycast::Yes } else { Anycast::No };
        }
    }
}

/// A country code, or `unknown`.
fn country(node: Node<'_>, reader: &mut Reader<'_>) -> Option<Option<Country>> {
    let text = node.string(reader)?;
    if text == "unknown" {
        return Some(None);
    }
    let country = Country::parse(text).map_err(|bad| format!("`{}` {bad}", Shown(text)));
    accept(country, node, reader).map(Some)
}
