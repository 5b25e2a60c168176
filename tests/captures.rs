//! The sanitizer measured on labelled captures: `tests/captures/labels.tsv` says what each flow gives away, and whence
//! the captures come stands in `tests/captures/README.md`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of a test crate"
)]

use cordon::link::frame;
use cordon::link::pcap::Capture;
use cordon::report::audit::{Audit, Flow};
use cordon::sanitize::{Certainty, Class, Sanitizer};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

/// Classes that are stopped unless a policy says otherwise; the others are told and pass.
const STOPPED: [Class; 6] = [
    Class::Credential,
    Class::PersonId,
    Class::DeviceId,
    Class::HostName,
    Class::Location,
    Class::Content,
];

#[derive(Debug)]
struct Label {
    file: String,
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    sport: Option<u16>,
    dport: Option<u16>,
    class: Option<Class>,
    certain: bool,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures")
}

fn labels() -> Vec<Label> {
    let text = std::fs::read_to_string(folder().join("labels.tsv")).unwrap();
    text.lines()
        .skip(1)
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            let flow: Vec<&str> = columns[1].split(' ').collect();
            Label {
                file: columns[0].to_owned(),
                protocol: if flow[0] == "tcp" { 6 } else { 17 },
                source: flow[1].parse().unwrap(),
                destination: flow[2].parse().unwrap(),
                sport: flow[3].parse().ok(),
                dport: flow[4].parse().ok(),
                class: match columns[2] {
                    "clean" => None,
                    name => Some(
                        *Class::ALL
                            .iter()
                            .find(|class| class.name() == name)
                            .unwrap(),
                    ),
                },
                certain: columns[4] == "certain",
            }
        })
        .collect()
}

impl Label {
    fn covers(&self, flow: &Flow) -> bool {
        let side = |socket: SocketAddr, ip: IpAddr, port: Option<u16>| {
            socket.ip() == ip && port.is_none_or(|port| port == socket.port())
        };
        flow.key.protocol == self.protocol
            && side(flow.key.source, self.source, self.sport)
            && side(flow.key.destination, self.destination, self.dport)
    }
}

fn flows(file: &Path) -> Vec<Flow> {
    let (mut audit, mut flows) = (Audit::new(Sanitizer::default()), Vec::new());
    let mut capture = Capture::open(file).unwrap();
    capture
        .frames(|frame| {
            if let Some(seen) = frame::network(&frame).and_then(frame::read) {
                audit.packet(
                    (frame.number, frame.at),
                    &seen,
                    |_| false,
                    |flow| flows.push(flow),
                );
            }
        })
        .unwrap();
    audit.finish(|flow| flows.push(flow));
    flows
}

fn told(flow: &Flow) -> BTreeSet<Class> {
    flow.findings
        .iter()
        .filter(|told| told.certainty > Certainty::Suspected)
        .map(|told| told.class)
        .collect()
}

#[derive(Default)]
struct Score {
    hits: usize,
    labelled: usize,
    missed: Vec<String>,
}

#[test]
fn labelled_flows_are_told_and_clean_ones_left_alone() {
    let mut scores: BTreeMap<Class, Score> = BTreeMap::new();
    let (mut clean, mut harmed, mut unmatched) = (0, Vec::new(), Vec::new());
    let mut captures: BTreeMap<String, Vec<Flow>> = BTreeMap::new();
    for label in labels() {
        let flows = captures
            .entry(label.file.clone())
            .or_insert_with(|| flows(&folder().join(&label.file)));
        let covered: Vec<&Flow> = flows.iter().filter(|flow| label.covers(flow)).collect();
        let Some(class) = label.class else {
            clean += covered.len();
            for flow in covered {
                let stopped: Vec<_> = told(flow)
                    .into_iter()
                    .filter(|c| STOPPED.contains(c))
                    .collect();
                if !stopped.is_empty() {
                    harmed.push(format!("{} {:?}: {stopped:?}", label.file, flow.key));
                }
            }
            continue;
        };
        if covered.is_empty() {
            unmatched.push(format!("{label:?}"));
        }
        let score = scores.entry(class).or_default();
        score.labelled += 1;
        // A label covers several flows if it leaves a port open: one of them holds the field.
        let found: BTreeSet<Class> = covered.iter().flat_map(|flow| told(flow)).collect();
        if found.contains(&class) {
            score.hits += 1;
        } else {
            score.missed.push(format!(
                "{} told {found:?} certain {}",
                label.file, label.certain
            ));
        }
    }
    for (class, score) in &scores {
        println!(
            "{:13} {}/{} missed {:?}",
            class.name(),
            score.hits,
            score.labelled,
            score.missed
        );
    }
    println!("clean flows {clean}, harmed {harmed:?}, labels without a flow {unmatched:?}");
    for class in STOPPED {
        if let Some(score) = scores.get(&class) {
            assert!(
                score.hits * 100 >= score.labelled * 95,
                "{}: missed {:?}",
                class.name(),
                score.missed
            );
        }
    }
    assert_eq!(harmed, Vec::<String>::new());
    assert!(clean > 0);
}
