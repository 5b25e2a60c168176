//! Questions of clients to resolvers: port 53 of any address is answered here, with answers of the resolvers that are
//! configured, and what of them each client may be given.

use super::{Event, Gateway, Leak, Subject};
use crate::flow::{FlowId, FlowKey};
use crate::jurisdiction::Special;
use crate::names::{self, Question};
use crate::packet::{Offload, Parsed, build, protocol};
use crate::policy::{Action, Evidence, Permit, Reply, Route, Verdict};
use crate::sanitize::{Context, Excerpt};
use crate::time::Time;
use hickory_proto::op::{Message, ResponseCode};
use ipnet::IpNet;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A client waits no longer for a resolver if an answer past its time is there (RFC 8767, section 5).
const PATIENCE: Duration = Duration::from_millis(1800);
/// The port of questions in the clear.
pub(super) const PORT: u16 = 53;
/// Questions under way in all, and of one client.
const UNDER_WAY: usize = 4096;
const UNDER_WAY_OF_ONE: u32 = 128;
/// Browsers ask for it before they go past the network's resolver.
const CANARY: &str = "use-application-dns.net";
/// The name under which rules meet a resolver that is configured by its address (RFC 9462, section 4).
const RESOLVER: &str = "resolver.arpa";
/// Names that belong to the inside, and may lead there (RFC 6762, appendix G; RFC 8375; RFC 6761).
const INSIDE: [&str; 7] = [
    "lan",
    "local",
    "internal",
    "home.arpa",
    "localhost",
    "intranet",
    "private",
];

/// How questions are answered.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    /// The resolvers that may be asked.
    pub upstreams: Vec<Upstream>,
    /// Which of them for what; the first that fits counts.
    pub routes: Vec<Lane>,
    /// Names that may lead to private addresses, with all below them, beside those that always may.
    pub private: Vec<Box<str>>,
}

/// A resolver.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// Where it is asked.
    pub address: SocketAddr,
    /// By TCP or UDP.
    pub protocol: u8,
    /// The name that its certificate must have; none if it is asked in the clear.
    pub name: Option<Box<str>>,
}

/// Which resolvers are asked for which names by whom.
#[derive(Clone, Debug, Default)]
pub struct Lane {
    /// These and all below them; empty: all.
    pub domains: Vec<Box<str>>,
    /// These clients; empty: all.
    pub sources: Vec<IpNet>,
    /// Places among the upstreams, in the order in which they are asked.
    pub upstreams: Vec<usize>,
}

/// A question for the shell to ask; then it tells [`Gateway::resolved`].
#[derive(Clone, Debug)]
pub struct Ask {
    /// Number of the question.
    pub id: u64,
    /// What to ask: nothing of the client is in it.
    pub message: Message,
    /// Whom, by place and in this order; each with the right to.
    pub upstreams: Vec<(usize, Permit)>,
}

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

/// What comes of a question at once.
enum Outcome {
    Answer(Message),
    Silence,
    Ask(Vec<(usize, Permit)>),
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
            self.shared.cache().put(question.key(), message, now);
        }
        let Some(way) = way else {
            return;
        };
        let message = message.or_else(|| self.stale(&question, now));
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
            let Some(pending) = self.questions.pending.get_mut(&id) else {
                continue;
            };
            let Some(way) = pending.way.take() else {
                continue;
            };
            let (question, client) = (pending.question.clone(), pending.client);
            let Some(message) = self.stale(&question, now) else {
                if let Some(pending) = self.questions.pending.get_mut(&id) {
                    pending.way = Some(way);
                }
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
    fn stale(&self, question: &Question, now: Time) -> Option<Message> {
        let (mut cache, key) = (self.shared.cache(), question.key());
        let stale = cache.stale(&key, now)?;
        cache.failed(&key, now);
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
        let upstreams = match self.look_up(way.client(), &question, now) {
            Outcome::Answer(message) => {
                self.give(way, &question, message);
                return false;
            }
            Outcome::Silence => return false,
            Outcome::Ask(upstreams) => upstreams,
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
        if self.shared.cache().stale(&question.key(), now).is_some() {
            questions.overdue.push_back((now + PATIENCE, id));
        }
        let way = Some(way);
        let pending = Pending {
            question,
            client,
            way,
        };
        questions.pending.insert(id, pending);
        true
    }

    fn look_up(&mut self, client: IpAddr, question: &Question, now: Time) -> Outcome {
        let refuse = |code| Outcome::Answer(question.refuse(code));
        if question.name() == CANARY {
            return refuse(ResponseCode::NXDomain);
        }
        let nowhere = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
        // Of no protocol: a flow that could show another name would leave it open.
        let subject = self.subject_of(client, 0, nowhere, question.name());
        let Self { snapshot, .. } = self;
        let blocked =
            subject.with_facts(&snapshot.data, |facts| snapshot.policy.blocks_name(facts));
        if let Some((_, reply)) = blocked {
            self.refuse("blocked-name", Some(client), now);
            return match reply {
                Reply::Reject => refuse(ResponseCode::NXDomain),
                Reply::Drop => Outcome::Silence,
            };
        }
        let upstreams = self.upstreams(client, question, now);
        if upstreams.is_empty() {
            self.refuse("resolver", Some(client), now);
            return refuse(ResponseCode::Refused);
        }
        let cached = self.shared.cache().fresh(&question.key(), now);
        match cached {
            Some(cached) => Outcome::Answer(self.screened(client, question, cached.message(), now)),
            None => Outcome::Ask(upstreams),
        }
    }

    /// The resolvers that this client's question may go to: a question is judged like a flow of the client's own.
    fn upstreams(
        &mut self,
        client: IpAddr,
        question: &Question,
        now: Time,
    ) -> Vec<(usize, Permit)> {
        let Some(dns) = self.settings.dns.clone() else {
            return Vec::new();
        };
        let fits = |lane: &&Lane| {
            let domains = &lane.domains;
            (domains.is_empty() || names::is_below(question.name(), domains))
                && (lane.sources.is_empty() || lane.sources.iter().any(|net| net.contains(&client)))
        };
        let Some(lane) = dns.routes.iter().find(fits) else {
            return Vec::new();
        };
        let mut permitted = Vec::new();
        for place in &lane.upstreams {
            let Some(upstream) = dns.upstreams.get(*place) else {
                continue;
            };
            let name = upstream.name.as_deref().unwrap_or(RESOLVER);
            let subject = self.subject_of(client, upstream.protocol, upstream.address, name);
            let Self { snapshot, .. } = self;
            let decision =
                subject.with_facts(&snapshot.data, |facts| snapshot.policy.decide(facts));
            if let Verdict::Pass(permit) = decision.verdict
                && permit.route() == Route::Direct
                && (upstream.name.is_some() || !self.gives_away(&subject, question, now))
            {
                permitted.push((*place, permit));
            }
        }
        permitted
    }

    /// Whether a question in the clear has something in it that must not leave; tells of it.
    fn gives_away(&mut self, subject: &Subject, question: &Question, now: Time) -> bool {
        let snapshot = Arc::clone(&self.snapshot);
        let active = subject.with_facts(&snapshot.data, |facts| snapshot.policy.active(facts));
        if active.is_empty() {
            return false;
        }
        let Ok(bytes) = question.to_others().to_vec() else {
            return true;
        };
        let context = Context {
            client: subject.key.src,
            sport: 0,
            remote: subject.destination,
            index: 0,
            now,
            blocked: false,
        };
        let mut found = std::mem::take(&mut self.found);
        snapshot
            .sanitizer
            .datagram(&mut self.no_memory, &context, &bytes, &mut found);
        let mut stops = false;
        for finding in &found {
            let Some((entry, action)) = snapshot.policy.action(active, finding) else {
                continue;
            };
            let stopped = action > Action::Report;
            stops |= stopped;
            self.serial += 1;
            self.event(Event::Leak(Box::new(Leak {
                flow: self.serial,
                key: subject.key,
                at: now,
                finding: finding.clone(),
                excerpt: Excerpt::of(&bytes, finding, &found),
                entry: Some(entry),
                action: Some(action),
                sent: !stopped,
                redacted: false,
                snapshot: Arc::clone(&snapshot),
            })));
        }
        found.clear();
        self.found = found;
        stops
    }

    /// What of an answer this client is given, and what is learned from it.
    fn screened(
        &mut self,
        client: IpAddr,
        question: &Question,
        mut message: Message,
        now: Time,
    ) -> Message {
        let name = question.name();
        let snapshot = Arc::clone(&self.snapshot);
        let inside = INSIDE.map(Box::from);
        let private = self.settings.dns.as_ref().map(|dns| &dns.private[..]);
        let may_be_inside = names::is_below(name, &inside)
            || names::is_below(name, private.unwrap_or_default())
            || !name.contains('.');
        let is_inside = |address| {
            use Special::{Cgnat, LinkLocal, Loopback, Private, Unspecified};
            matches!(
                snapshot.data.lookup(address).special,
                Some(Private | Loopback | LinkLocal | Cgnat | Unspecified)
            )
        };
        if !may_be_inside && names::rebinds(&message, is_inside) {
            self.refuse("rebinding", Some(client), now);
            return question.refuse(ResponseCode::Refused);
        }
        let forbids = |address| {
            let to = SocketAddr::new(address, 443);
            let subject = self.subject_of(client, protocol::TCP, to, name);
            let decision =
                subject.with_facts(&snapshot.data, |facts| snapshot.policy.decide(facts));
            matches!(decision.verdict, Verdict::Block(_)) && !decision.needs_more()
        };
        question.put_into(&mut message);
        names::screen(&mut message, forbids, snapshot.policy.asks_for_names());
        let renamed = self.shared.names().learn_message(client, &message, now);
        self.publish(client, &renamed);
        message
    }

    /// What is known of a flow of a client to an address that it calls so.
    fn subject_of(&self, client: IpAddr, protocol: u8, to: SocketAddr, name: &str) -> Subject {
        Subject {
            key: FlowKey {
                protocol,
                src: client,
                dst: to.ip(),
                sport: 0,
                dport: to.port(),
            },
            destination: to,
            address: self.snapshot.data.lookup(to.ip()),
            names: vec![(name.into(), Evidence::Dns { age: 0 })],
            mac: self.neighbours.get(&client).copied(),
            opening: crate::policy::Opening::default(),
            wall: self.wall,
        }
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
