//! TCP flows: the SYN is held until the way out is connected, then rings are pumped both ways.

use super::dns_stream::Questioner;
use super::inspection::{Inspection, Look};
use super::pass::HOLD;
use super::payload::{Carrier, Payload};
use super::{End, Failure, Flow, Gateway, Order, State};
use crate::flow::FlowId;
use crate::packet::build::Unreachable;
use crate::packet::{Checksum, Parsed, Tcp, Transport};
use crate::policy::{Permit, Reply};
use crate::stack::{Connection, Phase, Terminator};
use crate::time::Time;
use std::time::Duration;

/// How long the other end may take to accept a connection.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A terminated connection and what is known of its bytes.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) connection: Connection,
    pub(super) inspection: Inspection,
    pub(super) out: Out,
    /// It carries questions, which are answered here.
    pub(super) questions: Option<Box<Questioner>>,
    /// The outside has sent its FIN.
    upstream_done: bool,
    /// It waits in the list of dirty flows.
    pub(super) dirty: bool,
}

/// How far the other half of a terminated connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Out {
    /// Whether there will be one is decided by what the client shows, at the latest then.
    Undecided(Time),
    /// It was asked for then.
    Dialing(Time),
    Connected,
    /// There is none: the client speaks with us.
    Here,
}

/// What became of an attempt to take bytes of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// This many bytes were taken.
    Taken(usize),
    /// There is nothing to take now.
    Empty,
    /// The client has said all: shut the outside's writing half down.
    Finished,
    /// The flow is over.
    Gone,
}

impl Stream {
    /// Gives memory back that a connection at rest does not need.
    pub(super) fn rest(&mut self, terminator: &mut Terminator) {
        terminator.rest(&mut self.connection);
    }

    /// There is memory that the connection could give back.
    pub(super) fn has_memory(&self) -> bool {
        self.connection.has_memory()
    }

    pub(super) fn new(connection: Connection, inspection: Inspection, out: Out) -> Self {
        Self {
            connection,
            inspection,
            out,
            questions: None,
            upstream_done: false,
            dirty: false,
        }
    }

    /// What is to be said where the client's bytes are all taken.
    fn nothing(&self) -> Outgoing {
        match self.connection.is_finished() {
            true => Outgoing::Finished,
            false => Outgoing::Empty,
        }
    }

    pub(super) fn into_connection(self) -> Connection {
        self.connection
    }

    /// Hands out what has not left, and where in it the part begins that was looked at last.
    pub(super) fn look<T>(&mut self, look: impl FnOnce(&mut [u8], usize) -> T) -> Option<T> {
        let (chunk, mut seen) = (self.inspection.chunk(), None);
        self.connection.take(|bytes| {
            seen = Some(look(bytes, chunk));
            0
        });
        seen
    }
}

impl Gateway {
    /// The connection that [`Order::Dial`] asked for is established.
    pub fn connected(&mut self, id: FlowId, now: Time) {
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return;
        };
        if let State::Stream(stream) = &mut flow.state
            && matches!(stream.out, Out::Dialing(_))
        {
            stream.out = Out::Connected;
            flow.used = now;
            self.dialing = self.dialing.saturating_sub(1);
            return self.touch(id);
        }
        let State::Dialing(syn) = &mut flow.state else {
            return;
        };
        let mut syn = std::mem::take(syn);
        self.dialing = self.dialing.saturating_sub(1);
        let connection = Parsed::read(&syn, Checksum::Trust).ok().and_then(|parsed| {
            self.terminator
                .accept(&mut syn, &parsed, &mut self.outbox, now)
        });
        let Some(connection) = connection else {
            flow.state = State::Blocked(Reply::Reject);
            self.orders.push_back(Order::Hangup {
                flow: id,
                reset: true,
            });
            self.refuse("memory", None, now);
            self.end(id, End::Failed(Failure::Exhausted), now);
            return;
        };
        let inspection = Inspection::new(flow.sniffs);
        let stream = Stream::new(connection, inspection, Out::Connected);
        flow.state = State::Stream(Box::new(stream));
        flow.used = now;
        self.touch(id);
    }

    /// The connection that [`Order::Dial`] asked for cannot be made: what was refused is refused to the client.
    pub fn failed(&mut self, id: FlowId, failure: Failure, now: Time) {
        if failure == Failure::TimedOut {
            self.orders.push_back(Order::Hangup {
                flow: id,
                reset: true,
            });
        }
        self.end(id, End::Failed(failure), now);
    }

    /// The client has sent bytes, or its end, that have not been taken.
    pub fn owes(&self, id: FlowId) -> bool {
        let Some((_, flow)) = self.flows.get(id) else {
            return false;
        };
        let State::Stream(stream) = &flow.state else {
            return false;
        };
        stream.connection.has_bytes() || stream.connection.is_half_closed()
    }

    /// Lends inspected bytes of the client, in place; `write` says how many it took.
    pub fn outgoing(
        &mut self,
        id: FlowId,
        now: Time,
        write: impl FnOnce(&[u8]) -> usize,
    ) -> Outgoing {
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return Outgoing::Gone;
        };
        let State::Stream(stream) = &mut flow.state else {
            return Outgoing::Gone;
        };
        if !stream.connection.has_bytes() {
            return stream.nothing();
        }
        let mut shown = Vec::new();
        let mut look = Look {
            sanitizer: (!flow.active.is_empty()).then_some(&self.snapshot.sanitizer),
            found: &mut self.found,
            shown: &mut shown,
            ended: stream.connection.is_half_closed(),
            now,
        };
        let Stream {
            connection,
            inspection,
            ..
        } = &mut **stream;
        let (mut write, mut waits, mut holds) = (Some(write), false, false);
        let taken = connection.take(|bytes| {
            let ready = inspection.ready(bytes, &mut look);
            waits = ready < bytes.len();
            holds = ready == 0;
            let Some((write, ready)) = write.take().zip(bytes.get(..ready)).filter(|_| ready > 0)
            else {
                return 0;
            };
            let taken = write(ready).min(ready.len());
            inspection.taken(taken);
            taken
        });
        let still = look.found.is_empty() && look.shown.is_empty();
        let read_on = holds && still && inspection.read_on(connection, &mut look);
        if !shown.is_empty() {
            return match self.claim(id, shown, now) {
                true => Outgoing::Taken(0),
                false => Outgoing::Gone,
            };
        }
        if !self.found.is_empty() {
            return self.weigh_stream(id, now);
        }
        if read_on {
            return Outgoing::Taken(0);
        }
        if taken > 0 {
            flow.sent.add(taken);
            flow.used = now;
        }
        if waits {
            self.schedule(id, now + HOLD);
        }
        match taken {
            0 if waits => Outgoing::Empty,
            _ => Outgoing::Taken(taken),
        }
    }

    /// Lends room for bytes to the client, in place; `read` says how many it wrote. `None`: no room, or no flow.
    pub fn incoming(
        &mut self,
        id: FlowId,
        now: Time,
        read: impl FnOnce(&mut [u8]) -> usize,
    ) -> Option<usize> {
        let (_, flow) = self.flows.get_mut(id)?;
        let State::Stream(stream) = &mut flow.state else {
            return None;
        };
        if !stream.connection.has_room() {
            return None;
        }
        let put = stream.connection.put(read);
        if put > 0 {
            flow.received.add(put);
            flow.used = now;
        }
        Some(put)
    }

    /// The outside has said all.
    pub fn upstream_done(&mut self, id: FlowId) {
        if let Some((
            _,
            Flow {
                state: State::Stream(stream),
                ..
            },
        )) = self.flows.get_mut(id)
            && !stream.upstream_done
        {
            stream.upstream_done = true;
            stream.connection.close();
        }
    }

    /// The outside has reset the connection.
    pub fn upstream_reset(&mut self, id: FlowId, now: Time) {
        self.end(id, End::ResetOutside, now);
    }

    /// After pumping: emits what the connection has to say. True if it has more to say than the outbox had room for;
    /// call again once the packets are written.
    pub fn settle(&mut self, id: FlowId, now: Time) -> bool {
        let Some((
            _,
            Flow {
                state: State::Stream(stream),
                ..
            },
        )) = self.flows.get_mut(id)
        else {
            return false;
        };
        if self
            .terminator
            .emit(&mut stream.connection, &mut self.outbox, now)
        {
            return true;
        }
        match stream.connection.phase() {
            // Both are done with each other, but the outside has not yet taken all.
            Phase::Done if stream.connection.has_bytes() => {}
            Phase::Done => self.end(id, End::Done, now),
            Phase::Reset => self.end(id, End::ResetInside, now),
            Phase::Opening | Phase::Open => {
                if let Some(at) = self.terminator.deadline(&stream.connection, now) {
                    self.schedule(id, at.max(now));
                }
            }
        }
        false
    }

    pub(super) fn dial(
        &mut self,
        id: FlowId,
        permit: Permit,
        bytes: &[u8],
        parsed: &Parsed,
    ) -> Result<State, &'static str> {
        if self.dialing >= self.settings.limits.half_open {
            return Err("half-open");
        }
        self.dialing += 1;
        self.orders.push_back(Order::Dial { flow: id, permit });
        Ok(State::Dialing(
            bytes.get(..parsed.len).unwrap_or(bytes).into(),
        ))
    }

    pub(super) fn segment(&mut self, id: FlowId, bytes: &mut [u8], parsed: &Parsed, now: Time) {
        let Transport::Tcp(tcp) = parsed.transport else {
            return;
        };
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return;
        };
        match &mut flow.state {
            State::Stream(stream) => {
                self.terminator.segment(
                    &mut stream.connection,
                    bytes,
                    parsed,
                    &mut self.outbox,
                    now,
                );
                let out = stream.out;
                self.touch(id);
                match out {
                    Out::Undecided(_) => self.read_opening(id, now),
                    Out::Here => self.read_questions(id, now),
                    Out::Dialing(_) | Out::Connected => {}
                }
            }
            State::Dialing(syn) => {
                if tcp.flags & Tcp::RST != 0 {
                    self.end(id, End::ResetInside, now);
                } else if tcp.flags & (Tcp::SYN | Tcp::ACK) == Tcp::SYN {
                    // Of several SYNs the last counts: the client may have begun anew.
                    *syn = bytes.get(..parsed.len).unwrap_or(bytes).into();
                }
            }
            State::Blocked(reply) => {
                let reply = *reply;
                flow.used = now;
                flow.withheld += 1;
                self.answer_blocked(reply, bytes, parsed, now);
            }
            State::Waiting | State::Datagrams { .. } | State::Passed(_) => {}
        }
    }

    /// Puts a flow on the list of those to be pumped.
    pub(super) fn touch(&mut self, id: FlowId) {
        if let Some((
            _,
            Flow {
                state: State::Stream(stream),
                ..
            },
        )) = self.flows.get_mut(id)
            && !stream.dirty
        {
            stream.dirty = true;
            self.dirty.push(id);
        }
    }

    /// Sends a RST to the client.
    pub(super) fn abort(&mut self, id: FlowId, now: Time) {
        if let Some((
            _,
            Flow {
                state: State::Stream(stream),
                ..
            },
        )) = self.flows.get_mut(id)
        {
            stream.connection.abort();
            self.terminator
                .emit(&mut stream.connection, &mut self.outbox, now);
        }
    }

    /// Tells a client whose SYN is held what became of it.
    pub(super) fn answer_dialing(&mut self, id: FlowId, end: End, now: Time) {
        let Some((
            _,
            Flow {
                state: State::Dialing(syn),
                ..
            },
        )) = self.flows.get_mut(id)
        else {
            return;
        };
        let syn = std::mem::take(syn);
        let Ok(parsed) = Parsed::read(&syn, Checksum::Trust) else {
            return;
        };
        match end {
            End::ResetInside | End::Failed(Failure::TimedOut) => {}
            End::Failed(Failure::Unreachable) => {
                self.answer_unreachable(Unreachable::Host, &syn, &parsed, now)
            }
            End::Failed(Failure::Forbidden | Failure::Exit(_))
            | End::Rejudged
            | End::ExitDown
            | End::Shown
            | End::Named => self.answer_blocked(Reply::Reject, &syn, &parsed, now),
            End::Failed(Failure::Refused | Failure::Exhausted)
            | End::Done
            | End::ResetOutside
            | End::Idle
            | End::Blocked
            | End::Leaked
            | End::Shutdown => self.answer_reset(&parsed, now),
        }
    }

    /// Decides on a chunk of a stream in which something was found: the stream goes on, perhaps with other bytes, or ends
    /// before the chunk leaves.
    fn weigh_stream(&mut self, id: FlowId, now: Time) -> Outgoing {
        if self.weigh(id, Carrier::Ring, now) <= Payload::Rewritten {
            if let Some((
                _,
                Flow {
                    state: State::Stream(stream),
                    ..
                },
            )) = self.flows.get_mut(id)
            {
                stream.connection.take(|bytes| {
                    stream.inspection.judge(bytes.len());
                    0
                });
            }
            return Outgoing::Taken(0);
        }
        if let Some((_, flow)) = self.flows.get_mut(id) {
            flow.withheld += 1;
        }
        self.end(id, End::Leaked, now);
        Outgoing::Gone
    }
}
