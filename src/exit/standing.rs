//! What is told of exits: what has changed, and for whoever asks, how they stand.

use super::ways::Ways;
use crate::gateway::Snapshot;
use crate::policy::{ExitState, Server};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What is found.
#[derive(Debug)]
pub enum Finding {
    /// A policy, with its exits.
    Replaced(Arc<Snapshot>, Arc<Ways>),
    /// The exits of the same policy.
    Changed(Arc<Ways>),
    /// One of them can be used from now on, or no longer.
    Turned {
        /// What the policy calls it.
        exit: Box<str>,
        /// It can be used.
        up: bool,
        /// What tells so.
        why: String,
    },
}

/// Whom it is told.
pub type Publish = Box<dyn FnMut(Finding) + Send>;

/// How the exits of a policy stand.
#[derive(Clone, Debug)]
pub struct Standings {
    /// The policy, with what else flows are judged by.
    pub snapshot: Arc<Snapshot>,
    /// Its exits, in their order.
    pub exits: Vec<Standing>,
}

/// How an exit stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Whether it can be used.
    pub state: ExitState,
    /// For how long that has been so.
    pub since: Duration,
    /// What tells so, in a few words; `None`: nobody looks after it, or nobody has looked yet.
    pub why: Option<String>,
    /// Where the policy, or its tunnel's configuration, says that it is.
    pub server: Option<Server>,
    /// By which address others see it, if the policy asks for that and allows it.
    pub egress: Option<IpAddr>,
    /// Somebody looks after it.
    pub kept: bool,
}
