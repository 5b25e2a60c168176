use super::*;
use crate::policy::tests::{data, load};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// What each rule is covered by, each compared with each.
fn pairwise(policy: &Policy) -> Vec<Option<usize>> {
    let names = policy.domains.within();
    let rules = policy.rules.iter().enumerate();
    rules
        .map(|(number, rule)| {
            let before = policy.rules.get(..number).unwrap_or_default();
            before
                .iter()
                .position(|one| policy.covers(one, rule, &names))
        })
        .collect()
}

/// Values of every key, close enough to each other that some lie within others.
const VALUES: [(&str, &[&str]); 13] = [
    ("proto", &["\"tcp\"", "\"udp\"", "17", "\"icmp\"", "58"]),
    (
        "port",
        &[
            "53",
            "80",
            "\"50-60\"",
            "\"1-65535\"",
            "\"0-1023\"",
            "\"80-81\"",
        ],
    ),
    (
        "from",
        &[
            "\"wg:a\"",
            "\"wg:b\"",
            "\"192.168.7.0/24\"",
            "\"mac:3c:22:fb:00:00:01\"",
        ],
    ),
    (
        "ip",
        &[
            "\"9.9.9.9\"",
            "\"9.9.0.0/16\"",
            "\"9.9.8.0/23\"",
            "\"2600::/32\"",
            "\"2600::1\"",
            "\"0.0.0.0/0\"",
            "\"::/0\"",
        ],
    ),
    ("asn", &["1", "2", "3"]),
    (
        "operator",
        &["\"google\"", "\"agora\"", "\"microsoft\"", "\"github\""],
    ),
    ("country", &["\"CN\"", "\"DE\"", "\"@eu\"", "\"local\""]),
    (
        "operator_country",
        &["\"CN\"", "\"DE\"", "\"@eu\"", "\"local\""],
    ),
    (
        "jurisdiction",
        &["\"CN\"", "\"DE\"", "\"@eu\"", "\"local\""],
    ),
    (
        "domain",
        &["\".test\"", "\"a.test\"", "\".a.test\"", "\"b.test\""],
    ),
    ("to", &["\"one\"", "\"other\""]),
    ("schedule", &["\"early\"", "\"late\""]),
    ("anycast", &["true", "false"]),
];

const AROUND: &str = "[targets]\none = { ip = [\"9.9.9.0/24\"], domain = [\".test\"] }\n\
    other = { country = [\"DE\"], asn = [1] }\n\
    [schedules]\nearly = { from = \"06:00\", to = \"09:00\" }\nlate = { from = \"18:00\", to = \"23:00\" }\n\
    [exits]\nse = { kind = \"direct\" }\n";

fn condition() -> impl Strategy<Value = (&'static str, String)> {
    select(VALUES.to_vec()).prop_flat_map(|(key, values)| {
        let most = if key == "anycast" {
            1
        } else {
            values.len().min(3)
        };
        (subsequence(values, 1..=most), prop::bool::weighted(0.2)).prop_map(
            move |(values, negate)| {
                if key == "anycast" {
                    return (key, format!("anycast = {}", values[0]));
                }
                let not = if negate { "not_" } else { "" };
                (key, format!("{not}{key} = [{}]", values.join(", ")))
            },
        )
    })
}

fn rule() -> impl Strategy<Value = String> {
    let action = select(vec![
        "\"allow\"",
        "\"block\"",
        "\"block\"\non_unknown = \"allow\"",
        "\"reroute\"\nexit = \"se\"",
        "\"block\"\nmode = \"observe\"",
        "\"block\"\nevidence = \"sni\"",
    ]);
    (prop::collection::vec(condition(), 0..=3), action).prop_map(|(mut conditions, action)| {
        conditions.sort();
        conditions.dedup_by(|(a, _), (b, _)| a == b);
        let conditions: Vec<String> = conditions.into_iter().map(|(_, text)| text).collect();
        format!("{}\naction = {action}\n", conditions.join("\n"))
    })
}

fn policy(rules: &[String]) -> String {
    let rules: Vec<String> = (0..)
        .zip(rules)
        .map(|(number, rule): (usize, _)| format!("[[rule]]\nid = \"r{number}\"\n{rule}"))
        .collect();
    format!("{AROUND}{}", rules.concat())
}

proptest! {
    #[test]
    fn comparing_only_candidates_finds_what_comparing_all_does(
        rules in prop::collection::vec(rule(), 1..40)
    ) {
        let policy = load(&data(), &policy(&rules));
        let covered = policy.covered(usize::MAX);
        prop_assert_eq!(covered.by, pairwise(&policy));
        prop_assert_eq!(covered.unknown_from, None);
    }
}

#[test]
fn ten_thousand_rules_need_few_comparisons() {
    let rules: Vec<String> = (0..10_000)
        .map(|number| match number % 4 {
            0 => format!("domain = [\".n{number}.test\"]\nproto = \"tcp\"\naction = \"block\"\n"),
            1 => format!(
                "ip = [\"10.{}.{}.0/24\"]\naction = \"allow\"\n",
                number >> 8,
                number & 255
            ),
            2 => format!("asn = [{number}]\njurisdiction = [\"CN\"]\naction = \"block\"\n"),
            _ => format!("port = [{number}]\nfrom = [\"wg:a\"]\naction = \"block\"\n"),
        })
        .collect();
    let policy = load(&data(), &policy(&rules));
    // One pair in about 500.
    let covered = policy.covered(100_000);
    assert_eq!(covered.unknown_from, None);
    assert_eq!(covered.by.iter().flatten().count(), 0);
}

#[test]
fn where_too_many_rules_are_alike_what_was_not_looked_into_is_told() {
    let rules: Vec<String> = (0..100)
        .map(|number| format!("not_port = [{number}]\naction = \"block\"\n"))
        .collect();
    let policy = load(&data(), &policy(&rules));
    assert_eq!(policy.covered(usize::MAX).unknown_from, None);
    let bounded = policy.covered(1000);
    assert_eq!((bounded.unknown_from, bounded.by.len()), (Some(45), 100));
}

#[test]
fn ranges_of_ports_are_made_of_blocks_that_hold_each_port_once() {
    for (first, last) in [
        (0, 65_535),
        (1, 65_535),
        (80, 80),
        (1000, 2000),
        (0, 65_534),
        (65_535, 65_535),
    ] {
        let mut tokens = Vec::new();
        add_ports(first, last, &mut tokens);
        assert!(tokens.len() <= 30, "{first}-{last}: {}", tokens.len());
        for port in 0..=65_535u32 {
            let around = (0..=16).map(|length| Space::Port.block(length, port.into()));
            let holds = around.filter(|token| tokens.contains(token)).count();
            assert_eq!(
                holds == 1,
                (first..=last).contains(&port),
                "{port} in {first}-{last}"
            );
            assert!(holds <= 1);
        }
    }
}
