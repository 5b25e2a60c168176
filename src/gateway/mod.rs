//! The machine that joins the parts: packets and answers of sockets go in, packets, orders to the shell and events
//! come out. One gateway serves one shard; it knows no socket and no clock.
//!
//! The shell hands over a packet of the inside with [`Gateway::packet`] and does what the returned [`Fate`] says; then
//! it carries out [orders](Gateway::next_order), pumps [dirty flows](Gateway::next_dirty) between their rings and their
//! sockets, and writes [packets](Gateway::next_packet) to the link until nothing is left.

mod answer;
mod dns;
mod dns_stream;
mod event;
mod exits;
mod inspection;
mod judge;
mod news;
mod opening;
mod pass;
mod payload;
mod questions;
mod strays;
mod survey;
mod tcp;
mod udp;

pub use dns::{Ask, Dns, Lane, Upstream};
pub use event::{
    Cause, Close, Count, End, Event, ExitChange, ExitFault, Failure, Leak, Open, Path, Refused,
    Subject,
};
pub use pass::KERNEL_TERM;
pub use strays::Stray;
pub use survey::{Census, FlowNow, Survey};
pub use tcp::Outgoing;
pub use udp::Answer;

use judge::Judged;

use crate::flow::{Exhausted, FlowId, FlowKey, FlowTable, Wheel};
use crate::jurisdiction::Data;
use crate::names::{Cache, Names};
use crate::packet::fragment::Reassembler;
use crate::packet::{Checksum, Offload, Parsed, Tcp, Transport, fragment, protocol};
use crate::policy::{Active, ExitState, Permit, Policy, Reply};
use crate::sanitize::{Finding, Memory, Sanitizer};
use crate::stack::{Outbox, Rings, Shape, Terminator};
use crate::time::Time;
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Events that wait for the shell; more are counted as lost.
const EVENTS: usize = 4096;
/// Leaks told of one flow; more only count as withheld.
const LEAKS_PER_FLOW: u32 = 16;
/// Refusals answered in one second; more are silent.
const ANSWERS_PER_SECOND: u32 = 500;
/// The wheel calls for every flow at least so often.
const LONGEST_TIMER: Duration = Duration::from_secs(8);
/// A connection that lay still so long gives its memory back.
const REST: Duration = Duration::from_millis(500);
/// Connections that are closing and make room for a new flow, at most.
const MAKE_ROOM: usize = 64;
/// Answers of resolvers that are kept.
const ANSWERS: usize = 10_000;
/// A blocked flow is remembered this long after its last packet.
const BLOCKED_IDLE: Duration = Duration::from_secs(30);

/// What flows are judged by: one immutable whole, swapped at reload.
#[derive(Debug)]
pub struct Snapshot {
    /// The rules.
    pub policy: Policy,
    /// The jurisdiction data.
    pub data: Arc<Data>,
    /// The detectors, with the declared secrets.
    pub sanitizer: Sanitizer,
}

/// What a gateway is told once.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which shard of the gate this is.
    pub shard: u16,
    /// The link to the inside.
    pub shape: Shape,
    /// Our own addresses on the link.
    pub own: Vec<IpAddr>,
    /// Port 53 of any address is answered here.
    pub dns: Option<Dns>,
    /// What is written back to the link is forwarded by the kernel: allowed flows may pass packet by packet.
    pub forward: bool,
    /// The kernel can be told to forward flows without us.
    pub kernel: bool,
    /// Bounds.
    pub limits: Limits,
}

/// The bounds of one shard.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Flows in all and of one source.
    pub flows: crate::flow::Limits,
    /// Connections whose way out is not yet connected.
    pub half_open: usize,
    /// Fragments.
    pub fragments: fragment::Limits,
}

/// What is known across flows and shards: a client's names are learned by one flow and matter to another, and an
/// identifier that goes to several servers shows only when their flows are seen together.
#[derive(Debug)]
pub struct Shared {
    names: Mutex<Names>,
    memory: Mutex<Memory>,
    cache: Mutex<Cache>,
    news: Mutex<news::News>,
    owners: Mutex<strays::Owners>,
    /// Number of the next of the news, so that no lock is taken where there are none.
    newest: AtomicU64,
    /// Something was found: every datagram is compared until a look at the memory says that nothing is left to compare
    /// with. Without it only the first ones of each flow are, so that no lock is taken for the others.
    alert: AtomicBool,
}

impl Shared {
    /// Nothing known yet. `names` bounds the pairs of client and address; `seed` keys the hash.
    pub fn new(names: usize, seed: u64) -> Self {
        Self {
            names: Mutex::new(Names::new(names, seed)),
            memory: Mutex::default(),
            cache: Mutex::new(Cache::new(ANSWERS, seed.rotate_left(29))),
            news: Mutex::default(),
            owners: Mutex::new(strays::Owners::new(seed.rotate_left(11))),
            newest: AtomicU64::new(0),
            alert: AtomicBool::new(false),
        }
    }

    /// The names, whatever became of who held them before: each change of theirs is whole.
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn owners(&self) -> MutexGuard<'_, strays::Owners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn news(&self) -> MutexGuard<'_, news::News> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn newest(&self) -> u64 {
        self.newest.load(Ordering::Acquire)
    }

    fn set_news(&self, next: u64) {
        self.newest.fetch_max(next, Ordering::AcqRel);
    }

    fn is_alert(&self) -> bool {
        self.alert.load(Ordering::Relaxed)
    }

    fn alert(&self) {
        self.alert.store(true, Ordering::Relaxed);
    }

    fn calm_down(&self) {
        if self.is_alert() && !self.memory().has_convicted() {
            self.alert.store(false, Ordering::Relaxed);
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is to become of a packet that was handed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing more: it was taken, answered or refused.
    Done,
    /// Its payload is to be sent.
    Send(Datagram),
    /// It is to be written back to the link, as it was handed in; the gateway has restored its hop limit.
    Pass,
}

/// A payload to be sent from the socket of a mapping, judged and permitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The socket: one for each client address and port (RFC 4787, endpoint-independent mapping).
    pub mapping: MappingId,
    /// Where it may go.
    pub permit: Permit,
    /// Hop limit with which it came in.
    pub hop_limit: u8,
    /// It must not be fragmented on the way.
    pub dont_fragment: bool,
    /// Bytes of one datagram if the payload is several, else 0.
    pub segment: u16,
    /// Echo: identifier and sequence number that the client chose.
    pub echo: Option<(u16, u16)>,
    payload: Range<usize>,
    whole: bool,
}

/// Handle of a mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MappingId(FlowId);

impl MappingId {
    /// Where the mapping lies in a slab; reused after it is gone.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// What the shell is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Connect to the permit's destination; then tell [`Gateway::connected`] or [`Gateway::failed`].
    Dial {
        /// For this flow.
        flow: FlowId,
        /// Where to.
        permit: Permit,
    },
    /// Close the connection of the flow, or give up dialling; the flow no longer exists.
    Hangup {
        /// Of this flow.
        flow: FlowId,
        /// With a RST.
        reset: bool,
    },
    /// Close the socket of the mapping.
    Unmap {
        /// Which.
        mapping: MappingId,
    },
    /// Have the kernel forward this flow from now on; then tell [`Gateway::left_to_kernel`].
    Leave {
        /// Which.
        flow: FlowId,
        /// Its five-tuple.
        key: FlowKey,
    },
    /// The kernel is not to forward this flow any more.
    Recall {
        /// Its five-tuple.
        key: FlowKey,
    },
}

/// One shard's gateway.
#[derive(Debug)]
pub struct Gateway {
    snapshot: Arc<Snapshot>,
    settings: Settings,
    flows: FlowTable<Flow>,
    mappings: FlowTable<udp::Mapping>,
    wheel: Wheel<FlowId>,
    fragments: Reassembler,
    /// The packet that the last fragment completed.
    whole: Vec<u8>,
    /// What crosses flows: shared with the gateways of other shards, asked for at the beginning of flows.
    shared: Arc<Shared>,
    /// For payloads that are no longer compared across flows: stays empty.
    no_memory: Memory,
    terminator: Terminator,
    outbox: Outbox,
    /// A packet of our own under construction.
    draft: Vec<u8>,
    orders: VecDeque<Order>,
    dirty: Vec<FlowId>,
    /// Connections that pass and whose client has closed, oldest first.
    closing: VecDeque<FlowId>,
    /// Packets that were held back and go on, with what the link said of them.
    released: VecDeque<(Offload, Vec<u8>)>,
    /// Packets that other shards are to take.
    strays: VecDeque<Stray>,
    /// Questions of clients to resolvers.
    questions: questions::Questions,
    /// So many of the news were looked at.
    heeded: u64,
    events: VecDeque<Event>,
    lost_events: u64,
    found: Vec<Finding>,
    neighbours: HashMap<IpAddr, [u8; 6]>,
    /// What is known of the policy's exits, in their order.
    exits: Vec<ExitState>,
    wall: Option<u64>,
    dialing: usize,
    serial: u64,
    answers: (u64, u32),
    swept: Time,
}

#[derive(Debug)]
struct Flow {
    serial: u64,
    opened: Time,
    used: Time,
    cause: Cause,
    /// By which way it goes now; with the member in place of a group.
    permit: Option<Permit>,
    active: Active,
    sent: Count,
    received: Count,
    withheld: u64,
    leaks: u32,
    /// The next time the wheel calls for it.
    timer: Option<Time>,
    /// What it has shown of whom it asks for.
    claims: Option<Box<opening::Claims>>,
    /// Its payload is read for whom it asks for.
    sniffs: bool,
    /// Datagrams that wait until they show it.
    held: Option<Box<opening::Held>>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Judged, and going nowhere.
    Blocked(Reply),
    /// Datagrams that are held until they show whom the flow asks for.
    Waiting,
    /// The SYN waits for the way out.
    Dialing(Box<[u8]>),
    /// Terminated TCP.
    Stream(Box<tcp::Stream>),
    /// UDP or echo.
    Datagrams {
        mapping: MappingId,
        /// Something came back.
        answered: bool,
    },
    /// Written back to the link packet by packet, or forwarded by the kernel.
    Passed(Box<pass::Pass>),
}

impl Gateway {
    /// A gateway without flows. `seed` makes hashes and sequence numbers unpredictable.
    pub fn new(
        settings: Settings,
        snapshot: Arc<Snapshot>,
        shared: Arc<Shared>,
        rings: Box<dyn Rings + Send>,
        seed: u64,
        now: Time,
    ) -> Self {
        let limits = settings.limits;
        let shared_news = shared.newest();
        Self {
            flows: FlowTable::new(limits.flows, seed),
            mappings: FlowTable::new(limits.flows, seed.rotate_left(17)),
            wheel: Wheel::new(now),
            fragments: Reassembler::new(limits.fragments),
            whole: Vec::new(),
            shared,
            no_memory: Memory::default(),
            terminator: Terminator::new(settings.shape, rings, seed.rotate_left(47), now),
            outbox: Outbox::new(),
            draft: Vec::new(),
            orders: VecDeque::new(),
            dirty: Vec::new(),
            closing: VecDeque::new(),
            released: VecDeque::new(),
            strays: VecDeque::new(),
            questions: questions::Questions::default(),
            heeded: shared_news,
            events: VecDeque::new(),
            lost_events: 0,
            found: Vec::new(),
            neighbours: HashMap::new(),
            exits: Vec::new(),
            wall: None,
            dialing: 0,
            serial: u64::from(settings.shard) << 48,
            answers: (0, 0),
            swept: now,
            snapshot,
            settings,
        }
    }

    /// Takes a packet of the inside. The bytes are the gateway's to edit; `offload` is what the link said of them.
    pub fn packet(&mut self, bytes: &mut [u8], offload: &Offload, now: Time) -> Fate {
        let checksum = if offload.partial_checksum || offload.verified {
            Checksum::Trust
        } else {
            Checksum::Verify
        };
        let parsed = match Parsed::read(bytes, checksum) {
            Ok(parsed) => parsed,
            Err(malformed) => {
                self.refuse(malformed.name(), None, now);
                return Fate::Done;
            }
        };
        if !matches!(parsed.transport, Transport::Fragment(_)) {
            return self.whole_packet(bytes, &parsed, offload, now);
        }
        match self.fragments.take(&parsed, bytes, now) {
            Ok(None) => Fate::Done,
            Ok(Some(mut whole)) => {
                let fate = match Parsed::read(&whole, Checksum::Verify) {
                    Ok(parsed) => self.whole_packet(&mut whole, &parsed, &Offload::default(), now),
                    Err(malformed) => {
                        self.refuse(malformed.name(), Some(parsed.src), now);
                        Fate::Done
                    }
                };
                self.whole = whole;
                self.fate_of_whole(fate)
            }
            Err(refused) => {
                self.refuse(refused.name(), Some(parsed.src), now);
                Fate::Done
            }
        }
    }

    /// The payload of a datagram that [`packet`](Self::packet) said to send, `packet` being the bytes handed in.
    pub fn payload<'a>(&'a self, datagram: &Datagram, packet: &'a [u8]) -> &'a [u8] {
        let bytes = if datagram.whole { &self.whole } else { packet };
        bytes.get(datagram.payload.clone()).unwrap_or_default()
    }

    /// The next packet for the link, offload header first.
    pub fn next_packet(&mut self) -> Option<&[u8]> {
        self.outbox.take()
    }

    /// The next packet that was held back and may go on: the shell hands it to [`packet`](Self::packet) again.
    pub fn next_released(&mut self) -> Option<(Offload, Vec<u8>)> {
        self.released.pop_front()
    }

    /// The next thing the shell is to do.
    pub fn next_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// The next flow whose rings may have changed.
    pub fn next_dirty(&mut self) -> Option<FlowId> {
        let flow = self.dirty.pop()?;
        if let Some((
            _,
            Flow {
                state: State::Stream(stream),
                ..
            },
        )) = self.flows.get_mut(flow)
        {
            stream.dirty = false;
        }
        Some(flow)
    }

    /// The next event, and how many were lost before it because nobody took them.
    pub fn next_event(&mut self) -> Option<(Event, u64)> {
        let event = self.events.pop_front()?;
        Some((event, std::mem::take(&mut self.lost_events)))
    }

    /// When [`tick`](Self::tick) wants to be called; `None` if nothing waits.
    pub fn deadline(&self) -> Option<Time> {
        [self.wheel.next(), self.next_overdue()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time) {
        self.heed_news(now);
        self.answer_overdue(now);
        let mut due = Vec::new();
        self.wheel.advance(now, &mut due);
        for flow in due {
            self.timer(flow, now);
        }
        if now.since(self.swept) >= Duration::from_secs(1) {
            self.swept = now;
            self.shared.calm_down();
            for _ in 0..self.fragments.expire(now) {
                self.refuse("fragment-timeout", None, now);
            }
        }
    }

    /// Tells the wall clock, in seconds since the Unix epoch; `None` while it is plainly not set.
    pub fn set_wall(&mut self, wall: Option<u64>) {
        self.wall = wall;
    }

    /// Tells the hardware addresses of clients.
    pub fn set_neighbours(&mut self, neighbours: HashMap<IpAddr, [u8; 6]>) {
        self.neighbours = neighbours;
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    /// True without flows.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// What flows are judged by now.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// Judges by something else from now on: live flows too. Only those that would now be treated differently end.
    /// Nothing is known of its exits until [`set_exits`](Self::set_exits) tells.
    pub fn replace(&mut self, snapshot: Arc<Snapshot>, now: Time) {
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        self.exits.clear();
        let flows: Vec<FlowId> = self.flows.ids().collect();
        for id in flows {
            self.rejudge(id, &before.policy, now);
        }
    }

    /// Ends every flow.
    pub fn shutdown(&mut self, now: Time) {
        let flows: Vec<FlowId> = self.flows.ids().collect();
        for id in flows {
            self.end(id, End::Shutdown, now);
        }
    }

    fn whole_packet(
        &mut self,
        bytes: &mut [u8],
        parsed: &Parsed,
        offload: &Offload,
        now: Time,
    ) -> Fate {
        let Some(key) = FlowKey::of(parsed) else {
            // ICMP errors of the inside have nobody to tell: our sockets' peers get their own. What hosts say to their
            // own link (neighbour discovery, group membership) is nobody else's.
            let stays = crate::sanitize::scope(parsed.dst, 0, parsed.protocol).is_some();
            if !stays && !matches!(parsed.transport, Transport::IcmpError(_)) {
                self.refuse("protocol", Some(parsed.src), now);
            }
            return Fate::Done;
        };
        if parsed.protocol == protocol::UDP && self.is_question(&key) {
            self.ask_by_datagram(&key, bytes, parsed, offload, now);
            return Fate::Done;
        }
        let id = match self.flows.find(&key) {
            Some(id) => id,
            None if self.strays(&key, bytes, offload) => return Fate::Done,
            None => match self.open(&key, bytes, parsed, now) {
                Some(id) => id,
                None => return Fate::Done,
            },
        };
        if parsed.protocol == protocol::UDP && !self.read_datagram(id, bytes, parsed, offload, now)
        {
            return Fate::Done;
        }
        if matches!(
            self.flows.get(id),
            Some((
                _,
                Flow {
                    state: State::Passed(_),
                    ..
                }
            ))
        ) {
            return self.pass(id, bytes, parsed, offload, now);
        }
        if parsed.protocol == protocol::TCP {
            self.segment(id, bytes, parsed, now);
            return Fate::Done;
        }
        self.datagram(id, bytes, parsed, offload.gso_size, now)
    }

    /// What becomes of a packet that was put together from fragments: it lies in a buffer of ours, not in the shell's.
    fn fate_of_whole(&mut self, fate: Fate) -> Fate {
        match fate {
            Fate::Send(datagram) => Fate::Send(Datagram {
                whole: true,
                ..datagram
            }),
            Fate::Pass => {
                self.outbox.add(&self.whole);
                Fate::Done
            }
            Fate::Done => Fate::Done,
        }
    }

    /// Begins a flow with its first packet; `None` if it does not become one.
    fn open(
        &mut self,
        key: &FlowKey,
        bytes: &mut [u8],
        parsed: &Parsed,
        now: Time,
    ) -> Option<FlowId> {
        if matches!(parsed.transport, Transport::Tcp(tcp) if tcp.flags & Tcp::RST != 0) {
            return None;
        }
        if self.is_question(key) {
            return self.open_questions(key, bytes, parsed, now);
        }
        if self.settings.own.contains(&key.dst) {
            self.answer_for_ourselves(bytes, parsed, now);
            return None;
        }
        let judged = self.judge(key, None, now);
        let waits = opening::waits(judged.cause, key);
        let permit = judged.permit().ok();
        let passes = !waits && self.passes(key, permit, judged.active);
        if let Transport::Tcp(tcp) = parsed.transport
            && tcp.flags & (Tcp::SYN | Tcp::ACK | Tcp::FIN) != Tcp::SYN
            && (!passes || self.snapshot.policy.asks_for_names())
        {
            // Its connection ended here, was never ours, or has an opening that nobody has read: it may have shown a
            // name that is blocked, and its end may be what comes now. The client connects anew.
            self.answer_reset(parsed, now);
            return None;
        }
        let begun = self.insert_flow(key, judged, now, |gateway, id, permit| match permit {
            _ if waits => gateway.wait(key, bytes, parsed, now),
            Err(reply) => Ok(State::Blocked(reply)),
            Ok(_) if passes => Ok(State::Passed(Box::default())),
            Ok(permit) if parsed.protocol == protocol::TCP => {
                gateway.dial(id, permit, bytes, parsed)
            }
            Ok(permit) => gateway.map(id, permit),
        });
        match begun {
            Ok(id) => {
                if let (Transport::Tcp(tcp), Some((_, flow))) =
                    (parsed.transport, self.flows.get_mut(id))
                {
                    // In mid-stream the opening is over.
                    flow.sniffs &= tcp.flags & Tcp::SYN != 0;
                }
                Some(id)
            }
            Err(bound) => {
                self.refuse(bound, Some(key.src), now);
                self.answer_blocked(Reply::Reject, bytes, parsed, now);
                None
            }
        }
    }

    /// Ends connections that are closing, if that is what it takes for a new flow.
    fn make_room(&mut self, key: &FlowKey, now: Time) {
        for _ in 0..MAKE_ROOM {
            if self.flows.has_room(key.src) {
                return;
            }
            match self.oldest_closing() {
                Some(oldest) => self.end(oldest, End::Done, now),
                None => return,
            }
        }
    }

    /// Adds a judged flow; `begin` gives it what it needs to go on. The name of the bound that forbids it otherwise, and
    /// no flow.
    fn insert_flow(
        &mut self,
        key: &FlowKey,
        judged: Judged,
        now: Time,
        begin: impl FnOnce(&mut Self, FlowId, Result<Permit, Reply>) -> Result<State, &'static str>,
    ) -> Result<FlowId, &'static str> {
        let permit = judged.permit();
        self.serial += 1;
        let flow = Flow {
            serial: self.serial,
            opened: now,
            used: now,
            cause: judged.cause,
            permit: permit.ok(),
            active: judged.active,
            sent: Count::default(),
            received: Count::default(),
            withheld: 0,
            leaks: 0,
            timer: None,
            claims: None,
            sniffs: self.snapshot.policy.asks_for_openings(),
            held: None,
            state: State::Blocked(permit.err().unwrap_or(Reply::Reject)),
        };
        self.make_room(key, now);
        let id = self.flows.insert(*key, flow).map_err(Exhausted::name)?;
        match begin(self, id, permit) {
            Ok(state) => {
                if let Some((_, flow)) = self.flows.get_mut(id) {
                    flow.sniffs &= !matches!(state, State::Blocked(_));
                    flow.state = state;
                }
            }
            Err(bound) => {
                self.flows.remove(id);
                return Err(bound);
            }
        }
        self.shared.names().hold(key.src, key.dst, now);
        match self.waits_until(id) {
            Some(until) => self.schedule(id, until),
            None if matches!(self.flows.get(id), Some((_, flow)) if flow.is_questioner()) => {}
            None => self.opened(id, key, judged, now),
        }
        Ok(id)
    }
}
