//! The sanitizer measured on labelled captures: `tests/captures/labels.tsv` says what each flow gives away, and whence
//! the captures come stands in `tests/captures/README.md`.
#![expect(clippy::disallowed_types, reason = "it runs the program")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "helpers of a test crate"
)]

use cordon::link::frame;
use cordon::link::pcap::Capture;
use cordon::report::audit::{Audit, Flow};
use cordon::sanitize::{
    Certainty, Class, Context, Finding, Kind, Memory, Sanitizer, Secret, Stream,
};
use cordon::time::Time;
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
            audit.frame(&frame, |_, _| false, |flow| flows.push(flow));
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

#[test]
fn of_a_value_to_several_servers_at_most_three_packets_leave() {
    for file in files() {
        let mut audit = Audit::new(Sanitizer::default());
        Capture::open(&file)
            .unwrap()
            .frames(|frame| audit.frame(&frame, |_, _| false, |_| {}))
            .unwrap();
        for fanout in audit.finish(|_| {}) {
            assert!(fanout.leaked.len() <= 3, "{}: {fanout:?}", file.display());
        }
    }
}

/// Every capture of the folder.
fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "pcap")
        })
        .collect();
    files.sort();
    files
}

/// The datagrams, and the segments of each direction of each connection put together as they came, of all captures.
fn payloads() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let (mut datagrams, mut streams) = (Vec::new(), BTreeMap::<_, Vec<u8>>::new());
    for file in files() {
        Capture::open(&file)
            .unwrap()
            .frames(|frame| {
                let Some(seen) = frame::network(&frame).and_then(frame::read) else {
                    return;
                };
                if seen.segment.is_some() {
                    let key = (file.clone(), seen.source, seen.destination);
                    streams
                        .entry(key)
                        .or_default()
                        .extend_from_slice(seen.payload);
                } else if !seen.payload.is_empty() {
                    datagrams.push(seen.payload.to_vec());
                }
            })
            .unwrap();
    }
    streams.retain(|_, bytes| !bytes.is_empty());
    (datagrams, streams.into_values().collect())
}

fn context() -> Context {
    Context {
        client: IpAddr::from([10, 0, 0, 1]),
        sport: 40_000,
        remote: SocketAddr::from(([203, 0, 113, 9], 8000)),
        index: 9,
        now: Time::from_secs(1_612_750_000),
        blocked: false,
    }
}

fn datagram(sanitizer: &Sanitizer, payload: &[u8]) -> Vec<Finding> {
    let mut found = Vec::new();
    sanitizer.datagram(&mut Memory::default(), &context(), payload, &mut found);
    for finding in &found {
        assert!(finding.span.start <= finding.span.end && finding.span.end <= payload.len());
    }
    found
}

fn stream(sanitizer: &Sanitizer, chunks: impl Iterator<Item = impl AsRef<[u8]>>) -> Vec<Finding> {
    let (mut stream, mut all) = (Stream::default(), Vec::new());
    for chunk in chunks {
        let mut found = Vec::new();
        sanitizer.stream(&mut stream, chunk.as_ref(), &mut found);
        for finding in &found {
            assert!(
                finding.span.start <= finding.span.end && finding.span.end <= chunk.as_ref().len()
            );
        }
        all.extend(found);
    }
    all
}

#[test]
fn every_payload_cut_at_every_length_is_read() {
    let sanitizer = Sanitizer::default();
    let (datagrams, streams) = payloads();
    let mut cuts = 0;
    let mut seen = BTreeSet::new();
    for payload in &datagrams {
        // One of a kind is enough: the same length and beginning.
        if seen.insert((payload.len(), payload[..payload.len().min(6)].to_vec())) {
            for length in 0..payload.len().min(400) {
                datagram(&sanitizer, &payload[..length]);
                cuts += 1;
            }
        }
    }
    for bytes in &streams {
        for length in 0..bytes.len().min(400) {
            stream(&sanitizer, std::iter::once(&bytes[..length]));
            cuts += 1;
        }
    }
    assert!(cuts > 10_000, "{cuts}");
}

#[test]
fn streams_cut_at_every_byte_tell_what_they_tell_whole() {
    let sanitizer = Sanitizer::default();
    for bytes in payloads().1 {
        let bytes = &bytes[..bytes.len().min(3000)];
        let classes =
            |found: Vec<Finding>| -> BTreeSet<Class> { found.iter().map(|f| f.class).collect() };
        let whole = classes(stream(&sanitizer, std::iter::once(bytes)));
        let split = classes(stream(&sanitizer, bytes.chunks(1)));
        assert_eq!(
            whole,
            split,
            "{}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(60)])
        );
    }
}

/// Values that the labels name.
const VALUES: [&str; 22] = [
    "voi18062",
    "35104723",
    "public",
    "secret",
    "abc.def.ghi",
    "test",
    "anonymous",
    "passwor8d1",
    "John.McGuirk",
    "brotest",
    "28173049",
    "notauser",
    "notapassword",
    "zeek",
    "testuser",
    "testpass",
    "jupyterhub-user-christian",
    "valid_client_principal@VLADG.NET",
    "AWAKECODI",
    "myvoiceismypassport",
    "34AAE54A75D839566E",
    "rfc1350.txt",
];

#[test]
fn labelled_values_are_found_in_every_encoding() {
    for value in VALUES {
        let secret = Secret::new("it", value, Kind::Guess).unwrap();
        let sanitizer = Sanitizer::new(&[secret]).unwrap();
        let bytes = value.as_bytes();
        let mut encodings = vec![
            value.to_owned(),
            value.to_uppercase(),
            data_encoding::HEXLOWER.encode(bytes),
            data_encoding::HEXUPPER.encode(bytes),
            value.replace('@', "%40"),
        ];
        for before in ["", "x", "xy"] {
            encodings.push(data_encoding::BASE64.encode(format!("{before}{value}!!").as_bytes()));
        }
        for encoding in encodings {
            let payload = format!("GET /a?x={encoding}&y=1 of plain text around the value");
            assert!(
                datagram(&sanitizer, payload.as_bytes())
                    .iter()
                    .any(|f| f.leak == "secret"),
                "{value} as {encoding}"
            );
        }
        if let Some(number) = value
            .parse::<u32>()
            .ok()
            .filter(|number| *number >= 1 << 24)
        {
            for integer in [number.to_le_bytes(), number.to_be_bytes()] {
                let payload = [
                    &b"plain text before "[..],
                    &integer,
                    b" and after the value",
                ]
                .concat();
                assert!(!datagram(&sanitizer, &payload).is_empty(), "{value}");
            }
        }
    }
}

#[test]
fn a_thousand_random_values_of_equal_length_are_not_found() {
    let (datagrams, streams) = payloads();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |alphabet: &[u8]| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        alphabet[(state >> 33) as usize % alphabet.len()]
    };
    let mut values = Vec::new();
    while values.len() < 1000 {
        // Values of four characters occur by chance in 900 KB of text; longer ones must not.
        let model = VALUES[values.len() % VALUES.len()];
        let digits = model.bytes().all(|byte| byte.is_ascii_digit());
        let alphabet: &[u8] = if digits {
            b"0123456789"
        } else {
            b"abcdefghijklmnopqrstuvwxyz0123456789"
        };
        let value: String = model
            .bytes()
            .map(|_| char::from(random(alphabet)))
            .collect();
        values.push(value);
    }
    let mut searched = 0;
    for part in values.chunks(250) {
        let mut unique: Vec<&String> = part.iter().filter(|value| value.len() > 4).collect();
        unique.sort_unstable();
        unique.dedup();
        let secrets: Vec<Secret> = unique
            .iter()
            .enumerate()
            .map(|(index, value)| Secret::new(&index.to_string(), value, Kind::Guess).unwrap())
            .collect();
        searched += secrets.len();
        let sanitizer = Sanitizer::new(&secrets).unwrap();
        let secret = |found: Vec<Finding>| found.into_iter().find(|f| f.leak == "secret");
        for payload in &datagrams {
            assert_eq!(secret(datagram(&sanitizer, payload)), None);
        }
        for bytes in &streams {
            assert_eq!(secret(stream(&sanitizer, std::iter::once(bytes))), None);
        }
    }
    assert!(searched > 800);
}

#[test]
fn mutated_payloads_are_read() {
    let sanitizer = Sanitizer::default();
    let (datagrams, streams) = payloads();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below.max(1)
    };
    for round in 0..40_000 {
        let (source, datagrams_only) = if round % 2 == 0 {
            (&datagrams[random(datagrams.len())], true)
        } else {
            (&streams[random(streams.len())], false)
        };
        let mut bytes = source[..source.len().min(600)].to_vec();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random(5)],
                2 => bytes.truncate(at.max(1)),
                _ => bytes.insert(at, random(256) as u8),
            }
        }
        if datagrams_only {
            let found = datagram(&sanitizer, &bytes);
            let mut after = bytes.clone();
            if sanitizer.redact(&mut after, &found) {
                assert_eq!(after.len(), bytes.len());
            }
        }
        let cut = random(bytes.len());
        stream(&sanitizer, [&bytes[..cut], &bytes[cut..]].iter());
    }
}

fn cordon(arguments: &[&str]) -> std::process::Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_cordon"))
        .args(arguments)
        .output()
        .unwrap()
}

fn capture(name: &str) -> String {
    folder().join(name).to_str().unwrap().to_owned()
}

#[test]
fn the_command_prints_one_object_a_flow_and_a_summary() {
    let file = capture("ndpi-sdrtn-one-flow.pcap");
    let answer = cordon(&["audit", "--json", &file]);
    assert!(answer.status.success());
    let lines: Vec<serde_json::Value> = String::from_utf8(answer.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    let (flow, summary) = (&lines[0], &lines[1]);
    assert_eq!(flow["type"], "flow");
    assert_eq!(flow["src"], "192.168.2.100");
    assert_eq!(flow["dport"], 8130);
    assert_eq!(flow["names"][0], "23-248-186-179.edge.agora.io");
    assert_eq!(flow["findings"][0]["class"], "dest_meta");
    assert_eq!(flow["findings"][0]["packets"], serde_json::json!([1, 2, 3]));
    assert_eq!(flow["leaked_packets"], 0);
    assert_eq!(summary["type"], "summary");
    assert_eq!(summary["flows"], 1);
    assert_eq!(summary["findings"]["dest_meta"], 1);
}

#[test]
fn a_declared_secret_is_named_and_never_printed() {
    let file = capture("zeek-radius.pcap");
    let answer = cordon(&["audit", "--json", "--secret", "me=John.McGuirk", &file]);
    let text = String::from_utf8(answer.stdout).unwrap();
    assert!(text.contains("me (plain)"), "{text}");
    assert!(!text.contains("John.McGuirk"));
}

#[test]
fn wrong_usage_is_one_sentence_and_status_2() {
    let file = capture("zeek-radius.pcap");
    for arguments in [
        &["audit", "no-such-file.pcap"][..],
        &["audit", "--secret", "short=abc", &file],
        &["audit", "--secret", "novalue", &file],
        &["audit", "Cargo.toml"],
    ] {
        let answer = cordon(arguments);
        assert_eq!(answer.status.code(), Some(2), "{arguments:?}");
        let message = String::from_utf8(answer.stderr).unwrap();
        let mut lines = message.lines();
        let said = lines.find(|line| !line.starts_with("cordon: warning: "));
        assert!(said.unwrap().starts_with("cordon: "), "{message}");
        assert_eq!(lines.next(), None, "{message}");
        assert_eq!(
            message.matches("No such file").count(),
            usize::from(message.contains("no-such-file")),
            "{message}"
        );
    }
}

#[test]
fn the_page_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let file = capture("zeek-smtp.pcap");
    assert!(
        cordon(&["audit", "--html", page.to_str().unwrap(), &file])
            .status
            .success()
    );
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.starts_with("<!doctype html>"));
    assert!(page.contains("credential"));
    assert!(!page.contains("Z3VycGFydGFw"), "a user name in base64");
}

/// Where the browser is. Without one there is nothing to test, except where `CORDON_BROWSER` says that there must be.
fn browser() -> Option<std::ffi::OsString> {
    let named = std::env::var_os("CORDON_BROWSER");
    let found = named.clone().unwrap_or_else(|| "chromium".into());
    let runs = std::process::Command::new(&found)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    assert!(runs || named.is_none(), "{found:?} does not run");
    if !runs {
        eprintln!("no Chromium: the page is not laid out");
    }
    runs.then_some(found)
}

/// Lays the page out in a real browser: as it comes, dark, and on paper.
#[test]
fn the_page_renders_in_chromium() {
    let Some(browser) = browser() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("report.html");
    let mut arguments = vec![
        "audit".to_owned(),
        "--html".to_owned(),
        page.to_str().unwrap().to_owned(),
    ];
    arguments.extend(files().iter().map(|file| file.to_str().unwrap().to_owned()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert!(cordon(&arguments).status.success());
    let address = format!("file://{}", page.display());
    let show = |address: &str, arguments: &[String]| {
        let done = std::process::Command::new(&browser)
            .args(["--headless", "--no-sandbox", "--disable-gpu"])
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .args(arguments)
            .arg(address)
            .output()
            .unwrap();
        assert!(done.status.success(), "{arguments:?}");
        done.stdout
    };
    let run = |arguments: &[String]| show(&address, arguments);
    let mut shots = Vec::new();
    for (name, scheme) in [("light", "1"), ("dark", "0")] {
        let shot = folder.path().join(format!("{name}.png"));
        run(&[
            "--window-size=1200,2000".to_owned(),
            format!("--blink-settings=preferredColorScheme={scheme}"),
            format!("--screenshot={}", shot.display()),
        ]);
        shots.push(std::fs::read(shot).unwrap());
        assert!(shots.last().unwrap().len() > 50_000, "{name}: a blank page");
    }
    assert_ne!(shots[0], shots[1], "dark looks like light");
    // On paper nothing can be opened: what is folded up on the screen is there as if it were open.
    let open = folder.path().join("open.html");
    let text = std::fs::read_to_string(&page).unwrap();
    std::fs::write(&open, text.replace("<details>", "<details open>")).unwrap();
    let sheets = [&page, &open].map(|page| {
        let paper = page.with_extension("pdf");
        let address = format!("file://{}", page.display());
        show(&address, &[format!("--print-to-pdf={}", paper.display())]);
        let paper = std::fs::read(paper).unwrap();
        assert!(paper.starts_with(b"%PDF"));
        let marks = |mark: &[u8]| memchr::memmem::find_iter(&paper, mark).count();
        marks(b"/Type /Page") - marks(b"/Type /Pages")
    });
    assert!(sheets[0] > 3 && sheets[0] == sheets[1], "{sheets:?}");
    let dom = String::from_utf8(run(&["--dump-dom".to_owned()])).unwrap();
    for id in [
        "receivers",
        "timeline",
        "findings",
        "fanouts",
        "links",
        "policy",
    ] {
        assert!(dom.contains(&format!("id=\"{id}\"")), "{id}");
    }
}
