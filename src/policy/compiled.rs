//! A policy, ready to judge.

use super::cases::Case;
use super::condition::{Condition, Member, Written};
use super::domains::Domains;
use super::evaluate::Demand;
use super::exits::Exit;
use super::index::Index;
use super::verdict::{Action, ExitId, Reply};
use crate::document::{Place, Problem};
use crate::sanitize::Term;
use std::ops::Range;
use std::sync::Arc;

/// A policy, compiled: what may leave, to whose jurisdiction, by which way.
///
/// It is immutable and holds no data of addresses: the same policy with the same [`Facts`](super::Facts) always gives
/// the same [`Decision`](super::Decision).
#[derive(Debug)]
pub struct Policy {
    pub(super) name: Box<str>,
    /// Nothing is acted on (`mode = "observe"`) where nothing else is said.
    pub(super) observed: bool,
    pub(super) default: Default,
    pub(super) rules: Vec<Rule>,
    /// The conditions of all rules, one after the other.
    pub(super) conditions: Vec<Condition>,
    /// What stands in the file for each of them.
    pub(super) written: Vec<Written>,
    pub(super) sanitizers: Vec<Sanitizer>,
    pub(super) exits: Vec<Exit>,
    pub(super) domains: Domains,
    pub(super) index: Index,
    /// Some rule may come out otherwise by what the opening of a flow shows.
    pub(super) asks_for_openings: bool,
    /// Some rule asks for a name, whoever runs its servers.
    pub(super) asks_for_names: bool,
    pub(super) cases: Vec<Case>,
    pub(super) declared: Declared,
    /// Doubts that came up while reading.
    pub(super) notes: Vec<Problem>,
}

/// What happens when no rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Default {
    /// `Allow` or `Block`.
    pub(super) effect: Effect,
    /// It only records.
    pub(super) observed: bool,
    /// Where it says that policies which extend this one cannot change it.
    pub(super) locked: Option<Place>,
    /// What rules do that do not say.
    pub(super) on_unknown: OnUnknown,
    /// What reroutes do that do not say.
    pub(super) exit_down: Option<ExitId>,
    /// Days after which the data proves nothing any more.
    pub(super) max_data_age: Option<u32>,
}

/// What a rule does when it fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Effect {
    Allow,
    Block(Reply),
    Reroute { exit: ExitId, down: Option<ExitId> },
}

/// What a block rule does when it cannot tell whether it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum OnUnknown {
    /// It fires.
    Block,
    /// It does not; later rules judge.
    Allow,
}

/// Whether a rule only records what it would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Observe {
    Never,
    /// Before this time, in seconds since the Unix epoch.
    Until(u64),
    Always,
}

/// One `[[rule]]`.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    /// Which of the policy's conditions; all must hold.
    pub(super) conditions: Range<u32>,
    pub(super) effect: Effect,
    pub(super) on_unknown: OnUnknown,
    pub(super) observe: Observe,
    pub(super) evidence: Demand,
    /// It comes before the rules of a policy that extends this one.
    pub(super) locked: bool,
    pub(super) id: Box<str>,
    pub(super) place: Place,
}

/// One `[[sanitize]]`.
#[derive(Clone, Debug)]
pub(super) struct Sanitizer {
    pub(super) id: Box<str>,
    pub(super) from: Option<(Condition, Written)>,
    pub(super) to: Option<(Condition, Written)>,
    pub(super) leaks: Vec<Term>,
    pub(super) action: Action,
    /// It only reports (`mode = "observe"`).
    pub(super) observed: bool,
    /// A policy that extends this one cannot make it only report.
    pub(super) locked: bool,
}

/// Names that a policy declares, as they are written; for printing and for checks.
#[derive(Clone, Debug, std::default::Default)]
pub(super) struct Declared {
    pub(super) sources: Vec<(Box<str>, Arc<[Member]>, Place)>,
    pub(super) targets: Vec<(Box<str>, Vec<Written>, Place)>,
    pub(super) schedules: Vec<(Box<str>, Box<str>, Place)>,
    pub(super) lists: Vec<(Box<str>, Box<str>, Place)>,
}

impl Effect {
    /// Whether it stops what matches.
    pub(super) fn stops(self) -> bool {
        match self {
            Self::Block(_) => true,
            Self::Allow | Self::Reroute { .. } => false,
        }
    }

    /// Its name in a policy.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Block(_) => "block",
            Self::Reroute { .. } => "reroute",
        }
    }
}

impl Policy {
    /// The name it gives itself; empty if none.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ids of the rules in compiled order, the order of [`Origin::Rule`](super::Origin::Rule).
    pub fn rule_ids(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.id.as_ref())
    }

    /// The declared exits in the order of their [`ExitId`]s.
    pub fn exits(&self) -> &[Exit] {
        &self.exits
    }

    /// The ids of the declared exits, in their order.
    pub fn exit_ids(&self) -> impl Iterator<Item = ExitId> + use<> {
        let count = u16::try_from(self.exits.len()).unwrap_or(u16::MAX);
        (0..count).map(ExitId)
    }

    /// Whether some rule asks for the name of a flow, whoever runs its servers.
    pub fn asks_for_names(&self) -> bool {
        self.asks_for_names
    }

    /// Whether what the opening of a flow shows, a name above all, can matter to any rule.
    pub fn asks_for_openings(&self) -> bool {
        self.asks_for_openings
    }

    /// What an exit is; `None` for an id of another policy.
    pub fn exit(&self, exit: ExitId) -> Option<&Exit> {
        self.exits.get(usize::from(exit.0))
    }

    /// The conditions of a rule with what stands in the file for each.
    pub(super) fn conditions_of(
        &self,
        rule: &Rule,
    ) -> impl Iterator<Item = (&Condition, &Written)> {
        let range = rule.range();
        let conditions = self.conditions.get(range.clone()).unwrap_or_default();
        conditions
            .iter()
            .zip(self.written.get(range).unwrap_or_default())
    }
}
