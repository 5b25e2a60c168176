//! `cordon run`, as a router and as a host: what passes, what is closed, and what is left when it is killed.

use crate::harness::{cordon, in_lab, peer, wait_until};
use crate::nat::masquerade;
use crate::servers;
use cordon::kernel::divert::FILTER;
use cordon::kernel::namespace::lab::{Host, Lab, Observer};
use cordon::kernel::netlink::Netlink;
use cordon::kernel::nft::{Base, Batch, Hook, Nft, Rule, Sees};
use socket2::{Domain, Socket, Type};
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

pub(crate) const US: &str = "198.41.0.4";
pub(crate) const US6: &str = "2001:503:ba3e::2:30";
pub(crate) const CN: &str = "1.2.4.8";

/// A phone, a router, the world.
pub(crate) struct Net {
    pub(crate) phone: Host,
    pub(crate) router: Host,
    pub(crate) world: Host,
    pub(crate) directory: tempfile::TempDir,
}

pub(crate) fn net(lab: &Lab) -> Net {
    wired(lab, |lab, phone, router| {
        lab.wire((phone, "wlan"), (router, "lan")).unwrap();
    })
}

/// The same with whatever `cable` lays between the phone's `wlan` and the router's `lan`.
pub(crate) fn wired(lab: &Lab, cable: impl FnOnce(&Lab, &Host, &Host)) -> Net {
    let hosts = ["phone", "router", "world"].map(|name| lab.host(name).unwrap());
    let [phone, router, world] = hosts;
    cable(lab, &phone, &router);
    lab.wire((&router, "wan"), (&world, "net")).unwrap();
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
        (&world, "net", "1.2.4.8/32"),
        (&world, "net", "2001:503:ba3e::2:30/128"),
    ] {
        host.address(link, address).unwrap();
    }
    phone.default_route("wlan", "192.168.7.1").unwrap();
    phone.default_route("wlan", "fd07::1").unwrap();
    router.default_route("wan", "203.0.113.2").unwrap();
    router.default_route("wan", "fd77::2").unwrap();
    // The world would find the phone: whatever does not reach it was stopped, and not lost for want of a way.
    world
        .route("192.168.7.0/24", "net", Some("203.0.113.1"))
        .unwrap();
    world.route("fd07::/64", "net", Some("fd77::1")).unwrap();
    world
        .run(|| {
            for at in [format!("{US}:9"), format!("{CN}:9"), format!("[{US6}]:9")] {
                servers::bulk(&at);
                servers::echo(&at);
            }
            Ok(())
        })
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    Net {
        phone,
        router,
        world,
        directory,
    }
}

const NO_CN: &str = "version = 1\nname = \"test\"\n[default]\naction = \"allow\"\n\
    [[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n";
pub(crate) const NO_US: &str = "version = 1\nname = \"test\"\n[default]\naction = \"allow\"\n\
    [[rule]]\nid = \"no-us\"\njurisdiction = [\"US\"]\naction = \"block\"\n";

/// Starts the daemon on a host and waits until it says that the gate is closed.
pub(crate) fn launch(host: &Host, config: &Path) -> Child {
    host.run(|| {
        let mut child = Command::new(cordon())
            .args(["run", "--config"])
            .arg(config)
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        while !said.contains("the gate is closed") {
            match lines.next() {
                Some(line) => said.push_str(&line?),
                None => panic!("the daemon ended: {said}"),
            }
        }
        thread::spawn(move || lines.for_each(drop));
        Ok(child)
    })
    .unwrap()
}

impl Net {
    /// Starts the daemon on the router and waits until it says that the gate is closed.
    pub(crate) fn start(&self, link: &str) -> Child {
        let policy = self.directory.path().join("policy.toml");
        if !policy.exists() {
            fs::write(&policy, NO_CN).unwrap();
        }
        let config = self.directory.path().join("cordon.toml");
        let socket = self.socket();
        let text = format!("policy = {policy:?}\n[control]\nsocket = {socket:?}\n[link]\n{link}\n");
        fs::write(&config, text).unwrap();
        launch(&self.router, &config)
    }

    /// Where the daemon can be asked.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("run/control.sock")
    }

    pub(crate) fn peer_on(&self, host: &Host, arguments: &[&str]) -> Result<(), String> {
        let output = host
            .run(|| Ok(Command::new(peer()).args(arguments).output()?))
            .unwrap();
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stdout).into_owned())
        }
    }

    pub(crate) fn phone(&self, arguments: &[&str]) {
        self.peer_on(&self.phone, arguments)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
    }
}

fn signal(child: &Child, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), signal).unwrap();
}

pub(crate) fn end(mut child: Child) {
    signal(&child, nix::sys::signal::Signal::SIGTERM);
    assert!(child.wait().unwrap().success());
}

pub(crate) const GATEWAY: &str = "inside = [\"lan\"]";

#[test]
fn a_phone_behind_the_router_gets_its_bytes_and_not_the_forbidden_ones() {
    in_lab(|lab| {
        let net = net(lab);
        let daemon = net.start(GATEWAY);
        let bulk = (256u64 << 20).to_string();
        for to in [format!("{US}:9"), format!("[{US6}]:9")] {
            net.phone(&["up", &to, &bulk]);
            net.phone(&["down", &to, &bulk]);
            net.phone(&["udp", &to, "1000", "1400"]);
            net.phone(&["refused", &to.replace(":9", ":10")]);
        }
        net.phone(&["many", &format!("{US}:9"), "500"]);
        net.phone(&["prohibited", &format!("{CN}:9")]);
        end(daemon);
    });
}

#[test]
fn flows_that_the_router_remembers_from_before_the_gate_are_answered() {
    in_lab(|lab| {
        let net = net(lab);
        net.router.forward().unwrap();
        masquerade(&net.router, "wan");
        let socket = net.phone.run(|| Ok(UdpSocket::bind("192.168.7.2:5000")?));
        let socket = socket.unwrap();
        socket.connect(format!("{US}:9")).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        let connect = || {
            let stream = net.phone.run(|| {
                let stream = Socket::new(Domain::IPV4, Type::STREAM, None)?;
                stream.set_reuse_address(true)?;
                let from: SocketAddr = "192.168.7.2:5001".parse()?;
                stream.bind(&from.into())?;
                let to: SocketAddr = format!("{US}:9").parse()?;
                stream.connect_timeout(&to.into(), Duration::from_secs(5))?;
                // Closed without a word, so that the port is free again and the router goes on remembering.
                stream.set_linger(Some(Duration::ZERO))?;
                Ok(stream)
            });
            stream.unwrap()
        };
        let ask = || {
            socket.send(b"hello").unwrap();
            assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 5);
        };
        ask();
        let stream = connect();
        let daemon = net.start(&format!("{GATEWAY}\npath = \"terminate\""));
        drop(stream);
        ask();
        drop(connect());
        end(daemon);
    });
}

#[test]
fn killed_under_load_not_one_packet_of_a_client_gets_out() {
    in_lab(|lab| {
        let net = net(lab);
        let mut daemon = net.start(GATEWAY);
        let phone = net.phone.clone();
        let load = thread::spawn(move || {
            phone
                .run(|| {
                    Ok(Command::new(peer())
                        .args(["flood", &format!("{US}:9"), "4"])
                        .status()?)
                })
                .unwrap();
        });
        thread::sleep(Duration::from_millis(500));
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        // What the daemon's own sockets had sent is on its way for an instant.
        thread::sleep(Duration::from_millis(100));
        let observer = Observer::on(&net.world, "net").unwrap();
        let inside = Observer::on(&net.router, "lan").unwrap();
        load.join().unwrap();
        let (outside, inside) = (observer.finish().unwrap(), inside.finish().unwrap());
        let of_the_phone = |bytes: &[u8]| bytes.get(12..16) == Some(&[192, 168, 7, 2]);
        let sent = inside
            .kept
            .iter()
            .filter(|frame| !frame.outgoing && of_the_phone(&frame.bytes))
            .count();
        assert!(sent > 100, "the phone went on sending: {sent} packets");
        assert_eq!(
            (
                outside.missed,
                outside
                    .kept
                    .iter()
                    .filter(|f| of_the_phone(&f.bytes))
                    .count()
            ),
            (0, 0)
        );
        let payload = outside
            .kept
            .iter()
            .filter(|f| f.bytes.windows(100).any(|w| w == [7; 100]))
            .count();
        assert_eq!(
            payload, 0,
            "nor what the phone sends, under another address"
        );

        // The next start takes over what is left, and opens the gate again.
        let daemon = net.start(GATEWAY);
        net.phone(&["udp", &format!("{US}:9"), "10", "100"]);
        end(daemon);
    });
}

#[test]
fn a_cleared_packet_filter_and_an_interface_that_comes_back_are_noticed() {
    in_lab(|lab| {
        let net = net(lab);
        let daemon = net.start(GATEWAY);
        let datagrams = ["udp", &format!("{US}:9"), "3", "10"];
        net.phone(&datagrams);
        let work = || {
            let mut batch = Batch::new(Sees::Packets, FILTER)?;
            batch.remove_table();
            Nft::open()?.commit(&batch)
        };
        net.router.run(work).unwrap();
        wait_until("the guard is back", || {
            let guard = net.router.run(|| Nft::comments(FILTER, "guard"));
            !guard.unwrap().is_empty()
        });
        let work = || Netlink::open()?.delete_link("lan");
        net.router.run(work).unwrap();
        lab.wire((&net.phone, "wlan"), (&net.router, "lan"))
            .unwrap();
        net.phone.address("wlan", "192.168.7.2/24").unwrap();
        net.router.address("lan", "192.168.7.1/24").unwrap();
        net.phone.default_route("wlan", "192.168.7.1").unwrap();
        wait_until("packets come to the gate again", || {
            net.peer_on(&net.phone, &datagrams).is_ok()
        });
        let forbidden = ["udp", &format!("{CN}:9"), "3", "10"];
        net.peer_on(&net.phone, &forbidden).unwrap_err();
        end(daemon);
    });
}

#[test]
fn where_others_change_marks_flows_stay_with_the_gate() {
    in_lab(|lab| {
        let net = net(lab);
        let daemon = net.start(GATEWAY);
        // As policy routing does it: all of a client's packets get a mark of their own.
        let work = || {
            let mut batch = Batch::new(Sees::Packets, "others")?;
            batch.table(false);
            let base = Base {
                hook: Hook::Prerouting,
                priority: -150,
            };
            batch.chain("marks", Some(base))?;
            let marks = Rule::new("by way of another table").came_in("lan");
            batch.rule("marks", &marks.mark(1, u32::MAX))?;
            Nft::open()?.commit(&batch)
        };
        net.router.run(work).unwrap();
        let socket = net
            .phone
            .run(|| {
                let socket = UdpSocket::bind("0.0.0.0:0")?;
                socket.connect(format!("{US}:9"))?;
                socket.set_read_timeout(Some(Duration::from_millis(300)))?;
                Ok(socket)
            })
            .unwrap();
        let answered = || {
            socket.send(b"hello").unwrap();
            socket.recv(&mut [0; 16]).is_ok()
        };
        wait_until("a flow is left to the kernel, and lost", || !answered());
        wait_until("it is back", answered);
        for _ in 0..50 {
            assert!(answered());
        }
        let status = Command::new(cordon())
            .args(["status", "--socket"])
            .arg(net.socket())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&status.stdout);
        assert!(said.contains("changes the marks of packets"), "{said}");
        end(daemon);
    });
}

#[test]
fn a_clean_end_takes_everything_back() {
    in_lab(|lab| {
        let net = net(lab);
        net.router.forward().unwrap();
        net.phone(&["udp", &format!("{CN}:9"), "3", "10"]);
        let daemon = net.start(GATEWAY);
        net.peer_on(&net.phone, &["udp", &format!("{CN}:9"), "3", "10"])
            .unwrap_err();
        end(daemon);
        net.phone(&["udp", &format!("{CN}:9"), "3", "10"]);
    });
}

#[test]
fn a_reload_judges_live_flows_again_and_a_broken_policy_changes_nothing() {
    in_lab(|lab| {
        let net = net(lab);
        let daemon = net.start(GATEWAY);
        let policy = net.directory.path().join("policy.toml");
        let to = format!("{US}:9");
        net.phone(&["udp", &to, "3", "10"]);
        fs::write(&policy, "version = 1\nname = \"test\"\n[[rul]]\n").unwrap();
        signal(&daemon, nix::sys::signal::Signal::SIGHUP);
        thread::sleep(Duration::from_millis(300));
        net.phone(&["udp", &to, "3", "10"]);
        fs::write(&policy, NO_US).unwrap();
        signal(&daemon, nix::sys::signal::Signal::SIGHUP);
        wait_until("the new policy holds", || {
            net.peer_on(&net.phone, &["prohibited", &to]).is_ok()
        });
        net.phone(&["udp", &format!("{CN}:9"), "3", "10"]);
        end(daemon);
    });
}

#[test]
fn this_machines_own_traffic_passes_the_gate_in_host_mode() {
    in_lab(|lab| {
        let net = net(lab);
        let daemon = net.start("mode = \"host\"");
        for to in [format!("{US}:9"), format!("[{US6}]:9")] {
            net.peer_on(&net.router, &["up", &to, "50000000"]).unwrap();
            net.peer_on(&net.router, &["down", &to, "50000000"])
                .unwrap();
            net.peer_on(&net.router, &["udp", &to, "100", "1400"])
                .unwrap();
        }
        net.peer_on(&net.router, &["prohibited", &format!("{CN}:9")])
            .unwrap();
        end(daemon);
        net.peer_on(&net.router, &["udp", &format!("{CN}:9"), "3", "10"])
            .unwrap();
    });
}

#[test]
fn a_used_tun_name_and_a_missing_interface_are_said_and_leave_the_machine_as_it_was() {
    in_lab(|lab| {
        let net = net(lab);
        let daemon = net.start(GATEWAY);
        let config = net.directory.path().join("second.toml");
        let policy = net.directory.path().join("policy.toml");
        for (link, what) in [
            ("inside = [\"wan\"]", "cordon0"),
            ("inside = [\"lan9\"]\ntun = \"cordon9\"", "lan9"),
        ] {
            let socket = net.directory.path().join("second.sock");
            let text =
                format!("policy = {policy:?}\n[control]\nsocket = {socket:?}\n[link]\n{link}\n");
            fs::write(&config, text).unwrap();
            let output = net
                .router
                .run(|| {
                    Ok(Command::new(cordon())
                        .args(["run", "--config"])
                        .arg(&config)
                        .output()?)
                })
                .unwrap();
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{text}");
            // The age of the data may be warned of before.
            let said: Vec<_> = text
                .lines()
                .filter(|line| !line.contains("days ago"))
                .collect();
            assert!(
                matches!(said[..], [line] if line.starts_with("cordon: ") && line.contains(what)),
                "{text}"
            );
        }
        net.phone(&["udp", &format!("{US}:9"), "3", "10"]);
        net.phone(&["prohibited", &format!("{CN}:9")]);
        end(daemon);
    });
}
