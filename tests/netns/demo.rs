//! The demo, as a user runs it first.

use crate::harness::{cordon, here};
use std::process::Command;

#[test]
fn the_demo_proves_that_nothing_leaked_and_that_something_could() {
    here(|| {
        let folder = tempfile::tempdir().unwrap();
        let page = folder.path().join("demo.html");
        let output = Command::new(cordon())
            .args(["demo", "--json", "--report"])
            .arg(&page)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{text}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let last = lines.last().unwrap();
        assert_eq!(
            (&last["type"], &last["leaked"], &last["proof"]),
            (&"demo".into(), &false.into(), &true.into())
        );
        assert_eq!(last["with"]["api_calls"], 3);
        assert!(last["without"]["identifying"].as_u64().unwrap() > 5);
        assert_eq!(last["by_exit"]["audio_by_edge"], 50, "{last}");
        assert_eq!(last["by_exit"]["identifying"], 0);
        assert_eq!(last["by_exit"]["forbidden"], 0);
        assert!(last["edge_packets_by_exit"].as_u64().unwrap() >= 50);
        let kinds: Vec<&str> = lines
            .iter()
            .filter_map(|line| line["type"].as_str())
            .collect();
        assert!(kinds.contains(&"leak") && kinds.contains(&"verdict"));
        let page = std::fs::read_to_string(page).unwrap();
        for part in ["What a gate saw", "account number", "clubhouse-2021", "CN"] {
            assert!(page.contains(part), "{part}");
        }
        for value in lines.iter().filter(|line| line["type"] == "leak") {
            assert!(page.contains(value["class"].as_str().unwrap()));
        }
    });
}
