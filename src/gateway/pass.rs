//! Flows that pass packet by packet: the buffer that came in is written back to the link and the kernel forwards it.
//! When nothing of a flow is left to inspect, the kernel is told to forward the rest of it alone.

use super::payload::{Carrier, Payload};
use super::udp::Sifted;
use super::{End, Fate, Flow, Gateway, Order, State};
use crate::flow::{FlowId, FlowKey};
use crate::names::{self, Shown};
use crate::packet::{Offload, Parsed, Tcp, Transport, build, edit, protocol};
use crate::policy::{Active, Permit, Reply, Route};
use crate::sanitize;
use crate::time::Time;
use std::net::SocketAddr;
use std::time::Duration;

/// Datagrams of a flow that are looked at before it counts as one of which nothing can be read.
const LOOKS: u64 = 8;
/// An established connection may be silent this long (RFC 5382, section 5).
pub(super) const TCP_IDLE: Duration = Duration::from_secs(7440);
/// A connection that was closed or reset may linger this long.
const CLOSING_IDLE: Duration = Duration::from_secs(10);
/// How long the kernel forwards a flow before it comes here again, to be left to the kernel once more.
pub const KERNEL_TERM: Duration = Duration::from_secs(300);
/// Packets of the client before the kernel is told: shorter flows are over before that pays.
const LEAVE_AFTER: u64 = 6;
/// RFC 4787, section 4.3.
const UDP_IDLE: Duration = Duration::from_secs(120);
/// Packets of an incomplete message are held back at most this long …
pub(super) const HOLD: Duration = Duration::from_millis(300);
/// … and at most so many …
const HELD_PACKETS: usize = 8;
/// … and so many bytes of them.
const HELD_BYTES: usize = 16 << 10;
/// A flow that was left to the kernel and still comes here is left to it again, but not for every packet.
const LEAVE_AGAIN: Duration = Duration::from_secs(1);

/// What is kept of a flow that passes.
#[derive(Debug, Default)]
pub(super) struct Pass {
    /// TCP, as long as its payload is read.
    reading: Option<Reading>,
    /// The payload was looked at as far as it will be.
    done: bool,
    /// FIN or RST was seen.
    closing: bool,
    /// When the kernel was told to forward it.
    left: Option<Time>,
    /// The kernel forwards it.
    pub(super) in_kernel: bool,
}

/// The client's side of a connection, read segment by segment.
#[derive(Debug, Default)]
struct Reading {
    stream: sanitize::Stream,
    names: names::Stream,
    /// Sequence number of the next byte to be read.
    next: u32,
    /// Segments of a message that is not complete, and since when.
    held: Vec<(Offload, Vec<u8>)>,
    since: Time,
    /// Since when an opening or a head of a request is not complete: it is waited for once, not for each of its pieces.
    unnamed: Option<Time>,
}

/// Where a segment lies against what was read.
enum Place {
    /// It begins with the next byte, after this many bytes that were read before.
    Next(usize),
    /// All of it was read before.
    Again,
    /// Something before it is missing.
    Ahead,
}

impl Gateway {
    /// Whether a judged flow is one that passes: permitted to go directly, and nothing in it for us to answer or learn.
    /// A connection whose bytes may have to be rewritten does not: what the client sends again would have to be
    /// rewritten again.
    pub(super) fn passes(&self, key: &FlowKey, permit: Option<Permit>, active: Active) -> bool {
        self.settings.forward
            && key.dport != 53
            && !(key.protocol == protocol::TCP && self.snapshot.policy.redacts(active))
            && permit.is_some_and(|permit| permit.route() == Route::Direct)
    }

    /// Takes a packet of a flow that passes.
    pub(super) fn pass(
        &mut self,
        id: FlowId,
        bytes: &mut [u8],
        parsed: &Parsed,
        offload: &Offload,
        now: Time,
    ) -> Fate {
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return Fate::Done;
        };
        flow.used = now;
        let (fate, flags) = if let Transport::Tcp(tcp) = parsed.transport {
            let fate = self.pass_segment(id, bytes, (parsed, &tcp), offload, now);
            (fate, tcp.flags)
        } else {
            let fate = self.pass_datagram(id, bytes, parsed, offload.gso_size, now);
            (fate, 0)
        };
        if flags & Tcp::FIN != 0 {
            self.close(id, now);
        }
        if fate == Fate::Pass {
            edit::restore_hop_limit(bytes);
            if let Some((_, flow)) = self.flows.get_mut(id) {
                flow.sent.add(parsed.payload(bytes).len());
            }
            self.leave(id, now);
        }
        if flags & Tcp::RST != 0 {
            self.end(id, End::ResetInside, now);
        }
        fate
    }

    /// The kernel was told to forward the flow, and does so or has no room for it.
    pub fn left_to_kernel(&mut self, id: FlowId, taken: bool) {
        if let Some((
            _,
            Flow {
                state: State::Passed(pass),
                ..
            },
        )) = self.flows.get_mut(id)
        {
            pass.in_kernel = taken;
        }
    }

    /// How long a flow that passes may lie idle.
    pub(super) fn pass_idle(key: &FlowKey, pass: &Pass) -> Duration {
        match (key.protocol, pass.closing) {
            (protocol::TCP, false) => TCP_IDLE,
            (protocol::TCP, true) => CLOSING_IDLE,
            _ if pass.in_kernel => KERNEL_TERM + UDP_IDLE,
            _ => UDP_IDLE,
        }
    }

    /// The connection that has been closing for longest.
    pub(super) fn oldest_closing(&mut self) -> Option<FlowId> {
        loop {
            let id = *self.closing.front()?;
            if let Some((_, flow)) = self.flows.get(id)
                && matches!(&flow.state, State::Passed(pass) if pass.closing)
            {
                return Some(id);
            }
            self.closing.pop_front();
        }
    }

    /// The client has closed: the kernel is not to forward the flow any more, and it may soon make room for others.
    fn close(&mut self, id: FlowId, now: Time) {
        let Some((key, flow)) = self.flows.get_mut(id) else {
            return;
        };
        let State::Passed(pass) = &mut flow.state else {
            return;
        };
        if std::mem::replace(&mut pass.closing, true) {
            return;
        }
        if pass.left.take().is_some() {
            self.orders.push_back(Order::Recall { key: *key });
        }
        self.schedule(id, now + CLOSING_IDLE);
        // Those at the front that are gone, or opened anew, leave the queue, so that it does not grow.
        self.oldest_closing();
        self.closing.push_back(id);
    }

    /// The wheel called: what was held back too long goes on, and is judged as it is.
    pub(super) fn release(&mut self, id: FlowId, now: Time) {
        let Some((
            _,
            Flow {
                state: State::Passed(pass),
                ..
            },
        )) = self.flows.get_mut(id)
        else {
            return;
        };
        let Some(reading) = pass
            .reading
            .as_mut()
            .filter(|reading| !reading.held.is_empty())
        else {
            return;
        };
        if now.since(reading.since) >= HOLD {
            let held = std::mem::take(&mut reading.held);
            self.send_held(held);
        }
    }

    /// Has the kernel forward the flow, if nothing of it is left to inspect.
    fn leave(&mut self, id: FlowId, now: Time) {
        let kernel = self.settings.kernel;
        let Some((key, flow)) = self.flows.get_mut(id) else {
            return;
        };
        let State::Passed(pass) = &mut flow.state else {
            return;
        };
        let again = pass.left.is_none_or(|left| now.since(left) >= LEAVE_AGAIN);
        let settled = pass.done || flow.active.is_empty() && !flow.sniffs;
        if kernel && again && settled && !pass.closing && flow.sent.packets >= LEAVE_AFTER {
            pass.left = Some(now);
            self.orders.push_back(Order::Leave {
                flow: id,
                key: *key,
            });
        }
    }

    fn pass_datagram(
        &mut self,
        id: FlowId,
        bytes: &mut [u8],
        parsed: &Parsed,
        segment: u16,
        now: Time,
    ) -> Fate {
        let Some((_, flow)) = self.flows.get(id) else {
            return Fate::Done;
        };
        let State::Passed(pass) = &flow.state else {
            return Fate::Done;
        };
        if pass.done || flow.active.is_empty() {
            return Fate::Pass;
        }
        let Some(Sifted {
            kept,
            reading,
            rewritten,
        }) = self.sift(id, bytes, parsed, segment, now)
        else {
            return Fate::Done;
        };
        self.settle_datagram(id, reading);
        if kept.end == parsed.len && !rewritten {
            return Fate::Pass;
        }
        // Some of its datagrams were held back or rewritten: what remains goes on in a packet of its own.
        let (from, to) = match self.flows.get(id) {
            Some((key, _)) => (
                SocketAddr::new(key.src, key.sport),
                SocketAddr::new(key.dst, key.dport),
            ),
            None => return Fate::Done,
        };
        let mut packet = vec![0; build::HEADROOM];
        packet.extend_from_slice(bytes.get(kept).unwrap_or_default());
        let (start, offload) = build::udp_in_place(&mut packet, build::HEADROOM, from, to, segment);
        self.send_built(packet.get_mut(start..).unwrap_or_default(), offload);
        Fate::Done
    }

    /// Decides whether later datagrams of the flow are worth a look.
    fn settle_datagram(&mut self, id: FlowId, reading: Option<sanitize::Reading>) {
        let secrets = self.snapshot.sanitizer.has_secrets();
        if let Some((_, flow)) = self.flows.get_mut(id)
            && let State::Passed(pass) = &mut flow.state
        {
            pass.done = match reading {
                Some(reading) => reading.sealed,
                None => !secrets && flow.withheld == 0 && flow.sent.packets >= LOOKS,
            };
        }
    }

    fn pass_segment(
        &mut self,
        id: FlowId,
        bytes: &mut [u8],
        (parsed, tcp): (&Parsed, &Tcp),
        offload: &Offload,
        now: Time,
    ) -> Fate {
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return Fate::Done;
        };
        let State::Passed(pass) = &mut flow.state else {
            return Fate::Done;
        };
        if tcp.flags & Tcp::SYN != 0 {
            // The client begins, perhaps anew: what was read of an older connection counts no more.
            pass.closing = false;
            (pass.done, pass.reading) = (flow.active.is_empty() && !flow.sniffs, None);
        }
        let payload = parsed.payload(bytes);
        let is_unread = flow.active.is_empty() && !flow.sniffs;
        if pass.done || is_unread || (payload.is_empty() && pass.reading.is_some()) {
            return Fate::Pass;
        }
        let syn = u32::from(tcp.flags & Tcp::SYN != 0);
        let begin = tcp.seq.wrapping_add(syn);
        let reading = pass.reading.get_or_insert_with(|| Reading {
            next: begin,
            ..Reading::default()
        });
        let fresh = match reading.place(begin, payload.len()) {
            Place::Next(known) => known,
            // What is held back goes on or not, whether it comes again or not.
            Place::Again if !reading.held.is_empty() => return Fate::Done,
            // The same bytes as before were let go; others in their place are judged by themselves.
            Place::Again => return self.pass_repeat(id, bytes, parsed, now),
            // Out of order: it comes again when the gap is filled.
            Place::Ahead => return Fate::Done,
        };
        let Some(fresh) = payload.get(fresh..).filter(|fresh| !fresh.is_empty()) else {
            return Fate::Pass;
        };
        reading.next = reading
            .next
            .wrapping_add(u32::try_from(fresh.len()).unwrap_or(0));
        let mut shown = Vec::new();
        if flow.sniffs {
            reading.names.read(fresh, &mut shown);
        }
        let sanitizer = &self.snapshot.sanitizer;
        let is_searched = !flow.active.is_empty();
        if is_searched {
            sanitizer.stream(&mut reading.stream, fresh, &mut self.found);
        }
        let pending = reading.stream.pending() > 0 || reading.waits_for_name(now);
        pass.done = (!is_searched || sanitizer.is_done(&reading.stream))
            && (!flow.sniffs || reading.names.is_done());
        let at = parsed.len - fresh.len();
        self.weigh_segment(id, (bytes, parsed, at), (offload, pending), shown, now)
    }

    /// Decides on a segment by what was found in it from `fresh` on, and by whom it shows the client asks for.
    fn weigh_segment(
        &mut self,
        id: FlowId,
        (bytes, parsed, fresh): (&[u8], &Parsed, usize),
        (offload, pending): (&Offload, bool),
        shown: Vec<Shown>,
        now: Time,
    ) -> Fate {
        let carrier = Carrier::Fixed(bytes.get(fresh..parsed.len).unwrap_or_default());
        let is_clear = self.found.is_empty() || self.weigh(id, carrier, now) == Payload::Clear;
        if !is_clear || !shown.is_empty() && !self.claim(id, shown, now) {
            self.cut(id, bytes, parsed, now);
            return Fate::Done;
        }
        self.hold_or_go(id, bytes, offload, pending, now)
    }

    /// A message that is not complete is held back for a moment, so that nothing of what its end may show has left.
    fn hold_or_go(
        &mut self,
        id: FlowId,
        bytes: &[u8],
        offload: &Offload,
        pending: bool,
        now: Time,
    ) -> Fate {
        let Some((
            _,
            Flow {
                state: State::Passed(pass),
                ..
            },
        )) = self.flows.get_mut(id)
        else {
            return Fate::Done;
        };
        let Some(reading) = &mut pass.reading else {
            return Fate::Pass;
        };
        let bytes_held: usize = reading.held.iter().map(|(_, packet)| packet.len()).sum();
        let room = reading.held.len() < HELD_PACKETS && bytes_held + bytes.len() <= HELD_BYTES;
        if pending && room {
            if reading.held.is_empty() {
                reading.since = now;
            }
            let mut packet = bytes.to_vec();
            edit::restore_hop_limit(&mut packet);
            reading.held.push((*offload, packet));
            self.schedule(id, now + HOLD);
            return Fate::Done;
        }
        let held = std::mem::take(&mut reading.held);
        if pass.done {
            pass.reading = None;
        }
        self.send_held(held);
        Fate::Pass
    }

    /// A segment whose bytes were read before: by itself it must not show anything either.
    fn pass_repeat(&mut self, id: FlowId, bytes: &[u8], parsed: &Parsed, now: Time) -> Fate {
        let mut stream = sanitize::Stream::default();
        let payload = parsed.payload(bytes);
        self.snapshot
            .sanitizer
            .stream(&mut stream, payload, &mut self.found);
        if !self.found.is_empty() && self.weigh(id, Carrier::Fixed(payload), now) != Payload::Clear
        {
            return Fate::Done;
        }
        let mut shown = Vec::new();
        if matches!(self.flows.get(id), Some((_, flow)) if flow.sniffs) {
            names::Stream::default().read(payload, &mut shown);
        }
        shown.retain(|one| one.name.is_some());
        if !shown.is_empty() && !self.claim(id, shown, now) {
            self.cut(id, bytes, parsed, now);
            return Fate::Done;
        }
        Fate::Pass
    }

    /// Ends a connection whose payload must not leave: a RST to the client, and one to the other end in its name.
    fn cut(&mut self, id: FlowId, bytes: &[u8], parsed: &Parsed, now: Time) {
        if let Some((_, flow)) = self.flows.get_mut(id) {
            flow.withheld += 1;
        }
        self.answer_blocked(Reply::Reject, bytes, parsed, now);
        if let Transport::Tcp(tcp) = parsed.transport {
            // What the other end would have sent, answered as nobody takes it.
            let theirs = Tcp {
                sport: tcp.dport,
                dport: tcp.sport,
                ack: tcp.seq,
                flags: Tcp::ACK,
                ..tcp
            };
            let theirs = Parsed {
                src: parsed.dst,
                dst: parsed.src,
                transport: Transport::Tcp(theirs),
                ..*parsed
            };
            self.answer_reset(&theirs, now);
        }
        self.end(id, End::Leaked, now);
    }

    fn send_held(&mut self, held: Vec<(Offload, Vec<u8>)>) {
        for (offload, mut packet) in held {
            self.send_built(&mut packet, offload);
        }
    }

    pub(super) fn send_built(&mut self, packet: &mut [u8], mut offload: Offload) {
        if !self.settings.shape.offload {
            crate::packet::checksum::complete(packet, &mut offload);
        }
        if let Some(room) = self.outbox.room(packet.len()) {
            room.copy_from_slice(packet);
            self.outbox.commit(packet.len(), offload);
        }
    }
}

impl Pass {
    /// The client has closed.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// The kernel may still have it.
    pub(super) fn is_left(&self) -> bool {
        self.left.is_some()
    }

    /// What is inspected may have changed: the flow is looked at, and left to the kernel, as if it were new. True if its
    /// opening is over.
    pub(super) fn begin_again(&mut self) -> bool {
        let was_done = self.done;
        (self.done, self.left, self.in_kernel) = (false, None, false);
        was_done
    }
}

impl Reading {
    /// Whether the end of what was read is held back for the name that it may show.
    fn waits_for_name(&mut self, now: Time) -> bool {
        if self.names.pending() == 0 {
            self.unnamed = None;
            return false;
        }
        now.since(*self.unnamed.get_or_insert(now)) < HOLD
    }

    /// Where a segment of `len` bytes from `begin` lies against what was read. Sequence numbers wrap (RFC 9293, section
    /// 3.4).
    fn place(&self, begin: u32, len: usize) -> Place {
        let behind = self.next.wrapping_sub(begin);
        if behind > i32::MAX as u32 {
            return Place::Ahead;
        }
        let behind = behind as usize;
        if behind == 0 || behind < len {
            Place::Next(behind)
        } else {
            Place::Again
        }
    }
}
