//! Host mode: this machine's own traffic.
use super::{Divert, KERNEL_MARK, MARK_MASK, Near, OWN_MARK};
use crate::kernel::nft::{Base, Batch, Hook, Rule};
use anyhow::Result;
use ipnet::IpNet;

/// Before connection tracking (`NF_IP_PRI_RAW`).
const RAW: i32 = -300;
/// Before everybody's ordinary chains.
const GUARD: i32 = -10;

/// The chains of the guard: what this machine makes, and what it forwards.
pub(super) const GUARD_CHAINS: [&str; 2] = ["guard_output", "guard_forward"];

/// Destinations that routers do not forward: link-local (RFC 3927, RFC 4291), link- and site-scoped multicast (RFC 5771,
/// RFC 2365, RFC 7346), limited broadcast.
pub(super) const LINK_SCOPE: [&str; 7] = [
    "169.254.0.0/16",
    "224.0.0.0/24",
    "239.255.0.0/16",
    "255.255.255.255/32",
    "fe80::/10",
    "ff01::/16",
    "ff02::/16",
];

/// Addresses for use at home (RFC 1918, RFC 4193). A public network that this machine is on is the internet.
const PRIVATE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

/// Whether a network is one for use at home.
pub(super) fn is_private(net: IpNet) -> bool {
    PRIVATE
        .iter()
        .filter_map(|private| private.parse::<IpNet>().ok())
        .any(|private| private.contains(&net))
}

/// The guard for what this machine sends, or forwards for others on it (containers).
pub(super) fn filter(batch: &mut Batch, divert: &Divert, near: &Near) -> Result<()> {
    batch.chain("leaves", None)?;
    for rule in [
        Rule::new("to be judged").goes_out(&divert.tun),
        Rule::new("stays in this machine").goes_out("lo"),
        Rule::new("judged, and sent by Cordon").marked(OWN_MARK, MARK_MASK),
        Rule::new("was judged").marked(KERNEL_MARK, MARK_MASK),
        Rule::new("asks who is on the link").neighbour_discovery(),
    ] {
        batch.rule("leaves", &rule.accept())?;
    }
    for (link, net) in near.inside.iter().chain(&near.private) {
        let rule = Rule::new("stays near").goes_out(link).goes_to(*net);
        batch.rule("leaves", &rule.accept())?;
    }
    for net in LINK_SCOPE.iter().filter_map(|net| net.parse().ok()) {
        batch.rule(
            "leaves",
            &Rule::new("stays on the link").goes_to(net).accept(),
        )?;
    }
    batch.rule("leaves", &Rule::new("would leave unjudged").count().drop())?;

    let guard = |hook| {
        Some(Base {
            hook,
            priority: GUARD,
        })
    };
    let [output, forward] = GUARD_CHAINS;
    batch.chain(output, guard(Hook::Output))?;
    batch.rule(output, &Rule::new("from this machine").jump("leaves")?)?;
    batch.chain(forward, guard(Hook::Forward))?;
    let back = Rule::new("was judged").came_in(&divert.tun);
    batch.rule(forward, &back.accept())?;
    batch.rule(forward, &Rule::new("from this machine").jump("leaves")?)?;

    incoming(batch, divert, near)
}

/// What comes in.
fn incoming(batch: &mut Batch, divert: &Divert, near: &Near) -> Result<()> {
    let base = Base {
        hook: Hook::Prerouting,
        priority: RAW,
    };
    batch.chain("incoming", Some(base))?;
    // What was judged and written back must not be routed into the TUN again.
    let back = Rule::new("was judged").came_in(&divert.tun);
    let back = back.mark(OWN_MARK, MARK_MASK);
    batch.rule("incoming", &back.accept())?;
    let own = Rule::new("stays in this machine").came_in("lo");
    batch.rule("incoming", &own.accept())?;
    // An answer from an address of the TUN would tell a neighbour that there is one, and what goes through it.
    for address in &near.tunnel {
        let probe = Rule::new("nobody outside has business with the TUN").goes_to(*address);
        batch.rule("incoming", &probe.count().drop())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_network_named_here_is_one() {
        for net in LINK_SCOPE.iter().chain(&PRIVATE) {
            assert_eq!(net.parse::<IpNet>().unwrap().trunc().to_string(), **net);
        }
    }

    #[test]
    fn a_public_network_is_not_private_and_a_larger_one_neither() {
        for (net, private) in [
            ("192.168.7.0/24", true),
            ("fd00:7::/64", true),
            ("203.0.113.0/24", false),
            ("8.0.0.0/5", false),
            ("0.0.0.0/0", false),
        ] {
            assert_eq!(is_private(net.parse().unwrap()), private, "{net}");
        }
    }
}
