//! WireGuard tunnels: packets made here, encrypted by a WireGuard device, carried as datagrams to one server. Each
//! tunnel has an endpoint of its own, which ends TCP inside it.

mod complaint;
mod conf;
mod device;
mod endpoint;
mod flight;
mod flow;
mod frame;
mod mapping;
mod paths;
mod recovery;
mod server;
mod stream;
mod stretch;

pub(crate) use conf::Conf;
pub use frame::{Datagrams, Taken};
pub(super) use stream::Pipe;

use super::Direct;
use crate::exit::exit_failure;
use crate::gateway::{ExitFault, Failure};
use crate::packet::protocol;
use crate::policy::Permit;
use endpoint::{Endpoint, Order};
use mio::Waker;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Packets between the device and the endpoint, each way.
const QUEUE: usize = 2048;
/// Whoever gets a packet says so within this at the latest, by a packet without content if need be (the protocol's
/// `KEEPALIVE_TIMEOUT`), and a little for the way.
const SURE_ANSWER: Duration = Duration::from_secs(13);

/// Times that a check asks: one lost packet says nothing about a server. And a thread that was not given the processor for
/// as long as a check may take has then read what came meanwhile, before it judges.
const TRIES: u32 = 4;

/// A tunnel at work; it ends when it is dropped.
#[derive(Debug)]
pub struct Tunnel {
    pub(super) conf: Arc<Conf>,
    pub(super) server: SocketAddr,
    orders: Sender<Order>,
    signal: Arc<Signal>,
    shared: Arc<Shared>,
    /// Dropped with the tunnel, which ends the device.
    _stop: oneshot::Sender<()>,
}

/// Wakes the endpoint, at most once before it looks.
#[derive(Debug)]
pub(super) struct Signal {
    waker: Waker,
    pending: AtomicBool,
}

/// What the device, the endpoint and whoever looks after the tunnel tell each other.
#[derive(Debug, Default)]
pub(super) struct Shared {
    hands: AtomicBool,
    broken: AtomicBool,
    /// Times that datagrams of the server came.
    heard: AtomicU64,
    last: Mutex<Option<Instant>>,
    /// A probe came back: the server forwards what it gets for us.
    echoes: AtomicBool,
    news: Notify,
}

impl Tunnel {
    /// Opens a tunnel to a server at an address that the policy lets it have. Its device runs in the current runtime,
    /// its endpoint in a thread of its own.
    ///
    /// # Errors
    /// If this machine has no socket, memory or thread for it.
    pub(super) async fn start(
        conf: &Arc<Conf>,
        server: SocketAddr,
        direct: &Direct,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (inbound, packets) = sync_channel(QUEUE);
        let (leaving, outbound) = tokio::sync::mpsc::channel(QUEUE);
        let (endpoint, orders, signal) =
            Endpoint::new(conf, (packets, leaving), Arc::clone(&shared))?;
        let (stop, stopped) = oneshot::channel();
        let told = (Arc::clone(&shared), Arc::clone(&signal));
        device::start(conf, (server, direct), (inbound, outbound), told, stopped)
            .await
            .map_err(io::Error::other)?;
        std::thread::Builder::new()
            .name("tunnel".into())
            .spawn(move || endpoint.run())?;
        Ok(Self {
            conf: Arc::clone(conf),
            server,
            orders,
            signal,
            shared,
            _stop: stop,
        })
    }

    /// Begins a connection to the permit's destination.
    pub(super) fn connect(&self, permit: &Permit) -> Result<Pipe, Failure> {
        self.open(permit.destination())
    }

    /// Begins a connection to a permit's destination, or to who tells the egress.
    pub(super) fn open(&self, to: SocketAddr) -> Result<Pipe, Failure> {
        self.reaches(to)?;
        let (ours, theirs) = Pipe::pair().map_err(|error| exit_failure(&error))?;
        self.order(Order::Connect(theirs, to));
        Ok(ours)
    }

    /// A way for the datagrams, or echo requests, of one mapping.
    pub(super) fn datagrams(&self, permit: &Permit) -> Result<Datagrams, Failure> {
        self.reaches(permit.destination())?;
        let (ours, theirs) = Datagrams::pair().map_err(|error| exit_failure(&error))?;
        let udp = permit.protocol() == protocol::UDP;
        self.order(Order::Datagrams(theirs, udp));
        Ok(ours)
    }

    /// Asks whether the server is there; how long its answer took, if that can be told. Whatever came from the server since
    /// it was asked is an answer, so a tunnel that carries anything is never taken for down.
    pub(super) async fn check(&self, limit: Duration) -> Result<Option<Duration>, Failure> {
        let gone = Err(Failure::Exit(ExitFault::Unreachable));
        let began = Instant::now();
        let new = !self.shared.hands.load(Ordering::Relaxed);
        let before = self.shared.heard.load(Ordering::Relaxed);
        for _ in 0..TRIES {
            if !new {
                self.order(Order::Probe);
            }
            match tokio::time::timeout(limit / TRIES, self.shared.answer(new, before)).await {
                Ok(true) => {
                    if new {
                        // Whether the server sends them back is worth knowing before that is needed.
                        self.order(Order::Probe);
                    }
                    return Ok(Some(began.elapsed()));
                }
                Ok(false) => return gone,
                Err(_) => {}
            }
        }
        // Without an echo the protocol's own sign of life has its time.
        let last = *self.shared.last();
        let silent = !new && !self.shared.echoes.load(Ordering::Relaxed);
        match last.is_some_and(|last| silent && last.elapsed() < SURE_ANSWER) {
            true => Ok(None),
            false => gone,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.shared.broken.load(Ordering::Relaxed)
    }

    fn reaches(&self, to: SocketAddr) -> Result<(), Failure> {
        match self.conf.reaches(to.ip()) {
            true => Ok(()),
            false => Err(Failure::Exit(ExitFault::Unsupported)),
        }
    }

    fn order(&self, order: Order) {
        // An endpoint that is gone has dropped its ends of all pipes.
        let _ = self.orders.send(order);
        self.signal.wake();
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.order(Order::Stop);
    }
}

impl Signal {
    fn new(waker: Waker) -> Self {
        let pending = AtomicBool::new(false);
        Self { waker, pending }
    }

    fn wake(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            // An endpoint that cannot be woken looks by itself within a second.
            let _ = self.waker.wake();
        }
    }

    fn seen(&self) {
        self.pending.store(false, Ordering::Release);
    }
}

impl Shared {
    /// Waits for a handshake, or else for anything of the server's after the first `before`; false if the device broke.
    async fn answer(&self, handshake: bool, before: u64) -> bool {
        loop {
            let news = self.news.notified();
            if self.broken.load(Ordering::Relaxed) {
                return false;
            }
            let answered = match handshake {
                true => self.hands.load(Ordering::Relaxed),
                false => self.heard.load(Ordering::Relaxed) != before,
            };
            if answered {
                return true;
            }
            news.await;
        }
    }

    fn heard(&self) {
        self.heard.fetch_add(1, Ordering::Relaxed);
        *self.last() = Some(Instant::now());
        self.news.notify_waiters();
    }

    fn echoed(&self) {
        self.echoes.store(true, Ordering::Relaxed);
    }

    fn shook_hands(&self) {
        self.hands.store(true, Ordering::Relaxed);
        self.news.notify_waiters();
    }

    fn broke(&self) {
        self.broken.store(true, Ordering::Relaxed);
        self.news.notify_waiters();
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
