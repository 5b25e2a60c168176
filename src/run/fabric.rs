//! What a gate runs on, as it was found at the start.

use crate::link::{Offloads, Tun};

/// How the packets of a gate go.
#[derive(Clone, Debug, Default)]
pub struct Fabric {
    /// Threads, each with a queue of the link.
    pub shards: usize,
    /// What all queues of the link can do.
    pub offloads: Offloads,
}

impl Fabric {
    pub(super) fn of(queues: &[Tun]) -> Self {
        let all = |can: fn(Offloads) -> bool| queues.iter().all(|tun| can(tun.offloads()));
        Self {
            shards: queues.len(),
            offloads: Offloads {
                checksum: all(|offloads| offloads.checksum),
                tso: all(|offloads| offloads.tso),
                uso: all(|offloads| offloads.uso),
            },
        }
    }
}
