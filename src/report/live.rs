//! What a gate tells while it runs, kept for a report at the end. The same totals as an audit's, from what really
//! happened instead of what a policy would have done.

use super::audit::{Fanout, Flow, Key, Recent};
use super::judged::Judged;
use super::totals::Totals;
use crate::gateway::{Cause, Close, Event, Leak, Open};
use crate::policy::{Origin, Reply, Verdict};
use std::collections::HashMap;
use std::net::SocketAddr;

/// Flows followed at once; the leaks of others are only in the event log.
const MOST_FLOWS: usize = 65_536;

/// Follows flows from their beginning to their end.
#[derive(Debug, Default)]
pub struct Recorder {
    flows: HashMap<u64, Judged>,
    totals: Totals,
    fanouts: Vec<Fanout>,
    leaks: u64,
}

impl Recorder {
    /// Takes one event.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Open(open) => {
                if self.flows.len() < MOST_FLOWS {
                    self.flows.insert(open.flow, judged(open));
                }
            }
            Event::Shown(open) => self.shown(open),
            Event::Leak(leak) => self.leak(leak),
            Event::Close(close) => self.close(close),
            Event::Refused(_) | Event::Exit(_) => {}
        }
    }

    /// Everything, with flows that are still open as they are.
    pub fn finish(mut self) -> Totals {
        let mut open: Vec<Judged> = self.flows.into_values().collect();
        open.sort_by_key(|judged| (judged.flow.first, judged.flow.key));
        for judged in open {
            self.totals.add("", judged);
        }
        self.totals.add_fanouts("", self.fanouts);
        self.totals
    }

    /// A flow is judged by what it has shown of itself.
    fn shown(&mut self, open: &Open) {
        if let Some(known) = self.flows.get_mut(&open.flow) {
            let now = judged(open);
            known.flow.names = now.flow.names;
            (known.verdict, known.rule) = (now.verdict, now.rule);
            (known.reply, known.would) = (now.reply, now.would);
        }
    }

    fn leak(&mut self, leak: &Leak) {
        self.leaks += 1;
        let Some(judged) = self.flows.get_mut(&leak.flow) else {
            return;
        };
        let moment = (self.leaks, leak.at);
        let excerpt = || leak.excerpt.clone();
        let place = judged.flow.note(moment, &leak.finding, excerpt);
        if place.is_some_and(|place| place == judged.actions.len()) {
            let entry = leak.entry.zip(leak.action).map(|(entry, action)| {
                let id = leak.snapshot.policy.sanitizer_id(entry).to_owned();
                (id, action)
            });
            judged.actions.push(entry);
        }
        judged.flow.last = judged.flow.last.max(leak.at);
        if leak.finding.detector == "probe-fanout" {
            let value = (leak.excerpt.value.as_slice(), &leak.finding);
            // Nobody has kept what was sent before the value was known to be shared.
            Recent::default().fan_out(judged.flow.key, moment, value, &mut self.fanouts);
        }
    }

    fn close(&mut self, close: &Close) {
        let Some(mut judged) = self.flows.remove(&close.flow) else {
            return;
        };
        judged.flow.packets = close.sent.packets + close.received.packets + close.withheld;
        judged.flow.bytes = close.sent.bytes + close.received.bytes;
        self.totals.add("", judged);
    }
}

/// A flow as it was judged at its beginning.
fn judged(open: &Open) -> Judged {
    let (subject, snapshot) = (&open.subject, &open.snapshot);
    let key = Key {
        protocol: subject.key.protocol,
        source: SocketAddr::new(subject.key.src, subject.key.sport),
        destination: subject.destination,
    };
    let mut flow = Flow::new(key, open.at);
    flow.names = subject
        .names
        .iter()
        .map(|(name, _)| name.to_string())
        .collect();
    let rule = |origin: Origin| snapshot.policy.rule_id(origin).to_owned();
    let (verdict, reply, rule, would) = match open.cause {
        Cause::Scope(scope) => (
            "block",
            Some(Reply::Drop),
            format!("scope: {}", scope.name()),
            None,
        ),
        Cause::Unavailable(decision, why) => (
            "block",
            Some(Reply::Reject),
            format!(
                "{} ({}: {})",
                rule(decision.origin),
                why.name(),
                open.exit_name(why.exit())
            ),
            None,
        ),
        Cause::Policy(decision) => {
            let reply = match decision.verdict {
                Verdict::Block(reply) => Some(reply),
                Verdict::Pass(_) => None,
            };
            let would = decision.observed.map(rule);
            (decision.verdict.name(), reply, rule(decision.origin), would)
        }
    };
    let names = flow.names.iter().map(String::as_str);
    let operator = snapshot.data.operator_behind(&subject.address, names);
    Judged {
        facts: subject.address,
        country: subject.address.country,
        operator: operator.map(|operator| (operator.id.clone(), operator.name.clone())),
        flow,
        verdict,
        rule,
        reply,
        would,
        actions: Vec::new(),
        leaked: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::FlowKey;
    use crate::gateway::{Count, End, Path, Snapshot, Subject};
    use crate::jurisdiction::{Data, Groups};
    use crate::policy::{Action, Policy, Surroundings};
    use crate::sanitize::{Certainty, Class, Excerpt, Finding, Sanitizer};
    use crate::time::Time;
    use std::sync::Arc;

    const POLICY: &str = "version = 1\nname = \"p\"\n[default]\naction = \"allow\"\non_unknown = \"allow\"\n\
        [[sanitize]]\nid = \"mine\"\nleak = [\"secret\"]\naction = \"drop\"\n";

    fn snapshot() -> Arc<Snapshot> {
        let (data, groups) = (Data::embedded().unwrap(), Groups::embedded().unwrap());
        let around = Surroundings {
            data: &data,
            groups: &groups,
        };
        let policy = Policy::load("p.toml", POLICY, &around).unwrap();
        Arc::new(Snapshot {
            policy,
            data: Arc::new(data),
            sanitizer: Sanitizer::default(),
        })
    }

    fn key() -> FlowKey {
        FlowKey {
            src: "10.0.0.1".parse().unwrap(),
            dst: "198.41.0.4".parse().unwrap(),
            sport: 4000,
            dport: 9000,
            protocol: 17,
        }
    }

    fn events(snapshot: &Arc<Snapshot>) -> [Event; 2] {
        let destination = SocketAddr::new(key().dst, key().dport);
        let subject = Subject {
            key: key(),
            destination,
            address: snapshot.data.lookup(destination.ip()),
            names: Vec::new(),
            opening: crate::policy::Opening::default(),
            mac: None,
            wall: None,
        };
        let decision = subject.with_facts(&snapshot.data, |facts| snapshot.policy.decide(facts));
        let open = Open {
            flow: 1,
            at: Time::from_secs(100),
            subject,
            cause: Cause::Policy(decision),
            exit: None,
            snapshot: Arc::clone(snapshot),
        };
        let leak = Leak {
            flow: 1,
            key: key(),
            at: Time::from_secs(101),
            finding: Finding {
                class: Class::PersonId,
                detector: "secret",
                field: "user (plain)".to_owned(),
                leak: "secret",
                certainty: Certainty::Certain,
                span: 4..13,
                earlier: (0, 0),
                decoded: false,
                sample: "5…87".to_owned(),
            },
            excerpt: Excerpt {
                value: b"512345687".to_vec(),
                before: vec![Some(b'=')],
                after: Vec::new(),
            },
            entry: Some(0),
            action: Some(Action::Drop),
            sent: false,
            redacted: false,
            snapshot: Arc::clone(snapshot),
        };
        [Event::Open(Box::new(open)), Event::Leak(Box::new(leak))]
    }

    #[test]
    fn a_flow_is_kept_with_its_findings_and_what_was_done() {
        let snapshot = snapshot();
        let mut recorder = Recorder::default();
        let [open, leak] = events(&snapshot);
        recorder.take(&open);
        recorder.take(&leak);
        recorder.take(&leak);
        recorder.take(&Event::Close(Box::new(Close {
            flow: 1,
            key: key(),
            opened: Time::from_secs(100),
            at: Time::from_secs(130),
            sent: Count {
                packets: 2,
                bytes: 70,
            },
            received: Count::default(),
            withheld: 2,
            path: Path::Terminate,
            end: End::Idle,
        })));
        let totals = recorder.finish();
        assert!(totals.is_live());
        let (_, judged) = &totals.flows[0];
        assert_eq!((judged.flow.packets, judged.flow.bytes), (4, 70));
        assert_eq!(judged.flow.findings[0].count, 2);
        assert_eq!(judged.actions, [Some(("mine".to_owned(), Action::Drop))]);
        assert_eq!(totals.identifiers.len(), 1);
    }

    #[test]
    fn a_flow_that_is_still_open_is_kept_too_and_the_value_is_never_shown() {
        let snapshot = snapshot();
        let mut recorder = Recorder::default();
        let events = events(&snapshot);
        events.iter().for_each(|event| recorder.take(event));
        assert!(
            !format!("{events:?}").contains("53, 49, 50"),
            "the value's bytes"
        );
        let page = crate::report::html::page("p", &recorder.finish());
        assert!(page.contains("What a gate saw") && page.contains("user (plain)"));
        assert!(!page.contains("512345687"));
    }
}
