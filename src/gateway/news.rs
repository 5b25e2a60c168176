//! Names that addresses come to have while flows go there: such a flow is judged again. It may end by it; it never goes
//! on by another way.

use super::{Cause, End, Gateway, State};
use crate::flow::FlowId;
use crate::time::Time;
use std::collections::VecDeque;
use std::net::IpAddr;

/// Pairs of client and address that are kept for shards which have not looked yet.
const KEPT: usize = 1024;

/// Pairs of client and address that got another name, numbered as they came.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Number of the first that is kept.
    first: u64,
    pairs: VecDeque<(IpAddr, IpAddr)>,
}

impl News {
    fn next(&self) -> u64 {
        self.first + u64::try_from(self.pairs.len()).unwrap_or(0)
    }

    fn add(&mut self, pair: (IpAddr, IpAddr)) {
        if self.pairs.len() >= KEPT {
            self.pairs.pop_front();
            self.first += 1;
        }
        self.pairs.push_back(pair);
    }

    /// Those from a number on; `None` if some of them are no longer kept.
    fn since(&self, number: u64) -> Option<Vec<(IpAddr, IpAddr)>> {
        let skip = usize::try_from(number.checked_sub(self.first)?).ok()?;
        Some(self.pairs.iter().skip(skip).copied().collect())
    }
}

impl Gateway {
    /// Tells all shards that these addresses of a client got another name.
    pub(super) fn publish(&self, client: IpAddr, addresses: &[IpAddr]) {
        if addresses.is_empty() || !self.snapshot.policy.asks_for_openings() {
            return;
        }
        let mut news = self.shared.news();
        for address in addresses {
            news.add((client, *address));
        }
        let next = news.next();
        drop(news);
        self.shared.set_news(next);
    }

    /// Judges the flows again whose addresses got another name since this was asked last.
    pub(super) fn heed_news(&mut self, now: Time) {
        let next = self.shared.newest();
        if next == self.heeded {
            return;
        }
        let pairs = self.shared.news().since(self.heeded);
        self.heeded = next;
        let concerned: Vec<FlowId> = match pairs {
            Some(pairs) => pairs
                .into_iter()
                .flat_map(|(client, address)| self.flows.between(client, address))
                .collect(),
            // Which of them, is not known any more.
            None => self.flows.ids().collect(),
        };
        for id in concerned {
            self.rejudge_by_name(id, now);
        }
    }

    fn rejudge_by_name(&mut self, id: FlowId, now: Time) {
        let Some((key, flow)) = self.flows.get(id) else {
            return;
        };
        if flow.is_undecided() || flow.is_questioner() || matches!(flow.cause, Cause::Scope(_)) {
            return;
        }
        let (key, before) = (*key, flow.cause);
        let was_blocked = matches!(flow.state, State::Blocked(_));
        let judged = self.judge(&key, flow.claims.as_deref(), now);
        if super::judge::same_verdict(before, judged.cause) {
            return;
        }
        // A blocked flow is forgotten, so that its next packet is judged as the first.
        let end = if was_blocked {
            End::Blocked
        } else {
            End::Named
        };
        self.end(id, end, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_numbered_and_what_is_gone_is_known_to_be_gone() {
        let mut news = News::default();
        let pair = |last: u16| {
            let [a, b] = last.to_be_bytes();
            (IpAddr::from([10, 0, 0, 2]), IpAddr::from([203, 0, a, b]))
        };
        for number in 0..1024 {
            news.add(pair(number));
        }
        assert_eq!(news.since(1022), Some(vec![pair(1022), pair(1023)]));
        assert_eq!(news.since(1024), Some(Vec::new()));
        news.add(pair(1024));
        assert_eq!((news.since(0), news.next()), (None, 1025));
        assert_eq!(news.since(1024), Some(vec![pair(1024)]));
    }
}
