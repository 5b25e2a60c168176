//! Exits come and go: what goes by one that is down ends or is carried on by another that the policy names. Nothing
//! ever goes another way than that.

use super::{Cause, End, Failure, Flow, Gateway, MappingId, Order, State};
use crate::flow::FlowId;
use crate::policy::{Decision, ExitId, ExitState, Permit, Policy, Reply, Verdict};
use crate::time::Time;

impl Gateway {
    /// Tells what is known of the policy's exits, in their order. Flows by an exit that is down now end, unless a member
    /// of the same group, or the one that takes over for it, carries them on.
    pub fn set_exits(&mut self, exits: Vec<ExitState>, now: Time) {
        let before = std::mem::replace(&mut self.exits, exits);
        let usable = |state: &ExitState| (state.up, state.v4, state.v6);
        if before.len() == self.exits.len()
            && before.iter().map(usable).eq(self.exits.iter().map(usable))
        {
            return;
        }
        let flows: Vec<FlowId> = self.flows.ids().collect();
        for id in flows {
            self.exits_changed(id, now);
        }
    }

    /// How the client of a flow calls the other end, if only one name fits: what an exit is told that looks names up
    /// itself.
    pub fn sole_name(&self, id: FlowId, now: Time) -> Option<Box<str>> {
        let (key, _) = self.flows.get(id)?;
        let known = self.shared.names();
        let mut names = known.of(key.src, key.dst, now);
        let name = names.next()?;
        names.next().is_none().then(|| name.name.clone())
    }

    /// The exit failed the flows of a mapping for now; they wait until it is back or is known to be down.
    pub fn exit_failed(&mut self, mapping: MappingId, failure: Failure, now: Time) {
        let source = self.mappings.get(mapping.0).map(|(key, _)| key.src);
        self.refuse(End::Failed(failure).name(), source, now);
    }

    /// By which exit a decision is carried out now.
    pub(super) fn way_out(&self, decision: Decision) -> (Cause, Result<Permit, Reply>) {
        let permit = match decision.verdict {
            Verdict::Block(reply) => return (Cause::Policy(decision), Err(reply)),
            Verdict::Pass(permit) => permit,
        };
        match self.snapshot.policy.resolve(permit, |exit| self.exit(exit)) {
            Ok(permit) => (Cause::Policy(decision), Ok(permit)),
            Err(why) => (Cause::Unavailable(decision, why), Err(Reply::Reject)),
        }
    }

    /// Whether all exits that a flow depends on are still what they were under another policy.
    pub(super) fn keeps_exits(&self, flow: &Flow, before: &Policy) -> bool {
        let verdict = match flow.cause {
            Cause::Policy(decision) => match decision.verdict {
                Verdict::Pass(permit) => Some(permit),
                Verdict::Block(_) => None,
            },
            Cause::Scope(_) | Cause::Unavailable(..) => None,
        };
        let fallback = verdict.and_then(|permit| permit.when_down());
        let permits = [flow.permit, verdict, fallback].into_iter().flatten();
        permits
            .filter_map(Permit::exit)
            .all(|exit| before.has_same_exit(&self.snapshot.policy, exit))
    }

    fn exit(&self, exit: ExitId) -> ExitState {
        self.exits.get(exit.index()).copied().unwrap_or_default()
    }

    fn exits_changed(&mut self, id: FlowId, now: Time) {
        let Some((_, flow)) = self.flows.get(id) else {
            return;
        };
        if flow.is_undecided() || flow.is_questioner() {
            return;
        }
        let Cause::Policy(decision) = flow.cause else {
            if matches!(flow.cause, Cause::Unavailable(..)) {
                // Forgotten, so that its next packet is judged as the first.
                self.end(id, End::Blocked, now);
            }
            return;
        };
        let Some(exit) = flow.permit.and_then(Permit::exit) else {
            return;
        };
        if self.exit(exit).up {
            return;
        }
        match self.way_out(decision) {
            (_, Ok(permit)) => self.carry_on(id, permit, now),
            (_, Err(_)) => self.end(id, End::ExitDown, now),
        }
    }

    /// Has another exit carry a flow. A connection that is established cannot be moved.
    fn carry_on(&mut self, id: FlowId, permit: Permit, now: Time) {
        let Some((key, flow)) = self.flows.get_mut(id) else {
            return;
        };
        let key = *key;
        match flow.state {
            State::Datagrams { mapping, .. } => {
                self.unmap(mapping, &key);
                match self.map(id, permit) {
                    Ok(state) => self.set_way(id, permit, state),
                    // Without a mapping there is nothing left to be undone.
                    Err(_) => {
                        self.set_way(id, permit, State::Blocked(Reply::Reject));
                        self.end(id, End::ExitDown, now);
                    }
                }
            }
            State::Dialing(_) => {
                flow.permit = Some(permit);
                let reset = true;
                self.orders.push_back(Order::Hangup { flow: id, reset });
                self.orders.push_back(Order::Dial { flow: id, permit });
            }
            State::Stream(_) | State::Passed(_) | State::Blocked(_) | State::Waiting => {
                self.end(id, End::ExitDown, now)
            }
        }
    }

    fn set_way(&mut self, id: FlowId, permit: Permit, state: State) {
        if let Some((_, flow)) = self.flows.get_mut(id) {
            (flow.permit, flow.state) = (Some(permit), state);
        }
    }
}
