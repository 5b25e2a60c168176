#![allow(clippy::unwrap_used, reason = "helpers of tests")]
use super::super::joined;
use super::super::pack::{fact_code, put_raw_section, put_section};
use super::super::rows::Step;
use super::*;

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
