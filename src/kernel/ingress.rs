//! The short way into the TUN: what devices send goes there as its interface takes it in, past the kernel's own filters,
//! connection tracking and routes.
//!
//! It takes every packet of a device that would leave the inside: fragments and those with options, too. Left to the kernel
//! are those for this machine or for other devices, multicast and broadcasts, which it does not forward, and those at the
//! end of their hops, for which it complains. What comes from an address that is not inside is dropped: whoever answers it
//! (a refusal, a complaint) would send to the outside what it quotes. Frames with a VLAN's tag are left to the interface
//! that they belong to; one with a priority alone (IEEE 802.1Q, VLAN 0) would need its tag taken off first, which
//! nf_tables cannot. They and whatever else there may be, and everything once the table is gone with the process or an
//! interface with its chain, meets the guard of [`super::divert`].

use super::netlink::{Family, Netlink};
use super::nft::{Base, Batch, Hook, Nft, PayloadBase, Rule, Sees};
use anyhow::{Context, Result};
use ipnet::IpNet;

/// The table, here and where it also knows flows that stay in the kernel.
pub(super) const TABLE: &str = "cordon_ingress";
/// The chain for what came in on any of the interfaces.
const INSIDE: &str = "inside";
/// The chain for what goes elsewhere, and that for what comes from inside, too.
const ELSEWHERE: &str = "elsewhere";
const LEAVES: &str = "leaves";
/// The chain for what was written back to the TUN.
const WRITTEN: &str = "written";
/// Behind others who filter there.
const LATE: i32 = 500;

/// Where packets of devices come from, and where they are to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The interfaces that devices are behind.
    pub lans: Vec<String>,
    /// Their indexes, of those that are there.
    pub indexes: Vec<u32>,
    /// The networks behind them: what goes there stays inside.
    pub nets: Vec<IpNet>,
    /// The TUN.
    pub tun: String,
}

/// The short way, as long as this lives.
#[derive(Debug)]
#[must_use = "the short way ends with this"]
pub struct Shortcut(Nft);

impl Shortcut {
    /// Opens it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If the kernel cannot (`fwd` of nf_tables, owned tables: Linux 5.12), another process has the table, or for want
    /// of rights. Then packets have to take the long way, by routes.
    pub fn open(inside: &Inside) -> Result<Self> {
        let mut shortcut = Self(Nft::open()?);
        shortcut
            .install(Batch::new(Sees::Frames, TABLE)?, inside)
            .context("packets take the kernel's long way to us")?;
        Ok(shortcut)
    }

    /// Opens it anew, for other interfaces or networks.
    ///
    /// # Errors
    /// If the kernel refuses; nothing has changed then.
    pub fn renew(&mut self, inside: &Inside) -> Result<()> {
        let mut batch = Batch::new(Sees::Frames, TABLE)?;
        batch.remove_table();
        self.install(batch, inside)
    }

    fn install(&mut self, mut batch: Batch, inside: &Inside) -> Result<()> {
        batch.table(true);
        inside.shorten(&mut batch, &[])?;
        self.0.commit(&batch)
    }
}

impl Inside {
    /// Adds the chains to a table that sees frames; packets that one of the rules `decided` accepts are left to the
    /// kernel. Interfaces that are not there are left out.
    pub(super) fn shorten(&self, batch: &mut Batch, decided: &[Rule]) -> Result<()> {
        let mut netlink = Netlink::open()?;
        let tun = netlink.index(&self.tun)?;
        batch.chain(LEAVES, None)?;
        for family in Family::BOTH {
            let to_tun = leaves(family).forward_to(family, tun);
            batch.rule(LEAVES, &to_tun)?;
        }
        batch.rule(LEAVES, &Rule::new("the kernel complains").accept())?;
        batch.chain(ELSEWHERE, None)?;
        for net in &self.nets {
            let ours = Rule::new("from inside").comes_from(*net).jump(LEAVES)?;
            batch.rule(ELSEWHERE, &ours)?;
        }
        let foreign = Rule::new("from an address that is not inside");
        batch.rule(ELSEWHERE, &foreign.count().drop())?;
        batch.chain(INSIDE, None)?;
        for tag in TAGS {
            let other = Rule::new("of an interface on top of this one").tagged(tag);
            batch.rule(INSIDE, &other.accept())?;
        }
        for net in &self.nets {
            let stays = Rule::new("stays inside").goes_to(*net).accept();
            batch.rule(INSIDE, &stays)?;
        }
        for family in Family::BOTH {
            let elsewhere = Rule::new("for elsewhere")
                .family(family)
                .destination_differs(&NEAR);
            batch.rule(INSIDE, &elsewhere.jump(ELSEWHERE)?)?;
        }
        for (number, lan) in self.lans.iter().enumerate() {
            if netlink.index(lan).is_err() {
                continue;
            }
            let chain = format!("ingress{number}");
            batch.chain(&chain, Some(late(lan)))?;
            // Here, since a chain of their own would cost as much as two of them.
            for rule in decided {
                batch.rule(&chain, rule)?;
            }
            // Others' frames are seen here, too.
            let ours = Rule::new("sent to us").sent_to_us().jump(INSIDE)?;
            batch.rule(&chain, &ours)?;
        }
        // Connection tracking knows no question to our own answers, and drops them while it remembers an older flow of
        // the same addresses and ports.
        batch.chain(WRITTEN, Some(late(&self.tun)))?;
        for net in &self.nets {
            let answer = Rule::new("an answer").goes_to(*net).untracked();
            batch.rule(WRITTEN, &answer)?;
        }
        Ok(())
    }
}

fn late(link: &str) -> Base<'_> {
    Base {
        hook: Hook::Ingress(link),
        priority: LATE,
    }
}

/// EtherTypes of frames with a VLAN's tag (IEEE 802.1Q, table 9-1): they belong to an interface of its own.
const TAGS: [u16; 2] = [0x8100, 0x88a8];

/// What the kernel does not forward, by its destination.
const NEAR: [u8; 4] = [
    libc::RTN_LOCAL,
    libc::RTN_BROADCAST,
    libc::RTN_MULTICAST,
    libc::RTN_ANYCAST,
];

/// A rule for packets that the kernel would forward. RFC 791, section 3.1; RFC 8200, section 3.
fn leaves(family: Family) -> Rule {
    use PayloadBase::NetworkHeader;
    let rule = Rule::new("to be judged").family(family);
    match family {
        Family::V4 => rule
            // The time to live.
            .load(NetworkHeader, 8, 1)
            .at_least(&[2])
            .source_differs(&[libc::RTN_LOCAL, libc::RTN_BROADCAST]),
        Family::V6 => rule
            // The hop limit.
            .load(NetworkHeader, 7, 1)
            .at_least(&[2])
            // Not from an address of the link, which no router forwards (RFC 4291, section 2.5.6).
            .load(NetworkHeader, 8, 2)
            .bits(&[0xff, 0xc0], &[0, 0])
            .differs(&[0xfe, 0x80])
            .source_differs(&[libc::RTN_LOCAL, libc::RTN_ANYCAST]),
    }
}
