//! What `cordon run` changes on the machine, so that packets go through the TUN or nowhere: the packet filter, kernel
//! settings, routes and policy rules, for IPv4 and IPv6 alike.
//!
//! One thing holds at any instant from [`Divert::install`] to [`Installed::undo`]: a *guard* in the packet filter drops
//! what would leave by any other way than the TUN, whatever the routes say. It is in place first, goes last, and outlives
//! the process: only a clean end opens what it closed.
//!
//! What is to be judged comes to the TUN by the [short way](super::ingress) from where devices' interfaces take it in. Where
//! the kernel has none, and for this machine's own packets, it is *routed* there by a table of its own, which ends in
//! *unreachable* when the TUN is gone. That is not done without need: where there is any policy rule, the kernel looks up
//! each packet's route, and checks its source, the slow way.
//!
//! ```text
//! LAN -> short way --------------------------------------------------------------------------> TUN -> judged
//! LAN -> raw: notrack -> rule "iif LAN" -> table: default dev TUN -> forward: guard -> TUN -> judged
//!                                                                                          |
//! internet <- forward: not from a LAN <- table main <- conntrack sees it first <- TUN <- written back
//! ```

mod gateway;
mod host;

use super::ingress::Inside;
use super::netlink::{Family, Netlink, Route, Rule, Target};
use super::nft::{self, Batch, Nft, Sees};
use super::settings::{self, Setting};
use super::transaction::{Step, Transaction, vanished};
use anyhow::{Result, ensure};
use ipnet::IpNet;

/// The mark on the daemon's own sockets (`SO_MARK`), whose packets go past all of this in host mode.
pub const OWN_MARK: u32 = 0x4300_0000;
/// The mark on packets of flows that were decided for good and stay in the kernel.
pub const KERNEL_MARK: u32 = 0x4400_0000;
/// The bits of a packet's mark that are Cordon's; the others stay as they are.
pub const MARK_MASK: u32 = 0xff00_0000;

/// The routing table that leads into the TUN; "CO" in ASCII. It is Cordon's alone.
pub const TABLE: u32 = 0x434f;
/// The packet filter's table of family `inet`.
pub const FILTER: &str = "cordon";

/// Who made a policy rule (`rt_protos`); nobody else has this number.
const PROTOCOL: u8 = 67;
/// Where our policy rules stand: behind `local`, before everybody else's.
const DECIDED: u32 = 4310;
const DIVERTED: u32 = 4311;
/// The chain whose comments say what settings were before.
const BEFORE: &str = "before";

/// What is to go through the TUN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divert {
    /// The TUN. It must be there, and be up.
    pub tun: String,
    /// Interfaces whose devices are guarded: gateway mode.
    pub lans: Vec<String>,
    /// The devices' packets come by routes: the kernel has no short way.
    pub routed: bool,
    /// This machine's own traffic, too: host mode.
    pub own_traffic: bool,
}

/// Everything is in place. Dropping this leaves it so, as `kill -9` would.
#[derive(Debug)]
#[must_use = "what was closed stays closed until it is undone"]
pub struct Installed {
    changes: Transaction,
    /// Chains of the guard.
    guard: Vec<&'static str>,
}

impl Divert {
    /// Puts everything in place, in the network namespace of the calling thread. What an earlier run left behind is
    /// replaced, without the guard being gone for an instant.
    ///
    /// # Errors
    /// If the kernel refuses a part, an interface is not there, or for want of rights. The machine is as it was then;
    /// only the guard of an earlier run stays.
    pub fn install(&self) -> Result<Installed> {
        let mut netlink = Netlink::open()?;
        for link in self.lans.iter().chain([&self.tun]) {
            netlink.index(link)?;
        }
        ensure!(
            !self.lans.contains(&self.tun),
            "{} cannot be the TUN and a guarded interface at once",
            self.tun
        );
        let changes = Transaction::begin(self.steps(&mut netlink)?)?;
        let mut guard = Vec::new();
        if !self.lans.is_empty() {
            guard.extend([gateway::GUARD_CHAIN, gateway::FROM_LAN]);
        }
        if self.own_traffic {
            guard.extend(host::GUARD_CHAINS);
        }
        Ok(Installed { changes, guard })
    }

    /// Where the devices are now, for the short way.
    ///
    /// # Errors
    /// If the TUN is not there.
    pub fn inside(&self) -> Result<Inside> {
        let mut netlink = Netlink::open()?;
        let near = Near::of(self, &mut netlink)?;
        let index = |lan: &String| netlink.index(lan).ok();
        Ok(Inside {
            lans: self.lans.clone(),
            indexes: self.lans.iter().filter_map(index).collect(),
            nets: near.destinations(false).collect(),
            tun: self.tun.clone(),
        })
    }

    /// The interfaces' indexes, of those that are there, and their addresses: cheaper to ask than [`Divert::inside`], which
    /// changes with them.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn footing(&self) -> Result<(Vec<u32>, Vec<IpNet>)> {
        let mut netlink = Netlink::open()?;
        let index = |lan: &String| netlink.index(lan).ok();
        let links: Vec<u32> = self.lans.iter().filter_map(index).collect();
        let addresses = netlink.addresses()?.into_iter();
        let ours = addresses.filter(|address| links.contains(&address.link));
        Ok((links.clone(), ours.map(|address| address.net).collect()))
    }

    fn steps(&self, netlink: &mut Netlink) -> Result<Vec<Step>> {
        let leftover = Nft::has_table(Sees::Packets, FILTER)?;
        let near = Near::of(self, netlink)?;
        let mut settings = Changes::default();
        settings.set(&format!("ipv6/conf/{}/disable_ipv6", self.tun), "0");
        settings.return_path(self, netlink)?;
        if !self.lans.is_empty() {
            settings.forwarding(self);
        }
        settings.keep(before()?);

        let mut install = fresh_table()?;
        if !self.lans.is_empty() {
            gateway::filter(&mut install, self, &near)?;
        }
        if self.own_traffic {
            host::filter(&mut install, self, &near)?;
        }
        install.chain(BEFORE, None)?;
        for setting in &settings.restore {
            install.rule(BEFORE, &nft::Rule::new(&setting.to_string()))?;
        }
        let mut steps = vec![
            Step::Filter {
                install,
                remove: no_table()?,
                stays: leftover,
            },
            // Behind the guard nothing can slip through while the old routes go and the new ones come.
            Step::Forget(clear_routing),
            Step::Settings {
                apply: settings.apply,
                restore: settings.restore,
            },
        ];
        if self.routed || self.own_traffic {
            for family in families() {
                steps.extend(self.routes(family, &near).into_iter().map(Step::Route));
                steps.extend(self.rules(family).into_iter().map(Step::Rule));
            }
        }
        Ok(steps)
    }

    /// The table's routes: what is near is left to the other tables, everything else goes into the TUN, or nowhere.
    fn routes(&self, family: Family, near: &Near) -> Vec<Route> {
        let route = |destination, metric, target| Route {
            destination,
            table: TABLE,
            metric,
            target,
        };
        let everything = Route::default_of(family);
        let into = Target::Device {
            name: self.tun.clone(),
            via: None,
        };
        let mut routes: Vec<Route> = near
            .destinations(self.own_traffic)
            .filter(|net| Family::of(net.addr()) == family)
            .map(|net| route(net, 0, Target::Throw))
            .collect();
        routes.push(route(everything, LAST, Target::Unreachable));
        routes.push(route(everything, FIRST, into));
        routes
    }

    fn rules(&self, family: Family) -> Vec<Rule> {
        let rule = |priority, table| Rule {
            protocol: PROTOCOL,
            ..Rule::new(family, priority, table)
        };
        let mut rules = Vec::new();
        for lan in self.lans.iter().filter(|_| self.routed) {
            rules.push(Rule {
                iif: Some(lan.clone()),
                mark: Some((KERNEL_MARK, MARK_MASK)),
                ..rule(DECIDED, Route::MAIN)
            });
            rules.push(Rule {
                iif: Some(lan.clone()),
                ..rule(DIVERTED, TABLE)
            });
        }
        if self.own_traffic {
            rules.push(Rule {
                mark: Some((OWN_MARK, MARK_MASK)),
                not: true,
                ..rule(DIVERTED, TABLE)
            });
        }
        rules
    }
}

impl Installed {
    /// Puts the packet filter back as it was installed if somebody has removed its guard, for instance with the rest of
    /// the filter's rules; whether that was so.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn keep(&self) -> Result<bool> {
        for chain in &self.guard {
            if Nft::comments(FILTER, chain)?.is_empty() {
                return self.changes.filter_again().map(|()| true);
            }
        }
        Ok(false)
    }

    /// How many packets of devices the guard has dropped. Where there is the short way hardly any come as far, but for those
    /// of flows left to the kernel whose mark somebody else's rule has changed, and of an interface that has come back.
    ///
    /// # Errors
    /// If the kernel refuses to tell.
    pub fn dropped(&self) -> Result<u64> {
        let rules = Nft::rules(FILTER, gateway::FROM_LAN)?;
        Ok(rules.iter().map(|(_, packets)| packets).sum())
    }

    /// Takes everything back: the machine is as it was before. This opens what was closed. To be called in the network
    /// namespace of the installation: kernel settings are the calling thread's.
    ///
    /// # Errors
    /// What could not be taken back; everything else is.
    pub fn undo(self) -> Result<()> {
        self.changes.undo()
    }
}

/// Takes back what a run that did not end cleanly has left, and says whether there was anything.
///
/// # Errors
/// What could not be taken back, or for want of rights.
pub fn take_back() -> Result<bool> {
    let leftover = Nft::has_table(Sees::Packets, FILTER)?;
    let settings = before()?;
    clear_routing(&mut Netlink::open()?)?;
    settings.iter().try_for_each(Setting::apply)?;
    if leftover {
        Nft::open()?.commit(&no_table()?)?;
    }
    Ok(leftover)
}

/// Metrics in our table: the TUN, as long as it is there.
const FIRST: u32 = 10;
const LAST: u32 = 20;

/// Destinations that do not lead to the internet.
struct Near {
    /// Networks behind guarded interfaces.
    inside: Vec<(String, IpNet)>,
    /// Private networks that this machine is on.
    private: Vec<(String, IpNet)>,
    /// This machine's own addresses on the TUN.
    tunnel: Vec<IpNet>,
}

impl Near {
    fn of(divert: &Divert, netlink: &mut Netlink) -> Result<Self> {
        let mut near = Self {
            inside: Vec::new(),
            private: Vec::new(),
            tunnel: Vec::new(),
        };
        let tun = netlink.index(&divert.tun)?;
        for address in netlink.addresses()? {
            if address.link == tun {
                near.tunnel.push(IpNet::from(address.net.addr()));
            }
        }
        for family in families() {
            for route in netlink.routes(family, Route::MAIN)? {
                let Target::Device { name, via } = route.target else {
                    continue;
                };
                if name == divert.tun || route.destination.prefix_len() == 0 {
                    continue;
                }
                let entry = (name, route.destination);
                if divert.lans.contains(&entry.0) {
                    near.inside.push(entry);
                } else if via.is_none() && host::is_private(route.destination) {
                    near.private.push(entry);
                }
            }
        }
        Ok(near)
    }

    /// All of them, each once. This machine's own packets have more of them than those of the devices behind it.
    fn destinations(&self, own: bool) -> impl Iterator<Item = IpNet> {
        let private = self.private.iter().filter(|_| own);
        let link = host::LINK_SCOPE.iter().filter(|_| own);
        let mut nets: Vec<IpNet> = self
            .inside
            .iter()
            .chain(private)
            .map(|(_, net)| *net)
            .chain(link.filter_map(|net| net.parse().ok()))
            .collect();
        nets.sort();
        nets.dedup();
        nets.into_iter()
    }
}

/// Values of `rp_filter`.
const OFF: &str = "0";
const STRICT: &str = "1";
const LOOSE: &str = "2";

/// Kernel settings to change, and how to change them back.
#[derive(Debug, Default)]
struct Changes {
    apply: Vec<Setting>,
    restore: Vec<Setting>,
}

impl Changes {
    /// Sets a setting, if it is there and has another value.
    fn set(&mut self, path: &str, value: &str) {
        let now = settings::value(path);
        if let Some(now) = now.filter(|now| now != value) {
            self.apply.push(Setting::new(path, value));
            self.restore.push(Setting::new(path, now));
        }
    }

    /// Lets packets that are written back to the TUN, and answers to them, pass the check of their return path
    /// (RFC 3704). The strict check asks whether a packet to the source would leave where this one came in; with routes
    /// that depend on where a packet comes from, that is the wrong question. The loose one asks for any route.
    fn return_path(&mut self, divert: &Divert, netlink: &mut Netlink) -> Result<()> {
        let tun = divert.tun.as_str();
        let links = settings::names("ipv4/conf").into_iter();
        for link in links.filter(|_| divert.routed || divert.own_traffic) {
            let path = format!("ipv4/conf/{link}/rp_filter");
            if settings::value(&path).as_deref() == Some(STRICT) && link != tun {
                self.set(&path, LOOSE);
            }
        }
        let path = format!("ipv4/conf/{tun}/rp_filter");
        // The larger of an interface's own setting and that of all counts.
        let all = settings::value("ipv4/conf/all/rp_filter");
        if all.is_none_or(|all| all == OFF) {
            self.set(&path, OFF);
            return Ok(());
        }
        self.set(&path, LOOSE);
        let index = netlink.index(tun)?;
        let addressed = netlink
            .addresses()?
            .iter()
            .any(|address| address.link == index && address.net.addr().is_ipv4());
        ensure!(
            addressed,
            "net.ipv4.conf.all.rp_filter is on, so {tun} needs an IPv4 address: give it one, or set that to 0"
        );
        Ok(())
    }

    /// What an earlier run that did not end cleanly had found counts more than what we find.
    fn keep(&mut self, before: Vec<Setting>) {
        let fresh = std::mem::replace(&mut self.restore, before);
        for setting in fresh {
            if self.restore.iter().all(|kept| kept.path != setting.path) {
                self.restore.push(setting);
            }
        }
    }
}

/// The settings that the table there now has kept.
fn before() -> Result<Vec<Setting>> {
    let comments = Nft::comments(FILTER, BEFORE)?;
    Ok(comments
        .iter()
        .filter_map(|comment| Setting::parse(comment))
        .collect())
}

/// A batch that leaves no table, whether there was one or not.
fn no_table() -> Result<Batch> {
    let mut batch = Batch::new(Sees::Packets, FILTER)?;
    batch.table(false);
    batch.remove_table();
    Ok(batch)
}

/// A batch that puts an empty table in the place of whatever was there.
fn fresh_table() -> Result<Batch> {
    let mut batch = no_table()?;
    batch.table(false);
    Ok(batch)
}

/// Removes the policy rules and routes of an earlier run.
fn clear_routing(netlink: &mut Netlink) -> Result<()> {
    for family in families() {
        for rule in netlink.rules(family)? {
            if rule.protocol == PROTOCOL {
                vanished(netlink.remove_rule(&rule))?;
            }
        }
        for route in netlink.routes(family, TABLE)? {
            vanished(netlink.remove_route(&route))?;
        }
    }
    Ok(())
}

/// The families this kernel speaks.
fn families() -> impl Iterator<Item = Family> {
    let v6 = settings::value("ipv6/conf/all/forwarding").is_some();
    Family::BOTH
        .into_iter()
        .filter(move |family| *family == Family::V4 || v6)
}
