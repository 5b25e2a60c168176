//! From a five-tuple to facts to a verdict, and what follows from it over a flow's life.

use super::opening::Claims;
use super::tcp::Out;
use super::{
    BLOCKED_IDLE, Cause, Close, EVENTS, End, Event, Flow, Gateway, Open, Order, Refused, State,
    Subject,
};
use crate::flow::{FlowId, FlowKey};
use crate::policy::{Active, Evidence, Permit, Policy, Reply};
use crate::sanitize::scope;
use crate::time::Time;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What came of judging a five-tuple.
pub(super) struct Judged {
    pub(super) subject: Subject,
    pub(super) cause: Cause,
    pub(super) active: Active,
    permit: Result<Permit, Reply>,
}

impl Judged {
    /// The flow claims a name for which no answer gave its client the address.
    pub(super) fn contradicts_answers(&self) -> bool {
        let names = &self.subject.names;
        let is_claim = |evidence: &Evidence| evidence.is_in_flow() && *evidence != Evidence::Outer;
        let mut claims = names.iter().filter(|(_, evidence)| is_claim(evidence));
        claims.any(|(claim, _)| {
            let mut answers = names.iter().filter(|(_, evidence)| !evidence.is_in_flow());
            !answers.any(|(name, _)| name == claim)
        })
    }

    /// The right to send, by the very exit that carries it now, or how to answer.
    pub(super) fn permit(&self) -> Result<Permit, Reply> {
        self.permit
    }
}

impl Gateway {
    /// Judges a flow.
    pub(super) fn judge(&self, key: &FlowKey, claims: Option<&Claims>, now: Time) -> Judged {
        let destination = SocketAddr::new(key.dst, key.dport);
        let Self {
            snapshot,
            shared,
            neighbours,
            ..
        } = self;
        let subject = Subject {
            key: *key,
            destination,
            address: snapshot.data.lookup(destination.ip()),
            names: shared
                .names()
                .of(key.src, destination.ip(), now)
                .map(|learned| {
                    (
                        learned.name.clone(),
                        Evidence::Dns {
                            age: seconds(now, learned.at),
                        },
                    )
                })
                .chain(claims.iter().flat_map(|claims| claims.names()).cloned())
                .collect(),
            opening: claims.map(Claims::opening).unwrap_or_default(),
            mac: neighbours.get(&key.src).copied(),
            wall: self.wall,
        };
        let (decision, active) = subject.with_facts(&snapshot.data, |facts| {
            (snapshot.policy.decide(facts), snapshot.policy.active(facts))
        });
        let (cause, permit) = match scope(destination.ip(), destination.port(), key.protocol) {
            Some(scope) => (Cause::Scope(scope), Err(Reply::Drop)),
            None => self.way_out(decision),
        };
        Judged {
            subject,
            cause,
            active,
            permit,
        }
    }

    /// Tells of a new flow and starts its timer.
    pub(super) fn opened(&mut self, id: FlowId, key: &FlowKey, judged: Judged, now: Time) {
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return;
        };
        let (flow, idle) = (flow.serial, idle_limit(key, flow));
        self.schedule(id, now + idle);
        let exit = judged.permit.ok().and_then(Permit::exit);
        let Judged { subject, cause, .. } = judged;
        let snapshot = Arc::clone(&self.snapshot);
        self.event(Event::Open(Box::new(Open {
            flow,
            at: now,
            subject,
            cause,
            exit,
            snapshot,
        })));
    }

    /// Judges a live flow again; ends it if it would now be treated differently. Flows that stay blocked stay.
    pub(super) fn rejudge(&mut self, id: FlowId, before: &Policy, now: Time) {
        let Some((key, flow)) = self.flows.get(id) else {
            return;
        };
        let key = *key;
        let was_blocked = matches!(flow.state, State::Blocked(_));
        if flow.is_undecided() || flow.is_questioner() {
            // What decides on it is asked when it has shown what it wants.
            return;
        }
        let (cause, keeps_exits) = (flow.cause, self.keeps_exits(flow, before));
        let judged = self.judge(&key, flow.claims.as_deref(), now);
        let same =
            same_verdict(cause, judged.cause) && (keeps_exits || matches!(cause, Cause::Scope(_)));
        match self.flows.get_mut(id) {
            Some((_, flow)) if same => {
                flow.cause = judged.cause;
                flow.active = judged.active;
                if let State::Passed(pass) = &mut flow.state {
                    flow.sniffs &= !pass.begin_again();
                }
            }
            // A flow that was blocked is forgotten, so that its next packet is judged as the first.
            _ => self.end(
                id,
                if was_blocked {
                    End::Blocked
                } else {
                    End::Rejudged
                },
                now,
            ),
        }
    }

    /// Ends a flow, whatever its state: both sides are told as far as they have to be.
    pub(super) fn end(&mut self, id: FlowId, end: End, now: Time) {
        self.tell_undecided(id, now);
        self.hang_up(id, end, now);
        let Some((key, flow)) = self.flows.remove(id) else {
            return;
        };
        self.shared.names().release(key.src, key.dst);
        if let State::Datagrams { mapping, .. } = flow.state {
            self.unmap(mapping, &key);
        }
        if let State::Passed(pass) = &flow.state
            && pass.is_left()
        {
            self.orders.push_back(Order::Recall { key });
        }
        let path = flow.path();
        let end = if matches!(flow.state, State::Blocked(_)) && end == End::Idle {
            End::Blocked
        } else {
            end
        };
        if flow.is_questioner() {
            return self.recycle(flow);
        }
        self.event(Event::Close(Box::new(Close {
            flow: flow.serial,
            key,
            opened: flow.opened,
            at: now,
            sent: flow.sent,
            received: flow.received,
            withheld: flow.withheld,
            path,
            end,
        })));
        self.recycle(flow);
    }

    fn recycle(&mut self, flow: Flow) {
        if let State::Stream(stream) = flow.state {
            self.terminator.recycle(stream.into_connection());
        }
    }

    /// The wheel called for a flow: its time may have come, or it was used in between.
    pub(super) fn timer(&mut self, id: FlowId, now: Time) {
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return;
        };
        flow.timer = None;
        self.release(id, now);
        self.end_waiting(id, now);
        let Some((key, flow)) = self.flows.get_mut(id) else {
            return;
        };
        match &mut flow.state {
            State::Stream(stream) => match stream.out {
                Out::Undecided(until) => self.schedule(id, until),
                Out::Dialing(since) if now.since(since) >= super::tcp::DIAL_TIMEOUT => {
                    self.failed(id, super::Failure::TimedOut, now)
                }
                Out::Dialing(since) => self.schedule(id, since + super::tcp::DIAL_TIMEOUT),
                Out::Connected => {
                    if now.since(flow.used) >= super::REST {
                        stream.rest(&mut self.terminator);
                    }
                    self.touch(id)
                }
                Out::Here => self.questions_idle(id, now),
            },
            State::Dialing(_) => {
                let until = flow.opened + super::tcp::DIAL_TIMEOUT;
                if until > now {
                    self.schedule(id, until)
                } else {
                    self.failed(id, super::Failure::TimedOut, now)
                }
            }
            State::Blocked(_) | State::Waiting | State::Datagrams { .. } | State::Passed(_) => {
                let until = flow.used + idle_limit(key, flow);
                if until > now {
                    self.schedule(id, until)
                } else if matches!(&flow.state, State::Passed(pass) if pass.is_closing()) {
                    self.end(id, End::Done, now)
                } else {
                    self.end(id, End::Idle, now)
                }
            }
        }
    }

    /// Has the wheel call for a flow at `at` or before.
    pub(super) fn schedule(&mut self, id: FlowId, at: Time) {
        // What is called for outlives its flow in the wheel: so that many short flows cost little, nothing stays long.
        let Some((_, flow)) = self.flows.get_mut(id) else {
            return;
        };
        let has_memory = matches!(&flow.state, State::Stream(stream) if stream.has_memory());
        let longest = if has_memory {
            super::REST
        } else {
            super::LONGEST_TIMER
        };
        let at = at.min(self.wheel.now() + longest);
        if flow.timer.is_none_or(|timer| at < timer) {
            flow.timer = Some(at);
            self.wheel.schedule(at, id);
        }
    }

    pub(super) fn event(&mut self, event: Event) {
        if self.events.len() < EVENTS {
            self.events.push_back(event);
        } else {
            self.lost_events += 1;
        }
    }

    /// Tells that something was refused before any rule.
    pub(super) fn refuse(&mut self, what: &'static str, source: Option<IpAddr>, at: Time) {
        self.event(Event::Refused(Refused { what, source, at }));
    }

    /// A flow that ends before it is decided is told of all the same.
    fn tell_undecided(&mut self, id: FlowId, now: Time) {
        if let Some((key, flow)) = self.flows.get(id)
            && flow.is_undecided()
        {
            let key = *key;
            let judged = self.judge(&key, flow.claims.as_deref(), now);
            self.opened(id, &key, judged, now);
        }
    }

    fn hang_up(&mut self, id: FlowId, end: End, now: Time) {
        match self.flows.get_mut(id) {
            Some((
                _,
                Flow {
                    state: State::Dialing(_),
                    ..
                },
            )) => {
                self.dialing = self.dialing.saturating_sub(1);
                self.answer_dialing(id, end, now);
                if !matches!(end, End::Failed(_)) {
                    self.orders.push_back(Order::Hangup {
                        flow: id,
                        reset: true,
                    });
                }
            }
            Some((
                _,
                Flow {
                    state: State::Stream(stream),
                    ..
                },
            )) => {
                let out = stream.out;
                if matches!(out, Out::Undecided(_) | Out::Dialing(_)) {
                    self.dialing = self.dialing.saturating_sub(1);
                }
                if matches!(out, Out::Undecided(_) | Out::Here) {
                    return self.abort(id, now);
                }
                let reset = end != End::Done;
                if reset {
                    self.abort(id, now);
                }
                self.orders.push_back(Order::Hangup { flow: id, reset });
            }
            _ => {}
        }
    }
}

/// Whether a flow is treated the same by both.
pub(super) fn same_verdict(before: Cause, after: Cause) -> bool {
    match (before, after) {
        (Cause::Policy(before), Cause::Policy(after)) => before.verdict == after.verdict,
        (Cause::Scope(before), Cause::Scope(after)) => before == after,
        // What cannot be carried may be carried now.
        _ => false,
    }
}

/// How long a flow may lie idle: RFC 4787, section 4.3, for answered UDP; less where nothing came back, and little for
/// protocols that ask and answer once.
fn idle_limit(key: &FlowKey, flow: &Flow) -> std::time::Duration {
    use std::time::Duration;
    const ASK_ONCE: [u16; 4] = [53, 123, 3478, 5353];
    match flow.state {
        State::Blocked(_) => BLOCKED_IDLE,
        State::Dialing(_) | State::Waiting => super::tcp::DIAL_TIMEOUT,
        State::Stream(_) => Duration::MAX,
        State::Passed(ref pass) => Gateway::pass_idle(key, pass),
        State::Datagrams { answered: true, .. } if ASK_ONCE.contains(&key.dport) => {
            Duration::from_secs(10)
        }
        State::Datagrams { answered: true, .. } => Duration::from_secs(120),
        State::Datagrams {
            answered: false, ..
        } => Duration::from_secs(30),
    }
}

fn seconds(now: Time, then: Time) -> u32 {
    u32::try_from(now.since(then).as_secs()).unwrap_or(u32::MAX)
}
