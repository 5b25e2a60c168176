//! Nanoseconds of a decision, and milliseconds of loading.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench may fail loudly, and reads shipped policies"
)]

use cordon::jurisdiction::{Data, Groups};
use cordon::policy::{Evidence, Facts, Files, Name, Opening, Policy, Source, Surroundings};
use divan::{Bencher, black_box};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::LazyLock;

static DATA: LazyLock<Data> = LazyLock::new(|| Data::embedded().unwrap());
static GROUPS: LazyLock<Groups> = LazyLock::new(|| Groups::embedded().unwrap());

/// Shows that a decision allocates nothing.
#[global_allocator]
static ALLOCATIONS: divan::AllocProfiler = divan::AllocProfiler::system();

fn main() {
    divan::main();
}

fn load(text: &str) -> Policy {
    let around = Surroundings {
        data: &DATA,
        groups: &GROUPS,
    };
    Policy::load_with("bench.toml", text, &around, &Lists).unwrap()
}

/// A list of as many names as its file's name says.
#[derive(Debug)]
struct Lists;

impl Files for Lists {
    fn read(&self, path: &str) -> Result<String, String> {
        let count: usize = path.parse().map_err(|_| "not a number")?;
        Ok((0..count)
            .map(|number| format!("ads{number}.example.com\n"))
            .collect())
    }
}

/// The same with a rule on a list of 100,000 names before them.
fn long_with_list(rules: usize) -> String {
    let list = "[lists]\nads = { file = \"100000\", format = \"domains\" }\n\
        [[rule]]\nid = \"ads\"\ndomain = [\"list:ads\"]\naction = \"block\"\n[[rule]]";
    long(rules).replacen("[[rule]]", list, 1)
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
    // Asked for and shown, as by any flow of a browser.
    let names = [Evidence::Dns { age: 1 }, Evidence::Sni].map(|evidence| Name {
        name: "static.cdn.shop.example.net",
        evidence,
    });
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

#[divan::bench(args = [1000])]
fn decide_with_a_list_of_100_000_names(bencher: Bencher<'_, '_>, rules: usize) {
    let policy = load(&long_with_list(rules));
    with_facts(|facts| bencher.bench_local(|| policy.decide(black_box(facts))));
}

/// Without a name every rule that asks for one has to be asked.
#[divan::bench(args = [1000])]
fn decide_without_a_name(bencher: Bencher<'_, '_>, rules: usize) {
    let text = long_with_list(rules).replace("[default]", "[default]\non_unknown = \"allow\"");
    let policy = load(&text);
    with_facts(|facts| {
        let nameless = Facts {
            names: &[],
            ..*facts
        };
        bencher.bench_local(|| policy.decide(black_box(&nameless)));
    });
}

#[divan::bench(sample_count = 10)]
fn load_a_list_of_100_000_names(bencher: Bencher<'_, '_>) {
    let text = long_with_list(1);
    bencher.bench_local(|| load(black_box(&text)));
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
fn lint(bencher: Bencher<'_, '_>, rules: usize) {
    let policy = load(&long(rules));
    bencher.bench_local(|| policy.lint());
}

#[divan::bench(args = [1000, 10_000], sample_count = 10)]
fn load_rules(bencher: Bencher<'_, '_>, rules: usize) {
    let text = long(rules);
    bencher.bench_local(|| load(black_box(&text)));
}
