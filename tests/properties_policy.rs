//! The laws of `decide`, on random policies and facts, against a naive evaluator written from the law alone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "helpers of tests may fail loudly, and a table of all keys is long"
)]

use cordon::jurisdiction::{
    AddressFacts, Anycast, Confidence, Country, CountrySet, Data, FewCountries, Groups, Operators,
    Special,
};
use cordon::policy::{
    Decision, Evidence, Facts, Files, Name, Opening, Origin, Policy, Source, Step, Surroundings,
    Verdict,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

static DATA: LazyLock<Data> =
    LazyLock::new(|| Data::compile(Vec::new(), Operators::embedded().unwrap()).unwrap());
static GROUPS: LazyLock<Groups> = LazyLock::new(|| Groups::embedded().unwrap());

const ADDRESSES: [&str; 4] = ["8.8.8.8", "1.2.4.8", "2600::1", "10.0.0.1"];
const COUNTRIES: [&str; 3] = ["CN", "DE", "US"];
const OPERATORS: [&str; 3] = ["agora", "google", "hetzner"];
const NAMES: [&str; 5] = [
    "a.test",
    "x.a.test",
    "b.test",
    "ap1.agora.io",
    "www.google.com",
];
const PATTERNS: [&str; 4] = [".a.test", "b.test", ".test", ".agora.io"];
const PEERS: [&str; 2] = ["alice", "bob"];

/// One key of a rule.
#[derive(Clone, Debug)]
enum Key {
    Proto(Vec<u8>),
    Port(Vec<u16>),
    Ip(Vec<&'static str>),
    From(Vec<&'static str>),
    Asn(Vec<u32>),
    Anycast(bool),
    Cleartext(bool),
    Operator(Vec<&'static str>),
    Country(Vec<&'static str>),
    OperatorCountry(Vec<&'static str>),
    Jurisdiction(Vec<&'static str>),
    Domain(Vec<&'static str>),
}

#[derive(Clone, Debug)]
struct Rule {
    keys: Vec<(Key, bool)>,
    action: &'static str,
    unknown_blocks: bool,
    in_flow: bool,
    until: Option<u64>,
    locked: bool,
}

#[derive(Clone, Debug)]
struct Case {
    peer: Option<&'static str>,
    protocol: u8,
    port: u16,
    address: usize,
    local: bool,
    located: Vec<&'static str>,
    seat: Option<&'static str>,
    asn: Option<u32>,
    operator: Option<&'static str>,
    anycast: Option<bool>,
    cleartext: Option<bool>,
    names: Vec<(&'static str, bool)>,
    wall: Option<u64>,
}

fn some<T: Clone + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = Vec<T>> {
    subsequence(all, 1..=all.len())
}

fn places() -> impl Strategy<Value = Vec<&'static str>> {
    some(&["CN", "DE", "US", "local"])
}

fn key() -> impl Strategy<Value = (Key, bool)> {
    prop_oneof![
        some(&[1u8, 6, 17]).prop_map(Key::Proto),
        some(&[53u16, 80, 443]).prop_map(Key::Port),
        some(&ADDRESSES).prop_map(Key::Ip),
        some(&PEERS).prop_map(Key::From),
        some(&[1u32, 2]).prop_map(Key::Asn),
        any::<bool>().prop_map(Key::Anycast),
        any::<bool>().prop_map(Key::Cleartext),
        some(&OPERATORS).prop_map(Key::Operator),
        places().prop_map(Key::Country),
        places().prop_map(Key::OperatorCountry),
        places().prop_map(Key::Jurisdiction),
        some(&PATTERNS).prop_map(Key::Domain),
    ]
    .prop_flat_map(|key| {
        let can_be_negated = !matches!(key, Key::Anycast(_) | Key::Cleartext(_));
        (
            Just(key),
            prop::bool::weighted(0.3).prop_map(move |negate| negate && can_be_negated),
        )
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    (
        vec(key(), 0..3),
        select(&["allow", "block", "reroute"][..]),
        any::<bool>(),
        prop::bool::weighted(0.2),
        option::weighted(0.2, select(&[100u64, 200][..])),
        any::<bool>(),
    )
        .prop_map(
            |(mut keys, action, unknown_blocks, in_flow, until, locked)| {
                keys.sort_by_key(|(key, negate)| (key.name(), *negate));
                keys.dedup_by_key(|(key, negate)| (key.name(), *negate));
                Rule {
                    keys,
                    action,
                    unknown_blocks,
                    in_flow,
                    until,
                    locked,
                }
            },
        )
}

fn case() -> impl Strategy<Value = Case> {
    (
        (
            option::of(select(&PEERS[..])),
            select(&[1u8, 6, 17, 58][..]),
            select(&[53u16, 80, 443, 0][..]),
            0..ADDRESSES.len(),
            prop::bool::weighted(0.1),
        ),
        (
            subsequence(&COUNTRIES[..], 0..=2),
            option::of(select(&COUNTRIES[..])),
            option::of(select(&[1u32, 2, 3][..])),
            option::of(select(&OPERATORS[..])),
            option::of(any::<bool>()),
            option::of(any::<bool>()),
        ),
        vec((select(&NAMES[..]), any::<bool>()), 0..4),
        option::of(select(&[50u64, 150, 250][..])),
    )
        .prop_map(
            |(
                (peer, protocol, port, address, local),
                (located, seat, asn, operator, anycast, cleartext),
                names,
                wall,
            )| Case {
                peer,
                protocol,
                port,
                address,
                local,
                located,
                seat,
                asn,
                operator,
                anycast,
                cleartext,
                names,
                wall,
            },
        )
}

impl Key {
    fn name(&self) -> &'static str {
        match self {
            Self::Proto(_) => "proto",
            Self::Port(_) => "port",
            Self::Ip(_) => "ip",
            Self::From(_) => "from",
            Self::Asn(_) => "asn",
            Self::Anycast(_) => "anycast",
            Self::Cleartext(_) => "cleartext",
            Self::Operator(_) => "operator",
            Self::Country(_) => "country",
            Self::OperatorCountry(_) => "operator_country",
            Self::Jurisdiction(_) => "jurisdiction",
            Self::Domain(_) => "domain",
        }
    }

    fn value(&self) -> String {
        match self {
            Self::Proto(numbers) => format!("{numbers:?}"),
            Self::Port(ports) => format!("{ports:?}"),
            Self::Asn(numbers) => format!("{numbers:?}"),
            Self::Anycast(value) | Self::Cleartext(value) => value.to_string(),
            Self::From(peers) => {
                let peers: Vec<String> = peers.iter().map(|peer| format!("wg:{peer}")).collect();
                format!("{peers:?}")
            }
            Self::Ip(words)
            | Self::Operator(words)
            | Self::Country(words)
            | Self::OperatorCountry(words)
            | Self::Jurisdiction(words)
            | Self::Domain(words) => format!("{words:?}"),
        }
    }
}

fn text(rules: &[Rule], default: &str, more: &str) -> String {
    let exits = "[exits]\nse = { kind = \"wireguard\", profile = \"se\" }\n";
    let head = format!("version = 1\n{more}\n[default]\naction = \"{default}\"\n{exits}");
    head + &written(rules, 0)
}

/// The rules, called r`first` and so on.
fn written(rules: &[Rule], first: usize) -> String {
    let mut text = String::new();
    for (number, rule) in (first..).zip(rules) {
        let _ = writeln!(
            text,
            "[[rule]]\nid = \"r{number}\"\naction = \"{}\"",
            rule.action
        );
        for (key, negate) in &rule.keys {
            let not = if *negate { "not_" } else { "" };
            let _ = writeln!(text, "{not}{} = {}", key.name(), key.value());
        }
        match rule.action {
            "reroute" => text += "exit = \"se\"\n",
            "block" if !rule.unknown_blocks => text += "on_unknown = \"allow\"\n",
            _ => {}
        }
        if rule.in_flow {
            text += "evidence = \"sni\"\n";
        }
        if rule.locked {
            text += "locked = true\n";
        }
        if let Some(until) = rule.until {
            let minutes = until / 60;
            let seconds = until % 60;
            let _ = writeln!(
                text,
                "observe_until = 1970-01-01T00:{minutes:02}:{seconds:02}Z"
            );
        }
    }
    text
}

/// A policy may extend the one that stands beside it as `base`.
#[derive(Debug)]
struct Base(String);

impl Files for Base {
    fn read(&self, _path: &str) -> Result<String, String> {
        Ok(self.0.clone())
    }
}

fn load(text: &str) -> Policy {
    load_over("", text)
}

fn load_over(base: &str, text: &str) -> Policy {
    let around = Surroundings {
        data: &DATA,
        groups: &GROUPS,
    };
    Policy::load_with("p", text, &around, &Base(base.into()))
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn set(codes: &[&str]) -> CountrySet {
    codes
        .iter()
        .map(|code| Country::parse(code).unwrap())
        .collect()
}

impl Case {
    fn address(&self) -> AddressFacts {
        let looked_up_as: IpAddr = ADDRESSES[self.address].parse().unwrap();
        let country = |code: &str| Country::parse(code).unwrap();
        let known = !self.local;
        AddressFacts {
            looked_up_as,
            embedded: None,
            special: self.local.then_some(Special::Private),
            country: self
                .located
                .first()
                .filter(|_| known)
                .map(|code| country(code)),
            located: if known {
                set(&self.located).iter().collect()
            } else {
                FewCountries::default()
            },
            registered: None,
            registered_in: FewCountries::default(),
            asn: self.asn.filter(|_| known),
            operator: self
                .operator
                .filter(|_| known)
                .and_then(|id| DATA.operator_by_id(id)),
            operator_country: self.seat.filter(|_| known).map(country),
            anycast: match self.anycast.filter(|_| known) {
                Some(true) => Anycast::Yes,
                Some(false) => Anycast::No,
                None => Anycast::Unknown,
            },
            confidence: Confidence::None,
        }
    }

    fn with<T>(&self, run: impl FnOnce(&Facts<'_>) -> T) -> T {
        let names: Vec<Name<'_>> = self
            .names
            .iter()
            .map(|(name, in_flow)| Name {
                name,
                evidence: if *in_flow {
                    Evidence::Sni
                } else {
                    Evidence::Dns { age: 1 }
                },
            })
            .collect();
        let address = self.address();
        run(&Facts {
            source: Source {
                address: "192.168.0.9".parse().unwrap(),
                mac: None,
                peer: self.peer,
            },
            protocol: self.protocol,
            destination: SocketAddr::new(address.looked_up_as, self.port),
            address,
            names: &names,
            opening: Opening {
                sni_missing: None,
                cleartext: self.cleartext,
            },
            data: &DATA,
            wall: self.wall,
        })
    }

    fn decide(&self, policy: &Policy) -> Decision {
        self.with(|facts| policy.decide(facts))
    }
}

/// The law, naively: a list of what is claimed, whether something is missing, and whether what is there suffices.
struct Claims<T> {
    all: Vec<T>,
    missing: bool,
    suffices: bool,
}

fn judge<T>(
    claims: &Claims<T>,
    inside: impl Fn(&T) -> bool,
    negate: bool,
    stops: bool,
) -> Option<bool> {
    let good = |claim: &T| inside(claim) != negate;
    if stops {
        match (claims.all.iter().any(good), claims.missing) {
            (true, _) => Some(true),
            (false, true) => None,
            (false, false) => Some(false),
        }
    } else {
        match (claims.all.iter().all(good), claims.suffices) {
            (false, _) => Some(false),
            (true, true) => Some(true),
            (true, false) => None,
        }
    }
}

fn one<T>(value: Option<T>) -> Claims<T> {
    let known = value.is_some();
    Claims {
        all: value.into_iter().collect(),
        missing: !known,
        suffices: known,
    }
}

fn operator_of(name: &str) -> Option<&'static str> {
    match name {
        "ap1.agora.io" => Some("agora"),
        "www.google.com" => Some("google"),
        _ => None,
    }
}

fn seat_of(operator: &str) -> &'static str {
    match operator {
        "agora" => "CN",
        "google" => "US",
        _ => "DE",
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_prefix('.') {
        Some(bare) => name == bare || name.ends_with(pattern),
        None => name == pattern,
    }
}

impl Case {
    fn holds(&self, key: &Key, negate: bool, rule: &Rule) -> Option<bool> {
        let stops = rule.action == "block";
        let ports = matches!(self.protocol, 6 | 17);
        match key {
            Key::Proto(numbers) => judge(
                &one(Some(self.protocol)),
                |p| numbers.contains(p),
                negate,
                stops,
            ),
            Key::Port(list) => judge(
                &one(Some(self.port)),
                |p| ports && list.contains(p),
                negate,
                stops,
            ),
            Key::Ip(list) => judge(
                &one(Some(ADDRESSES[self.address])),
                |ip| list.contains(ip),
                negate,
                stops,
            ),
            Key::From(peers) => judge(
                &one(Some(self.peer)),
                |peer| peer.is_some_and(|peer| peers.contains(&peer)),
                negate,
                stops,
            ),
            Key::Asn(list) if self.local => {
                judge(&one(Some(())), |()| list.is_empty(), negate, stops)
            }
            Key::Asn(list) => judge(&one(self.asn), |asn| list.contains(asn), negate, stops),
            Key::Anycast(wanted) => {
                let fact = if self.local {
                    Some(false)
                } else {
                    self.anycast
                };
                judge(&one(fact), |fact| fact == wanted, negate, stops)
            }
            Key::Cleartext(wanted) => {
                judge(&one(self.cleartext), |fact| fact == wanted, negate, stops)
            }
            Key::Operator(list) => {
                let of_names = self.names.iter().filter_map(|(name, _)| operator_of(name));
                let own = match (self.local, self.operator, self.asn) {
                    (true, ..) => Some("none"),
                    (false, Some(operator), _) => Some(operator),
                    (false, None, Some(_)) => Some("none"),
                    (false, None, None) => None,
                };
                let mut claims = one(own);
                claims.all.extend(of_names);
                judge(&claims, |operator| list.contains(operator), negate, stops)
            }
            Key::Country(list) => self.lies(list, &[self.location(negate)], negate, stops),
            Key::OperatorCountry(list) => self.lies(list, &[self.seats()], negate, stops),
            Key::Jurisdiction(list) => {
                self.lies(list, &[self.location(negate), self.seats()], negate, stops)
            }
            Key::Domain(patterns) => {
                let shown = self.names.iter().any(|(_, in_flow)| *in_flow);
                let only_shown = rule.in_flow || (!stops && shown);
                let names: Vec<&str> = self
                    .names
                    .iter()
                    .filter(|(_, in_flow)| *in_flow || !only_shown)
                    .map(|(name, _)| *name)
                    .collect();
                let inside = |name: &&str| patterns.iter().any(|pattern| matches(pattern, name));
                let claims = Claims {
                    missing: names.is_empty(),
                    suffices: !names.is_empty(),
                    all: names,
                };
                let answer = judge(&claims, inside, negate, stops);
                if self.only_claims(answer, only_shown, stops) {
                    return None;
                }
                // A better name may still come, and let go what a DNS answer speaks against.
                let may_improve = !stops && ports && !shown && !claims.missing;
                if may_improve && answer == Some(false) {
                    None
                } else {
                    answer
                }
            }
        }
    }

    /// Whether nothing but what the flow claims speaks for letting go, or against stopping.
    fn only_claims(&self, answer: Option<bool>, only_shown: bool, stops: bool) -> bool {
        let answered = |name: &str| {
            self.names
                .iter()
                .any(|(known, shown)| !shown && *known == name)
        };
        let mut shown = self.names.iter().filter(|(_, shown)| *shown);
        let believed = if only_shown {
            shown.all(|(name, _)| answered(name))
        } else {
            self.names.iter().any(|(_, shown)| !shown)
        };
        answer == Some(!stops) && !believed
    }

    /// Whether a condition that cannot be told would hold if the flow is what it claims to be.
    fn is_claim(&self, key: &Key, negate: bool, rule: &Rule) -> bool {
        let shown = self.names.iter().any(|(_, shown)| *shown);
        matches!(key, Key::Domain(_)) && shown && {
            let mut answered = self.clone();
            answered.names.retain(|(_, shown)| *shown);
            let shown = answered.names.clone();
            answered
                .names
                .extend(shown.iter().map(|(name, _)| (*name, false)));
            answered.holds(key, negate, rule) == Some(true)
        }
    }

    fn lies(
        &self,
        list: &[&str],
        claims: &[Claims<&'static str>],
        negate: bool,
        stops: bool,
    ) -> Option<bool> {
        if self.local {
            return Some(list.contains(&"local") != negate);
        }
        let together = Claims {
            all: claims
                .iter()
                .flat_map(|claims| claims.all.clone())
                .collect(),
            missing: claims.iter().any(|claims| claims.missing),
            suffices: claims.iter().any(|claims| claims.suffices),
        };
        judge(&together, |country| list.contains(country), negate, stops)
    }

    fn location(&self, negate: bool) -> Claims<&'static str> {
        let anycast = self.anycast == Some(true);
        Claims {
            all: self.located.clone(),
            missing: self.located.is_empty() || (anycast && negate),
            suffices: !self.located.is_empty() && !anycast,
        }
    }

    fn seats(&self) -> Claims<&'static str> {
        let mut claims = one(self.seat);
        let of_names = self.names.iter().filter_map(|(name, _)| operator_of(name));
        claims.all.extend(of_names.map(seat_of));
        claims
    }

    /// Verdict, rule, whether by unknown, and the observed rule that would have decided otherwise.
    fn reference(&self, rules: &[Rule], default: &str) -> (String, String, bool, Option<String>) {
        let mut observed: Option<(String, &str)> = None;
        let mut claimed: Option<String> = None;
        let done =
            |action: &str, id: String, unknown, observed: Option<(String, &str)>, claimed| {
                let (action, id) = match claimed {
                    Some(claimed) if action == "allow" => ("reroute", claimed),
                    _ => (action, id),
                };
                let observed = observed.filter(|(_, other)| *other != action);
                (action.to_owned(), id, unknown, observed.map(|(id, _)| id))
            };
        for (number, rule) in rules.iter().enumerate() {
            let id = format!("r{number}");
            let answers: Vec<Option<bool>> = rule
                .keys
                .iter()
                .map(|(key, negate)| self.holds(key, *negate, rule))
                .collect();
            let truth = if answers.contains(&Some(false)) {
                Some(false)
            } else if answers.contains(&None) {
                None
            } else {
                Some(true)
            };
            let fires = truth.unwrap_or(rule.action == "block" && rule.unknown_blocks);
            let watched = rule.until.is_some_and(|until| match self.wall {
                Some(now) => now < until,
                None => rule.action != "block",
            });
            if fires && watched {
                observed.get_or_insert((id, rule.action));
            } else if fires {
                return done(rule.action, id, truth.is_none(), observed, claimed);
            } else if truth.is_none() && rule.action == "reroute" && !watched {
                let mut unknown = rule
                    .keys
                    .iter()
                    .zip(&answers)
                    .filter(|(_, answer)| answer.is_none());
                if unknown.all(|((key, negate), _)| self.is_claim(key, *negate, rule)) {
                    claimed.get_or_insert(id);
                }
            }
        }
        done(default, "default".into(), false, observed, claimed)
    }
}

fn summary(policy: &Policy, decision: &Decision) -> (String, String, bool, Option<String>) {
    (
        decision.verdict.name().into(),
        policy.rule_id(decision.origin).into(),
        decision.unknown,
        decision
            .observed
            .map(|origin| policy.rule_id(origin).into()),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decide_is_the_first_match_of_the_law(
        rules in vec(rule(), 0..6), default in select(&["allow", "block"][..]), case in case(),
    ) {
        let policy = load(&text(&rules, default, ""));
        let decision = case.decide(&policy);
        prop_assert_eq!(summary(&policy, &decision), case.reference(&rules, default));
        prop_assert_eq!(decision, case.decide(&policy));
    }

    #[test]
    fn explain_decides_as_decide_does_and_its_trace_ends_with_the_rule(
        rules in vec(rule(), 0..40), case in case(),
    ) {
        let policy = load(&text(&rules, "block", ""));
        let decision = case.decide(&policy);
        let why = case.with(|facts| policy.explain(facts));
        prop_assert_eq!(why.decision, decision);
        prop_assert_eq!(why.verdict, decision.verdict.name());
        match decision.origin {
            // Only a reroute by a claim is decided on after later rules.
            Origin::Rule(_) if why.verdict == "reroute" => {
                prop_assert!(why.trace.iter().any(|step| step.rule == why.rule))
            }
            Origin::Rule(_) => prop_assert_eq!(&why.trace.last().unwrap().rule, &why.rule),
            Origin::Default => prop_assert_eq!(why.trace.len(), rules.len()),
        }
    }

    #[test]
    fn unknown_never_satisfies_a_rule_that_lets_go(rules in vec(rule(), 1..6), case in case()) {
        let asks_for_facts = |rule: &Rule| rule.keys.iter().any(|(key, _)| {
            !matches!(key, Key::Proto(_) | Key::Port(_) | Key::Ip(_) | Key::From(_))
        });
        let rules: Vec<Rule> = rules.into_iter().filter(asks_for_facts).collect();
        let nothing = Case {
            local: false, located: vec![], seat: None, asn: None, operator: None, anycast: None, cleartext: None,
            names: vec![], ..case
        };
        let decision = nothing.decide(&load(&text(&rules, "block", "")));
        prop_assert!(matches!(decision.verdict, Verdict::Block(_)), "{:?}", decision);
    }

    #[test]
    fn a_source_that_disagrees_never_turns_a_block_into_a_pass(
        rules in vec(rule(), 0..6), case in case(), country in select(&COUNTRIES[..]),
    ) {
        let policy = load(&text(&rules, "block", ""));
        let mut disputed = case.clone();
        disputed.located.push(country);
        let blocked = matches!(case.decide(&policy).verdict, Verdict::Block(_));
        if blocked && !case.located.is_empty() {
            let verdict = disputed.decide(&policy).verdict;
            prop_assert!(matches!(verdict, Verdict::Block(_)), "{:?}", verdict);
        }
    }

    #[test]
    fn a_block_that_waits_for_nothing_stands_whatever_name_the_flow_shows(
        rules in vec(rule(), 0..6), case in case(), name in select(&NAMES[..]),
    ) {
        let policy = load(&text(&rules, "block", ""));
        let decision = case.decide(&policy);
        let shows_names = matches!(case.protocol, 6 | 17) && !case.names.iter().any(|(_, shown)| *shown);
        let mut named = case;
        named.names.push((name, true));
        if shows_names && !decision.needs_more() && matches!(decision.verdict, Verdict::Block(_)) {
            let verdict = named.decide(&policy).verdict;
            prop_assert!(matches!(verdict, Verdict::Block(_)), "{:?}", verdict);
        }
    }

    #[test]
    fn what_a_flow_claims_never_lets_go_what_was_blocked(
        rules in vec(rule(), 0..6), case in case(), name in select(&NAMES[..]),
    ) {
        let policy = load(&text(&rules, "block", ""));
        let answered = case.names.iter().any(|(known, shown)| !shown && *known == name);
        let mut claiming = case.clone();
        claiming.names.push((name, true));
        let blocked = matches!(case.decide(&policy).verdict, Verdict::Block(_));
        if blocked && !answered {
            let verdict = claiming.decide(&policy).verdict;
            prop_assert!(matches!(verdict, Verdict::Block(_)), "{:?}", verdict);
        }
    }

    #[test]
    fn a_permit_is_for_the_flow_that_was_judged(rules in vec(rule(), 0..6), case in case()) {
        let policy = load(&text(&rules, "allow", ""));
        if let Verdict::Pass(permit) = case.decide(&policy).verdict {
            prop_assert_eq!(permit.protocol(), case.protocol);
            prop_assert_eq!(permit.destination().port(), case.port);
            prop_assert_eq!(permit.destination().ip().to_string(), ADDRESSES[case.address]);
        }
    }

    #[test]
    fn a_sanitizer_never_permits(rules in vec(rule(), 0..6), case in case()) {
        let sanitizer = "[[sanitize]]\nid = \"s\"\nleak = [\"secret\"]\naction = \"report\"\n";
        let plain = text(&rules, "block", "");
        let decision = case.decide(&load(&plain));
        prop_assert_eq!(case.decide(&load(&(plain + sanitizer))), decision);
    }

    #[test]
    fn in_observe_mode_everything_passes_directly(rules in vec(rule(), 0..6), case in case()) {
        let decision = case.decide(&load(&text(&rules, "block", "mode = \"observe\"")));
        prop_assert_eq!(decision.verdict.name(), "allow");
    }

    #[test]
    fn parse_print_parse_is_a_fixpoint(rules in vec(rule(), 0..6), case in case()) {
        let policy = load(&text(&rules, "block", "name = \"x\""));
        let printed = policy.to_string();
        let again = load(&printed);
        prop_assert_eq!(again.to_string(), printed);
        prop_assert_eq!(case.decide(&again), case.decide(&policy));
    }

    #[test]
    fn inheritance_cannot_relax_a_locked_rule(
        inherited in vec(rule(), 0..6), own in vec(rule(), 0..4), default in select(&["allow", "block"][..]),
        mode in select(&["observe", "enforce"][..]), on_unknown in select(&["allow", "block"][..]), case in case(),
    ) {
        let base = text(&inherited, "block", "");
        let child = format!(
            "version = 1\nextends = \"base\"\nmode = \"{mode}\"\n[default]\naction = \"{default}\"\n\
             on_unknown = \"{on_unknown}\"\n{}",
            written(&own, inherited.len())
        );
        let policy = load_over(&base, &child);
        // What the locked rules alone say; whatever they do not decide is allowed.
        let mut floor_rules = inherited;
        for rule in &mut floor_rules {
            if !rule.locked {
                // It can never match: nothing is both.
                rule.keys = vec![(Key::Proto(vec![6]), false), (Key::Proto(vec![6]), true)];
            }
        }
        let floor = load(&text(&floor_rules, "allow", ""));
        let wanted = case.decide(&floor);
        if let Origin::Rule(_) = wanted.origin {
            let decision = case.decide(&policy);
            let why = case.with(|facts| floor.explain(facts));
            let by_claim = |step: &Step| step.rule == why.rule && step.matched == "unknown";
            if why.verdict == "reroute" && why.trace.iter().any(by_claim) {
                // A reroute by a claim: it holds against whatever would let go, not against what stops.
                prop_assert_ne!(decision.verdict.name(), "allow");
                return Ok(());
            }
            prop_assert_eq!(decision.verdict.name(), wanted.verdict.name());
            prop_assert_eq!(policy.rule_id(decision.origin), floor.rule_id(wanted.origin));
            prop_assert_eq!(decision.unknown, wanted.unknown);
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(noise in "\\PC{0,200}") {
        let around = Surroundings { data: &DATA, groups: &GROUPS };
        prop_assert!(Policy::load("p", &noise, &around).is_err());
    }

    #[test]
    fn no_damage_to_a_policy_makes_the_parser_panic(
        rules in vec(rule(), 0..4), cut in any::<prop::sample::Index>(), noise in "\\PC{0,8}", take in 0usize..20,
    ) {
        let whole = text(&rules, "block", "name = \"x\"");
        let mut start = cut.index(whole.len());
        while !whole.is_char_boundary(start) {
            start -= 1;
        }
        let rest = whole.get(start + take..).unwrap_or_default();
        let damaged = format!("{}{noise}{rest}", &whole[..start]);
        let around = Surroundings { data: &DATA, groups: &GROUPS };
        if let Err(error) = Policy::load("p", &damaged, &around) {
            prop_assert!(!error.problems().is_empty());
            for problem in error.problems() {
                prop_assert!(problem.place.line >= 1 && problem.place.column >= 1);
                prop_assert!(!problem.message.contains('\n'), "{}", problem);
            }
        }
    }
}
