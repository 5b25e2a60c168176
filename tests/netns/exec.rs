//! `cordon exec`, as a user runs it: real programs, real kernel, servers with real-world addresses.

use crate::abroad::said;
use crate::harness::{cordon, in_lab, peer};
use crate::servers;
use crate::traffic;
use cordon::kernel::namespace::lab::{Host, Lab, Observer};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Bytes moved each way: enough that sequence numbers, windows and rings go round many times.
const BULK: u64 = 1 << 30;

/// A machine, and the world behind it.
struct Net {
    machine: Host,
    world: Host,
}

const US: &str = "198.41.0.4";
const US6: &str = "2001:503:ba3e::2:30";
const CN: &str = "1.2.4.8";
const CN6: &str = "2400:3200::1";

fn net(lab: &Lab) -> Net {
    let (machine, world) = (lab.host("machine").unwrap(), lab.host("world").unwrap());
    lab.wire((&machine, "eth0"), (&world, "net")).unwrap();
    machine.address("eth0", "203.0.113.1/24").unwrap();
    machine.address("eth0", "fd77::1/64").unwrap();
    world.address("net", "203.0.113.2/24").unwrap();
    world.address("net", "fd77::2/64").unwrap();
    for address in [US, CN] {
        world.address("net", &format!("{address}/32")).unwrap();
    }
    for address in [US6, CN6] {
        world.address("net", &format!("{address}/128")).unwrap();
    }
    machine.default_route("eth0", "203.0.113.2").unwrap();
    machine.default_route("eth0", "fd77::2").unwrap();
    world
        .run(|| {
            for at in [format!("{US}:80"), format!("[{US6}]:80")] {
                servers::web(&at);
            }
            for at in [format!("{US}:9"), format!("[{US6}]:9"), format!("{CN}:9")] {
                servers::bulk(&at);
                servers::echo(&at);
            }
            Ok(())
        })
        .unwrap();
    Net { machine, world }
}

impl Net {
    /// Runs a program behind the gate, on the machine.
    fn exec(&self, options: &[&str], program: &Path, arguments: &[&str]) -> Output {
        self.machine
            .run(|| {
                let mut command = Command::new(cordon());
                command
                    .arg("exec")
                    .args(options)
                    .arg("--")
                    .arg(program)
                    .args(arguments);
                Ok(command.output()?)
            })
            .unwrap()
    }

    /// The same, and it must end with 0.
    fn succeed(&self, options: &[&str], arguments: &[&str]) -> Output {
        let output = self.exec(options, &peer(), arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        output
    }
}

fn policy(directory: &Path, text: &str) -> String {
    let path = directory.join("policy.toml");
    fs::write(&path, format!("version = 1\nname = \"test\"\n{text}")).unwrap();
    path.display().to_string()
}

const NO_CN: &str = "[default]\naction = \"allow\"\n[[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n";

#[test]
fn a_gibibyte_passes_each_way_bit_by_bit_in_both_families() {
    in_lab(|lab| {
        let net = net(lab);
        for to in [format!("{US}:9"), format!("[{US6}]:9")] {
            net.succeed(&["-q"], &["up", &to, &BULK.to_string()]);
            net.succeed(&["-q"], &["down", &to, &BULK.to_string()]);
        }
        net.succeed(
            &["-q"],
            &["both", &format!("{US}:9"), &(BULK / 4).to_string()],
        );
    });
}

#[test]
fn curl_loads_and_stores_a_gibibyte_bit_by_bit() {
    in_lab(|lab| {
        let net = net(lab);
        let curl = Path::new("/usr/bin/curl");
        if !curl.exists() {
            println!("this machine has no curl; the transfer without it is tested beside this one");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        for host in [US.to_owned(), format!("[{US6}]")] {
            let url = format!("http://{host}/{BULK}");
            let path = file.display().to_string();
            let output = net.exec(&["-q"], curl, &["-sS", "-g", "-o", &path, &url]);
            assert!(output.status.success(), "{}", said(&output));
            let (bytes, digest) = traffic::receive(&mut fs::File::open(&file).unwrap()).unwrap();
            assert_eq!(
                (bytes, digest.as_ref()),
                (BULK, traffic::digest(BULK).as_ref())
            );
            let output = net.exec(
                &["-q"],
                curl,
                &["-sS", "-g", "-T", &path, &format!("http://{host}/")],
            );
            assert_eq!(
                String::from_utf8_lossy(&output.stdout),
                servers::hex(digest.as_ref()),
                "{}",
                said(&output)
            );
        }
    });
}

#[test]
fn datagrams_of_every_size_come_back_without_loss() {
    in_lab(|lab| {
        let net = net(lab);
        for to in [format!("{US}:9"), format!("[{US6}]:9")] {
            net.succeed(&["-q"], &["udp", &to, "2000", "1400"]);
            // Larger than the link: fragmented by the kernel, reassembled by us, and the other way round.
            net.succeed(&["-q"], &["udp", &to, "200", "20000"]);
        }
    });
}

#[test]
fn a_socket_shows_one_port_to_all_it_talks_to_on_a_gate_of_several_shards() {
    in_lab(|lab| {
        let net = net(lab);
        net.world
            .run(|| {
                (9001..9033).for_each(|port| servers::mirror(&format!("{US}:{port}")));
                Ok(())
            })
            .unwrap();
        net.succeed(&["-q"], &["one-port", US]);
    });
}

#[test]
fn two_thousand_connections_live_at_once() {
    in_lab(|lab| {
        let net = net(lab);
        net.succeed(&["-q"], &["many", &format!("{US}:9"), "2000"]);
    });
}

#[test]
fn a_refused_port_is_refused_to_the_program() {
    in_lab(|lab| {
        let net = net(lab);
        for to in [format!("{US}:10"), format!("[{US6}]:10")] {
            net.succeed(&["-q"], &["refused", &to]);
        }
    });
}

#[test]
fn a_blocked_country_fails_at_once_with_prohibited_and_the_summary_names_the_rule() {
    in_lab(|lab| {
        let net = net(lab);
        let directory = tempfile::tempdir().unwrap();
        let policy = policy(directory.path(), NO_CN);
        let observer = Observer::on(&net.world, "net").unwrap();
        for to in [format!("{CN}:9"), format!("[{CN6}]:9")] {
            let output = net.succeed(&["--policy", &policy], &["prohibited", &to]);
            let summary = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                summary.contains("block") && summary.contains("no-prc"),
                "{summary}"
            );
        }
        let capture = observer.finish().unwrap();
        let chinese = |bytes: &[u8]| {
            bytes.windows(4).any(|w| w == [1, 2, 4, 8])
                || bytes.windows(4).any(|w| w == [0x24, 0, 0x32, 0])
        };
        assert_eq!(capture.missed, 0);
        assert!(
            !capture
                .kept
                .iter()
                .any(|frame| !frame.outgoing && chinese(&frame.bytes)),
            "nothing went there"
        );
    });
}

#[test]
fn a_declared_number_never_reaches_the_wire() {
    in_lab(|lab| {
        let net = net(lab);
        let directory = tempfile::tempdir().unwrap();
        let policy = policy(
            directory.path(),
            "[default]\naction = \"allow\"\n[[sanitize]]\nid = \"mine\"\nleak = [\"secret\"]\naction = \"drop\"\n",
        );
        let observer = Observer::on(&net.world, "net").unwrap();
        let options = ["--policy", &policy, "--secret", "number=512345687"];
        let to = format!("{US}:9");
        let output = net.succeed(&options, &["send", &to, "ping uid=512345687"]);
        net.succeed(&options, &["send", &to, "ping uid=512345688"]);
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("stopped: number"),
            "{}",
            said(&output)
        );
        let capture = observer.finish().unwrap();
        let seen = |text: &[u8]| {
            capture
                .kept
                .iter()
                .any(|frame| frame.bytes.windows(text.len()).any(|w| w == text))
        };
        assert!(seen(b"512345688") && !seen(b"512345687"));
    });
}

#[test]
fn the_programs_exit_status_and_events_come_back() {
    in_lab(|lab| {
        let net = net(lab);
        let directory = tempfile::tempdir().unwrap();
        let events = directory.path().join("events.jsonl").display().to_string();
        let output = net.exec(
            &["--events", &events],
            Path::new("/bin/sh"),
            &["-c", "exit 7"],
        );
        assert_eq!(output.status.code(), Some(7));
        net.succeed(
            &["-q", "--events", &events],
            &["udp", &format!("{US}:9"), "3", "10"],
        );
        let lines: Vec<serde_json::Value> = fs::read_to_string(&events)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let kinds: Vec<&str> = lines
            .iter()
            .map(|line| line["type"].as_str().unwrap())
            .collect();
        assert_eq!(kinds, ["flow_open", "verdict", "flow_close"]);
        assert_eq!(lines[1]["facts"]["country"], "US");
        assert_eq!(lines[2]["bytes_sent"], lines[2]["bytes_received"]);
    });
}

#[test]
fn bad_input_is_one_clear_sentence() {
    in_lab(|lab| {
        let net = net(lab);
        let directory = tempfile::tempdir().unwrap();
        let broken = policy(directory.path(), "[default]\nactoin = \"allow\"\n");
        let cases: [(&[&str], &str, &str, i32); 3] = [
            (&["--policy", &broken], "/bin/true", "policy.toml:4:1", 2),
            (
                &["--policy", "/nonexistent.toml"],
                "/bin/true",
                "/nonexistent.toml",
                2,
            ),
            (&[], "/nonexistent/program", "/nonexistent/program", 125),
        ];
        for (options, program, what, status) in cases {
            let output = net.exec(options, Path::new(program), &[]);
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(status), "{text}");
            assert!(
                text.starts_with("cordon: ") && text.contains(what),
                "{text}"
            );
            assert!(
                !text.contains("panicked") && !text.contains("RUST_BACKTRACE"),
                "{text}"
            );
        }
    });
}
