//! How everything stands.

use crate::report::Tally;
use serde::{Deserialize, Serialize};

/// How everything stands. Moments are seconds since the Unix epoch, spans are seconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename = "status")]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process.
    pub process: u32,
    /// When it began.
    pub since: f64,
    /// How long ago that was.
    pub running: f64,
    /// What it judges by.
    pub policy: PolicyStatus,
    /// What came of the last request to load the policy anew.
    pub reload: Option<ReloadStatus>,
    /// The jurisdiction data.
    pub data: DataStatus,
    /// How packets come and go.
    pub link: LinkStatus,
    /// Flows now.
    pub flows: FlowsStatus,
    /// What was made of flows since it began.
    pub totals: Tally,
    /// Bytes of memory that the process has.
    pub memory: Option<u64>,
    /// Who is asked for names; none if questions are flows like all others.
    pub resolvers: Vec<String>,
    /// The policy's exits.
    pub exits: Vec<ExitStatus>,
    /// What needs somebody to look after it. Nothing: all is well.
    pub problems: Vec<String>,
}

/// What flows are judged by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// What it calls itself.
    pub name: String,
    /// Its file.
    pub file: Option<String>,
    /// How many rules it has.
    pub rules: usize,
    /// When it was loaded, …
    pub loaded: f64,
    /// … and how long ago that was.
    pub age: f64,
}

/// What came of loading the policy anew.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReloadStatus {
    /// When.
    pub at: f64,
    /// How long ago.
    pub ago: f64,
    /// Why the old one stays; none: the new one is in force.
    pub error: Option<String>,
}

/// The jurisdiction data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DataStatus {
    /// The version of all of it.
    pub version: String,
    /// When what it says of locations was built, by the oldest source: `YYYY-MM-DD`.
    pub built: Option<String>,
    /// How many days ago.
    pub age_days: Option<u64>,
    /// Some of it is more than 90 days old.
    pub stale: bool,
    /// What is to be said of its age.
    pub warnings: Vec<String>,
}

/// How packets come and go.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LinkStatus {
    /// `gateway` or `host`.
    pub mode: String,
    /// The TUN device.
    pub tun: String,
    /// The interfaces to the inside.
    pub inside: Vec<String>,
    /// MTU in bytes.
    pub mtu: u16,
    /// The cheapest way that flows may go: `kernel`, `pass` or `terminate`.
    pub path: String,
    /// Threads.
    pub shards: usize,
    /// Threads that answer.
    pub answering: usize,
    /// What the kernel does for packets of the link: `checksum`, `tso`, `uso`.
    pub offloads: Vec<String>,
    /// What is not to be had here, and what is done instead.
    pub fallbacks: Vec<String>,
}

/// Flows now.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct FlowsStatus {
    /// All.
    pub all: u64,
    /// TCP.
    pub tcp: u64,
    /// UDP.
    pub udp: u64,
    /// Echo.
    pub icmp: u64,
    /// Forwarded by the kernel alone.
    pub kernel: u64,
    /// Passing packet by packet.
    pub pass: u64,
    /// Ended here, with another connection to go on.
    pub terminate: u64,
    /// Held until they show whom they ask for.
    pub waiting: u64,
    /// Remembered as blocked.
    pub blocked: u64,
}

/// One exit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExitStatus {
    /// What the policy calls it.
    pub name: String,
    /// What it is, as in a policy.
    pub kind: String,
    /// Where it is said to be.
    pub server: Option<String>,
    /// It can be used; of a group: one of its members can.
    pub up: bool,
    /// Since when; groups have no time of their own.
    pub since: Option<f64>,
    /// How long ago that was.
    pub age: Option<f64>,
    /// What tells so.
    pub why: Option<String>,
    /// Milliseconds that it takes to answer.
    pub latency_ms: Option<u64>,
    /// By which address others see it, where that was asked for and is allowed.
    pub egress: Option<String>,
    /// The country of that address.
    pub egress_country: Option<String>,
    /// Of a group: its members.
    pub members: Vec<String>,
    /// Of a group: the member that carries TCP to IPv4 now.
    pub carrier: Option<String>,
    /// Of a group: the member that carries UDP to IPv4 now.
    pub carrier_udp: Option<String>,
    /// The rules that send flows by it.
    pub rules: Vec<String>,
    /// Who takes over for it while it is down.
    pub takes_over: Vec<TakesOver>,
    /// Flows that go by it now; those of a group go by its members.
    pub flows: u64,
    /// Flows of its rules that were blocked because it was down.
    pub refused: u64,
}

/// Who takes over for an exit while it is down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakesOver {
    /// For which rule.
    pub rule: String,
    /// Which exit; none: its flows are blocked.
    pub exit: Option<String>,
}
