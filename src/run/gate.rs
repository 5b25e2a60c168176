//! A gate at work: a shard for each queue, and the reporter beside them.

use super::Clock;
use super::early::Early;
use super::fabric::Fabric;
use super::shard::{self, Control, Shard};
use crate::dns::Resolver;
use crate::exit::{Direct, Exits, Finding, Prepared, Publish, Service, Standings, Ways};
use crate::gateway::{Dns, Event, ExitChange, Gateway, Limits, Settings, Shared, Snapshot, Survey};
use crate::kernel::schedule;
use crate::link::{Offloads, Rings, Tun};
use crate::report::{Reporter, Tally};
use crate::stack::Shape;
use anyhow::{Context, Result, anyhow};
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Events under way to the reporter; more are counted as lost.
const EVENTS: usize = 16_384;
/// How long events wait for others, to be taken together.
const EVENTS_WAIT: Duration = Duration::from_millis(20);
/// Pairs of client and address whose names are kept.
const NAMES: usize = 16_384;
/// How long a gate waits for the first word of its exits before it opens.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// Bytes of the ring for what the client of a terminated connection sends, and of the one for what it gets. Larger rings
/// gain nothing on a local link; of the first each byte is written and read once more before the next round, so it is as
/// large as several fit into a processor's second cache.
const RINGS: [usize; 2] = [512 << 10, 1 << 20];

/// What a gate needs beside its link.
#[derive(Clone, Debug)]
pub struct Plan {
    /// MTU of the link in bytes.
    pub mtu: u16,
    /// Our own addresses on the link.
    pub own: Vec<IpAddr>,
    /// How questions to resolvers are answered, and who asks them.
    pub dns: Option<(Dns, Resolver)>,
    /// Bounds.
    pub limits: Limits,
    /// Bytes of memory for the rings of connections, see [`memory`].
    pub memory: usize,
    /// Firewall mark of our own sockets.
    pub mark: Option<u32>,
    /// The kernel forwards what is written back to the link.
    pub forward: bool,
}

/// A running gate. Dropping it without [`stop`](Self::stop) leaves it running.
pub struct Gate {
    handle: Handle,
    own: Direct,
    events: SyncSender<(Event, u64)>,
    clock: Clock,
    /// Looks after the exits, once there were any.
    exits: Mutex<Option<Service>>,
    fabric: Fabric,
    early: Mutex<Early>,
    tally: Arc<Mutex<Tally>>,
    shards: Vec<JoinHandle<Result<()>>>,
    reporter: JoinHandle<Reporter>,
}

impl Gate {
    /// Starts a gate on the queues of a TUN device, a shard for each. What happens to packets before they come there ends
    /// with it.
    ///
    /// # Errors
    /// If the kernel gives no threads, memory or descriptors.
    pub fn start(
        queues: Vec<Tun>,
        (plan, early): (&Plan, Early),
        (snapshot, exits): (Arc<Snapshot>, Exits),
        reporter: Reporter,
    ) -> Result<Self> {
        let (clock, kernel) = (Clock::new(), early.kernel());
        let fabric = Fabric::of(&queues);
        let seed = || RandomState::new().build_hasher().finish();
        let shared = Arc::new(Shared::new(NAMES, seed()));
        let (sender, events) = sync_channel(EVENTS);
        let count = queues.len().max(1);
        let own = Direct {
            mark: plan.mark,
            merge: fabric.offloads.uso,
            ..Direct::default()
        };
        let prepared = Prepared::new(own.clone(), exits, Arc::clone(&snapshot));
        let (mut shards, mut handles) = (Vec::new(), Vec::new());
        for (index, tun) in queues.into_iter().enumerate() {
            let settings = plan.settings(index, count, tun.offloads(), kernel.is_some());
            let gateway = Gateway::new(
                settings,
                Arc::clone(&snapshot),
                Arc::clone(&shared),
                Box::new(Rings::new()?),
                seed(),
                clock.now(),
            );
            let told = (kernel.clone(), sender.clone());
            let (mut shard, handle) = Shard::new(gateway, tun, prepared.ways(), clock, told)?;
            if let Some((_, resolver)) = &plan.dns {
                shard.resolver = Some((resolver.clone(), handle.clone()));
            }
            handles.push(handle);
            shards.push((index, shard));
        }
        let tally = Arc::clone(&reporter.tally);
        let reporter = thread("reporter".into(), move || report(reporter, &events))?;
        let mut gate = Self {
            handle: Handle(handles),
            own,
            events: sender,
            clock,
            exits: Mutex::default(),
            fabric,
            early: Mutex::new(early),
            tally,
            shards: Vec::new(),
            reporter,
        };
        if !prepared.is_empty() {
            let service = prepared.start(gate.publish())?;
            // The first flows would only find out that nobody has looked yet.
            service.settle(FIRST_LOOK);
            *gate.service() = Some(service);
        }
        gate.shards = shards
            .into_iter()
            .map(|(index, mut shard)| {
                shard.siblings.clone_from(&gate.handle.0);
                carrier(index, shard)
            })
            .collect::<Result<_>>()?;
        Ok(gate)
    }

    /// Judges by something else from now on, and leaves by its exits.
    ///
    /// # Errors
    /// If the kernel gives no thread to look after the exits; then everything stays as it is.
    pub fn replace(&self, snapshot: Arc<Snapshot>, exits: Exits) -> Result<()> {
        let mut service = self.service();
        if let Some(service) = &*service {
            service.load(exits, snapshot);
            return Ok(());
        }
        let prepared = Prepared::new(self.own.clone(), exits, Arc::clone(&snapshot));
        let ways = prepared.ways();
        if !prepared.is_empty() {
            *service = Some(prepared.start(self.publish())?);
        }
        self.handle.replace(&snapshot, &ways);
        Ok(())
    }

    /// Tells the gate while it runs.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// What the kernel does before packets come here.
    pub fn early(&self) -> MutexGuard<'_, Early> {
        self.early.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What goes on in each shard, with at most so many flows of each. Nothing comes of one that has broken.
    pub fn survey(&self, most: usize) -> Vec<oneshot::Receiver<Survey>> {
        let ask = |shard: &shard::Handle| {
            let (sender, receiver) = oneshot::channel();
            shard.send(Control::Survey(most, sender));
            receiver
        };
        self.handle.0.iter().map(ask).collect()
    }

    /// How the exits stand, if there ever were any.
    pub fn standings(&self) -> Option<oneshot::Receiver<Standings>> {
        self.service().as_ref().map(Service::standings)
    }

    /// How its packets go.
    pub fn fabric(&self) -> &Fabric {
        &self.fabric
    }

    /// What was reported so far, in numbers.
    pub fn tally(&self) -> Tally {
        let tally = self.tally.lock();
        tally.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the time is for this gate.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// A shard has ended by itself, which it does only when it breaks.
    pub fn is_broken(&self) -> bool {
        self.shards.iter().any(JoinHandle::is_finished)
    }

    /// Ends all flows and the gate; what was reported.
    ///
    /// # Errors
    /// If the gate had broken before.
    pub fn stop(self) -> Result<Reporter> {
        self.end(|| Control::Stop)
    }

    /// Ends the gate when what the inside had sent is carried to its end, within a few seconds; what was reported.
    ///
    /// # Errors
    /// If the gate had broken before.
    pub fn finish(self) -> Result<Reporter> {
        self.end(|| Control::Finish)
    }

    fn end(self, how: impl Fn() -> Control) -> Result<Reporter> {
        self.handle.tell(how);
        let mut outcome = Ok(());
        for shard in self.shards {
            let ended = shard
                .join()
                .map_err(|_| anyhow!("a thread of the gate panicked"))?;
            outcome = outcome.and(ended);
        }
        // What was about to end may have needed the exits.
        let service = self
            .exits
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let unkept = service.map_or(Ok(()), Service::stop);
        drop(self.events);
        let reporter = self
            .reporter
            .join()
            .map_err(|_| anyhow!("the reporter's thread panicked"))?;
        outcome.and(unkept).map(|()| reporter)
    }

    fn service(&self) -> MutexGuard<'_, Option<Service>> {
        self.exits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the shards, and the reporter, what is found of the exits.
    fn publish(&self) -> Publish {
        let (handle, events, clock) = (self.handle.clone(), self.events.clone(), self.clock);
        Box::new(move |finding| match finding {
            Finding::Replaced(snapshot, ways) => handle.replace(&snapshot, &ways),
            Finding::Changed(ways) => handle.tell(|| Control::Exits(Arc::clone(&ways))),
            Finding::Turned { exit, up, why } => {
                let at = clock.now();
                let change = ExitChange { exit, at, up, why };
                // A reporter that lags behind hears of the next change.
                let _ = events.try_send((Event::Exit(Box::new(change)), 0));
            }
        })
    }
}

/// Tells all shards of a running gate.
#[derive(Clone)]
pub struct Handle(Vec<shard::Handle>);

impl Handle {
    /// The hardware addresses of clients.
    pub fn neighbours(&self, neighbours: &HashMap<IpAddr, [u8; 6]>) {
        self.tell(|| Control::Neighbours(neighbours.clone()));
    }

    /// Judge by something else from now on, live flows too, and leave by its exits.
    fn replace(&self, snapshot: &Arc<Snapshot>, ways: &Arc<Ways>) {
        self.tell(|| Control::Replace(Arc::clone(snapshot), Arc::clone(ways)));
    }

    fn tell(&self, control: impl Fn() -> Control) {
        for shard in &self.0 {
            shard.send(control());
        }
    }
}

/// A thread that carries the packets of one shard.
fn carrier(index: usize, shard: Shard) -> Result<JoinHandle<Result<()>>> {
    thread(format!("shard {index}"), move || {
        schedule::between_others();
        shard.run()
    })
}

fn thread<T: Send + 'static>(
    name: String,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>> {
    std::thread::Builder::new()
        .name(name)
        .spawn(work)
        .context("the system gives no thread")
}

/// How many shards a gate has by default: one a core, but not so many that flows of one device are spread thin.
pub fn default_shards() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(4)
}

impl Plan {
    /// One shard's share: the bounds are of the whole gate.
    fn settings(&self, index: usize, count: usize, offloads: Offloads, kernel: bool) -> Settings {
        let mut limits = self.limits;
        limits.flows.flows = (limits.flows.flows / count).max(1);
        limits.flows.per_source = limits.flows.per_source.min(limits.flows.flows);
        limits.half_open = (limits.half_open / count).max(1);
        Settings {
            shard: u16::try_from(index).unwrap_or(u16::MAX),
            shape: Shape {
                mtu: self.mtu,
                offload: offloads.checksum && offloads.tso,
                rings: RINGS,
                memory: self.memory / count,
            },
            own: self.own.clone(),
            dns: self.dns.as_ref().map(|(dns, _)| dns.clone()),
            forward: self.forward,
            kernel,
            limits,
        }
    }
}

/// Takes events until the shard is gone.
fn report(mut reporter: Reporter, events: &Receiver<(Event, u64)>) -> Reporter {
    let mut complained = false;
    while let Ok(first) = events.recv() {
        // Nobody who tells a thread that sleeps has to wake it, which would cost more than the telling.
        std::thread::sleep(EVENTS_WAIT);
        for (event, lost) in std::iter::once(first).chain(events.try_iter()) {
            if let Err(error) = reporter.take(&event, lost)
                && !complained
            {
                complained = true;
                eprintln!("cordon: events cannot be written any more: {error}");
            }
        }
    }
    reporter
}

/// Bytes of memory for the rings of connections: so many MiB, or a quarter of what the machine has.
pub fn memory(configured: Option<usize>) -> usize {
    use nix::unistd::{SysconfVar, sysconf};
    let of = |variable| {
        let value = sysconf(variable).ok().flatten();
        value.and_then(|value| usize::try_from(value).ok())
    };
    let machine = || {
        let pages = of(SysconfVar::_PHYS_PAGES)?;
        Some(pages.saturating_mul(of(SysconfVar::PAGE_SIZE)?) / 4)
    };
    configured
        .map(|mebibytes| mebibytes.saturating_mul(1 << 20))
        .or_else(machine)
        .unwrap_or(64 << 20)
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
