//! Questions as they come and go: each is answered at once, or asked of others and answered when they have, or have not.

use super::Gateway;
use super::dns::{Ask, Outcome};
use crate::flow::{FlowId, FlowKey};
use crate::names::{Key, Question};
use crate::packet::{Offload, Parsed, build, protocol};
use crate::time::Time;
use hickory_proto::op::{Message, ResponseCode};
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A client waits no longer for a resolver if an answer past its time is there (RFC 8767, section 5).
const PATIENCE: Duration = Duration::from_millis(1800);
/// The port of questions in the clear.
const PORT: u16 = 53;
/// Questions under way in all, and of one client.
const UNDER_WAY: usize = 4096;
const UNDER_WAY_OF_ONE: u32 = 128;
/// Questions under way.
#[derive(Debug, Default)]
pub(super) struct Questions {
    next: u64,
    pending: HashMap<u64, Pending>,
    /// Those of them to which there is an answer past its time, and when it is given; oldest first.
    overdue: VecDeque<(Time, u64)>,
    of_clients: HashMap<IpAddr, u32>,
    asks: VecDeque<Ask>,
}

#[derive(Debug)]
struct Pending {
    question: Question,
    lane: usize,
    client: IpAddr,
    /// None: it was answered meanwhile.
    way: Option<Way>,
}

/// How a question came, and how its answer goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    Datagram {
        client: SocketAddr,
        /// As the client knows it.
        server: SocketAddr,
    },
    Stream {
        client: IpAddr,
        flow: FlowId,
    },
}

impl Way {
    fn client(self) -> IpAddr {
        match self {
            Self::Datagram { client, .. } => client.ip(),
            Self::Stream { client, .. } => client,
        }
    }
}

impl Gateway {
    /// The next question for the shell to ask.
    pub fn next_ask(&mut self) -> Option<Ask> {
        self.questions.asks.pop_front()
    }

    /// What a resolver answered to a question; `None` if none did.
    pub fn resolved(&mut self, id: u64, message: Option<Message>, now: Time) {
        let Some(pending) = self.questions.pending.remove(&id) else {
            return;
        };
        let Pending {
            question,
            lane,
            client,
            way,
        } = pending;
        if let Some(count) = self.questions.of_clients.get_mut(&client) {
            *count -= 1;
            if *count == 0 {
                self.questions.of_clients.remove(&client);
            }
        }
        if let Some(message) = &message {
            self.shared.cache().put(question.key(lane), message, now);
        }
        let Some(way) = way else {
            return;
        };
        let message = message.or_else(|| self.stale(&question.key(lane), now));
        let message = match message {
            Some(message) => self.screened(client, &question, message, now),
            None => question.refuse(ResponseCode::ServFail),
        };
        self.give(way, &question, message);
        if let Way::Stream { flow, .. } = way {
            self.paid(flow);
        }
    }

    /// When [`answer_overdue`](Self::answer_overdue) has something to do.
    pub(super) fn next_overdue(&self) -> Option<Time> {
        self.questions.overdue.front().map(|(at, _)| *at)
    }

    /// Gives answers past their time to clients whose resolver takes too long; it is waited for on.
    pub(super) fn answer_overdue(&mut self, now: Time) {
        while let Some((_, id)) = self.questions.overdue.pop_front_if(|(at, _)| *at <= now) {
            let Some(pending) = self.questions.pending.get(&id) else {
                continue;
            };
            let (question, client, lane) = (pending.question.clone(), pending.client, pending.lane);
            let Some(message) = self.stale(&question.key(lane), now) else {
                continue;
            };
            let pending = self.questions.pending.get_mut(&id);
            let Some(way) = pending.and_then(|pending| pending.way.take()) else {
                continue;
            };
            let message = self.screened(client, &question, message, now);
            self.give(way, &question, message);
            if let Way::Stream { flow, .. } = way {
                self.paid(flow);
            }
        }
    }

    /// What there is when no resolver answers in time.
    fn stale(&self, key: &Key, now: Time) -> Option<Message> {
        let mut cache = self.shared.cache();
        let stale = cache.stale(key, now)?;
        cache.failed(key, now);
        Some(stale.message())
    }

    /// Whether a packet is a question that is answered here.
    pub(super) fn is_question(&self, key: &FlowKey) -> bool {
        let has_ports = matches!(key.protocol, protocol::UDP | protocol::TCP);
        self.settings.dns.is_some() && key.dport == PORT && has_ports
    }

    /// Takes the questions of a packet.
    pub(super) fn ask_by_datagram(
        &mut self,
        key: &FlowKey,
        bytes: &[u8],
        parsed: &Parsed,
        offload: &Offload,
        now: Time,
    ) {
        let way = Way::Datagram {
            client: SocketAddr::new(key.src, key.sport),
            server: SocketAddr::new(key.dst, key.dport),
        };
        let payload = parsed.payload(bytes);
        let step = match offload.gso_size {
            0 => payload.len().max(1),
            size => usize::from(size),
        };
        for datagram in payload.chunks(step) {
            self.ask(way, datagram, now);
        }
    }

    /// Takes one question: answers it, or has it asked. True if its answer is still to come.
    pub(super) fn ask(&mut self, way: Way, bytes: &[u8], now: Time) -> bool {
        let question = match Question::read(bytes) {
            Ok(question) => question,
            Err(refusal) => {
                if let Some(refusal) = refusal {
                    self.deliver(way, &refusal);
                }
                return false;
            }
        };
        let (lane, upstreams) = match self.look_up(way.client(), &question, now) {
            Outcome::Answer(message) => {
                self.give(way, &question, message);
                return false;
            }
            Outcome::Silence => return false,
            Outcome::Ask(lane, upstreams) => (lane, upstreams),
        };
        let questions = &mut self.questions;
        let count = questions.of_clients.get(&way.client()).copied();
        let count = count.unwrap_or_default();
        if count >= UNDER_WAY_OF_ONE || questions.pending.len() >= UNDER_WAY {
            self.refuse("questions", Some(way.client()), now);
            let message = question.refuse(ResponseCode::ServFail);
            self.give(way, &question, message);
            return false;
        }
        questions.of_clients.insert(way.client(), count + 1);
        questions.next += 1;
        questions.asks.push_back(Ask {
            id: questions.next,
            message: question.to_others(),
            upstreams,
        });
        let id = questions.next;
        let client = way.client();
        if self
            .shared
            .cache()
            .stale(&question.key(lane), now)
            .is_some()
        {
            questions.overdue.push_back((now + PATIENCE, id));
        }
        let way = Some(way);
        let pending = Pending {
            question,
            lane,
            client,
            way,
        };
        questions.pending.insert(id, pending);
        true
    }

    fn give(&mut self, way: Way, question: &Question, message: Message) {
        let by_udp = matches!(way, Way::Datagram { .. });
        let answer = question
            .answer(message, by_udp)
            .or_else(|| question.answer(question.refuse(ResponseCode::ServFail), by_udp));
        if let Some(answer) = answer {
            self.deliver(way, &answer);
        }
    }

    fn deliver(&mut self, way: Way, answer: &[u8]) {
        match way {
            Way::Datagram { client, server } => {
                let mut packet = vec![0; build::HEADROOM];
                packet.extend_from_slice(answer);
                let (start, offload) =
                    build::udp_in_place(&mut packet, build::HEADROOM, server, client, 0);
                self.send_built(packet.get_mut(start..).unwrap_or_default(), offload);
            }
            Way::Stream { flow, .. } => self.answer_by_stream(flow, answer),
        }
    }
}
