//! Replays the committed corpus of every fuzz target on the stable toolchain. In `tests/fuzz/corpus/<target>/` the files
//! `seed-*` were written by hand or taken from the captures, `crash-*` once showed a fault, and all others were found by the fuzzer.
#![expect(
    clippy::disallowed_methods,
    reason = "tests read the corpus from files"
)]
#![allow(clippy::expect_used, reason = "helpers of tests, which may panic")]

#[path = "fuzz/bodies.rs"]
mod bodies;

use std::fs;
use std::path::{Path, PathBuf};

/// The corpus of all targets stays below this, so that it can live with the sources.
const MAX_BYTES: u64 = 300_000;

fn files(target: &str) -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut files: Vec<PathBuf> = fs::read_dir(corpus.join(target))
        .expect("every target has a corpus")
        .map(|entry| entry.expect("a file").path())
        .collect();
    files.sort();
    files
}

#[test]
fn no_input_of_the_corpus_shows_a_fault() {
    for (target, body) in bodies::targets() {
        let files = files(target);
        assert!(!files.is_empty(), "{target} has no corpus");
        for file in files {
            let data = fs::read(&file).expect("a readable file");
            let run = std::panic::catch_unwind(|| body(&data));
            assert!(run.is_ok(), "{} shows a fault", file.display());
        }
    }
}

#[test]
fn every_dissector_is_a_target() {
    let targets: Vec<&str> = bodies::targets().map(|(target, _)| *target).collect();
    for name in cordon::sanitize::dissectors() {
        assert!(targets.contains(&name), "{name}");
    }
}

#[test]
fn the_fuzzer_knows_every_target() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/Cargo.toml");
    let manifest = fs::read_to_string(manifest).expect("a readable file");
    for (target, _) in bodies::targets() {
        let line = format!("{{ name = \"{target}\", path = \"target.rs\"");
        assert!(manifest.contains(&line), "{target}");
    }
}

#[test]
fn the_corpus_is_small() {
    let bytes: u64 = bodies::targets()
        .flat_map(|(target, _)| files(target))
        .map(|file| file.metadata().expect("a file").len())
        .sum();
    assert!(bytes < MAX_BYTES, "{bytes} bytes");
}
