//! One program, shut in: its own network with a TUN as the only way out, which the caller holds.
#![expect(
    unsafe_code,
    reason = "dropping a capability and marking unknown descriptors have no safe interface"
)]

use super::channel::Channel;
use super::ids::Ids;
use super::signals::PassedOn;
use super::{Helper, Role, enter, loopback_up, mounts, own_program, reporting, status};
use crate::kernel::netlink::{self, Family, Netlink, Route};
use crate::link::Tun;
use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Pid, getegid};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// What the program is to find.
#[derive(Clone, Debug)]
pub struct Inside {
    task: Task,
    program: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Task {
    link: String,
    mtu: u16,
    queues: usize,
    addresses: Vec<IpNet>,
    resolvers: Vec<IpAddr>,
}

impl Inside {
    /// A TUN `link` with an MTU in bytes. Both ends of it are on this machine, so the MTU may be large.
    pub fn new(link: &str, mtu: u16) -> Self {
        Self {
            task: Task {
                link: link.to_owned(),
                mtu,
                queues: 1,
                addresses: Vec::new(),
                resolvers: Vec::new(),
            },
            program: own_program(),
        }
    }

    /// The TUN has several queues.
    #[must_use]
    pub fn queues(mut self, count: usize) -> Self {
        self.task.queues = count;
        self
    }

    /// The program has this address. A family without an address has no way out.
    #[must_use]
    pub fn address(mut self, net: IpNet) -> Self {
        self.task.addresses.push(net);
        self
    }

    /// The program asks this resolver, which is reached through the TUN like everything else.
    #[must_use]
    pub fn resolver(mut self, address: IpAddr) -> Self {
        self.task.resolvers.push(address);
        self
    }

    /// The helper is this program instead of the running one; its `main` calls [`super::helper`].
    #[must_use]
    pub fn helper(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Makes the namespace and all that is in it, and holds the program just before its start.
    ///
    /// The program ends with the thread that calls this, so call it from one that lives as long.
    ///
    /// # Errors
    /// If this system forbids user namespaces, `/dev/net/tun` cannot be used, …; each says what to do. Nothing is left
    /// behind then.
    pub fn start(&self, program: &OsStr, arguments: &[OsString]) -> Result<Held> {
        let mut command = vec![program.to_owned()];
        command.extend_from_slice(arguments);
        let helper = Helper::start(&self.program, Role::Inside, Ids::Same, &command, &self.task)?;
        let mut held = Held {
            queues: Vec::new(),
            helper: Some(helper),
        };
        if let Some(helper) = &held.helper {
            let fds = helper.channel.expect(b"ready")?;
            held.queues = fds.into_iter().map(Tun::adopt).collect::<Result<_>>()?;
        }
        Ok(held)
    }
}

/// A program held before its start. Dropping it ends it.
pub struct Held {
    /// Its only way out.
    pub queues: Vec<Tun>,
    helper: Option<Helper>,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("queues", &self.queues)
            .finish_non_exhaustive()
    }
}

impl Held {
    /// Lets the program run, and hands over its way out.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn go(mut self) -> Result<(Running, Vec<Tun>)> {
        let Some(mut helper) = self.helper.take() else {
            bail!("the helper is gone");
        };
        let started = helper
            .channel
            .send(b"go", &[])
            // Starting the program closes the helper's end.
            .and_then(|()| helper.channel.closed());
        if let Err(error) = started {
            helper.end();
            return Err(error);
        }
        let running = Running {
            signals: PassedOn::to(helper.child.id())?,
            child: helper.child,
        };
        Ok((running, std::mem::take(&mut self.queues)))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(helper) = &mut self.helper {
            helper.end();
        }
    }
}

/// A program that runs. Signals that this process gets are passed on to it; Ctrl-C reaches it by itself.
#[derive(Debug)]
pub struct Running {
    child: std::process::Child,
    signals: PassedOn,
}

impl Running {
    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end. Returns its exit status, or 128 and the number of the signal that ended it.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub fn wait(mut self) -> Result<u8> {
        let program = Pid::from_raw(i32::try_from(self.child.id())?);
        let looking = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        // The number stays taken until the second wait, so no signal can reach a stranger.
        while waitid(Id::Pid(program), looking) == Err(nix::errno::Errno::EINTR) {}
        PassedOn::stop();
        let ended = self.child.wait().context("cannot wait for the program")?;
        drop(self.signals);
        Ok(status(ended))
    }
}

/// The helper: it becomes the program.
pub(super) fn helper() -> u8 {
    reporting(|channel| {
        let task: Task = enter(
            channel,
            CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS,
        )?;
        let queues = build_network(&task)?;
        mounts::detach()?;
        mounts::resolve_by(&task.resolvers)?;
        let fds: Vec<BorrowedFd<'_>> = queues.iter().map(AsFd::as_fd).collect();
        channel.send(b"ready", &fds)?;
        drop(queues);
        if channel.receive()?.is_none() {
            // The command changed its mind, or is gone.
            return Ok(0);
        }
        become_program(channel)
    })
}

fn build_network(task: &Task) -> Result<Vec<Tun>> {
    let mut netlink = Netlink::open()?;
    loopback_up(&mut netlink)?;
    let queues = Tun::create_queues(&task.link, task.mtu, task.queues)?;
    for net in &task.addresses {
        match netlink.add_address(&task.link, *net) {
            Err(error) if net.addr().is_ipv6() && switched_off(&error) => continue,
            result => result?,
        }
        let default = Route::default_of(Family::of(net.addr()));
        netlink.add_route(&Route::main(default, &task.link, None))?;
    }
    let group = getegid();
    // Lets the program ping, which needs no privilege where a group is named. Kernels without it cannot ping, then.
    let _ = std::fs::write(
        "/proc/sys/net/ipv4/ping_group_range",
        format!("{group} {group}"),
    );
    Ok(queues)
}

/// Whether an IPv6 address was refused because this system has IPv6 switched off: then it has no way out by IPv6.
fn switched_off(error: &anyhow::Error) -> bool {
    matches!(
        netlink::errno(error),
        Some(libc::EACCES | libc::EAFNOSUPPORT | libc::EOPNOTSUPP)
    )
}

fn become_program(channel: &Channel) -> Result<u8> {
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    prctl::set_no_new_privs()?;
    // A program of root's has all capabilities in here. With these two it could take its own network and the files
    // that were put in place apart. It still cannot get out, but it could ask the host's resolvers.
    for capability in [CAP_NET_ADMIN, CAP_SYS_ADMIN] {
        // SAFETY: this prctl takes numbers only. Without the right to do it there is nothing to drop.
        unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    }
    close_on_exec()?;
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().context("no program was named")?;
    let error = Command::new(&program).args(arguments).exec();
    let code = if error.kind() == std::io::ErrorKind::NotFound {
        NOT_FOUND
    } else {
        NOT_EXECUTABLE
    };
    let sentence = format!(
        "cannot run {}: {}",
        program.to_string_lossy(),
        netlink::plain(&error)
    );
    channel.fail(&anyhow::Error::msg(sentence))?;
    Ok(code)
}

/// `linux/capability.h`.
const CAP_NET_ADMIN: libc::c_ulong = 12;
const CAP_SYS_ADMIN: libc::c_ulong = 21;

/// As shells have it.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// Closes every descriptor but the standard three when the program starts: one could be a socket of the host's network.
fn close_on_exec() -> Result<()> {
    for entry in std::fs::read_dir("/proc/self/fd").context("cannot list the open descriptors")? {
        let Some(fd) = entry?
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<RawFd>().ok())
            .filter(|fd| *fd > 2)
        else {
            continue;
        };
        // SAFETY: the descriptor was open a moment ago and this process has one thread; it is only borrowed for the
        // call. The one that lists the directory is among them and may be marked as well.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    }
    Ok(())
}
