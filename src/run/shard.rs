//! One thread's loop: a link, a gateway and its sockets, run to completion.

use super::Clock;
use crate::dns::Resolver;
use crate::exit::{self, Datagrams, Direct, Echo};
use crate::flow::{FlowId, FlowKey};
use crate::gateway::{
    Answer, Datagram, Event, Fate, Gateway, MappingId, Order, Outgoing, Snapshot,
};
use crate::kernel::fastpath::Fastpath;
use crate::link::Tun;
use crate::packet::{Offload, offload, protocol};
use crate::policy::Permit;
use crate::time::Time;
use anyhow::{Context, Result};
use hickory_proto::op::Message;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Packets read from the link before everything else gets its turn.
const PACKETS_A_TURN: usize = 64;
/// Bytes moved for one flow before the others get their turn.
const BYTES_A_TURN: usize = 1 << 20;
/// Bytes asked of a socket in one read.
const CHUNK: usize = 256 << 10;
/// The longest sleep, so that the wall clock is told.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// How long the bytes of an inside that is gone are carried on.
const LINGER: Duration = Duration::from_secs(3);

const LINK: Token = Token(0);
const CONTROL: Token = Token(1);

/// What a shard can be told while it runs.
pub(super) enum Control {
    /// Judge by something else from now on.
    Replace(Arc<Snapshot>),
    /// What came of a question.
    Resolved(u64, Option<Box<Message>>),
    /// The hardware addresses of clients.
    Neighbours(HashMap<IpAddr, [u8; 6]>),
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
}

/// The kernel path of a gate, shared by its shards.
pub(super) type Kernel = Arc<Mutex<Fastpath>>;

/// A gateway with its link and sockets.
pub(super) struct Shard {
    gateway: Gateway,
    tun: Tun,
    exit: Direct,
    clock: Clock,
    poll: Poll,
    control: Receiver<Control>,
    events: SyncSender<(Event, u64)>,
    lost: u64,
    streams: Slots<Upstream>,
    sockets: Slots<Mapped>,
    /// Where flows are left to the kernel; one for all shards, asked for once a flow.
    kernel: Option<Kernel>,
    /// Who asks questions, and how to tell this shard of the answers.
    pub(super) resolver: Option<(Resolver, Handle)>,
    leaving: Vec<FlowId>,
    /// Stop as soon as nothing is left to carry, at the latest then.
    finish: Option<Time>,
    /// Flows that have more to move than one turn allows.
    again: Vec<FlowId>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
}

/// The connection of a flow to the outside.
struct Upstream {
    flow: FlowId,
    socket: TcpStream,
    connected: bool,
    readable: bool,
    writable: bool,
    /// The outside closed its writing half: a short read is not the end before it returned zero.
    closing: bool,
    done: bool,
    shut: bool,
}

/// The socket of a mapping.
struct Mapped {
    mapping: MappingId,
    socket: MappedSocket,
}

enum MappedSocket {
    Datagrams(Datagrams),
    Echo(Echo),
}

impl Handle {
    /// Tells the shard; nothing happens if it has ended.
    pub(super) fn send(&self, control: Control) {
        if self.control.send(control).is_ok() {
            // A shard that cannot be woken looks at its orders within a second.
            let _ = self.waker.wake();
        }
    }
}

impl Shard {
    /// A shard between `tun` and `exit`; events go to `events` as long as there is room.
    ///
    /// # Errors
    /// If the kernel gives no poll descriptor.
    pub(super) fn new(
        gateway: Gateway,
        tun: Tun,
        exit: Direct,
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
            exit,
            clock,
            poll,
            control,
            events,
            lost: 0,
            streams: Slots::default(),
            sockets: Slots::default(),
            kernel,
            resolver: None,
            leaving: Vec::new(),
            finish: None,
            again: Vec::new(),
            buffer: vec![0; offload::LEN + 65_536 + Answer::ROOM],
            scratch: exit::control(),
        };
        Ok((
            shard,
            Handle {
                control: sender,
                waker,
            },
        ))
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
        open.filter(|upstream| upstream.connected && !upstream.shut)
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
                Control::Replace(snapshot) => {
                    // What the kernel forwards comes back first, so that it is judged again.
                    if let Some(kernel) = &self.kernel
                        && let Err(error) = locked(kernel).clear()
                    {
                        tracing::warn!(%error, "flows cannot be taken back from the kernel");
                    }
                    self.gateway.replace(snapshot, now);
                }
                Control::Resolved(id, message) => {
                    self.gateway
                        .resolved(id, message.map(|message| *message), now);
                }
                Control::Neighbours(neighbours) => self.gateway.set_neighbours(neighbours),
                Control::Stop => {
                    self.stop(now);
                    return false;
                }
                Control::Finish => self.finish = Some(now + LINGER),
            }
        }
        true
    }

    /// Reads packets of the inside; true if there may be more.
    fn read_link(&mut self, now: Time) -> Result<bool> {
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
                Ok(Some(_)) => {}
                Ok(None) => return Ok(false),
                Err(error) => return Err(error).context("the TUN device cannot be read any more"),
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
                Box::new(move |message| {
                    shard.send(Control::Resolved(id, message.map(Box::new)));
                }),
            );
        }
    }

    /// Hands a packet that was held back to the gateway again.
    fn go_on(&mut self, offload: &Offload, packet: &[u8], now: Time) {
        let mut whole = [&offload.encode()[..], packet].concat();
        let Some(packet) = whole.get_mut(offload::LEN..) else {
            return;
        };
        match self.gateway.packet(packet, offload, now) {
            Fate::Done => {}
            Fate::Send(datagram) => self.send(&datagram, packet, now),
            Fate::Pass => write_one(&self.tun, &whole),
        }
    }

    fn carry_out(&mut self, order: Order, now: Time) {
        match order {
            Order::Dial { flow, permit } => self.dial(flow, &permit, now),
            Order::Hangup { flow, reset } => {
                if let Some(upstream) = self.streams.take_if(flow.index(), |up| up.flow == flow) {
                    if reset {
                        // A close with bytes unsent and a zero linger time is a RST (tcp(7)).
                        let _ = socket2::SockRef::from(&upstream.socket)
                            .set_linger(Some(Duration::ZERO));
                    }
                    drop(upstream);
                }
            }
            Order::Leave { flow, key } => self.leave(flow, key),
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

    /// Tells the kernel of the flows noted.
    fn tell_kernel(&mut self) {
        let Some(kernel) = self.kernel.as_ref().filter(|_| !self.leaving.is_empty()) else {
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
        let index = flow.index();
        let dialed = self.exit.dial(permit).and_then(|mut socket| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll
                .registry()
                .register(&mut socket, stream_token(index), interest)?;
            Ok(socket)
        });
        match dialed {
            Ok(socket) => {
                self.streams.put(
                    index,
                    Upstream {
                        flow,
                        socket,
                        connected: false,
                        readable: false,
                        writable: false,
                        closing: false,
                        done: false,
                        shut: false,
                    },
                );
            }
            Err(error) => self.gateway.failed(flow, exit::failure(&error), now),
        }
    }

    /// A socket has something to say.
    fn ready(&mut self, token: Token, event: &mio::event::Event, now: Time) {
        let index = (token.0 - 2) / 2;
        if token.0 % 2 == 1 {
            self.receive(index, event.is_error(), now);
            return;
        }
        let Some(upstream) = self.streams.get(index) else {
            return;
        };
        upstream.readable |= event.is_readable();
        upstream.writable |= event.is_writable();
        upstream.closing |= event.is_read_closed() || event.is_error();
        let flow = upstream.flow;
        if upstream.connected || !(event.is_writable() || event.is_error()) {
            self.pump(flow, now);
            return;
        }
        match upstream.socket.take_error() {
            // Writable without a peer: the answer is still to come.
            Ok(None) if upstream.socket.peer_addr().is_err() => {}
            Ok(None) => {
                upstream.connected = true;
                self.gateway.connected(flow, now);
            }
            Ok(Some(error)) | Err(error) => {
                self.streams.take_if(index, |_| true);
                self.gateway.failed(flow, exit::failure(&error), now);
            }
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
        let (index, to) = (datagram.mapping.index(), datagram.permit.destination());
        if self
            .sockets
            .get(index)
            .is_none_or(|mapped| mapped.mapping != datagram.mapping)
            && let Err(error) = self.open(datagram)
        {
            let failure = exit::failure(&error);
            self.gateway.mapping_failed(datagram.mapping, failure, now);
            return;
        }
        let payload = self.gateway.payload(datagram, packet);
        let Some(mapped) = self.sockets.get(index) else {
            return;
        };
        // What the kernel does not take is lost, as on any link; a lasting problem comes back by the error queue.
        let _ = match (&mut mapped.socket, datagram.echo) {
            (MappedSocket::Datagrams(socket), _) => socket
                .shape(datagram.hop_limit, datagram.dont_fragment)
                .and_then(|()| socket.send(payload, to, datagram.segment)),
            (MappedSocket::Echo(socket), Some((_, sequence))) => {
                socket.send(payload, to.ip(), sequence, datagram.hop_limit)
            }
            (MappedSocket::Echo(_), None) => Ok(()),
        };
    }

    fn open(&mut self, datagram: &Datagram) -> io::Result<()> {
        let socket = if datagram.permit.protocol() == protocol::UDP {
            MappedSocket::Datagrams(self.exit.datagrams(&datagram.permit)?)
        } else {
            MappedSocket::Echo(self.exit.echo(&datagram.permit)?)
        };
        let index = datagram.mapping.index();
        self.poll.registry().register(
            &mut SourceFd(&socket.as_raw_fd()),
            socket_token(index),
            Interest::READABLE,
        )?;
        self.sockets.put(
            index,
            Mapped {
                mapping: datagram.mapping,
                socket,
            },
        );
        Ok(())
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
        while let Some((from, mut answer)) = mapped.socket.receive(buffer, scratch) {
            if let Some(start) = gateway.reply(mapping, from, &mut answer, now)
                && let Some(packet) = answer.buffer.get(start..)
            {
                write_one(tun, packet);
            }
        }
        if error && let MappedSocket::Datagrams(socket) = &mapped.socket {
            while let Some(problem) = socket.problem(scratch) {
                gateway.unreachable(mapping, problem.to, problem.why, problem.offender);
            }
        }
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

impl Upstream {
    /// From the client to the outside; how many bytes.
    fn push(&mut self, gateway: &mut Gateway, now: Time) -> usize {
        let mut moved = 0;
        while self.writable && moved < BYTES_A_TURN {
            let (socket, writable) = (&mut self.socket, &mut self.writable);
            let mut broken = None;
            let outgoing = gateway.outgoing(self.flow, now, |bytes| match socket.write(bytes) {
                Ok(written) => {
                    *writable = written == bytes.len();
                    written
                }
                Err(error) => {
                    *writable = false;
                    broken = (!is_temporary(&error)).then_some(error);
                    0
                }
            });
            if broken.is_some() {
                gateway.upstream_reset(self.flow, now);
                return moved;
            }
            match outgoing {
                Outgoing::Taken(taken) => moved += taken,
                Outgoing::Finished if !self.shut => {
                    self.shut = true;
                    // It fails only if the other end is gone, which the next read tells.
                    let _ = self.socket.shutdown(Shutdown::Write);
                    break;
                }
                Outgoing::Empty | Outgoing::Finished | Outgoing::Gone => break,
            }
        }
        moved
    }

    /// From the outside to the client; how many bytes.
    fn pull(&mut self, gateway: &mut Gateway, now: Time) -> usize {
        if !self.readable || self.done {
            return 0;
        }
        let (socket, readable, closing) = (&mut self.socket, &mut self.readable, self.closing);
        let (mut ended, mut broken) = (false, false);
        let put = gateway.incoming(self.flow, now, |room| {
            let wanted = room.len().min(CHUNK);
            let Some(room) = room.get_mut(..wanted) else {
                return 0;
            };
            match socket.read(room) {
                Ok(0) => {
                    ended = true;
                    0
                }
                Ok(read) => {
                    // Edge-triggered: a short read means drained, unless the end is near and would be missed.
                    *readable = read == wanted || closing;
                    read
                }
                Err(error) => {
                    *readable = false;
                    broken = !is_temporary(&error);
                    0
                }
            }
        });
        if ended {
            self.done = true;
            gateway.upstream_done(self.flow);
        } else if broken {
            gateway.upstream_reset(self.flow, now);
        }
        put.unwrap_or(0)
    }
}

impl MappedSocket {
    /// The next answer, with room for headers before it.
    fn receive<'a>(
        &self,
        buffer: &'a mut [u8],
        scratch: &mut [u8],
    ) -> Option<(SocketAddr, Answer<'a>)> {
        match self {
            Self::Datagrams(socket) => {
                let received = persist(|| socket.receive(room(buffer), scratch).map(Some))?;
                let buffer = buffer.get_mut(..Answer::ROOM + received.len)?;
                let answer = Answer {
                    buffer,
                    payload: Answer::ROOM,
                    segment: received.segment,
                    sequence: 0,
                };
                Some((received.from, answer))
            }
            Self::Echo(socket) => {
                let reply = persist(|| socket.receive(room(buffer)))?;
                let buffer = buffer.get_mut(..Answer::ROOM + reply.end)?;
                let answer = Answer {
                    buffer,
                    payload: Answer::ROOM + reply.payload,
                    segment: 0,
                    sequence: reply.sequence,
                };
                Some((SocketAddr::new(reply.from, 0), answer))
            }
        }
    }

    fn as_raw_fd(&self) -> i32 {
        match self {
            Self::Datagrams(socket) => socket.as_raw_fd(),
            Self::Echo(socket) => socket.as_raw_fd(),
        }
    }
}

fn room(buffer: &mut [u8]) -> &mut [u8] {
    buffer.get_mut(Answer::ROOM..).unwrap_or_default()
}

/// Receives until there is something for us or nothing at all. An ICMP error that waits on the socket fails one call,
/// whatever the call is; a raw socket shows others' messages too.
fn persist<T>(mut receive: impl FnMut() -> io::Result<Option<T>>) -> Option<T> {
    for _ in 0..PACKETS_A_TURN {
        match receive() {
            Ok(Some(received)) => return Some(received),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Ok(None) | Err(_) => {}
        }
    }
    None
}

fn write_out(gateway: &mut Gateway, tun: &Tun) {
    while let Some(packet) = gateway.next_packet() {
        write_one(tun, packet);
    }
}

/// The kernel path, whatever happened to who held it before: its changes are whole or not made.
fn locked(kernel: &Kernel) -> MutexGuard<'_, Fastpath> {
    kernel.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the link does not take is lost, as on any link; when it is gone, the next read says so.
fn write_one(tun: &Tun, packet: &[u8]) {
    if let Err(error) = tun.send(packet) {
        tracing::debug!(%error, "the link did not take a packet");
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

fn stream_token(index: usize) -> Token {
    Token(2 + 2 * index)
}

fn socket_token(index: usize) -> Token {
    Token(3 + 2 * index)
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
