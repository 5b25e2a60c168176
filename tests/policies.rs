//! Every shipped policy loads, is free of doubtful rules and passes its own tests; the commands say so.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::indexing_slicing,
    reason = "helpers of tests may fail loudly, read files and run the program"
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

/// Runs the program; what it prints and its exit status.
fn cordon(arguments: &[&str]) -> (String, String, i32) {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_cordon"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
        output.status.code().unwrap(),
    )
}

fn temporary(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

#[test]
fn check_passes_what_is_shipped_and_tells_each_mistake_with_its_place() {
    let (out, _, status) = cordon(&[
        "check",
        "policies/home.toml",
        "policies/corporate-research.toml",
    ]);
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("policies/corporate-research.toml: 9 rules, 0 warnings, 12 tests passed"));

    let broken = temporary(
        "version = 1\nnmae = \"x\"\n[[rule]]\nid = \"a\"\nport = [99999]\naction = \"block\"\n\
         [[rule]]\nid = \"a\"\ncountry = [\"UK\"]\naction = \"blok\"\n",
    );
    let name = broken.path().to_str().unwrap();
    let (out, _, status) = cordon(&["check", name]);
    let places: Vec<&str> = out
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.split(" error:").next())
        .collect();
    assert_eq!(
        places[..5],
        [":2:1:", ":5:9:", ":8:6:", ":9:12:", ":10:10:"],
        "{out}"
    );
    assert_eq!(status, 1);

    let (out, _, status) = cordon(&["check", "--json", name]);
    assert_eq!(status, 1);
    let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["type"], &first["line"]),
        (&"error".into(), &2.into())
    );

    let (_, error, status) = cordon(&["check", "no-such-file.toml"]);
    assert_eq!(status, 2);
    assert!(error.contains("cannot read no-such-file.toml"), "{error}");
}

#[test]
fn check_tells_what_cannot_be_read_and_goes_on_with_the_other_policies() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("bytes.toml"), b"version = 1\nname = \"\xff\"\n").unwrap();
    let (missing, bytes) = (path("missing.toml"), path("bytes.toml"));
    let home = "policies/home.toml";
    let (out, error, status) = cordon(&["check", &missing, &bytes, "/dev/zero", home]);
    assert_eq!(status, 2);
    assert!(out.contains("policies/home.toml: "), "{out}");
    for part in [
        "missing.toml: No such file",
        "bytes.toml: it is not UTF-8 text from line 2 on",
        "/dev/zero: it is larger than 64 MiB",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_data_file_that_cannot_be_read_is_named_with_its_line() {
    let rows = temporary("192.0.2.0,192.0.2.255,DE\nnonsense\n");
    let name = rows.path().to_str().unwrap();
    let build = [
        "db",
        "build",
        "--name",
        "x",
        "--kind",
        "location",
        "--built",
        "2026-06-17",
        "-o",
        "x",
    ];
    let (_, error, status) = cordon(&[&build[..], &[name]].concat());
    assert_eq!(status, 2);
    let wanted = format!("{name} cannot be used: line 2 cannot be used: ");
    assert!(error.contains(&wanted), "{error}");
}

#[test]
fn check_fails_if_a_test_of_the_policy_does() {
    let policy = temporary(
        "version = 1\n[[test]]\nflow = \"* -> 192.0.2.1:1\"\nexpect = \"allow by default\"\n",
    );
    let (out, _, status) = cordon(&["check", policy.path().to_str().unwrap()]);
    assert_eq!(status, 1);
    assert!(
        out.contains("expected allow by default, found block by default"),
        "{out}"
    );
}

#[test]
fn explain_says_the_verdict_by_its_status() {
    let journalist = "policies/journalist.toml";
    for (arguments, status) in [
        (&["9.9.9.9"][..], 0),
        (&["--policy", "policies/clubhouse-2021.toml", "1.2.4.8"], 10),
        (
            &[
                "--policy",
                journalist,
                "--proto",
                "udp",
                "--name",
                "x.signal.org",
                "1.1.1.1:3478",
            ],
            10,
        ),
        (
            &[
                "--policy",
                "policies/corporate.toml",
                "--name",
                "x.zoom.us",
                "9.9.9.9",
            ],
            11,
        ),
        (&["--proto", "icmp", "2001:4860:4860::8888"], 0),
        (&["--policy", "no-such-file", "1.1.1.1"], 2),
        (&["example.org"], 2),
        (&["--name", "a b", "1.1.1.1"], 2),
        (&["--from", "nobody", "1.1.1.1"], 2),
    ] {
        let arguments: Vec<&str> = ["explain"].iter().chain(arguments).copied().collect();
        let (out, error, found) = cordon(&arguments);
        assert_eq!(found, status, "{arguments:?}\n{out}{error}");
    }
    let observed = temporary(
        "version = 1\nmode = \"observe\"\n[default]\naction = \"allow\"\n[[rule]]\nid = \"x\"\naction = \"block\"\n",
    );
    let (out, _, status) = cordon(&[
        "explain",
        "--policy",
        observed.path().to_str().unwrap(),
        "1.1.1.1",
    ]);
    assert_eq!(status, 12, "{out}");
    assert!(out.contains("Only observed: `x` would block it."), "{out}");
}

#[test]
fn explain_prints_one_object_with_the_promised_keys() {
    let policy = "policies/clubhouse-2021.toml";
    let (out, _, _) = cordon(&[
        "explain", "--json", "--policy", policy, "--name", "x.org", "1.2.4.8",
    ]);
    let object: serde_json::Value = serde_json::from_str(&out).unwrap();
    for key in [
        "verdict", "rule", "reply", "exit", "observed", "needs", "facts", "trace", "flip",
    ] {
        assert!(object.get(key).is_some(), "{key}");
    }
    for key in [
        "ip",
        "looked_up_as",
        "special",
        "country",
        "registered",
        "asn",
        "as_name",
        "operator",
        "operator_country",
        "anycast",
        "confidence",
        "sources",
        "name",
        "name_evidence",
    ] {
        assert!(object["facts"].get(key).is_some(), "{key}");
    }
    assert_eq!(object["rule"], "no-prc");
    assert_eq!(object["trace"][0]["matched"], "no");
    let again = cordon(&[
        "explain", "--json", "--policy", policy, "--name", "x.org", "1.2.4.8",
    ]);
    assert_eq!(again.0, out, "the same inputs give the same bytes");
}

/// A configuration that locates some addresses otherwise than the program does, and an mmdb file that does so too.
fn elsewhere(folder: &Path, rows: &str) -> (String, String) {
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    std::fs::write(path("offices.csv"), rows).unwrap();
    let config = format!(
        "[[db.source]]\nname = \"offices\"\nkind = \"location\"\npath = [\"{}\"]\n",
        path("offices.csv")
    );
    std::fs::write(path("cordon.toml"), config).unwrap();
    let build = [
        "db",
        "build",
        "--name",
        "offices",
        "--kind",
        "location",
        "--built",
        "2026-06-17",
        "-o",
        &path("offices.cdb"),
        "--mmdb",
        &path("offices.mmdb"),
        &path("offices.csv"),
    ];
    let (_, error, status) = cordon(&build);
    assert_eq!(status, 0, "{error}");
    (path("cordon.toml"), path("offices.mmdb"))
}

#[test]
fn every_command_judges_by_the_data_that_is_configured_or_given() {
    let folder = tempfile::tempdir().unwrap();
    let (config, mmdb) = elsewhere(
        folder.path(),
        "9.9.9.0,9.9.9.255,KP\n188.166.170.0,188.166.170.255,KP\n",
    );
    let policy = temporary(
        "version = 1\n[default]\naction = \"allow\"\n[[rule]]\nid = \"no-kp\"\njurisdiction = [\"KP\"]\n\
         action = \"block\"\n[[test]]\nflow = \"* -> 9.9.9.9:443\"\nexpect = \"block by no-kp\"\n",
    );
    let policy = policy.path().to_str().unwrap();
    let by_policy = ["--policy", policy];
    let capture = "tests/captures/corelight-wireguard.pcap";
    for (command, without, with) in [
        (vec!["check", policy], 1, 0),
        (
            vec!["explain", by_policy[0], by_policy[1], "9.9.9.9"],
            0,
            10,
        ),
    ] {
        assert_eq!(cordon(&command).2, without, "{command:?}");
        for option in [["--config", &config], ["--db", &mmdb]] {
            let given: Vec<&str> = command.iter().chain(&option).copied().collect();
            let (out, error, status) = cordon(&given);
            assert_eq!(status, with, "{given:?}\n{out}{error}");
        }
    }
    for option in [["--config", &config], ["--db", &mmdb]] {
        let (out, _, _) = cordon(&["lookup", "--json", option[0], option[1], "9.9.9.9"]);
        assert!(
            out.contains("{\"name\":\"offices\",\"country\":\"KP\""),
            "{out}"
        );
        let (out, _, _) = cordon(&[
            "audit",
            "--json",
            by_policy[0],
            by_policy[1],
            option[0],
            option[1],
            capture,
        ]);
        assert!(out.contains("\"rule\":\"no-kp\""), "{out}");
    }
    let (out, _, _) = cordon(&["audit", "--json", by_policy[0], by_policy[1], capture]);
    assert!(!out.contains("\"rule\":\"no-kp\""), "{out}");
}

#[test]
fn no_command_does_without_a_data_file_that_cannot_be_used() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken.mmdb");
    std::fs::write(&broken, "no data").unwrap();
    let broken = ["--db", broken.to_str().unwrap()];
    for command in [
        vec!["check", broken[0], broken[1], "policies/home.toml"],
        vec!["explain", broken[0], broken[1], "9.9.9.9"],
        vec!["lookup", broken[0], broken[1], "9.9.9.9"],
        vec![
            "audit",
            broken[0],
            broken[1],
            "tests/captures/suricata-ntp.pcap",
        ],
        vec!["exec", broken[0], broken[1], "--", "true"],
        vec!["db", "status", broken[0], broken[1]],
    ] {
        let (_, error, status) = cordon(&command);
        assert_eq!(status, 2, "{command:?}: {error}");
        assert!(
            error.contains("broken.mmdb cannot be used"),
            "{command:?}: {error}"
        );
    }
}
