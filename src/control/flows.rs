//! Flows, and how they are told to people.

use super::told::span;
use crate::report::{bytes, plural, printable};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::net::IpAddr;

/// One flow. The keys are those of events.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename = "flow")]
pub struct FlowLine {
    /// Its number in the daemon's process.
    pub flow: u64,
    /// `tcp`, `udp` or `icmp`.
    pub proto: String,
    /// The client.
    pub src: IpAddr,
    /// Its port.
    pub sport: u16,
    /// The other end.
    pub dst: IpAddr,
    /// Its port.
    pub dport: u16,
    /// What it showed of whom it asks for, or by what name its client found the address.
    pub name: Option<String>,
    /// Where the address is located: two letters.
    pub country: Option<String>,
    /// Who runs it.
    pub operator: Option<String>,
    /// `allow`, `reroute`, `block` or `wait`: it is held until it shows whom it asks for.
    pub verdict: String,
    /// What gave the verdict.
    pub rule: String,
    /// Why no exit carries it, where that is why it is blocked.
    pub unavailable: Option<String>,
    /// The rule that would have blocked it, and only observes.
    pub observed: Option<String>,
    /// The exit that carries it.
    pub exit: Option<String>,
    /// `kernel`, `pass`, `terminate` or `none`.
    pub path: String,
    /// Packets from the client (TCP that is terminated: reads and writes). What the kernel forwards is not counted.
    pub packets_sent: u64,
    /// Payload bytes from the client.
    pub bytes_sent: u64,
    /// Packets to the client.
    pub packets_received: u64,
    /// Payload bytes to the client.
    pub bytes_received: u64,
    /// Datagrams that were held back because of what they contained.
    pub withheld: u64,
    /// Seconds since it began.
    pub age: f64,
    /// Seconds since a packet of it came.
    pub idle: f64,
}

/// What follows the flows.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename = "flows")]
pub struct FlowsEnd {
    /// How many there are.
    pub flows: u64,
    /// How many of them were listed.
    pub listed: u64,
}

/// The flows as a table for people, one a line.
pub fn table(flows: &[FlowLine], end: FlowsEnd) -> String {
    const HEAD: [&str; 9] = [
        "verdict",
        "client",
        "to",
        "name",
        "where",
        "rule",
        "by",
        "up / down",
        "age",
    ];
    let rows: Vec<[String; 9]> = flows.iter().map(FlowLine::cells).collect();
    let mut widths = HEAD.map(|head| head.chars().count());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut told = String::new();
    let mut tell = |cells: &[String; 9]| {
        let cells = cells.iter().zip(widths);
        let line: String = cells.map(|(cell, w)| format!("{cell:<w$}  ")).collect();
        // Writing to a text cannot fail.
        let _ = writeln!(told, "{}", line.trim_end());
    };
    if !rows.is_empty() {
        tell(&HEAD.map(str::to_owned));
    }
    rows.iter().for_each(&mut tell);
    let FlowsEnd { flows, listed } = end;
    let more = match listed < flows {
        true => format!(", {listed} of them listed: those used last"),
        false => String::new(),
    };
    let _ = writeln!(told, "{}{more}", plural(flows, "flow"));
    told
}

impl FlowLine {
    fn cells(&self) -> [String; 9] {
        let at = |address: IpAddr, port: u16| match address {
            IpAddr::V4(address) => format!("{address}:{port}"),
            IpAddr::V6(address) => format!("[{address}]:{port}"),
        };
        let whereabouts = [&self.country, &self.operator];
        let whereabouts: Vec<&str> = whereabouts.into_iter().flatten().map(|s| &**s).collect();
        let path = match &self.exit {
            Some(exit) => format!("{}, exit {exit}", self.path),
            None => self.path.clone(),
        };
        let rule = match (&self.unavailable, &self.observed) {
            (Some(why), _) => format!("{} ({why})", self.rule),
            (None, Some(observed)) => format!("{} ({observed} observes)", self.rule),
            (None, None) => self.rule.clone(),
        };
        let cells = [
            self.verdict.clone(),
            at(self.src, self.sport),
            format!("{} {}", self.proto, at(self.dst, self.dport)),
            self.name.clone().unwrap_or_else(|| "-".into()),
            whereabouts.join(" "),
            rule,
            path,
            format!(
                "{} / {}",
                bytes(self.bytes_sent),
                bytes(self.bytes_received)
            ),
            span(self.age),
        ];
        cells.map(|cell| printable(&cell))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> FlowLine {
        FlowLine {
            flow: 1,
            proto: "tcp".into(),
            src: "192.168.7.2".parse().unwrap(),
            sport: 4711,
            dst: "2001:db8::1".parse().unwrap(),
            dport: 443,
            name: Some("example.org\u{1b}[2J".into()),
            country: Some("US".into()),
            operator: None,
            verdict: "reroute".into(),
            rule: "abroad".into(),
            unavailable: None,
            observed: None,
            exit: Some("nl".into()),
            path: "terminate".into(),
            packets_sent: 3,
            bytes_sent: 100,
            packets_received: 2,
            bytes_received: 5000,
            withheld: 0,
            age: 61.5,
            idle: 0.1,
        }
    }

    #[test]
    fn a_flow_is_a_line_with_all_that_matters_and_nothing_that_steers_the_terminal() {
        let end = FlowsEnd {
            flows: 3,
            listed: 1,
        };
        let told = table(&[line()], end);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 3, "{told}");
        for part in [
            "192.168.7.2:4711",
            "tcp [2001:db8::1]:443",
            "abroad",
            "terminate, exit nl",
            "100 B / 4.9 KiB",
            "1 min 1 s",
        ] {
            assert!(lines[1].contains(part), "{part}: {told}");
        }
        assert!(!told.contains('\u{1b}'));
        assert_eq!(lines[2], "3 flows, 1 of them listed: those used last");
    }
}
