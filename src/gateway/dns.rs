//! Questions of clients to resolvers: port 53 of any address is answered here, with answers of the resolvers that are
//! configured, and what of them each client may be given.

use super::{Event, Gateway, Leak, Subject};
use crate::flow::FlowKey;
use crate::jurisdiction::Special;
use crate::names::{self, Question};
use crate::packet::protocol;
use crate::policy::{Action, Evidence, Permit, Reply, Route, Verdict};
use crate::sanitize::{Context, Excerpt};
use crate::time::Time;
use hickory_proto::op::{Message, ResponseCode};
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

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

/// What comes of a question at once.
pub(super) enum Outcome {
    Answer(Message),
    Silence,
    /// The lane, and whom to ask.
    Ask(usize, Vec<(usize, Permit)>),
}

impl Gateway {
    /// What comes of a question.
    pub(super) fn look_up(&mut self, client: IpAddr, question: &Question, now: Time) -> Outcome {
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
        let (lane, mut permitted) = self.permitted(client, question);
        if permitted.is_empty() {
            self.refuse("resolver", Some(client), now);
            return refuse(ResponseCode::Refused);
        }
        let cached = self.shared.cache().fresh(&question.key(lane), now);
        if let Some(cached) = cached {
            let message = self.screened(client, question, cached.message(), now);
            return Outcome::Answer(message);
        }
        permitted.retain(|(place, _)| !self.gives_away(client, *place, question, now));
        if permitted.is_empty() {
            self.refuse("resolver", Some(client), now);
            return refuse(ResponseCode::Refused);
        }
        Outcome::Ask(lane, permitted)
    }

    /// The lane of a question, and its resolvers that this client may ask: a question is judged like a flow of the
    /// client's own.
    fn permitted(&self, client: IpAddr, question: &Question) -> (usize, Vec<(usize, Permit)>) {
        let routes = self.settings.dns.as_ref().map(|dns| &dns.routes[..]);
        let fits = |(_, lane): &(usize, &Lane)| {
            let domains = &lane.domains;
            (domains.is_empty() || names::is_below(question.name(), domains))
                && (lane.sources.is_empty() || lane.sources.iter().any(|net| net.contains(&client)))
        };
        let mut routes = routes.unwrap_or_default().iter().enumerate();
        let Some((number, lane)) = routes.find(fits) else {
            return (0, Vec::new());
        };
        let permit = |place: &usize| {
            let subject = self.subject_of_asking(client, *place)?;
            let Self { snapshot, .. } = self;
            let decision =
                subject.with_facts(&snapshot.data, |facts| snapshot.policy.decide(facts));
            match decision.verdict {
                Verdict::Pass(permit) if permit.route() == Route::Direct => Some((*place, permit)),
                Verdict::Pass(_) => Some((*place, self.permitted_by_exit(client, *place)?)),
                Verdict::Block(_) => None,
            }
        };
        (number, lane.upstreams.iter().filter_map(permit).collect())
    }

    /// The right to ask a resolver by the exit that the policy names for it: by TCP, which all exits carry, and so judged as
    /// that; never in any other way than by an exit.
    fn permitted_by_exit(&self, client: IpAddr, place: usize) -> Option<Permit> {
        let upstream = self.settings.dns.as_ref()?.upstreams.get(place)?;
        // QUIC is no stream.
        if upstream.protocol == protocol::UDP && upstream.name.is_some() {
            return None;
        }
        let name = upstream.name.as_deref().unwrap_or(RESOLVER);
        let subject = self.subject_of(client, protocol::TCP, upstream.address, name);
        let decision = subject.with_facts(&self.snapshot.data, |facts| {
            self.snapshot.policy.decide(facts)
        });
        let permit = self.way_out(decision).1.ok()?;
        permit.exit().map(|_| permit)
    }

    /// What is known of a flow of a client to one of the upstreams.
    fn subject_of_asking(&self, client: IpAddr, place: usize) -> Option<Subject> {
        let upstream = self.settings.dns.as_ref()?.upstreams.get(place)?;
        let name = upstream.name.as_deref().unwrap_or(RESOLVER);
        Some(self.subject_of(client, upstream.protocol, upstream.address, name))
    }

    fn is_encrypted(&self, place: usize) -> bool {
        let upstreams = self.settings.dns.as_ref().map(|dns| &dns.upstreams);
        let upstream = upstreams.and_then(|upstreams| upstreams.get(place));
        upstream.is_some_and(|upstream| upstream.name.is_some())
    }

    /// Whether a question in the clear has something in it that must not leave; tells of it.
    fn gives_away(&mut self, client: IpAddr, place: usize, question: &Question, now: Time) -> bool {
        if self.is_encrypted(place) {
            return false;
        }
        let Some(subject) = self.subject_of_asking(client, place) else {
            return true;
        };
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
    pub(super) fn screened(
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
}
