//! Names that are blocked wherever they lead, so that they need not be asked for.

use super::compiled::{Effect, Policy};
use super::condition::Test;
use super::evaluate::{Asked, Seen};
use super::facts::Facts;
use super::truth::{Truth, Waits};
use super::verdict::{Origin, Reply};

impl Policy {
    /// The rule that blocks every flow to the names of `facts`, whatever the address, port and protocol, and how it
    /// answers; the facts of the address are not looked at. `None` if some flow to them may get by, other than by an
    /// address that is let go by itself.
    pub fn blocks_name(&self, facts: &Facts<'_>) -> Option<(Origin, Reply)> {
        let seen = Seen::new(facts, self);
        for (index, rule) in (0..).zip(&self.rules) {
            if rule.is_observed(facts.wall) {
                continue;
            }
            let stops = rule.effect.stops();
            let conditions = self.conditions.get(rule.range()).unwrap_or_default();
            let truth = conditions.iter().fold(Truth::Yes, |all, condition| {
                let asked = Asked {
                    stops,
                    negate: condition.negate,
                    demand: rule.evidence,
                };
                all.and(by_name(&seen, &condition.test, asked))
            });
            match (truth, rule.effect) {
                (Truth::Yes, Effect::Block(reply)) => return Some((Origin::Rule(index), reply)),
                (Truth::No, _) | (_, Effect::Block(_)) => {}
                // It may let go what a later rule would block.
                (Truth::Yes | Truth::Unknown(_), Effect::Allow | Effect::Reroute { .. }) => {
                    return None;
                }
            }
        }
        None
    }
}

/// Whether a condition holds as far as name, sender and time tell.
fn by_name(seen: &Seen<'_>, test: &Test, asked: Asked) -> Truth {
    match test {
        Test::Domain(_) | Test::From(_) | Test::Schedule(_) => seen.test(test, asked),
        // A name adds to what the address says: it can make these hold, and never more than that.
        Test::Operator(_) | Test::OperatorCountry(_) | Test::Jurisdiction(_) => {
            match seen.test(test, asked) {
                Truth::Yes if asked.stops && !asked.negate => Truth::Yes,
                Truth::Yes | Truth::No | Truth::Unknown(_) => Truth::Unknown(Waits::NEVER),
            }
        }
        Test::To(parts) => {
            let parts = parts.iter().map(|(part, _)| by_name(seen, part, asked));
            if asked.negate {
                parts.fold(Truth::Yes, Truth::and)
            } else {
                parts.fold(Truth::No, Truth::or)
            }
        }
        // What is let go by its address needs no name.
        Test::Ip(_) if !asked.stops && !asked.negate => Truth::No,
        Test::Proto(_)
        | Test::Port(_)
        | Test::Anycast(_)
        | Test::SniMissing(_)
        | Test::Cleartext(_)
        | Test::NoDns(_)
        | Test::SniMismatch(_)
        | Test::Ip(_)
        | Test::Asn(_)
        | Test::Country(_) => Truth::Unknown(Waits::NEVER),
    }
}
