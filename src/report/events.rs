//! Events as JSON Lines: one object a line, stable keys.

use crate::flow::FlowKey;
use crate::gateway::{Cause, Close, Event, ExitChange, Leak, Open, Refused};
use crate::packet::protocol;
use crate::time::Time;
use serde_json::{Map, Value, json};
use std::io::{self, Write};

/// A sink of JSON Lines.
pub struct EventLog {
    to: Box<dyn Write + Send>,
}

impl EventLog {
    /// A log that writes to `to`.
    pub fn new(to: Box<dyn Write + Send>) -> Self {
        Self { to }
    }

    /// Writes one event, and before it how many were lost.
    ///
    /// # Errors
    /// Those of writing.
    pub fn write(&mut self, event: &Event, lost: u64) -> io::Result<()> {
        if lost > 0 {
            writeln!(self.to, "{}", json!({ "type": "lost", "events": lost }))?;
        }
        for object in objects(event) {
            writeln!(self.to, "{object}")?;
        }
        self.to.flush()
    }
}

/// The objects that tell of one event.
fn objects(event: &Event) -> Vec<Value> {
    match event {
        Event::Open(open) => vec![flow_open(open), verdict("verdict", open)],
        Event::Shown(open) => vec![verdict("shown", open)],
        Event::Leak(leak) => vec![leak_found(leak)],
        Event::Close(close) => vec![flow_close(close)],
        Event::Refused(Refused { what, source, at }) => {
            vec![json!({ "type": "refused", "at": seconds(*at), "what": what, "src": source })]
        }
        Event::Exit(change) => {
            let ExitChange { exit, at, up, why } = &**change;
            vec![json!({ "type": "exit", "at": seconds(*at), "exit": exit, "up": up, "why": why })]
        }
    }
}

fn flow_open(open: &Open) -> Value {
    let mut object = five_tuple("flow_open", open.flow, open.at, &open.subject.key);
    object.insert(
        "destination".into(),
        open.subject.destination.to_string().into(),
    );
    object.into()
}

/// The verdict as `cordon explain` tells it; a guard's has neither trace nor facts.
fn verdict(kind: &str, open: &Open) -> Value {
    let Open {
        subject, snapshot, ..
    } = open;
    let mut object = five_tuple(kind, open.flow, open.at, &subject.key);
    let told = match open.cause {
        Cause::Scope(scope) => {
            json!({ "verdict": "block", "rule": format!("scope:{}", scope.name()), "reply": "drop" })
        }
        Cause::Policy(_) | Cause::Unavailable(..) => {
            let explanation =
                subject.with_facts(&snapshot.data, |facts| snapshot.policy.explain(facts));
            serde_json::to_value(explanation).unwrap_or_default()
        }
    };
    if let Value::Object(told) = told {
        object.extend(told);
    }
    if let Cause::Unavailable(_, why) = open.cause {
        object.insert("verdict".into(), "block".into());
        object.insert("reply".into(), "reject".into());
        object.insert("unavailable".into(), why.name().into());
    }
    let by = open.exit.map(|exit| open.exit_name(exit));
    object.insert("by".into(), by.into());
    object.into()
}

fn leak_found(leak: &Leak) -> Value {
    let finding = &leak.finding;
    let mut object = five_tuple("leak", leak.flow, leak.at, &leak.key);
    object.extend([
        ("class".to_owned(), finding.class.name().into()),
        ("detector".to_owned(), finding.detector.into()),
        ("field".to_owned(), finding.field.clone().into()),
        ("certainty".to_owned(), finding.certainty.name().into()),
        ("offset".to_owned(), finding.span.start.into()),
        ("length".to_owned(), finding.span.len().into()),
        ("sample".to_owned(), finding.sample.clone().into()),
        (
            "action".to_owned(),
            leak.action.map(|action| action.name()).into(),
        ),
        (
            "sanitizer".to_owned(),
            leak.entry
                .map(|entry| leak.snapshot.policy.sanitizer_id(entry))
                .into(),
        ),
        ("sent".to_owned(), leak.sent.into()),
        ("redacted".to_owned(), leak.redacted.into()),
    ]);
    object.into()
}

fn flow_close(close: &Close) -> Value {
    let mut object = five_tuple("flow_close", close.flow, close.at, &close.key);
    object.extend([
        (
            "duration".to_owned(),
            close.at.since(close.opened).as_secs_f64().into(),
        ),
        ("packets_sent".to_owned(), close.sent.packets.into()),
        ("bytes_sent".to_owned(), close.sent.bytes.into()),
        ("packets_received".to_owned(), close.received.packets.into()),
        ("bytes_received".to_owned(), close.received.bytes.into()),
        ("withheld".to_owned(), close.withheld.into()),
        ("end".to_owned(), close.end.name().into()),
        ("path".to_owned(), close.path.name().into()),
    ]);
    object.into()
}

fn five_tuple(kind: &str, flow: u64, at: Time, key: &FlowKey) -> Map<String, Value> {
    let proto = match key.protocol {
        protocol::TCP => "tcp".into(),
        protocol::UDP => "udp".into(),
        protocol::ICMP | protocol::ICMPV6 => "icmp".into(),
        other => Value::from(other),
    };
    Map::from_iter([
        ("type".to_owned(), kind.into()),
        ("flow".to_owned(), flow.into()),
        ("at".to_owned(), seconds(at).into()),
        ("proto".to_owned(), proto),
        ("src".to_owned(), key.src.to_string().into()),
        ("sport".to_owned(), key.sport.into()),
        ("dst".to_owned(), key.dst.to_string().into()),
        ("dport".to_owned(), key.dport.into()),
    ])
}

fn seconds(at: Time) -> f64 {
    at.since(Time::default()).as_secs_f64()
}
