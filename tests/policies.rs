//! Every shipped policy loads, is free of doubtful rules and passes its own tests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "helpers of tests may fail loudly, and read files"
)]

use cordon::jurisdiction::{Data, Groups};
use cordon::policy::{Files, Policy, Surroundings};
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

/// Policies that others extend.
#[derive(Debug)]
struct Folder;

impl Files for Folder {
    fn read(&self, path: &str) -> Result<String, String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
        std::fs::read_to_string(folder.join(path)).map_err(|error| error.to_string())
    }
}

fn load(path: &Path) -> Policy {
    let around = Surroundings {
        data: &DATA,
        groups: &GROUPS,
    };
    let name = path.file_name().unwrap().to_string_lossy();
    let text = std::fs::read_to_string(path).unwrap();
    Policy::load_with(&name, &text, &around, &Folder).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn shipped_policies_pass_their_own_tests() {
    let files = shipped();
    assert!(files.len() >= 8, "{files:?}");
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

/// Files that the examples of the README name.
#[derive(Debug)]
struct Examples;

impl Files for Examples {
    fn read(&self, path: &str) -> Result<String, String> {
        match path {
            "lists/ads.txt" => Ok("0.0.0.0 ads.example\n".into()),
            "lists/drop.txt" => Ok("192.0.2.0/24\n".into()),
            _ => Err("no such file".into()),
        }
    }
}

#[test]
fn every_example_of_the_readme_loads_and_passes_its_tests() {
    let readme = include_str!("../policies/README.md");
    let around = Surroundings {
        data: &DATA,
        groups: &GROUPS,
    };
    let examples: Vec<&str> = readme
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect();
    assert!(examples.len() >= 9, "{}", examples.len());
    for example in examples {
        let policy = Policy::load_with("README.md", example, &around, &Examples)
            .unwrap_or_else(|error| panic!("{error}\n{example}"));
        for result in policy.run_tests(&DATA) {
            assert!(result.passed, "{result:?}");
        }
    }
}
