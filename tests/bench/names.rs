//! What names cost: answers out of the cache, and page loads with and without the gate over a long way.
//!
//! `cargo build --release --examples && cargo run --release --example names -- [answers|pages|browser]…
//! [--seconds N] [--loads N] [--policy FILE] [--path kernel|pass|terminate]`
//!
//! Two homes in namespaces, the same but that one router runs the gate, under the shipped policy `home.toml`. Behind
//! each a line of 20 ms one way, a device of userspace, leads to the world: a resolver, and servers with certificates.
//! * `answers`: one client of the gate asks what is in its cache, one question after the other for the time of an
//!   answer, and then as many as it gets answered. A lone question finds a processor that may have gone to sleep, so
//!   the same is measured against a bare echo behind the router of the other home.
//! * `pages`: curl loads a page of 40 objects of 8 hosts whose names nobody has asked for, from one home and the other
//!   by turns; each load with connections and names of its own.
//! * `browser`: the same by Chromium, which says itself how long it took.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a tool of the project's own measurements"
)]

mod bed;

use anyhow::{Context, Result, bail, ensure};
use bed::{Running, gate, proc_of};
use cordon::kernel::namespace::lab::{Host, Lab};
use cordon::link::Tun;
use hickory_proto::op::{Message, OpCode, Query};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// How long a packet is on the way to the world or back.
const WAY: Duration = Duration::from_millis(20);
const SERVER: &str = "198.41.0.4";
const RESOLVER: &str = "9.9.9.9";
const HOSTS: usize = 8;
const OBJECTS: usize = 40;
const OBJECT: usize = 20_000;

struct Options {
    tests: Vec<String>,
    seconds: u64,
    loads: usize,
    policy: PathBuf,
    path: String,
}

fn main() -> Result<()> {
    let lab = bed::lab()?;
    let options = Options::read(env::args().skip(1))?;
    let net = Net::new(&lab, &options)?;
    for test in &options.tests {
        match test.as_str() {
            "answers" => net.answers(Duration::from_secs(options.seconds))?,
            "pages" => net.compare("pages", options.loads, &|net, home, load| {
                net.curl(home, load)
            })?,
            "browser" => net.compare("browser", options.loads, &|net, home, load| {
                net.browser(home, load)
            })?,
            other => bail!("unknown test {other}; see the head of the file"),
        }
    }
    Ok(())
}

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            tests: Vec::new(),
            seconds: 3,
            loads: 20,
            policy: Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/home.toml"),
            path: "kernel".into(),
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().context("an option wants a value");
            match word.as_str() {
                "--seconds" => options.seconds = value()?.parse()?,
                "--loads" => options.loads = value()?.parse()?,
                "--policy" => options.policy = fs::canonicalize(value()?)?,
                "--path" => options.path = value()?,
                _ => options.tests.push(word),
            }
        }
        if options.tests.is_empty() {
            options.tests = ["answers", "pages"].map(str::to_owned).to_vec();
        }
        Ok(options)
    }
}

/// A phone behind a router.
struct Home {
    phone: Host,
    router: Host,
}

struct Net {
    plain: Home,
    gated: Home,
    _world: Host,
    gate: Running,
    directory: tempfile::TempDir,
}

impl Net {
    fn new(lab: &Lab, options: &Options) -> Result<Self> {
        let world = lab.host("world")?;
        let homes =
            [("plain", 1), ("gated", 2)].map(|(name, number)| home(lab, &world, name, number));
        let [plain, gated] = homes;
        let (plain, gated) = (plain?, gated?);
        for address in [SERVER, RESOLVER] {
            world.address("lo", &format!("{address}/32"))?;
        }
        let directory = tempfile::tempdir()?;
        world.run(serve)?;
        plain.router.run(|| {
            let socket = UdpSocket::bind(("0.0.0.0", 7))?;
            thread::spawn(move || {
                let mut buffer = [0; 2048];
                while let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(&buffer[..len], from);
                }
            });
            Ok(())
        })?;
        let resolv = directory.path().join("resolv.conf");
        fs::write(&resolv, format!("nameserver {RESOLVER}\n"))?;
        // This process has a view of the file system of its own.
        let flags = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(
            Some(&resolv),
            "/etc/resolv.conf",
            None::<&str>,
            flags,
            None::<&str>,
        )?;
        let Options { policy, path, .. } = options;
        let config = directory.path().join("cordon.toml");
        let text = format!(
            "policy = {policy:?}\n[link]\ninside = [\"lan\"]\npath = {path:?}\nshards = 1\n[dns]\nupstreams = [\"{RESOLVER}\"]\n"
        );
        fs::write(&config, text)?;
        plain.router.forward()?;
        let gate = gate(&gated.router, &config)?;
        Ok(Self {
            plain,
            gated,
            _world: world,
            gate,
            directory,
        })
    }

    /// Answers out of the cache: how long one takes, and how many there are in a second.
    fn answers(&self, time: Duration) -> Result<()> {
        let bytes = query("warm.page.example.").to_vec()?;
        let ask = |home: &Home, to: &str| home.phone.run(|| alone(to, &bytes, time));
        // Into the cache.
        ask(&self.gated, "8.8.4.4:53")?;
        let (echo, _) = ask(&self.plain, "192.168.1.1:7")?;
        let (median, late) = ask(&self.gated, "8.8.4.4:53")?;
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        println!(
            "an answer: median {:.1} µs, 99th of a hundred {:.1} µs; a bare echo of the router: median {:.1} µs",
            micros(median),
            micros(late),
            micros(echo)
        );
        let before = self.used()?;
        let count = self.gated.phone.run(|| many(&bytes, time))?;
        let used = self.used()? - before;
        println!(
            "many at once: {:.0} answers a second; {:.0} for each second of the gate's processor time",
            count as f64 / time.as_secs_f64(),
            count as f64 / used
        );
        Ok(())
    }

    /// Seconds of processor time that the gate has used (proc(5), `/proc/pid/stat`, in hundredths).
    fn used(&self) -> Result<f64> {
        let stat = fs::read_to_string(proc_of(&self.gate)?.join("stat"))?;
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
    }

    /// Loads by turns from one home and the other; prints the medians and their ratio.
    fn compare(
        &self,
        what: &str,
        loads: usize,
        load: &dyn Fn(&Self, &Home, &str) -> Result<f64>,
    ) -> Result<()> {
        let (mut plain, mut gated) = (Vec::new(), Vec::new());
        for number in 0..=loads {
            let times = [("p", &self.plain), ("g", &self.gated)].map(|(name, home)| {
                load(self, home, &format!("{what}{name}{number}")).context(name)
            });
            let [one, other] = times;
            // The first load warms what is warm from then on.
            if number > 0 {
                plain.push(one?);
                gated.push(other?);
            }
        }
        let median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2] * 1e3
        };
        let (plain, gated) = (median(&mut plain), median(&mut gated));
        println!(
            "{what}: direct {plain:.1} ms, by the gate {gated:.1} ms: {:.3} ×; median of {loads}",
            gated / plain
        );
        Ok(())
    }

    /// Seconds until curl has all of a page.
    fn curl(&self, home: &Home, load: &str) -> Result<f64> {
        home.phone.run(|| {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--insecure", "-4", "--max-time", "20"]);
            // A connection for each object, as browsers do for so few of a host. With fewer it would depend on which
            // object ends first whether the next one finds a connection or opens one.
            curl.args(["--parallel", "--parallel-immediate"]);
            curl.args(["--parallel-max", &OBJECTS.to_string()]);
            for object in 0..OBJECTS {
                let host = object % HOSTS;
                curl.args(["-o", "/dev/null"]);
                curl.arg(format!("https://h{host}.{load}.page.example/{object}"));
            }
            let began = Instant::now();
            // A page comes before what is on it.
            let first = format!("https://h0.{load}.page.example/");
            let page = Command::new("curl")
                .args(["-sS", "--insecure", "-4", "-o", "/dev/null", &first])
                .status()?;
            // It shows its progress whatever it is told.
            let rest = curl.stderr(Stdio::null()).status()?;
            ensure!(page.success() && rest.success(), "curl: {page}, {rest}");
            Ok(began.elapsed().as_secs_f64())
        })
    }

    /// Seconds until Chromium has all of a page, as it says itself.
    fn browser(&self, home: &Home, load: &str) -> Result<f64> {
        let profile = self.directory.path().join(load);
        let output = home.phone.run(|| {
            Ok(Command::new("chromium")
                .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
                .args([
                    "--disable-background-networking",
                    "--disable-component-update",
                ])
                .args(["--ignore-certificate-errors", "--timeout=15000"])
                .arg(format!("--user-data-dir={}", profile.display()))
                .arg(format!("https://h0.{load}.page.example/"))
                .output()?)
        })?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (_, rest) = text
            .split_once("loaded:")
            .context("the page did not load")?;
        let millis: f64 = rest.split('<').next().unwrap().trim().parse()?;
        Ok(millis / 1e3)
    }
}

/// A home with a long line to the world.
fn home(lab: &Lab, world: &Host, name: &str, number: u8) -> Result<Home> {
    let phone = lab.host(&format!("{name}-phone"))?;
    let router = lab.host(&format!("{name}-router"))?;
    lab.wire((&phone, "wlan"), (&router, "lan"))?;
    let net = format!("net{number}");
    line((&router, "wan"), (world, &net))?;
    let (inside, outside) = (
        format!("192.168.{number}"),
        format!("203.0.113.{}", number * 8),
    );
    phone.address("wlan", &format!("{inside}.2/24"))?;
    router.address("lan", &format!("{inside}.1/24"))?;
    phone.default_route("wlan", &format!("{inside}.1"))?;
    router.address("wan", &format!("{outside}/32"))?;
    router.route("0.0.0.0/0", "wan", None)?;
    world.route(&format!("{inside}.0/24"), &net, None)?;
    world.route(&format!("{outside}/32"), &net, None)?;
    Ok(Home { phone, router })
}

/// A line that holds every packet for [`WAY`]; a thread for each direction.
fn line(a: (&Host, &str), b: (&Host, &str)) -> Result<()> {
    let make = |(host, name): (&Host, &str)| host.run(|| Tun::create_plain(name, 1500));
    let (a, b) = (Arc::new(make(a)?), Arc::new(make(b)?));
    for (from, to) in [(Arc::clone(&a), Arc::clone(&b)), (b, a)] {
        thread::spawn(move || carry(&from, &to));
    }
    Ok(())
}

fn carry(from: &Tun, to: &Tun) {
    let (mut buffer, mut under_way) = (vec![0; Tun::BUFFER], VecDeque::<(Instant, Vec<u8>)>::new());
    loop {
        let wait = under_way
            .front()
            .map_or(Duration::from_millis(100), |(due, _)| {
                due.saturating_duration_since(Instant::now())
            });
        if wait < Duration::from_millis(1) {
            thread::sleep(wait);
        } else {
            let wait = PollTimeout::try_from(wait).unwrap();
            let mut wanted = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut wanted, wait);
        }
        while let Ok(Some(len)) = from.recv(&mut buffer) {
            under_way.push_back((Instant::now() + WAY, buffer[..len].to_vec()));
        }
        while let Some((_, packet)) = under_way.pop_front_if(|(due, _)| *due <= Instant::now()) {
            // A full receiver loses packets, as lines do.
            let _ = to.send(&packet);
        }
    }
}

/// Answers questions and serves pages.
fn serve() -> Result<()> {
    let socket = UdpSocket::bind((RESOLVER, 53))?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            if let Ok(answer) = answer(&buffer[..len]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    let made = rcgen::generate_simple_self_signed(["page.example".to_owned()])?;
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    let (config, listener) = (Arc::new(config), TcpListener::bind((SERVER, 443))?);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            // A client that goes away is its own business.
            thread::spawn(move || drop(converse(stream, config)));
        }
    });
    Ok(())
}

fn answer(question: &[u8]) -> Result<Vec<u8>> {
    let question = Message::from_vec(question)?;
    let mut message = Message::response(question.metadata.id, OpCode::Query);
    let query = question.queries.first().context("no question")?.clone();
    if query.query_type() == RecordType::A {
        let data = RData::A(A(SERVER.parse()?));
        message.add_answer(Record::from_rdata(query.name().clone(), 300, data));
    }
    message.add_query(query);
    Ok(message.to_vec()?)
}

/// One request after the other: the page, or an object of it.
fn converse(stream: TcpStream, config: Arc<rustls::ServerConfig>) -> Result<()> {
    stream.set_nodelay(true)?;
    let connection = rustls::ServerConnection::new(config)?;
    let mut tls = rustls::StreamOwned::new(connection, stream);
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = tls.read(&mut buffer)?;
        ensure!(read > 0, "the client has ended");
        request.extend_from_slice(&buffer[..read]);
        let Some(end) = request.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head: Vec<u8> = request.drain(..end + 4).collect();
        let head = String::from_utf8(head)?;
        let (kind, body) = match head.split(' ').nth(1) {
            Some("/") => ("text/html", page(&head)?),
            _ => ("image/png", vec![7; OBJECT]),
        };
        let length = body.len();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
        tls.write_all(&[head.as_bytes(), &body].concat())?;
        tls.flush()?;
    }
}

/// A page that shows objects of all hosts, and says when it has them.
fn page(head: &str) -> Result<Vec<u8>> {
    let (_, rest) = head.split_once("ost: h0.").context("no host")?;
    let load = rest.split("\r\n").next().unwrap();
    let objects: String = (0..OBJECTS)
        .map(|object| format!("<img src='https://h{}.{load}/{object}'>", object % HOSTS))
        .collect();
    let script = "onload=()=>{document.body.innerHTML='loaded:'+performance.now()}";
    Ok(format!("<!doctype html><body>{objects}<script>{script}</script>").into_bytes())
}

fn query(name: &str) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    message
}

/// Median and 99th of a hundred of the time that an answer takes, one after the other.
fn alone(to: &str, bytes: &[u8], time: Duration) -> Result<(Duration, Duration)> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (began, mut times, mut buffer) = (Instant::now(), Vec::new(), [0; 2048]);
    while began.elapsed() < time {
        let asked = Instant::now();
        socket.send(bytes)?;
        socket.recv(&mut buffer)?;
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}

/// How many answers come if so many questions are always under way.
fn many(bytes: &[u8], time: Duration) -> Result<u64> {
    const UNDER_WAY: u64 = 64;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect("8.8.4.4:53")?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    let (began, mut sent, mut answered, mut buffer) = (Instant::now(), 0, 0, [0; 2048]);
    while began.elapsed() < time {
        while sent - answered < UNDER_WAY {
            socket.send(bytes)?;
            sent += 1;
        }
        match socket.recv(&mut buffer) {
            Ok(_) => answered += 1,
            // What was lost is lost.
            Err(_) => sent = answered,
        }
    }
    Ok(answered)
}
