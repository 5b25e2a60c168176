//! Which names a client may have meant when it talks to an address: what the answers it was given said.

use crate::time::Time;
use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::{Name, RData};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// An answer is remembered at least this long, whatever its TTL: applications cache on their own.
const KEEP_AT_LEAST: Duration = Duration::from_secs(300);
/// … and at most this long.
const KEEP_AT_MOST: Duration = Duration::from_secs(86_400);
/// Aliases that are followed in one answer.
const LONGEST_CHAIN: usize = 64;
/// Names kept for one address; the oldest goes first.
const NAMES_PER_ADDRESS: usize = 8;

/// Per client: address to names, bounded in all; the oldest address goes first.
#[derive(Debug)]
pub struct Names {
    known: HashMap<(IpAddr, IpAddr), Known, foldhash::fast::FixedState>,
    oldest: VecDeque<(IpAddr, IpAddr)>,
    capacity: usize,
}

/// What is known of one address.
#[derive(Debug, Default)]
struct Known {
    names: Vec<Learned>,
    /// Flows that go there: as long as there are any, nothing is forgotten.
    flows: u32,
}

/// One name of one address, learned from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Learned {
    /// The name that was asked for, whatever the chain of aliases: lower case, A-labels, no trailing dot.
    pub name: Box<str>,
    /// When the answer was given.
    pub at: Time,
    until: Time,
}

impl Names {
    /// An empty map of at most `capacity` pairs of client and address. `seed` keys its hash.
    pub fn new(capacity: usize, seed: u64) -> Self {
        let known = HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed));
        Self {
            known,
            oldest: VecDeque::new(),
            capacity: capacity.max(1),
        }
    }

    /// Learns from a DNS message (RFC 1035, section 4) that was an answer to `client`. Anything else is passed over.
    /// The addresses that got a name they did not have.
    pub fn learn(&mut self, client: IpAddr, message: &[u8], now: Time) -> Vec<IpAddr> {
        match Message::from_vec(message) {
            Ok(message) => self.learn_message(client, &message, now),
            Err(_) => Vec::new(),
        }
    }

    /// The same of a message that was read.
    pub fn learn_message(&mut self, client: IpAddr, message: &Message, now: Time) -> Vec<IpAddr> {
        let mut renamed = Vec::new();
        if message.metadata.message_type != MessageType::Response
            || message.metadata.response_code != ResponseCode::NoError
        {
            return renamed;
        }
        let [question] = message.queries.as_slice() else {
            return renamed;
        };
        let mut chain = vec![question.name()];
        let asked = text(question.name());
        for record in &message.answers {
            if !chain.contains(&&record.name) {
                continue;
            }
            let address = if let RData::A(address) = &record.data {
                IpAddr::V4(address.0)
            } else if let RData::AAAA(address) = &record.data {
                IpAddr::V6(address.0)
            } else {
                if let RData::CNAME(alias) = &record.data
                    && chain.len() < LONGEST_CHAIN
                {
                    chain.push(&alias.0);
                }
                continue;
            };
            let keep = Duration::from_secs(record.ttl.into()).clamp(KEEP_AT_LEAST, KEEP_AT_MOST);
            let is_new = self.remember(
                (client, address),
                Learned {
                    name: asked.as_str().into(),
                    at: now,
                    until: now + keep,
                },
            );
            if is_new {
                renamed.push(address);
            }
        }
        renamed
    }

    /// The names by which `client` may have found `address`, as answered, and not yet expired or in use.
    pub fn of(&self, client: IpAddr, address: IpAddr, now: Time) -> impl Iterator<Item = &Learned> {
        let known = self.known.get(&(client, address));
        known.into_iter().flat_map(move |known| {
            let names = known.names.iter();
            names.filter(move |learned| known.flows > 0 || learned.until >= now)
        })
    }

    /// How many pairs of client and address are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// True if nothing is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// A flow from `client` to `address` begins: its names are kept until [`release`](Self::release).
    pub fn hold(&mut self, client: IpAddr, address: IpAddr, now: Time) {
        if let Some(known) = self.known.get_mut(&(client, address)) {
            if known.flows == 0 {
                known.names.retain(|learned| learned.until >= now);
            }
            known.flows += 1;
        }
    }

    /// A flow from `client` to `address` is over.
    pub fn release(&mut self, client: IpAddr, address: IpAddr) {
        if let Some(known) = self.known.get_mut(&(client, address)) {
            known.flows = known.flows.saturating_sub(1);
        }
    }

    /// True if the address did not have the name.
    fn remember(&mut self, key: (IpAddr, IpAddr), learned: Learned) -> bool {
        if !self.known.contains_key(&key) {
            if self.known.len() >= self.capacity && !self.forget_one() {
                return false;
            }
            self.oldest.push_back(key);
        }
        let known = self.known.entry(key).or_default();
        let in_use = known.flows > 0;
        let names = &mut known.names;
        let is_new = !names.iter().any(|known| known.name == learned.name);
        names.retain(|known| known.name != learned.name && (in_use || known.until >= learned.at));
        if names.len() >= NAMES_PER_ADDRESS {
            names.remove(0);
        }
        names.push(learned);
        is_new
    }

    /// Makes room: the oldest address that no flow uses goes. False if all are in use.
    fn forget_one(&mut self) -> bool {
        for _ in 0..self.oldest.len() {
            let Some(oldest) = self.oldest.pop_front() else {
                return false;
            };
            if self.known.get(&oldest).is_some_and(|known| known.flows > 0) {
                self.oldest.push_back(oldest);
            } else {
                self.known.remove(&oldest);
                return true;
            }
        }
        false
    }
}

/// A name: lower case, A-labels, no trailing dot.
pub(super) fn text(name: &Name) -> String {
    let mut text = name.to_lowercase().to_ascii();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Query;
    use hickory_proto::rr::rdata::{A, CNAME};
    use hickory_proto::rr::{Record, RecordType};

    #[allow(clippy::unwrap_used, reason = "a helper of tests")]
    fn answer(asked: &str, records: &[(&str, RData)]) -> Vec<u8> {
        let mut message = Message::response(7, hickory_proto::op::OpCode::Query);
        message.add_query(Query::query(
            Name::from_ascii(asked).unwrap(),
            RecordType::A,
        ));
        for (name, data) in records {
            message.add_answer(Record::from_rdata(
                Name::from_ascii(name).unwrap(),
                60,
                data.clone(),
            ));
        }
        message.to_vec().unwrap()
    }

    fn names(known: &Names, client: &str, address: &str, now: Time) -> Vec<String> {
        let (client, address): (IpAddr, IpAddr) =
            (client.parse().unwrap(), address.parse().unwrap());
        known
            .of(client, address, now)
            .map(|learned| learned.name.to_string())
            .collect()
    }

    #[test]
    fn an_alias_chain_is_kept_under_the_name_that_was_asked() {
        let mut known = Names::new(10, 1);
        let now = Time::from_secs(100);
        let cname = |to: &str| RData::CNAME(CNAME(Name::from_ascii(to).unwrap()));
        let message = answer(
            "App.Example.",
            &[
                ("app.example.", cname("edge.example.")),
                ("edge.example.", cname("e7.example.")),
                ("e7.example.", RData::A(A::new(203, 0, 113, 7))),
                ("other.example.", RData::A(A::new(203, 0, 113, 8))),
            ],
        );
        known.learn("10.0.0.2".parse().unwrap(), &message, now);
        assert_eq!(
            names(&known, "10.0.0.2", "203.0.113.7", now),
            ["app.example"]
        );
        assert!(
            names(&known, "10.0.0.2", "203.0.113.8", now).is_empty(),
            "not in the chain"
        );
        assert!(
            names(&known, "10.0.0.3", "203.0.113.7", now).is_empty(),
            "another client asked nothing"
        );
        assert_eq!(
            names(
                &known,
                "10.0.0.2",
                "203.0.113.7",
                now + Duration::from_secs(299)
            )
            .len(),
            1
        );
        assert!(
            names(
                &known,
                "10.0.0.2",
                "203.0.113.7",
                now + Duration::from_secs(301)
            )
            .is_empty()
        );
    }

    #[test]
    fn the_map_never_outgrows_its_bound_and_an_address_keeps_its_newest_names() {
        let mut known = Names::new(4, 1);
        let client = "10.0.0.2".parse().unwrap();
        for last in 0..100u8 {
            let message = answer(
                "a.example.",
                &[("a.example.", RData::A(A::new(203, 0, 113, last)))],
            );
            known.learn(client, &message, Time::from_secs(1));
            assert!(known.known.len() <= 4 && known.oldest.len() <= 4);
        }
        for name in 0..20 {
            let asked = format!("n{name}.example.");
            let message = answer(&asked, &[(&asked, RData::A(A::new(203, 0, 113, 99)))]);
            known.learn(client, &message, Time::from_secs(1));
        }
        let names = names(&known, "10.0.0.2", "203.0.113.99", Time::from_secs(2));
        assert_eq!(names.len(), NAMES_PER_ADDRESS);
        assert_eq!(names.last().map(String::as_str), Some("n19.example"));
    }

    #[test]
    fn names_are_kept_as_long_as_a_flow_uses_them() {
        let mut known = Names::new(2, 1);
        let client = "10.0.0.2".parse().unwrap();
        let teach = |known: &mut Names, last: u8, at| {
            let asked = format!("n{last}.example.");
            let message = answer(&asked, &[(&asked, RData::A(A::new(203, 0, 113, last)))]);
            known.learn(client, &message, at);
        };
        let (now, later) = (Time::from_secs(100), Time::from_secs(10_000));
        let used = "203.0.113.1".parse().unwrap();
        teach(&mut known, 1, now);
        known.hold(client, used, now);
        for last in 2..20 {
            teach(&mut known, last, now);
        }
        let names_of = |known: &Names, last: u8| {
            names(known, "10.0.0.2", &format!("203.0.113.{last}"), later).len()
        };
        assert_eq!((names_of(&known, 1), names_of(&known, 19)), (1, 0));
        known.release(client, used);
        assert_eq!(names_of(&known, 1), 0, "expired long ago");
    }

    #[test]
    fn what_is_not_an_answer_teaches_nothing() {
        let mut known = Names::new(4, 1);
        let client = "10.0.0.2".parse().unwrap();
        let mut query = answer(
            "a.example.",
            &[("a.example.", RData::A(A::new(203, 0, 113, 1)))],
        );
        for length in 0..query.len() {
            known.learn(client, &query[..length], Time::from_secs(1));
        }
        query[2] &= 0x7f;
        known.learn(client, &query, Time::from_secs(1));
        assert!(known.known.is_empty());
    }
}
