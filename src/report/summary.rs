//! Who was contacted, under which jurisdiction, what was stopped.

use super::printable;
use crate::gateway::{Cause, Close, Event, Leak, Open, Subject};
use crate::policy::Verdict;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Write as _};

/// Rows shown; the rest is counted.
const ROWS: usize = 40;

/// All events of a run, added up.
#[derive(Debug, Default)]
pub struct Summary {
    rows: BTreeMap<RowKey, Row>,
    flows: HashMap<u64, RowKey>,
    leaks: BTreeMap<LeakKey, LeakCount>,
    refused: BTreeMap<&'static str, u64>,
    exits: BTreeMap<String, Exit>,
    lost: u64,
}

/// How an exit fared.
#[derive(Clone, Debug, Default)]
struct Exit {
    up: bool,
    downs: u64,
    /// What told so last.
    why: String,
}

/// What flows of one row have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowKey {
    /// False sorts first: what was stopped.
    pub passed: bool,
    /// `allow`, `reroute`, `block` or `would block`.
    pub verdict: &'static str,
    /// Name, or else address, of the other end.
    pub who: String,
    /// Where it is, and under whose seat.
    pub jurisdiction: String,
    /// Who runs it.
    pub operator: String,
    /// The rule that decided.
    pub rule: String,
}

/// Counts of one row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Flows.
    pub flows: u64,
    /// Payload bytes to the outside.
    pub sent: u64,
    /// Payload bytes from the outside.
    pub received: u64,
    /// Datagrams and attempts held back.
    pub withheld: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct LeakKey {
    fate: Fate,
    class: &'static str,
    detector: &'static str,
    field: String,
    sanitizer: String,
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    Left,
    Redacted,
    Stopped,
}

#[derive(Clone, Debug, Default)]
struct LeakCount {
    payloads: u64,
    destinations: std::collections::BTreeSet<std::net::IpAddr>,
    sample: String,
}

impl Summary {
    /// Adds one event, and the number of those lost before it.
    pub fn take(&mut self, event: &Event, lost: u64) {
        self.lost += lost;
        match event {
            Event::Open(open) => self.open(open),
            Event::Shown(shown) => self.shown(shown),
            Event::Leak(leak) => self.leak(leak),
            Event::Close(close) => self.close(close),
            Event::Refused(refused) => *self.refused.entry(refused.what).or_default() += 1,
            Event::Exit(change) => {
                let exit = self.exits.entry(printable(&change.exit)).or_default();
                // What is down already may be so for another reason.
                exit.downs += u64::from(!change.up && (exit.up || exit.downs == 0));
                (exit.up, exit.why) = (change.up, printable(&change.why));
            }
        }
    }

    /// The rows, stopped ones first.
    pub fn rows(&self) -> impl Iterator<Item = (&RowKey, &Row)> {
        self.rows.iter()
    }

    /// Payloads with a finding that were held back or rewritten, and that were not.
    pub fn leaks(&self) -> (u64, u64) {
        self.leaks
            .iter()
            .fold((0, 0), |(stopped, passed), (key, count)| {
                if key.fate == Fate::Left {
                    (stopped, passed + count.payloads)
                } else {
                    (stopped + count.payloads, passed)
                }
            })
    }

    fn open(&mut self, open: &Open) {
        let key = RowKey::of(open);
        self.rows.entry(key.clone()).or_default().flows += 1;
        self.flows.insert(open.flow, key);
    }

    /// A flow is counted by what was made of it last.
    fn shown(&mut self, open: &Open) {
        if let Some(before) = self.flows.remove(&open.flow)
            && let Some(row) = self.rows.get_mut(&before)
        {
            row.flows -= 1;
            if row.flows == 0 {
                self.rows.remove(&before);
            }
        }
        self.open(open);
    }

    fn close(&mut self, close: &Close) {
        let Some(row) = self
            .flows
            .remove(&close.flow)
            .and_then(|key| self.rows.get_mut(&key))
        else {
            return;
        };
        row.sent += close.sent.bytes;
        row.received += close.received.bytes;
        row.withheld += close.withheld;
    }

    fn leak(&mut self, leak: &Leak) {
        let finding = &leak.finding;
        let key = LeakKey {
            fate: match (leak.sent, leak.redacted) {
                (true, _) => Fate::Left,
                (false, true) => Fate::Redacted,
                (false, false) => Fate::Stopped,
            },
            class: finding.class.name(),
            detector: finding.detector,
            field: printable(&finding.field),
            sanitizer: leak
                .entry
                .map_or("-", |entry| leak.snapshot.policy.sanitizer_id(entry))
                .to_owned(),
        };
        let count = self.leaks.entry(key).or_default();
        count.payloads += 1;
        count.destinations.insert(leak.key.dst);
        count.sample = printable(&finding.sample);
    }
}

impl RowKey {
    /// The row of a flow.
    pub fn of(open: &Open) -> Self {
        let Open {
            snapshot, subject, ..
        } = open;
        let Subject {
            address,
            names,
            destination,
            ..
        } = subject;
        let data = &snapshot.data;
        let operator = data.operator_behind(address, names.iter().map(|(name, _)| name.as_ref()));
        let place = match (address.special, address.country) {
            (Some(special), _) => special.name().to_owned(),
            (None, Some(country)) => country.to_string(),
            (None, None) => "?".to_owned(),
        };
        let seat = operator
            .map(|operator| operator.seat)
            .or(address.operator_country);
        let jurisdiction = match seat {
            Some(seat) if seat.to_string() != place => format!("{place} / {seat}"),
            _ => place,
        };
        let (verdict, rule) = outcome(open);
        Self {
            passed: verdict != "block",
            verdict,
            who: names
                .first()
                .map_or_else(|| destination.ip().to_string(), |(name, _)| printable(name)),
            jurisdiction,
            operator: operator
                .map_or("-", |operator| operator.id.as_str())
                .to_owned(),
            rule,
        }
    }
}

/// The verdict in a word: `allow`, `reroute`, `block` or `would block`.
pub(super) fn verdict(open: &Open) -> &'static str {
    match open.cause {
        Cause::Scope(_) | Cause::Unavailable(..) => "block",
        Cause::Policy(decision) => match (decision.verdict, decision.observed) {
            (Verdict::Block(_), _) => "block",
            (Verdict::Pass(_), Some(_)) => "would block",
            (Verdict::Pass(_), None) if open.exit.is_some() => "reroute",
            (Verdict::Pass(_), None) => "allow",
        },
    }
}

/// The verdict in a word, and what gave it.
fn outcome(open: &Open) -> (&'static str, String) {
    let policy = &open.snapshot.policy;
    let by = match open.cause {
        Cause::Scope(scope) => format!("scope: {}", scope.name()),
        Cause::Unavailable(decision, why) => {
            let (id, exit) = (policy.rule_id(decision.origin), open.exit_name(why.exit()));
            format!("{id} ({}: {exit})", why.name())
        }
        Cause::Policy(decision) => {
            let id = policy.rule_id(decision.origin);
            match (decision.verdict, decision.observed, open.exit) {
                (Verdict::Block(_), _, _) if decision.unknown => format!("{id} (unknown)"),
                (Verdict::Block(_), _, _) | (Verdict::Pass(_), None, None) => id.to_owned(),
                (Verdict::Pass(_), Some(observed), _) => policy.rule_id(observed).to_owned(),
                (Verdict::Pass(_), None, Some(exit)) => {
                    format!("{id} (by {})", open.exit_name(exit))
                }
            }
        }
    };
    (verdict(open), by)
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            writeln!(f, "Nothing tried to leave.")?;
        } else {
            self.write_rows(f)?;
        }
        for (key, count) in &self.leaks {
            let LeakKey {
                fate,
                class,
                detector,
                field,
                sanitizer,
            } = key;
            let (payloads, destinations) = (count.payloads, count.destinations.len());
            let fate = match fate {
                Fate::Left => "LEFT IN THE CLEAR",
                Fate::Redacted => "redacted",
                Fate::Stopped => "stopped",
            };
            writeln!(
                f,
                "{fate}: {field} ({class}, {detector}, {}) in {} to {}  [{sanitizer}]",
                count.sample,
                plural(payloads, "payload"),
                plural(destinations as u64, "destination"),
            )?;
        }
        for (exit, state) in &self.exits {
            let Exit { up, downs, why } = state;
            let now = if *up { "up" } else { "down" };
            writeln!(
                f,
                "exit {exit}: {now} ({why}), down {}",
                plural(*downs, "time")
            )?;
        }
        for (what, times) in &self.refused {
            writeln!(f, "refused: {what}, {}", plural(*times, "time"))?;
        }
        if self.lost > 0 {
            writeln!(
                f,
                "{} could not be kept; the counts above are too low",
                plural(self.lost, "event")
            )?;
        }
        Ok(())
    }
}

impl Summary {
    fn write_rows(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HEAD: [&str; 7] = [
            "verdict",
            "who",
            "where / seat",
            "operator",
            "flows",
            "sent / received",
            "rule",
        ];
        let mut lines: Vec<[String; 7]> = vec![HEAD.map(str::to_owned)];
        lines.extend(self.rows.iter().take(ROWS).map(|(key, row)| {
            [
                key.verdict.to_owned(),
                key.who.clone(),
                key.jurisdiction.clone(),
                key.operator.clone(),
                row.flows.to_string(),
                format!("{} / {}", bytes(row.sent), bytes(row.received)),
                key.rule.clone(),
            ]
        }));
        let mut widths = [0; 7];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(line) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for line in &lines {
            let mut text = String::new();
            for (cell, width) in line.iter().zip(widths) {
                write!(text, "{cell:<width$}  ")?;
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        match self.rows.len().saturating_sub(ROWS) {
            0 => Ok(()),
            more => writeln!(f, "… and {more} more"),
        }
    }
}

/// A number of bytes as people read it.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut unit = 0;
    let mut scaled = count as f64;
    while scaled >= 1024.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 {
        format!("{count} {name}")
    } else {
        format!("{scaled:.1} {name}")
    }
}

pub(crate) fn plural(count: u64, what: &str) -> String {
    if count == 1 {
        format!("1 {what}")
    } else {
        format!("{count} {what}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_counts_read_like_byte_counts() {
        assert_eq!(
            [0, 1023, 1024, 1_572_864, 5 << 30].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "5.0 GiB"]
        );
    }

    #[test]
    fn control_characters_of_others_never_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
