//! Gateway mode: the devices behind this machine.
use super::{Changes, Divert, KERNEL_MARK, MARK_MASK, Near};
use crate::kernel::nft::{Base, Batch, Hook, Rule};
use crate::kernel::settings::{self, Setting};
use anyhow::Result;

/// Before connection tracking (`NF_IP_PRI_RAW`).
const RAW: i32 = -300;
/// Before everybody else who looks at what is forwarded, and may remember its mark (`NF_IP_PRI_MANGLE` is -150).
const GUARD: i32 = -160;
/// The chains of the guard.
pub(super) const GUARD_CHAIN: &str = "guard";
pub(super) const FROM_LAN: &str = "from_lan";

/// Whether this machine is a router at all.
const SWITCH_V4: &str = "ipv4/ip_forward";
const SWITCH_V6: &str = "ipv6/conf/all/forwarding";

/// Packets to other places than this machine alone (`RTN_LOCAL`, `RTN_BROADCAST`, `RTN_MULTICAST`).
const NOT_ELSEWHERE: [(u8, &str); 3] = [
    (libc::RTN_LOCAL, "this machine is meant"),
    (libc::RTN_BROADCAST, "the LAN is meant"),
    (libc::RTN_MULTICAST, "the LAN is meant"),
];

/// The guard, and where packets are routed into the TUN what keeps them out of connection tracking: it is to see them first
/// when they are written back, so that masquerading works as ever. Our own answers to devices stay out of it as well: it knows
/// no question to them, and drops them while it remembers an older flow of the same addresses and ports.
pub(super) fn filter(batch: &mut Batch, divert: &Divert, near: &Near) -> Result<()> {
    batch.chain(FROM_LAN, None)?;
    let accept = |rule: Rule| rule.accept();
    batch.rule(
        FROM_LAN,
        &accept(Rule::new("to be judged").goes_out(&divert.tun)),
    )?;
    for lan in &divert.lans {
        batch.rule(FROM_LAN, &accept(Rule::new("stays inside").goes_out(lan)))?;
    }
    batch.rule(FROM_LAN, &Rule::new("would leave unjudged").count().drop())?;

    // Nobody is to give the mark back to a later packet, when there is nobody any more who judges (`ct mark`).
    let judged = |mark: fn(Rule, u32, u32) -> Rule| {
        // First in its chain, since most packets of decided flows come here.
        mark(Rule::new("was judged"), KERNEL_MARK, MARK_MASK).accept()
    };
    let guard = (GUARD_CHAIN, Hook::Forward, GUARD);
    from_lans(
        batch,
        divert,
        guard,
        (&judged(Rule::marked_until_now), FROM_LAN),
    )?;
    if !divert.routed {
        return Ok(());
    }

    batch.chain("untrack", None)?;
    for (kind, comment) in NOT_ELSEWHERE {
        batch.rule("untrack", &accept(Rule::new(comment).destination_is(kind)))?;
    }
    for (_, net) in &near.inside {
        batch.rule("untrack", &accept(Rule::new("stays inside").goes_to(*net)))?;
    }
    batch.rule("untrack", &Rule::new("to be judged").untracked())?;

    batch.chain("answers", None)?;
    for (_, net) in &near.inside {
        batch.rule("answers", &Rule::new("an answer").goes_to(*net).untracked())?;
    }
    let chain = ("divert", Hook::Prerouting, RAW);
    from_lans(batch, divert, chain, (&judged(Rule::marked), "untrack"))?;
    let written = Rule::new("written back").came_in(&divert.tun);
    batch.rule("divert", &written.jump("answers")?)?;
    Ok(())
}

/// A chain that has another one look at what comes from devices, but for packets of decided flows.
fn from_lans(
    batch: &mut Batch,
    divert: &Divert,
    (chain, hook, priority): (&str, Hook<'_>, i32),
    (judged, next): (&Rule, &str),
) -> Result<()> {
    batch.chain(chain, Some(Base { hook, priority }))?;
    batch.rule(chain, judged)?;
    for lan in &divert.lans {
        batch.rule(chain, &Rule::new("from inside").came_in(lan).jump(next)?)?;
    }
    Ok(())
}

impl Changes {
    /// Makes this machine a router, for both families.
    ///
    /// The kernel's switches for all interfaces overwrite each interface's own setting, and more; what they would not
    /// put back by themselves is remembered one by one.
    pub(super) fn forwarding(&mut self, divert: &Divert) {
        let off = |switch| settings::value(switch).as_deref() == Some("0");
        if off(SWITCH_V4) {
            self.apply.push(Setting::new(SWITCH_V4, "1"));
            self.restore.push(Setting::new(SWITCH_V4, "0"));
            // Switching it off sets this to 1 (`inet_forward_change` of the kernel).
            self.remember("ipv4/conf/all/accept_redirects", "1");
            self.remember_interfaces("ipv4");
        } else {
            self.no_exemption("ipv4", divert);
        }
        if off(SWITCH_V6) {
            let learners = self.go_on_learning(divert);
            self.apply.push(Setting::new(SWITCH_V6, "1"));
            self.restore.push(Setting::new(SWITCH_V6, "0"));
            self.restore.extend(learners);
            self.remember_interfaces("ipv6");
        } else {
            self.no_exemption("ipv6", divert);
        }
    }

    /// Where the switch is on, an interface may still be exempt.
    fn no_exemption(&mut self, family: &str, divert: &Divert) {
        for link in divert.lans.iter().chain([&divert.tun]) {
            self.set(&format!("{family}/conf/{link}/forwarding"), "1");
        }
    }

    /// An IPv6 router stops learning its own routes from others unless it is told to go on (`accept_ra` 2): without it
    /// the way to the internet would be lost. Returns how it was.
    fn go_on_learning(&mut self, divert: &Divert) -> Vec<Setting> {
        let mut learners = Vec::new();
        for link in settings::names("ipv6/conf") {
            let path = format!("ipv6/conf/{link}/accept_ra");
            let ours = divert.lans.contains(&link) || link == divert.tun;
            let learns = !ours && !matches!(link.as_str(), "all" | "lo");
            if learns && settings::value(&path).as_deref() == Some("1") {
                self.apply.push(Setting::new(&path, "2"));
                learners.push(Setting::new(&path, "1"));
            }
        }
        learners
    }

    fn remember_interfaces(&mut self, family: &str) {
        for link in settings::names(&format!("{family}/conf")) {
            if link != "all" {
                self.remember(&format!("{family}/conf/{link}/forwarding"), "0");
            }
        }
    }

    /// Remembers a setting that is not what putting back the switch makes it.
    fn remember(&mut self, path: &str, reset: &str) {
        if let Some(now) = settings::value(path).filter(|now| now != reset) {
            self.restore.push(Setting::new(path, now));
        }
    }
}
