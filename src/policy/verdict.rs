//! What comes out: a verdict, what gave it, and the permit without which nothing leaves.

use std::net::SocketAddr;

/// Which entry of `[exits]`, by its place in the policy; [`Policy::exit`](super::Policy::exit) describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExitId(pub(super) u16);

impl ExitId {
    /// Its place among [`Policy::exits`](super::Policy::exits).
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// Its place, counted from one.
    pub fn number(self) -> u16 {
        self.0.saturating_add(1)
    }
}

/// The way out of a permitted flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// From this machine itself.
    Direct,
    /// By a declared exit.
    Via(ExitId),
}

/// The right to open one connection, or to send to one remote. Only [`Policy::decide`](super::Policy::decide) makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    pub(super) protocol: u8,
    pub(super) destination: SocketAddr,
    pub(super) route: Route,
    pub(super) fallback: Option<ExitId>,
}

impl Permit {
    /// Transport protocol number.
    pub fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Where the connection may go, and nowhere else.
    pub fn destination(&self) -> SocketAddr {
        self.destination
    }

    /// By which way.
    pub fn route(&self) -> Route {
        self.route
    }

    /// The exit that it names.
    pub fn exit(self) -> Option<ExitId> {
        match self.route {
            Route::Direct => None,
            Route::Via(exit) => Some(exit),
        }
    }

    /// The permit that takes over while this one's exit is down (`exit_down`); `None`: then the flow is blocked.
    pub fn when_down(&self) -> Option<Self> {
        self.fallback.map(|exit| Self {
            route: Route::Via(exit),
            fallback: None,
            ..*self
        })
    }
}

/// How a blocked flow is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// TCP RST, ICMP *administratively prohibited*.
    Reject,
    /// Silence.
    Drop,
}

impl Reply {
    /// Its name in a policy.
    pub fn name(self) -> &'static str {
        match self {
            Self::Reject => "reject",
            Self::Drop => "drop",
        }
    }
}

/// What becomes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes nowhere.
    Block(Reply),
    /// It may leave as the permit says.
    Pass(Permit),
}

impl Verdict {
    /// `allow`, `block` or `reroute`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Block(_) => "block",
            Self::Pass(permit) => match permit.route {
                Route::Direct => "allow",
                Route::Via(_) => "reroute",
            },
        }
    }
}

/// What gave a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A rule, by its place in the compiled order; [`Policy::rule_id`](super::Policy::rule_id) names it.
    Rule(u16),
    /// No rule matched.
    Default,
}

/// A verdict and where it came from. Plain data, made without allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the flow.
    pub verdict: Verdict,
    /// What gave it.
    pub origin: Origin,
    /// The block rule fired because a fact it needs is unknown (`on_unknown`).
    pub unknown: bool,
    /// The first rule that would have decided otherwise, were it not only observed (`mode`, `observe_until`).
    pub observed: Option<Origin>,
    /// A rule that could still win waits for a name of the destination.
    pub needs_name: bool,
    /// A rule that could still win waits for the flow's first payload.
    pub needs_payload: bool,
}

impl Decision {
    /// Whether the flow should be held, within its bound, before the verdict is acted on. The verdict already counts
    /// what is missing as unknown, so it is the one to act on when the bound is reached.
    pub fn needs_more(&self) -> bool {
        self.needs_name || self.needs_payload
    }
}

/// The `[[sanitize]]` entries that concern a flow, by their place in the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Active(pub(super) u64);

impl Active {
    /// No entry concerns the flow: its payload need not be read.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What an entry wants done with a payload that leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Tell, and let it pass.
    Report,
    /// Rewrite the field where a codec can, otherwise drop.
    Redact,
    /// Drop the datagram; a TCP flow is ended.
    Drop,
    /// End the flow and answer as a rejected one.
    Reject,
}

impl Action {
    /// Its name in a policy.
    pub fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Redact => "redact",
            Self::Drop => "drop",
            Self::Reject => "reject",
        }
    }
}
