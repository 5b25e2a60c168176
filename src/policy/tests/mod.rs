//! The law of the language, one claim a test.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests may fail loudly"
)]

mod files;

use super::*;
use crate::jurisdiction::{
    AddressFacts, Anycast, Confidence, Country, Data, Embedding, Groups, Operators, Special,
};
use std::net::{IpAddr, SocketAddr};

/// Data without address tables: operators and groups are there, facts are made by hand.
pub(super) fn data() -> Data {
    Data::compile(Vec::new(), Operators::embedded().unwrap()).unwrap()
}

pub(super) fn try_load(data: &Data, text: &str) -> Result<Policy, LoadError> {
    let groups = Groups::embedded().unwrap();
    let around = Surroundings {
        data,
        groups: &groups,
    };
    Policy::load("p.toml", text, &around)
}

pub(super) fn load(data: &Data, text: &str) -> Policy {
    try_load(data, &format!("version = 1\n{text}")).unwrap_or_else(|error| panic!("{error}"))
}

pub(super) fn country(code: &str) -> Country {
    Country::parse(code).unwrap()
}

/// An address of which nothing is known.
pub(super) fn unknown(address: &str) -> AddressFacts {
    AddressFacts {
        looked_up_as: address.parse().unwrap(),
        embedded: None,
        special: None,
        country: None,
        located: [].into_iter().collect(),
        registered: None,
        registered_in: [].into_iter().collect(),
        asn: None,
        operator: None,
        operator_country: None,
        anycast: Anycast::Unknown,
        confidence: Confidence::None,
    }
}

/// An address that sources locate in these countries, run from `seat`.
pub(super) fn address(located: &[&str], seat: Option<&str>) -> AddressFacts {
    AddressFacts {
        country: located.first().map(|code| country(code)),
        located: located.iter().map(|code| country(code)).collect(),
        operator_country: seat.map(country),
        asn: Some(64500),
        confidence: match located.len() {
            0 => Confidence::None,
            1 => Confidence::Single,
            _ => Confidence::Contested,
        },
        ..unknown("8.8.8.8")
    }
}

pub(super) fn flow<'a>(data: &'a Data, address: AddressFacts, names: &'a [Name<'a>]) -> Facts<'a> {
    Facts {
        source: Source {
            address: "192.168.7.20".parse().unwrap(),
            mac: None,
            peer: None,
        },
        protocol: 6,
        destination: SocketAddr::new(address.looked_up_as, 443),
        address,
        names,
        opening: Opening::default(),
        data,
        wall: Some(1_800_000_000),
    }
}

fn dns(name: &str) -> Name<'_> {
    Name {
        name,
        evidence: Evidence::Dns { age: 3 },
    }
}

fn sni(name: &str) -> Name<'_> {
    Name {
        name,
        evidence: Evidence::Sni,
    }
}

/// `allow RULE`, `block RULE`, …, with `?` for an unknown and `+` for a name that is needed.
fn said(policy: &Policy, facts: &Facts<'_>) -> String {
    let decision = policy.decide(facts);
    let mut text = format!(
        "{} {}",
        decision.verdict.name(),
        policy.rule_id(decision.origin)
    );
    if decision.unknown {
        text.push('?');
    }
    if decision.needs_name {
        text.push('+');
    }
    if let Some(origin) = decision.observed {
        text += &format!(" would {}", policy.rule_id(origin));
    }
    text
}

fn rule(id: &str, body: &str) -> String {
    format!("[[rule]]\nid = \"{id}\"\n{body}\n")
}

const OPEN: &str = "default.action = \"allow\"\n";

#[test]
fn the_first_rule_that_matches_decides() {
    let data = data();
    let policy = load(
        &data,
        &(OPEN.to_owned()
            + &rule("dns", "ip = [\"8.8.8.8\"]\nport = [53]\naction = \"allow\"")
            + &rule("no-google", "ip = [\"8.8.0.0/16\"]\naction = \"block\"")
            + &rule("never", "ip = [\"8.8.8.8\"]\naction = \"allow\"")),
    );
    let mut facts = flow(&data, address(&["US"], Some("US")), &[]);
    assert_eq!(said(&policy, &facts), "block no-google");
    facts.destination.set_port(53);
    assert_eq!(said(&policy, &facts), "allow dns");
    facts.destination = "9.9.9.9:53".parse().unwrap();
    facts.address.looked_up_as = facts.destination.ip();
    assert_eq!(said(&policy, &facts), "allow default");
}

#[test]
fn without_a_default_what_no_rule_matches_is_blocked() {
    let data = data();
    let policy = load(&data, "");
    let decision = policy.decide(&flow(&data, address(&["DE"], None), &[]));
    assert_eq!(decision.verdict, Verdict::Block(Reply::Reject));
    assert_eq!(decision.origin, Origin::Default);
}

#[test]
fn keys_of_one_rule_are_anded_and_values_of_one_key_ored() {
    let data = data();
    let policy = load(
        &data,
        &(OPEN.to_owned()
            + &rule(
                "x",
                "port = [80, \"440-443\"]\nproto = [\"tcp\", \"udp\"]\naction = \"block\"",
            )),
    );
    let mut facts = flow(&data, address(&["US"], None), &[]);
    for (protocol, port, expected) in [
        (6, 443, "block x"),
        (17, 80, "block x"),
        (6, 444, "allow default"),
        (1, 0, "allow default"),
    ] {
        facts.protocol = protocol;
        facts.destination.set_port(port);
        assert_eq!(said(&policy, &facts), expected, "{protocol} {port}");
    }
}

#[test]
fn icmp_is_that_of_both_families_and_has_no_port() {
    let data = data();
    let policy = load(
        &data,
        &(OPEN.to_owned()
            + &rule("port", "not_port = [443]\nproto = [1]\naction = \"block\"")
            + &rule("ping", "proto = \"icmp\"\naction = \"block\"")),
    );
    let mut facts = flow(&data, address(&["US"], None), &[]);
    facts.protocol = 58;
    assert_eq!(said(&policy, &facts), "block ping");
    facts.protocol = 1;
    assert_eq!(said(&policy, &facts), "block port");
}

#[test]
fn a_block_fires_on_any_country_that_touches_and_an_allow_needs_all_inside() {
    let data = data();
    let block = load(
        &data,
        &(OPEN.to_owned() + &rule("no", "jurisdiction = [\"CN\"]\naction = \"block\"")),
    );
    let allow = load(
        &data,
        &rule("eu", "jurisdiction = [\"@eu\"]\naction = \"allow\""),
    );
    for (located, seat, blocked, allowed) in [
        (&["DE"][..], Some("DE"), "allow default", "allow eu"),
        (&["DE"], Some("CN"), "block no", "block default"),
        (&["CN"], Some("DE"), "block no", "block default"),
        (&["DE", "CN"], Some("DE"), "block no", "block default"),
        (&["DE", "FR"], Some("IE"), "allow default", "allow eu"),
        (&["DE", "US"], Some("DE"), "allow default", "block default"),
        // What is missing makes a block unsure; an allow goes by what is known.
        (&["DE"], None, "block no?", "allow eu"),
        (&[], Some("DE"), "block no?", "allow eu"),
        (&[], Some("CN"), "block no", "block default"),
        (&[], None, "block no?", "block default"),
    ] {
        let facts = flow(&data, address(located, seat), &[]);
        assert_eq!(said(&block, &facts), blocked, "{located:?} {seat:?}");
        assert_eq!(said(&allow, &facts), allowed, "{located:?} {seat:?}");
    }
}

#[test]
fn what_is_unknown_follows_on_unknown_in_a_block_and_never_matches_an_allow() {
    let data = data();
    let text = |on_unknown: &str| {
        OPEN.to_owned()
            + &rule("eu", "country = [\"@eu\"]\naction = \"allow\"")
            + &rule(
                "no",
                &format!("country = [\"CN\"]\naction = \"block\"\n{on_unknown}"),
            )
    };
    let facts = flow(&data, unknown("8.8.8.8"), &[]);
    assert_eq!(said(&load(&data, &text("")), &facts), "block no?");
    let spared = load(&data, &text("on_unknown = \"allow\""));
    assert_eq!(said(&spared, &facts), "allow default");
    let by_default = load(
        &data,
        &("default.on_unknown = \"allow\"\n".to_owned() + &text("")),
    );
    assert_eq!(said(&by_default, &facts), "allow default");
}

#[test]
fn negation_keeps_to_the_safe_side() {
    let data = data();
    let block = load(
        &data,
        &(OPEN.to_owned() + &rule("out", "not_country = [\"@eu\"]\naction = \"block\"")),
    );
    let allow = load(
        &data,
        &rule("not-cn", "not_country = [\"CN\"]\naction = \"allow\""),
    );
    let mut anycast = address(&["DE"], Some("US"));
    anycast.anycast = Anycast::Yes;
    for (facts, blocked, allowed) in [
        (address(&["DE"], None), "allow default", "allow not-cn"),
        (address(&["DE", "US"], None), "block out", "allow not-cn"),
        (address(&["US", "CN"], None), "block out", "block default"),
        (address(&[], None), "block out?", "block default"),
        (anycast, "block out?", "block default"),
    ] {
        let facts = flow(&data, facts, &[]);
        let located = facts.address.located;
        assert_eq!(said(&block, &facts), blocked, "{located:?}");
        assert_eq!(said(&allow, &facts), allowed, "{located:?}");
    }
}

#[test]
fn the_location_of_an_anycast_address_never_satisfies_an_allow() {
    let data = data();
    let located = load(&data, &rule("de", "country = [\"DE\"]\naction = \"allow\""));
    let either = load(
        &data,
        &rule("de", "jurisdiction = [\"DE\"]\naction = \"allow\""),
    );
    let mut facts = flow(&data, address(&["DE"], None), &[]);
    assert_eq!(said(&located, &facts), "allow de");
    facts.address.anycast = Anycast::Yes;
    assert_eq!(said(&located, &facts), "block default");
    assert_eq!(said(&either, &facts), "block default");
    facts.address.operator_country = Some(country("DE"));
    assert_eq!(said(&either, &facts), "allow de");
}

#[test]
fn local_destinations_are_in_no_country_and_never_unknown() {
    let data = data();
    let text = OPEN.to_owned()
        + &rule(
            "home",
            "country = [\"local\"]\nport = [1]\naction = \"block\"",
        )
        + &rule("cn", "jurisdiction = [\"CN\"]\naction = \"block\"")
        + &rule("as", "asn = [4134]\naction = \"block\"")
        + &rule("op", "operator = [\"agora\"]\naction = \"block\"")
        + &rule("any", "anycast = true\naction = \"block\"");
    let policy = load(&data, &text);
    for special in [
        Special::Private,
        Special::Loopback,
        Special::LinkLocal,
        Special::Cgnat,
    ] {
        let mut facts = flow(&data, unknown("10.0.0.1"), &[]);
        facts.address.special = Some(special);
        assert_eq!(said(&policy, &facts), "allow default", "{special:?}");
        facts.destination.set_port(1);
        assert_eq!(said(&policy, &facts), "block home", "{special:?}");
    }
    for special in [
        Special::Reserved,
        Special::Documentation,
        Special::Unspecified,
    ] {
        let mut facts = flow(&data, unknown("10.0.0.1"), &[]);
        facts.address.special = Some(special);
        assert_eq!(said(&policy, &facts), "block cn?", "{special:?}");
    }
    // A private address behind a translator is not a neighbour.
    let mut facts = flow(&data, unknown("10.0.0.1"), &[]);
    facts.address.special = Some(Special::Private);
    facts.address.embedded = Some(Embedding::Nat64);
    facts.destination = "[64:ff9b::10.0.0.1]:443".parse().unwrap();
    assert_eq!(said(&policy, &facts), "block cn?");
}

#[test]
fn an_embedded_address_is_blocked_by_what_is_inside_and_allowed_only_by_what_is_outside() {
    let data = data();
    let block = load(
        &data,
        &(OPEN.to_owned() + &rule("no", "ip = [\"8.8.8.0/24\"]\naction = \"block\"")),
    );
    let allow = load(
        &data,
        &rule("yes", "ip = [\"8.8.8.0/24\"]\naction = \"allow\""),
    );
    let mut facts = flow(&data, address(&["US"], None), &[]);
    facts.address.embedded = Some(Embedding::SixToFour);
    facts.destination = "[2002:808:808::1]:443".parse().unwrap();
    assert_eq!(said(&block, &facts), "block no");
    assert_eq!(said(&allow, &facts), "block default");
}

#[test]
fn an_operator_is_known_by_address_or_by_name_with_all_that_belongs_to_it() {
    let data = data();
    let block = load(
        &data,
        &(OPEN.to_owned() + &rule("no", "operator = [\"agora\"]\naction = \"block\"")),
    );
    let allow = load(
        &data,
        &rule("yes", "operator = [\"google\"]\naction = \"allow\""),
    );
    let agora = data.operator_by_id("agora");
    let google = data.operator_by_id("google");
    let at = |operator| AddressFacts {
        operator,
        ..address(&["US"], Some("US"))
    };
    let agora_name = [dns("ap1.agora.io")];
    let other_name = [dns("example.org")];
    for (operator, names, blocked, allowed) in [
        (agora, &[][..], "block no", "block default"),
        (google, &[], "allow default", "allow yes"),
        (google, &other_name, "allow default", "allow yes"),
        // A leased address: only the name tells.
        (None, &agora_name, "block no", "block default"),
        (google, &agora_name, "block no", "block default"),
        (None, &[], "allow default", "block default"),
    ] {
        let facts = flow(&data, at(operator), names);
        assert_eq!(said(&block, &facts), blocked, "{operator:?} {names:?}");
        assert_eq!(said(&allow, &facts), allowed, "{operator:?} {names:?}");
    }
    let nobody = flow(&data, unknown("8.8.8.8"), &[]);
    assert_eq!(said(&block, &nobody), "block no?");
}

#[test]
fn the_seat_of_a_names_operator_counts_for_a_block() {
    let data = data();
    let policy = load(
        &data,
        &(OPEN.to_owned() + &rule("no", "jurisdiction = [\"CN\"]\naction = \"block\"")),
    );
    let names = [sni("ap1.agora.io")];
    let facts = flow(&data, address(&["US"], Some("US")), &names);
    assert_eq!(said(&policy, &facts), "block no");
}

#[test]
fn a_block_needs_one_name_to_match_and_an_allow_needs_all() {
    let data = data();
    let block = load(
        &data,
        &(OPEN.to_owned() + &rule("no", "domain = [\".bad.example\"]\naction = \"block\"")),
    );
    let allow = load(
        &data,
        &rule("yes", "domain = [\".good.example\"]\naction = \"allow\""),
    );
    for (names, blocked, allowed) in [
        (&[][..], "block no?+", "block default+"),
        (&[dns("x.good.example")], "allow default", "allow yes"),
        // The flow may show another name than the one asked for.
        (&[dns("x.bad.example")], "block no", "block default+"),
        // Both were asked for at this address: only the flow can tell which it is.
        (
            &[dns("good.example"), dns("bad.example")],
            "block no",
            "block default+",
        ),
        (
            &[dns("good.example"), dns("bad.example"), sni("good.example")],
            "block no",
            "allow yes",
        ),
        (
            &[dns("good.example"), sni("bad.example")],
            "block no",
            "block default",
        ),
    ] {
        let facts = flow(&data, address(&["US"], None), names);
        assert_eq!(said(&block, &facts), blocked, "{names:?}");
        assert_eq!(said(&allow, &facts), allowed, "{names:?}");
    }
}

#[test]
fn not_domain_stops_if_one_name_is_outside_and_lets_go_if_none_is_inside() {
    let data = data();
    let block = load(
        &data,
        &(OPEN.to_owned() + &rule("out", "not_domain = [\".own.example\"]\naction = \"block\"")),
    );
    let allow = load(
        &data,
        &rule(
            "other",
            "not_domain = [\".bad.example\"]\naction = \"allow\"",
        ),
    );
    for (names, blocked, allowed) in [
        (&[][..], "block out?+", "block default+"),
        (&[dns("own.example")], "allow default", "allow other"),
        (
            &[dns("own.example"), dns("else.example")],
            "block out",
            "allow other",
        ),
        (
            &[dns("own.example"), dns("bad.example")],
            "block out",
            "block default+",
        ),
        (
            &[dns("bad.example"), dns("own.example"), sni("own.example")],
            "block out",
            "allow other",
        ),
        (
            &[dns("bad.example"), sni("own.example")],
            "block out",
            "block default",
        ),
    ] {
        let facts = flow(&data, address(&["US"], None), names);
        assert_eq!(said(&block, &facts), blocked, "{names:?}");
        assert_eq!(said(&allow, &facts), allowed, "{names:?}");
    }
}

#[test]
fn a_rule_may_demand_a_name_in_the_flow() {
    let data = data();
    let policy = load(
        &data,
        &(OPEN.to_owned()
            + &rule(
                "no",
                "domain = [\".bad.example\"]\nevidence = \"sni\"\naction = \"block\"",
            )),
    );
    let only_dns = [dns("bad.example")];
    let facts = flow(&data, address(&["US"], None), &only_dns);
    assert_eq!(said(&policy, &facts), "block no?+");
    let contradicted = [dns("bad.example"), sni("good.example")];
    let facts = flow(&data, address(&["US"], None), &contradicted);
    assert_eq!(said(&policy, &facts), "block no?");
    let answered = [dns("bad.example"), dns("good.example"), sni("good.example")];
    let facts = flow(&data, address(&["US"], None), &answered);
    assert_eq!(said(&policy, &facts), "allow default");
}

#[test]
fn what_only_the_flow_claims_stops_it_and_lets_nothing_go() {
    let data = data();
    let allow = load(
        &data,
        &rule("yes", "domain = [\"good.example\"]\naction = \"allow\""),
    );
    let block = load(
        &data,
        &(OPEN.to_owned() + &rule("no", "domain = [\"bad.example\"]\naction = \"block\"")),
    );
    let outer = Name {
        evidence: Evidence::Outer,
        ..sni("good.example")
    };
    for (names, allowed, blocked) in [
        (&[sni("good.example")][..], "block default", "block no?"),
        (&[sni("bad.example")], "block default", "block no"),
        (
            &[dns("other.example"), sni("good.example")],
            "block default",
            "allow default",
        ),
        (
            &[dns("good.example"), sni("good.example")],
            "allow yes",
            "allow default",
        ),
        // Behind an outer name there may be any other: what the client was told counts.
        (&[outer], "block default", "block no?"),
        (&[dns("good.example"), outer], "allow yes", "allow default"),
        (&[dns("bad.example"), outer], "block default", "block no"),
    ] {
        let facts = flow(&data, address(&["US"], None), names);
        assert_eq!(said(&allow, &facts), allowed, "{names:?}");
        assert_eq!(said(&block, &facts), blocked, "{names:?}");
    }
}

#[test]
fn a_claim_reroutes_what_would_go_directly_and_nothing_that_is_blocked() {
    let data = data();
    let text = |default: &str| {
        format!(
            "[exits]\nse = {{ kind = \"wireguard\", profile = \"se\" }}\n[default]\naction = \"{default}\"\n"
        ) + &rule(
            "bank",
            "domain = [\"bank.example\"]\naction = \"reroute\"\nexit = \"se\"",
        )
    };
    let names = [sni("bank.example")];
    let facts = flow(&data, address(&["US"], None), &names);
    assert_eq!(said(&load(&data, &text("allow")), &facts), "reroute bank");
    assert_eq!(said(&load(&data, &text("block")), &facts), "block default");
}

#[test]
fn an_address_without_an_answer_and_a_name_that_contradicts_the_answers_are_facts() {
    let data = data();
    let case = |key: &str, names: &[Name<'_>], expected: &str| {
        let body = format!("{key} = true\naction = \"block\"\non_unknown = \"allow\"");
        let policy = load(&data, &(OPEN.to_owned() + &rule("no", &body)));
        let facts = flow(&data, address(&["US"], None), names);
        assert_eq!(said(&policy, &facts), expected, "{key} {names:?}");
    };
    case("no_dns", &[], "block no");
    case("no_dns", &[sni("a.example")], "block no");
    case("no_dns", &[dns("a.example")], "allow default");
    case("sni_mismatch", &[dns("a.example")], "allow default+");
    case(
        "sni_mismatch",
        &[dns("a.example"), sni("a.example")],
        "allow default",
    );
    case(
        "sni_mismatch",
        &[dns("a.example"), sni("b.example")],
        "block no",
    );
}

#[test]
fn many_names_are_judged_like_few() {
    let data = data();
    let policy = load(
        &data,
        &(OPEN.to_owned()
            + &rule(
                "no",
                "domain = [\".bad.example\", \".example\"]\naction = \"block\"",
            )),
    );
    let good = vec![dns("good.test"); 40];
    let mut mixed = vec![dns("a.example"); 40];
    mixed.push(dns("x.bad.example"));
    assert_eq!(
        said(&policy, &flow(&data, address(&["US"], None), &good)),
        "allow default"
    );
    assert_eq!(
        said(&policy, &flow(&data, address(&["US"], None), &mixed)),
        "block no"
    );
}

#[test]
fn a_flow_waits_for_a_name_only_if_that_could_change_the_verdict() {
    let data = data();
    let case = |text: &str, expected: &str, protocol: u8| {
        let policy = load(&data, text);
        let mut facts = flow(&data, address(&["CN"], Some("CN")), &[]);
        facts.protocol = protocol;
        assert_eq!(said(&policy, &facts), expected, "{text}");
    };
    let allowed_name = rule("name", "domain = [\"x.example\"]\naction = \"allow\"");
    let no_cn = rule("cn", "country = [\"CN\"]\naction = \"block\"");
    let no_name = rule(
        "noname",
        "domain = [\"y.example\"]\naction = \"block\"\non_unknown = \"allow\"",
    );
    case(&(allowed_name.clone() + &no_cn), "block cn+", 6);
    case(&(no_cn.clone() + &allowed_name), "block cn", 6);
    // The name could only allow what is allowed anyway.
    case(&(OPEN.to_owned() + &allowed_name), "allow default", 6);
    case(&(OPEN.to_owned() + &no_name), "allow default+", 6);
    case(&(no_name + &no_cn), "block cn", 6);
    // ICMP shows no name.
    case(&(allowed_name + &no_cn), "block cn", 1);
    // It could never match: another fact is missing for good.
    let hopeless = rule(
        "x",
        "domain = [\"x.example\"]\nanycast = false\naction = \"allow\"",
    );
    case(&(hopeless + &no_cn), "block cn", 6);
}

#[test]
fn what_the_first_payload_shows_is_waited_for() {
    let data = data();
    let policy = load(
        &data,
        &(OPEN.to_owned() + &rule("clear", "cleartext = true\naction = \"block\"")),
    );
    let mut facts = flow(&data, address(&["US"], None), &[]);
    let decision = policy.decide(&facts);
    assert!(decision.needs_payload && decision.needs_more() && decision.unknown);
    facts.opening.cleartext = Some(false);
    assert_eq!(said(&policy, &facts), "allow default");
    facts.opening.cleartext = Some(true);
    assert_eq!(said(&policy, &facts), "block clear");
}

#[test]
fn senders_are_told_apart_by_address_hardware_address_and_peer() {
    let data = data();
    let policy = load(
        &data,
        &("[sources]\nphones = [\"mac:3c:22:fb:00:00:01\", \"wg:alice\", \"192.168.7.0/24\"]\n"
            .to_owned()
            + "[default]\naction = \"allow\"\n"
            + &rule("phones", "from = \"phones\"\naction = \"block\"")),
    );
    let mut facts = flow(&data, address(&["US"], None), &[]);
    assert_eq!(said(&policy, &facts), "block phones");
    facts.source.address = "10.0.0.1".parse().unwrap();
    assert_eq!(said(&policy, &facts), "block phones?");
    facts.source.mac = Some([0x3c, 0x22, 0xfb, 0, 0, 2]);
    assert_eq!(said(&policy, &facts), "allow default");
    facts.source.mac = Some([0x3c, 0x22, 0xfb, 0, 0, 1]);
    assert_eq!(said(&policy, &facts), "block phones");
    facts.source.mac = None;
    facts.source.peer = Some("bob");
    assert_eq!(said(&policy, &facts), "allow default");
    facts.source.peer = Some("alice");
    assert_eq!(said(&policy, &facts), "block phones");
}

#[test]
fn a_target_is_any_of_its_members() {
    let data = data();
    let policy = load(
        &data,
        &("[targets]\nagora = { operator = [\"agora\"], domain = [\".sd-rtn.com\"], ip = [\"9.9.9.9\"] }\n".to_owned()
            + "[default]\naction = \"allow\"\non_unknown = \"allow\"\n"
            + &rule("agora", "to = \"agora\"\naction = \"block\"\nreply = \"drop\"")),
    );
    let named = [dns("a.sd-rtn.com")];
    let mut facts = flow(&data, address(&["US"], None), &named);
    assert_eq!(policy.decide(&facts).verdict, Verdict::Block(Reply::Drop));
    facts.names = &[];
    assert_eq!(said(&policy, &facts), "allow default+");
    facts.address.looked_up_as = "9.9.9.9".parse().unwrap();
    assert_eq!(said(&policy, &facts), "block agora");
}

#[test]
fn observed_rules_are_recorded_and_skipped() {
    let data = data();
    let policy = load(
        &data,
        &(OPEN.to_owned()
            + &rule(
                "cn",
                "country = [\"CN\"]\naction = \"block\"\nobserve_until = 2030-01-01",
            )),
    );
    let mut facts = flow(&data, address(&["CN"], None), &[]);
    assert_eq!(said(&policy, &facts), "allow default would cn");
    facts.wall = Some(1_893_456_000);
    assert_eq!(
        said(&policy, &facts),
        "block cn",
        "from the first second on"
    );
    // Nobody knows the time: a block is kept.
    facts.wall = None;
    assert_eq!(said(&policy, &facts), "block cn");
}

#[test]
fn an_allow_that_is_only_observed_lets_nothing_go() {
    let data = data();
    let policy = load(
        &data,
        &rule(
            "de",
            "country = [\"DE\"]\naction = \"allow\"\nmode = \"observe\"",
        ),
    );
    let facts = flow(&data, address(&["DE"], None), &[]);
    assert_eq!(said(&policy, &facts), "block default would de");
    let again = try_load(&data, &policy.to_string()).unwrap();
    assert_eq!(said(&again, &facts), "block default would de");
    assert_eq!(again.to_string(), policy.to_string());
}

#[test]
fn in_observe_mode_everything_passes_and_what_would_have_stopped_it_is_told() {
    let data = data();
    let text = "mode = \"observe\"\n[exits]\nse = { kind = \"wireguard\", profile = \"se\" }\n"
        .to_owned()
        + &rule("de", "country = [\"DE\"]\naction = \"allow\"")
        + &rule(
            "us",
            "country = [\"US\"]\naction = \"reroute\"\nexit = \"se\"",
        )
        + &rule("cn", "country = [\"CN\"]\naction = \"block\"");
    let policy = load(&data, &text);
    for (located, expected) in [
        ("DE", "allow de"),
        ("US", "allow default would us"),
        ("CN", "allow default would cn"),
        ("FR", "allow default would default"),
    ] {
        let facts = flow(&data, address(&[located], None), &[]);
        assert_eq!(said(&policy, &facts), expected);
    }
}

#[test]
fn a_reroute_never_becomes_direct() {
    let data = data();
    let exits = "[exits]\nse = { kind = \"wireguard\", profile = \"se\" }\nnl = { kind = \"socks5\", server = \"198.51.100.7:1080\", udp = true }\n";
    let policy = load(
        &data,
        &(exits.to_owned()
            + &rule("a", "port = [1]\naction = \"reroute\"\nexit = \"se\"")
            + &rule(
                "b",
                "port = [2]\naction = \"reroute\"\nexit = \"se\"\nexit_down = \"nl\"",
            )),
    );
    let mut facts = flow(&data, address(&["US"], None), &[]);
    let mut permit = |port| {
        facts.destination.set_port(port);
        match policy.decide(&facts).verdict {
            Verdict::Pass(permit) => permit,
            Verdict::Block(_) => panic!("blocked"),
        }
    };
    let first = permit(1);
    assert_eq!(first.route(), Route::Via(ExitId(0)));
    assert_eq!(first.when_down(), None);
    let other = permit(2).when_down().unwrap();
    assert_eq!(other.route(), Route::Via(ExitId(1)));
    assert_eq!(other.when_down(), None);
    assert_eq!(other.destination().port(), 2);
    assert_eq!(&*policy.exit(ExitId(1)).unwrap().name, "nl");
}

#[test]
fn sanitizers_concern_flows_by_sender_and_target_and_the_strictest_action_wins() {
    use crate::sanitize::{Certainty, Class, Finding};
    let data = data();
    let text = "[sources]\nphones = [\"192.168.7.0/24\"]\n[targets]\nagora = { domain = [\".agora.io\"] }\n\
        [[sanitize]]\nid = \"a\"\nfrom = \"phones\"\nto = \"agora\"\nleak = [\"sd-rtn.identifier\"]\naction = \"drop\"\n\
        [[sanitize]]\nid = \"b\"\nleak = [\"person_id\", \"oicq\"]\naction = \"report\"\n\
        [[sanitize]]\nid = \"c\"\nleak = \"person_id\"\naction = \"reject\"\n";
    let policy = load(&data, text);
    let finding = |leak, detector, class| Finding {
        class,
        detector,
        field: String::new(),
        leak,
        certainty: Certainty::Certain,
        span: 0..1,
        earlier: (0, 0),
        decoded: false,
        sample: String::new(),
    };
    let identifier = finding("sd-rtn.identifier", "sd-rtn", Class::SessionId);
    let account = finding("oicq.account", "oicq", Class::PersonId);
    let act = |policy: &Policy, names: &[Name<'_>], finding| {
        let active = policy.active(&flow(&data, address(&["US"], None), names));
        policy
            .action(active, finding)
            .map(|(entry, action)| (policy.sanitizer_id(entry).to_owned(), action))
    };
    let agora = [dns("x.agora.io")];
    let other = [dns("x.example")];
    assert_eq!(
        act(&policy, &agora, &identifier),
        Some(("a".into(), Action::Drop))
    );
    assert_eq!(act(&policy, &other, &identifier), None);
    // It may go there: what is not known is read.
    assert_eq!(
        act(&policy, &[], &identifier),
        Some(("a".into(), Action::Drop))
    );
    assert_eq!(
        act(&policy, &other, &account),
        Some(("c".into(), Action::Reject))
    );
    let observing = load(&data, &format!("mode = \"observe\"\n{text}"));
    assert_eq!(
        act(&observing, &agora, &identifier),
        Some(("a".into(), Action::Report))
    );
    assert!(
        load(&data, "")
            .active(&flow(&data, address(&["US"], None), &[]))
            .is_empty()
    );
}

#[test]
fn a_permit_is_bound_to_protocol_destination_and_route() {
    let data = data();
    let policy = load(&data, OPEN);
    let facts = flow(&data, address(&["US"], None), &[]);
    let Verdict::Pass(permit) = policy.decide(&facts).verdict else {
        panic!("blocked");
    };
    assert_eq!(permit.protocol(), 6);
    assert_eq!(permit.destination(), facts.destination);
    assert_eq!(permit.route(), Route::Direct);
}

#[test]
fn five_mistakes_are_five_errors_each_with_its_place() {
    let data = data();
    let error = try_load(
        &data,
        "version = 1\nnmae = \"x\"\n\n[[rule]]\nid = \"a\"\njuristiction = [\"CN\"]\naction = \"block\"\n\n\
         [[rule]]\nid = \"a\"\ncountry = [\"UK\"]\naction = \"blok\"\nto = \"agora\"\n",
    )
    .unwrap_err();
    let lines: Vec<String> = error.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "p.toml:2:1: unknown key `nmae`; did you mean `name`?",
            "p.toml:6:1: unknown key `juristiction`; did you mean `jurisdiction`?",
            "p.toml:10:6: id `a` is taken at p.toml:5:6",
            "p.toml:11:12: `UK` is not the ISO code; write GB",
            "p.toml:12:10: `blok` is none of `allow`, `block`, `reroute`; did you mean `block`?",
            "p.toml:13:6: no target is called `agora`",
        ]
    );
}

/// Texts with one mistake, and what is said of it.
const MISTAKES: &[(&str, &str)] = &[
    ("[[rule]]\nid = \"x\"\n", "`action` is missing"),
    ("[[rule]]\naction = \"block\"\n", "`id` is missing"),
    (
        "[[rule]]\nid = \"a b\"\naction = \"block\"\n",
        "letters, digits",
    ),
    (
        "[[rule]]\nid = \"default\"\naction = \"block\"\n",
        "when no rule matches",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"reroute\"\n",
        "`exit` is missing",
    ),
    (
        "[exits]\nse = { kind = \"direct\" }\n[[rule]]\nid = \"x\"\naction = \"reroute\"\nexit = \"sea\"\n",
        "no exit is called `sea`; did you mean `se`?",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"allow\"\non_unknown = \"block\"\n",
        "never matches",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"allow\"\nreply = \"drop\"\n",
        "for blocks only",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"block\"\noperator = [\"agoraa\"]\n",
        "no operator is called `agoraa`; did you mean `agora`?",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"block\"\ncountry = [\"@eue\"]\n",
        "did you mean `@eu`?",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"block\"\ncountry = [\"eu\"]\n",
        "did you mean `@eu`?",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"block\"\ncountry = [\"five-eyes\"]\n",
        "did you mean `@five-eyes`?",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"block\"\njurisdiction = [\"China\"]\n",
        "`China` is not an ISO 3166-1 alpha-2 country code like DE",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"block\"\nport = [\"53\"]\n",
        "`53` is a port as text; write 53",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"block\"\nnot_anycast = true\n",
        "there is no `not_anycast`; write `anycast = false`",
    ),
    (
        "[schedules]\nx = { start = \"21:00\" }\n",
        "unknown key `start`; possible are days, from, to, zone",
    ),
    (
        "[sources]\nx = [\"192.168.7.1/24\"]\n",
        "`192.168.7.1/24` has bits set beyond its prefix; write 192.168.7.0/24",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"block\"\nport = [\"9-3\"]\n",
        "is not a port or a range",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"block\"\nport = []\n",
        "`port` lists nothing",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"block\"\nproto = \"tpc\"\n",
        "did you mean `tcp`?",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"block\"\ndomain = [\"*.x.example\"]\n",
        "write `.x.example`",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"block\"\ndomain = [\"192.0.2.1\"]\n",
        "ask for it with `ip`",
    ),
    ("extends = 3\n", "expected a string"),
    ("extends = [\"base.toml\"]\n", "expected a string"),
    ("\"ext\\u0065nds\" = \"base.toml\"\n", "cannot be read"),
    ("include = [3]\n", "expected a string"),
    ("include = { file = \"x.toml\" }\n", "expected a string"),
    (
        "[[rule]]\ninclude = [\"x.toml\"]\n",
        "expected a string, found a list",
    ),
    (
        "[[rule]]\nid = \"x\"\naction = \"block\"\nobserve_until = 2027-01-01T00:00:00\n",
        "with an offset",
    ),
    (
        "[schedules]\nx = { zone = \"Europe/Berln\" }\n[[rule]]\nid = \"x\"\nschedule = \"x\"\naction = \"block\"\n",
        "is not a time zone like Europe/Berlin; did you mean `Europe/Berlin`?",
    ),
    (
        "[lists]\nx = { file = \"x\", format = \"hosts\" }\n[[rule]]\nid = \"x\"\nip = \"list:x\"\n\
         domain = \"list:x\"\naction = \"block\"\n",
        "cannot be read",
    ),
    (
        "[exits]\nx = { kind = \"sock5\" }\n[[rule]]\nid = \"x\"\naction = \"reroute\"\nexit = \"x\"\n",
        "did you mean `socks5`?",
    ),
    (
        "[[test]]\nflow = \"* -> 9.9.9.9:53/udp\"\nexpect = \"allow by default by default\"\n",
        "[ by RULE]",
    ),
    ("[sources]\nx = [\"alice\"]\n", "is not a sender"),
    ("[targets]\nx = {}\n", "has no members"),
    (
        "[[sanitize]]\nid = \"x\"\nleak = [\"secrets\"]\naction = \"drop\"\n",
        "did you mean `secret`?",
    ),
    (
        "[[test]]\nflow = \"x\"\nexpect = \"allow\"\n",
        "a flow is written",
    ),
    (
        "[[test]]\nflow = \"* -> 9.9.9.9:53/udp\"\nexpect = \"allow by x\"\n",
        "no rule is called `x`",
    ),
    (
        "[exits]\nx = { kind = \"direct\", udp = true }\n",
        "has no meaning here",
    ),
    (
        "[exits]\nx = { kind = \"failover\", members = [\"y\"] }\n",
        "no exit is called `y`",
    ),
];

#[test]
fn each_kind_of_mistake_says_what_to_do() {
    let data = data();
    for (text, wanted) in MISTAKES {
        let error = try_load(&data, &format!("version = 1\n{text}")).unwrap_err();
        assert!(error.to_string().contains(wanted), "{text}\n{error}");
        assert_eq!(error.problems().len(), 1, "{error}");
    }
    assert!(
        try_load(&data, "")
            .unwrap_err()
            .to_string()
            .contains("`version` is missing")
    );
    assert!(
        try_load(&data, "version = 2")
            .unwrap_err()
            .to_string()
            .contains("2 is not 1, the only one there is")
    );
}

#[test]
fn a_policys_own_tests_run_on_stated_facts() {
    let data = data();
    let policy = load(
        &data,
        &(OPEN.to_owned()
            + &rule(
                "resolver",
                "ip = [\"203.0.113.53\"]\nport = [53]\naction = \"allow\"",
            )
            + &rule("cn", "jurisdiction = [\"CN\"]\naction = \"block\"")
            + &rule(
                "later",
                "domain = [\".later.example\"]\naction = \"block\"\non_unknown = \"allow\"\nobserve_until = 2030-01-01",
            )
            + "[[test]]\nflow = \"wg:alice -> 203.0.113.53:53/udp\"\nexpect = \"allow by resolver\"\n\
               [[test]]\nflow = \"* -> 198.51.100.1:443\"\ncountry = \"CN\"\nexpect = \"block by cn\"\n\
               [[test]]\nflow = \"* -> 198.51.100.1:443\"\ncountry = \"unknown\"\nexpect = \"block by cn\"\n\
               [[test]]\nflow = \"* -> 198.51.100.1:443\"\ncountry = \"DE\"\noperator_country = \"DE\"\nexpect = \"allow by default\"\n\
               [[test]]\nflow = \"* -> 198.51.100.1:443\"\ncountry = \"DE\"\noperator_country = \"DE\"\nname = \"x.later.example\"\nat = 2029-01-01\nexpect = \"would block by later\"\n\
               [[test]]\nflow = \"* -> 198.51.100.1:443\"\ncountry = \"CN\"\nexpect = \"allow by resolver\"\n"),
    );
    let results = policy.run_tests(&data);
    let passed: Vec<bool> = results.iter().map(|result| result.passed).collect();
    assert_eq!(
        passed,
        [true, true, true, true, true, false],
        "{results:#?}"
    );
    assert_eq!(results[5].found, "block by cn");
    assert_eq!(results[4].found, "allow by default, would block by later");
}

#[test]
fn an_explanation_names_every_rule_tried_and_what_would_flip_it() {
    let data = data();
    let policy = load(
        &data,
        &(OPEN.to_owned()
            + &rule(
                "resolver",
                "ip = [\"203.0.113.53\"]\nport = [53]\naction = \"allow\"",
            )
            + &rule("cn", "jurisdiction = [\"CN\"]\naction = \"block\"")),
    );
    let facts = flow(&data, address(&["CN"], Some("SG")), &[]);
    let why = policy.explain(&facts);
    assert_eq!((why.verdict, why.rule.as_str()), ("block", "cn"));
    assert_eq!(why.reply, Some("reject"));
    let trace: Vec<(&str, &str, &str)> = why
        .trace
        .iter()
        .map(|step| (step.rule.as_str(), step.matched, step.because.as_str()))
        .collect();
    assert_eq!(
        trace,
        [
            ("resolver", "no", "port 443 is not in 53"),
            (
                "cn",
                "yes",
                "jurisdiction (location CN, operator's seat SG) is in CN"
            ),
        ]
    );
    assert_eq!(
        why.flip.as_deref(),
        Some("it would be allowed by default if its jurisdiction were known and not in CN")
    );
    assert_eq!(
        serde_json::to_string(&why).unwrap(),
        serde_json::to_string(&policy.explain(&facts)).unwrap()
    );
}

#[test]
fn where_one_rule_behind_another_decides_alike_both_are_flipped() {
    let data = data();
    let policy = load(
        &data,
        &(OPEN.to_owned()
            + &rule("them", "operator = [\"agora\"]\naction = \"block\"")
            + &rule("cn", "jurisdiction = [\"CN\"]\naction = \"block\"")),
    );
    let mut address = address(&["US"], Some("CN"));
    address.operator = data.operator_by_id("agora");
    let why = policy.explain(&flow(&data, address, &[]));
    assert_eq!((why.verdict, why.rule.as_str()), ("block", "them"));
    assert_eq!(
        why.flip.as_deref(),
        Some(
            "it would be allowed by default if its operator were not in agora and its jurisdiction were known and \
             not in CN"
        )
    );
}

#[test]
fn a_policy_reads_back_as_it_is_printed() {
    let data = data();
    let text = "name = \"x\"\n[default]\naction = \"block\"\nreply = \"drop\"\nexit_down = \"nl\"\n\
        [sources]\nphones = [\"mac:3C-22-FB-00-00-01\", \"wg:alice\", \"192.168.7.0/24\"]\n\
        [targets]\nagora = { domain = [\".Agora.io\"], operator = \"agora\", jurisdiction = [\"@eu\", \"local\"] }\n\
        [exits]\nse = { kind = \"wireguard\", profile = \"se\" }\n\
        nl = { kind = \"socks5\", server = \"Proxy.Example:1080\", udp = true, credentials = \"nl\" }\n\
        both = { kind = \"failover\", members = [\"se\", \"nl\"] }\n\
        [[sanitize]]\nid = \"s\"\nfrom = \"phones\"\nto = [\"agora\"]\nleak = \"secret\"\naction = \"redact\"\n\
        [[rule]]\nid = \"a\"\nfrom = [\"phones\", \"10.0.0.1\"]\nport = [53, \"8000-8010\"]\nproto = \"udp\"\n\
        asn = [\"AS64500\", 1]\nip = \"::ffff:10.0.0.1\"\naction = \"reroute\"\nexit = \"both\"\n\
        [[rule]]\nid = \"b\"\nto = \"agora\"\nnot_country = [\"cn\"]\nanycast = false\nevidence = \"sni\"\naction = \"block\"\n\
        reply = \"drop\"\non_unknown = \"allow\"\nobserve_until = 2027-01-15\n\
        [[test]]\nflow = \"phones -> 9.9.9.9:53/udp\"\nname = \"x.example\"\ncountry = \"CN\"\nasn = 7\nat = 2027-01-01\nexpect = \"block\"\n";
    let printed = load(&data, text).to_string();
    for line in [
        "agora = { operator = [\"agora\"], jurisdiction = [\"@eu\", \"local\"], domain = [\".agora.io\"] }",
        "phones = [\"mac:3c:22:fb:00:00:01\", \"wg:alice\", \"192.168.7.0/24\"]",
        "observe_until = 2027-01-15T00:00:00Z",
        "not_country = [\"CN\"]",
        "ip = [\"10.0.0.1\"]",
        "asn = [64500, 1]",
        "exit_down = \"nl\"",
    ] {
        assert!(
            printed.lines().any(|other| other == line),
            "{line}\n{printed}"
        );
    }
    let again = try_load(&data, &printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(again.to_string(), printed);
}

#[test]
fn lint_finds_rules_that_never_fire_and_allows_that_a_block_shadows() {
    let data = data();
    let policy = load(
        &data,
        &(OPEN.to_owned()
            + &rule("cn", "jurisdiction = [\"CN\", \"RU\"]\naction = \"block\"")
            + &rule(
                "cn-again",
                "country = [\"CN\"]\nport = [443]\naction = \"block\"",
            )
            + &rule(
                "cn-but",
                "country = [\"CN\"]\nport = [53]\naction = \"allow\"",
            )
            + &rule("kz", "country = [\"KZ\"]\naction = \"block\"")),
    );
    let found: Vec<String> = policy.lint().iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "p.toml:7:1: rule `cn-again` never fires: rule `cn` at p.toml:3:1 takes all of it before",
            "p.toml:12:1: rule `cn-but` lets nothing go: block rule `cn` at p.toml:3:1 stops all of it before",
        ]
    );
}

#[test]
fn lint_knows_names_that_lie_below_others() {
    let data = data();
    let text = OPEN.to_owned()
        + "[exits]\nx = { kind = \"direct\" }\n"
        + &rule(
            "wide",
            "domain = [\".a.example\", \"b.example\"]\naction = \"block\"",
        )
        + &rule(
            "low",
            "domain = [\"www.a.example\"]\nport = [443]\naction = \"allow\"",
        )
        + &rule(
            "same",
            "domain = [\"b.example\", \".a.example\"]\naction = \"block\"",
        )
        + &rule("other", "domain = [\".b.example\"]\naction = \"allow\"")
        + &rule(
            "claimed",
            "domain = [\"x.b.example\"]\naction = \"reroute\"\nexit = \"x\"",
        );
    let doubts = load(&data, &text).lint();
    let doubts: Vec<&str> = doubts.iter().map(|doubt| doubt.message.as_str()).collect();
    assert_eq!(
        doubts,
        [
            "rule `low` lets nothing go: block rule `wide` at p.toml:5:1 stops all of it before",
            "rule `same` never fires: rule `wide` at p.toml:5:1 takes all of it before",
        ]
    );
}

#[test]
fn lint_finds_rules_whose_own_keys_leave_nothing() {
    let data = data();
    let text = OPEN.to_owned()
        + &rule(
            "a",
            "port = [443]\nnot_port = [\"1-1000\"]\naction = \"block\"",
        )
        + &rule("b", "proto = \"icmp\"\nport = [80]\naction = \"block\"")
        + &rule(
            "c",
            "port = [443, 2000]\nnot_port = [443]\naction = \"block\"",
        )
        + &rule(
            "d",
            "proto = [\"icmp\", \"udp\"]\nport = [53]\naction = \"block\"",
        );
    let doubts = load(&data, &text).lint();
    let doubts: Vec<&str> = doubts.iter().map(|doubt| doubt.message.as_str()).collect();
    assert_eq!(
        doubts,
        [
            "rule `a` never fires: `not_port` leaves nothing of `port`",
            "rule `b` never fires: none of its protocols has ports",
        ]
    );
}

#[test]
fn lint_tells_where_a_reroute_by_location_lets_anycast_addresses_go_directly() {
    let data = data();
    let exits = "[exits]\nnl = { kind = \"socks5\", server = \"198.51.100.7:1080\" }\n";
    let reroute = |key: &str| {
        rule(
            "us",
            &format!("{key} = [\"US\"]\naction = \"reroute\"\nexit = \"nl\""),
        )
    };
    let doubts = |text: &str| load(&data, text).lint();
    let open = OPEN.to_owned() + exits;
    let found = doubts(&(open.clone() + &reroute("country")));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0]
            .to_string()
            .starts_with("p.toml:7:11: rule `us`: an anycast address"),
        "{found:?}"
    );
    // What it says is so.
    let policy = load(&data, &(open.clone() + &reroute("country")));
    let everywhere = AddressFacts {
        anycast: Anycast::Yes,
        ..address(&["US"], Some("US"))
    };
    assert_eq!(
        said(&policy, &flow(&data, everywhere, &[])),
        "allow default"
    );
    let by_jurisdiction = load(&data, &(open.clone() + &reroute("jurisdiction")));
    assert_eq!(by_jurisdiction.lint(), []);
    assert_eq!(
        said(&by_jurisdiction, &flow(&data, everywhere, &[])),
        "reroute us"
    );
    // Where the default blocks nothing goes directly, and a rule for anycast shows that it was thought of.
    assert_eq!(doubts(&(exits.to_owned() + &reroute("country"))), []);
    let known = rule(
        "everywhere",
        "anycast = true\naction = \"reroute\"\nexit = \"nl\"",
    );
    assert_eq!(doubts(&(open + &reroute("country") + &known)), []);
}

#[test]
fn an_allow_does_not_shadow_a_block_that_asks_for_less() {
    let data = data();
    let policy = load(
        &data,
        &(OPEN.to_owned()
            + &rule("cn-ok", "country = [\"CN\"]\naction = \"allow\"")
            + &rule("cn", "country = [\"CN\"]\naction = \"block\"")),
    );
    assert_eq!(policy.lint(), []);
    // It indeed fires: one source says CN, another does not.
    let facts = flow(&data, address(&["CN", "SG"], None), &[]);
    assert_eq!(said(&policy, &facts), "block cn");
}

#[test]
fn sources_of_facts_are_never_asked_for_an_address_that_the_flow_does_not_go_to() {
    let data = data();
    let address: IpAddr = "198.51.100.9".parse().unwrap();
    let facts = flow(&data, unknown("198.51.100.9"), &[]);
    let why = load(&data, "").explain(&facts);
    assert_eq!(why.facts.ip, address);
    assert!(why.trace.is_empty());
}
