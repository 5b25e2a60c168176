//! Looks after one exit: finds where it is, has the policy judge that, and asks again and again whether it answers. A
//! check goes to the exit's own server and nowhere else.

use super::health::Health;
use super::plan::{PlannedProxy, PlannedTunnel};
use super::stream::{Advance, Stream};
use super::tunnel::Tunnel;
use super::ways::{Means, Proxy, Watch};
use crate::gateway::{End, Failure, Snapshot};
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

/// Between two looks at a check under way.
const GLANCE: Duration = Duration::from_millis(1);

/// What is known of an exit now.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) index: usize,
    pub(super) state: ExitState,
    pub(super) means: Means,
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

impl Keeper {
    /// Looks after a proxy. `known` is whether it was up, and how fast.
    pub(super) async fn proxy(self, planned: PlannedProxy, known: Option<(bool, Duration)>) {
        let mut health =
            known.map_or_else(Health::default, |(up, latency)| Health::known(up, latency));
        let mut address = None;
        let mut looked_up: Option<Instant> = None;
        loop {
            let fresh = looked_up.is_some_and(|at| health.is_up() && at.elapsed() < LOOK_UP);
            if !fresh {
                looked_up = Some(Instant::now());
                address = match self.look_up(&planned.server, address).await {
                    Ok(found) => Some(found),
                    Err(why) => {
                        health = Health::known(false, health.latency());
                        self.report(health, Means::None, why);
                        None
                    }
                };
            }
            if let Some(address) = address {
                let means = planned.at(address);
                let why = self.check(&means, &mut health).await;
                self.report(health, means, why);
            }
            self.rest(&health).await;
        }
    }

    /// Looks after a tunnel; `tunnel` is one that stands already.
    pub(super) async fn tunnel(
        self,
        planned: PlannedTunnel,
        mut tunnel: Option<Arc<Tunnel>>,
        known: Option<(bool, Duration)>,
    ) {
        let mut health =
            known.map_or_else(Health::default, |(up, latency)| Health::known(up, latency));
        let mut looked_up: Option<Instant> = None;
        loop {
            let fresh = looked_up.is_some_and(|at| health.is_up() && at.elapsed() < LOOK_UP);
            let sound = tunnel.as_ref().is_some_and(|tunnel| !tunnel.is_broken());
            let opened = match &tunnel {
                Some(tunnel) if fresh && sound => Ok(Arc::clone(tunnel)),
                _ => {
                    looked_up = Some(Instant::now());
                    // A server that was gone may have forgotten us: with a new tunnel it gets a new handshake at once.
                    let before = tunnel.take().filter(|_| health.is_up());
                    self.open(&planned, before).await
                }
            };
            match opened {
                Ok(opened) => {
                    let why = check_tunnel(&opened, &mut health).await;
                    self.report_on(&planned, health, Means::Tunnel(Arc::clone(&opened)), why);
                    tunnel = Some(opened);
                }
                Err(why) => {
                    health = Health::known(false, health.latency());
                    self.report_on(&planned, health, Means::None, why);
                }
            }
            self.rest(&health).await;
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
    async fn rest(&self, health: &Health) {
        sleep(BREATH).await;
        let [idle, in_use] = [health.pause(false), health.pause(true)];
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
                End::Failed(failure).name().into()
            }
        }
    }

    fn report_on(&self, planned: &PlannedTunnel, health: Health, means: Means, why: String) {
        let state = ExitState {
            up: health.is_up(),
            latency: health.latency(),
            v4: planned.conf.carries(true),
            v6: planned.conf.carries(false),
        };
        self.tell(state, means, why);
    }

    fn report(&self, health: Health, means: Means, why: String) {
        let state = ExitState {
            up: health.is_up(),
            latency: health.latency(),
            ..ExitState::default()
        };
        self.tell(state, means, why);
    }

    fn tell(&self, state: ExitState, means: Means, why: String) {
        let report = Report {
            index: self.index,
            state,
            means,
            why,
        };
        // Without a receiver the service is ending.
        let _ = self.reports.send(report);
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
            End::Failed(failure).name().into()
        }
    }
}

async fn greet(proxy: &Proxy) -> Result<(), Failure> {
    let stream = proxy.greet().map_err(|error| super::exit_failure(&error))?;
    finish(stream).await.map(drop)
}

/// Waits until a connection is the flow's. A check is short, so it looks again every little while instead of being woken.
pub(super) async fn finish(mut stream: Stream) -> Result<Stream, Failure> {
    loop {
        if let Advance::Ready(_) = stream.advance()? {
            return Ok(stream);
        }
        sleep(GLANCE).await;
    }
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
