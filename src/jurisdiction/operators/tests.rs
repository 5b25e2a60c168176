use super::*;
use std::collections::HashSet;

fn file(more: &str) -> String {
    format!(
        "[[operator]]\nid = \"a\"\nname = \"A\"\nseat = \"CN\"\nsource = \"s\"\nas_of = \"2026-01-01\"\n{more}"
    )
}

fn refusal(more: &str) -> String {
    Operators::read(&[("o.toml", &file(more))])
        .unwrap_err()
        .to_string()
}

#[test]
fn the_shipped_file_claims_nothing_twice_and_rests_on_something() {
    let operators = Operators::embedded().unwrap();
    assert!(operators.len() >= 60);
    let (mut asns, mut domains, mut prefixes) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (id, operator) in operators.iter() {
        for asn in &operator.asns {
            assert!(asns.insert(*asn), "AS{asn} stands twice");
        }
        for domain in &operator.domains {
            assert!(domains.insert(domain.clone()), "{domain} stands twice");
            assert_eq!(operators.by_name(&format!("www.{domain}")), Some(id));
        }
        for prefix in operator.prefixes.iter().chain(&operator.anycast) {
            assert!(prefixes.insert(*prefix), "{prefix} stands twice");
            assert_eq!(prefix.trunc(), *prefix, "{prefix} has host bits");
        }
        assert!(!operator.source.is_empty(), "{}", operator.id);
        let tells = operator.asns.len() + operator.domains.len() + operator.prefixes.len();
        assert!(tells > 0, "{} cannot be recognised", operator.id);
    }
    let agora = operators.get(operators.by_id("agora").unwrap()).unwrap();
    assert_eq!(
        (agora.seat.to_string().as_str(), agora.asns.as_slice()),
        ("CN", &[140_899][..])
    );
    for name in [
        "edge.agora.io",
        "a.agoraio.cn",
        "agoralab.co",
        "x.sd-rtn.com",
    ] {
        assert_eq!(operators.by_name(name), operators.by_id("agora"), "{name}");
    }
    assert_eq!(operators.by_name("notagora.io"), None);
    assert_eq!(operators.by_name(""), None);
}

#[test]
fn a_subsidiary_belongs_to_its_parents() {
    let operators = Operators::embedded().unwrap();
    let [github, microsoft, google] =
        ["github", "microsoft", "google"].map(|id| operators.by_id(id).unwrap());
    assert!(operators.belongs_to(github, microsoft) && operators.belongs_to(github, github));
    assert!(!operators.belongs_to(microsoft, github) && !operators.belongs_to(github, google));
}

#[test]
fn a_users_file_adds_and_replaces() {
    let own = "[[operator]]\nid = \"agora\"\nname = \"Mine\"\nseat = \"US\"\nasn = [64500, 13335]\n\
               domain = [\".agora.io\"]\nsource = \"me\"\nas_of = \"2026-01-01\"\n";
    let operators = Operators::with(&[("own.toml", own)]).unwrap();
    let agora = operators.by_id("agora").unwrap();
    assert_eq!(operators.get(agora).unwrap().name, "Mine");
    assert_eq!(
        operators.by_asn(13_335),
        Some(agora),
        "the later file wins the number"
    );
    assert_eq!(operators.by_asn(140_899), None, "the older entry is gone");
    assert_eq!(operators.by_name("www.agora.io"), Some(agora));
}

/// What is added to a file, and what is told of it.
const MISTAKES: [(&str, &str); 14] = [
    ("asns = [2]", "7:1: unknown key `asns`; did you mean `asn`?"),
    ("note = 7", "7:8: expected a string, found a whole number"),
    (
        "asn = [\"AS1x\"]",
        "7:8: `AS1x` is not an AS number like 64500 or \"AS64500\"",
    ),
    (
        "asn = [5000000000]",
        "7:8: 5000000000 is not between 0 and 4294967295",
    ),
    (
        "prefix = [\"1.2.3.0/33\"]",
        "7:11: `1.2.3.0/33` is not an address or a network like 192.0.2.0/24",
    ),
    (
        "anycast = [\"1.2.3.4/24\"]",
        "7:12: `1.2.3.4/24` has bits set beyond its prefix; write 1.2.3.0/24",
    ),
    (
        "domain = [\"Agora.io\"]",
        "7:11: `Agora.io` is not a domain name in lower case (write A-labels for other scripts)",
    ),
    (
        "domain = [\"\"]",
        "7:11: `` is not a domain name in lower case (write A-labels for other scripts)",
    ),
    ("parent = \"b\"", "7:10: no operator is called `b`"),
    ("parent = \"a\"", "7:10: operator `a` is its own ancestor"),
    (
        "asn = [7, 7]",
        "7:11: AS7 stands twice in this file: first at o.toml:7:8 (`a`)",
    ),
    (
        "prefix = [\"1.2.3.0/24\"]\nanycast = [\"1.2.3.0/24\"]",
        "8:12: prefix 1.2.3.0/24 stands twice in this file: first at o.toml:7:11 (`a`)",
    ),
    (
        "[[operators]]",
        "7:3: unknown key `operators`; did you mean `operator`?",
    ),
    (
        "[[anycast]]\nname = \"x\"\nsource = \"s\"\nas_of = \"2026-01-01\"",
        "7:1: `prefix` is missing",
    ),
];

#[test]
fn each_mistake_is_told_with_its_place_and_what_was_meant() {
    for (more, told) in MISTAKES {
        assert_eq!(refusal(more), format!("o.toml:{told}"));
    }
    let with = |from: &str, to: &str| {
        let text = file("").replace(from, to);
        Operators::read(&[("o.toml", &text)])
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        with("\"CN\"", "\"UK\""),
        "o.toml:4:8: `UK` is not the ISO code; write GB"
    );
    assert_eq!(
        with("\"CN\"", "\"China\""),
        "o.toml:4:8: `China` is not an ISO 3166-1 alpha-2 country code like DE"
    );
    assert_eq!(
        with("2026-01-01", "soon"),
        "o.toml:6:9: `soon` is not a date like 2026-06-17"
    );
    assert_eq!(
        with("\"a\"", "\"A B\""),
        "o.toml:2:6: `A B` may have only a-z, 0-9 and `-`, and at least one of them"
    );
    assert_eq!(with("seat = \"CN\"\n", ""), "o.toml:1:1: `seat` is missing");
}

#[test]
fn all_mistakes_of_all_files_are_told_at_once_and_each_once() {
    let first = file("asn = [\"x\"]\nparent = \"agorra\"\n");
    let second = file("parnet = \"agora\"\nparent = \"googel\"\n")
        .replace("seat = \"CN\"", "seat = \"PRC\"");
    let child = file("parent = \"a\"\n").replace("id = \"a\"", "id = \"b\"");
    let error = Operators::with(&[("1.toml", &first), ("2.toml", &format!("{second}{child}"))]);
    assert_eq!(
        error.unwrap_err().to_string().lines().collect::<Vec<_>>(),
        [
            "1.toml:7:8: `x` is not an AS number like 64500 or \"AS64500\"",
            "1.toml:8:10: no operator is called `agorra`; did you mean `agora`?",
            "2.toml:4:8: `PRC` is not an ISO 3166-1 alpha-2 country code like DE",
            "2.toml:7:1: unknown key `parnet`; did you mean `parent`?",
            "2.toml:8:10: no operator is called `googel`; did you mean `google`?",
        ]
    );
}

#[test]
fn an_operator_may_be_named_before_it_stands_and_dates_and_numbers_be_written_as_in_policies() {
    let mother = file("")
        .replace("\"a\"", "\"m\"")
        .replace("\"2026-01-01\"", "2026-01-01");
    let daughter = file("parent = \"m\"\nasn = \"AS64500\"\n");
    let operators = Operators::read(&[("o.toml", &format!("{daughter}{mother}"))]).unwrap();
    let [a, m] = ["a", "m"].map(|id| operators.by_id(id).unwrap());
    assert!(operators.belongs_to(a, m));
    assert_eq!(operators.by_asn(64_500), Some(a));
    assert_eq!(operators.get(m).unwrap().as_of, "2026-01-01");
}

#[test]
fn every_operator_of_a_circle_is_told_and_none_beside_it() {
    let one = |id: &str, parent: &str| {
        file(&format!("parent = \"{parent}\"\n")).replace("\"a\"", &format!("\"{id}\""))
    };
    let text = [one("z", "x"), one("x", "y"), one("y", "x")].concat();
    let error = Operators::read(&[("o.toml", &text)])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error.lines().collect::<Vec<_>>(),
        [
            "o.toml:14:10: operator `x` is its own ancestor",
            "o.toml:21:10: operator `y` is its own ancestor"
        ]
    );
}
