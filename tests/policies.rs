//! Every shipped policy loads, is free of doubtful rules and passes its own tests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests may fail loudly, and read files"
)]

use cordon::jurisdiction::{Data, Groups};
use cordon::policy::{Policy, Surroundings};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

static DATA: LazyLock<Data> = LazyLock::new(|| Data::embedded().unwrap());
static GROUPS: LazyLock<Groups> = LazyLock::new(|| Groups::embedded().unwrap());

fn shipped() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    files
}

fn load(path: &Path) -> Policy {
    let around = Surroundings {
        data: &DATA,
        groups: &GROUPS,
    };
    let name = path.file_name().unwrap().to_string_lossy();
    let text = std::fs::read_to_string(path).unwrap();
    Policy::load(&name, &text, &around).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn shipped_policies_pass_their_own_tests() {
    let files = shipped();
    assert!(files.len() >= 3, "{files:?}");
    for path in files {
        let results = load(&path).run_tests(&DATA);
        assert!(
            results.len() >= 10,
            "{}: only {} tests",
            path.display(),
            results.len()
        );
        for result in results {
            assert!(
                result.passed,
                "{}: {}: expected {}, found {}",
                result.place, result.flow, result.expected, result.found
            );
        }
    }
}

#[test]
fn nothing_in_the_shipped_policies_is_doubtful() {
    for path in shipped() {
        let doubts: Vec<String> = load(&path).lint().iter().map(ToString::to_string).collect();
        assert_eq!(doubts, [""; 0], "{}", path.display());
    }
}
