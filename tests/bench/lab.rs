//! Cordon's paths against the kernel's own forwarding, in one interleaved run.
//!
//! `cargo build --release --examples && cargo run --release --example lab -- [--rounds N] [--seconds N] [--paths LIST]
//! [--tests LIST] [--shards N] [--v6] [--peer NAME=COMMAND]…`
//!
//! A phone, a router and a server in namespaces of their own, with addresses of the real world, so that the shipped
//! policy `home.toml` judges them by the embedded data. In each round every path is measured once, the plain kernel
//! first; the table has medians, and their ratios to the kernel's. A peer is started by `sh` on the router (interfaces
//! `lan` and `wan`) and has a second to set up its routes. Nothing else should run on the machine.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool of the project's own measurements"
)]

mod bed;
mod measure;
#[path = "../netns/nat.rs"]
mod nat;

use anyhow::{Context, Result, bail};
use bed::{Running, gate, proc_of};
use cordon::kernel::namespace::lab::{Host, Lab};
use measure::{Value, built, measure, median, start};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, fs, thread};

const SERVER: [&str; 2] = ["198.41.0.4:6000", "[2001:503:ba3e::2:30]:6000"];
const KERNEL: &str = "plain";
/// The kernel's own speed depends on it most of all: BBR waits between bursts, CUBIC does not.
const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
const FLOWS: &str = "10000";
/// How long they have lain still when they are measured.
const LIE_STILL: Duration = Duration::from_secs(5);

struct Options {
    rounds: usize,
    seconds: u64,
    paths: Vec<String>,
    tests: Vec<String>,
    shards: Option<usize>,
    to: &'static str,
    peers: BTreeMap<String, String>,
}

type Results = BTreeMap<(String, String), Vec<Value>>;

fn main() -> Result<()> {
    let lab = bed::lab()?;
    let options = Options::read(env::args().skip(1))?;
    let net = Net::new(&lab)?;
    let mut results = Results::new();
    for round in 1..=options.rounds {
        for path in &options.paths {
            eprintln!("round {round} of {}: {path}", options.rounds);
            net.measure(path, &options, &mut results)
                .with_context(|| format!("the path {path}"))?;
        }
    }
    let congestion = net.router.run(|| Ok(fs::read_to_string(CONGESTION)?))?;
    println!("congestion control of all hosts: {}", congestion.trim());
    print(&options, &results);
    Ok(())
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let mut options = Self {
            rounds: 3,
            seconds: 3,
            paths: list("plain,kernel,pass,terminate"),
            tests: list("up1,down1,up8,down8,crr,rr,udp,idle"),
            shards: None,
            to: SERVER[0],
            peers: BTreeMap::new(),
        };
        while let Some(word) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{word} wants a value"))
            };
            match word.as_str() {
                "--rounds" => options.rounds = value()?.parse()?,
                "--seconds" => options.seconds = value()?.parse()?,
                "--paths" => options.paths = list(&value()?),
                "--tests" => options.tests = list(&value()?),
                "--shards" => options.shards = Some(value()?.parse()?),
                "--v6" => options.to = SERVER[1],
                "--peer" => {
                    let peer = value()?;
                    let (name, command) = peer.split_once('=').context("NAME=COMMAND")?;
                    options.paths.push(name.to_owned());
                    options.peers.insert(name.to_owned(), command.to_owned());
                }
                _ => bail!("unknown option {word}; see the head of the file"),
            }
        }
        Ok(options)
    }
}

struct Net {
    phone: Host,
    router: Host,
    _world: Host,
    _server: Running,
    directory: tempfile::TempDir,
}

impl Net {
    fn new(lab: &Lab) -> Result<Self> {
        let [phone, router, world] = ["phone", "router", "world"].map(|name| lab.host(name));
        let (phone, router, world) = (phone?, router?, world?);
        lab.wire((&phone, "wlan"), (&router, "lan"))?;
        lab.wire((&router, "wan"), (&world, "net"))?;
        for (host, link, address) in [
            (&phone, "wlan", "192.168.7.2/24"),
            (&phone, "wlan", "fd07::2/64"),
            (&router, "lan", "192.168.7.1/24"),
            (&router, "lan", "fd07::1/64"),
            (&router, "wan", "203.0.113.1/24"),
            (&router, "wan", "fd77::1/64"),
            (&world, "net", "203.0.113.2/24"),
            (&world, "net", "fd77::2/64"),
            (&world, "net", "198.41.0.4/32"),
            (&world, "net", "2001:503:ba3e::2:30/128"),
        ] {
            host.address(link, address)?;
        }
        phone.default_route("wlan", "192.168.7.1")?;
        phone.default_route("wlan", "fd07::1")?;
        router.default_route("wan", "203.0.113.2")?;
        router.default_route("wan", "fd77::2")?;
        world.route("192.168.7.0/24", "net", Some("203.0.113.1"))?;
        world.route("fd07::/64", "net", Some("fd77::1"))?;
        router.forward()?;
        nat::masquerade(&router, "wan");
        // Behind one address, a port that one path just used would stall the next.
        world.setting("ipv4/tcp_max_tw_buckets", "8")?;
        router.setting("netfilter/nf_conntrack_tcp_timeout_time_wait", "1")?;
        for host in [&phone, &router] {
            host.setting("ipv4/ip_local_port_range", "1024 65535")?;
        }
        // New IPv6 addresses are looked for elsewhere before they are used (RFC 4862, section 5.4).
        thread::sleep(Duration::from_secs(3));
        let server = start(&world, &built("load")?, &["serve", SERVER[0], SERVER[1]])?.1;
        Ok(Self {
            phone,
            router,
            _world: world,
            _server: server,
            directory: tempfile::tempdir()?,
        })
    }

    fn measure(&self, path: &str, options: &Options, results: &mut Results) -> Result<()> {
        let mut keep = |test: &str, value| {
            let key = (test.to_owned(), path.to_owned());
            results.entry(key).or_default().push(value);
        };
        let gate = self.start(path, options)?;
        for test in options.tests.iter().filter(|test| *test != "idle") {
            keep(
                test,
                measure(&self.phone, test, options.to, options.seconds)
                    .with_context(|| test.clone())?,
            );
        }
        drop(gate);
        if options.tests.iter().any(|test| test == "idle") {
            self.idle("TCP", "idle", path, options, &mut keep)?;
            self.idle("UDP", "idle-udp", path, options, &mut keep)?;
        }
        Ok(())
    }

    /// Many flows that lie still behind a gate of their own: how long it takes to open them, what they cost, and what
    /// others reach beside them.
    fn idle(
        &self,
        name: &str,
        kind: &str,
        path: &str,
        options: &Options,
        keep: &mut impl FnMut(&str, Value),
    ) -> Result<()> {
        let gate = self.start(path, options)?;
        let before = gate.as_ref().map_or(Ok(0.0), memory)?;
        let (took, _held) = self
            .load(&[kind, options.to, FLOWS, "600"])
            .context(kind.to_owned())?;
        keep(&format!("{FLOWS} {name}: s"), Value::of(took.parse()?));
        if let Some(gate) = &gate {
            let most = memory(gate)?;
            thread::sleep(LIE_STILL);
            keep(
                &format!("{FLOWS} {name}: MB at most"),
                Value::of(most / 1e6),
            );
            let kib = (memory(gate)? - before) / 1024.0 / FLOWS.parse::<f64>()?;
            keep(&format!("{FLOWS} {name}: KiB each"), Value::of(kib));
            keep("memory MB", Value::of(before / 1e6));
        }
        for test in ["up1", "down1", "up8"].iter().filter(|_| name == "TCP") {
            keep(
                &format!("{test} beside them"),
                measure(&self.phone, test, options.to, options.seconds)?,
            );
        }
        Ok(())
    }

    /// Starts what stands between phone and server; nothing for the plain kernel.
    fn start(&self, path: &str, options: &Options) -> Result<Option<Running>> {
        if path == KERNEL {
            return Ok(None);
        }
        if let Some(command) = options.peers.get(path) {
            let peer = self.router.run(|| {
                let mut shell = Command::new("/bin/sh");
                Ok(shell.arg("-c").arg(format!("exec {command}")).spawn()?)
            })?;
            thread::sleep(Duration::from_secs(1));
            return Ok(Some(Running(peer)));
        }
        let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/home.toml");
        let config = self.directory.path().join(format!("{path}.toml"));
        let shards = options
            .shards
            .map_or(String::new(), |shards| format!("shards = {shards}\n"));
        let text =
            format!("policy = {policy:?}\n[link]\ninside = [\"lan\"]\npath = {path:?}\n{shards}");
        fs::write(&config, text)?;
        Ok(Some(gate(&self.router, &config)?))
    }

    fn load(&self, words: &[&str]) -> Result<(String, Running)> {
        start(&self.phone, &built("load")?, words)
    }
}

/// Bytes of memory that are the gate's alone (proc(5), `RssAnon`).
fn memory(gate: &Running) -> Result<f64> {
    let status = fs::read_to_string(proc_of(gate)?.join("status"))?;
    let anon = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = anon.and_then(|anon| anon.trim().strip_suffix(" kB"));
    Ok(kib.context("no RssAnon")?.parse::<f64>()? * 1024.0)
}

/// A table: each test's median, its ratio to the plain kernel's, and seconds of all processors a gigabyte.
fn print(options: &Options, results: &Results) {
    println!("| | {} |", options.paths.join(" | "));
    println!("|---|{}", "---|".repeat(options.paths.len()));
    let mut tests: Vec<&String> = results.keys().map(|(test, _)| test).collect();
    tests.dedup();
    for test in tests {
        let get = |path: &str| results.get(&(test.clone(), path.to_owned()));
        let plain = get(KERNEL).map(|values| median(values, |value| value.number));
        let cells: Vec<String> = options
            .paths
            .iter()
            .map(|path| {
                let Some(values) = get(path) else {
                    return "–".into();
                };
                let number = median(values, |value| value.number);
                let mut cell = format!("{number:.*}", usize::from(number < 100.0));
                if let Some(plain) = plain.filter(|_| path != KERNEL) {
                    cell += &format!(" ({:.2})", number / plain);
                }
                if values[0].bytes > 0.0 {
                    cell += &format!(", {:.2} s/GB", median(values, |v| v.busy / v.bytes * 1e9));
                }
                cell
            })
            .collect();
        println!("| {test} | {} |", cells.join(" | "));
    }
}
