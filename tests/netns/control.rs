//! Asking the running daemon: what it tells, whom it tells it, and that nobody who asks does the gate any harm.

use crate::abroad::{self, Abroad, DE, NL, Proxy};
use crate::gate::{CN, GATEWAY, NO_US, US, end, launch, net};
use crate::harness::{cordon, in_lab, wait_until};
use cordon::kernel::namespace::lab::Host;
use serde_json::Value;
use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

const PASSWORD: &str = "open-sesame";
const WRONG: &str = "wrong-word";

/// Runs one of the commands that ask.
fn ask(socket: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(cordon());
    command.args(words).arg("--socket").arg(socket);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The status as a program sees it, and whether the command found all well, which must be what it says.
fn status(socket: &Path) -> Value {
    let output = ask(socket, &["status", "--json"]);
    let status: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let well = status["problems"].as_array().unwrap().is_empty();
    assert_eq!(output.status.code(), Some(i32::from(!well)), "{status}");
    status
}

fn problem(status: &Value, part: &str) -> bool {
    let problems = status["problems"].as_array().unwrap();
    problems
        .iter()
        .any(|it| it.as_str().unwrap().contains(part))
}

fn flows(socket: &Path, words: &[&str]) -> Vec<Value> {
    let output = ask(socket, &[&["flows", "--json"], words].concat());
    assert!(output.status.success(), "{output:?}");
    let lines = text(&output.stdout);
    let lines = lines.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// A connection of a host that stays open.
fn connected(host: &Host, to: &str) -> TcpStream {
    let connect = || {
        let mut stream = TcpStream::connect(to)?;
        stream.write_all(b"x")?;
        Ok(stream)
    };
    host.run(connect).unwrap()
}

/// What a client hears that sends this and nothing more.
fn heard(socket: &Path, sent: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    // Who is answered before all was read finds the connection closed.
    let _ = stream.write_all(sent);
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard);
    text(&heard)
}

#[test]
fn a_live_flow_is_listed_with_its_rule_and_path_and_counted_in_the_status() {
    in_lab(|lab| {
        let net = net(lab);
        let daemon = net.start(GATEWAY);
        let socket = net.socket();
        let before = status(&socket);
        assert_eq!(before["policy"]["name"], "test");
        assert_eq!(before["policy"]["rules"], 1);
        assert_eq!(before["link"]["tun"], "cordon0");
        assert_eq!(before["link"]["path"], "kernel");
        assert_eq!(before["link"]["answering"], before["link"]["shards"]);
        assert!(before["memory"].as_u64().unwrap() > 1 << 20);
        let _open = connected(&net.phone, &format!("{US}:9"));
        net.phone(&["prohibited", &format!("{CN}:9")]);
        let listed = flows(&socket, &[]);
        let to = |place: &str| {
            let flow = listed.iter().find(|flow| flow["dst"] == place);
            flow.unwrap_or_else(|| panic!("{place}: {listed:?}"))
        };
        let open = to(US);
        for (key, value) in [
            ("proto", "tcp"),
            ("src", "192.168.7.2"),
            ("country", "US"),
            ("verdict", "allow"),
            ("rule", "default"),
            ("path", "pass"),
        ] {
            assert_eq!(open[key], value, "{key}: {open}");
        }
        assert!(open["bytes_sent"].as_u64().unwrap() >= 1, "{open}");
        let blocked = to(CN);
        assert_eq!(
            (&blocked["rule"], &blocked["path"]),
            (&"no-prc".into(), &"none".into())
        );
        assert_eq!(blocked["verdict"], "block");
        let one = flows(&socket, &["--limit", "1"]);
        assert_eq!((one.len(), &one[1]["listed"]), (2, &1.into()));
        assert!(one[1]["flows"].as_u64().unwrap() >= 2, "{one:?}");
        let told = text(&ask(&socket, &["flows"]).stdout);
        assert!(
            told.contains(&format!("tcp {US}:9")) && told.contains("no-prc"),
            "{told}"
        );
        wait_until("the events were counted", || {
            let now = status(&socket);
            now["totals"]["allowed"] == 1 && now["totals"]["blocked"] == 1
        });
        let now = status(&socket);
        assert_eq!(
            (&now["flows"]["tcp"], &now["flows"]["blocked"]),
            (&2.into(), &1.into())
        );
        end(daemon);
        assert!(!socket.exists(), "the socket is gone with the daemon");
        let output = ask(&socket, &["status"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(text(&output.stderr).contains("start it with `cordon run`"));
    });
}

#[test]
fn a_reload_tells_what_came_of_it_and_a_broken_policy_where_it_is_broken() {
    in_lab(|lab| {
        let net = net(lab);
        let daemon = net.start(GATEWAY);
        let (socket, to) = (net.socket(), format!("{US}:9"));
        let policy = net.directory.path().join("policy.toml");
        net.phone(&["udp", &to, "3", "10"]);
        fs::write(&policy, "version = 1\nname = \"new\"\n[[rul]]\n").unwrap();
        let output = ask(&socket, &["reload"]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(
            error.contains("the old policy stays") && error.contains("policy.toml:3:"),
            "{error}"
        );
        let after = status(&socket);
        assert_eq!(after["policy"]["name"], "test");
        assert!(problem(&after, "policy.toml:3:"), "{after}");
        net.phone(&["udp", &to, "3", "10"]);
        fs::write(&policy, NO_US).unwrap();
        let output = ask(&socket, &["reload", "--json"]);
        let reloaded: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&reloaded["ok"], output.status.code()),
            (&true.into(), Some(0))
        );
        wait_until("the new policy holds", || {
            net.peer_on(&net.phone, &["prohibited", &to]).is_ok()
        });
        let after = status(&socket);
        assert!(!problem(&after, "not in force"), "{after}");
        end(daemon);
    });
}

#[test]
fn clients_that_talk_nonsense_never_finish_or_come_in_crowds_do_no_harm() {
    in_lab(|lab| {
        let net = net(lab);
        let daemon = net.start(GATEWAY);
        let (socket, to) = (net.socket(), format!("{US}:9"));
        let all = [0xff; 100_000];
        for sent in [
            &all[..],
            b"{}\n",
            b"\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"{\"ask\":\"sta",
        ] {
            let answer = heard(&socket, sent);
            assert!(answer.starts_with("{\"type\":\"error\""), "{answer}");
        }
        let silent: Vec<_> = (0..20)
            .map(|_| UnixStream::connect(&socket).unwrap())
            .collect();
        net.phone(&["udp", &to, "100", "100"]);
        let crowd: Vec<_> = (0..100)
            .map(|_| {
                let socket = socket.clone();
                thread::spawn(move || heard(&socket, b"{\"ask\":\"status\"}\n"))
            })
            .collect();
        net.phone(&["up", &to, "10000000"]);
        for one in crowd {
            let answer = one.join().unwrap();
            assert!(answer.starts_with("{\"type\":\"status\""), "{answer}");
        }
        drop(silent);
        // Nor does one that does not take its answer.
        let mut deaf = UnixStream::connect(&socket).unwrap();
        deaf.write_all(b"{\"ask\":\"flows\"}\n").unwrap();
        status(&socket);
        net.phone(&["udp", &to, "100", "100"]);
        end(daemon);
    });
}

#[test]
fn another_user_is_told_nothing() {
    const NOBODY: u32 = 65_534;
    in_lab(|lab| {
        let net = net(lab);
        let daemon = net.start(GATEWAY);
        let socket = net.socket();
        let asks = || {
            let mut command = Command::new(cordon());
            command.args(["status", "--socket"]).arg(&socket);
            command.uid(NOBODY).gid(NOBODY).output()
        };
        let Ok(output) = asks() else {
            eprintln!("skipped, NOT TESTED: there is only one user in here");
            return end(daemon);
        };
        let refused = |output: &Output| {
            assert_eq!(output.status.code(), Some(2));
            assert_eq!(text(&output.stdout), "");
            text(&output.stderr)
        };
        let why = refused(&output);
        assert!(why.contains("only be asked by root"), "{why}");
        // Where the directory lets everybody in, it is still only the daemon's own.
        for (path, mode) in [
            (net.directory.path(), 0o755),
            (socket.parent().unwrap(), 0o755),
            (&socket, 0o666),
        ] {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        let why = refused(&asks().unwrap());
        assert!(why.contains("only root and the daemon's own user"), "{why}");
        status(&socket);
        end(daemon);
    });
}

#[test]
fn a_second_daemon_is_told_of_the_first_and_takes_over_when_that_is_dead() {
    in_lab(|lab| {
        let net = net(lab);
        let mut daemon = net.start(GATEWAY);
        let socket = net.socket();
        let config = net.directory.path().join("second.toml");
        let first = fs::read_to_string(net.directory.path().join("cordon.toml")).unwrap();
        fs::write(&config, format!("{first}\ntun = \"cordon9\"\n")).unwrap();
        let second = || {
            let mut command = Command::new(cordon());
            Ok(command.args(["run", "--config"]).arg(&config).output()?)
        };
        let output = net.router.run(second).unwrap();
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(
            error.contains("another daemon has the control socket"),
            "{error}"
        );
        assert_eq!(status(&socket)["process"], daemon.id());
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        assert!(socket.exists(), "nobody was left to remove it");
        let output = ask(&socket, &["flows"]);
        assert_eq!(output.status.code(), Some(2));
        let daemon = net.start(GATEWAY);
        assert_eq!(status(&socket)["process"], daemon.id());
        end(daemon);
    });
}

const EXITS: &str = "version = 1\nname = \"test\"\n[default]\naction = \"allow\"\n[exits]\n\
    de = { kind = \"socks5\", server = \"5.9.0.1:1080\", credentials = \"de\" }\n\
    nl = { kind = \"socks5\", server = \"193.0.0.1:1080\" }\n\
    first = { kind = \"failover\", members = [\"de\", \"nl\"] }\n\
    wrong = { kind = \"socks5\", server = \"5.9.0.1:1080\", credentials = \"wrong\" }\n\
    abroad = { kind = \"socks5\", server = \"proxy.example:1080\" }\n\
    [[rule]]\nid = \"far\"\nip = [\"198.41.0.4\"]\naction = \"reroute\"\nexit = \"first\"\n\
    [[rule]]\nid = \"near\"\nip = [\"192.5.5.0/24\"]\naction = \"reroute\"\nexit = \"wrong\"\n\
    exit_down = \"nl\"\n\
    [[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n";

/// Starts the gate of the machine itself, with exits.
fn rerouting(abroad: &Abroad, directory: &Path) -> std::process::Child {
    let [policy, config, socket] =
        ["policy.toml", "cordon.toml", "control.sock"].map(|name| directory.join(name));
    fs::write(&policy, EXITS).unwrap();
    let text = format!(
        "policy = {policy:?}\n[control]\nsocket = {socket:?}\n[link]\nmode = \"host\"\n\
         [dns]\nanswer = false\n\
         [exits.de]\nuser = \"alice\"\npassword = \"{PASSWORD}\"\n\
         [exits.wrong]\nuser = \"alice\"\npassword = \"{WRONG}\"\n"
    );
    fs::write(&config, text).unwrap();
    fs::set_permissions(&config, Permissions::from_mode(0o600)).unwrap();
    launch(&abroad.machine, &config)
}

fn exit<'s>(status: &'s Value, name: &str) -> &'s Value {
    let exits = status["exits"].as_array().unwrap();
    exits.iter().find(|exit| exit["name"] == name).unwrap()
}

#[test]
fn an_exit_that_goes_down_is_told_with_why_and_who_takes_over_until_it_is_back() {
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        let user = Some(("alice", PASSWORD));
        let Some(german) = Proxy::microsocks(&abroad.german, DE, user) else {
            return;
        };
        let _dutch = Proxy::microsocks(&abroad.dutch, NL, None);
        abroad.hosts(&format!("{} proxy.example\n", abroad::CN));
        let directory = tempfile::tempdir().unwrap();
        let daemon = rerouting(&abroad, directory.path());
        let socket = directory.path().join("control.sock");
        let is_up = |name: &str, up: bool| exit(&status(&socket), name)["up"] == up;
        let to = format!("{}:9", abroad::US);

        wait_until("its first member carries the group", || {
            exit(&status(&socket), "first")["carrier"] == "de"
        });
        let open = connected(&abroad.machine, &to);
        let now = status(&socket);
        assert_eq!(exit(&now, "de")["why"], "it answers");
        assert_eq!(exit(&now, "de")["flows"], 1);
        assert_eq!(exit(&now, "first")["rules"], serde_json::json!(["far"]));
        let listed = flows(&socket, &[]);
        let flow = listed.iter().find(|flow| flow["dport"] == 9).unwrap();
        for (key, value) in [
            ("verdict", "reroute"),
            ("rule", "far"),
            ("exit", "de"),
            ("path", "terminate"),
        ] {
            assert_eq!(flow[key], value, "{key}: {flow}");
        }
        // What is wrong with the others is said in plain words.
        wait_until("the wrong password was tried", || {
            let now = status(&socket);
            exit(&now, "wrong")["why"] == "it does not accept our user and password"
        });
        let now = status(&socket);
        let why = exit(&now, "abroad")["why"].as_str().unwrap().to_owned();
        assert!(why.ends_with("which rule no-prc blocks"), "{why}");
        assert!(problem(&now, "exit wrong is down"), "{now}");
        assert!(!problem(&now, "abroad"), "no rule uses it: {now}");
        let taker = serde_json::json!([{"rule": "near", "exit": "nl"}]);
        assert_eq!(exit(&now, "wrong")["takes_over"], taker);

        drop(german);
        wait_until("it is down", || is_up("de", false));
        let now = status(&socket);
        assert!(problem(&now, "exit de is down: it "), "{now}");
        assert_eq!(exit(&now, "first")["carrier"], "nl");
        assert_eq!(exit(&now, "first")["up"], true);
        drop(open);
        wait_until("the next flow goes by who took over", || {
            let _open = connected(&abroad.machine, &to);
            exit(&status(&socket), "nl")["flows"] == 1
        });
        let told = text(&ask(&socket, &["status"]).stdout);
        println!("{told}");
        for part in [
            "de (socks5 at 5.9.0.1:1080) is DOWN for",
            "nl carries it",
            "NOT WELL: exit de",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }

        let _again = Proxy::microsocks(&abroad.german, DE, user);
        wait_until("it is back", || is_up("de", true));
        let now = status(&socket);
        assert_eq!(exit(&now, "first")["carrier"], "de");
        assert!(!problem(&now, "exit de"), "{now}");
        let everything = format!("{now}{told}{listed:?}");
        assert!(!everything.contains(PASSWORD) && !everything.contains(WRONG));
        end(daemon);
    });
}
