//! MaxMind's published test databases: the sound ones give the right answers, the corrupted ones an error.
#![expect(clippy::disallowed_methods, reason = "tests read fixtures from files")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "helpers of tests"
)]

use cordon::jurisdiction::{Anycast, BadData, Country, Data, Label, Operators, Source};
use maxminddb::{PathElement, Reader};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/mmdb")
        .join(folder);
    let mut files: Vec<PathBuf> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 20, "{}", folder.display());
    files
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn read(path: &Path) -> Result<Source, BadData> {
    let label = Label {
        name: "t".into(),
        licence: String::new(),
        attribution: String::new(),
        built: 0,
    };
    Source::read(&[&std::fs::read(path).unwrap()], None, &label)
}

fn data(file: &str) -> Data {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/mmdb/test-data")
        .join(file);
    Data::compile(vec![read(&path).unwrap()], Operators::default()).unwrap()
}

fn code(text: &str) -> Option<Country> {
    Some(Country::parse(text).unwrap())
}

#[test]
fn the_known_addresses_of_the_test_databases_are_found() {
    for file in [
        "GeoIP2-Country-Test.mmdb",
        "GeoIP2-City-Test.mmdb",
        "GeoLite2-Country-Test.mmdb",
    ] {
        let data = data(file);
        for (address, country, registered) in [
            ("81.2.69.142", "GB", Some("US")),
            ("89.160.20.112", "SE", Some("DE")),
            ("2.125.160.216", "GB", Some("FR")),
            ("2001:218::1", "JP", Some("JP")),
        ] {
            let facts = data.lookup(address.parse().unwrap());
            assert_eq!(facts.country, code(country), "{file} {address}");
            if file.starts_with("GeoIP2-C") {
                assert_eq!(
                    facts.registered,
                    registered.and_then(code),
                    "{file} {address}"
                );
            }
        }
    }
    for file in ["GeoLite2-ASN-Test.mmdb", "GeoIP2-ISP-Test.mmdb"] {
        let data = data(file);
        assert_eq!(
            data.lookup("1.128.0.1".parse().unwrap()).asn,
            Some(1221),
            "{file}"
        );
        assert_eq!(data.as_name(1221), Some("Telstra Pty Ltd"), "{file}");
    }
}

#[test]
fn every_record_of_every_sound_database_is_answered_as_the_reader_answers() {
    let mut compared = 0;
    for path in files("test-data") {
        let Ok(source) = read(&path) else { continue };
        let data = Data::compile(vec![source], Operators::default()).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let reader = Reader::from_source(bytes.as_slice()).unwrap();
        for found in reader
            .networks(maxminddb::WithinOptions::default())
            .unwrap()
        {
            let found = found.unwrap();
            let address: IpAddr = found.network().unwrap().ip();
            let facts = data.lookup(address);
            if facts.special.is_some() || facts.embedded.is_some() {
                continue;
            }
            let text = |path: &[&str]| {
                let path: Vec<PathElement<'_>> =
                    path.iter().map(|key| PathElement::Key(key)).collect();
                found.decode_path::<String>(&path).ok().flatten()
            };
            let country =
                text(&["country", "iso_code"]).and_then(|code| Country::parse(&code).ok());
            assert_eq!(facts.country, country, "{} {address}", name(&path));
            let registered = text(&["registered_country", "iso_code"]);
            let registered = registered.and_then(|code| Country::parse(&code).ok());
            assert_eq!(facts.registered, registered, "{} {address}", name(&path));
            let anycast = found
                .decode_path::<bool>(&[PathElement::Key("traits"), PathElement::Key("is_anycast")]);
            let anycast = anycast.ok().flatten().map_or(Anycast::Unknown, |yes| {
                if yes { Anycast::Yes } else { Anycast::No }
            });
            assert_eq!(facts.anycast, anycast, "{} {address}", name(&path));
            let asn = |path: &[PathElement<'_>]| found.decode_path::<u32>(path).ok().flatten();
            let key = PathElement::Key("autonomous_system_number");
            let asn = asn(&[PathElement::Key("autonomous_system_number")])
                .or_else(|| asn(&[PathElement::Key("traits"), key]));
            assert_eq!(facts.asn, asn, "{} {address}", name(&path));
            compared += 1;
        }
    }
    assert!(compared > 2000, "{compared}");
}

#[test]
fn databases_without_jurisdiction_say_so_and_those_with_it_are_all_read() {
    let mut read_well = Vec::new();
    for path in files("test-data") {
        match read(&path) {
            Ok(_) => read_well.push(name(&path)),
            Err(error) => assert!(!error.to_string().contains('\n'), "one sentence: {error}"),
        }
    }
    for kind in ["City", "Country", "Enterprise", "ISP", "ASN"] {
        for path in files("test-data").iter().map(|path| name(path)) {
            let with = path.starts_with("Geo")
                && path.contains(kind)
                && !path.contains("Broken")
                && !path.contains("Invalid");
            assert!(!with || read_well.contains(&path), "{path} was not read");
        }
    }
    let none = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/mmdb/test-data/MaxMind-DB-test-ipv4-24.mmdb");
    assert_eq!(read(&none).unwrap_err(), BadData::NothingKnown);
}

#[test]
fn every_corrupted_database_is_refused() {
    for path in files("bad-data") {
        let error = read(&path)
            .err()
            .unwrap_or_else(|| panic!("{} was read", name(&path)));
        assert!(!error.to_string().contains('\n'), "one sentence: {error}");
    }
    let epoch = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/mmdb/bad-data/libmaxminddb-uint64-max-epoch.mmdb");
    assert!(
        read(&epoch)
            .unwrap_err()
            .to_string()
            .contains(&u64::MAX.to_string())
    );
}

#[test]
fn damaged_copies_of_a_sound_database_never_panic() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/mmdb/test-data/GeoIP2-Country-Test.mmdb");
    let sound = std::fs::read(path).unwrap();
    let label = Label {
        name: "t".into(),
        licence: String::new(),
        attribution: String::new(),
        built: 0,
    };
    let mut seed = 88_172_645_463_325_252u64;
    let (mut refused, mut taken) = (0, 0);
    for round in 0..600 {
        let mut copy = sound.clone();
        for _ in 0..=round % 5 {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let at = (seed >> 8) as usize % copy.len();
            copy[at] = seed as u8;
        }
        if round % 7 == 0 {
            copy.truncate((seed >> 20) as usize % sound.len());
        }
        match Source::read(&[&copy], None, &label) {
            Ok(_) => taken += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(
        refused > 50 && taken > 0,
        "{refused} refused, {taken} taken"
    );
}
