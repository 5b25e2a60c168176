//! What ends connections inside a tunnel: a thread with a TCP of its own, between the flows' pipes and the device.

mod inbound;
mod ports;

use super::conf::Conf;
use super::flow::Stream;
use super::frame::Datagrams;
use super::mapping::{BUFFER, Left, Mapping};
use super::paths::Paths;
use super::stream::Pipe;
use super::{Shared, Signal};
use crate::link::Rings;
use crate::packet::build;
use crate::packet::fragment::{self, Reassembler};
use crate::run::Clock;
use crate::stack::{Outbox, Shape, Terminator};
use crate::time::Time;
use bytes::BytesMut;
use gotatun::packet::Packet;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tokio::sync::mpsc;

const WAKE: Token = Token(0);
/// Packets of the device before all else has its turn.
const PACKETS_A_TURN: usize = 256;
/// Times that a connection's rings are filled and emptied before the others get their turn.
const ROUNDS: usize = 8;
/// Bytes of each ring of a connection, and of memory for all of them.
const RING: usize = 1 << 20;
const MEMORY: usize = 128 << 20;
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// The identifier of probes; never a mapping's.
const PROBE: u16 = 7;

/// What an endpoint is asked for.
pub(super) enum Order {
    /// A connection to this destination.
    Connect(Pipe, SocketAddr),
    /// A way for datagrams, or else for echo requests.
    Datagrams(Datagrams, bool),
    /// Have the server forward an echo request from us to ourselves: whatever it does with it, nobody else gets it.
    Probe,
    /// End.
    Stop,
}

pub(super) struct Endpoint {
    conf: Arc<Conf>,
    shared: Arc<Shared>,
    signal: Arc<Signal>,
    clock: Clock,
    poll: Poll,
    orders: Receiver<Order>,
    packets: Receiver<Packet>,
    leaving: mpsc::Sender<BytesMut>,
    terminator: Terminator,
    outbox: Outbox,
    streams: HashMap<usize, Stream>,
    /// Bytes of all of them that are not acknowledged.
    under_way: usize,
    /// Whose segments are whose: by the other end and our port.
    by_remote: HashMap<(SocketAddr, u16), usize>,
    mappings: HashMap<usize, Mapping>,
    /// Whose answers are whose: by protocol and our port or identifier.
    by_port: HashMap<(bool, u16), usize>,
    fragments: Reassembler,
    paths: Paths,
    timers: BinaryHeap<Reverse<(Time, usize)>>,
    /// Connections to be looked at: something happened to them, or they have more to do than there was time or room for.
    again: VecDeque<usize>,
    last: usize,
    port: u16,
    buffer: Vec<u8>,
}

impl Endpoint {
    /// An endpoint, how to give it orders, and how to wake it.
    pub(super) fn new(
        conf: &Arc<Conf>,
        (packets, leaving): (Receiver<Packet>, mpsc::Sender<BytesMut>),
        shared: Arc<Shared>,
    ) -> io::Result<(Self, Sender<Order>, Arc<Signal>)> {
        let poll = Poll::new()?;
        let signal = Arc::new(Signal::new(Waker::new(poll.registry(), WAKE)?));
        let (orders, receiver) = channel();
        let clock = Clock::new();
        let shape = Shape {
            mtu: conf.mtu,
            offload: false,
            rings: [RING; 2],
            memory: MEMORY,
        };
        let rings = Box::new(Rings::new().map_err(io::Error::other)?);
        let seed = RandomState::new().build_hasher().finish();
        let limits = fragment::Limits {
            datagrams: 64,
            per_source: 16,
            bytes: 1 << 20,
            timeout: Duration::from_secs(5),
        };
        let endpoint = Self {
            conf: Arc::clone(conf),
            shared,
            signal: Arc::clone(&signal),
            clock,
            poll,
            orders: receiver,
            packets,
            leaving,
            terminator: Terminator::new(shape, rings, seed, clock.now()),
            outbox: Outbox::new(),
            streams: HashMap::new(),
            under_way: 0,
            by_remote: HashMap::new(),
            mappings: HashMap::new(),
            by_port: HashMap::new(),
            fragments: Reassembler::new(limits),
            paths: Paths::default(),
            timers: BinaryHeap::new(),
            again: VecDeque::new(),
            last: WAKE.0,
            // Where it begins is nobody's business.
            port: *ports::PORTS.start() + (seed % 16_384) as u16,
            buffer: vec![0; BUFFER],
        };
        Ok((endpoint, orders, signal))
    }

    /// Runs until told to stop, or until nobody can tell it.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(256);
        let mut more = false;
        loop {
            let timeout = self.timeout(more);
            match self.poll.poll(&mut events, Some(timeout)) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(%error, "a tunnel's endpoint cannot wait any more");
                    return self.shared.broke();
                }
            }
            self.signal.seen();
            let now = self.clock.now();
            if !self.obey(now) {
                return;
            }
            more = self.arrive(now);
            for event in &events {
                self.ready(event);
            }
            self.timers(now);
            self.pump_all(now);
            self.flush();
        }
    }

    fn timeout(&self, more: bool) -> Duration {
        let room = self.outbox.has_room();
        if more || (room && !self.again.is_empty()) {
            return Duration::ZERO;
        }
        let next = self.timers.peek().map(|Reverse((at, _))| *at);
        let next = next.map_or(LONGEST_SLEEP, |at| at.since(self.clock.now()));
        next.clamp(Duration::from_millis(1), LONGEST_SLEEP)
    }

    /// False if it is over.
    fn obey(&mut self, now: Time) -> bool {
        loop {
            match self.orders.try_recv() {
                Ok(Order::Connect(pipe, to)) => self.connect(pipe, to, now),
                Ok(Order::Datagrams(way, udp)) => self.map(way, udp),
                Ok(Order::Probe) => self.probe(),
                Err(std::sync::mpsc::TryRecvError::Empty) => return true,
                Ok(Order::Stop) | Err(_) => return false,
            }
        }
    }

    fn connect(&mut self, pipe: Pipe, to: SocketAddr, now: Time) {
        let Some(ours) = self.conf.address(to.ip()) else {
            return;
        };
        let by_remote = &self.by_remote;
        let Some(port) = ports::next(&mut self.port, |port| by_remote.contains_key(&(to, port)))
        else {
            return;
        };
        let from = SocketAddr::new(ours, port);
        let Some(connection) = self.terminator.connect(from, to, &mut self.outbox, now) else {
            return;
        };
        let id = self.register(pipe.as_fd().as_raw_fd());
        let stream = Stream::new(pipe, connection, (to, port), now);
        self.by_remote.insert(stream.key, id);
        self.streams.insert(id, stream);
        self.later(id);
    }

    fn map(&mut self, way: Datagrams, udp: bool) {
        let by_port = &self.by_port;
        let Some(port) = ports::next(&mut self.port, |port| by_port.contains_key(&(udp, port)))
        else {
            return;
        };
        let id = self.register(way.as_raw_fd());
        self.by_port.insert((udp, port), id);
        self.mappings.insert(id, Mapping { way, udp, port });
        self.leave(id);
    }

    /// Has readiness of a descriptor told; a descriptor that the kernel does not take shows as one that never is ready.
    fn register(&mut self, descriptor: RawFd) -> usize {
        self.last += 1;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let mut source = SourceFd(&descriptor);
        if let Err(error) = self
            .poll
            .registry()
            .register(&mut source, Token(self.last), interest)
        {
            tracing::warn!(%error, "a tunnel cannot carry another flow");
        }
        self.last
    }

    fn ready(&mut self, event: &mio::event::Event) {
        let Token(id) = event.token();
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.readable |= event.is_readable() || event.is_read_closed();
            stream.writable |= event.is_writable();
            self.later(id);
        } else if self.mappings.contains_key(&id) {
            self.leave(id);
        }
    }

    /// Has a connection looked at before the turn is over: once, whatever happened to it, so that acknowledgements are few.
    fn later(&mut self, id: usize) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.waits
        {
            stream.waits = true;
            self.again.push_back(id);
        }
    }

    /// Looks at each connection that waits for it, as long as there is room for what they say: the next turn begins with
    /// those that found none.
    fn pump_all(&mut self, now: Time) {
        for _ in 0..self.again.len() {
            if !self.outbox.has_room() {
                return;
            }
            if let Some(id) = self.again.pop_front() {
                self.pump(id, now);
            }
        }
    }

    /// Moves bytes of a connection, and has it say what it has to.
    fn pump(&mut self, id: usize, now: Time) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.waits = false;
        let mss = self.conf.mss(stream.key.0.is_ipv4());
        if stream.overdue(mss).is_some_and(|at| at <= now) {
            stream.recovery.is_silent();
            inbound::repeat(stream, &mut self.terminator, &mut self.outbox, now);
        }
        let ports = (stream.key.1, stream.key.0.port());
        let mut left = ROUNDS;
        loop {
            let moved = stream.exchange(now, &mut self.under_way);
            let more = self
                .terminator
                .emit(&mut stream.connection, &mut self.outbox, now);
            let recovery = &mut stream.recovery;
            self.paths.drain(&mut self.outbox, &self.leaving, |packet| {
                recovery.leaves(packet, ports, now);
            });
            left -= 1;
            if !more && !moved {
                break;
            }
            if left == 0 || (more && !self.outbox.has_room()) {
                stream.waits = true;
                self.again.push_back(id);
                break;
            }
        }
        if stream.is_over() {
            self.end(id);
            return;
        }
        let due = self.terminator.deadline(&stream.connection, now);
        if let Some(at) = due.into_iter().chain(stream.overdue(mss)).min()
            && stream.timer.is_none_or(|timer| at < timer)
        {
            stream.timer = Some(at);
            self.timers.push(Reverse((at, id)));
        }
    }

    fn end(&mut self, id: usize) {
        if let Some(stream) = self.streams.remove(&id) {
            self.by_remote.remove(&stream.key);
            self.under_way = self.under_way.saturating_sub(stream.counted);
            self.terminator.recycle(stream.end());
        }
    }

    fn timers(&mut self, now: Time) {
        while let Some(Reverse((at, id))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            // One that was overtaken by an earlier one says nothing.
            if let Some(stream) = self.streams.get_mut(&id)
                && stream.timer == Some(at)
            {
                stream.timer = None;
                self.later(id);
            }
        }
        self.fragments.expire(now);
    }

    /// Takes packets of the device; true if there may be more.
    fn arrive(&mut self, now: Time) -> bool {
        for _ in 0..PACKETS_A_TURN {
            let Ok(mut packet) = self.packets.try_recv() else {
                return false;
            };
            self.packet(&mut packet, now);
        }
        true
    }

    /// Sends what a mapping has to send.
    fn leave(&mut self, id: usize) {
        let Some(mapping) = self.mappings.get(&id) else {
            return;
        };
        match mapping.leave(&mut self.buffer, &self.conf, &self.leaving) {
            Left::Nothing => {}
            Left::NothingEver => {
                self.by_port.remove(&(mapping.udp, mapping.port));
                self.mappings.remove(&id);
            }
            Left::Perhaps => {
                // Readiness is told once; what is ready already is told anew.
                let descriptor = mapping.way.as_raw_fd();
                let interest = Interest::READABLE | Interest::WRITABLE;
                let registry = self.poll.registry();
                let _ = registry.reregister(&mut SourceFd(&descriptor), Token(id), interest);
            }
        }
    }

    fn probe(&mut self) {
        let Some(ours) = self.conf.addresses.first().copied() else {
            return;
        };
        let mut buffer = [0; build::HEADROOM];
        let at = buffer.len();
        let (start, _) = build::echo_request_in_place(&mut buffer, at, ours, ours, PROBE, 0);
        let packet = buffer.get(start..).unwrap_or_default();
        // A full queue is sign of life enough, or soon shows that there is none.
        let _ = self.leaving.try_send(BytesMut::from(packet));
    }

    fn flush(&mut self) {
        self.paths.drain(&mut self.outbox, &self.leaving, |_| {});
    }
}
