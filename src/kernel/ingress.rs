//! The short way into the TUN: what devices send goes there as its interface takes it in, past the kernel's own filters,
//! connection tracking and routes, by which it would come there as well.
//!
//! Nothing depends on it. The routes and the guard of [`super::divert`] stay as they are, and whatever is not the usual
//! packet (fragments, options, addresses that are not plain unicast, a hop limit at its end) takes the way they show, as
//! all do when the table goes with the process, or an interface with its chain.

use super::netlink::{Family, Netlink};
use super::nft::{Base, Batch, Hook, Nft, PayloadBase, Rule, Sees};
use anyhow::{Context, Result};
use ipnet::IpNet;

/// The table, here and where it also knows flows that stay in the kernel.
pub(super) const TABLE: &str = "cordon_ingress";
/// The chain for what came in on any of the interfaces.
const INSIDE: &str = "inside";
/// Behind others who filter there.
const LATE: i32 = 500;

/// Where packets of devices come from, and where they are to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The interfaces that devices are behind.
    pub lans: Vec<String>,
    /// The networks behind them: what goes there stays inside.
    pub nets: Vec<IpNet>,
    /// The TUN.
    pub tun: String,
}

/// The short way, as long as this lives.
#[derive(Debug)]
#[must_use = "the short way ends with this"]
pub struct Shortcut {
    _nft: Nft,
}

impl Shortcut {
    /// Opens it in the network namespace of the calling thread.
    ///
    /// # Errors
    /// If the kernel cannot (`fwd` of nf_tables, owned tables: Linux 5.12), another process has the table, or for want
    /// of rights. Then packets take the long way.
    pub fn open(inside: &Inside) -> Result<Self> {
        let mut batch = Batch::new(Sees::Frames, TABLE)?;
        batch.table(true);
        inside.shorten(&mut batch, None)?;
        let mut nft = Nft::open()?;
        nft.commit(&batch)
            .context("packets take the kernel's long way to us")?;
        Ok(Self { _nft: nft })
    }
}

impl Inside {
    /// Adds the chains to a table that sees frames; packets that the chain `first` accepts are left to the kernel.
    pub(super) fn shorten(&self, batch: &mut Batch, first: Option<&str>) -> Result<()> {
        let tun = Netlink::open()?.index(&self.tun)?;
        batch.chain(INSIDE, None)?;
        if let Some(first) = first {
            batch.rule(INSIDE, &Rule::new("decided").jump(first)?)?;
        }
        for net in &self.nets {
            let stays = Rule::new("stays inside").goes_to(*net).accept();
            batch.rule(INSIDE, &stays)?;
        }
        for family in Family::BOTH {
            let to_tun = usual(family).forward_to(family, tun);
            batch.rule(INSIDE, &to_tun)?;
        }
        for (number, lan) in self.lans.iter().enumerate() {
            let chain = format!("ingress{number}");
            let base = Base {
                hook: Hook::Ingress(lan),
                priority: LATE,
            };
            batch.chain(&chain, Some(base))?;
            // Others' frames are seen here, too.
            let ours = Rule::new("from inside").sent_to_us().jump(INSIDE)?;
            batch.rule(&chain, &ours)?;
        }
        Ok(())
    }
}

/// A rule for packets that the kernel would forward as they are. RFC 791, section 3.1; RFC 8200, section 3.
fn usual(family: Family) -> Rule {
    use PayloadBase::NetworkHeader;
    let rule = Rule::new("to be judged").family(family);
    let rule = match family {
        Family::V4 => rule
            // Version 4, no options.
            .load(NetworkHeader, 0, 1)
            .is(&[0x45])
            // Neither *more fragments* nor an offset.
            .load(NetworkHeader, 6, 2)
            .bits(&[0x3f, 0xff], &[0, 0])
            .is(&[0, 0])
            .load(NetworkHeader, 8, 1)
            .at_least(&[2]),
        Family::V6 => rule
            // Neither *hop-by-hop options* nor *fragment*: the only extensions that a router looks at.
            .load(NetworkHeader, 6, 1)
            .differs(&[0])
            .differs(&[44])
            .load(NetworkHeader, 7, 1)
            .at_least(&[2])
            // Not from an address of the link, which no router forwards (RFC 4291, section 2.5.6).
            .load(NetworkHeader, 8, 2)
            .bits(&[0xff, 0xc0], &[0, 0])
            .differs(&[0xfe, 0x80]),
    };
    rule.source_is(libc::RTN_UNICAST)
        .destination_is(libc::RTN_UNICAST)
}
