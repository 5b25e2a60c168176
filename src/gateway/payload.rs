//! What becomes of a payload in which something was found: it leaves as it is, leaves rewritten, or does not leave.

use super::{Event, Flow, Gateway, LEAKS_PER_FLOW, Leak, State};
use crate::flow::FlowId;
use crate::policy::Action;
use crate::sanitize::{Excerpt, Finding};
use crate::time::Time;
use std::sync::Arc;

/// What is to become of a payload, the mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Payload {
    /// It may leave.
    Clear,
    /// It may leave: what must not was rewritten in place.
    Rewritten,
    /// It is held back.
    Withhold,
    /// It is held back, and the flow with it.
    EndFlow,
}

/// Where a payload lies that something was found in.
pub(super) enum Carrier<'a> {
    /// In a packet that stays as it is.
    Fixed(&'a [u8]),
    /// In a datagram that may be rewritten.
    Datagram(&'a mut [u8]),
    /// At the end of what the client of a terminated flow has sent.
    Ring,
}

impl Gateway {
    /// Decides on a payload by what was found in it, and tells. If all it takes is to rewrite some findings, they are
    /// rewritten in place; where that cannot be done, the payload is held back. `found` is left empty.
    pub(super) fn weigh(&mut self, id: FlowId, mut carrier: Carrier<'_>, now: Time) -> Payload {
        let mut found = std::mem::take(&mut self.found);
        let Some((_, flow)) = self.flows.get(id) else {
            return Payload::EndFlow;
        };
        let actions: Vec<Option<(u16, Action)>> = found
            .iter()
            .map(|finding| self.snapshot.policy.action(flow.active, finding))
            .collect();
        let room = LEAKS_PER_FLOW.saturating_sub(flow.leaks) as usize;
        let excerpts = self.excerpts(id, &carrier, &found, room);
        let wanted = actions.iter().flatten().map(|(_, action)| match action {
            Action::Report => Payload::Clear,
            Action::Redact => Payload::Rewritten,
            Action::Drop => Payload::Withhold,
            Action::Reject => Payload::EndFlow,
        });
        let mut outcome = wanted.max().unwrap_or(Payload::Clear);
        if outcome == Payload::Rewritten {
            let marked: Vec<Finding> = found
                .iter()
                .zip(&actions)
                .filter(|(_, action)| matches!(action, Some((_, Action::Redact))))
                .map(|(finding, _)| finding.clone())
                .collect();
            if !self.rewrite(id, &mut carrier, &marked) {
                outcome = Payload::Withhold;
            }
        }
        for ((finding, action), excerpt) in found.drain(..).zip(actions).zip(excerpts) {
            self.tell_leak(id, (finding, excerpt), action, (outcome, now));
        }
        self.found = found;
        outcome
    }

    /// The first findings in their surroundings: as many as will be told.
    fn excerpts(
        &mut self,
        id: FlowId,
        carrier: &Carrier<'_>,
        found: &[Finding],
        most: usize,
    ) -> Vec<Excerpt> {
        let cut = |payload: &[u8]| {
            let told = found.iter().take(most);
            told.map(|finding| Excerpt::of(payload, finding, found))
                .collect()
        };
        match carrier {
            Carrier::Fixed(payload) => cut(payload),
            Carrier::Datagram(payload) => cut(payload),
            Carrier::Ring => self
                .ring(id, |bytes, chunk| {
                    cut(bytes.get(chunk..).unwrap_or_default())
                })
                .unwrap_or_default(),
        }
    }

    /// True if what is marked is gone: false if some of it cannot be rewritten, or has left in part.
    fn rewrite(&mut self, id: FlowId, carrier: &mut Carrier<'_>, marked: &[Finding]) -> bool {
        let snapshot = Arc::clone(&self.snapshot);
        let sanitizer = &snapshot.sanitizer;
        match carrier {
            Carrier::Fixed(_) => false,
            Carrier::Datagram(payload) => sanitizer.redact(payload, marked),
            Carrier::Ring => self
                .ring(id, |bytes, chunk| {
                    sanitizer.redact_stream(bytes, chunk, marked)
                })
                .unwrap_or(false),
        }
    }

    /// Hands out what a client has sent and has not left, and where in it the part begins that was looked at last.
    fn ring<T>(&mut self, id: FlowId, look: impl FnOnce(&mut [u8], usize) -> T) -> Option<T> {
        match self.flows.get_mut(id)? {
            (
                _,
                Flow {
                    state: State::Stream(stream),
                    ..
                },
            ) => stream.look(look),
            _ => None,
        }
    }

    fn tell_leak(
        &mut self,
        id: FlowId,
        (finding, excerpt): (Finding, Excerpt),
        action: Option<(u16, Action)>,
        (outcome, now): (Payload, Time),
    ) {
        let Some((key, flow)) = self.flows.get_mut(id) else {
            return;
        };
        if flow.leaks >= LEAKS_PER_FLOW {
            return;
        }
        flow.leaks += 1;
        let leaves = outcome <= Payload::Rewritten && !matches!(flow.state, State::Blocked(_));
        let redact = matches!(action, Some((_, Action::Redact)));
        let leak = Leak {
            flow: flow.serial,
            key: *key,
            at: now,
            finding,
            excerpt,
            entry: action.map(|(entry, _)| entry),
            action: action.map(|(_, action)| action),
            sent: leaves && !redact,
            redacted: leaves && redact,
            snapshot: Arc::clone(&self.snapshot),
        };
        self.event(Event::Leak(Box::new(leak)));
    }
}
