//! The gate of a network or of this machine: closed before the first packet, open only while it runs, told by signals.

use super::answers::Clerk;
use super::early::Early;
use super::gate::{Gate, Handle, Plan, default_shards, descriptors, memory};
use crate::config::{Config, Mode, Path};
use crate::control::{Bound, default_path, serve};
use crate::dns::Resolver;
use crate::exit::{Exits, Profiles};
use crate::gateway::Snapshot;
use crate::kernel::divert::{Divert, Installed, OWN_MARK};
use crate::kernel::netlink::Netlink;
use crate::link::Tun;
use crate::report::Reporter;
use anyhow::{Context, Result, bail};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::channel;

/// What our answers come from: the address that RFC 7600, section 4.8, sets aside for ICMP errors of nodes without one
/// of their own, and a unique local one.
const OURS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8)),
    IpAddr::V6(Ipv6Addr::new(0xfd63, 0x6f72, 0x646f, 0x6e, 0, 0, 0, 1)),
];
/// How often the neighbours' hardware addresses are read, and the gate's health.
const PULSE: Duration = Duration::from_secs(2);

/// Where what flows are judged by comes from, again and again.
pub type Load<'a> = &'a dyn Fn() -> Result<Arc<Snapshot>>;

/// Everything in place and running. Dropped without [`close`](Self::close) it leaves the guard where it is, as a
/// killed process would.
pub struct Running {
    gate: Gate,
    divert: Divert,
    installed: Installed,
    profiles: Profiles,
    mark: Option<u32>,
}

/// Puts the gate in place, in the network namespace of the calling thread.
///
/// # Errors
/// If the link, the routes or the guard cannot be had; the machine is as it was then.
pub fn start(config: &Config, snapshot: Arc<Snapshot>, reporter: Reporter) -> Result<Running> {
    let link = &config.link;
    let host = link.mode == Mode::Host;
    if !host && link.inside.is_empty() {
        bail!("gateway mode needs the interfaces to the inside: set `inside` under [link]");
    }
    let shards = link.shards.unwrap_or_else(default_shards);
    let queues = Tun::create_queues(&link.tun, link.mtu, shards)?;
    let lans = if host {
        Vec::new()
    } else {
        link.inside.clone()
    };
    let mut divert = Divert {
        tun: link.tun.clone(),
        lans,
        routed: false,
        own_traffic: host,
    };
    let mark = host.then_some(OWN_MARK);
    let exits = Exits::new(&snapshot.policy, &config.exits, mark)?;
    let dns = Resolver::start(&config.dns, mark)?;
    let early = if host {
        Early::default()
    } else {
        Early::open(divert.inside()?, link.path == Path::Kernel)
    };
    divert.routed = !host && early.needs_routes();
    let installed = divert.install()?;
    let plan = Plan {
        mtu: link.mtu,
        own: OURS.to_vec(),
        dns,
        limits: config.limits.limits(descriptors()),
        memory: memory(config.limits.memory),
        mark,
        forward: !host && link.path != Path::Terminate,
    };
    match Gate::start(queues, (&plan, early), (snapshot, exits), reporter) {
        Ok(gate) => Ok(Running {
            gate,
            divert,
            installed,
            profiles: config.exits.clone(),
            mark,
        }),
        Err(error) => {
            installed.undo()?;
            Err(error)
        }
    }
}

impl Running {
    /// Tells the gate while it runs.
    pub fn handle(&self) -> Handle {
        self.gate.handle()
    }

    /// The gate itself.
    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Judges by something else from now on, live flows too.
    ///
    /// # Errors
    /// If this machine cannot use an exit of it; then everything stays as it is.
    pub fn replace(&self, snapshot: Arc<Snapshot>) -> Result<()> {
        let exits = Exits::new(&snapshot.policy, &self.profiles, self.mark)?;
        self.gate.replace(snapshot, exits)
    }

    /// Follows what others do to the machine: interfaces that come back, the packet filter cleared.
    fn follow(&self) -> Result<()> {
        let kept = self.installed.keep();
        if matches!(kept, Ok(true)) {
            eprintln!("cordon: somebody had removed the guard from the packet filter; it is back");
        }
        let followed = self.gate.early().follow(&self.divert, &self.installed);
        kept.and(followed)
    }

    /// Ends all flows and takes everything back.
    ///
    /// # Errors
    /// If the gate had broken, or something cannot be taken back; then the guard stays.
    pub fn close(self) -> Result<Reporter> {
        let reporter = self.gate.stop()?;
        self.installed.undo()?;
        Ok(reporter)
    }
}

/// Runs until a signal ends it: `SIGHUP` loads anew, `SIGTERM` and `SIGINT` end cleanly. Meanwhile it can be
/// [asked](crate::control).
///
/// # Errors
/// Those of [`start`] and [`Running::close`], if another daemon has the control socket, and if the gate breaks on the
/// way; then the guard stays.
pub fn run(config: &Config, load: Load<'_>, reporter: Reporter) -> Result<Reporter> {
    no_core_dumps()?;
    let snapshot = load()?;
    // Before anything is changed: where there is another daemon, nothing is.
    let socket = config.control.socket.clone();
    let socket = Bound::new(&socket.unwrap_or_else(default_path))?;
    let running = start(config, Arc::clone(&snapshot), reporter)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut clerk = Clerk::new(&running, config, load, snapshot);
    runtime.block_on(attend(&mut clerk, &socket))?;
    // Who still waits for an answer is not to wait for the end of all flows.
    drop((socket, runtime));
    running.close()
}

/// What this process knows of exits and secrets is nowhere to be read when it dies.
fn no_core_dumps() -> Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("core dumps cannot be switched off")
}

async fn attend(clerk: &mut Clerk<'_>, socket: &Bound) -> Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut pulse = tokio::time::interval(PULSE);
    let (sender, mut requests) = channel(1);
    let listener = UnixListener::from_std(socket.listener()?)?;
    tokio::spawn(serve(listener, sender));
    let handle = clerk.running.handle();
    eprintln!("cordon: the gate is closed to everything the policy does not let through");
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => drop(clerk.reload()),
            Some((request, reply)) = requests.recv() => {
                // Who does not wait any more needs no answer.
                let _ = reply.send(clerk.answer(request).await);
            }
            _ = pulse.tick() => {
                if clerk.running.gate.is_broken() {
                    bail!("the gate has broken; the guard stays");
                }
                if let Ok(neighbours) = neighbours() {
                    handle.neighbours(&neighbours);
                }
                if let Err(error) = clerk.running.follow() {
                    tracing::warn!(%error, "what others changed on this machine cannot be followed");
                }
            }
        }
    }
}

fn neighbours() -> Result<std::collections::HashMap<IpAddr, [u8; 6]>> {
    let found = Netlink::open()?
        .neighbours()
        .context("cannot list the neighbours")?;
    Ok(found
        .into_iter()
        .map(|neighbour| (neighbour.address, neighbour.mac))
        .collect())
}
