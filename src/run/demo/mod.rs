//! The Clubhouse case, end to end: a phone joins a room, first without a gate and then behind the real one, and an
//! observer where the servers are counts what reached them. All of it in namespaces of its own, without an uplink.

mod app;
mod cast;
mod exit;
mod proof;
mod servers;

use crate::config::{Config, Link};
use crate::gateway::Snapshot;
use crate::kernel::namespace::lab::{Host, Lab, Observer};
use crate::report::Reporter;
use anyhow::{Context, Result};
use app::Outcome;
use cast::Role;
use proof::Proof;
use serde_json::{Value, json};
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

/// The policy on trial.
pub const POLICY: (&str, &str) = (
    "clubhouse-2021.toml",
    include_str!("../../../policies/clubhouse-2021.toml"),
);

/// The same, with the audio by an exit.
pub const POLICY_BY_EXIT: (&str, &str) = (
    "clubhouse-2021-exit.toml",
    include_str!("../../../policies/clubhouse-2021-exit.toml"),
);

/// What the user declares: the account's number and the room's id.
pub fn secrets() -> Vec<(String, String)> {
    vec![
        ("account number".into(), cast::USER.to_string()),
        ("room id".into(), cast::ROOM.into()),
    ]
}

/// What came of it.
pub struct Finale {
    /// What an observer saw without a gate …
    without: Proof,
    /// … and with it.
    with: Proof,
    /// … with it and the audio by an exit: what left the gateway, and how many packets of the exit's own reached the
    /// operator's edge.
    by_exit: Proof,
    edge_by_exit: u64,
    app_without: Outcome,
    app_with: Outcome,
    app_by_exit: Outcome,
}

/// Plays all acts: the second one by the first policy, the third one by the second; what came of them, and what the gate
/// reported. To be called in a lab.
///
/// # Errors
/// If the kernel refuses a part of the stage.
pub fn play(
    lab: &Lab,
    [snapshot, by_exit]: [Arc<Snapshot>; 2],
    reporter: Reporter,
    mut say: impl FnMut(&str),
) -> Result<(Finale, Reporter)> {
    let stage = Stage::build(lab)?;
    say("Act one: the phone joins a room, without a gate.");
    let (without, app_without) = stage.join()?;
    say(&format!(
        "  {} packets reached servers they must not reach; {} packets told who is in which room.",
        without.forbidden(),
        without.identifying()
    ));
    say("Act two: the same phone, the same app, behind Cordon.");
    let config = Config {
        link: Link {
            inside: vec!["lan".into()],
            ..Link::default()
        },
        dns: crate::config::Dns {
            upstreams: cast::resolvers(),
            ..crate::config::Dns::default()
        },
        ..Config::default()
    };
    let running = stage
        .gateway
        .run(|| super::start(&config, snapshot, reporter))?;
    let second = stage.join();
    say(
        "Act three: the same, and the audio goes to the operator by the user's own exit in Germany.",
    );
    let third = stage
        .gateway
        .run(|| running.replace(by_exit))
        .and_then(|()| {
            let behind = Observer::on(&stage.world, "exit")?;
            // The gate has asked the exit whether it is there before the app wants it.
            std::thread::sleep(Duration::from_secs(1));
            let joined = stage.join()?;
            Ok((joined, Proof::of(&behind.finish()?)))
        });
    let reporter = stage.gateway.run(|| running.close())?;
    let (with, app_with) = second?;
    let ((by_exit, app_by_exit), behind) = third?;
    let finale = Finale {
        without,
        with,
        by_exit,
        edge_by_exit: behind.reached(Role::Edge),
        app_without,
        app_with,
        app_by_exit,
    };
    Ok((finale, reporter))
}

/// A phone, a router, and the world.
struct Stage {
    phone: Host,
    gateway: Host,
    world: Host,
}

impl Stage {
    fn build(lab: &Lab) -> Result<Self> {
        let (phone, gateway) = (lab.host("phone")?, lab.host("gateway")?);
        let (exit, world) = (lab.host("exit")?, lab.host("world")?);
        lab.wire((&phone, "wlan"), (&gateway, "lan"))?;
        lab.wire((&gateway, "wan"), (&world, "net"))?;
        for (host, link, address) in [
            (&phone, "wlan", "192.168.7.2/24"),
            (&phone, "wlan", "fd07::2/64"),
            (&gateway, "lan", "192.168.7.1/24"),
            (&gateway, "lan", "fd07::1/64"),
            (&gateway, "wan", "203.0.113.1/24"),
            (&gateway, "wan", "fd77::1/64"),
            (&world, "net", "203.0.113.2/24"),
            (&world, "net", "fd77::2/64"),
        ] {
            host.address(link, address)?;
        }
        lab.wire((&exit, "eth0"), (&world, "exit"))?;
        world.address("exit", "5.9.0.254/24")?;
        world.forward()?;
        for server in cast::SERVERS {
            if server.role == Role::Exit {
                exit.address("eth0", &format!("{}/24", server.address))?;
                continue;
            }
            let length = if server.address.contains(':') {
                128
            } else {
                32
            };
            world.address("net", &format!("{}/{length}", server.address))?;
        }
        phone.default_route("wlan", "192.168.7.1")?;
        phone.default_route("wlan", "fd07::1")?;
        gateway.default_route("wan", "203.0.113.2")?;
        gateway.default_route("wan", "fd77::2")?;
        // Without a gate the router only forwards; the world knows the way back.
        world.route("192.168.7.0/24", "net", Some("203.0.113.1"))?;
        world.route("fd07::/64", "net", Some("fd77::1"))?;
        gateway.forward()?;
        exit.default_route("eth0", "5.9.0.254")?;
        exit.run(exit::start)?;
        world.run(servers::start)?;
        Ok(Self {
            phone,
            gateway,
            world,
        })
    }

    /// One act: the app joins, the observer watches.
    fn join(&self) -> Result<(Proof, Outcome)> {
        let observer = Observer::on(&self.world, "net")?;
        let outcome = self.phone.run(app::join).context("the app")?;
        // What was only delayed would still count.
        std::thread::sleep(Duration::from_millis(300));
        Ok((Proof::of(&observer.finish()?), outcome))
    }
}

impl Finale {
    /// Nothing leaked, and the stage was one on which something could.
    pub fn is_proof(&self) -> bool {
        let audio = self.by_exit.reached(Role::Exit) > 0 && self.edge_by_exit > 0;
        self.is_clean() && audio && self.without.forbidden() > 0 && self.without.identifying() > 0
    }

    /// Nothing left that must not, in either act.
    fn is_clean(&self) -> bool {
        self.with.is_clean() && self.by_exit.is_clean()
    }

    /// The app still does what its user wants: with the exit, what only the operator has, too.
    pub fn is_usable(&self) -> bool {
        self.app_with.is_usable() && self.app_by_exit.is_usable() && self.app_by_exit.edge > 0
    }

    /// One object, as `--json` prints it last.
    pub fn json(&self) -> Value {
        let servers: Vec<Value> = self
            .without
            .servers
            .iter()
            .zip(&self.with.servers)
            .map(|((server, without), (_, with))| {
                json!({
                    "role": server.role.title(), "address": server.address, "port": server.port,
                    "name": server.name, "forbidden": server.forbidden,
                    "without": { "packets": without.packets, "identifying": without.identifying },
                    "with": { "packets": with.packets, "identifying": with.identifying },
                })
            })
            .collect();
        let act = |proof: &Proof, app: &Outcome| {
            json!({
                "forbidden": proof.forbidden(), "identifying": proof.identifying(), "strangers": proof.strangers,
                "missed": proof.missed, "api_calls": app.api, "pings_answered": app.pings,
                "audio_by_edge": app.edge, "audio_by_relay": app.relay,
            })
        };
        json!({
            "type": "demo", "leaked": !self.is_clean(), "proof": self.is_proof(), "usable": self.is_usable(),
            "without": act(&self.without, &self.app_without), "with": act(&self.with, &self.app_with),
            "by_exit": act(&self.by_exit, &self.app_by_exit), "edge_packets_by_exit": self.edge_by_exit,
            "servers": servers,
        })
    }
}

impl fmt::Display for Finale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<18}{:<30}{:>24}{:>24}",
            "what reached", "", "without Cordon", "with Cordon"
        )?;
        for ((server, without), (_, with)) in self.without.servers.iter().zip(&self.with.servers) {
            let cell = |reached: &proof::Reached| {
                let mut text = format!("{} packets", reached.packets);
                if reached.identifying > 0 {
                    write!(text, ", {} tell who", reached.identifying)?;
                }
                Ok::<_, fmt::Error>(text)
            };
            let forbidden = if server.forbidden { " (must not)" } else { "" };
            let (title, address) = (server.role.title(), server.address);
            writeln!(
                f,
                "{title:<18}{:<30}{:>24}{:>24}",
                format!("{address}{forbidden}"),
                cell(without)?,
                cell(with)?
            )?;
        }
        writeln!(f)?;
        let Outcome {
            api, edge, relay, ..
        } = self.app_with;
        writeln!(
            f,
            "Behind Cordon the app made {api} of 3 API calls and heard {} audio frames.",
            edge.max(relay)
        )?;
        writeln!(
            f,
            "With its exit it heard {} frames of the operator's edge, which saw {} packets of the exit and {} of the user.",
            self.app_by_exit.edge,
            self.edge_by_exit,
            self.by_exit.reached(Role::Edge)
        )?;
        self.verdict(f)
    }
}

impl Finale {
    /// What all that proves.
    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = |count: fn(&Proof) -> u64| count(&self.with) + count(&self.by_exit);
        let (forbidden, identifying) = (sum(Proof::forbidden), sum(Proof::identifying));
        let (strangers, missed) = (sum(|proof| proof.strangers), sum(|proof| proof.missed));
        if self.is_proof() {
            writeln!(
                f,
                "The observer outside saw {} forbidden packets and {} with the user's number or the room's id without \
                 Cordon; with it, none.",
                self.without.forbidden(),
                self.without.identifying()
            )
        } else if self.is_clean() {
            writeln!(
                f,
                "Nothing is proved: nothing could be seen without Cordon either, or the exit carried nothing."
            )
        } else {
            writeln!(
                f,
                "LEAK: the observer saw {forbidden} forbidden packets, {identifying} with an identifier, {strangers} to \
                 strangers; {missed} passed unseen."
            )
        }
    }
}
