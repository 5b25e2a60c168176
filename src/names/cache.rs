//! Answers that were given before (RFC 2181, section 5.2; RFC 2308), kept past their time for when no resolver can be
//! reached (RFC 8767).

use super::question::Key;
use crate::time::Time;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// No answer is believed longer, whatever it says …
const LONGEST: u32 = 86_400;
/// … and none that there is nothing (RFC 2308, section 5).
const LONGEST_NOTHING: u32 = 3600;
/// An answer may be given this long after its time while no resolver can be reached (RFC 8767, section 5).
const STALE: Duration = Duration::from_secs(86_400);
/// Resolvers that did not answer are not asked again the same before so long.
const RECHECK: Duration = Duration::from_secs(30);
/// The TTL of such an answer, seconds.
const STALE_TTL: u32 = 30;

/// Bounded in all; the oldest that nobody asked for again goes first.
#[derive(Debug)]
pub struct Cache {
    entries: HashMap<Key, Entry, foldhash::fast::FixedState>,
    order: VecDeque<Key>,
    capacity: usize,
}

#[derive(Debug)]
struct Entry {
    message: Arc<Message>,
    at: Time,
    until: Time,
    /// Its time is over and no resolver answered: it is given without asking until then.
    recheck: Time,
    used: bool,
}

/// An answer out of the cache.
#[derive(Clone, Debug)]
pub struct Cached {
    message: Arc<Message>,
    /// Seconds since it was given; none for one past its time.
    age: Option<u32>,
}

impl Cached {
    /// A copy of it with the TTL that is left.
    pub fn message(&self) -> Message {
        let mut message = Message::clone(&self.message);
        let sections = [
            &mut message.answers,
            &mut message.authorities,
            &mut message.additionals,
        ];
        for record in sections.into_iter().flatten() {
            record.ttl = self
                .age
                .map_or(STALE_TTL, |age| record.ttl.saturating_sub(age));
        }
        message
    }
}

impl Cache {
    /// An empty cache of at most `capacity` answers. `seed` keys its hash.
    pub fn new(capacity: usize, seed: u64) -> Self {
        Self {
            entries: HashMap::with_hasher(foldhash::fast::FixedState::with_seed(seed)),
            order: VecDeque::new(),
            capacity: capacity.max(1),
        }
    }

    /// The answer to a question while it holds, or while it is of no use to ask again.
    pub fn fresh(&mut self, key: &Key, now: Time) -> Option<Cached> {
        let entry = self.entries.get_mut(key)?;
        entry.used = true;
        let age = u32::try_from(now.since(entry.at).as_secs()).unwrap_or(u32::MAX);
        (now < entry.until.max(entry.recheck)).then(|| Cached {
            message: Arc::clone(&entry.message),
            age: (now < entry.until).then_some(age),
        })
    }

    /// The answer to a question although its time may be over.
    pub fn stale(&self, key: &Key, now: Time) -> Option<Cached> {
        let entry = self.entries.get(key)?;
        (now < entry.until + STALE).then(|| Cached {
            message: Arc::clone(&entry.message),
            age: None,
        })
    }

    /// No resolver answered a question in time.
    pub fn failed(&mut self, key: &Key, now: Time) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.recheck = (now + RECHECK).min(entry.until + STALE);
        }
    }

    /// Keeps an answer as long as it says, if that is any time at all.
    pub fn put(&mut self, key: Key, message: &Message, now: Time) {
        let Some(ttl) = time_to_live(message).filter(|ttl| *ttl > 0) else {
            return;
        };
        if !self.entries.contains_key(&key) {
            if self.entries.len() >= self.capacity {
                self.forget_one();
            }
            self.order.push_back(key.clone());
        }
        let entry = Entry {
            message: Arc::new(message.clone()),
            at: now,
            until: now + Duration::from_secs(ttl.into()),
            recheck: now,
            used: false,
        };
        self.entries.insert(key, entry);
    }

    /// Makes room. What was asked for since it last came up is spared once.
    fn forget_one(&mut self) {
        while let Some(key) = self.order.pop_front() {
            match self.entries.get_mut(&key) {
                Some(entry) if entry.used => {
                    entry.used = false;
                    self.order.push_back(key);
                }
                _ => {
                    self.entries.remove(&key);
                    return;
                }
            }
        }
    }
}

/// How many seconds an answer may be kept; `None` if it may not be.
fn time_to_live(message: &Message) -> Option<u32> {
    let code = message.metadata.response_code;
    if message.metadata.truncation {
        return None;
    }
    if code == ResponseCode::NoError && !message.answers.is_empty() {
        let shortest = message.answers.iter().map(|record| record.ttl).min()?;
        return Some(shortest.min(LONGEST));
    }
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return None;
    }
    message.authorities.iter().find_map(nothing)
}

/// How long the SOA record says that there is nothing.
fn nothing(record: &Record) -> Option<u32> {
    let RData::SOA(soa) = &record.data else {
        return None;
    };
    Some(record.ttl.min(soa.minimum).min(LONGEST_NOTHING))
}

#[cfg(test)]
mod tests {
    use super::super::question::Question;
    use super::*;
    use hickory_proto::op::{OpCode, Query};
    use hickory_proto::rr::rdata::{A, SOA};
    use hickory_proto::rr::{Name, RecordType};

    #[allow(clippy::unwrap_used, reason = "a helper of tests")]
    fn key(name: &str) -> Key {
        let mut message = Message::query();
        let name = Name::from_ascii(name).unwrap();
        message.add_query(Query::query(name, RecordType::A));
        Question::read(&message.to_vec().unwrap()).unwrap().key(0)
    }

    fn answer(ttl: u32) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        let data = RData::A(A::new(192, 0, 2, 1));
        message.add_answer(Record::from_rdata(Name::root(), ttl, data));
        message
    }

    #[test]
    fn an_answer_holds_for_its_time_and_longer_only_when_asked_for_stale_ones() {
        let mut cache = Cache::new(10, 1);
        let now = Time::from_secs(100);
        cache.put(key("A.example."), &answer(60), now);
        let at = |seconds| now + Duration::from_secs(seconds);
        let left = |cached: Option<Cached>| cached.map(|one| one.message().answers[0].ttl);
        assert_eq!(left(cache.fresh(&key("a.example."), at(20))), Some(40));
        assert_eq!(left(cache.fresh(&key("a.example."), at(60))), None);
        assert_eq!(left(cache.stale(&key("a.example."), at(600))), Some(30));
        assert_eq!(left(cache.stale(&key("a.example."), at(90_000))), None);
        cache.put(key("b.example."), &answer(0), now);
        assert!(cache.stale(&key("b.example."), now).is_none());
        // While no resolver answers, it is not asked each time.
        cache.failed(&key("a.example."), at(600));
        assert_eq!(left(cache.fresh(&key("a.example."), at(629))), Some(30));
        assert_eq!(left(cache.fresh(&key("a.example."), at(630))), None);
        cache.failed(&key("a.example."), at(86_450));
        assert_eq!(left(cache.fresh(&key("a.example."), at(86_470))), None);
    }

    #[test]
    fn that_there_is_nothing_holds_as_long_as_the_soa_says_and_failures_are_not_kept() {
        let mut cache = Cache::new(10, 1);
        let now = Time::from_secs(100);
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.response_code = ResponseCode::NXDomain;
        cache.put(key("a."), &message, now);
        assert!(
            cache.fresh(&key("a."), now).is_none(),
            "nothing says for how long"
        );
        let soa = SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, 30);
        message.add_authority(Record::from_rdata(Name::root(), 600, RData::SOA(soa)));
        cache.put(key("a."), &message, now);
        assert!(
            cache
                .fresh(&key("a."), now + Duration::from_secs(29))
                .is_some()
        );
        assert!(
            cache
                .fresh(&key("a."), now + Duration::from_secs(30))
                .is_none()
        );
        message.metadata.response_code = ResponseCode::ServFail;
        cache.put(key("b."), &message, now);
        assert!(cache.stale(&key("b."), now).is_none());
    }

    #[test]
    fn the_cache_never_outgrows_its_bound_and_spares_what_is_asked_for() {
        let mut cache = Cache::new(4, 1);
        let now = Time::from_secs(1);
        cache.put(key("kept."), &answer(60), now);
        for number in 0..20 {
            assert!(cache.fresh(&key("kept."), now).is_some(), "after {number}");
            cache.put(key(&format!("n{number}.")), &answer(60), now);
            assert!(cache.entries.len() <= 4 && cache.order.len() <= 4);
        }
    }
}
