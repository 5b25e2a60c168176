//! One program whose only way out is Cordon: a network of its own with a TUN as its default route.

use super::early::Early;
use super::gate::{Gate, Plan, default_shards, descriptors, memory};
use crate::config::{self, Bounds};
use crate::dns::Resolver;
use crate::exit::{Exits, Profiles};
use crate::gateway::Snapshot;
use crate::kernel::namespace::Inside;
use crate::report::Reporter;
use anyhow::Result;
use ipnet::IpNet;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// An ordinary link: what works behind it works on any network.
const MTU: u16 = 1500;
/// The program's addresses and ours. Seen by nobody outside: the machine's own leave it.
const PROGRAM: [&str; 2] = ["10.111.0.2/24", "fd63:6f72:646f:6e::2/64"];
const OURS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(10, 111, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0xfd63, 0x6f72, 0x646f, 0x6e, 0, 0, 0, 1)),
];

/// Runs a program to its end behind a gate; its exit status, and what was reported.
///
/// # Errors
/// If the machine permits no user namespaces or no TUN device, or the program cannot be started. Nothing is changed on
/// the machine either way.
pub fn exec(
    program: &OsStr,
    arguments: &[OsString],
    (snapshot, profiles): (Arc<Snapshot>, &Profiles),
    reporter: Reporter,
) -> Result<(u8, Reporter)> {
    let exits = Exits::new(&snapshot.policy, profiles, None)?;
    let bounds = Bounds::default();
    let mut inside = Inside::new("cordon0", MTU)
        .queues(default_shards())
        .resolver(OURS[0]);
    for address in PROGRAM {
        inside = inside.address(address.parse::<IpNet>()?);
    }
    let held = inside.start(program, arguments)?;
    let (running, queues) = held.go()?;
    let plan = Plan {
        mtu: MTU,
        own: OURS.to_vec(),
        dns: Resolver::start(&config::Dns::default(), None)?,
        limits: bounds.limits(descriptors()),
        memory: memory(bounds.memory),
        mark: None,
        forward: false,
    };
    let gate = Gate::start(
        queues,
        (&plan, Early::default()),
        (snapshot, exits),
        reporter,
    )?;
    let status = running.wait()?;
    Ok((status, gate.finish()?))
}
