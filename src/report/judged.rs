//! A flow of a capture together with what a policy says of it.

use super::audit::{Flow, Told};
use crate::jurisdiction::{AddressFacts, Country, Data};
use crate::policy::{
    Action, Evidence, Facts, Name, Opening, Policy, Reply, Source, Verdict, canonical_name,
};
use crate::sanitize::Finding;
use crate::time::Time;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// Addresses whose verdict is remembered.
const MOST_ADDRESSES: usize = 65_536;

/// Judges flows by one policy and one set of data.
pub struct Judge<'a> {
    policy: &'a Policy,
    data: &'a Data,
    blocked: HashMap<SocketAddr, bool, foldhash::fast::RandomState>,
}

/// A flow, whom it went to and what the policy says of it.
#[derive(Debug)]
pub struct Judged {
    /// The flow.
    pub flow: Flow,
    /// Facts of its destination.
    pub facts: AddressFacts,
    /// Two letters; none for a special or unknown address.
    pub country: Option<Country>,
    /// Short name and name of the operator.
    pub operator: Option<(String, String)>,
    /// `allow`, `block` or `reroute`.
    pub verdict: &'static str,
    /// What gave it.
    pub rule: String,
    /// How a blocked flow is answered.
    pub reply: Option<Reply>,
    /// The rule that only observes and would have decided otherwise.
    pub would: Option<String>,
    /// What the policy wants done for each finding, and by which entry.
    pub actions: Vec<Option<(String, Action)>>,
    /// Frames that were to be stopped and left before that could be known.
    pub leaked: usize,
}

impl<'a> Judge<'a> {
    /// A judge.
    pub fn new(policy: &'a Policy, data: &'a Data) -> Self {
        Self {
            policy,
            data,
            blocked: HashMap::default(),
        }
    }

    /// Whether the policy blocks a datagram to this address, as far as the address alone tells.
    pub fn blocks(&mut self, client: IpAddr, destination: SocketAddr, at: Time) -> bool {
        if let Some(blocked) = self.blocked.get(&destination) {
            return *blocked;
        }
        let facts = self.facts(client, (17, destination), &[], at);
        let blocked = matches!(self.policy.decide(&facts).verdict, Verdict::Block(_));
        if self.blocked.len() < MOST_ADDRESSES {
            self.blocked.insert(destination, blocked);
        }
        blocked
    }

    /// Judges a flow that is over, with everything it told.
    pub fn judge(&self, flow: Flow) -> Judged {
        let left = flow.leaked.len();
        let names = evidence(&flow);
        let names: Vec<Name<'_>> = names
            .iter()
            .map(|(name, evidence)| Name {
                name,
                evidence: *evidence,
            })
            .collect();
        let key = flow.key;
        let mut facts = self.facts(
            key.source.ip(),
            (key.protocol, key.destination),
            &names,
            flow.last,
        );
        facts.opening = opening(&flow);
        let decision = self.policy.decide(&facts);
        let active = self.policy.active(&facts);
        let actions: Vec<Option<(String, Action)>> = flow
            .findings
            .iter()
            .map(|told| {
                let (entry, action) = self.policy.action(active, &finding(told))?;
                Some((self.policy.sanitizer_id(entry).to_owned(), action))
            })
            .collect();
        let (verdict, reply) = match decision.verdict {
            Verdict::Block(reply) => (decision.verdict.name(), Some(reply)),
            Verdict::Pass(_) => (decision.verdict.name(), None),
        };
        let stops = |action: &Action| *action > Action::Report;
        let stopped = actions.iter().flatten().any(|(_, action)| stops(action));
        let would_stop = stopped || self.stops_fanouts(active);
        Judged {
            country: facts.address.country,
            operator: self
                .data
                .operator_behind(&facts.address, names.iter().map(|name| name.name))
                .map(|operator| (operator.id.clone(), operator.name.clone())),
            facts: facts.address,
            rule: self.policy.rule_id(decision.origin).to_owned(),
            would: decision
                .observed
                .map(|origin| self.policy.rule_id(origin).to_owned()),
            leaked: if would_stop && reply.is_none() {
                left
            } else {
                0
            },
            verdict,
            reply,
            actions,
            flow,
        }
    }

    /// The country of an address, for fan-outs.
    pub fn country(&self, address: IpAddr) -> Option<Country> {
        self.data.lookup(address).country
    }

    fn stops_fanouts(&self, active: crate::policy::Active) -> bool {
        let finding = Finding {
            class: crate::sanitize::Class::PersonId,
            detector: "probe-fanout",
            field: String::new(),
            leak: "probe-fanout",
            certainty: crate::sanitize::Certainty::Probable,
            span: 0..0,
            earlier: (0, 0),
            decoded: false,
            sample: String::new(),
        };
        self.policy
            .action(active, &finding)
            .is_some_and(|(_, action)| action > Action::Report)
    }

    fn facts<'n>(
        &'n self,
        client: IpAddr,
        (protocol, destination): (u8, SocketAddr),
        names: &'n [Name<'n>],
        at: Time,
    ) -> Facts<'n> {
        Facts {
            source: Source {
                address: client,
                mac: None,
                peer: None,
            },
            protocol,
            destination,
            address: self.data.lookup(destination.ip()),
            names,
            opening: Opening::default(),
            data: self.data,
            wall: Some(at.as_nanos() / 1_000_000_000),
        }
    }
}

fn opening(flow: &Flow) -> Opening {
    let Some(reading) = flow.reading else {
        return Opening::default();
    };
    let names = matches!(reading.protocol, "tls" | "quic");
    Opening {
        sni_missing: names.then_some(flow.names.is_empty()),
        cleartext: Some(!reading.sealed && !names),
    }
}

/// The names of the destination, and how they are known.
fn evidence(flow: &Flow) -> Vec<(String, Evidence)> {
    let told = flow.names.iter().filter_map(|name| {
        let name = canonical_name(name.split(':').next()?)?;
        Some((name, Evidence::Sni))
    });
    let resolved = flow.resolved.iter().map(|(name, at)| {
        let age = u32::try_from(flow.first.since(*at).as_secs()).unwrap_or(u32::MAX);
        (name.to_string(), Evidence::Dns { age })
    });
    // Where the capture holds no answers, its maker had a resolver that is not in it: what flows show is taken for
    // answered.
    let taken = told
        .clone()
        .filter(|_| flow.resolved.is_empty())
        .map(|(name, _)| (name, Evidence::Dns { age: 0 }));
    taken.chain(told).chain(resolved).collect()
}

fn finding(told: &Told) -> Finding {
    Finding {
        class: told.class,
        detector: told.detector,
        field: told.field.clone(),
        leak: told.leak,
        certainty: told.certainty,
        span: told.offset..told.offset + told.length,
        earlier: (0, 0),
        decoded: false,
        sample: told.sample.clone(),
    }
}
