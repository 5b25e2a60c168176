//! TCP terminated: one shared smoltcp `Interface`, one `SocketSet` of one socket a flow, so that the work per packet
//! does not grow with the number of flows. The wire sees real segments; smoltcp speaks in super-segments.

use super::Outbox;
use crate::packet::edit::{self, Segmenting};
use crate::packet::{Parsed, Transport};
use crate::time::Time;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{
    Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken,
};
use smoltcp::socket::tcp;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpListenEndpoint};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

/// A dead client is asked whether it lives after this much silence …
const KEEP_ALIVE: Duration = Duration::from_secs(120);
/// … and given up after this much.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Spare connections whose rings may keep a little memory, so that short connections cost no page faults.
const WARM: usize = 32;
/// Bytes that each ring of a connection may hold even when the memory of all is spent, so that every connection goes on.
const SHARE: usize = 16 << 10;

/// A ring buffer lent by the shell for ever, known to it by `id`.
#[derive(Debug)]
pub struct Ring {
    /// The memory, committed only where it has been touched.
    pub bytes: &'static mut [u8],
    /// How the lender knows it.
    pub id: u32,
}

/// Lends ring buffers.
pub trait Rings {
    /// A ring of `len` bytes; `None` when the system has no more.
    fn take(&mut self, len: usize) -> Option<Ring>;
    /// What the ring holds is worthless now: its pages may be taken back, the ring itself stays lent.
    fn idle(&mut self, id: u32);
}

/// What the link to the inside can carry.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// MTU in bytes.
    pub mtu: u16,
    /// It takes super-packets and partial checksums.
    pub offload: bool,
    /// Bytes of a connection's ring for what its client sends, and of the one for what it gets: address space, of which
    /// memory is taken as bytes go through.
    pub rings: [usize; 2],
    /// Bytes of memory that all rings together may take, beside a small share that each connection always has.
    pub memory: usize,
}

/// Terminates the TCP connections of one shard.
pub struct Terminator {
    interface: Interface,
    shape: Shape,
    rings: Box<dyn Rings + Send>,
    /// Those without memory first.
    spare: VecDeque<Connection>,
    /// How many of them keep some.
    warm: usize,
    /// Bytes of memory that the rings in use take.
    committed: usize,
}

/// One terminated connection, seen from our side: the client is the peer.
pub struct Connection {
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    rings: [u32; 2],
    /// Bytes that went through each ring since its memory was last given back …
    moved: [usize; 2],
    /// … of which these were counted: no more than the ring holds, since it goes round.
    committed: [usize; 2],
    /// The memory of all rings is spent.
    scarce: bool,
    /// Received bytes may have come ahead of others, and may lie behind a gap.
    gaps: bool,
    /// What the client takes in one segment, bytes.
    mss: u16,
    /// [`Connection::close`] was called.
    closing: bool,
    /// The client's FIN was taken in.
    was_finished: bool,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The client has not yet acknowledged our SYN-ACK.
    Opening,
    /// Bytes may flow in at least one direction.
    Open,
    /// Both sides have said all and it was acknowledged.
    Done,
    /// The client reset it, vanished, or we aborted it.
    Reset,
}

impl Terminator {
    /// A terminator without connections. `seed` makes its sequence numbers unpredictable.
    pub fn new(shape: Shape, rings: Box<dyn Rings + Send>, seed: u64, now: Time) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut outbox = Outbox::new();
        let mut wire = Wire {
            inbound: None,
            outbox: &mut outbox,
            how: shape.segmenting(u16::MAX),
        };
        let mut interface = Interface::new(config, &mut wire, instant(now));
        interface.set_any_ip(true);
        Self {
            interface,
            shape,
            rings,
            spare: VecDeque::new(),
            warm: 0,
            committed: 0,
        }
    }

    /// Answers a client's SYN, which it may edit; called once the way out is connected. `None` when the system has no
    /// memory left.
    pub fn accept(
        &mut self,
        syn: &mut [u8],
        parsed: &Parsed,
        outbox: &mut Outbox,
        now: Time,
    ) -> Option<Connection> {
        let Transport::Tcp(header) = parsed.transport else {
            return None;
        };
        let mut connection = self.fresh()?;
        let listen = IpListenEndpoint {
            addr: Some(parsed.dst.into()),
            port: header.dport,
        };
        let socket = connection.socket_mut();
        socket.set_congestion_control(tcp::CongestionControl::None);
        if socket.listen(listen).is_err() {
            self.recycle(connection);
            return None;
        }
        self.segment(&mut connection, syn, parsed, outbox, now);
        self.emit(&mut connection, outbox, now);
        Some(connection)
    }

    /// Begins a connection of our own; the peer is the client of what is said elsewhere here. `None` when the system has
    /// no memory left, or it cannot be.
    pub fn connect(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        outbox: &mut Outbox,
        now: Time,
    ) -> Option<Connection> {
        let mut connection = self.fresh()?;
        let socket = connection
            .sockets
            .get_mut::<tcp::Socket<'_>>(connection.handle);
        // What lies between is no local link, but the internet.
        socket.set_congestion_control(tcp::CongestionControl::Cubic);
        if socket.connect(self.interface.context(), to, from).is_err() {
            self.recycle(connection);
            return None;
        }
        self.emit(&mut connection, outbox, now);
        Some(connection)
    }

    /// Takes a segment of the client, which it may edit.
    pub fn segment(
        &mut self,
        connection: &mut Connection,
        bytes: &mut [u8],
        parsed: &Parsed,
        outbox: &mut Outbox,
        now: Time,
    ) {
        let Transport::Tcp(header) = parsed.transport else {
            return;
        };
        // Every SYN of the flow alike, repeats too, so that smoltcp always reads the same MSS.
        if self.shape.offload && header.flags & crate::packet::Tcp::SYN != 0 {
            connection.mss = edit::raise_mss(bytes, parsed, self.shape.mtu);
        }
        // Where memory is scarce, bytes that do not fit are lost, as on any full link, and sent again.
        if connection.scarce
            && parsed.len > header.payload
            && connection.socket().recv_queue() >= SHARE
        {
            return;
        }
        let Some(inbound) = bytes.get(..parsed.len) else {
            return;
        };
        let waiting = connection.socket().recv_queue() + (parsed.len - header.payload);
        let mut wire = Wire {
            inbound: Some(inbound),
            outbox,
            how: self.shape.segmenting(connection.mss),
        };
        self.interface
            .poll_ingress_single(instant(now), &mut wire, &mut connection.sockets);
        connection.gaps |= connection.socket().recv_queue() != waiting;
        connection.was_finished |= connection.is_half_closed();
        self.account(connection);
    }

    /// Emits what the connection has to say, as far as the outbox has room. True if it has more to say.
    pub fn emit(&mut self, connection: &mut Connection, outbox: &mut Outbox, now: Time) -> bool {
        if connection.holds_back() {
            return false;
        }
        self.account(connection);
        let how = self.shape.segmenting(connection.mss);
        while outbox.has_room() {
            let mut wire = Wire {
                inbound: None,
                outbox,
                how,
            };
            if self
                .interface
                .poll_egress(instant(now), &mut wire, &mut connection.sockets)
                == PollResult::None
            {
                return false;
            }
        }
        true
    }

    /// When the connection wants [`emit`](Self::emit) to be called although nothing happens.
    pub fn deadline(&mut self, connection: &Connection, now: Time) -> Option<Time> {
        // It says nothing before its bytes are taken, see `emit`: what it wants meanwhile can wait.
        if connection.holds_back() {
            return None;
        }
        let at = self.interface.poll_at(instant(now), &connection.sockets)?;
        Some(Time::from_nanos(
            u64::try_from(at.total_micros())
                .unwrap_or(0)
                .saturating_mul(1000),
        ))
    }

    /// Takes a connection back whose flow is over.
    pub fn recycle(&mut self, mut connection: Connection) {
        connection.socket_mut().abort();
        (connection.closing, connection.was_finished) = (false, false);
        let keeps = self.warm < WARM && self.committed < self.shape.memory;
        for (ring, committed) in connection.rings.iter().zip(&mut connection.committed) {
            if !keeps || connection.gaps || *committed > SHARE {
                self.committed -= std::mem::take(committed);
                self.rings.idle(*ring);
            }
        }
        (connection.moved, connection.scarce, connection.gaps) = ([0; 2], false, false);
        if connection.committed == [0; 2] {
            self.spare.push_front(connection);
        } else {
            self.warm += 1;
            self.spare.push_back(connection);
        }
    }

    /// Takes back the memory of the rings of a connection that lies still, as far as nothing waits in them.
    pub fn rest(&mut self, connection: &mut Connection) {
        let socket = connection.socket();
        let empty = [
            socket.recv_queue() == 0 && !connection.gaps,
            socket.send_queue() == 0,
        ];
        for (ring, empty) in empty.into_iter().enumerate() {
            if empty {
                self.take_back(connection, ring);
            }
        }
    }

    /// Takes back the memory of an empty ring: 0 of received bytes, 1 of those to be sent.
    fn take_back(&mut self, connection: &mut Connection, ring: usize) {
        let (Some(committed), Some(moved), Some(id)) = (
            connection.committed.get_mut(ring),
            connection.moved.get_mut(ring),
            connection.rings.get(ring),
        ) else {
            return;
        };
        if std::mem::take(moved) > 0 || *committed > 0 {
            self.committed -= std::mem::take(committed);
            self.rings.idle(*id);
        }
    }

    /// Counts the memory that the connection's rings have come to take, and takes back what is not needed when it is
    /// scarce.
    fn account(&mut self, connection: &mut Connection) {
        let [received, put] = connection.moved;
        let waiting = connection.socket().recv_queue();
        let through = [received.saturating_add(waiting), put];
        let bounds = through.into_iter().zip(self.shape.rings);
        for (committed, (moved, ring)) in connection.committed.iter_mut().zip(bounds) {
            let more = moved.min(ring).saturating_sub(*committed);
            *committed += more;
            self.committed += more;
        }
        connection.scarce = self.committed >= self.shape.memory;
        if connection.scarce
            && connection
                .committed
                .iter()
                .any(|committed| *committed > SHARE)
        {
            self.rest(connection);
        }
    }

    /// A connection for a new flow: one that keeps memory if there is one.
    fn fresh(&mut self) -> Option<Connection> {
        let Some(connection) = self.spare.pop_back() else {
            return self.build();
        };
        self.warm -= usize::from(connection.committed != [0; 2]);
        Some(connection)
    }

    fn build(&mut self) -> Option<Connection> {
        let [receive, send] = self.shape.rings;
        let (receive, send) = (self.rings.take(receive)?, self.rings.take(send)?);
        let rings = [receive.id, send.id];
        let mut socket = tcp::Socket::new(
            tcp::SocketBuffer::new(receive.bytes),
            tcp::SocketBuffer::new(send.bytes),
        );
        socket.set_nagle_enabled(false);
        // The egress pass after each batch of packets coalesces acknowledgements by itself.
        socket.set_ack_delay(None);
        socket.set_keep_alive(Some(KEEP_ALIVE));
        socket.set_timeout(Some(TIMEOUT));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Some(Connection {
            sockets,
            handle,
            rings,
            moved: [0; 2],
            committed: [0; 2],
            scarce: false,
            gaps: false,
            mss: u16::MAX,
            closing: false,
            was_finished: false,
        })
    }
}

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminator")
            .field("shape", &self.shape)
            .field("spare", &self.spare.len())
            .finish()
    }
}

impl Connection {
    /// Lends the bytes that the client sent, as far as they lie in one piece; `take` says how many it took.
    /// Zero where there are none.
    pub fn take(&mut self, take: impl FnOnce(&mut [u8]) -> usize) -> usize {
        let socket = self.socket_mut();
        if !socket.can_recv() {
            return 0;
        }
        let taken = socket.recv(|bytes| {
            let taken = take(bytes).min(bytes.len());
            (taken, taken)
        });
        let taken = taken.unwrap_or(0);
        self.moved[0] = self.moved[0].saturating_add(taken);
        taken
    }

    /// How many bytes the client sent that were not taken.
    pub fn queued(&self) -> usize {
        self.socket().recv_queue()
    }

    /// Copies what the client sent, from the first byte that was not taken on, also where it lies in two pieces; how many
    /// bytes.
    pub fn peek(&mut self, room: &mut [u8]) -> usize {
        self.socket_mut().peek_slice(room).unwrap_or(0)
    }

    /// Lends free room for bytes to the client, as far as it lies in one piece; `put` says how many it wrote.
    /// Zero where there is no room.
    pub fn put(&mut self, put: impl FnOnce(&mut [u8]) -> usize) -> usize {
        if !self.has_room() {
            return 0;
        }
        let socket = self.socket_mut();
        let put = socket.send(|bytes| {
            let put = put(bytes).min(bytes.len());
            (put, put)
        });
        let put = put.unwrap_or(0);
        self.moved[1] = self.moved[1].saturating_add(put);
        put
    }

    /// Its rings take memory that they may not need.
    pub fn has_memory(&self) -> bool {
        self.moved != [0; 2] || self.committed != [0; 2]
    }

    /// Bytes of the client wait to be taken.
    pub fn has_bytes(&self) -> bool {
        self.socket().can_recv()
    }

    /// There is room for bytes to the client.
    pub fn has_room(&self) -> bool {
        let socket = self.socket();
        socket.can_send() && (!self.scarce || socket.send_queue() < SHARE)
    }

    /// Bytes that were put and not yet acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.socket().send_queue()
    }

    /// The client has said all, and all of it was taken.
    pub fn is_finished(&self) -> bool {
        self.is_half_closed() && !self.socket().can_recv()
    }

    /// The client has sent its FIN.
    pub fn is_half_closed(&self) -> bool {
        use tcp::State::{CloseWait, Closing, LastAck, TimeWait};
        matches!(
            self.socket().state(),
            CloseWait | Closing | LastAck | TimeWait
        )
    }

    /// Nothing more comes for the client: FIN behind what was put.
    pub fn close(&mut self) {
        self.closing = true;
        self.socket_mut().close();
    }

    /// Ends the connection with a RST, sent by the next [`Terminator::emit`].
    pub fn abort(&mut self) {
        self.socket_mut().abort();
    }

    /// How far the connection is.
    pub fn phase(&self) -> Phase {
        match self.socket().state() {
            tcp::State::SynSent | tcp::State::SynReceived => Phase::Opening,
            tcp::State::TimeWait => Phase::Done,
            // Behind LAST-ACK: we had closed, and the client's FIN was taken in before.
            tcp::State::Closed if self.closing && self.was_finished => Phase::Done,
            // A RST in SYN-RECEIVED puts smoltcp's socket back to LISTEN.
            tcp::State::Closed | tcp::State::Listen => Phase::Reset,
            tcp::State::Established
            | tcp::State::FinWait1
            | tcp::State::FinWait2
            | tcp::State::CloseWait
            | tcp::State::Closing
            | tcp::State::LastAck => Phase::Open,
        }
    }

    /// smoltcp clears a socket when its TIME-WAIT ends, also of bytes that were not yet taken: until they are, it is not
    /// to be asked for anything.
    fn holds_back(&self) -> bool {
        self.phase() == Phase::Done && self.has_bytes()
    }

    fn socket(&self) -> &tcp::Socket<'static> {
        self.sockets.get(self.handle)
    }

    fn socket_mut(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("state", &self.socket().state())
            .field("mss", &self.mss)
            .finish()
    }
}

impl Shape {
    fn segmenting(&self, flow_mss: u16) -> Segmenting {
        Segmenting {
            link_mtu: self.mtu,
            flow_mss,
            offload: self.offload,
        }
    }
}

/// One packet in, any number out: what smoltcp takes for a network device.
struct Wire<'a> {
    inbound: Option<&'a [u8]>,
    outbox: &'a mut Outbox,
    how: Segmenting,
}

struct Inbound<'a>(&'a [u8]);

struct Outbound<'a> {
    outbox: &'a mut Outbox,
    how: Segmenting,
}

impl Device for Wire<'_> {
    type RxToken<'t>
        = Inbound<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outbound<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Inbound<'_>, Outbound<'_>)> {
        let bytes = self.inbound.take()?;
        Some((
            Inbound(bytes),
            Outbound {
                outbox: self.outbox,
                how: self.how,
            },
        ))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outbound<'_>> {
        self.outbox.has_room().then_some(Outbound {
            outbox: self.outbox,
            how: self.how,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = if self.how.offload {
            usize::from(u16::MAX)
        } else {
            usize::from(self.how.link_mtu)
        };
        // TCP sums are verified when the packet is read and written by `finish_segment`.
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities
    }
}

impl RxToken for Inbound<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl TxToken for Outbound<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let Self { outbox, how } = self;
        let Some(bytes) = outbox.room(len) else {
            // An answer to a packet found the outbox full: it is lost, as on any link, and sent again.
            return write(&mut vec![0; len]);
        };
        let result = write(bytes);
        let offload = edit::finish_segment(bytes, &how);
        outbox.commit(len, offload);
        result
    }
}

fn instant(now: Time) -> Instant {
    Instant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap_or(i64::MAX))
}
