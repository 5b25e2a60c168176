//! What this kernel can do, tried in a network of its own: nothing of the machine is touched.

use super::fastpath::{Fastpath, Place};
use super::ingress::{Inside, Shortcut};
use super::namespace::lab::Lab;
use super::nft::{Nft, Sees};
use crate::link::Tun;
use anyhow::Result;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};
use std::time::Duration;

/// One thing that was tried.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What it is.
    pub name: &'static str,
    /// The kernel's answer if it does not work.
    pub problem: Option<String>,
    /// What works with it.
    pub with: &'static str,
    /// What is done without it.
    pub without: &'static str,
}

/// Tries everything that Cordon uses and can do without, on a host of a lab.
///
/// # Errors
/// If the lab has no host to give.
pub fn probes(lab: &Lab) -> Result<Vec<Probe>> {
    let host = lab.host("probe")?;
    let problem = |result: Result<()>| result.err().map(|error| format!("{error:#}"));
    host.run(|| {
        let tun = Tun::create("probe0", 1500);
        // Before the interface goes.
        let [short, kernel] = early("probe0").map(problem);
        let offloads = tun.as_ref().map(Tun::offloads).unwrap_or_default();
        let refused = |works: bool| (!works).then(|| "the TUN driver refuses it".to_owned());
        Ok(vec![
            Probe {
                name: "TUN",
                problem: problem(tun.map(drop)),
                with: "everything",
                without: "nothing works",
            },
            Probe {
                name: "super-segments (checksums and TSO)",
                problem: refused(offloads.checksum && offloads.tso),
                with: "one read or write moves up to 64 KiB of TCP",
                without: "packet by packet, several times slower",
            },
            Probe {
                name: "super-datagrams (USO, Linux 6.2)",
                problem: refused(offloads.uso),
                with: "one read or write moves many datagrams of UDP",
                without: "datagram by datagram",
            },
            Probe {
                name: "several queues",
                problem: problem(Tun::create_queues("probe1", 1500, 2).map(drop)),
                with: "a thread for each processor, up to four",
                without: "one thread; set `shards = 1` in [link]",
            },
            Probe {
                name: "segmentation of UDP on sockets",
                problem: problem(udp()),
                with: "one call sends or receives many datagrams",
                without: "datagram by datagram",
            },
            Probe {
                name: "packet filter (nftables)",
                problem: problem(Nft::has_table(Sees::Packets, "cordon_probe").map(drop)),
                with: "the guard of `cordon run`, which stays when the daemon dies",
                without: "`cordon run` refuses to start; `cordon exec` works",
            },
            Probe {
                name: "short way (nftables where an interface takes packets in)",
                problem: short,
                with: "packets of devices come here past the kernel's filters and routes",
                without: "they come here by the routes, which takes longer",
            },
            Probe {
                name: "kernel path (owned tables, Linux 5.12)",
                problem: kernel,
                with: "flows that were decided for good cost nothing",
                without: "every packet passes through here",
            },
        ])
    })
}

/// The short way into the TUN, and the kernel path.
fn early(tun: &str) -> [Result<()>; 2] {
    let inside = Inside {
        lans: vec!["lo".to_owned()],
        indexes: Vec::new(),
        nets: Vec::new(),
        tun: tun.to_owned(),
    };
    [
        Shortcut::open(&inside).map(drop),
        Fastpath::open(Place::Prerouting, &inside, Duration::from_secs(60), 16).map(drop),
    ]
}

fn udp() -> Result<()> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    setsockopt(&socket, sockopt::UdpGsoSegment, &1200)?;
    setsockopt(&socket, sockopt::UdpGroSegment, &true)?;
    Ok(())
}
