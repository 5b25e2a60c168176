//! What may leave, to whose jurisdiction, by which way: facts in, a decision out.

mod because;
mod cases;
mod compiled;
mod condition;
mod decide;
mod domains;
mod evaluate;
mod exits;
mod explain;
mod facts;
mod flip;
mod lint;
mod networks;
mod parse;
mod print;
mod problem;
mod reader;
mod resolve;
mod truth;
mod values;
mod verdict;

pub use cases::{Sender, TestResult};
pub use compiled::Policy;
pub use domains::canonical as canonical_name;
pub use exits::{Exit, ExitKind, Server};
pub use explain::{Explanation, FactSheet, NameFact, SourceFact, Step, Would};
pub use facts::{Evidence, Facts, Name, Opening, Source};
pub use parse::Surroundings;
pub use problem::{LoadError, Place, Problem};
pub use verdict::{Action, Active, Decision, ExitId, Origin, Permit, Reply, Route, Verdict};

#[cfg(test)]
mod tests;
