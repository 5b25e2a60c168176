//! `cordon doctor`: it tries things for real, and touches nothing of the machine.

use crate::harness::{cordon, here};
use std::process::Command;

#[test]
fn what_can_be_done_here_is_told_and_nothing_stays() {
    here(|| {
        let links = || {
            std::fs::read_to_string("/proc/net/dev")
                .unwrap()
                .lines()
                .count()
        };
        let before = links();
        let output = Command::new(cordon())
            .args(["doctor", "--json"])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        // The other tests could not run without these.
        for name in ["TUN", "packet filter (nftables)"] {
            assert!(
                lines
                    .iter()
                    .any(|line| line["name"] == name && line["works"] == true),
                "{text}"
            );
        }
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(links(), before);
    });
}
