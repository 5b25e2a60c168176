#![allow(clippy::unwrap_used, reason = "helpers of tests")]
use super::super::import::{Draft, Ranges};
use super::super::joined;
use super::super::operators::Operators;
use super::super::pack::{fact_code, put_raw_section, put_section};
use super::super::rows::Step;
use super::super::{Data, Says};
use super::*;
use std::net::IpAddr;

/// What is joined, in the order in which they count.
fn separate() -> Vec<Source> {
    let files: [&[u8]; 4] = [
        include_bytes!("../data/geo-whois.cdb"),
        include_bytes!("../data/rir.cdb"),
        include_bytes!("../data/asn.cdb"),
        include_bytes!("../data/as-country.cdb"),
    ];
    let read = files.into_iter().map(Source::read_compact);
    read.collect::<Result<_, _>>().unwrap()
}

fn steps(column: &Column) -> Vec<Step> {
    let body = column.bytes().unwrap();
    let mut steps = column.steps(&body).unwrap();
    std::iter::from_fn(|| steps.next().unwrap()).collect()
}

/// The file with these sources.
fn written(sources: &[Source]) -> Vec<u8> {
    let columns = || sources.iter().flat_map(|source| &source.columns);
    let of = |family| columns().filter(move |column| column.family == family);
    let pairs: Vec<[Vec<Step>; 2]> = of(Family::V4)
        .zip(of(Family::V6))
        .map(|(v4, v6)| {
            assert_eq!(v4.fact, v6.fact, "each fact is told for both families");
            [steps(v4), steps(v6)]
        })
        .collect();
    let joined = joined::tests::join(&pairs);
    let mut file = Vec::new();
    put_raw_section(&mut file, STREAM, Family::V4, &joined.v4).unwrap();
    put_raw_section(&mut file, STREAM, Family::V6, &joined.v6).unwrap();
    let mut number = [0u8; 2];
    for source in sources {
        let mut head = source.digest.to_vec();
        head.extend(serde_json::to_vec(&source.meta).unwrap());
        put_section(&mut file, META, 0, &head, 22).unwrap();
        for column in &source.columns {
            let (fact, family) = (fact_code(column.fact), family_code(column.family));
            if column.family == Family::As {
                put_section(&mut file, fact, family, &column.bytes().unwrap(), 22).unwrap();
                continue;
            }
            let number = &mut number[usize::from(column.family == Family::V6)];
            file.extend([fact | JOINED, family]);
            file.extend(u32::try_from(column.len()).unwrap().to_le_bytes());
            file.extend(1u32.to_le_bytes());
            file.push(*number);
            *number += 1;
        }
        if let Some(names) = &source.names {
            let raw = names.unpack().unwrap();
            put_section(&mut file, AS_NAMES, family_code(Family::As), &raw, 22).unwrap();
        }
    }
    file
}

#[test]
fn the_joined_file_says_what_the_separate_ones_say() {
    let (joined, separate) = (sources().unwrap(), separate());
    assert_eq!(joined.len(), separate.len());
    for (joined, separate) in joined.iter().zip(&separate) {
        let name = &separate.meta.name;
        assert_eq!(joined.meta, separate.meta);
        assert_eq!(joined.digest, separate.digest, "{name}");
        let names = |source: &Source| source.names.as_ref().map(|names| names.unpack().unwrap());
        assert!(names(joined) == names(separate), "{name}");
        assert_eq!(joined.columns.len(), separate.columns.len(), "{name}");
        for (joined, separate) in joined.columns.iter().zip(&separate.columns) {
            assert_eq!(
                (joined.fact, joined.family),
                (separate.fact, separate.family)
            );
            assert_eq!(joined.len(), separate.len(), "{name}");
            assert!(
                joined.bytes().unwrap() == separate.bytes().unwrap(),
                "{name}: {:?}",
                separate.fact
            );
        }
    }
}

#[test]
fn merging_what_is_joined_gives_the_facts_of_merging_the_separate_files() {
    let merged = |sources| Data::compile(sources, Operators::embedded().unwrap()).unwrap();
    let (joined, apart) = (merged(sources().unwrap()), merged(separate()));
    assert_eq!(joined.digest(), apart.digest());
    for (joined, apart) in joined.sources().iter().zip(apart.sources()) {
        assert_eq!(
            (joined.v4, joined.v6, &joined.facts),
            (apart.v4, apart.v6, &apart.facts)
        );
    }
    let says = |data: &Data, address| -> Vec<(String, Says)> {
        let answers = data.answers(address).into_iter();
        answers
            .map(|answer| (answer.source.meta.name.clone(), answer.says))
            .collect()
    };
    let mut asked = 0u32;
    let mut agree = |address: IpAddr| {
        asked += 1;
        assert_eq!(joined.lookup(address), apart.lookup(address), "{address}");
        if asked.is_multiple_of(29) {
            assert_eq!(says(&joined, address), says(&apart, address), "{address}");
        }
    };
    let mut all = separate();
    all.extend(Operators::embedded().unwrap().anycast_source());
    let operators =
        [Family::V4, Family::V6].map(|family| Operators::embedded().unwrap().columns(family));
    for column in all
        .iter()
        .flat_map(|source| &source.columns)
        .chain(operators.iter().flatten())
    {
        for step in steps(column) {
            for number in [
                step.start,
                step.start.saturating_sub(1),
                step.start.saturating_add(1),
            ] {
                match column.family {
                    Family::V4 => agree(IpAddr::V4((number as u32).into())),
                    Family::V6 => agree(IpAddr::V6(number.into())),
                    Family::As => {}
                }
            }
        }
    }
    let mut random = 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835u128;
    for _ in 0..200_000 {
        random = random
            .wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645)
            .wrapping_add(1);
        agree(IpAddr::V4(((random >> 96) as u32).into()));
        agree(IpAddr::V6((random >> 3 | 1 << 125).into()));
    }
    assert!(asked > 4_000_000, "{asked}");
}

#[test]
fn a_users_source_is_merged_with_what_is_joined_as_with_the_separate_files() {
    let text = "1.0.0.0/8,FR\n8.8.8.0/24,DE\n2a00::/12,PL\n2001:4860:4860::8888/128,SE\n";
    let with = |embedded: Vec<Source>, ranges| {
        let mut draft = Draft::default();
        draft.ranges(text.as_bytes(), ranges).unwrap();
        let mut sources = vec![draft.finish(embedded[0].meta.clone()).unwrap()];
        sources.extend(embedded);
        Data::compile(sources, Operators::embedded().unwrap()).unwrap()
    };
    for ranges in [Ranges::Location, Ranges::Registration] {
        let (joined, apart) = (with(sources().unwrap(), ranges), with(separate(), ranges));
        let mut random = 7u128;
        for number in 0..300_000u32 {
            random = random
                .wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645)
                .wrapping_add(1);
            let v6 = random >> 8 | 0x2a << 120;
            for address in [
                IpAddr::V4(((1 << 24) | (number * 53)).into()),
                IpAddr::V4(((random >> 96) as u32).into()),
                IpAddr::V6(v6.into()),
                "8.8.8.8".parse().unwrap(),
                "2001:4860:4860::8888".parse().unwrap(),
            ] {
                assert_eq!(joined.lookup(address), apart.lookup(address), "{address}");
            }
        }
    }
}

#[test]
fn the_tables_take_less_than_ten_million_bytes() {
    let data = Data::compile(sources().unwrap(), Operators::embedded().unwrap()).unwrap();
    let (v4, v6, bytes) = data.size();
    assert!(v4 > 500_000 && v6 > 250_000, "{v4} {v6}");
    assert!(bytes < 10_000_000, "{bytes}");
}

/// After a change of the separate files: `cargo test --lib join_the_embedded_sources -- --ignored`.
#[test]
#[ignore = "writes the file that the program carries"]
fn join_the_embedded_sources() {
    let file = written(&separate());
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/jurisdiction/data/embedded.cdb"
    );
    #[expect(
        clippy::disallowed_methods,
        reason = "the file is made by hand, not by the program"
    )]
    std::fs::write(path, file).unwrap();
}
