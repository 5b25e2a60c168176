//! What goes on now, for whoever looks after the gate: counted and listed when asked, never kept on the way of a packet.

use super::{Cause, Count, Flow, Gateway, Path, Snapshot, State};
use crate::flow::{FlowId, FlowKey};
use crate::packet::protocol;
use crate::policy::{ExitId, Permit};
use crate::time::Time;
use std::cmp::Reverse;
use std::sync::Arc;

/// The flows of one gateway at one moment.
#[derive(Clone, Debug)]
pub struct Survey {
    /// What they are judged by.
    pub snapshot: Arc<Snapshot>,
    /// All of them, counted.
    pub census: Census,
    /// Flows by each exit, in the order of the policy.
    pub by_exit: Vec<u64>,
    /// Those used last, as many as were asked for.
    pub flows: Vec<FlowNow>,
}

/// Flows, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// TCP.
    pub tcp: u64,
    /// UDP.
    pub udp: u64,
    /// Echo, of either family.
    pub icmp: u64,
    /// Held until they show whom they ask for.
    pub waiting: u64,
    /// Remembered as blocked.
    pub blocked: u64,
    /// Ended here, with another connection or socket to go on.
    pub terminate: u64,
    /// Passing packet by packet.
    pub pass: u64,
    /// Forwarded by the kernel.
    pub kernel: u64,
}

/// A flow at one moment.
#[derive(Clone, Debug)]
pub struct FlowNow {
    /// Its number in this process.
    pub flow: u64,
    /// Five-tuple as the client sees it.
    pub key: FlowKey,
    /// When it began.
    pub opened: Time,
    /// When a packet of it came here last.
    pub used: Time,
    /// Who decided.
    pub cause: Cause,
    /// It is held until it shows whom it asks for.
    pub waits: bool,
    /// The exit that carries it, where it is not the machine itself.
    pub exit: Option<ExitId>,
    /// What it showed of whom it asks for, or else by what name its client found the address.
    pub name: Option<Box<str>>,
    /// From the client to the outside.
    pub sent: Count,
    /// From the outside to the client.
    pub received: Count,
    /// Datagrams that were held back because of what they contained.
    pub withheld: u64,
    /// Which way its packets go.
    pub path: Path,
}

impl Gateway {
    /// Looks at all flows, and lists at most so many of them: those used last. Takes time in proportion to the flows
    /// there are.
    pub fn survey(&self, most: usize, now: Time) -> Survey {
        let mut census = Census::default();
        let mut by_exit = vec![0; self.snapshot.policy.exits().len()];
        let mut listed = Vec::new();
        for id in self.flows.ids() {
            let Some((key, flow)) = self.flows.get(id).filter(|(_, f)| !f.is_questioner()) else {
                continue;
            };
            census.count(key, flow);
            let exit = flow.permit.and_then(Permit::exit);
            if let Some(count) = exit.and_then(|exit| by_exit.get_mut(exit.index())) {
                *count += 1;
            }
            if most > 0 {
                listed.push((Reverse(flow.used), id));
            }
        }
        if let Some(last) = most.checked_sub(1).filter(|last| *last < listed.len()) {
            listed.select_nth_unstable_by_key(last, |(used, _)| *used);
            listed.truncate(most);
        }
        listed.sort_unstable_by_key(|(used, _)| *used);
        let flows = listed.iter().filter_map(|(_, id)| self.flow_now(*id, now));
        Survey {
            snapshot: Arc::clone(&self.snapshot),
            census,
            by_exit,
            flows: flows.collect(),
        }
    }

    fn flow_now(&self, id: FlowId, now: Time) -> Option<FlowNow> {
        let (key, flow) = self.flows.get(id)?;
        let shown = flow.claims.as_deref().and_then(|c| c.names().last());
        let name = match shown {
            Some((name, _)) => Some(name.clone()),
            None => {
                let names = self.shared.names();
                let found = names.of(key.src, key.dst, now).next();
                found.map(|learned| learned.name.clone())
            }
        };
        Some(FlowNow {
            flow: flow.serial,
            key: *key,
            opened: flow.opened,
            used: flow.used,
            cause: flow.cause,
            waits: flow.is_undecided(),
            exit: flow.permit.and_then(Permit::exit),
            name,
            sent: flow.sent,
            received: flow.received,
            withheld: flow.withheld,
            path: flow.path(),
        })
    }
}

impl Census {
    fn count(&mut self, key: &FlowKey, flow: &Flow) {
        match key.protocol {
            protocol::TCP => self.tcp += 1,
            protocol::UDP => self.udp += 1,
            _ => self.icmp += 1,
        }
        if flow.is_undecided() {
            self.waiting += 1;
            return;
        }
        match flow.path() {
            Path::None if matches!(flow.state, State::Blocked(_)) => self.blocked += 1,
            // What is being dialled will end here.
            Path::None | Path::Terminate => self.terminate += 1,
            Path::Pass => self.pass += 1,
            Path::Kernel => self.kernel += 1,
        }
    }

    /// All of them.
    pub fn flows(&self) -> u64 {
        self.tcp + self.udp + self.icmp
    }

    /// Adds those of another gateway.
    pub fn add(&mut self, other: &Self) {
        self.tcp += other.tcp;
        self.udp += other.udp;
        self.icmp += other.icmp;
        self.waiting += other.waiting;
        self.blocked += other.blocked;
        self.terminate += other.terminate;
        self.pass += other.pass;
        self.kernel += other.kernel;
    }
}

impl Flow {
    /// Which way its packets go.
    pub(super) fn path(&self) -> Path {
        match &self.state {
            State::Blocked(_) | State::Waiting | State::Dialing(_) => Path::None,
            State::Stream(_) | State::Datagrams { .. } => Path::Terminate,
            State::Passed(pass) if pass.in_kernel => Path::Kernel,
            State::Passed(_) => Path::Pass,
        }
    }
}
