//! A gate at work: a shard for each queue, and the reporter beside them.

use super::shard::Kernel;
use super::{Clock, Control, Handle, Shard};
use crate::exit::Direct;
use crate::gateway::{Event, Gateway, Limits, Settings, Snapshot};
use crate::kernel::fastpath::Fastpath;
use crate::link::{Rings, Tun};
use crate::report::Reporter;
use crate::stack::Shape;
use anyhow::{Context, Result, anyhow};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Events under way to the reporter; more are counted as lost.
const EVENTS: usize = 16_384;
/// A flow that the kernel forwards and that is silent for this long comes back, to be left again if it goes on.
const KERNEL_IDLE: Duration = Duration::from_secs(300);
/// Flows of each family that the kernel may forward at once.
const KERNEL_FLOWS: u32 = 65_536;
/// Bytes of each ring of a terminated connection. Larger rings gain nothing on a local link.
const RING: usize = 1 << 20;

/// What a gate needs beside its link.
#[derive(Clone, Debug)]
pub struct Plan {
    /// MTU of the link in bytes.
    pub mtu: u16,
    /// Our own addresses on the link.
    pub own: Vec<IpAddr>,
    /// What port 53 of our own addresses stands for.
    pub resolver: Option<SocketAddr>,
    /// Bounds.
    pub limits: Limits,
    /// Bytes of rings in use.
    pub rings: usize,
    /// Firewall mark of our own sockets.
    pub mark: Option<u32>,
    /// The kernel forwards what is written back to the link.
    pub forward: bool,
    /// Interfaces whose flows the kernel may be left; none: every packet comes here.
    pub kernel: Vec<String>,
}

/// A running gate. Dropping it without [`stop`](Self::stop) leaves it running.
pub struct Gate {
    handle: Handle,
    shard: JoinHandle<Result<()>>,
    reporter: JoinHandle<Reporter>,
}

impl Gate {
    /// Starts a gate on a TUN device.
    ///
    /// # Errors
    /// If the kernel gives no threads, memory or descriptors.
    pub fn start(
        tun: Tun,
        plan: &Plan,
        snapshot: Arc<Snapshot>,
        reporter: Reporter,
    ) -> Result<Self> {
        let offloads = tun.offloads();
        let shape = Shape {
            mtu: plan.mtu,
            offload: offloads.checksum && offloads.tso,
            ring: RING,
        };
        let kernel = plan.open_kernel();
        let settings = Settings {
            shape,
            own: plan.own.clone(),
            resolver: plan.resolver,
            forward: plan.forward,
            kernel: kernel.is_some(),
            limits: plan.limits,
        };
        let clock = Clock::new();
        let rings = Box::new(Rings::new(plan.rings)?);
        let seed = RandomState::new().build_hasher().finish();
        let gateway = Gateway::new(settings, snapshot, rings, seed, clock.now());
        let exit = Direct {
            mark: plan.mark,
            merge: offloads.uso,
        };
        let (sender, events) = sync_channel(EVENTS);
        let (shard, handle) = Shard::new(gateway, tun, exit, clock, (kernel, sender))?;
        let reporter = std::thread::Builder::new()
            .name("reporter".into())
            .spawn(move || report(reporter, &events))
            .context("cannot start the reporter's thread")?;
        let shard = std::thread::Builder::new()
            .name("shard".into())
            .spawn(move || shard.run())
            .context("cannot start the gate's thread")?;
        Ok(Self {
            handle,
            shard,
            reporter,
        })
    }

    /// Tells the gate while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The gate has ended by itself, which it does only when it breaks.
    pub fn is_finished(&self) -> bool {
        self.shard.is_finished()
    }

    /// Ends all flows and the gate; what was reported.
    ///
    /// # Errors
    /// If the gate had broken before.
    pub fn stop(self) -> Result<Reporter> {
        self.handle.send(Control::Stop);
        let outcome = self
            .shard
            .join()
            .map_err(|_| anyhow!("the gate's thread panicked"))?;
        let reporter = self
            .reporter
            .join()
            .map_err(|_| anyhow!("the reporter's thread panicked"))?;
        outcome.map(|()| reporter)
    }
}

impl Plan {
    /// The kernel path, where there is one to be had.
    fn open_kernel(&self) -> Option<Kernel> {
        if self.kernel.is_empty() {
            return None;
        }
        match Fastpath::open(&self.kernel, KERNEL_IDLE, KERNEL_FLOWS) {
            Ok(fastpath) => Some(Arc::new(Mutex::new(fastpath))),
            Err(error) => {
                eprintln!(
                    "cordon: every packet passes through here, none is left to the kernel: {error:#}"
                );
                None
            }
        }
    }
}

/// Takes events until the shard is gone.
fn report(mut reporter: Reporter, events: &Receiver<(Event, u64)>) -> Reporter {
    let mut complained = false;
    for (event, lost) in events {
        if let Err(error) = reporter.take(&event, lost)
            && !complained
        {
            complained = true;
            eprintln!("cordon: events cannot be written any more: {error}");
        }
    }
    reporter
}

/// Raises this process's bound of open descriptors as far as it may; how many that is.
pub fn descriptors() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    let now = if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        hard
    } else {
        soft
    };
    usize::try_from(now).unwrap_or(usize::MAX)
}
