//! Nanoseconds of a decision, and milliseconds of loading.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench may fail loudly, and reads shipped policies"
)]

use cordon::jurisdiction::{Data, Groups};
use cordon::policy::{Evidence, Facts, Name, Opening, Policy, Source, Surroundings};
use divan::{Bencher, black_box};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::LazyLock;

static DATA: LazyLock<Data> = LazyLock::new(|| Data::embedded().unwrap());
static GROUPS: LazyLock<Groups> = LazyLock::new(|| Groups::embedded().unwrap());

fn main() {
    divan::main();
}

fn load(text: &str) -> Policy {
    let around = Surroundings {
        data: &DATA,
        groups: &GROUPS,
    };
    Policy::load("bench.toml", text, &around).unwrap()
}

/// A policy of `rules` rules of all kinds, none of which matches [`with_facts`].
fn long(rules: usize) -> String {
    let mut text = String::from("version = 1\n[default]\naction = \"allow\"\n");
    for number in 0..rules {
        let _ = writeln!(text, "[[rule]]\nid = \"r{number}\"\naction = \"block\"");
        let (a, b) = (number / 200 % 200, number % 200);
        let _ = match number % 5 {
            0 => writeln!(text, "ip = [\"10.{a}.{b}.0/24\"]"),
            1 => writeln!(text, "port = [{}]\nproto = \"tcp\"", 1000 + number % 50_000),
            2 => writeln!(text, "domain = [\".n{number}.example\"]"),
            3 => writeln!(
                text,
                "jurisdiction = [\"CN\"]\nport = [{}]",
                1000 + number % 50_000
            ),
            _ => writeln!(
                text,
                "asn = [{}]\ndomain = [\"x{number}.example\"]",
                100_000 + number
            ),
        };
    }
    text
}

fn with_facts(run: impl FnOnce(&Facts<'_>)) {
    let destination: SocketAddr = "93.184.216.34:443".parse().unwrap();
    let names = [Name {
        name: "static.cdn.shop.example.net",
        evidence: Evidence::Sni,
    }];
    run(&Facts {
        source: Source {
            address: "192.168.7.20".parse().unwrap(),
            mac: None,
            peer: None,
        },
        protocol: 6,
        destination,
        address: DATA.lookup(destination.ip()),
        names: &names,
        opening: Opening::default(),
        data: &DATA,
        wall: Some(1_800_000_000),
    });
}

#[divan::bench(args = [0, 12, 100, 1000, 10_000])]
fn decide(bencher: Bencher<'_, '_>, rules: usize) {
    let policy = load(&long(rules));
    with_facts(|facts| {
        assert_eq!(policy.decide(facts).verdict.name(), "allow");
        bencher.bench_local(|| policy.decide(black_box(facts)));
    });
}

#[divan::bench]
fn decide_by_the_home_policy(bencher: Bencher<'_, '_>) {
    let policy = load(include_str!("../../policies/home.toml"));
    with_facts(|facts| bencher.bench_local(|| policy.decide(black_box(facts))));
}

#[divan::bench]
fn explain(bencher: Bencher<'_, '_>) {
    let policy = load(include_str!("../../policies/clubhouse-2021.toml"));
    with_facts(|facts| bencher.bench_local(|| policy.explain(black_box(facts))));
}

#[divan::bench(args = [1000, 10_000], sample_count = 10)]
fn load_rules(bencher: Bencher<'_, '_>, rules: usize) {
    let text = long(rules);
    bencher.bench_local(|| load(black_box(&text)));
}
