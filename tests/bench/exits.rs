//! Exits against what they are to be measured by, in one interleaved run: SOCKS5 against the same flow by Cordon direct,
//! WireGuard against a stock client (`wireguard-go`) on the same link. A flow by a proxy has a program more on its way
//! than one that goes direct; with `relayed` and `socks5` both go by the same one, which costs as little as it can, with
//! `direct` and `microsocks` a proxy of others is compared with none.
//!
//! `cargo build --release --examples && cargo run --release --example exits -- [--rounds N] [--seconds N] [--paths LIST]
//! [--tests LIST] [--shards N]`
//!
//! A phone, a router and a server in namespaces of their own. The exits' servers run where the server is, so that every
//! path has the same links. The table has medians, and the median of the ratios of each pair within a round; for `rr`,
//! microseconds, less is better. Nothing else should run on the machine.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool of the project's own measurements"
)]

#[allow(dead_code, reason = "each tool of the lab uses a part of it")]
mod bed;
mod measure;

use anyhow::{Context, Result, bail, ensure};
use bed::{Running, gate};
use cordon::kernel::namespace::lab::{Host, Lab};
use cordon::kernel::netlink::Netlink;
use measure::{Value, built, measure, median, start};
use nix::mount::{MsFlags, mount};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use std::{env, fs, thread};

const SERVER: &str = "198.41.0.4:6000";
/// Where the exits' servers are.
const ABROAD: &str = "203.0.113.2";
/// What is compared: an exit, and by what it is measured.
const PAIRS: [[&str; 2]; 3] = [
    ["socks5", "relayed"],
    ["microsocks", "direct"],
    ["wireguard", "wireguard-go"],
];
/// Where the path `relayed` has its relay, which passes on to the server.
const RELAY: &str = "198.41.0.4:6001";

struct Options {
    rounds: usize,
    seconds: u64,
    paths: Vec<String>,
    tests: Vec<String>,
    shards: usize,
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
            let _running = net.start(path, &options).with_context(|| path.clone())?;
            for test in &options.tests {
                let to = if path == "relayed" { RELAY } else { SERVER };
                let value = measure(&net.phone, test, to, options.seconds);
                let value = value.with_context(|| format!("{test} by the path {path}"))?;
                let key = (test.clone(), path.clone());
                results.entry(key).or_default().push(value);
            }
        }
    }
    print(&options, &results);
    Ok(())
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let mut options = Self {
            rounds: 3,
            seconds: 3,
            paths: list("relayed,socks5,wireguard-go,wireguard"),
            tests: list("put,down1,down8,crr,rr"),
            shards: 1,
        };
        while let Some(word) = words.next() {
            let value = words.next();
            let value = value.with_context(|| format!("{word} wants a value"))?;
            match word.as_str() {
                "--rounds" => options.rounds = value.parse()?,
                "--seconds" => options.seconds = value.parse()?,
                "--paths" => options.paths = list(&value),
                "--tests" => options.tests = list(&value),
                "--shards" => options.shards = value.parse()?,
                _ => bail!("unknown option {word}; see the head of the file"),
            }
        }
        Ok(options)
    }
}

struct Net {
    phone: Host,
    router: Host,
    _running: Vec<Running>,
    directory: tempfile::TempDir,
    /// The stock client's private key, the gate's, and the server's public one. Two clients, because a server takes no
    /// handshake that is older than the last, and they do not agree on the time to the second.
    keys: [String; 3],
}

impl Net {
    fn new(lab: &Lab) -> Result<Self> {
        let [phone, router, world] = ["phone", "router", "world"].map(|name| lab.host(name));
        let (phone, router, world) = (phone?, router?, world?);
        lab.wire((&phone, "wlan"), (&router, "lan"))?;
        lab.wire((&router, "wan"), (&world, "net"))?;
        for (host, link, address) in [
            (&phone, "wlan", "192.168.7.2/24"),
            (&router, "lan", "192.168.7.1/24"),
            (&router, "wan", "203.0.113.1/24"),
            (&world, "net", "203.0.113.2/24"),
            (&world, "net", "198.41.0.4/32"),
        ] {
            host.address(link, address)?;
        }
        phone.default_route("wlan", "192.168.7.1")?;
        router.default_route("wan", ABROAD)?;
        router.forward()?;
        for host in [&phone, &router, &world] {
            host.setting("ipv4/ip_local_port_range", "1024 65535")?;
        }
        // The control sockets of wireguard-go lie there.
        let none = None::<&str>;
        mount(none, "/run", Some("tmpfs"), MsFlags::empty(), none)?;
        let directory = tempfile::tempdir()?;
        let keys = [key()?, key()?, key()?];
        let [
            (stock, stock_public),
            (ours, our_public),
            (theirs, their_public),
        ] = &keys;
        let server = start(&world, &built("load")?, &["serve", SERVER])?.1;
        let load = built("load")?;
        let own_proxy = start(&world, &load, &["relay", &format!("{ABROAD}:1081")])?.1;
        let relay = start(&world, &load, &["relay", RELAY, SERVER])?.1;
        let proxy = world.run(|| {
            let mut proxy = Command::new("microsocks");
            let proxy = proxy.args(["-i", ABROAD, "-p", "1080"]);
            Ok(Running(proxy.stderr(Stdio::null()).spawn()?))
        })?;
        let text = format!(
            "[Interface]\nPrivateKey = {theirs}\nListenPort = 51820\n[Peer]\nPublicKey = {stock_public}\n\
             AllowedIPs = 10.9.0.2/32, 192.168.7.0/24\n[Peer]\nPublicKey = {our_public}\n\
             AllowedIPs = 10.9.0.3/32\n"
        );
        let tunnel = tunnel(&world, "wgs", &text, "10.9.0.1/24")?;
        world.route("192.168.7.0/24", "wgs", None)?;
        Ok(Self {
            phone,
            router,
            _running: vec![server, proxy, own_proxy, relay, tunnel],
            directory,
            keys: [stock, ours, their_public].map(Clone::clone),
        })
    }

    /// Starts what stands between phone and server.
    fn start(&self, path: &str, options: &Options) -> Result<Running> {
        let [stock, ours, public] = &self.keys;
        let peer =
            format!("[Peer]\nPublicKey = {public}\nEndpoint = {ABROAD}:51820\nAllowedIPs = ");
        if path == "wireguard-go" {
            let text =
                format!("[Interface]\nPrivateKey = {stock}\n{peer}198.41.0.4/32, 10.9.0.0/24\n");
            let running = tunnel(&self.router, "wgc", &text, "10.9.0.2/24")?;
            self.router.route("198.41.0.4/32", "wgc", None)?;
            return Ok(running);
        }
        let exit = match path {
            "direct" | "relayed" => "kind = \"direct\"".to_owned(),
            "microsocks" => format!("kind = \"socks5\", server = \"{ABROAD}:1080\""),
            "socks5" => format!("kind = \"socks5\", server = \"{ABROAD}:1081\""),
            "wireguard" => "kind = \"wireguard\", profile = \"x\"".to_owned(),
            other => bail!("no path is called {other}"),
        };
        let file = |name: &str| self.directory.path().join(name);
        secret(
            &file("x.conf"),
            &format!("[Interface]\nPrivateKey = {ours}\nAddress = 10.9.0.3/24\n{peer}0.0.0.0/0\n"),
        )?;
        let policy = format!(
            "version = 1\nname = \"exits\"\n[default]\naction = \"allow\"\n[exits]\nx = {{ {exit} }}\n\
             [[rule]]\nid = \"abroad\"\nip = [\"198.41.0.4\"]\naction = \"reroute\"\nexit = \"x\"\n"
        );
        fs::write(file("policy.toml"), policy)?;
        let config = format!(
            "policy = {:?}\n[link]\ninside = [\"lan\"]\npath = \"terminate\"\nshards = {}\n",
            file("policy.toml"),
            options.shards
        );
        let profile = match path {
            "wireguard" => format!("[exits.x]\nconfig = {:?}\n", file("x.conf")),
            _ => String::new(),
        };
        secret(&file("cordon.toml"), &(config + &profile))?;
        gate(&self.router, &file("cordon.toml"))
    }
}

/// A tunnel of others on a host, with a link of this name, configuration and address.
fn tunnel(host: &Host, link: &str, text: &str, address: &str) -> Result<Running> {
    let running = host.run(|| {
        let mut command = Command::new("wireguard-go");
        command
            .args(["-f", link])
            .env("WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD", "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Running(command.spawn()?))
    })?;
    let socket = PathBuf::from(format!("/run/wireguard/{link}.sock"));
    for _ in 0..500 {
        if socket.exists() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    let file = tempfile::NamedTempFile::new()?;
    fs::write(file.path(), text)?;
    let mut command = Command::new("wg");
    command.args(["setconf", link]).arg(file.path());
    let status = host.run(|| Ok(command.status()?))?;
    ensure!(status.success(), "wg setconf {link}");
    host.address(link, address)?;
    host.run(|| Netlink::open()?.up(link))?;
    Ok(running)
}

/// A private key and its public one.
fn key() -> Result<(String, String)> {
    let ask = |what: &str, input: &str| -> Result<String> {
        let mut command = Command::new("wg");
        command
            .arg(what)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().context("wg (wireguard-tools)")?;
        child.stdin.take().unwrap().write_all(input.as_bytes())?;
        Ok(String::from_utf8(child.wait_with_output()?.stdout)?
            .trim()
            .to_owned())
    };
    let private = ask("genkey", "")?;
    let public = ask("pubkey", &private)?;
    Ok((private, public))
}

/// Writes a file that is for its owner only.
fn secret(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o600),
    )?)
}

/// A table: each test's medians and seconds of all processors a gigabyte, and the median of each round's ratio.
fn print(options: &Options, results: &Results) {
    let pairs: Vec<_> = PAIRS
        .iter()
        .filter(|pair| {
            pair.iter()
                .all(|path| options.paths.iter().any(|p| p == path))
        })
        .collect();
    let ratios: Vec<String> = pairs.iter().map(|[a, b]| format!("{a} / {b}")).collect();
    let columns = [&options.paths[..], &ratios[..]].concat();
    println!("| | {} |", columns.join(" | "));
    println!("|---|{}", "---|".repeat(columns.len()));
    for test in &options.tests {
        let get = |path: &str| &results[&(test.clone(), path.to_owned())];
        let mut cells: Vec<String> = options
            .paths
            .iter()
            .map(|path| {
                let values = get(path);
                let number = median(values, |value| value.number);
                let mut cell = format!("{number:.*}", usize::from(number < 100.0));
                if values[0].bytes > 0.0 {
                    cell += &format!(", {:.2} s/GB", median(values, |v| v.busy / v.bytes * 1e9));
                }
                cell
            })
            .collect();
        for [a, b] in &pairs {
            let rounds = get(a).iter().zip(get(b));
            let rounds: Vec<Value> = rounds
                .map(|(a, b)| Value::of(a.number / b.number))
                .collect();
            cells.push(format!("{:.2}", median(&rounds, |ratio| ratio.number)));
        }
        println!("| {test} | {} |", cells.join(" | "));
    }
}
