//! How the state of everything is told to people.

use super::status::{
    DataStatus, ExitStatus, FlowsStatus, LinkStatus, PolicyStatus, ReloadStatus, Status, TakesOver,
};
use crate::report::{bytes, plural, printable};
use std::fmt::{self, Display, Formatter};

impl Display for Status {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "cordon {}, running for {} (since {}, process {})",
            printable(&self.version),
            span(self.running),
            moment(self.since),
            self.process
        )?;
        self.write_policy(f)?;
        self.write_link(f)?;
        self.write_flows(f)?;
        if let Some(memory) = self.memory {
            row(f, "memory", &bytes(memory))?;
        }
        let resolvers = match self.resolvers.as_slice() {
            [] => "none: questions for names are flows like all others".into(),
            some => some.join(", "),
        };
        row(f, "resolvers", &resolvers)?;
        for (index, exit) in self.exits.iter().enumerate() {
            let head = if index == 0 { "exits" } else { "" };
            exit.write(f, head, &self.exits)?;
        }
        if self.problems.is_empty() {
            return writeln!(f, "All is well.");
        }
        writeln!(f)?;
        for problem in &self.problems {
            writeln!(f, "NOT WELL: {}", printable(problem))?;
        }
        Ok(())
    }
}

impl Status {
    fn write_policy(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let PolicyStatus {
            name,
            file,
            rules,
            age,
            ..
        } = &self.policy;
        let file = file.as_deref().unwrap_or("no file");
        let age = span(*age);
        let rules = plural(*rules as u64, "rule");
        let text = format!("{name} ({file}), {rules}, loaded {age} ago");
        row(f, "policy", &text)?;
        if let Some(ReloadStatus {
            ago,
            error: Some(error),
            ..
        }) = &self.reload
        {
            let ago = span(*ago);
            row(f, "", &format!("a reload failed {ago} ago: {error}"))?;
        }
        let DataStatus {
            version,
            built,
            age_days,
            warnings,
            ..
        } = &self.data;
        let built = match (built, age_days) {
            (Some(built), Some(days)) => format!("built on {built}, {days} days ago"),
            _ => "it says nothing of locations".into(),
        };
        row(f, "data", &format!("{built} (version {version})"))?;
        for warning in warnings {
            row(f, "", warning)?;
        }
        Ok(())
    }

    fn write_link(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let LinkStatus {
            mode,
            tun,
            inside,
            mtu,
            path,
            shards,
            offloads,
            fallbacks,
            ..
        } = &self.link;
        let whose = match inside.is_empty() {
            true => "this machine".into(),
            false => inside.join(", "),
        };
        let cheapest = match path.as_str() {
            "kernel" => "the kernel forwards what needs no inspection",
            "pass" => "every packet passes through here",
            _ => "every connection ends here",
        };
        let offloads = match offloads.is_empty() {
            true => "no offloads".into(),
            false => format!("offloads {}", offloads.join(", ")),
        };
        let shards = plural(*shards as u64, "shard");
        let text = format!("{mode} of {whose} by {tun}, MTU {mtu}, {shards}, {offloads}");
        row(f, "link", &text)?;
        row(f, "", cheapest)?;
        for fallback in fallbacks {
            row(f, "", fallback)?;
        }
        Ok(())
    }

    fn write_flows(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let FlowsStatus {
            all,
            tcp,
            udp,
            icmp,
            kernel,
            pass,
            terminate,
            waiting,
            blocked,
        } = self.flows;
        let now = format!("{all} now: {tcp} TCP, {udp} UDP, {icmp} ICMP");
        row(f, "flows", &now)?;
        let ways = format!(
            "{kernel} in the kernel, {pass} passing, {terminate} terminated, {waiting} waiting, {blocked} blocked"
        );
        row(f, "", &ways)?;
        let totals = &self.totals;
        let mut since = format!(
            "{} allowed, {} rerouted, {} blocked",
            totals.allowed, totals.rerouted, totals.blocked
        );
        for (count, what) in [
            (totals.observed, "only observed"),
            (totals.leaks_stopped, "leaks stopped"),
            (totals.leaks_sent, "LEAKS SENT"),
            (totals.lost, "EVENTS LOST"),
        ] {
            if count > 0 {
                since.push_str(&format!(", {count} {what}"));
            }
        }
        row(f, "so far", &since)?;
        let refused = totals.refused.iter();
        let refused: Vec<String> = refused.map(|(what, n)| format!("{what} {n}")).collect();
        if !refused.is_empty() {
            let refused = refused.join(", ");
            row(f, "", &format!("refused before any rule: {refused}"))?;
        }
        Ok(())
    }
}

impl ExitStatus {
    /// `all` are the exits of the same policy.
    fn write(&self, f: &mut Formatter<'_>, head: &str, all: &[Self]) -> fmt::Result {
        let what = match (&self.server, self.members.is_empty()) {
            (Some(server), _) => format!("{} at {server}", self.kind),
            (None, false) => format!("{} of {}", self.kind, self.members.join(", ")),
            (None, true) => self.kind.clone(),
        };
        let (name, state) = (&self.name, self.state());
        row(f, head, &format!("{name} ({what}) is {state}"))?;
        if !self.members.is_empty() {
            row(f, "", &format!("  {}", self.carried()))?;
        }
        for taker in self.takes_over.iter().filter(|_| !self.up) {
            row(f, "", &format!("  {}", taker.told(all)))?;
        }
        let groups = all.iter().filter(|group| group.members.contains(name));
        let groups = groups.map(|group| format!("in {}", group.name));
        let rules = self.rules.iter().map(|rule| format!("for rule {rule}"));
        let mut parts: Vec<String> = rules.chain(groups).collect();
        if parts.is_empty() {
            parts.push("used by no rule".into());
        }
        if self.members.is_empty() {
            parts.push(format!("{} now", plural(self.flows, "flow")));
        }
        if self.refused > 0 {
            let refused = plural(self.refused, "flow");
            parts.push(format!("{refused} refused while it was down"));
        }
        row(f, "", &format!("  {}", parts.join(", ")))
    }

    /// Whether it is up, since when, and why.
    fn state(&self) -> String {
        let up = if self.up { "up" } else { "DOWN" };
        let since = self.age.map(|age| format!(" for {}", span(age)));
        let why = self.why.as_ref().map(|why| format!(": {why}"));
        let latency = self.latency_ms.filter(|_| self.up);
        let latency = latency.map(|ms| format!(", in {ms} ms"));
        let parts = [Some(up.to_owned()), since, why, latency];
        parts.into_iter().flatten().collect()
    }

    /// Who carries a group's flows.
    fn carried(&self) -> String {
        match (&self.carrier, &self.carrier_udp) {
            (Some(tcp), Some(udp)) if tcp == udp => format!("{tcp} carries it"),
            (Some(tcp), Some(udp)) => format!("{tcp} carries it, {udp} its UDP"),
            (Some(tcp), None) => format!("{tcp} carries it, nobody its UDP"),
            (None, Some(udp)) => format!("{udp} carries its UDP, nobody the rest"),
            (None, None) => "nobody carries it".into(),
        }
    }
}

impl TakesOver {
    fn told(&self, all: &[ExitStatus]) -> String {
        let Self { rule, exit } = self;
        let Some(exit) = exit else {
            return format!("flows of rule {rule} are blocked");
        };
        match all.iter().any(|other| other.name == *exit && other.up) {
            true => format!("{exit} takes over for rule {rule}"),
            false => {
                format!("{exit} would take over for rule {rule}, but is down: flows are blocked")
            }
        }
    }
}

/// A line of two columns. What others may have said does not reach the terminal as it is.
fn row(f: &mut Formatter<'_>, head: &str, text: &str) -> fmt::Result {
    for (index, line) in text.lines().enumerate() {
        let head = if index == 0 { head } else { "" };
        writeln!(f, "{head:<11}{}", printable(line))?;
    }
    Ok(())
}

/// A span as people say it.
pub(super) fn span(seconds: f64) -> String {
    let seconds = seconds.max(0.0) as u64;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// A moment, in UTC.
fn moment(seconds: f64) -> String {
    match jiff::Timestamp::from_second(seconds as i64) {
        Ok(at) => at.strftime("%F %T UTC").to_string(),
        Err(_) => "a time that cannot be told".into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

    use super::*;
    use crate::report::Tally;

    fn exit(name: &str, up: bool) -> ExitStatus {
        ExitStatus {
            name: name.into(),
            kind: "socks5".into(),
            server: Some("5.9.0.1:1080".into()),
            up,
            since: Some(1e9),
            age: Some(3725.0),
            why: Some(
                if up {
                    "it answers"
                } else {
                    "it does not answer"
                }
                .into(),
            ),
            latency_ms: Some(12),
            egress: None,
            egress_country: None,
            members: Vec::new(),
            carrier: None,
            carrier_udp: None,
            rules: vec!["abroad".into()],
            takes_over: vec![TakesOver {
                rule: "abroad".into(),
                exit: None,
            }],
            flows: 3,
            refused: 2,
        }
    }

    fn status() -> Status {
        Status {
            version: "1.2.3".into(),
            process: 42,
            since: 1e9,
            running: 90_061.0,
            policy: PolicyStatus {
                name: "home".into(),
                file: Some("/etc/cordon/policy.toml".into()),
                rules: 7,
                loaded: 1e9,
                age: 59.0,
            },
            reload: None,
            data: DataStatus {
                version: "abc".into(),
                built: Some("2026-06-17".into()),
                age_days: Some(12),
                stale: false,
                warnings: Vec::new(),
            },
            link: LinkStatus {
                mode: "gateway".into(),
                tun: "cordon0".into(),
                inside: vec!["lan".into()],
                mtu: 1500,
                path: "kernel".into(),
                shards: 2,
                answering: 2,
                offloads: vec!["checksum".into()],
                fallbacks: Vec::new(),
            },
            flows: FlowsStatus::default(),
            totals: Tally::default(),
            memory: Some(13 << 20),
            resolvers: Vec::new(),
            exits: Vec::new(),
            problems: Vec::new(),
        }
    }

    #[test]
    fn an_exit_that_is_down_is_told_with_why_and_what_becomes_of_its_flows() {
        let mut status = status();
        assert!(status.to_string().ends_with("All is well.\n"));
        let mut nl = exit("nl", false);
        for (rule, taker) in [("near", "de"), ("far", "nl")] {
            nl.takes_over.push(TakesOver {
                rule: rule.into(),
                exit: Some(taker.into()),
            });
        }
        let both = ExitStatus {
            name: "both".into(),
            kind: "failover".into(),
            server: None,
            age: None,
            why: None,
            latency_ms: None,
            members: vec!["nl".into(), "de".into()],
            carrier: Some("de".into()),
            rules: Vec::new(),
            flows: 0,
            refused: 0,
            ..exit("", true)
        };
        status.exits = vec![nl, exit("de", true), both];
        status.problems = vec!["exit nl is down".into()];
        let told = status.to_string();
        for part in [
            "running for 1 d 1 h (since 2001-09-09 01:46:40 UTC, process 42)",
            "nl (socks5 at 5.9.0.1:1080) is DOWN for 1 h 2 min: it does not answer",
            "  flows of rule abroad are blocked",
            "de (socks5 at 5.9.0.1:1080) is up for 1 h 2 min: it answers, in 12 ms\n",
            "for rule abroad, in both, 3 flows now, 2 flows refused while it was down",
            "both (failover of nl, de) is up\n",
            "  de carries it, nobody its UDP",
            "de takes over for rule near",
            "nl would take over for rule far, but is down: flows are blocked",
            "  used by no rule\n",
            "NOT WELL: exit nl is down",
        ] {
            assert!(told.contains(part), "{part}:\n{told}");
        }
        let blocked = told.matches("are blocked").count();
        assert_eq!(blocked, 2, "only of the one that is down: {told}");
    }

    #[test]
    fn what_others_say_cannot_steer_the_terminal() {
        let mut status = status();
        status.exits = vec![ExitStatus {
            why: Some("it says \u{1b}[2J".into()),
            ..exit("x", false)
        }];
        assert!(!status.to_string().contains('\u{1b}'));
    }

    #[test]
    fn a_status_is_one_line_that_can_be_read_again() {
        let line = serde_json::to_string(&status()).unwrap();
        assert!(line.starts_with("{\"type\":\"status\",") && !line.contains('\n'));
        let again: Status = serde_json::from_str(&line).unwrap();
        assert_eq!(again.to_string(), status().to_string());
    }
}
