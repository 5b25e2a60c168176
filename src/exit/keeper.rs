//! Looks after one exit: finds where it is, has the policy judge that, and asks again and again whether it answers. A
//! check goes to the exit's own server and nowhere else.

use super::direct::Direct;
use super::egress::Assurance;
use super::health::Health;
use super::plan::{PlannedProxy, PlannedTunnel};
use super::talk::finish;
use super::tunnel::Tunnel;
use super::ways::{Means, Proxy, Watch};
use crate::gateway::{ExitFault, Failure, Snapshot};
use crate::policy::{ExitState, Server};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep, timeout};

/// A name is looked up again after this long; where an exit is down, before each check.
const LOOK_UP: Duration = Duration::from_secs(60);
/// How long that may take.
const LOOKING_UP: Duration = Duration::from_secs(5);
/// Between two checks, whoever asks for them.
const BREATH: Duration = Duration::from_millis(100);

/// What is known of an exit now.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) index: usize,
    pub(super) state: ExitState,
    pub(super) means: Means,
    /// By which address others see it, if that was asked for and is allowed.
    pub(super) egress: Option<IpAddr>,
    pub(super) why: String,
}

/// Who looks after an exit.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) index: usize,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) watch: Arc<Watch>,
    pub(super) reports: UnboundedSender<Report>,
}

/// What checks have shown of an exit.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) health: Health,
    pub(super) assurance: Assurance,
}

impl Keeper {
    /// Looks after a proxy.
    pub(super) async fn proxy(self, planned: PlannedProxy, mut known: Known) {
        let mut address = None;
        let mut looked_up: Option<Instant> = None;
        loop {
            let up = known.health.is_up();
            let fresh = looked_up.is_some_and(|at| up && at.elapsed() < LOOK_UP);
            if !fresh {
                looked_up = Some(Instant::now());
                let before = address;
                address = match self.look_up(&planned.server, before).await {
                    Ok(found) => Some(found),
                    Err(why) => {
                        known.lose();
                        self.report(&known, Means::None, why);
                        None
                    }
                };
                if before.is_some() && address != before {
                    known.assurance.forget();
                }
            }
            if let Some(address) = address {
                let means = planned.at(address);
                let why = self.check(&means, &mut known.health).await;
                let why = self.assure(&means, &mut known, why).await;
                self.report(&known, means, why);
            }
            self.rest(&known).await;
        }
    }

    /// Looks after a tunnel; `tunnel` is one that stands already.
    pub(super) async fn tunnel(
        self,
        planned: PlannedTunnel,
        mut tunnel: Option<Arc<Tunnel>>,
        mut known: Known,
    ) {
        let mut looked_up: Option<Instant> = None;
        loop {
            let up = known.health.is_up();
            let fresh = looked_up.is_some_and(|at| up && at.elapsed() < LOOK_UP);
            let sound = tunnel.as_ref().is_some_and(|tunnel| !tunnel.is_broken());
            let opened = match &tunnel {
                Some(tunnel) if fresh && sound => Ok(Arc::clone(tunnel)),
                _ => {
                    looked_up = Some(Instant::now());
                    // A server that was gone may have forgotten us: with a new tunnel it gets a new handshake at once.
                    let before = tunnel.take().filter(|_| up);
                    let at = before.as_ref().map(|tunnel| tunnel.server);
                    let opened = self.open(&planned, before).await;
                    if at.is_some() && opened.as_ref().ok().map(|tunnel| tunnel.server) != at {
                        known.assurance.forget();
                    }
                    opened
                }
            };
            match opened {
                Ok(opened) => {
                    let why = check_tunnel(&opened, &mut known.health).await;
                    let means = Means::Tunnel(Arc::clone(&opened));
                    let why = self.assure(&means, &mut known, why).await;
                    self.report_on(&planned, &known, means, why);
                    tunnel = Some(opened);
                }
                Err(why) => {
                    known.lose();
                    self.report_on(&planned, &known, Means::None, why);
                }
            }
            self.rest(&known).await;
        }
    }

    /// Looks after what needs no server: only by which address others see it can be found out.
    pub(super) async fn direct(self, direct: Arc<Direct>, assurance: Assurance) {
        let health = Health::known(true, Duration::ZERO);
        let mut known = Known { health, assurance };
        loop {
            let means = Means::Direct(Arc::clone(&direct));
            let why = self.assure(&means, &mut known, "it is here".into()).await;
            self.report(&known, means, why);
            self.rest(&known).await;
        }
    }

    /// Finds out by which address others see an exit that answers, if it is time to; what there is to say of the exit.
    async fn assure(&self, means: &Means, known: &mut Known, why: String) -> String {
        if !known.health.is_up() {
            // It may leave elsewhere when it is back.
            known.assurance.forget();
            return why;
        }
        if known.health.is_in_doubt() {
            known.assurance.doubt();
            return why;
        }
        known.assurance.renew(means, &self.snapshot).await;
        match known.assurance.says(&self.snapshot) {
            Some(said) if known.assurance.holds() => format!("{why}, and {said}"),
            Some(said) => said,
            None => why,
        }
    }

    /// The tunnel that stands, if its server is still there, or a new one.
    async fn open(
        &self,
        planned: &PlannedTunnel,
        before: Option<Arc<Tunnel>>,
    ) -> Result<Arc<Tunnel>, String> {
        let PlannedTunnel { conf, direct } = planned;
        let at = before.as_ref().map(|tunnel| tunnel.server);
        let server = self.look_up(&conf.endpoint, at).await?;
        match before.filter(|tunnel| tunnel.server == server && !tunnel.is_broken()) {
            Some(tunnel) => Ok(tunnel),
            None => match Tunnel::start(conf, server, direct).await {
                Ok(tunnel) => Ok(Arc::new(tunnel)),
                Err(error) => Err(format!("no tunnel can be opened: {error}")),
            },
        }
    }

    /// Waits until the next check is due: sooner if the exit comes into use meanwhile, at once if it fails somebody.
    async fn rest(&self, known: &Known) {
        sleep(BREATH).await;
        let [idle, in_use] = [known.pause(false), known.pause(true)];
        let began = Instant::now();
        let mut used = self.watch.was_used();
        loop {
            let due = if used { in_use } else { idle };
            let left = due.saturating_sub(began.elapsed() + BREATH);
            if left.is_zero() {
                return;
            }
            tokio::select! {
                () = sleep(left.min(in_use)) => used |= self.watch.was_used(),
                () = self.watch.suspect.notified() => return,
            }
        }
    }

    /// Where the server is: at the same address as before if it may still be there.
    async fn look_up(
        &self,
        server: &Server,
        before: Option<SocketAddr>,
    ) -> Result<SocketAddr, String> {
        let found: Vec<SocketAddr> = match server {
            Server::Address(address) => vec![*address],
            Server::Name(name, port) => {
                let answer = timeout(LOOKING_UP, tokio::net::lookup_host((&**name, *port)));
                match answer.await {
                    Ok(Ok(found)) => found.collect(),
                    Ok(Err(error)) => return Err(format!("{name} cannot be looked up: {error}")),
                    Err(_) => return Err(format!("{name} cannot be looked up in time")),
                }
            }
        };
        let mut why = format!("{server} has no address");
        let mut allowed = Vec::new();
        for address in found {
            match forbidden(&self.snapshot, address.ip(), server) {
                None => allowed.push(address),
                Some(rule) => {
                    why = format!("{server} is at {}, which rule {rule} blocks", address.ip())
                }
            }
        }
        let stays = before.filter(|before| allowed.contains(before));
        stays.or(allowed.first().copied()).ok_or(why)
    }

    /// Asks whether the proxy is there and accepts us.
    async fn check(&self, means: &Means, health: &mut Health) -> String {
        let Means::Proxy(proxy) = means else {
            return String::new();
        };
        let began = Instant::now();
        let outcome = timeout(health.limit(), greet(proxy)).await;
        match outcome.unwrap_or(Err(Failure::TimedOut)) {
            Ok(()) => {
                health.succeed(began.elapsed());
                "it answers".into()
            }
            Err(failure) => {
                health.fail(failure);
                failure.of_exit().into()
            }
        }
    }

    fn report_on(&self, planned: &PlannedTunnel, known: &Known, means: Means, why: String) {
        let state = ExitState {
            v4: planned.conf.carries(true),
            v6: planned.conf.carries(false),
            ..known.state()
        };
        self.tell(state, known, means, why);
    }

    fn report(&self, known: &Known, means: Means, why: String) {
        self.tell(known.state(), known, means, why);
    }

    fn tell(&self, state: ExitState, known: &Known, means: Means, why: String) {
        let report = Report {
            index: self.index,
            state,
            means,
            egress: known.assurance.seen(),
            why,
        };
        // Without a receiver the service is ending.
        let _ = self.reports.send(report);
    }
}

impl Known {
    /// The exit is not even there to be asked.
    fn lose(&mut self) {
        self.health = Health::known(false, self.health.latency());
        self.assurance.forget();
    }

    fn state(&self) -> ExitState {
        ExitState {
            up: self.health.is_up() && self.assurance.holds(),
            latency: self.health.latency(),
            ..ExitState::default()
        }
    }

    /// When the next check is due. One whose egress is not known is down.
    fn pause(&self, in_use: bool) -> Duration {
        match self.assurance.holds() {
            true => self.health.pause(in_use),
            false => Health::known(false, Duration::ZERO).pause(in_use),
        }
    }
}

/// The rule that forbids an exit to be at this address.
pub(super) fn forbidden(snapshot: &Snapshot, address: IpAddr, server: &Server) -> Option<String> {
    let name = match server {
        Server::Address(_) => None,
        Server::Name(name, _) => Some(&**name),
    };
    let Snapshot { policy, data, .. } = snapshot;
    let origin = policy.forbids_exit_at(address, name, data)?;
    Some(policy.rule_id(origin).to_owned())
}

/// Asks whether the server of a tunnel is there.
async fn check_tunnel(tunnel: &Tunnel, health: &mut Health) -> String {
    match tunnel.check(health.limit()).await {
        Ok(latency) => {
            health.succeed(latency.unwrap_or(health.latency()));
            "it answers".into()
        }
        Err(failure) => {
            health.fail(failure);
            if failure == Failure::Exit(ExitFault::Unreachable) {
                // Its protocol is silent towards whom it does not know.
                return "it does not answer, or does not know our key".into();
            }
            failure.of_exit().into()
        }
    }
}

async fn greet(proxy: &Proxy) -> Result<(), Failure> {
    let stream = proxy.greet().map_err(|error| super::exit_failure(&error))?;
    finish(stream).await.map(drop)
}

impl PlannedProxy {
    /// The proxy, at this address.
    pub(super) fn at(&self, server: SocketAddr) -> Means {
        Means::Proxy(Arc::new(Proxy {
            server,
            protocol: self.protocol.clone(),
            credentials: self.credentials.clone(),
            direct: self.direct.clone(),
        }))
    }
}
