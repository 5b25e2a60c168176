//! What may leave, to whose jurisdiction, by which way: facts in, a decision out.

mod assurance;
mod because;
mod bundle;
mod by_name;
mod cases;
mod changed;
mod compiled;
mod condition;
mod cover;
mod decide;
mod defaults;
mod domains;
mod draft;
mod egress;
mod evaluate;
mod exits;
mod explain;
mod facts;
mod flip;
mod given;
mod index;
mod lint;
mod lists;
mod load;
mod networks;
mod print;
mod resolve;
mod route;
mod rules;
mod schedule;
mod senders;
mod truth;
mod values;
mod verdict;

pub use crate::document::{LoadError, Place, Problem};
pub use bundle::{Files, NoFiles};
pub use cases::TestResult;
pub use compiled::Policy;
pub use domains::canonical as canonical_name;
pub use egress::Egress;
pub use exits::{Exit, ExitKind, Server};
pub use explain::{Explanation, FactSheet, NameFact, SourceFact, Step, Would};
pub use facts::{Evidence, Facts, Name, Opening, Source};
pub use load::Surroundings;
pub use route::{ExitState, Load, Unavailable};
pub use senders::Sender;
pub use verdict::{Action, Active, Decision, ExitId, Origin, Permit, Reply, Route, Verdict};

#[cfg(test)]
mod tests;
