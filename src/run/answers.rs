//! What the daemon answers when it is asked: everything is looked up then, from where it is kept anyway.

use super::daemon::{Load, Running};
use super::standing;
use crate::config::{Config, Dns, Mode, Path};
use crate::control::{
    DataStatus, FlowLine, FlowsEnd, FlowsStatus, LinkStatus, MOST_FLOWS, PolicyStatus,
    ReloadStatus, Reloaded, Request, Status,
};
use crate::gateway::{Cause, Census, FlowNow, Snapshot, Survey};
use crate::packet::protocol;
use crate::policy::{Policy, Verdict};
use crate::time::Time;
use crate::{db, dns};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

/// How long shards and the exits' thread may take to tell. They answer between two turns of theirs.
const PATIENCE: Duration = Duration::from_secs(1);

/// A running gate, and what it was loaded from.
pub(super) struct Clerk<'a> {
    pub(super) running: &'a Running,
    config: &'a Config,
    load: Load<'a>,
    began: Time,
    resolvers: Vec<String>,
    /// What was loaded last, …
    snapshot: Arc<Snapshot>,
    /// … when, …
    loaded: Time,
    /// … and what came of the last attempt to load another one.
    reload: Option<(Time, Option<String>)>,
}

impl<'a> Clerk<'a> {
    pub(super) fn new(
        running: &'a Running,
        config: &'a Config,
        load: Load<'a>,
        snapshot: Arc<Snapshot>,
    ) -> Self {
        let now = running.gate().clock().now();
        Self {
            running,
            config,
            load,
            began: now,
            resolvers: resolvers(&config.dns),
            snapshot,
            loaded: now,
            reload: None,
        }
    }

    /// Answers in JSON Lines.
    pub(super) async fn answer(&mut self, request: Request) -> String {
        match request {
            Request::Status {} => line(&self.status().await),
            Request::Reload {} => line(&self.reload()),
            Request::Flows { limit } => self.flows(limit.min(MOST_FLOWS)).await,
        }
    }

    /// Loads anew; if that fails, everything stays as it is.
    pub(super) fn reload(&mut self) -> Reloaded {
        let loaded = (self.load)().and_then(|snapshot| {
            self.running.replace(Arc::clone(&snapshot))?;
            Ok(snapshot)
        });
        let now = self.now();
        let error = match loaded {
            Ok(snapshot) => {
                eprintln!("cordon: the policy is loaded anew; live flows are judged again");
                (self.snapshot, self.loaded) = (snapshot, now);
                None
            }
            Err(error) => {
                eprintln!("cordon: the old policy stays: {error:#}");
                Some(format!("{error:#}"))
            }
        };
        self.reload = Some((now, error.clone()));
        Reloaded {
            ok: error.is_none(),
            policy: self.snapshot.policy.name().to_owned(),
            rules: self.snapshot.policy.rule_ids().count(),
            error,
        }
    }

    async fn status(&self) -> Status {
        let gate = self.running.gate();
        let until = Instant::now() + PATIENCE;
        let (surveys, standings) = (gate.survey(0), gate.standings());
        let surveys = gather(surveys, until).await;
        let standings = match standings {
            Some(standings) => timeout_at(until, standings).await.ok().and_then(Result::ok),
            None => None,
        };
        let now = self.now();
        let totals = gate.tally();
        let exits = standings.map(|it| standing::exits(&it, &surveys, &totals, now));
        let exits = exits.unwrap_or_default();
        let mut status = Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            since: seconds(self.began),
            running: span(now, self.began),
            policy: self.policy(now),
            reload: self.reload.as_ref().map(|(at, error)| ReloadStatus {
                at: seconds(*at),
                ago: span(now, *at),
                error: error.clone(),
            }),
            data: data(&self.snapshot),
            link: self.link(surveys.len()),
            flows: census(&surveys),
            totals,
            memory: memory(),
            resolvers: self.resolvers.clone(),
            exits,
            problems: Vec::new(),
        };
        status.problems = problems(&status, &self.snapshot.policy);
        status
    }

    async fn flows(&self, limit: usize) -> String {
        let until = Instant::now() + PATIENCE;
        let surveys = gather(self.running.gate().survey(limit), until).await;
        let now = self.now();
        let mut flows: Vec<(&Snapshot, &FlowNow)> = surveys
            .iter()
            .flat_map(|survey| survey.flows.iter().map(|flow| (&*survey.snapshot, flow)))
            .collect();
        flows.sort_unstable_by_key(|(_, flow)| std::cmp::Reverse(flow.used));
        flows.truncate(limit);
        let mut lines = String::new();
        for (snapshot, flow) in &flows {
            lines.push_str(&line(&flow_line(snapshot, flow, now)));
        }
        let end = FlowsEnd {
            flows: census(&surveys).all,
            listed: u64::try_from(flows.len()).unwrap_or(u64::MAX),
        };
        lines.push_str(&line(&end));
        lines
    }

    fn policy(&self, now: Time) -> PolicyStatus {
        let policy = &self.snapshot.policy;
        let file = self.config.policy.as_ref();
        PolicyStatus {
            name: policy.name().to_owned(),
            file: file.map(|file| file.display().to_string()),
            rules: policy.rule_ids().count(),
            loaded: seconds(self.loaded),
            age: span(now, self.loaded),
        }
    }

    fn link(&self, answering: usize) -> LinkStatus {
        let (link, fabric) = (&self.config.link, self.running.gate().fabric());
        let host = link.mode == Mode::Host;
        let early = self.running.gate().early();
        let (mode, path) = match (host, link.path) {
            (true, _) => ("host", "terminate"),
            (false, Path::Terminate) => ("gateway", "terminate"),
            (false, Path::Kernel) if early.leaves_flows() => ("gateway", "kernel"),
            (false, Path::Kernel | Path::Pass) => ("gateway", "pass"),
        };
        let offloads = fabric.offloads;
        let mut fallbacks = early.fallbacks.clone();
        let mut known = Vec::new();
        for (name, there, instead) in [
            ("checksum", offloads.checksum, "checksums are computed here"),
            ("tso", offloads.tso, "TCP segments come and go one by one"),
            ("uso", offloads.uso, "datagrams come and go one by one"),
        ] {
            match there {
                true => known.push(name.to_owned()),
                false => fallbacks.push(format!("the kernel offers no {name}: {instead}")),
            }
        }
        LinkStatus {
            mode: mode.into(),
            tun: link.tun.clone(),
            inside: if host {
                Vec::new()
            } else {
                link.inside.clone()
            },
            mtu: link.mtu,
            path: path.into(),
            shards: fabric.shards,
            answering,
            offloads: known,
            fallbacks,
        }
    }

    fn now(&self) -> Time {
        self.running.gate().clock().now()
    }
}

/// What needs somebody to look after it: exits that rules use and that are down, data that is out of date, a policy that
/// is not in force, threads that do not answer.
fn problems(status: &Status, policy: &Policy) -> Vec<String> {
    let mut problems = Vec::new();
    let used = standing::used(policy);
    let down = status.exits.iter().filter(|exit| !exit.up);
    for exit in down.filter(|exit| used.contains(exit.name.as_str())) {
        let why = exit.why.as_deref().unwrap_or("all its members are");
        problems.push(format!("exit {} is down: {why}", exit.name));
    }
    if status.exits.is_empty() && !policy.exits().is_empty() {
        problems.push("whoever looks after the exits does not answer".into());
    }
    if status.data.stale {
        problems.push("the jurisdiction data is out of date: see `cordon db update`".into());
    }
    if let Some(error) = status.reload.as_ref().and_then(|it| it.error.as_ref()) {
        problems.push(format!("the policy in its file is not in force: {error}"));
    }
    let LinkStatus {
        shards, answering, ..
    } = status.link;
    if answering < shards {
        let silent = shards - answering;
        problems.push(format!(
            "{silent} of {shards} threads that carry packets do not answer"
        ));
    }
    problems
}

/// What comes until then.
async fn gather(receivers: Vec<oneshot::Receiver<Survey>>, until: Instant) -> Vec<Survey> {
    let mut surveys = Vec::new();
    for receiver in receivers {
        if let Ok(Ok(survey)) = timeout_at(until, receiver).await {
            surveys.push(survey);
        }
    }
    surveys
}

fn census(surveys: &[Survey]) -> FlowsStatus {
    let mut census = Census::default();
    surveys.iter().for_each(|survey| census.add(&survey.census));
    FlowsStatus {
        all: census.flows(),
        tcp: census.tcp,
        udp: census.udp,
        icmp: census.icmp,
        kernel: census.kernel,
        pass: census.pass,
        terminate: census.terminate,
        waiting: census.waiting,
        blocked: census.blocked,
    }
}

fn data(snapshot: &Snapshot) -> DataStatus {
    let (data, now) = (&snapshot.data, db::now());
    let oldest = data.oldest_location();
    let date = |seconds: u64| {
        let at = jiff::Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
        Some(at.strftime("%F").to_string())
    };
    DataStatus {
        version: data.version(),
        built: oldest.and_then(date),
        age_days: oldest.map(|built| now.since(Time::from_secs(built)).as_secs() / 86_400),
        stale: db::is_stale(data.sources(), now),
        warnings: db::age_warnings(data.sources(), now),
    }
}

fn flow_line(snapshot: &Snapshot, flow: &FlowNow, now: Time) -> FlowLine {
    let Snapshot { policy, data, .. } = snapshot;
    let facts = data.lookup(flow.key.dst);
    let operator = data.operator_behind(&facts, flow.name.as_deref().into_iter());
    let decision = match flow.cause {
        Cause::Policy(decision) | Cause::Unavailable(decision, _) => Some(decision),
        Cause::Scope(_) => None,
    };
    let verdict = match (flow.cause, decision.map(|it| it.verdict)) {
        _ if flow.waits => "wait",
        (Cause::Policy(_), Some(Verdict::Pass(_))) if flow.exit.is_some() => "reroute",
        (Cause::Policy(_), Some(verdict)) => verdict.name(),
        _ => "block",
    };
    let rule = match (flow.cause, decision) {
        (Cause::Scope(scope), _) => format!("scope:{}", scope.name()),
        (_, decision) => decision.map_or("", |it| policy.rule_id(it.origin)).into(),
    };
    let unavailable = match flow.cause {
        Cause::Unavailable(_, why) => Some(why.name().to_owned()),
        Cause::Policy(_) | Cause::Scope(_) => None,
    };
    let observed = decision.and_then(|decision| decision.observed);
    let exit = flow.exit.and_then(|exit| policy.exit(exit));
    FlowLine {
        flow: flow.flow,
        proto: match flow.key.protocol {
            protocol::TCP => "tcp".into(),
            protocol::UDP => "udp".into(),
            _ => "icmp".into(),
        },
        src: flow.key.src,
        sport: flow.key.sport,
        dst: flow.key.dst,
        dport: flow.key.dport,
        name: flow.name.as_deref().map(str::to_owned),
        country: facts.country.map(|country| country.to_string()),
        operator: operator.map(|operator| operator.id.clone()),
        verdict: verdict.into(),
        rule,
        unavailable,
        observed: observed.map(|origin| policy.rule_id(origin).to_owned()),
        exit: exit.map(|exit| exit.name.to_string()),
        path: flow.path.name().into(),
        packets_sent: flow.sent.packets,
        bytes_sent: flow.sent.bytes,
        packets_received: flow.received.packets,
        bytes_received: flow.received.bytes,
        withheld: flow.withheld,
        age: span(now, flow.opened),
        idle: span(now, flow.used),
    }
}

/// Who is asked, as it is configured, with what the system names.
fn resolvers(settings: &Dns) -> Vec<String> {
    if !settings.answer {
        return Vec::new();
    }
    let shown = |upstream: &String| match upstream.as_str() {
        "system" => {
            let addresses: Vec<String> =
                dns::system().iter().map(|at| at.ip().to_string()).collect();
            format!("system ({})", addresses.join(", "))
        }
        other => other.to_owned(),
    };
    let mut resolvers: Vec<String> = settings.upstreams.iter().map(shown).collect();
    for route in &settings.route {
        let sources = route.from.iter().map(ToString::to_string);
        let whom: Vec<String> = route.domain.iter().cloned().chain(sources).collect();
        for upstream in &route.upstreams {
            resolvers.push(format!("{} for {}", shown(upstream), whom.join(", ")));
        }
    }
    resolvers
}

/// Bytes of memory that this process has (proc(5), `statm`).
fn memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    pages.checked_mul(u64::try_from(page).ok()?)
}

pub(super) fn seconds(at: Time) -> f64 {
    span(at, Time::default())
}

pub(super) fn span(now: Time, then: Time) -> f64 {
    now.since(then).as_secs_f64()
}

fn line(object: &impl Serialize) -> String {
    let mut line = serde_json::to_string(object).unwrap_or_default();
    line.push('\n');
    line
}
