//! Datagrams that come to a shard although another has the socket of their client's address and port.
//!
//! The kernel spreads packets over the shards by their flow, but one client address and port is one mapping, whatever it
//! talks to (RFC 4787, section 4.1), and belongs to one shard. What the others read of it they hand over. An answer
//! that the owner writes has the kernel send the flow's later packets to the owner at once; so few packets stray.

use super::Gateway;
use crate::flow::FlowKey;
use crate::packet::{Offload, protocol};
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

/// Strays that wait for the shell; more are lost, as on any full link.
const WAITING: usize = 64;

/// Which shard has the mappings of a client address and port.
#[derive(Debug)]
pub(super) struct Owners(HashMap<Endpoint, Owner, FixedState>);

/// Of UDP.
type Endpoint = (IpAddr, u16);

#[derive(Debug)]
struct Owner {
    shard: u16,
    /// One by each way that its flows leave.
    mappings: u32,
}

/// A packet that another shard is to take, with what the link said of it.
#[derive(Debug)]
pub struct Stray {
    /// Whose it is.
    pub shard: u16,
    /// What the link said of it.
    pub offload: Offload,
    /// The whole packet.
    pub packet: Vec<u8>,
}

impl Owners {
    pub(super) fn new(seed: u64) -> Self {
        Self(HashMap::with_hasher(FixedState::with_seed(seed)))
    }

    /// A shard has made a mapping. If another shard was first, which only two datagrams at the same moment bring
    /// about, the first one stays the owner.
    pub(super) fn add(&mut self, mapped: &FlowKey, shard: u16) {
        if mapped.protocol != protocol::UDP {
            return;
        }
        let owner = self
            .0
            .entry((mapped.src, mapped.sport))
            .or_insert(Owner { shard, mappings: 0 });
        if owner.shard == shard {
            owner.mappings += 1;
        }
    }

    /// A shard has given up a mapping.
    pub(super) fn remove(&mut self, mapped: &FlowKey, shard: u16) {
        if let Entry::Occupied(mut entry) = self.0.entry((mapped.src, mapped.sport))
            && mapped.protocol == protocol::UDP
            && entry.get().shard == shard
        {
            entry.get_mut().mappings -= 1;
            if entry.get().mappings == 0 {
                entry.remove();
            }
        }
    }

    fn other(&self, key: &FlowKey, shard: u16) -> Option<u16> {
        let owner = self.0.get(&(key.src, key.sport))?;
        (owner.shard != shard).then_some(owner.shard)
    }
}

impl Gateway {
    /// The next packet that another shard is to take: the shell hands it to that shard's [`packet`](Self::packet).
    pub fn next_stray(&mut self) -> Option<Stray> {
        self.strays.pop_front()
    }

    /// Puts a datagram of an unknown flow aside if another shard has its client's mapping; true if it did.
    pub(super) fn strays(&mut self, key: &FlowKey, packet: &[u8], offload: &Offload) -> bool {
        if key.protocol != protocol::UDP {
            return false;
        }
        let Some(shard) = self.shared.owners().other(key, self.settings.shard) else {
            return false;
        };
        if self.strays.len() < WAITING {
            let (offload, packet) = (*offload, packet.to_vec());
            self.strays.push_back(Stray {
                shard,
                offload,
                packet,
            });
        }
        true
    }
}
