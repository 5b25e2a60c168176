//! The kernel path: flows that were decided for good, *allow, direct, nothing left to inspect*, are forwarded by the kernel
//! alone, at no cost to us.
//!
//! Their keys lie in two sets of a table of their own. A rule before all others marks the packets of such flows, and with
//! the mark they are neither diverted nor held up by the guard (see [`super::divert`]). Where the kernel can, that is
//! where interfaces take packets in, before those that are not marked go the [short way](super::ingress). A key stays for
//! a fixed term; the first packet after it comes to us, who leave the flow to the kernel again: to prolong the term by
//! each packet would cost the kernel as much as finding the key. The table belongs to our connection to the kernel: it
//! goes at the instant this process does, and with it every flow comes back to where nobody passes it on.
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

/// Changes in one exchange: what is sent must fit into a socket's buffer.
const AT_ONCE: usize = 1000;
/// Bytes of a key. The parts are words, as the kernel loads them, see [`keys`].
const KEY_V4: u32 = 24;
const KEY_V6: u32 = 44;

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
    /// No flow is to be left to the kernel any more.
    stopped: bool,
}

impl Fastpath {
    /// Makes the table in the network namespace of the calling thread, for at most `size` flows of each family, each for
    /// `term`.
    ///
    /// # Errors
    /// If the kernel has no owned tables (Linux 5.12) or lacks another part, another process has the table, or for want
    /// of rights. Then every flow goes on being passed by us.
    pub fn open(place: Place, inside: &Inside, term: Duration, size: u32) -> Result<Self> {
        let set = |name, key_len, size| Set {
            name,
            key_len,
            term,
            size,
        };
        let mut fastpath = Self {
            nft: Nft::open()?,
            place,
            v4: set(c"decided4", KEY_V4, size.saturating_mul(FLAGS.len() as u32)),
            v6: set(c"decided6", KEY_V6, size),
            destroys: true,
            changes: Vec::new(),
            stopped: false,
        };
        let mut batch = fastpath.no_changes()?;
        batch.table(true);
        fastpath.fill(&mut batch, inside)?;
        fastpath
            .nft
            .commit(&batch)
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

    /// Makes all changes since the last time, hundreds of them in one exchange with the kernel; without changes it does
    /// nothing.
    ///
    /// Returns `false` if there was no room for some of the new flows, or none is to be left any more: these go on as before.
    /// Removals are always made.
    ///
    /// # Errors
    /// If the kernel refuses for another reason; the changes that are left are not made then.
    pub fn commit(&mut self) -> Result<bool> {
        let changes = std::mem::take(&mut self.changes);
        if changes.is_empty() || self.stopped {
            return Ok(changes.is_empty());
        }
        let mut taken = true;
        for some in changes.chunks(AT_ONCE) {
            taken &= self.make(some)?;
        }
        Ok(taken)
    }

    /// Makes changes in one exchange; whether there was room for the new flows among them, else none of these is there.
    fn make(&mut self, changes: &[(bool, FlowKey)]) -> Result<bool> {
        let batch = self.batch(changes)?;
        match self.nft.commit(&batch) {
            Err(error) if errno(&error) == Some(libc::ENFILE) => {
                let removals = changes.iter().filter(|(add, _)| !add);
                let removals: Vec<_> = removals.copied().collect();
                if !removals.is_empty() {
                    let batch = self.batch(&removals)?;
                    self.nft.commit(&batch)?;
                }
                Ok(false)
            }
            result => result.map(|()| true),
        }
    }

    /// Makes the table anew, for other interfaces or networks. All flows come to us again.
    ///
    /// # Errors
    /// If the kernel refuses; nothing has changed then.
    pub fn renew(&mut self, inside: &Inside) -> Result<()> {
        self.changes.clear();
        let mut batch = self.no_changes()?;
        batch.remove_table();
        batch.table(true);
        self.fill(&mut batch, inside)?;
        self.nft.commit(&batch)
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

    /// All flows come to us again, and stay.
    ///
    /// # Errors
    /// If the kernel refuses; then those that are left come back when their term is over.
    pub fn stop(&mut self) -> Result<()> {
        self.stopped = true;
        self.clear()
    }

    /// Whether no flow is left any more.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Puts everything into the table.
    fn fill(&self, batch: &mut Batch, inside: &Inside) -> Result<()> {
        let mut decided = Vec::new();
        for (family, set) in [(Family::V4, &self.v4), (Family::V6, &self.v6)] {
            batch.set(set);
            let echo = match family {
                Family::V4 => protocol::ICMP,
                Family::V6 => protocol::ICMPV6,
            };
            // Most packets are datagrams: segments come many in one.
            for protocol in [protocol::UDP, protocol::TCP, echo] {
                decided.push(rule(family, protocol, set));
            }
        }
        if self.place == Place::Ingress {
            return inside.shorten(batch, &decided);
        }
        batch.chain(KNOWN, None)?;
        for rule in &decided {
            batch.rule(KNOWN, rule)?;
        }
        let base = Base {
            hook: Hook::Prerouting,
            priority: EARLIEST,
        };
        batch.chain("decided", Some(base))?;
        for lan in &inside.lans {
            let from_inside = Rule::new("from inside").came_in(lan).jump(KNOWN)?;
            batch.rule("decided", &from_inside)?;
        }
        Ok(())
    }

    /// Whether a key that is not there can be removed.
    fn can_destroy(&mut self) -> Result<bool> {
        let mut batch = self.no_changes()?;
        batch.keys(Change::Destroy, &self.v4, [&[0; KEY_V4 as usize][..]]);
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
            let keys: Vec<Vec<u8>> = alike.iter().flat_map(|(_, flow)| keys(flow)).collect();
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

/// *Don't fragment*, or not: with *more fragments* or an offset it is a fragment. RFC 791, section 3.1.
const FLAGS: [[u8; 2]; 2] = [[0, 0], [0x40, 0]];
/// What an IPv4 header without options begins with: version and length. RFC 791, section 3.1.
const V4: u8 = 0x45;
/// What an IPv6 header begins with, and which bits of it that is. RFC 8200, section 3.
const V6: u8 = 0x60;
const V6_MASK: [u8; 4] = [0xf0, 0, 0, 0];

/// The keys of a flow: the first byte of the packet's header, for IPv4 flags and offset of the fragment, the protocol's
/// number (each in a word of its own), addresses and ports. An echo has its identifier for the first port, and no second. None for a flow
/// that cannot be: two families.
fn keys(flow: &FlowKey) -> Vec<Vec<u8>> {
    let key = |heads: &[[u8; 2]], addresses: [&[u8]; 2]| {
        let word = |[a, b]: &[u8; 2]| [*a, *b, 0, 0];
        let heads = heads.iter().map(word).collect::<Vec<_>>();
        let ports = [flow.sport, flow.dport].map(u16::to_be_bytes);
        let [src, dst] = addresses;
        [heads.as_flattened(), src, dst, ports.as_flattened()].concat()
    };
    let number = [flow.protocol, 0];
    match (flow.src, flow.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => FLAGS
            .iter()
            .map(|flags| key(&[[V4, 0], *flags, number], [&src.octets(), &dst.octets()]))
            .collect(),
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            vec![key(&[[V6, 0], number], [&src.octets(), &dst.octets()])]
        }
        _ => Vec::new(),
    }
}

/// The rule for one protocol: it builds the key from the packet.
///
/// What is loaded as an aligned word or a part of one, and masked or compared as a word, the kernel does in place; for
/// everything else it calls a function.
fn rule(family: Family, protocol: u8, set: &Set) -> Rule {
    use PayloadBase::{NetworkHeader, TransportHeader};
    let zeros = [0; 4];
    // RFC 791 and RFC 8200: where the protocol's number is; the latter's first *next header* field, which with extension
    // headers is another number.
    let (number_at, number) = match family {
        Family::V4 => (9, REGISTER + 2),
        Family::V6 => (6, REGISTER + 1),
    };
    let mut rule = Rule::new(&format!("was judged, protocol {protocol}"))
        .load_to(number, NetworkHeader, number_at, 1)
        .equals(number, &[protocol]);
    let kind = |rule: Rule, kind| {
        let rule = rule.load(TransportHeader, 0, 4);
        rule.bits(&[0xff, 0xff, 0, 0], &zeros).is(&[kind, 0, 0, 0])
    };
    rule = match protocol {
        // A segment that opens a connection (SYN) is a new flow even where an old one had its ports; one that ends it
        // (FIN, RST) tells us that the key is no longer needed. RFC 9293, section 3.1.
        protocol::TCP => {
            let rule = rule.load(TransportHeader, 12, 4);
            rule.bits(&[0, 7, 0, 0], &zeros).is(&zeros)
        }
        protocol::UDP => rule,
        protocol::ICMP => kind(rule, 8),
        _ => kind(rule, 128),
    };
    rule = match family {
        Family::V4 => rule
            .load(NetworkHeader, 0, 1)
            .load_to(REGISTER + 1, NetworkHeader, 6, 2)
            .load_to(REGISTER + 3, NetworkHeader, 12, 4)
            .load_to(REGISTER + 4, NetworkHeader, 16, 4),
        Family::V6 => rule
            .load(NetworkHeader, 0, 4)
            .bits(&V6_MASK, &zeros)
            .load_to(REGISTER + 2, NetworkHeader, 8, 32),
    };
    let ports = REGISTER + set.key_len / 4 - 1;
    rule = match protocol {
        protocol::TCP | protocol::UDP => rule.load_to(ports, TransportHeader, 0, 4),
        _ => rule
            .load_to(ports, TransportHeader, 4, 4)
            .bits_in(ports, &[0xff, 0xff, 0, 0], &zeros),
    };
    rule.member_of(set.name)
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
        let key = |flags| {
            let heads = [0x45, 0, 0, 0, flags, 0, 0, 0, 17, 0, 0, 0];
            let rest = [192, 168, 7, 2, 203, 0, 113, 9, 0x12, 0x34, 0, 53];
            [heads, rest].concat()
        };
        assert_eq!(keys(&flow), [key(0), key(0x40)]);
        assert_eq!(key(0).len(), KEY_V4 as usize);
        let other = FlowKey {
            dst: "2001:db8::9".parse().unwrap(),
            ..flow
        };
        assert!(keys(&other).is_empty());
        let v6 = FlowKey {
            src: "fd00:7::2".parse().unwrap(),
            ..other
        };
        let [key] = &keys(&v6)[..] else {
            panic!("one key");
        };
        assert_eq!(key.len(), KEY_V6 as usize);
        assert_eq!(key[..10], [0x60, 0, 0, 0, 17, 0, 0, 0, 0xfd, 0]);
        assert_eq!(key[40..], [0x12, 0x34, 0, 53]);
    }
}
