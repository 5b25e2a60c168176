//! The kernel path: flows that were decided for good, *allow, direct, nothing left to inspect*, are forwarded by the kernel
//! alone, at no cost to us.
//!
//! Their keys lie in two sets of a table of their own. A rule before all others marks the packets of such flows, and with
//! the mark they are neither diverted nor held up by the guard (see [`super::divert`]). Where the kernel can, that is
//! where interfaces take packets in, before those that are not marked go the [short way](super::ingress). Use keeps a key
//! in its set. The table belongs to our connection to the kernel: it goes at the instant this process does, and with it
//! every flow comes back to where nobody passes it on.
//!
//! Fragments, packets with IPv6 extension headers and segments that open or end a TCP connection never take this path:
//! nothing new hides behind an old decision, and ends are seen.

use super::divert::{KERNEL_MARK, MARK_MASK};
use super::ingress::{self, Inside};
use super::netlink::{Family, errno};
use super::nft::{Base, Batch, Change, Hook, Nft, PayloadBase, REGISTER, Rule, Sees, Set};
use crate::flow::FlowKey;
use crate::packet::protocol;
use anyhow::{Context, Result};
use std::net::IpAddr;
use std::time::Duration;

/// The table, where packets are first seen in the kernel's own way.
const TABLE: &str = "cordon_kernel";
/// The chain that knows the flows.
const KNOWN: &str = "known";
/// Before the rules that divert (`NF_IP_PRI_RAW`, one earlier).
const EARLIEST: i32 = -301;

/// How `nft list` is to show the keys: address, address, protocol, and both ports as one number.
const TYPE_V4: u32 = key_type(7);
const TYPE_V6: u32 = key_type(8);

const fn key_type(address: u32) -> u32 {
    ((address << 6 | address) << 6 | 12) << 6 | 19
}

/// Where decided flows are told from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where their interface takes them in; from there all others go the short way.
    Ingress,
    /// As they come in, before they are routed.
    Prerouting,
}

/// Flows that stay in the kernel.
#[derive(Debug)]
pub struct Fastpath {
    nft: Nft,
    place: Place,
    v4: Set,
    v6: Set,
    /// The kernel removes keys that may not be there in one go.
    destroys: bool,
    changes: Vec<(bool, FlowKey)>,
}

impl Fastpath {
    /// Makes the table in the network namespace of the calling thread, for at most `size` flows of each family. A flow that
    /// is not used for `idle` comes back.
    ///
    /// # Errors
    /// If the kernel has no owned tables (Linux 5.12) or lacks another part, another process has the table, or for want
    /// of rights. Then every flow goes on being passed by us.
    pub fn open(place: Place, inside: &Inside, idle: Duration, size: u32) -> Result<Self> {
        let set = |name, key_len, key_type| Set {
            name,
            key_len,
            key_type,
            idle,
            size,
        };
        let mut fastpath = Self {
            nft: Nft::open()?,
            place,
            v4: set(c"decided4", 16, TYPE_V4),
            v6: set(c"decided6", 40, TYPE_V6),
            destroys: true,
            changes: Vec::new(),
        };
        let table = fastpath.table(inside)?;
        fastpath
            .nft
            .commit(&table)
            .context("flows cannot be left to the kernel")?;
        fastpath.destroys = fastpath.can_destroy()?;
        Ok(fastpath)
    }

    /// From the next [`Fastpath::commit`] on, the kernel forwards this flow.
    pub fn add(&mut self, key: FlowKey) {
        self.changes.push((true, key));
    }

    /// From the next [`Fastpath::commit`] on, this flow comes to us again, if it did not anyway.
    pub fn remove(&mut self, key: FlowKey) {
        self.changes.push((false, key));
    }

    /// Makes all changes since the last time, in one exchange with the kernel; without changes it does nothing.
    ///
    /// Returns `false` if there was no room for new flows: then none of them is in the kernel, and all of them go on as
    /// before. Removals are always made.
    ///
    /// # Errors
    /// If the kernel refuses for another reason; nothing has changed then.
    pub fn commit(&mut self) -> Result<bool> {
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() {
            return Ok(true);
        }
        let batch = self.batch(&changes)?;
        match self.nft.commit(&batch) {
            Err(error) if errno(&error) == Some(libc::ENFILE) => {
                let removals: Vec<_> = changes.into_iter().filter(|(add, _)| !add).collect();
                if !removals.is_empty() {
                    let batch = self.batch(&removals)?;
                    self.nft.commit(&batch)?;
                }
                Ok(false)
            }
            result => result.map(|()| true),
        }
    }

    /// All flows come to us again.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn clear(&mut self) -> Result<()> {
        self.changes.clear();
        let mut batch = self.no_changes()?;
        batch.clear(&self.v4);
        batch.clear(&self.v6);
        self.nft.commit(&batch)
    }

    fn no_changes(&self) -> Result<Batch> {
        match self.place {
            Place::Ingress => Batch::new(Sees::Frames, ingress::TABLE),
            Place::Prerouting => Batch::new(Sees::Packets, TABLE),
        }
    }

    fn table(&self, inside: &Inside) -> Result<Batch> {
        let mut batch = self.no_changes()?;
        batch.table(true);
        batch.chain(KNOWN, None)?;
        for (family, set) in [(Family::V4, &self.v4), (Family::V6, &self.v6)] {
            batch.set(set);
            let echo = match family {
                Family::V4 => protocol::ICMP,
                Family::V6 => protocol::ICMPV6,
            };
            // Most packets are datagrams: segments come many in one.
            for protocol in [protocol::UDP, protocol::TCP, echo] {
                batch.rule(KNOWN, &rule(family, protocol, set))?;
            }
        }
        if self.place == Place::Ingress {
            inside.shorten(&mut batch, Some(KNOWN))?;
            return Ok(batch);
        }
        let base = Base {
            hook: Hook::Prerouting,
            priority: EARLIEST,
        };
        batch.chain("decided", Some(base))?;
        for lan in &inside.lans {
            batch.rule(
                "decided",
                &Rule::new("from inside").came_in(lan).jump(KNOWN)?,
            )?;
        }
        Ok(batch)
    }

    /// Whether a key that is not there can be removed.
    fn can_destroy(&mut self) -> Result<bool> {
        let mut batch = self.no_changes()?;
        batch.keys(Change::Destroy, &self.v4, [&[0; 16][..]]);
        match self.nft.commit(&batch) {
            Err(error) if matches!(errno(&error), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
                Ok(false)
            }
            result => result.map(|()| true),
        }
    }

    /// The changes in their order; those of one kind that follow each other share a message.
    fn batch(&self, changes: &[(bool, FlowKey)]) -> Result<Batch> {
        let mut batch = self.no_changes()?;
        let kind = |(add, key): &(bool, FlowKey)| (*add, key.src.is_ipv4());
        for alike in changes.chunk_by(|a, b| kind(a) == kind(b)) {
            let Some((add, is_v4)) = alike.first().map(kind) else {
                continue;
            };
            let set = if is_v4 { &self.v4 } else { &self.v6 };
            let keys: Vec<Vec<u8>> = alike.iter().filter_map(|(_, flow)| key(flow)).collect();
            let kinds: &[Change] = match (add, self.destroys) {
                (true, _) => &[Change::Add],
                (false, true) => &[Change::Destroy],
                // What is added first can be deleted, whether it was there or not.
                (false, false) => &[Change::Add, Change::Delete],
            };
            for kind in kinds {
                batch.keys(*kind, set, keys.iter().map(Vec::as_slice));
            }
        }
        Ok(batch)
    }
}

/// The key of a flow: addresses, protocol and ports, each at a multiple of four bytes. An echo has its identifier for the
/// first port, and no second. `None` for a flow that cannot be: two families.
fn key(flow: &FlowKey) -> Option<Vec<u8>> {
    let mut key = match (flow.src, flow.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => [src.octets(), dst.octets()].concat(),
        (IpAddr::V6(src), IpAddr::V6(dst)) => [src.octets(), dst.octets()].concat(),
        _ => return None,
    };
    let [[s0, s1], [d0, d1]] = [flow.sport, flow.dport].map(u16::to_be_bytes);
    key.extend([flow.protocol, 0, 0, 0, s0, s1, d0, d1]);
    Some(key)
}

/// The rule for one protocol: it builds the key from the packet.
fn rule(family: Family, protocol: u8, set: &Set) -> Rule {
    use PayloadBase::{NetworkHeader, TransportHeader};
    let mut rule = Rule::new(&format!("was judged, protocol {protocol}")).family(family);
    // RFC 791 and RFC 8200: where the protocol's number and the addresses are.
    let (number_at, addresses_at, addresses_len) = match family {
        Family::V4 => {
            // Not a fragment: neither *more fragments* nor an offset.
            rule = rule
                .load(NetworkHeader, 6, 2)
                .bits(&[0x3f, 0xff], &[0, 0])
                .is(&[0, 0]);
            (9, 12, 8)
        }
        // The first *next header* field: with extension headers it is not the transport's number.
        Family::V6 => (6, 8, 32),
    };
    let behind = REGISTER + addresses_len / 4;
    rule = rule
        .load_to(behind, NetworkHeader, number_at, 1)
        .equals(behind, &[protocol]);
    let echo = match protocol {
        // A segment that opens a connection (SYN) is a new flow even where an old one had its ports; one that ends it
        // (FIN, RST) tells us that the key is no longer needed. RFC 9293, section 3.1.
        protocol::TCP => {
            rule = rule.load(TransportHeader, 13, 1).bits(&[7], &[0]).is(&[0]);
            false
        }
        protocol::UDP => false,
        protocol::ICMP => {
            rule = rule.load(TransportHeader, 0, 2).is(&[8, 0]);
            true
        }
        _ => {
            rule = rule.load(TransportHeader, 0, 2).is(&[128, 0]);
            true
        }
    };
    // In pieces of four bytes, where that is few: the kernel loads them several times faster than others.
    rule = match family {
        Family::V4 => rule
            .load_to(REGISTER, NetworkHeader, addresses_at, 4)
            .load_to(REGISTER + 1, NetworkHeader, addresses_at + 4, 4),
        Family::V6 => rule.load_to(REGISTER, NetworkHeader, addresses_at, addresses_len),
    };
    rule = if echo {
        rule.load_to(behind + 1, TransportHeader, 4, 2)
    } else {
        rule.load_to(behind + 1, TransportHeader, 0, 4)
    };
    rule.member_of(set.name)
        .refresh(set.name, set.idle)
        .mark(KERNEL_MARK, MARK_MASK)
        .accept()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_laid_out_as_the_kernel_loads_them() {
        let flow = FlowKey {
            protocol: protocol::UDP,
            src: "192.168.7.2".parse().unwrap(),
            dst: "203.0.113.9".parse().unwrap(),
            sport: 0x1234,
            dport: 53,
        };
        assert_eq!(
            key(&flow).unwrap(),
            [
                192, 168, 7, 2, 203, 0, 113, 9, 17, 0, 0, 0, 0x12, 0x34, 0, 53
            ]
        );
        let other = FlowKey {
            dst: "2001:db8::9".parse().unwrap(),
            ..flow
        };
        assert_eq!(key(&other), None);
        let v6 = FlowKey {
            src: "fd00:7::2".parse().unwrap(),
            ..other
        };
        assert_eq!(key(&v6).unwrap().len(), 40);
    }
}
