#![allow(clippy::unwrap_used, reason = "helpers of tests")]
use super::super::import::{Draft, Ranges};
use super::super::{CountrySet, Family, Special};
use super::*;
use proptest::prelude::*;
use std::sync::OnceLock;

fn embedded() -> &'static Data {
    static DATA: OnceLock<Data> = OnceLock::new();
    DATA.get_or_init(|| Data::embedded().unwrap())
}

fn facts(text: &str) -> AddressFacts {
    embedded().lookup(text.parse().unwrap())
}

fn codes(set: impl Iterator<Item = Country>) -> String {
    set.map(|country| country.to_string())
        .collect::<Vec<_>>()
        .join(" ")
}

fn meta(name: &str) -> Meta {
    Meta {
        name: name.into(),
        licence: "l".into(),
        attribution: "a".into(),
        built: 1_781_654_400,
    }
}

fn source(name: &str, text: &str, ranges: Ranges) -> Source {
    let mut draft = Draft::default();
    draft.ranges(text.as_bytes(), ranges).unwrap();
    draft.finish(meta(name)).unwrap()
}

/// What the narrowest row over an address says, found the slow way.
fn naive(rows: &[(u128, u128, u32)], address: u128) -> u32 {
    let mut rows: Vec<_> = rows
        .iter()
        .filter(|row| row.0 <= address && address <= row.1)
        .collect();
    rows.sort_by_key(|row| row.0);
    // Of equals, the first that is met: the last row.
    rows.iter()
        .rev()
        .min_by_key(|row| row.1 - row.0)
        .map_or(0, |row| row.2)
}

#[test]
fn the_case_that_location_misses_is_seen_by_its_operator() {
    // Agora: located in Korea, registered in Singapore, and no table says China.
    let agora = facts("156.59.220.1");
    assert_eq!(agora.asn, Some(140_899));
    assert_eq!(embedded().as_name(140_899), Some("Agora Lab, Inc."));
    assert_eq!(codes(agora.located.iter()), "KR");
    assert_eq!(codes(agora.registered_in.iter()), "SG");
    assert_eq!(agora.confidence, Confidence::Contested);
    assert_eq!(agora.operator, embedded().operator_by_id("agora"));
    assert_eq!(codes(agora.operator_country.into_iter()), "CN");
    let china: CountrySet = ["CN".parse().unwrap()].into_iter().collect();
    assert!(agora.touches(&china) && !agora.is_within(&china));
}

#[test]
fn public_resolvers_are_anycast_and_have_their_operators() {
    for (address, operator) in [
        ("1.1.1.1", "cloudflare"),
        ("2606:4700:4700::1111", "cloudflare"),
        ("8.8.8.8", "google"),
        ("2001:4860:4860::8888", "google"),
        ("9.9.9.9", "quad9"),
        ("223.5.5.5", "alibaba"),
        ("94.140.14.14", "adguard"),
    ] {
        let facts = facts(address);
        assert_eq!(facts.anycast, Anycast::Yes, "{address}");
        assert_eq!(
            facts.operator,
            embedded().operator_by_id(operator),
            "{address}"
        );
        assert!(facts.operator.is_some(), "{address}");
    }
    assert_eq!(facts("193.0.14.129").anycast, Anycast::Yes, "a root server");
    assert_eq!(facts("1.2.4.8").anycast, Anycast::Unknown, "nobody says");
}

#[test]
fn special_addresses_have_no_country_though_tables_give_them_one() {
    for (address, special) in [
        ("2001:db8::1", Special::Documentation),
        ("198.51.100.7", Special::Documentation),
        ("10.1.2.3", Special::Private),
        ("100.64.0.1", Special::Cgnat),
        ("fe80::1", Special::LinkLocal),
    ] {
        let facts = facts(address);
        let mut expected = AddressFacts::unknown(address.parse().unwrap());
        expected.special = Some(special);
        assert_eq!(facts, expected, "{address}");
        assert!(embedded().answers(address.parse().unwrap()).is_empty());
    }
}

#[test]
fn embedded_addresses_have_the_facts_of_what_they_carry() {
    let plain = facts("8.8.8.8");
    assert_eq!(codes(plain.country.into_iter()), "US");
    for outer in ["::ffff:8.8.8.8", "2002:808:808::1", "64:ff9b::808:808"] {
        let facts = facts(outer);
        assert!(facts.embedded.is_some(), "{outer}");
        assert_eq!(
            AddressFacts {
                embedded: None,
                ..facts
            },
            plain,
            "{outer}"
        );
    }
    for outer in ["::ffff:10.0.0.1", "2002:a00:1::1", "64:ff9b::a00:1"] {
        let facts = facts(outer);
        assert_eq!(facts.special, Some(Special::Private), "{outer}");
        assert!(!facts.is_local(), "{outer} is no way round the policy");
    }
    assert!(facts("10.0.0.1").is_local());
}

#[test]
fn teredo_counts_its_server_as_well_as_its_client() {
    // Server 1.2.4.8 (CN); client 8.8.8.8, inverted.
    let facts = facts("2001:0:102:408:0:ffff:f7f7:f7f7");
    assert_eq!(facts.looked_up_as, "8.8.8.8".parse::<IpAddr>().unwrap());
    assert_eq!(codes(facts.located.iter()), "CN US");
    assert_eq!(facts.confidence, Confidence::Contested);
    let inside = self::facts("2001:0:102:408:0:ffff:f5ff:fffe");
    assert_eq!(
        (inside.special, inside.is_local()),
        (Some(Special::Private), false)
    );
}

#[test]
fn confidence_counts_every_source_that_names_a_country() {
    let country = |code| source("s", &format!("9.0.0.0/8,{code}\n"), Ranges::Location);
    let registered = source("r", "9.0.0.0/8,FR\n", Ranges::Registration);
    let with = |mut sources: Vec<Source>| {
        sources.push(source("z", "11.0.0.0/8,DE\n", Ranges::Location));
        let data = Data::compile(sources, Operators::default()).unwrap();
        let facts = data.lookup("9.1.2.3".parse().unwrap());
        (codes(facts.country.into_iter()), facts.confidence)
    };
    assert_eq!(with(vec![]), (String::new(), Confidence::None));
    assert_eq!(with(vec![country("FR")]), ("FR".into(), Confidence::Single));
    assert_eq!(
        with(vec![country("FR"), registered.clone()]),
        ("FR".into(), Confidence::Unanimous)
    );
    assert_eq!(
        with(vec![country("DE"), country("FR")]),
        ("DE".into(), Confidence::Contested)
    );
    assert_eq!(
        with(vec![country("DE"), country("FR"), country("FR")]),
        ("FR".into(), Confidence::Majority)
    );
    assert_eq!(
        with(vec![country("DE"), country("FR"), registered]),
        ("DE".into(), Confidence::Majority)
    );
}

#[test]
fn the_first_source_of_origins_counts_but_any_can_name_the_operator() {
    let operators = "[[operator]]\nid = \"x\"\nname = \"X\"\nseat = \"CN\"\nasn = [7]\nprefix = [\"9.9.0.0/16\"]\n\
                     domain = [\"x.example\"]\nsource = \"test\"\nas_of = \"2026-01-01\"\n";
    let first = source("first", "9.0.0.0/9,5,five\n", Ranges::Origin);
    let second = source(
        "second",
        "9.0.0.0/9,7,seven\n9.128.0.0/9,6,six\n",
        Ranges::Origin,
    );
    let data = Data::compile(
        vec![first, second],
        Operators::read(&[("o.toml", operators)]).unwrap(),
    )
    .unwrap();
    let at = |text: &str| data.lookup(text.parse().unwrap());
    assert_eq!(at("9.1.1.1").asn, Some(5));
    assert_eq!(
        at("9.1.1.1").operator,
        data.operator_by_id("x"),
        "the second source says 7"
    );
    assert_eq!(
        (at("9.200.0.0").asn, at("9.200.0.0").operator),
        (Some(6), None)
    );
    assert_eq!(
        at("9.9.9.9").operator,
        data.operator_by_id("x"),
        "by prefix"
    );
    let says: Vec<Says> = data
        .answers("9.1.1.1".parse().unwrap())
        .iter()
        .map(|answer| answer.says)
        .collect();
    assert_eq!(says, [Says::Origin(7), Says::Origin(5)]);
    assert_eq!(data.as_name(6), Some("six"));
    assert_eq!(
        data.operator_of_name("a.b.x.example"),
        data.operator_by_id("x")
    );
    assert_eq!(
        data.operator_of_name("notx.example"),
        None,
        "labels, not letters"
    );
}

#[test]
fn the_seat_falls_back_to_where_the_system_is_registered() {
    let origins = source("asn", "9.0.0.0/8,5,RU,five\n", Ranges::OriginAndCountry);
    let data = Data::compile(vec![origins], Operators::default()).unwrap();
    let facts = data.lookup("9.1.1.1".parse().unwrap());
    assert_eq!(
        (facts.operator, codes(facts.operator_country.into_iter())),
        (None, "RU".into())
    );
    assert_eq!(
        facts.country, None,
        "a registration of the system is no location"
    );
}

#[test]
fn the_embedded_sources_tell_where_they_come_from() {
    let data = embedded();
    let names: Vec<&str> = data
        .sources()
        .iter()
        .map(|source| source.meta.name.as_str())
        .collect();
    assert_eq!(
        names,
        ["geo-whois", "rir", "asn", "as-country", "operators"]
    );
    for source in data.sources() {
        assert_ne!(source.meta.licence, "unknown");
        assert!(!source.meta.attribution.is_empty());
    }
    assert_eq!(data.sources()[0].meta.built_on(), "2026-06-17");
    assert!(data.sources()[0].v4 > 300_000 && data.sources()[0].v6 > 200_000);
    assert_eq!(
        data.version(),
        Data::embedded().unwrap().version(),
        "the same data has the same version"
    );
}

#[test]
fn a_look_up_of_a_source_alone_agrees_with_the_merged_table() {
    let sources = Data::embedded_sources().unwrap();
    let mut seen = 0;
    for source in &sources[..3] {
        for column in source
            .columns
            .iter()
            .filter(|column| column.family != Family::As)
        {
            let body = column.bytes().unwrap();
            let mut steps = column.steps(&body).unwrap();
            let mut number = 0u32;
            while let Some(step) = steps.next().unwrap() {
                number += 1;
                if !number.is_multiple_of(61) {
                    continue;
                }
                let address = match column.family {
                    Family::V6 => IpAddr::V6(step.start.into()),
                    Family::V4 | Family::As => {
                        IpAddr::V4((u32::try_from(step.start).unwrap()).into())
                    }
                };
                let facts = embedded().lookup(address);
                if facts.special.is_some() || facts.embedded.is_some() {
                    continue;
                }
                let country = Country::from_number(step.value);
                match column.fact {
                    Fact::Location => assert_eq!(facts.country, country, "{address}"),
                    Fact::Registration => assert_eq!(facts.registered, country, "{address}"),
                    Fact::Origin => assert_eq!(facts.asn.unwrap_or(0), step.value, "{address}"),
                    Fact::Anycast | Fact::AsCountry | Fact::Operator => {
                        panic!("{:?} by address", column.fact)
                    }
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 15_000, "{seen}");
}

proptest! {
    #[test]
    fn merged_tables_answer_like_the_rows_they_are_made_of(
        fine in proptest::collection::vec((0u128..1 << 10, 0u128..1 << 10, 0u32..8, 0usize..3), 0..20),
        coarse in proptest::collection::vec((0u128..16, 0u128..16, 0u32..8, 0usize..3), 0..6),
        probes in proptest::collection::vec(0u128..1 << 11, 64),
    ) {
        // Around a /64 boundary, so that coarse rows and rows within a /64 meet.
        let base = (0x2a00_0000_0000_0007u128 << 64) - (1 << 9);
        let mut rows: [Vec<(u128, u128, u32)>; 3] = Default::default();
        for (a, b, value, which) in fine {
            rows[which].push((base + a.min(b), base + a.max(b), value));
        }
        for (a, b, value, which) in coarse {
            rows[which].push(((a.min(b) << 64) | 0x2a00 << 112, (((a.max(b) + 1) << 64) | 0x2a00 << 112) - 1, value));
        }
        let sources: Vec<Source> = rows.iter().map(|rows| {
            let mut text = String::from("2a00:ffff::/32,,\n");
            for (first, last, value) in rows {
                let country = Country::from_index(*value as usize).unwrap();
                text += &format!("{},{},{country}\n", std::net::Ipv6Addr::from(*first), std::net::Ipv6Addr::from(*last));
            }
            source("s", &text, Ranges::Location)
        }).collect();
        let data = Data::compile(sources, Operators::default()).unwrap();
        let coarse_probes = (0..20u128).map(|upper| upper << 64 | 0x2a00 << 112);
        for address in probes.into_iter().map(|probe| base + probe).chain(coarse_probes) {
            let facts = data.lookup(IpAddr::V6(address.into()));
            let expected: CountrySet = rows.iter()
                .filter_map(|rows| {
                    let rows: Vec<_> = rows.iter().map(|row| (row.0, row.1, row.2 + 1)).collect();
                    Country::from_number(naive(&rows, address))
                })
                .collect();
            prop_assert_eq!(CountrySet::from(facts.located), expected, "{:x}", address);
        }
    }

    #[test]
    fn no_address_makes_a_look_up_fail(bits in any::<u128>(), v4 in any::<u32>()) {
        for address in [IpAddr::V6(bits.into()), IpAddr::V6((bits >> 3 | 1 << 125).into()), IpAddr::V4(v4.into())] {
            let facts = embedded().lookup(address);
            prop_assert!(facts.special.is_none() || facts.countries().is_empty());
            prop_assert_eq!(facts.country.is_some(), !facts.located.is_empty());
            prop_assert!(facts.country.is_none_or(|country| facts.located.contains(country)));
        }
    }
}
