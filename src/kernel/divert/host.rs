//! Host mode: this machine's own traffic.
use super::{Divert, KERNEL_MARK, MARK_MASK, Near, OWN_MARK};
use crate::kernel::nft::{Base, Batch, Hook, Rule};
use crate::kernel::settings;
use anyhow::Result;
use ipnet::IpNet;

/// After connection tracking, before routing (`NF_IP_PRI_MANGLE`).
const MANGLE: i32 = -150;
/// Before connection tracking (`NF_IP_PRI_RAW`).
const RAW: i32 = -300;
/// Before everybody's ordinary chains.
const GUARD: i32 = -10;

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

/// Whether packets are refused whose answers would leave by another interface (RFC 3704, strict). Answers to the daemon's
/// own sockets are, then: unmarked packets to those addresses leave by the TUN.
pub(super) fn strict_return_path() -> bool {
    settings::names("ipv4/conf")
        .iter()
        .any(|link| settings::value(&format!("ipv4/conf/{link}/rp_filter")).as_deref() == Some("1"))
}

/// The guard for what this machine sends, or forwards for others on it (containers).
pub(super) fn filter(batch: &mut Batch, divert: &Divert, near: &Near, strict: bool) -> Result<()> {
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
    batch.chain("guard_output", guard(Hook::Output))?;
    batch.rule("guard_output", &Rule::new("").jump("leaves")?)?;
    batch.chain("guard_forward", guard(Hook::Forward))?;
    let back = Rule::new("was judged").came_in(&divert.tun);
    batch.rule("guard_forward", &back.accept())?;
    batch.rule("guard_forward", &Rule::new("").jump("leaves")?)?;

    // What was judged and written back must not be routed into the TUN again.
    let base = Base {
        hook: Hook::Prerouting,
        priority: RAW,
    };
    batch.chain("judged", Some(base))?;
    let back = Rule::new("was judged").came_in(&divert.tun);
    batch.rule("judged", &back.mark(OWN_MARK, MARK_MASK))?;
    if strict {
        remember_mark(batch)?;
    }
    Ok(())
}

/// Gives answers the mark of what they answer, by which the kernel finds the right return path (`src_valid_mark`).
fn remember_mark(batch: &mut Batch) -> Result<()> {
    let mangle = |hook| {
        Some(Base {
            hook,
            priority: MANGLE,
        })
    };
    batch.chain("remember", mangle(Hook::Postrouting))?;
    let ours = Rule::new("sent by Cordon").marked(OWN_MARK, MARK_MASK);
    batch.rule("remember", &ours.mark_connection(OWN_MARK, MARK_MASK))?;
    batch.chain("recall", mangle(Hook::Prerouting))?;
    let answer = Rule::new("answers Cordon").connection_marked(OWN_MARK, MARK_MASK);
    batch.rule("recall", &answer.mark(OWN_MARK, MARK_MASK))
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
