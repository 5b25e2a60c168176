//! One thread's loop: a link, a gateway and its sockets, run to completion.

use super::Clock;
use super::early::{Kernel, locked};
use super::mapped::{Mapped, Tokens};
use super::upstream::{BYTES_A_TURN, Upstream};
use crate::dns::Resolver;
use crate::exit::{self, Burst, Target, Ways};
use crate::flow::{FlowId, FlowKey};
use crate::gateway::{Answer, Datagram, Event, Fate, Gateway, Order, Snapshot, Stray, Survey};
use crate::link::Tun;
use crate::packet::build::Unreachable;
use crate::packet::{Offload, offload};
use crate::policy::Permit;
use crate::time::Time;
use anyhow::{Context, Result};
use hickory_proto::op::Message;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel};
use std::time::Duration;
use tokio::sync::oneshot;

/// Packets read from the link before everything else gets its turn …
const PACKETS_A_TURN: usize = 64;
/// … and about so many bytes, which are then written while a processor's second cache still has them.
const READ_A_TURN: usize = 384 << 10;
/// The longest sleep, so that the wall clock is told.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Packets of other shards that wait for one shard, at most.
const STRAYS: usize = 256;

/// How long the bytes of an inside that is gone are carried on.
const LINGER: Duration = Duration::from_secs(3);

const LINK: Token = Token(0);
const CONTROL: Token = Token(1);

/// What a shard can be told while it runs.
pub(super) enum Control {
    /// Judge by something else from now on, and leave by its exits.
    Replace(Arc<Snapshot>, Arc<Ways>),
    /// The exits of what flows are judged by have changed.
    Exits(Arc<Ways>),
    /// What came of a question.
    Resolved(u64, Option<Box<Message>>),
    /// A packet that another shard read.
    Stray(Offload, Vec<u8>),
    /// The hardware addresses of clients.
    Neighbours(HashMap<IpAddr, [u8; 6]>),
    /// Tell what goes on, and list so many flows.
    Survey(usize, oneshot::Sender<Survey>),
    /// End all flows and return.
    Stop,
    /// The inside is gone: carry what it has sent to its end, then stop.
    Finish,
}

/// Tells a running shard.
#[derive(Clone)]
pub(super) struct Handle {
    control: Sender<Control>,
    waker: Arc<Waker>,
    /// Packets that it was sent and has not yet taken.
    strays: Arc<AtomicUsize>,
}

/// A gateway with its link and sockets.
pub(super) struct Shard {
    gateway: Gateway,
    tun: Tun,
    ways: Arc<Ways>,
    clock: Clock,
    poll: Poll,
    control: Receiver<Control>,
    events: SyncSender<(Event, u64)>,
    lost: u64,
    streams: Slots<Upstream>,
    sockets: Slots<Mapped>,
    burst: Burst,
    /// Where flows are left to the kernel; one for all shards, asked for once a flow.
    kernel: Option<Kernel>,
    /// Who asks questions, and how to tell this shard of the answers.
    pub(super) resolver: Option<(Resolver, Handle)>,
    /// The shards of the gate, by their numbers.
    pub(super) siblings: Vec<Handle>,
    strays: Arc<AtomicUsize>,
    leaving: Vec<FlowId>,
    recalled: bool,
    /// Stop as soon as nothing is left to carry, at the latest then.
    finish: Option<Time>,
    /// Flows that have more to move than one turn allows.
    again: Vec<FlowId>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
}

impl Handle {
    /// Hands over a packet that another shard read. It is lost, as on any link, if too many wait.
    fn hand_over(&self, stray: Stray) {
        if self.strays.fetch_add(1, Ordering::Relaxed) < STRAYS {
            self.send(Control::Stray(stray.offload, stray.packet));
        } else {
            self.strays.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Tells the shard; nothing happens if it has ended.
    pub(super) fn send(&self, control: Control) {
        if self.control.send(control).is_ok() {
            // A shard that cannot be woken looks at its orders within a second.
            let _ = self.waker.wake();
        }
    }
}

impl Shard {
    /// A shard between `tun` and the ways out; events go to `events` as long as there is room.
    ///
    /// # Errors
    /// If the kernel gives no poll descriptor.
    pub(super) fn new(
        gateway: Gateway,
        tun: Tun,
        ways: Arc<Ways>,
        clock: Clock,
        (kernel, events): (Option<Kernel>, SyncSender<(Event, u64)>),
    ) -> Result<(Self, Handle)> {
        let poll = Poll::new().context("cannot wait for packets: no poll descriptor")?;
        poll.registry()
            .register(&mut SourceFd(&tun.as_raw_fd()), LINK, Interest::READABLE)
            .context("cannot wait for packets of the TUN device")?;
        let waker = Arc::new(
            Waker::new(poll.registry(), CONTROL).context("cannot wait for control messages")?,
        );
        let (sender, control) = channel();
        let shard = Self {
            gateway,
            tun,
            ways,
            clock,
            poll,
            control,
            events,
            lost: 0,
            streams: Slots::default(),
            sockets: Slots::default(),
            burst: Burst::default(),
            kernel,
            resolver: None,
            siblings: Vec::new(),
            strays: Arc::default(),
            leaving: Vec::new(),
            recalled: false,
            finish: None,
            again: Vec::new(),
            buffer: vec![0; offload::LEN + 65_536 + Answer::ROOM],
            scratch: exit::control(),
        };
        let handle = Handle {
            control: sender,
            waker,
            strays: Arc::clone(&shard.strays),
        };
        Ok((shard, handle))
    }

    /// Runs until told to stop.
    ///
    /// # Errors
    /// If the link breaks.
    pub(super) fn run(mut self) -> Result<()> {
        let mut events = Events::with_capacity(256);
        let mut link_ready = false;
        loop {
            let now = self.clock.now();
            let timeout = if link_ready || !self.again.is_empty() {
                Duration::ZERO
            } else {
                self.gateway
                    .deadline()
                    .map_or(LONGEST_SLEEP, |at| at.since(now))
                    .min(LONGEST_SLEEP)
            };
            match self.poll.poll(&mut events, Some(timeout)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot wait for packets"),
            }
            let now = self.clock.now();
            self.gateway.set_wall(Clock::wall());
            self.gateway.tick(now);
            for event in &events {
                match event.token() {
                    LINK => link_ready = true,
                    CONTROL => {}
                    token => self.ready(token, event, now),
                }
            }
            if !self.obey(now) {
                return Ok(());
            }
            if link_ready || self.finish.is_some() {
                link_ready = self.read_link(now)?;
            }
            self.finish_turn(now);
            if let Some(until) = self.finish
                && (now >= until || !link_ready && !self.owes())
            {
                self.stop(now);
                return Ok(());
            }
        }
    }

    /// Bytes that clients have sent wait to be written.
    fn owes(&self) -> bool {
        let open = self.streams.0.iter().flatten();
        open.filter(|upstream| upstream.takes_more())
            .any(|upstream| self.gateway.owes(upstream.flow))
    }

    fn stop(&mut self, now: Time) {
        self.gateway.shutdown(now);
        self.finish_turn(now);
    }

    /// Carries out what the control channel says; false if the shard is to stop.
    fn obey(&mut self, now: Time) -> bool {
        while let Ok(control) = self.control.try_recv() {
            match control {
                Control::Replace(snapshot, ways) => {
                    // What the kernel forwards comes back first, so that it is judged again.
                    if let Some(kernel) = &self.kernel
                        && let Err(error) = locked(kernel).clear()
                    {
                        tracing::warn!(%error, "flows cannot be taken back from the kernel");
                    }
                    self.gateway.replace(snapshot, now);
                    self.use_ways(ways, now);
                }
                Control::Exits(ways) => self.use_ways(ways, now),
                Control::Resolved(id, message) => {
                    self.gateway
                        .resolved(id, message.map(|message| *message), now);
                }
                Control::Stray(offload, packet) => {
                    self.strays.fetch_sub(1, Ordering::Relaxed);
                    self.go_on(&offload, &packet, now);
                }
                Control::Neighbours(neighbours) => self.gateway.set_neighbours(neighbours),
                // Who does not wait any more needs no answer.
                Control::Survey(most, to) => drop(to.send(self.gateway.survey(most, now))),
                Control::Stop => {
                    self.stop(now);
                    return false;
                }
                Control::Finish => self.finish = Some(now + LINGER),
            }
        }
        true
    }

    fn use_ways(&mut self, ways: Arc<Ways>, now: Time) {
        self.gateway.set_exits(ways.states(), now);
        self.ways = ways;
    }

    /// Reads packets of the inside; true if there may be more.
    fn read_link(&mut self, now: Time) -> Result<bool> {
        let more = self.read_packets(now);
        send_burst(&mut self.burst, &mut self.sockets);
        more
    }

    fn read_packets(&mut self, now: Time) -> Result<bool> {
        let mut read = 0;
        for _ in 0..PACKETS_A_TURN {
            let mut buffer = std::mem::take(&mut self.buffer);
            let outcome = self.tun.recv(&mut buffer);
            let offload = Offload::decode(&buffer);
            if let (Ok(Some(len)), Some(offload)) = (&outcome, offload)
                && let Some(packet) = buffer.get_mut(offload::LEN..*len)
            {
                match self.gateway.packet(packet, &offload, now) {
                    Fate::Done => {}
                    Fate::Send(datagram) => self.send(&datagram, packet, now),
                    Fate::Pass => write_one(&self.tun, buffer.get(..*len).unwrap_or_default()),
                }
            }
            self.buffer = buffer;
            self.flush();
            match outcome {
                Ok(Some(len)) => read += len,
                Ok(None) => return Ok(false),
                Err(error) => return Err(error).context("the TUN device cannot be read any more"),
            }
            if read >= READ_A_TURN {
                break;
            }
        }
        Ok(true)
    }

    /// Orders, then dirty flows, then orders that came of them, until nothing is left; then events.
    fn finish_turn(&mut self, now: Time) {
        let mut again = std::mem::take(&mut self.again);
        for flow in again.drain(..) {
            self.pump(flow, now);
        }
        while let Some((offload, packet)) = self.gateway.next_released() {
            self.go_on(&offload, &packet, now);
        }
        loop {
            while let Some(order) = self.gateway.next_order() {
                self.carry_out(order, now);
            }
            let Some(flow) = self.gateway.next_dirty() else {
                break;
            };
            self.pump(flow, now);
        }
        self.have_asked();
        while let Some(stray) = self.gateway.next_stray() {
            if let Some(sibling) = self.siblings.get(usize::from(stray.shard)) {
                sibling.hand_over(stray);
            }
        }
        self.tell_kernel();
        self.flush();
        self.report();
    }

    /// Hands questions to the resolver, which answers by way of the control messages.
    fn have_asked(&mut self) {
        while let Some(ask) = self.gateway.next_ask() {
            let Some((resolver, shard)) = &self.resolver else {
                continue;
            };
            let (shard, id) = (shard.clone(), ask.id);
            resolver.ask(
                ask,
                Arc::clone(&self.ways),
                Box::new(move |message| {
                    shard.send(Control::Resolved(id, message.map(Box::new)));
                }),
            );
        }
    }

    /// Hands a packet that was held back, or read by another shard, to the gateway.
    fn go_on(&mut self, offload: &Offload, packet: &[u8], now: Time) {
        let mut whole = [&offload.encode()[..], packet].concat();
        let Some(packet) = whole.get_mut(offload::LEN..) else {
            return;
        };
        match self.gateway.packet(packet, offload, now) {
            Fate::Done => {}
            Fate::Send(datagram) => {
                self.send(&datagram, packet, now);
                send_burst(&mut self.burst, &mut self.sockets);
            }
            Fate::Pass => write_one(&self.tun, &whole),
        }
    }

    fn carry_out(&mut self, order: Order, now: Time) {
        match order {
            Order::Dial { flow, permit } => self.dial(flow, &permit, now),
            Order::Hangup { flow, reset } => {
                let upstream = self.streams.take_if(flow.index(), |up| up.flow == flow);
                if let Some(upstream) = upstream.filter(|_| reset) {
                    upstream.reset();
                }
            }
            Order::Leave { flow, key } => self.leave(flow, key),
            Order::Recall { key } => self.recall(key),
            Order::Unmap { mapping } => {
                self.sockets
                    .take_if(mapping.index(), |mapped| mapped.mapping == mapping);
            }
        }
    }

    /// Notes a flow for the kernel; all of a turn are told in one exchange.
    fn leave(&mut self, flow: FlowId, key: FlowKey) {
        if let Some(kernel) = &self.kernel {
            locked(kernel).add(key);
            self.leaving.push(flow);
        }
    }

    /// Notes a flow that the kernel is to forget.
    fn recall(&mut self, key: FlowKey) {
        if let Some(kernel) = &self.kernel {
            locked(kernel).remove(key);
            self.recalled = true;
        }
    }

    /// Tells the kernel of the flows noted.
    fn tell_kernel(&mut self) {
        let news = std::mem::take(&mut self.recalled) || !self.leaving.is_empty();
        let Some(kernel) = self.kernel.as_ref().filter(|_| news) else {
            return;
        };
        let taken = locked(kernel).commit().unwrap_or_else(|error| {
            tracing::warn!(%error, "the kernel does not take flows; they go on passing through here");
            false
        });
        for flow in self.leaving.drain(..) {
            self.gateway.left_to_kernel(flow, taken);
        }
    }

    fn dial(&mut self, flow: FlowId, permit: &Permit, now: Time) {
        let name = self.gateway.sole_name(flow, now);
        let dialed = self.ways.dial(permit, name.as_deref()).and_then(|stream| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            let token = Kind::Stream.token(flow.index());
            let registered = self.poll.registry().register(
                &mut SourceFd(&stream.as_fd().as_raw_fd()),
                token,
                interest,
            );
            registered.map_err(|error| exit::failure(&error))?;
            Ok(stream)
        });
        match dialed {
            Ok(stream) => {
                let upstream = Upstream::new(flow, stream, self.ways.watch(permit));
                self.streams.put(flow.index(), upstream);
            }
            Err(failure) => self.gateway.failed(flow, failure, now),
        }
    }

    /// A socket has something to say.
    fn ready(&mut self, token: Token, event: &mio::event::Event, now: Time) {
        let (kind, index) = Kind::of(token);
        match kind {
            Kind::Stream => self.stream_ready(index, event, now),
            Kind::Socket => self.receive(index, event.is_error(), now),
            Kind::Control => self.control_ready(index, now),
        }
    }

    fn stream_ready(&mut self, index: usize, event: &mio::event::Event, now: Time) {
        let Some(upstream) = self.streams.get(index) else {
            return;
        };
        upstream.note(event);
        let flow = upstream.flow;
        if upstream.connected {
            self.pump(flow, now);
            return;
        }
        match upstream.advance() {
            Ok(false) => {}
            Ok(true) => self.gateway.connected(flow, now),
            Err(failure) => {
                self.streams.take_if(index, |_| true);
                self.gateway.failed(flow, failure, now);
            }
        }
    }

    /// The connection to a proxy that relays the datagrams of a mapping has something to say.
    fn control_ready(&mut self, index: usize, now: Time) {
        let snapshot = Arc::clone(self.gateway.snapshot());
        let registry = (self.poll.registry(), tokens(index));
        if let Some(mapped) = self.sockets.get(index)
            && let Err(failure) = mapped.advance(&snapshot, registry, now)
        {
            self.gateway.exit_failed(mapped.mapping, failure, now);
        }
    }

    /// Moves bytes between a flow's rings and its socket, in place, then has the connection say what it has to.
    fn pump(&mut self, flow: FlowId, now: Time) {
        let Self {
            gateway,
            streams,
            tun,
            ..
        } = self;
        let mut moved = 0;
        if let Some(upstream) = streams
            .get(flow.index())
            .filter(|up| up.flow == flow && up.connected)
        {
            loop {
                let before = moved;
                moved += upstream.push(gateway, now);
                moved += upstream.pull(gateway, now);
                while gateway.settle(flow, now) {
                    write_out(gateway, tun);
                }
                write_out(gateway, tun);
                if moved == before {
                    break;
                }
                if moved >= BYTES_A_TURN {
                    self.again.push(flow);
                    break;
                }
            }
        } else {
            while gateway.settle(flow, now) {
                write_out(gateway, tun);
            }
        }
    }

    fn send(&mut self, datagram: &Datagram, packet: &[u8], now: Time) {
        let index = datagram.mapping.index();
        let usable = self.sockets.get(index).is_some_and(|mapped| {
            mapped.mapping == datagram.mapping && !mapped.is_worth_another_try(now)
        });
        if !usable {
            let registry = (self.poll.registry(), tokens(index));
            match Mapped::open(datagram, &self.ways, registry) {
                Ok(mapped) => self.sockets.put(index, mapped),
                Err(failure) => {
                    self.gateway.mapping_failed(datagram.mapping, failure, now);
                    return;
                }
            }
        }
        let target = Target {
            socket: index,
            to: datagram.permit.destination(),
            hop_limit: datagram.hop_limit,
            dont_fragment: datagram.dont_fragment,
        };
        let Self {
            gateway,
            sockets,
            burst,
            ..
        } = self;
        let payload = gateway.payload(datagram, packet);
        let Some(mapped) = sockets.get(index) else {
            return;
        };
        if mapped.bursts() {
            mapped.used();
            if !burst.add(&target, payload, datagram.segment) {
                send_burst(burst, sockets);
                burst.add(&target, payload, datagram.segment);
            }
        } else if !mapped.send(datagram, payload) {
            gateway.unreachable(datagram.mapping, target.to, Unreachable::Host, None);
        }
    }

    /// Hands answers of a mapping's socket to the gateway until there are no more.
    fn receive(&mut self, index: usize, error: bool, now: Time) {
        let Self {
            gateway,
            tun,
            sockets,
            buffer,
            scratch,
            ..
        } = self;
        let Some(mapped) = sockets.get(index) else {
            return;
        };
        let mapping = mapped.mapping;
        while let Some((from, mut answer)) = mapped.receive(buffer, scratch) {
            if let Some(start) = gateway.reply(mapping, from, &mut answer, now)
                && let Some(packet) = answer.buffer.get(start..)
            {
                write_one(tun, packet);
            }
        }
        if error {
            mapped.problems(gateway, scratch);
        }
        mapped.pass_complaints(gateway);
        write_out(gateway, tun);
    }

    fn flush(&mut self) {
        write_out(&mut self.gateway, &self.tun);
    }

    fn report(&mut self) {
        while let Some((event, lost)) = self.gateway.next_event() {
            match self.events.try_send((event, lost + self.lost)) {
                Ok(()) => self.lost = 0,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => self.lost += lost + 1,
            }
        }
    }
}

/// Sends what waits. What the kernel does not take is lost, as on any link; a lasting problem comes back by the socket's
/// queue of errors.
fn send_burst(burst: &mut Burst, sockets: &mut Slots<Mapped>) {
    let Some(target) = burst.target() else {
        return;
    };
    match sockets.get(target.socket).and_then(Mapped::datagrams) {
        Some(socket) => {
            let _ = burst.send(socket);
        }
        None => burst.clear(),
    }
}

fn write_out(gateway: &mut Gateway, tun: &Tun) {
    while let Some(packet) = gateway.next_packet() {
        write_one(tun, packet);
    }
}

/// What the link does not take is lost, as on any link; when it is gone, the next read says so.
fn write_one(tun: &Tun, packet: &[u8]) {
    if let Err(error) = tun.send(packet) {
        tracing::debug!(%error, "the link did not take a packet");
    }
}

/// What a token stands for, beside the link and the control channel.
#[derive(Clone, Copy)]
enum Kind {
    /// The connection of a flow.
    Stream,
    /// The socket of a mapping.
    Socket,
    /// The connection that keeps the relay of a mapping alive.
    Control,
}

impl Kind {
    const KINDS: usize = 3;
    const FIRST: usize = 2;

    fn token(self, index: usize) -> Token {
        Token(Self::FIRST + Self::KINDS * index + self as usize)
    }

    fn of(token: Token) -> (Self, usize) {
        let number = token.0.saturating_sub(Self::FIRST);
        let kind = match number % Self::KINDS {
            0 => Self::Stream,
            1 => Self::Socket,
            _ => Self::Control,
        };
        (kind, number / Self::KINDS)
    }
}

fn tokens(index: usize) -> Tokens {
    Tokens {
        datagrams: Kind::Socket.token(index),
        control: Kind::Control.token(index),
    }
}

/// What belongs to the gateway's handles, by their index.
struct Slots<T>(Vec<Option<T>>);

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Slots<T> {
    fn get(&mut self, index: usize) -> Option<&mut T> {
        self.0.get_mut(index)?.as_mut()
    }

    fn put(&mut self, index: usize, value: T) {
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.0.get_mut(index) {
            *slot = Some(value);
        }
    }

    fn take_if(&mut self, index: usize, wanted: impl FnOnce(&mut T) -> bool) -> Option<T> {
        self.0.get_mut(index)?.take_if(wanted)
    }
}
