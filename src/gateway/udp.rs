//! UDP and echo: one socket for each client address and port, every new remote judged by the policy.

use super::payload::{Carrier, Payload};
use super::{Datagram, End, Fate, Flow, Gateway, MappingId, Order, State};
use crate::flow::{FlowId, FlowKey};
use crate::packet::build::{self, HEADROOM, Unreachable};
use crate::packet::{Checksum, Offload, Parsed, Transport, checksum, offload, protocol};
use crate::policy::{ExitId, Permit, Reply};
use crate::sanitize::{COMPARED, Context, Reading};
use crate::time::Time;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// Datagrams of a blocked flow that are still looked into: who was to be told what belongs into the report.
const BLOCKED_LOOKS: u64 = 3;

/// The remotes that share one socket.
#[derive(Debug, Default)]
pub(super) struct Mapping {
    /// Remote addresses with the number of flows to each: answers of others are not taken (address-dependent filtering).
    remotes: Vec<(IpAddr, u32)>,
}

/// Where bytes of an answer lie, for [`Gateway::reply`].
#[derive(Debug)]
pub struct Answer<'a> {
    /// The buffer; the payload reaches to its end.
    pub buffer: &'a mut [u8],
    /// Where the payload begins: at least [`Answer::ROOM`].
    pub payload: usize,
    /// Bytes of one datagram if the payload is several, else 0.
    pub segment: u16,
    /// Echo: the sequence number.
    pub sequence: u16,
}

/// What may leave of a payload, and what its last datagram proved to be.
pub(super) struct Sifted {
    pub(super) kept: Range<usize>,
    pub(super) reading: Option<Reading>,
    /// Some of the bytes are not the client's any more.
    pub(super) rewritten: bool,
}

impl Answer<'_> {
    /// Room before the payload for headers.
    pub const ROOM: usize = offload::LEN + HEADROOM;
}

impl Gateway {
    /// An answer came in on the socket of a mapping. Writes headers before it, in place, and says where in the buffer
    /// what is to be written to the link begins, offload header first; `None` if the client must not get it.
    pub fn reply(
        &mut self,
        mapping: MappingId,
        from: SocketAddr,
        answer: &mut Answer<'_>,
        now: Time,
    ) -> Option<usize> {
        let (mapped, _) = self.mappings.get(mapping.0)?;
        let mapped = *mapped;
        let key = Self::key_of_remote(&mapped, from);
        let id = match self.flows.find(&key) {
            Some(id) => id,
            None => self.open_from_outside(mapping, &key, from, now)?,
        };
        let (_, flow) = self.flows.get_mut(id)?;
        let State::Datagrams { answered, .. } = &mut flow.state else {
            return None;
        };
        *answered = true;
        flow.used = now;
        let payload = answer.buffer.get(answer.payload..)?;
        flow.received.add(payload.len());
        if key.dport == 53 && key.protocol == protocol::UDP {
            let renamed = self.shared.names().learn(key.src, payload, now);
            self.publish(key.src, &renamed);
        }
        let client = SocketAddr::new(key.src, key.sport);
        let (start, offload) = if key.protocol == protocol::UDP {
            let shown = SocketAddr::new(key.dst, key.dport);
            build::udp_in_place(answer.buffer, answer.payload, shown, client, answer.segment)
        } else {
            build::echo_reply_in_place(
                answer.buffer,
                answer.payload,
                key.dst,
                key.src,
                key.sport,
                answer.sequence,
            )
        };
        self.seal(answer.buffer, start, offload)
    }

    /// The kernel reported an ICMP error for a datagram of a mapping to `to`; `offender` is who sent it.
    pub fn unreachable(
        &mut self,
        mapping: MappingId,
        to: SocketAddr,
        why: Unreachable,
        offender: Option<IpAddr>,
    ) {
        let Some((mapped, _)) = self.mappings.get(mapping.0) else {
            return;
        };
        let key = Self::key_of_remote(mapped, to);
        let known = self.flows.find(&key).is_some();
        let from = offender.or_else(|| self.own_address(key.src));
        let (true, Some(from)) = (known && key.protocol == protocol::UDP, from) else {
            return;
        };
        // What the client sent is gone; its headers are enough to name the flow.
        let mut sent = [0; HEADROOM + 8];
        let (client, remote) = (
            SocketAddr::new(key.src, key.sport),
            SocketAddr::new(key.dst, key.dport),
        );
        let (start, _) = build::udp_in_place(&mut sent, HEADROOM, client, remote, 0);
        let Some(sent) = sent.get(start..) else {
            return;
        };
        if let Ok(parsed) = Parsed::read(sent, Checksum::Trust) {
            self.draft.clear();
            build::unreachable(&mut self.draft, &parsed, sent, why, from);
            self.send_draft();
        }
    }

    /// The socket of a mapping cannot be had or has broken: its flows end.
    pub fn mapping_failed(&mut self, mapping: MappingId, failure: super::Failure, now: Time) {
        let ends: Vec<FlowId> = self
            .flows
            .ids()
            .filter(|id| {
                matches!(self.flows.get(*id), Some((_, Flow { state: State::Datagrams { mapping: of, .. }, .. })) if *of == mapping)
            })
            .collect();
        for id in ends {
            self.end(id, End::Failed(failure), now);
        }
    }

    pub(super) fn map(&mut self, id: FlowId, permit: Permit) -> Result<State, &'static str> {
        let Some((key, _)) = self.flows.get(id) else {
            return Err("flow");
        };
        let remote = key.dst;
        let mapped = mapping_key(key, permit);
        let found = match self.mappings.find(&mapped) {
            Some(found) => found,
            None => {
                let made = self.mappings.insert(mapped, Mapping::default());
                let made = made.map_err(|bound| bound.name())?;
                self.shared.owners().add(&mapped, self.settings.shard);
                made
            }
        };
        if let Some((_, mapping)) = self.mappings.get_mut(found) {
            match mapping
                .remotes
                .iter_mut()
                .find(|(address, _)| *address == remote)
            {
                Some((_, flows)) => *flows += 1,
                None => mapping.remotes.push((remote, 1)),
            }
        }
        Ok(State::Datagrams {
            mapping: MappingId(found),
            answered: false,
        })
    }

    /// A flow of the mapping is over; with the last one the socket goes.
    pub(super) fn unmap(&mut self, mapping: MappingId, key: &FlowKey) {
        let Some((_, state)) = self.mappings.get_mut(mapping.0) else {
            return;
        };
        if let Some(at) = state
            .remotes
            .iter()
            .position(|(address, _)| *address == key.dst)
            && let Some((_, flows)) = state.remotes.get_mut(at)
        {
            *flows -= 1;
            if *flows == 0 {
                state.remotes.swap_remove(at);
            }
        }
        if state.remotes.is_empty() {
            if let Some((mapped, _)) = self.mappings.remove(mapping.0) {
                self.shared.owners().remove(&mapped, self.settings.shard);
            }
            self.orders.push_back(Order::Unmap { mapping });
        }
    }

    pub(super) fn datagram(
        &mut self,
        id: FlowId,
        bytes: &mut [u8],
        parsed: &Parsed,
        segment: u16,
        now: Time,
    ) -> Fate {
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return Fate::Done;
        };
        flow.used = now;
        match flow.state {
            State::Datagrams { .. } => self.send(id, bytes, parsed, segment, now),
            State::Blocked(reply) => {
                flow.withheld += 1;
                if flow.withheld <= BLOCKED_LOOKS {
                    let payload = parsed.payload(bytes);
                    self.inspect(id, payload, now);
                    self.weigh(id, Carrier::Fixed(payload), now);
                }
                self.answer_blocked(reply, bytes, parsed, now);
                Fate::Done
            }
            State::Waiting | State::Dialing(_) | State::Stream(_) | State::Passed(_) => Fate::Done,
        }
    }

    fn key_of_remote(mapped: &FlowKey, remote: SocketAddr) -> FlowKey {
        let dport = if mapped.protocol == protocol::UDP {
            remote.port()
        } else {
            0
        };
        FlowKey {
            dst: remote.ip(),
            dport,
            ..*mapped
        }
    }

    /// Another port of a remote that the client talks to has sent something: a new remote, judged like any other.
    fn open_from_outside(
        &mut self,
        mapping: MappingId,
        key: &FlowKey,
        from: SocketAddr,
        now: Time,
    ) -> Option<FlowId> {
        let (mapped, state) = self.mappings.get(mapping.0)?;
        if key.protocol != protocol::UDP
            || !state
                .remotes
                .iter()
                .any(|(address, _)| *address == from.ip())
        {
            return None;
        }
        let (mapped, judged) = (*mapped, self.judge(key, None, now));
        // Neither what is forbidden nor what would be answered by another way.
        let permit = judged.permit().ok()?;
        if mapping_key(key, permit) != mapped {
            return None;
        }
        self.insert_flow(key, judged, now, |gateway, id, _| gateway.map(id, permit))
            .ok()
    }
}

impl Gateway {
    /// Sends what of a payload may leave.
    fn send(
        &mut self,
        id: FlowId,
        bytes: &mut [u8],
        parsed: &Parsed,
        segment: u16,
        now: Time,
    ) -> Fate {
        let Some(Sifted { kept: payload, .. }) = self.sift(id, bytes, parsed, segment, now) else {
            return Fate::Done;
        };
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return Fate::Done;
        };
        let (State::Datagrams { mapping, .. }, Some(permit)) = (&flow.state, flow.permit) else {
            return Fate::Done;
        };
        flow.sent.add(payload.len());
        let echo = if let Transport::EchoRequest(echo) = parsed.transport {
            Some((echo.id, echo.seq))
        } else {
            None
        };
        let segment = if payload.len() > usize::from(segment) {
            segment
        } else {
            0
        };
        let dont_fragment =
            parsed.src.is_ipv4() && bytes.get(6).is_some_and(|flags| flags & 0x40 != 0);
        Fate::Send(Datagram {
            mapping: *mapping,
            permit,
            hop_limit: parsed.hop_limit,
            dont_fragment,
            segment,
            echo,
            payload,
            whole: false,
        })
    }

    /// Judges each datagram of a payload before any of it is sent, and moves those that may leave together. `None` if
    /// nothing is left.
    pub(super) fn sift(
        &mut self,
        id: FlowId,
        bytes: &mut [u8],
        parsed: &Parsed,
        segment: u16,
        now: Time,
    ) -> Option<Sifted> {
        let start = payload_start(parsed)?;
        let (_, flow) = self.flows.get(id)?;
        if flow.active.is_empty() {
            return Some(Sifted {
                kept: start..parsed.len,
                reading: None,
                rewritten: false,
            });
        }
        let step = if segment == 0 {
            parsed.len - start
        } else {
            usize::from(segment)
        };
        let udp = parsed.protocol == protocol::UDP;
        let (mut at, mut kept, mut rewritten) = (start, start, false);
        let reading = loop {
            let chunk = at..parsed.len.min(at + step);
            let reading = self.inspect(id, bytes.get(chunk.clone())?, now);
            let outcome = if self.found.is_empty() {
                Payload::Clear
            } else {
                let payload = bytes.get_mut(chunk.clone())?;
                let carrier = if udp {
                    Carrier::Datagram(payload)
                } else {
                    Carrier::Fixed(payload)
                };
                self.weigh(id, carrier, now)
            };
            rewritten |= outcome == Payload::Rewritten;
            if outcome <= Payload::Rewritten {
                bytes.copy_within(chunk.clone(), kept);
                kept += chunk.len();
            } else if let Some((_, flow)) = self.flows.get_mut(id) {
                flow.withheld += 1;
            }
            if outcome == Payload::EndFlow {
                self.end(id, End::Leaked, now);
                self.answer_blocked(Reply::Reject, bytes, parsed, now);
                return None;
            }
            at = chunk.end;
            if at >= parsed.len {
                break reading;
            }
        };
        (kept > start || parsed.len == start).then_some(Sifted {
            kept: start..kept,
            reading,
            rewritten,
        })
    }

    /// Looks into one datagram, and says what it proved to be; findings are left in `found`.
    pub(super) fn inspect(&mut self, id: FlowId, payload: &[u8], now: Time) -> Option<Reading> {
        let (key, flow) = self.flows.get(id)?;
        let context = Context {
            client: key.src,
            sport: key.sport,
            remote: SocketAddr::new(key.dst, key.dport),
            index: u32::try_from(flow.sent.packets + flow.withheld).unwrap_or(u32::MAX),
            now,
            blocked: matches!(flow.state, State::Blocked(_)),
        };
        let Self {
            snapshot,
            shared,
            no_memory,
            found,
            ..
        } = self;
        let sanitizer = &snapshot.sanitizer;
        if context.index >= COMPARED && !shared.is_alert() {
            return sanitizer.datagram(no_memory, &context, payload, found);
        }
        let before = found.len();
        let reading = sanitizer.datagram(&mut shared.memory(), &context, payload, found);
        if found.len() > before {
            shared.alert();
        }
        reading
    }

    /// Completes a packet of ours for the link; says where its offload header begins.
    fn seal(&self, buffer: &mut [u8], start: usize, mut offload: Offload) -> Option<usize> {
        if !self.settings.shape.offload {
            checksum::complete(buffer.get_mut(start..)?, &mut offload);
        }
        if start >= buffer.len() {
            return None;
        }
        let header = start.checked_sub(offload::LEN)?;
        buffer
            .get_mut(header..start)?
            .copy_from_slice(&offload.encode());
        Some(header)
    }
}

fn payload_start(parsed: &Parsed) -> Option<usize> {
    match parsed.transport {
        Transport::Udp(udp) => Some(udp.payload),
        Transport::EchoRequest(echo) => Some(echo.payload),
        Transport::Tcp(_)
        | Transport::EchoReply(_)
        | Transport::IcmpError(_)
        | Transport::Fragment(_)
        | Transport::Other => None,
    }
}

/// What the remotes of one socket have in common: the client's address and port, and the way out, which takes the place
/// of the remote's port.
fn mapping_key(key: &FlowKey, permit: Permit) -> FlowKey {
    let any = match key.src {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    };
    FlowKey {
        dst: any,
        dport: permit.exit().map_or(0, ExitId::number),
        ..*key
    }
}
