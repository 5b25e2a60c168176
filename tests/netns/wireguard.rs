//! A WireGuard exit against `wireguard-go`.
//!
//! They need `wireguard-go`, `wg` and `wg-quick` (wireguard-tools) with `ip` (iproute2), as the tests of other exits need their proxies.

use crate::abroad::{Abroad, DE, DE6, Options, Proxy, US, US6, destination, program, said};
use crate::harness::{in_lab, peer, wait_until};
use cordon::kernel::namespace::lab::{Frame, Lab, Observer};
use cordon::kernel::netlink::Netlink;
use nix::mount::{MsFlags, mount};
use socket2::{Domain, Protocol, Socket, Type};
use std::fs::{self, Permissions};
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// Bytes moved each way.
const BULK: u64 = 32 << 20;
/// Behind the server nobody knows the way there.
const NOWHERE: &str = "192.0.2.9";
const INSIDE: [&str; 2] = ["10.9.0.1/24", "fd09::1/64"];

/// A server of others, and what its client knows.
struct Server {
    abroad: Abroad,
    directory: tempfile::TempDir,
    go: PathBuf,
    wg: PathBuf,
    private: [String; 2],
    public: [String; 2],
    preshared: String,
}

impl Server {
    fn in_lab(lab: &Lab) -> Option<Self> {
        let (go, wg) = (program("wireguard-go")?, program("wg")?);
        let abroad = Abroad::in_lab(lab);
        // Its control socket lies there.
        let none = None::<&str>;
        mount(none, "/run", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        abroad.german.forward().unwrap();
        abroad.route_back("10.9.0.0/24", DE);
        abroad.route_back("fd09::/64", DE6);
        let keys = [ask(&wg, "genkey", ""), ask(&wg, "genkey", "")];
        let public = [ask(&wg, "pubkey", &keys[0]), ask(&wg, "pubkey", &keys[1])];
        let preshared = ask(&wg, "genpsk", "");
        Some(Self {
            abroad,
            directory: tempfile::tempdir().unwrap(),
            go,
            wg,
            private: keys,
            public,
            preshared,
        })
    }

    /// Has the server run, and know the client of this public key.
    fn start(&self, client: &str) -> Proxy {
        let mut command = Command::new(&self.go);
        command
            .args(["-f", "wg0"])
            .env("WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD", "1")
            .stderr(Stdio::null());
        let host = &self.abroad.german;
        let started = Proxy::start(host, command, &[]);
        wait_until("the server can be told", || {
            Path::new("/run/wireguard/wg0.sock").exists()
        });
        let conf = self.conf("server.conf", "", client);
        let mut command = Command::new(&self.wg);
        command.args(["setconf", "wg0"]).arg(&conf);
        let output = host.run(|| Ok(command.output()?)).unwrap();
        assert!(output.status.success(), "{}", said(&output));
        for address in INSIDE {
            host.address("wg0", address).unwrap();
        }
        host.run(|| Netlink::open()?.up("wg0")).unwrap();
        started
    }

    /// The server's file, with more in its first part.
    fn conf(&self, name: &str, more: &str, client: &str) -> PathBuf {
        let [private, _] = &self.private;
        let conf = self.directory.path().join(name);
        let text = format!(
            "[Interface]\nPrivateKey = {private}\nListenPort = 51820\n{more}[Peer]\nPublicKey = {client}\n\
             PresharedKey = {}\nAllowedIPs = 10.9.0.2/32, fd09::2/128\n",
            self.preshared
        );
        fs::write(&conf, text).unwrap();
        fs::set_permissions(&conf, Permissions::from_mode(0o600)).unwrap();
        conf
    }

    /// Has `wg-quick` set the server up, or take it down.
    fn quick(&self, quick: &Path, what: &str, conf: &Path) {
        let mut command = Command::new(quick);
        command
            .arg(what)
            .arg(conf)
            .env("WG_QUICK_USERSPACE_IMPLEMENTATION", &self.go)
            .env("WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD", "1");
        let output = self.abroad.german.run(|| Ok(command.output()?)).unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }

    /// What a client is given, as a file and as options of `cordon exec`.
    fn options(&self, endpoint: &str, more: &str) -> Options {
        let [_, private] = &self.private;
        let [public, _] = &self.public;
        let conf = self.directory.path().join("de.conf");
        let text = format!(
            "[Interface]\nPrivateKey = {private}\nAddress = 10.9.0.2/24, fd09::2/64\nDNS = 10.9.0.1\n{more}\
             [Peer]\nPublicKey = {public}\nPresharedKey = {}\nEndpoint = {endpoint}\nAllowedIPs = 0.0.0.0/0, ::/0\n",
            self.preshared
        );
        fs::write(&conf, text).unwrap();
        fs::set_permissions(&conf, Permissions::from_mode(0o600)).unwrap();
        let policy = format!(
            "[default]\naction = \"allow\"\n[exits]\nx = {{ kind = \"wireguard\", profile = \"de\" }}\n\
             [[rule]]\nid = \"abroad\"\nip = [\"{US}\", \"{US6}\", \"{NOWHERE}\"]\naction = \"reroute\"\nexit = \"x\"\n\
             [[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n"
        );
        let config = format!("[exits.de]\nconfig = \"{}\"\n", conf.display());
        Options::write(self.directory.path(), &policy, &config)
    }
}

/// What `wg` says.
fn ask(wg: &Path, what: &str, input: &str) -> String {
    let mut command = Command::new(wg);
    command
        .arg(what)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_server_that_wg_quick_sets_up_is_reached_and_is_missed_when_it_is_taken_down() {
    in_lab(|lab| {
        let (Some(quick), Some(_)) = (program("wg-quick"), program("ip")) else {
            return;
        };
        let Some(server) = Server::in_lab(lab) else {
            return;
        };
        let conf = server.conf(
            "wg0.conf",
            "Address = 10.9.0.1/24, fd09::1/64\n",
            &server.public[1],
        );
        let options = server.options(&format!("{DE}:51820"), "");
        let options = options.each();
        let watch = server.abroad.watch(&[DE, DE6]);
        for _ in 0..2 {
            server.quick(&quick, "up", &conf);
            for to in [format!("{US}:9"), format!("[{US6}]:9")] {
                server
                    .abroad
                    .succeed(&options, &["up", &to, &BULK.to_string()]);
                server
                    .abroad
                    .succeed(&options, &["udp", &to, "100", "1000"]);
            }
            server.quick(&quick, "down", &conf);
            let output = server
                .abroad
                .exec(&options, &peer(), &["up", &format!("{US}:9"), "1000"]);
            assert!(!output.status.success(), "{}", said(&output));
        }
        watch.nothing_else();
    });
}

#[test]
fn streams_datagrams_and_echoes_pass_a_tunnel_and_nothing_goes_past_it() {
    in_lab(|lab| {
        let Some(server) = Server::in_lab(lab) else {
            return;
        };
        let _running = server.start(&server.public[1]);
        for endpoint in [format!("{DE}:51820"), format!("[{DE6}]:51820")] {
            let options = server.options(&endpoint, "");
            let options = options.each();
            let watch = server.abroad.watch(&[DE, DE6]);
            let succeed = |arguments: &[&str]| server.abroad.succeed(&options, arguments);
            for to in [format!("{US}:9"), format!("[{US6}]:9")] {
                succeed(&["up", &to, &BULK.to_string()]);
                succeed(&["down", &to, &BULK.to_string()]);
                succeed(&["udp", &to, "1000", "1300"]);
                // Longer than the tunnel's packets, both ways. The first ones teach the other end how long they may be.
                let longer = ["udp", &to, "100", "9000"];
                server.abroad.exec(&options, &peer(), &longer);
                succeed(&longer);
            }
            succeed(&["ping", US, "5"]);
            succeed(&["ping", US6, "5"]);
            // What is said of a packet comes back to who sent it, at once.
            succeed(&["refused", &format!("{US}:10")]);
            succeed(&["prohibited-udp", &format!("{US}:10")]);
            succeed(&["prohibited-udp", &format!("[{US6}]:10")]);
            succeed(&["unreachable", &format!("{NOWHERE}:9"), "2"]);
            watch.nothing_else();
        }
        let options = server.options(&format!("{DE}:51820"), "MTU = 1280\n");
        server
            .abroad
            .succeed(&options.each(), &["many", &format!("{US}:9"), "1000"]);
        server
            .abroad
            .succeed(&options.each(), &["both", &format!("{US}:9"), "10000000"]);
    });
}

#[test]
fn where_the_way_behind_a_tunnel_takes_less_connections_go_on() {
    in_lab(|lab| {
        let Some(server) = Server::in_lab(lab) else {
            return;
        };
        server.abroad.narrow(1300);
        let _running = server.start(&server.public[1]);
        let options = server.options(&format!("{DE}:51820"), "");
        for to in [format!("{US}:9"), format!("[{US6}]:9")] {
            server
                .abroad
                .succeed(&options.each(), &["up", &to, "3000000"]);
            server
                .abroad
                .succeed(&options.each(), &["down", &to, "3000000"]);
        }
    });
}

#[test]
fn a_call_outlives_a_move_of_the_machine() {
    in_lab(|lab| {
        let Some(server) = Server::in_lab(lab) else {
            return;
        };
        server.abroad.own_address("203.0.113.7/24");
        let _running = server.start(&server.public[1]);
        let options = server.options(&format!("{DE}:51820"), "");
        let from = |frame: &Frame| {
            let moved = frame.bytes.get(12..16) == Some(&[203, 0, 113, 7]);
            !frame.outgoing && moved && destination(frame) == DE.parse().ok()
        };
        let observer = Observer::judging(&server.abroad.net, "m", from).unwrap();
        let mut client = server
            .abroad
            .begin(&options.each(), &["call", &format!("{US}:9"), "6"]);
        client.says("running");
        server.abroad.drop_address();
        let gap: u64 = client.says("gap ").trim().parse().unwrap();
        client.succeeds();
        let seen = observer.finish().unwrap();
        let events = fs::read_to_string(options.events()).unwrap();
        assert!(
            seen.kept.len() > 50,
            "{} from the new address",
            seen.kept.len()
        );
        assert!(gap < 3000, "silent for {gap} ms: {events}");
    });
}

#[test]
fn a_server_that_moves_is_found_again_by_its_name() {
    const MOVED: &str = "5.9.0.7";
    in_lab(|lab| {
        let Some(server) = Server::in_lab(lab) else {
            return;
        };
        let german = &server.abroad.german;
        german.address("eth0", &format!("{MOVED}/24")).unwrap();
        server.abroad.hosts(&format!("{DE} wg.example\n"));
        let running = server.start(&server.public[1]);
        let options = server.options("wg.example:51820", "");
        let watch = server.abroad.watch(&[DE, MOVED]);
        let there = |frame: &Frame| !frame.outgoing && destination(frame) == MOVED.parse().ok();
        let observer = Observer::judging(&server.abroad.net, "m", there).unwrap();
        let mut client = server
            .abroad
            .begin(&options.each(), &["outage", &format!("{US}:9"), "20"]);
        client.says("running");
        server.abroad.hosts(&format!("{MOVED} wg.example\n"));
        drop(running);
        let _ = fs::remove_file("/run/wireguard/wg0.sock");
        client.says("ended");
        client.says("refused");
        let _again = server.start(&server.public[1]);
        client.says("back");
        client.succeeds();
        watch.nothing_else();
        assert!(
            !observer.finish().unwrap().kept.is_empty(),
            "it never moved"
        );
    });
}

/// Handshakes of ours among these datagrams (the message type is the first byte behind the UDP header).
fn handshakes(frames: &[Frame]) -> usize {
    let is_one = |frame: &&Frame| frame.bytes.get(28..32) == Some(&[1, 0, 0, 0]);
    frames.iter().filter(is_one).count()
}

#[test]
#[ignore = "keys live for two minutes, so it takes as long: run it by its name"]
fn a_call_outlives_its_keys() {
    in_lab(|lab| {
        let Some(server) = Server::in_lab(lab) else {
            return;
        };
        let _running = server.start(&server.public[1]);
        let options = server.options(&format!("{DE}:51820"), "");
        let ours = |frame: &Frame| !frame.outgoing && destination(frame) == DE.parse().ok();
        let observer = Observer::of_headers(&server.abroad.net, "m", 64, ours).unwrap();
        let mut client = server
            .abroad
            .begin(&options.each(), &["call", &format!("{US}:9"), "130"]);
        client.says("running");
        let gap: u64 = client.says("gap ").trim().parse().unwrap();
        client.succeeds();
        let shaken = handshakes(&observer.finish().unwrap().kept);
        assert!(shaken >= 2 && gap < 1000, "{shaken} handshakes, {gap} ms");
    });
}

#[test]
#[ignore = "keys are dead after three minutes, so it takes as long: run it by its name"]
fn a_tunnel_whose_keys_have_died_meanwhile_carries_flows_again() {
    in_lab(|lab| {
        let Some(server) = Server::in_lab(lab) else {
            return;
        };
        let running = server.start(&server.public[1]);
        let options = server.options(&format!("{DE}:51820"), "");
        let watch = server.abroad.watch(&[DE]);
        let mut client = server.abroad.begin(
            &options.each(),
            &["outage", &format!("{US}:9"), "20", "230"],
        );
        client.says("running");
        running.freeze();
        client.says("ended");
        client.says("refused");
        thread::sleep(Duration::from_secs(185));
        running.thaw();
        client.says("back");
        client.succeeds();
        watch.nothing_else();
    });
}

#[test]
fn replayed_forged_and_oversized_datagrams_change_nothing() {
    in_lab(|lab| {
        let Some(server) = Server::in_lab(lab) else {
            return;
        };
        let _running = server.start(&server.public[1]);
        let options = server.options(&format!("{DE}:51820"), "");
        let to = format!("{US}:9");
        let to_us = |frame: &Frame| frame.outgoing && frame.bytes.get(9) == Some(&17);
        // From the beginning: the answer to the handshake is among what is replayed, long after it is over.
        let observer = Observer::judging(&server.abroad.net, "m", to_us).unwrap();
        let mut client = server.abroad.begin(&options.each(), &["call", &to, "6"]);
        client.says("running");
        thread::sleep(Duration::from_secs(1));
        let capture = observer.finish().unwrap();
        assert!(capture.kept.len() > 10, "{}", capture.kept.len());
        let is_response = |frame: &Frame| frame.bytes.get(28..32) == Some(&[2, 0, 0, 0]);
        assert!(capture.kept.iter().any(is_response));
        let machine: SocketAddr = "203.0.113.1:0".parse().unwrap();
        let send = || {
            let header_included = Some(Protocol::from(255));
            let raw = Socket::new(Domain::IPV4, Type::RAW, header_included)?;
            for frame in &capture.kept {
                raw.send_to(&frame.bytes, &machine.into())?;
                let mut forged = frame.bytes.clone();
                *forged.last_mut().unwrap() ^= 1;
                // No sum of the UDP header, so that only the tunnel's own can tell.
                forged[26..28].fill(0);
                raw.send_to(&forged, &machine.into())?;
            }
            // From the server's address, but not from where the server is.
            let other = UdpSocket::bind(format!("{DE}:0"))?;
            let port = u16::from_be_bytes([capture.kept[0].bytes[22], capture.kept[0].bytes[23]]);
            for _ in 0..20 {
                other.send_to(&[4; 60_000], (machine.ip(), port))?;
            }
            Ok(())
        };
        server.abroad.german.run(send).unwrap();
        let gap: u64 = client.says("gap ").trim().parse().unwrap();
        client.succeeds();
        let events = fs::read_to_string(options.events()).unwrap();
        assert!(
            gap < 1500 && !events.contains("\"up\":false"),
            "{gap} ms: {events}"
        );
        let close = events
            .lines()
            .find(|line| line.contains("flow_close"))
            .unwrap();
        let close: serde_json::Value = serde_json::from_str(close).unwrap();
        let count = |what: &str| close[what].as_u64().unwrap();
        assert!(count("bytes_received") <= count("bytes_sent"), "{close}");
    });
}

#[test]
fn a_server_that_dies_under_load_ends_its_flows_and_its_return_needs_no_restart() {
    in_lab(|lab| {
        let Some(server) = Server::in_lab(lab) else {
            return;
        };
        let running = server.start(&server.public[1]);
        let options = server.options(&format!("{DE}:51820"), "");
        let watch = server.abroad.watch(&[DE]);
        let mut client = server
            .abroad
            .begin(&options.each(), &["outage", &format!("{US}:9"), "20"]);
        client.says("running");
        drop(running);
        let _ = fs::remove_file("/run/wireguard/wg0.sock");
        // The program itself checks that the end came within what the protocol allows a silent server (ten seconds, and
        // the checks after it), and each refusal behind it at once.
        client.says("ended");
        client.says("refused");
        let _again = server.start(&server.public[1]);
        client.says("back");
        client.succeeds();
        watch.nothing_else();
    });
}

#[test]
fn what_is_wrong_with_a_tunnel_is_said_and_nothing_goes_past_it() {
    in_lab(|lab| {
        let Some(server) = Server::in_lab(lab) else {
            return;
        };
        let to = format!("{US}:9");
        // A server that does not know us: it knows itself only.
        let _running = server.start(&server.public[0]);
        let options = server.options(&format!("{DE}:51820"), "");
        let watch = server.abroad.watch(&[DE]);
        server
            .abroad
            .succeed(&options.each(), &["unreachable", &to, "3"]);
        watch.nothing_else();
        let events = fs::read_to_string(options.events()).unwrap();
        assert!(
            events.contains("it does not answer, or does not know our key"),
            "{events}"
        );
        // One in a jurisdiction that is blocked.
        let options = server.options("1.2.4.8:51820", "");
        let watch = server.abroad.watch(&[]);
        server
            .abroad
            .succeed(&options.each(), &["unreachable", &to, "2"]);
        assert_eq!(watch.packets(), 0);
        let events = fs::read_to_string(options.events()).unwrap();
        assert!(events.contains("no-prc"), "{events}");
        // What is no configuration, and one that others may read.
        let options = server.options("nowhere", "");
        let broken = |options: &Options, what: &str| {
            let output = server
                .abroad
                .exec(&options.each(), Path::new("/bin/true"), &[]);
            let text = said(&output);
            assert!(!output.status.success() && text.contains(what), "{text}");
            assert!(
                server
                    .private
                    .iter()
                    .all(|key| !text.contains(key.as_str()))
            );
        };
        broken(&options, "Endpoint is not HOST:PORT");
        let conf = server.directory.path().join("de.conf");
        fs::set_permissions(&conf, Permissions::from_mode(0o644)).unwrap();
        broken(&options, "chmod 600");
    });
}
