//! What the gateway tells about flows: per flow, never per packet.

use super::Snapshot;
use crate::flow::FlowKey;
use crate::jurisdiction::{AddressFacts, Data};
use crate::policy::{
    Action, Decision, Evidence, ExitId, Facts, Name, Opening, Source, Unavailable,
};
use crate::sanitize::{Excerpt, Finding, Scope};
use crate::time::Time;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Something worth telling.
#[derive(Clone, Debug)]
pub enum Event {
    /// A flow began and was judged.
    Open(Box<Open>),
    /// A flow showed a name that is against it, or for which no answer gave its client the address.
    Shown(Box<Open>),
    /// A payload gave something away.
    Leak(Box<Leak>),
    /// A flow is over.
    Close(Box<Close>),
    /// Something was refused before any rule looked at it.
    Refused(Refused),
    /// An exit can be used from now on, or no longer.
    Exit(Box<ExitChange>),
}

/// What became of an exit.
#[derive(Clone, Debug)]
pub struct ExitChange {
    /// What the policy calls it.
    pub exit: Box<str>,
    /// When.
    pub at: Time,
    /// It can be used.
    pub up: bool,
    /// What tells so, in a few words.
    pub why: String,
}

/// A flow and what was made of it.
#[derive(Clone, Debug)]
pub struct Open {
    /// Number of the flow in this process.
    pub flow: u64,
    /// When.
    pub at: Time,
    /// What was judged.
    pub subject: Subject,
    /// What became of it.
    pub cause: Cause,
    /// The exit that carries it, where it is not the machine itself.
    pub exit: Option<ExitId>,
    /// What it was judged by.
    pub snapshot: Arc<Snapshot>,
}

/// All that is known of a flow when it is judged.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Five-tuple as the client sees it.
    pub key: FlowKey,
    /// Where it goes.
    pub destination: SocketAddr,
    /// What the data says about the destination.
    pub address: AddressFacts,
    /// Names of the destination known for this client.
    pub names: Vec<(Box<str>, Evidence)>,
    /// The client's hardware address, where it is known.
    pub mac: Option<[u8; 6]>,
    /// What its first payload showed.
    pub opening: Opening,
    /// Wall clock in seconds since the Unix epoch, where it is set.
    pub wall: Option<u64>,
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The policy.
    Policy(Decision),
    /// A built-in guard: such traffic never crosses.
    Scope(Scope),
    /// The policy sends it by an exit, which cannot carry it now: it is blocked.
    Unavailable(Decision, Unavailable),
}

/// A finding, and what was done about it.
#[derive(Clone, Debug)]
pub struct Leak {
    /// Number of the flow.
    pub flow: u64,
    /// Five-tuple as the client sees it.
    pub key: FlowKey,
    /// When.
    pub at: Time,
    /// What was found; its span is in the payload of that datagram, or in the chunk of that stream.
    pub finding: Finding,
    /// The value and the bytes around it, for a report.
    pub excerpt: Excerpt,
    /// Place of the sanitize entry that acts on it; `None` if no entry lists it.
    pub entry: Option<u16>,
    /// What was done. `None`: nothing had to be, the flow is blocked or no entry asks for it.
    pub action: Option<Action>,
    /// The payload left with it.
    pub sent: bool,
    /// The payload left, and other bytes of the same length in its place.
    pub redacted: bool,
    /// What it was judged by.
    pub snapshot: Arc<Snapshot>,
}

/// A flow at its end.
#[derive(Clone, Debug)]
pub struct Close {
    /// Number of the flow.
    pub flow: u64,
    /// Five-tuple as the client sees it.
    pub key: FlowKey,
    /// When it began.
    pub opened: Time,
    /// When it ended.
    pub at: Time,
    /// From the client to the outside.
    pub sent: Count,
    /// From the outside to the client.
    pub received: Count,
    /// Datagrams that were held back because of what they contained.
    pub withheld: u64,
    /// Which way its packets went.
    pub path: Path,
    /// Why.
    pub end: End,
}

/// Which way the packets of a flow go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// Nowhere.
    None,
    /// The connection ends here and another one goes on.
    Terminate,
    /// Packet by packet through here.
    Pass,
    /// The kernel forwards them; counts are of what came through here before.
    Kernel,
}

/// Traffic of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets (TCP: reads and writes).
    pub packets: u64,
    /// Payload bytes.
    pub bytes: u64,
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Both sides were done.
    Done,
    /// The client reset it.
    ResetInside,
    /// The outside reset it.
    ResetOutside,
    /// The outside did not take it.
    Failed(Failure),
    /// Nothing happened for too long.
    Idle,
    /// It was never allowed.
    Blocked,
    /// A new policy no longer allows it.
    Rejudged,
    /// The exit that carried it is down, and no other may carry it.
    ExitDown,
    /// What it showed of whom it asks for is against it.
    Shown,
    /// An answer gave its address a name that is against it.
    Named,
    /// Its payload leaked.
    Leaked,
    /// The gateway is shutting down.
    Shutdown,
}

/// Why a connection to the outside could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// Refused by the other end.
    Refused,
    /// No way to the host or network.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// This machine has no descriptors or memory left.
    Exhausted,
    /// This machine, or the proxy in between, may not send it.
    Forbidden,
    /// It did not get beyond the exit.
    Exit(ExitFault),
}

/// What is wrong with an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitFault {
    /// It cannot be connected to, or hangs up.
    Unreachable,
    /// It does not accept who we are.
    Credentials,
    /// What it says makes no sense.
    Malformed,
    /// It cannot carry this kind of traffic.
    Unsupported,
}

/// Something refused before any rule.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// Which check or bound: a stable name.
    pub what: &'static str,
    /// Whose packet it was, if it could be read.
    pub source: Option<IpAddr>,
    /// When.
    pub at: Time,
}

impl Subject {
    /// Hands out the facts a policy is asked about.
    pub fn with_facts<R>(&self, data: &Data, ask: impl FnOnce(&Facts<'_>) -> R) -> R {
        let names: Vec<Name<'_>> = self
            .names
            .iter()
            .map(|(name, evidence)| Name {
                name,
                evidence: *evidence,
            })
            .collect();
        ask(&Facts {
            source: Source {
                address: self.key.src,
                mac: self.mac,
                peer: None,
            },
            protocol: self.key.protocol,
            destination: self.destination,
            address: self.address,
            names: &names,
            opening: self.opening,
            data,
            wall: self.wall,
        })
    }
}

impl Open {
    /// What the policy calls an exit.
    pub fn exit_name(&self, exit: ExitId) -> &str {
        let exit = self.snapshot.policy.exit(exit);
        exit.map_or("", |exit| &exit.name)
    }
}

impl Count {
    pub(super) fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
    }
}

impl Failure {
    /// What there is to say of an exit whose check failed so, in plain words.
    pub fn of_exit(self) -> &'static str {
        match self {
            Self::Refused => "it refuses the connection",
            Self::Unreachable => "there is no way to it",
            Self::TimedOut => "it does not answer",
            Self::Exhausted => "this machine has no descriptors or memory left to ask it",
            Self::Forbidden => "this machine may not send to it",
            Self::Exit(ExitFault::Unreachable) => "it cannot be connected to, or hangs up",
            Self::Exit(ExitFault::Credentials) => "it does not accept our user and password",
            Self::Exit(ExitFault::Malformed) => {
                "what it says makes no sense, or its certificate is not trusted"
            }
            Self::Exit(ExitFault::Unsupported) => "it cannot do what is asked of it",
        }
    }
}

impl Path {
    /// A stable name for events.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Terminate => "terminate",
            Self::Pass => "pass",
            Self::Kernel => "kernel",
        }
    }
}

impl End {
    /// A stable name for events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::ResetInside => "reset-inside",
            Self::ResetOutside => "reset-outside",
            Self::Failed(Failure::Refused) => "refused",
            Self::Failed(Failure::Unreachable) => "unreachable",
            Self::Failed(Failure::TimedOut) => "timed-out",
            Self::Failed(Failure::Exhausted) => "exhausted",
            Self::Failed(Failure::Forbidden) => "forbidden",
            Self::Failed(Failure::Exit(ExitFault::Unreachable)) => "exit-unreachable",
            Self::Failed(Failure::Exit(ExitFault::Credentials)) => "exit-credentials",
            Self::Failed(Failure::Exit(ExitFault::Malformed)) => "exit-malformed",
            Self::Failed(Failure::Exit(ExitFault::Unsupported)) => "exit-unsupported",
            Self::Idle => "idle",
            Self::Blocked => "blocked",
            Self::Rejudged => "rejudged",
            Self::ExitDown => "exit-down",
            Self::Shown => "shown",
            Self::Named => "named",
            Self::Leaked => "leaked",
            Self::Shutdown => "shutdown",
        }
    }
}
