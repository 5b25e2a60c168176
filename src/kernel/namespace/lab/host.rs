//! One host of a lab.
use super::super::loopback_up;
use crate::kernel::netlink::{Family, Netlink, Route};
use anyhow::{Context, Result, anyhow};
use ipnet::IpNet;
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread;

/// A network namespace that plays a machine. Clones are the same host.
#[derive(Clone, Debug)]
pub struct Host {
    name: Arc<str>,
    network: Arc<OwnedFd>,
}

impl Host {
    pub(super) fn new(name: &str) -> Result<Self> {
        let network = on_a_thread(name, || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let network = File::open("/proc/thread-self/ns/net")?;
            loopback_up(&mut Netlink::open()?)?;
            // What hosts say by themselves, they would say at any time: fewer surprises for observers.
            for quiet in ["accept_dad", "router_solicitations"] {
                // Without IPv6 they are quiet anyway.
                let _ = fs::write(format!("/proc/sys/net/ipv6/conf/default/{quiet}"), "0");
            }
            Ok(network)
        })
        .with_context(|| format!("cannot make the host {name}"))?;
        Ok(Self {
            name: name.into(),
            network: Arc::new(network.into()),
        })
    }

    /// Its name, for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `work` on this host: on a thread of its own, which is gone afterwards. Programs and threads that it starts
    /// are on the host, too. `/proc/net` is the whole process's; the host's is `/proc/thread-self/net`.
    ///
    /// # Errors
    /// Those of `work`, or if the host cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        on_a_thread(&self.name, || {
            setns(&*self.network, CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }

    /// Starts `work` on this host and goes on.
    ///
    /// # Errors
    /// If the system refuses another thread.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<thread::JoinHandle<Result<T>>> {
        let network = Arc::clone(&self.network);
        let thread = thread::Builder::new()
            .name(self.name.to_string())
            .spawn(move || {
                setns(&*network, CloneFlags::CLONE_NEWNET)?;
                work()
            })?;
        Ok(thread)
    }

    /// Gives an interface an address with its prefix length, such as `192.0.2.1/24`.
    ///
    /// # Errors
    /// If it is no address, or the kernel refuses it.
    pub fn address(&self, link: &str, net: &str) -> Result<()> {
        let net: IpNet = net
            .parse()
            .with_context(|| format!("{net} is no address with a prefix length"))?;
        self.run(|| Netlink::open()?.add_address(link, net))
    }

    /// Adds a route to the destinations of a prefix, out of `link`, by way of `via` if it is on that link.
    ///
    /// # Errors
    /// If one of them is no address, or the kernel refuses the route.
    pub fn route(&self, to: &str, link: &str, via: Option<&str>) -> Result<()> {
        let to: IpNet = to.parse().with_context(|| format!("{to} is no prefix"))?;
        let via = via.map(address).transpose()?;
        self.run(|| Netlink::open()?.add_route(&Route::main(to, link, via)))
    }

    /// Sends everything that has no better route to the router `via` on `link`.
    ///
    /// # Errors
    /// If it is no address, or the kernel refuses the route.
    pub fn default_route(&self, link: &str, via: &str) -> Result<()> {
        let via = address(via)?;
        let to = Route::default_of(Family::of(via));
        self.run(|| Netlink::open()?.add_route(&Route::main(to, link, Some(via))))
    }

    /// Sets a kernel setting below `/proc/sys/net`, such as `ipv4/ip_forward`.
    ///
    /// # Errors
    /// If there is no such setting or it does not take the value.
    pub fn setting(&self, path: &str, value: &str) -> Result<()> {
        self.run(|| {
            fs::write(format!("/proc/sys/net/{path}"), value)
                .with_context(|| format!("cannot set net/{path} to {value}"))
        })
    }

    /// Makes it a router, for both families.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn forward(&self) -> Result<()> {
        self.setting("ipv4/ip_forward", "1")?;
        self.setting("ipv6/conf/all/forwarding", "1")
    }
}

impl AsFd for Host {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.network.as_fd()
    }
}

fn address(text: &str) -> Result<IpAddr> {
    text.parse()
        .with_context(|| format!("{text} is no address"))
}

/// A thread of its own: the one that enters a namespace does not come back.
fn on_a_thread<T: Send>(name: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn_scoped(scope, work)?;
        match thread.join() {
            Ok(result) => result,
            // A failed assertion on a host fails the test.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
    .map_err(|error: anyhow::Error| anyhow!(error))
}
