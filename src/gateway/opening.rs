//! Flows that wait to be decided: answered here, and nothing of them leaves until what they show, or their time, decides.
//! Flows that were let go are read on: what they show later can only stop them.

use super::inspection::Inspection;
use super::judge::Judged;
use super::tcp::{Out, Stream};
use super::{Cause, End, Event, Flow, Gateway, Open, Order, State};
use crate::flow::{FlowId, FlowKey};
use crate::names::{self, Outcome, Protocol, Shown};
use crate::packet::{Offload, Parsed, protocol};
use crate::policy::{Evidence, Opening, Permit, Reply};
use crate::time::Time;
use std::time::Duration;

/// How long a client may take to show whom it asks for.
const WAIT: Duration = Duration::from_secs(2);
/// The same on ports where the server speaks first, and a client that waits for it would wait in vain.
const WAIT_FOR_SERVER: Duration = Duration::from_millis(200);
/// FTP, SSH, Telnet, SMTP, POP3, NNTP, IMAP, submission, MySQL, VNC.
const SERVER_FIRST: [u16; 11] = [21, 22, 23, 25, 110, 119, 143, 587, 2525, 3306, 5900];
/// Datagrams held back at most …
const HELD_PACKETS: usize = 8;
/// … and bytes of them.
const HELD_BYTES: usize = names::LONGEST_OPENING;
/// Datagrams that are read for a name when it was waited for in vain.
const READ: u32 = 32;
/// Names kept of one flow; the oldest goes first.
const NAMES: usize = 8;

/// What a flow has shown of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    names: Vec<(Box<str>, Evidence)>,
    opening: Opening,
    /// It was told that it claims what its client was not answered.
    told: bool,
}

/// The first datagrams of a flow, until they show whom it asks for.
#[derive(Debug)]
pub(super) struct Held {
    reader: names::Datagrams,
    packets: Vec<(Offload, Vec<u8>)>,
    until: Time,
    /// How many datagrams were read.
    read: u32,
}

impl Claims {
    pub(super) fn names(&self) -> &[(Box<str>, Evidence)] {
        &self.names
    }

    pub(super) fn opening(&self) -> Opening {
        self.opening
    }

    fn add(&mut self, shown: Shown) {
        let is_encrypted = matches!(shown.protocol, Protocol::Tls | Protocol::Quic);
        self.opening = Opening {
            sni_missing: Some(is_encrypted && shown.name.is_none()),
            cleartext: match shown.protocol {
                Protocol::Tls | Protocol::Quic => Some(false),
                Protocol::Http => Some(true),
                Protocol::Other => None,
            },
        };
        let evidence = match shown.protocol {
            _ if shown.outer => Evidence::Outer,
            Protocol::Tls | Protocol::Other => Evidence::Sni,
            Protocol::Http => Evidence::Host,
            Protocol::Quic => Evidence::Quic,
        };
        if let Some(name) = shown.name {
            self.names
                .retain(|known| *known != (name.clone(), evidence));
            if self.names.len() >= NAMES {
                self.names.remove(0);
            }
            self.names.push((name, evidence));
        }
    }
}

impl Held {
    fn new(now: Time) -> Self {
        Self {
            reader: names::Datagrams::default(),
            packets: Vec::new(),
            until: now + WAIT,
            read: 0,
        }
    }

    fn has_room(&self, more: usize) -> bool {
        let bytes: usize = self.packets.iter().map(|(_, packet)| packet.len()).sum();
        self.packets.len() < HELD_PACKETS && bytes + more <= HELD_BYTES
    }
}

impl Gateway {
    /// Begins to wait with a flow's first packet. TCP is answered, so that the client shows what it wants.
    pub(super) fn wait(
        &mut self,
        key: &FlowKey,
        bytes: &[u8],
        parsed: &Parsed,
        now: Time,
    ) -> Result<State, &'static str> {
        if key.protocol != protocol::TCP {
            return Ok(State::Waiting);
        }
        if self.dialing >= self.settings.limits.half_open {
            return Err("half-open");
        }
        let mut syn = bytes.get(..parsed.len).unwrap_or(bytes).to_vec();
        let connection = self
            .terminator
            .accept(&mut syn, parsed, &mut self.outbox, now)
            .ok_or("memory")?;
        self.dialing += 1;
        let server_first = SERVER_FIRST.contains(&key.dport);
        let wait = if server_first { WAIT_FOR_SERVER } else { WAIT };
        let out = Out::Undecided(now + wait);
        Ok(State::Stream(Box::new(Stream::new(
            connection,
            Inspection::new(true),
            out,
        ))))
    }

    /// Until when a flow is held back, if it is.
    pub(super) fn waits_until(&self, id: FlowId) -> Option<Time> {
        let (_, flow) = self.flows.get(id)?;
        match &flow.state {
            State::Waiting => Some(flow.opened + WAIT),
            State::Stream(stream) => match stream.out {
                Out::Undecided(until) => Some(until),
                Out::Dialing(_) | Out::Connected | Out::Here => None,
            },
            State::Blocked(_) | State::Dialing(_) | State::Datagrams { .. } | State::Passed(_) => {
                None
            }
        }
    }

    /// Reads what a waiting connection has sent so far, and decides if that is enough.
    pub(super) fn read_opening(&mut self, id: FlowId, now: Time) {
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return;
        };
        let State::Stream(stream) = &mut flow.state else {
            return;
        };
        let Out::Undecided(until) = stream.out else {
            return;
        };
        let mut shown = Vec::new();
        let mut sent = 0;
        let inspection = &mut stream.inspection;
        stream.connection.take(|bytes| {
            inspection.read_names(bytes, &mut shown);
            sent = bytes.len();
            0
        });
        let ended = stream.connection.is_half_closed();
        let waits = shown.is_empty() && inspection.is_waiting() && !ended;
        if !waits || sent >= names::LONGEST_OPENING || now >= until {
            self.decide_opening(id, shown, now);
        }
    }

    /// Reads a datagram of a flow that is still to show whom it asks for; true if it goes on now.
    pub(super) fn read_datagram(
        &mut self,
        id: FlowId,
        bytes: &[u8],
        parsed: &Parsed,
        offload: &Offload,
        now: Time,
    ) -> bool {
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return false;
        };
        if !flow.sniffs {
            return true;
        }
        let held = flow.held.get_or_insert_with(|| Box::new(Held::new(now)));
        let payload = parsed.payload(bytes);
        let step = match offload.gso_size {
            0 => payload.len().max(1),
            size => usize::from(size),
        };
        let mut outcome = Outcome::Wait;
        for datagram in payload.chunks(step) {
            held.read += 1;
            outcome = held.reader.read(datagram);
            if outcome != Outcome::Wait {
                break;
            }
        }
        let packet = bytes.get(..parsed.len).unwrap_or(bytes);
        let until = held.until;
        let waits = outcome == Outcome::Wait && held.has_room(packet.len()) && now < until;
        if waits || !held.packets.is_empty() {
            held.packets.push((*offload, packet.to_vec()));
        }
        if waits {
            self.schedule(id, until);
            return false;
        }
        let at_once = held.packets.is_empty();
        let goes = self.settle_datagrams(id, outcome, now);
        if !goes && at_once && self.flows.get(id).is_none() {
            self.answer_blocked(Reply::Reject, bytes, parsed, now);
        }
        at_once && self.flows.get(id).is_some()
    }

    /// The wheel called: a flow that still waits is decided with what is known.
    pub(super) fn end_waiting(&mut self, id: FlowId, now: Time) {
        if self.waits_until(id).is_some_and(|until| now >= until) {
            match self.flows.get(id) {
                Some((key, _)) if key.protocol == protocol::TCP => {
                    self.decide_opening(id, Vec::new(), now)
                }
                Some(_) => {
                    self.settle_datagrams(id, Outcome::Wait, now);
                }
                None => {}
            }
            return;
        }
        let Some((_, flow)) = self.flows.get(id) else {
            return;
        };
        let waits = |held: &Held| !held.packets.is_empty() && now >= held.until;
        if flow.held.as_deref().is_some_and(waits) {
            self.settle_datagrams(id, Outcome::Wait, now);
        }
    }

    /// Takes what a flow that was let go has shown; false if it must not go on, and is over.
    pub(super) fn claim(&mut self, id: FlowId, shown: Vec<Shown>, now: Time) -> bool {
        let Some((key, flow)) = self.flows.get_mut(id) else {
            return false;
        };
        let (key, before) = (*key, flow.cause);
        let claims = flow.claims.get_or_insert_default();
        shown.into_iter().for_each(|one| claims.add(one));
        let claims = (**claims).clone();
        let judged = self.judge(&key, Some(&claims), now);
        let same = super::judge::same_verdict(before, judged.cause);
        let contradicts = judged.contradicts_answers();
        if let Some((_, flow)) = self.flows.get_mut(id) {
            flow.cause = judged.cause;
            let first = contradicts && !claims.told;
            if let Some(claims) = &mut flow.claims {
                claims.told |= contradicts;
            }
            if first || !same {
                let open = Open {
                    flow: flow.serial,
                    at: now,
                    exit: judged.permit().ok().and_then(Permit::exit),
                    subject: judged.subject.clone(),
                    cause: judged.cause,
                    snapshot: std::sync::Arc::clone(&self.snapshot),
                };
                self.event(Event::Shown(Box::new(open)));
            }
        }
        if !same {
            self.end(id, End::Shown, now);
            self.keep_out(&key, judged, claims, now);
        }
        same
    }

    /// Blocks what a flow still sends that ended by what it has shown: begun anew in the middle, it would show nothing.
    fn keep_out(&mut self, key: &FlowKey, judged: Judged, claims: Claims, now: Time) {
        let Err(reply) = judged.permit() else {
            return;
        };
        let kept = self.insert_flow(key, judged, now, |_, _, _| Ok(State::Blocked(reply)));
        if let Ok(id) = kept
            && let Some((_, flow)) = self.flows.get_mut(id)
        {
            flow.claims = Some(Box::new(claims));
        }
    }

    /// Decides on a connection that waited, with what it has shown.
    fn decide_opening(&mut self, id: FlowId, shown: Vec<Shown>, now: Time) {
        let Some(permit) = self.decide(id, shown, now) else {
            return;
        };
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return;
        };
        match (permit, std::mem::replace(&mut flow.state, State::Waiting)) {
            (Ok(permit), State::Stream(mut stream)) => {
                stream.out = Out::Dialing(now);
                flow.state = State::Stream(stream);
                self.orders.push_back(Order::Dial { flow: id, permit });
                self.schedule(id, now + super::tcp::DIAL_TIMEOUT);
                self.touch(id);
            }
            (Err(reply), State::Stream(stream)) => {
                flow.state = State::Blocked(reply);
                flow.withheld += 1;
                self.dialing = self.dialing.saturating_sub(1);
                let mut connection = stream.into_connection();
                if reply == Reply::Reject {
                    connection.abort();
                    self.terminator.emit(&mut connection, &mut self.outbox, now);
                }
                self.terminator.recycle(connection);
            }
            (_, state) => flow.state = state,
        }
    }

    /// Decides on a flow of datagrams by what its first ones have shown, and has those that were held go on; false if it
    /// goes nowhere. What was waited for in vain is read on: it may still end the flow.
    fn settle_datagrams(&mut self, id: FlowId, outcome: Outcome, now: Time) -> bool {
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return false;
        };
        let packets = |held: &mut Box<Held>| std::mem::take(&mut held.packets);
        let held = flow.held.as_mut().map_or_else(Vec::new, packets);
        let reads_on = flow.held.as_ref().is_some_and(|held| held.read < READ);
        let shown = match outcome {
            Outcome::Wait if reads_on => Vec::new(),
            outcome @ (Outcome::Wait | Outcome::Shown(_) | Outcome::Unreadable) => {
                (flow.sniffs, flow.held) = (false, None);
                match outcome {
                    Outcome::Shown(shown) => vec![shown],
                    Outcome::Wait | Outcome::Unreadable => Vec::new(),
                }
            }
        };
        let count = u64::try_from(held.len()).unwrap_or(0);
        let goes = if matches!(flow.state, State::Waiting) {
            match self.decide(id, shown, now) {
                Some(Ok(_)) => self.begin_datagrams(id, now),
                Some(Err(reply)) => {
                    if let Some((_, flow)) = self.flows.get_mut(id) {
                        flow.state = State::Blocked(reply);
                        flow.withheld += count;
                    }
                    false
                }
                None => false,
            }
        } else {
            shown.is_empty() || self.claim(id, shown, now)
        };
        if goes {
            self.released.extend(held);
        }
        goes
    }

    /// Gives a flow of datagrams that was let go what it needs to go on.
    fn begin_datagrams(&mut self, id: FlowId, now: Time) -> bool {
        let Some((key, flow)) = self.flows.get(id) else {
            return false;
        };
        let (key, permit) = (*key, flow.permit);
        let begun = match permit {
            _ if self.passes(&key, permit, flow.active) => Ok(State::Passed(Box::default())),
            Some(permit) => self.map(id, permit),
            None => Ok(State::Blocked(Reply::Reject)),
        };
        match begun {
            Ok(state) => {
                if let Some((_, flow)) = self.flows.get_mut(id) {
                    flow.state = state;
                }
                true
            }
            Err(bound) => {
                self.refuse(bound, Some(key.src), now);
                self.end(id, End::Blocked, now);
                false
            }
        }
    }

    /// Judges a flow that waited once more, now for good, and tells of it.
    fn decide(
        &mut self,
        id: FlowId,
        shown: Vec<Shown>,
        now: Time,
    ) -> Option<Result<Permit, Reply>> {
        let (key, flow) = self.flows.get_mut(id)?;
        let key = *key;
        let mut claims = flow.claims.take().unwrap_or_default();
        shown.into_iter().for_each(|one| claims.add(one));
        let judged = self.judge(&key, Some(&claims), now);
        let permit = judged.permit();
        let contradicts = judged.contradicts_answers();
        claims.told = contradicts;
        let (_, flow) = self.flows.get_mut(id)?;
        (flow.cause, flow.permit) = (judged.cause, permit.ok());
        (flow.active, flow.claims) = (judged.active, Some(claims));
        if contradicts {
            let open = Open {
                flow: flow.serial,
                at: now,
                subject: judged.subject.clone(),
                cause: judged.cause,
                exit: permit.ok().and_then(Permit::exit),
                snapshot: std::sync::Arc::clone(&self.snapshot),
            };
            self.opened(id, &key, judged, now);
            self.event(Event::Shown(Box::new(open)));
        } else {
            self.opened(id, &key, judged, now);
        }
        Some(permit)
    }
}

impl Flow {
    /// It is neither let go nor blocked.
    pub(super) fn is_undecided(&self) -> bool {
        match &self.state {
            State::Waiting => true,
            State::Stream(stream) => matches!(stream.out, Out::Undecided(_)),
            State::Blocked(_) | State::Dialing(_) | State::Datagrams { .. } | State::Passed(_) => {
                false
            }
        }
    }
}

/// Whether a flow waits for what it may show, before its verdict is acted on.
pub(super) fn waits(cause: Cause, key: &FlowKey) -> bool {
    let has_opening = matches!(key.protocol, protocol::TCP | protocol::UDP);
    has_opening && matches!(cause, Cause::Policy(decision) if decision.needs_more())
}
