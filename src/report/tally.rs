//! Events in numbers: bounded, so that a gate may run for years.

use super::summary::verdict;
use crate::gateway::{Cause, Event, Leak, Open};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What was reported since the gate began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Flows that were let go directly.
    pub allowed: u64,
    /// Flows that were sent by an exit.
    pub rerouted: u64,
    /// Flows that were blocked, those for which no exit was up among them.
    pub blocked: u64,
    /// Flows that were let go because the rule which would have blocked them only observes.
    pub observed: u64,
    /// Flows that were blocked for want of an exit, by what the policy calls it.
    pub without_exit: BTreeMap<String, u64>,
    /// What was refused before any rule looked at it, by the check or bound.
    pub refused: BTreeMap<String, u64>,
    /// Payloads with a finding that were held back or rewritten.
    pub leaks_stopped: u64,
    /// Payloads with a finding that left.
    pub leaks_sent: u64,
    /// Events that could not be kept.
    pub lost: u64,
}

impl Tally {
    /// Counts one event, and those lost before it.
    pub fn take(&mut self, event: &Event, lost: u64) {
        self.lost += lost;
        match event {
            Event::Open(open) => self.open(open),
            // It was let go before, and ends now.
            Event::Shown(open) if verdict(open) == "block" => self.blocked += 1,
            Event::Leak(leak) => self.leak(leak),
            Event::Refused(refused) => count(&mut self.refused, refused.what),
            Event::Shown(_) | Event::Close(_) | Event::Exit(_) => {}
        }
    }

    fn open(&mut self, open: &Open) {
        match verdict(open) {
            "allow" => self.allowed += 1,
            "reroute" => self.rerouted += 1,
            "block" => self.blocked += 1,
            _ => self.observed += 1,
        }
        if let Cause::Unavailable(_, why) = open.cause {
            count(&mut self.without_exit, open.exit_name(why.exit()));
        }
    }

    fn leak(&mut self, leak: &Leak) {
        if leak.sent {
            self.leaks_sent += 1;
        } else {
            self.leaks_stopped += 1;
        }
    }
}

/// There are as many names as checks, or exits in policies.
fn count(by_name: &mut BTreeMap<String, u64>, name: &str) {
    match by_name.get_mut(name) {
        Some(times) => *times += 1,
        None => {
            by_name.insert(name.to_owned(), 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Refused;
    use crate::time::Time;

    #[test]
    fn what_is_refused_is_counted_by_its_check_and_what_is_lost_is_added_up() {
        let mut tally = Tally::default();
        for (what, lost) in [("flows", 0), ("checksum", 3), ("flows", 4)] {
            let refused = Refused {
                what,
                source: None,
                at: Time::default(),
            };
            tally.take(&Event::Refused(refused), lost);
        }
        assert_eq!(tally.refused.get("flows"), Some(&2));
        assert_eq!(tally.refused.get("checksum"), Some(&1));
        assert_eq!((tally.lost, tally.allowed), (7, 0));
    }
}
