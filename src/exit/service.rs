//! Looks after the exits of a policy: where they are, whether the policy lets them be there, whether they answer. A
//! thread of its own; what it finds it publishes as a whole.

use super::direct::Direct;
use super::egress::Assurance;
use super::health::Health;
use super::keeper::{self, Keeper, Known, Report};
use super::plan::{Exits, Planned, PlannedKind};
use super::standing::{Finding, Publish, Standing, Standings};
use super::ways::{Means, Watch, Way, Ways};
use crate::gateway::Snapshot;
use crate::policy::{ExitState, Server};
use anyhow::{Context, Result, anyhow};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A service that has not begun.
#[derive(Debug)]
pub struct Prepared {
    own: Arc<Direct>,
    plan: Exits,
    snapshot: Arc<Snapshot>,
    exits: Vec<Kept>,
}

/// A running service. Dropping it without [`stop`](Self::stop) ends it, too.
#[derive(Debug)]
pub struct Service {
    orders: UnboundedSender<Order>,
    /// Says once that every exit has been looked at.
    settled: std::sync::mpsc::Receiver<()>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
enum Order {
    Load(Exits, Arc<Snapshot>),
    Tell(oneshot::Sender<Standings>),
    Stop,
}

/// An exit and what is known of it.
#[derive(Clone, Debug)]
struct Kept {
    name: Box<str>,
    state: ExitState,
    means: Means,
    watch: Arc<Watch>,
    /// Where the policy says that it is.
    server: Option<Server>,
    /// By which address others see it, if the policy asks for that and allows it.
    egress: Option<IpAddr>,
    /// Somebody looks after it.
    kept: bool,
    /// Whether it is up was told before, …
    told: bool,
    /// … why, …
    why: String,
    /// … and since when it is so.
    since: Instant,
}

impl Prepared {
    /// Looks at the exits as far as that needs nobody's answer.
    pub fn new(own: Direct, plan: Exits, snapshot: Arc<Snapshot>) -> Self {
        let own = Arc::new(own);
        let exits = begin((&plan, &own), &snapshot, &[]);
        Self {
            own,
            plan,
            snapshot,
            exits,
        }
    }

    /// What is known so far.
    pub fn ways(&self) -> Arc<Ways> {
        ways(&self.own, &self.exits)
    }

    /// There is nothing to look after.
    pub fn is_empty(&self) -> bool {
        self.exits.is_empty()
    }

    /// Begins to look after them.
    ///
    /// # Errors
    /// If the kernel gives no thread.
    pub fn start(self, publish: Publish) -> Result<Service> {
        let (orders, receiver) = unbounded_channel();
        let (settle, settled) = sync_channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot look after the exits")?;
        let thread = std::thread::Builder::new()
            .name("exits".into())
            .spawn(move || {
                runtime.block_on(self.attend(receiver, publish, settle));
                // A name that is being looked up is not waited for.
                runtime.shutdown_background();
            })
            .context("cannot start the exits' thread")?;
        Ok(Service {
            orders,
            settled,
            thread,
        })
    }

    async fn attend(
        mut self,
        mut orders: UnboundedReceiver<Order>,
        mut publish: Publish,
        settle: SyncSender<()>,
    ) {
        let (mut reports, mut keepers) = self.keep();
        self.say_if_settled(&settle);
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    None | Some(Order::Stop) => return,
                    Some(Order::Load(plan, snapshot)) => {
                        keepers.abort_all();
                        self.exits = begin((&plan, &self.own), &snapshot, &self.exits);
                        (self.plan, self.snapshot) = (plan, snapshot);
                        let ways = ways(&self.own, &self.exits);
                        publish(Finding::Replaced(Arc::clone(&self.snapshot), ways));
                        (reports, keepers) = self.keep();
                    }
                    // Who does not wait any more needs no answer.
                    Some(Order::Tell(to)) => drop(to.send(self.standings())),
                },
                Some(report) = reports.recv() => {
                    self.take(report, &mut publish);
                    self.say_if_settled(&settle);
                }
            }
        }
    }

    fn standings(&self) -> Standings {
        Standings {
            snapshot: Arc::clone(&self.snapshot),
            exits: self.exits.iter().map(Kept::standing).collect(),
        }
    }

    /// Tells when every exit has been looked at that needs a look.
    fn say_if_settled(&self, settle: &SyncSender<()>) {
        if self.exits.iter().all(|kept| kept.told || !kept.kept) {
            // Only the first time matters to anybody.
            let _ = settle.try_send(());
        }
    }

    /// Has somebody look after each exit.
    fn keep(&self) -> (UnboundedReceiver<Report>, JoinSet<()>) {
        let (sender, reports) = unbounded_channel();
        let mut keepers = JoinSet::new();
        for (index, (planned, kept)) in self.plan.exits.iter().zip(&self.exits).enumerate() {
            let keeper = Keeper {
                index,
                snapshot: Arc::clone(&self.snapshot),
                watch: Arc::clone(&kept.watch),
                reports: sender.clone(),
            };
            let known = kept.known(planned);
            match &planned.kind {
                PlannedKind::Group => {}
                PlannedKind::Direct(_) => {
                    if let (true, Means::Direct(direct)) = (kept.kept, &kept.means) {
                        keepers.spawn(keeper.direct(Arc::clone(direct), known.assurance));
                    }
                }
                PlannedKind::Proxy(proxy) => {
                    keepers.spawn(keeper.proxy(proxy.clone(), known));
                }
                PlannedKind::Tunnel(tunnel) => {
                    let before = match &kept.means {
                        Means::Tunnel(before) => Some(Arc::clone(before)),
                        Means::None | Means::Direct(_) | Means::Proxy(_) => None,
                    };
                    keepers.spawn(keeper.tunnel(tunnel.clone(), before, known));
                }
            }
        }
        (reports, keepers)
    }

    fn take(&mut self, report: Report, publish: &mut Publish) {
        let Some(kept) = self.exits.get_mut(report.index) else {
            return;
        };
        let turned = kept.state.up != report.state.up || kept.egress != report.egress;
        // What is wrong with one that is down may change: it answers again, but others see it elsewhere.
        let turned = turned || !kept.told || (!report.state.up && kept.why != report.why);
        let same = kept.state == report.state && kept.means.is_same(&report.means);
        if kept.state.up != report.state.up || !kept.told {
            kept.since = Instant::now();
        }
        (kept.state, kept.means, kept.told) = (report.state, report.means, true);
        kept.egress = report.egress;
        kept.why.clone_from(&report.why);
        if turned {
            publish(Finding::Turned {
                exit: kept.name.clone(),
                up: report.state.up,
                why: report.why,
            });
        }
        if !same {
            publish(Finding::Changed(ways(&self.own, &self.exits)));
        }
    }
}

impl Service {
    /// Looks after the exits of another policy from now on, and publishes both together.
    pub fn load(&self, plan: Exits, snapshot: Arc<Snapshot>) {
        // If it has ended, the gate is ending, too.
        let _ = self.orders.send(Order::Load(plan, snapshot));
    }

    /// How the exits stand; nothing comes if it has ended.
    pub fn standings(&self) -> oneshot::Receiver<Standings> {
        let (sender, receiver) = oneshot::channel();
        // If it has ended, the receiver learns of it by the loss of the sender.
        let _ = self.orders.send(Order::Tell(sender));
        receiver
    }

    /// Waits until every exit has been looked at, but no longer than this.
    pub fn settle(&self, limit: Duration) {
        // What is not known by then is down until it is.
        let _ = self.settled.recv_timeout(limit);
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it had broken.
    pub fn stop(self) -> Result<()> {
        let _ = self.orders.send(Order::Stop);
        let ended = self.thread.join();
        ended.map_err(|_| anyhow!("the exits' thread panicked"))
    }
}

impl Kept {
    /// What a keeper may begin with.
    fn known(&self, planned: &Planned) -> Known {
        let ExitState { up, latency, .. } = self.state;
        let before = self.told.then(|| Health::known(up, latency));
        Known {
            health: before.unwrap_or_default(),
            assurance: Assurance::new(planned.egress.clone(), self.egress),
        }
    }
}

/// What is known of the exits of a plan before anybody is asked: what was known of the same ones before, if the policy
/// still lets them be where they are.
fn begin((plan, own): (&Exits, &Direct), snapshot: &Snapshot, before: &[Kept]) -> Vec<Kept> {
    let kept = plan.exits.iter().map(|planned| {
        let before = before.iter().find(|kept| kept.is(planned));
        let mut kept = match before {
            Some(before) => before.clone(),
            None => Kept::new(planned),
        };
        kept.renew(planned, own, snapshot);
        kept
    });
    kept.collect()
}

impl Kept {
    fn new(planned: &Planned) -> Self {
        let up = ExitState::default();
        let (state, means, server) = match &planned.kind {
            PlannedKind::Group => (up, Means::None, None),
            PlannedKind::Direct(_) => (up, Means::None, None),
            PlannedKind::Proxy(proxy) => (up, Means::None, Some(proxy.server.clone())),
            PlannedKind::Tunnel(tunnel) => (up, Means::None, Some(tunnel.conf.endpoint.clone())),
        };
        Self {
            name: planned.name.clone(),
            state,
            means,
            watch: Arc::default(),
            server,
            egress: None,
            kept: false,
            told: false,
            why: String::new(),
            since: Instant::now(),
        }
    }

    fn standing(&self) -> Standing {
        Standing {
            state: self.state,
            since: self.since.elapsed(),
            why: Some(&self.why).filter(|why| !why.is_empty()).cloned(),
            server: self.server.clone(),
            egress: self.egress,
            kept: self.kept,
        }
    }

    fn is(&self, planned: &Planned) -> bool {
        let server = match &planned.kind {
            PlannedKind::Group | PlannedKind::Direct(_) => None,
            PlannedKind::Proxy(proxy) => Some(&proxy.server),
            PlannedKind::Tunnel(tunnel) => Some(&tunnel.conf.endpoint),
        };
        self.name == planned.name && self.server.as_ref() == server
    }

    /// Takes what a new plan says of the exit. One whose address is not known, or not allowed, is down.
    fn renew(&mut self, planned: &Planned, own: &Direct, snapshot: &Snapshot) {
        let was_up = self.state.up;
        self.kept = self.server.is_some() || planned.egress.is_some();
        match &planned.kind {
            PlannedKind::Group => {}
            PlannedKind::Direct(direct) => {
                self.means = Means::Direct(Arc::new(Direct {
                    merge: own.merge,
                    ..direct.clone()
                }))
            }
            PlannedKind::Proxy(proxy) => {
                let address = match (&proxy.server, &self.means) {
                    (Server::Address(address), _) => Some(*address),
                    (Server::Name(..), Means::Proxy(before)) => Some(before.server),
                    (Server::Name(..), Means::None | Means::Direct(_) | Means::Tunnel(_)) => None,
                };
                let allowed = address.filter(|address| {
                    keeper::forbidden(snapshot, address.ip(), &proxy.server).is_none()
                });
                self.means = allowed.map_or(Means::None, |address| proxy.at(address));
                self.state.up &= allowed.is_some();
            }
            PlannedKind::Tunnel(planned) => {
                let kept = match &self.means {
                    Means::Tunnel(tunnel) if tunnel.conf == planned.conf => Some(tunnel),
                    Means::None | Means::Direct(_) | Means::Proxy(_) | Means::Tunnel(_) => None,
                };
                let allowed = kept.filter(|tunnel| {
                    let (address, name) = (tunnel.server.ip(), &planned.conf.endpoint);
                    keeper::forbidden(snapshot, address, name).is_none()
                });
                let allowed = allowed.cloned();
                // Until it stands nothing can be sent by it.
                self.state.up &= allowed.is_some();
                self.means = allowed.map_or(Means::None, Means::Tunnel);
                self.state.v4 = planned.conf.carries(true);
                self.state.v6 = planned.conf.carries(false);
            }
        }
        let Snapshot { policy, data, .. } = snapshot;
        let seen = self.egress.filter(|_| planned.egress.is_some());
        self.egress = seen.filter(|seen| policy.forbids_exit_at(*seen, None, data).is_none());
        // Nobody has asked yet, or the answer is not allowed any more.
        self.state.up &= planned.egress.is_none() || self.egress.is_some();
        if was_up && !self.state.up {
            // What was said of it before is not why.
            self.why.clear();
            self.since = Instant::now();
        }
    }
}

fn ways(own: &Arc<Direct>, exits: &[Kept]) -> Arc<Ways> {
    let exits = exits.iter().map(|kept| Way {
        state: kept.state,
        means: kept.means.clone(),
        watch: Arc::clone(&kept.watch),
    });
    Arc::new(Ways::new(Arc::clone(own), exits.collect()))
}
