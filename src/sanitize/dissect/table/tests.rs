#![expect(clippy::disallowed_methods, reason = "samples and captures are files")]

use super::*;
use crate::link::frame;
use crate::link::pcap::Capture;
use proptest::collection::vec;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

/// What the datagram is if every dissector is tried, as before there was a table.
fn tried(payload: &[u8]) -> (Option<Reading>, Vec<crate::sanitize::Finding>) {
    let mut found = Vec::new();
    let mut notes = Notes::new(payload, &mut found);
    let reading = DATAGRAM
        .iter()
        .find_map(|dissector| dissector.try_read(payload, &mut notes));
    (reading, found)
}

fn looked_up(payload: &[u8]) -> (Option<Reading>, Vec<crate::sanitize::Finding>) {
    let mut found = Vec::new();
    let reading = datagram(payload, &mut Notes::new(payload, &mut found));
    (reading, found)
}

fn files(folder: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path())
}

/// The seeds of every fuzz target, with and without the byte by which some of them choose what is tried.
fn seeds() -> Vec<Vec<u8>> {
    let folders = files("tests/fuzz/corpus").filter(|path| path.is_dir());
    let seeds = folders.flat_map(|folder| files(folder.to_str().unwrap()));
    seeds
        .filter_map(|path| std::fs::read(path).ok())
        .flat_map(|seed| {
            let tail = seed.get(1..).unwrap_or_default().to_vec();
            [seed, tail]
        })
        .filter(|seed| seed.len() <= 2048)
        .collect()
}

/// The UDP payloads of all captures, and the first bytes of TCP segments as if they were datagrams.
fn captured() -> Vec<Vec<u8>> {
    let captures =
        files("tests/captures").filter(|path| path.extension().is_some_and(|e| e == "pcap"));
    let mut payloads = Vec::new();
    for path in captures {
        let read = Capture::open(&path).unwrap().frames(|frame| {
            if let Some(seen) = frame::network(&frame).and_then(frame::read) {
                payloads.push(seen.payload.to_vec());
            }
        });
        assert!(read.is_ok(), "{}", path.display());
    }
    payloads
}

#[test]
fn a_lookup_finds_what_trying_all_finds() {
    let (seeds, captured) = (seeds(), captured());
    assert!(
        seeds.len() > 100 && captured.len() > 1000,
        "too few samples"
    );
    let mut known = 0;
    for payload in seeds.iter().chain(&captured) {
        let all = tried(payload);
        known += usize::from(all.0.is_some());
        assert_eq!(looked_up(payload), all, "{payload:x?}");
    }
    assert!(known > 300, "only {known} are of a known protocol");
}

/// A shape that is too narrow shows at the edge: whatever else the two bytes are, a datagram that is still known fits.
#[test]
fn no_shape_is_narrower_than_its_dissector() {
    let mut reached = vec![0_usize; DATAGRAM.len()];
    for seed in seeds().into_iter().filter(|seed| seed.len() <= 600) {
        for (place, value) in [0, 4]
            .into_iter()
            .flat_map(|at| (0..=255).map(move |v| (at, v)))
        {
            let mut payload = seed.clone();
            let Some(byte) = payload.get_mut(place) else {
                continue;
            };
            *byte = value;
            let fitting: Vec<usize> = TABLE.fitting(&payload).collect();
            for (place, dissector) in DATAGRAM.iter().enumerate() {
                let mut found = Vec::new();
                let mut notes = Notes::new(&payload, &mut found);
                if dissector.try_read(&payload, &mut notes).is_some() {
                    reached[place] += 1;
                    assert!(
                        fitting.contains(&place),
                        "{} {payload:x?}",
                        dissector.protocol
                    );
                }
            }
        }
    }
    let silent: Vec<_> = DATAGRAM
        .iter()
        .zip(&reached)
        .filter(|(_, reached)| **reached == 0)
        .map(|(dissector, _)| dissector.protocol)
        .collect();
    assert!(silent.is_empty(), "no sample reaches {silent:?}");
}

proptest! {
    #[test]
    fn a_lookup_finds_in_any_bytes_what_trying_all_finds(payload in vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(looked_up(&payload), tried(&payload));
    }

    #[test]
    fn a_lookup_finds_in_text_what_trying_all_finds(payload in "[ -~\r\n]{0,120}") {
        prop_assert_eq!(looked_up(payload.as_bytes()), tried(payload.as_bytes()));
    }
}
