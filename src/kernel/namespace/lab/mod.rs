//! A network of several hosts inside one process, for tests and demonstrations.
//!
//! The process starts itself again in namespaces of its own and builds hosts there, each a network namespace, joined by
//! cables. They may have any address in the world: nothing leads outside. All of it ends with the process.

mod host;
mod observer;

pub use host::Host;
pub use observer::{Capture, Frame, Observer};

use super::ids::Ids;
use super::{FAILED, Helper, Role, enter, loopback_up, mounts, own_program, reporting, status};
use crate::kernel::netlink::{Netlink, VethEnd};
use anyhow::{Context, Result, bail};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, wait};
use serde::{Deserialize, Serialize};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Says, in a lab, which network namespace is the machine's own.
const OUTSIDE: &str = "CORDON_LAB";

/// Proof that this process is in a lab, and not in the machine's own network.
#[derive(Debug)]
pub struct Lab(());

/// What [`Lab::enter`] comes to.
#[derive(Debug)]
pub enum Entered {
    /// This process is in the lab.
    Inside(Lab),
    /// This process has run itself in a lab, which has ended with this exit status.
    Finished(u8),
}

#[derive(Serialize, Deserialize)]
struct Task {
    outside: String,
}

impl Lab {
    /// Runs this program again, with the same arguments, in a fresh lab; in there, returns the lab. For programs whose
    /// `main` calls [`super::helper`]; others use [`Lab::run`].
    ///
    /// # Errors
    /// If this system forbids user namespaces; it says what to do.
    pub fn enter() -> Result<Entered> {
        if let Some(lab) = Self::here() {
            return Ok(Entered::Inside(lab));
        }
        let own = own_program();
        let arguments: Vec<OsString> = env::args_os().skip(1).collect();
        Self::run(&own, own.as_os_str(), &arguments).map(Entered::Finished)
    }

    /// Runs a program in a fresh lab and returns its exit status. `helper` is a program whose `main` calls
    /// [`super::helper`].
    ///
    /// # Errors
    /// If this system forbids user namespaces; it says what to do.
    pub fn run(helper: &Path, program: &OsStr, arguments: &[OsString]) -> Result<u8> {
        let mut command = vec![program.to_owned()];
        command.extend_from_slice(arguments);
        let task = Task {
            outside: network()?,
        };
        let mut helper = Helper::start(helper, Role::Lab, Ids::Root, &command, &task)?;
        let ended = helper.channel.closed();
        let code = status(helper.child.wait()?);
        ended.map(|()| code)
    }

    /// The lab this process is in, if it is in one.
    pub fn here() -> Option<Self> {
        let outside = env::var_os(OUTSIDE)?;
        // The variable alone proves nothing: what is done in a lab must never be done to the machine.
        let network = network().ok()?;
        (OsStr::new(&network) != outside).then_some(Self(()))
    }

    /// A new host, with a loopback interface and nothing else.
    ///
    /// # Errors
    /// If the kernel refuses another network namespace.
    pub fn host(&self, name: &str) -> Result<Host> {
        Host::new(name)
    }

    /// Lays a cable between an interface of one host and an interface of another; both are made by this and are up.
    ///
    /// # Errors
    /// If a name is taken or cannot be one.
    pub fn wire(&self, a: (&Host, &str), b: (&Host, &str)) -> Result<()> {
        a.0.run(|| {
            Netlink::open()?.create_veth(
                VethEnd {
                    name: a.1,
                    namespace: None,
                },
                VethEnd {
                    name: b.1,
                    namespace: Some(b.0.as_fd()),
                },
            )
        })?;
        for (host, link) in [a, b] {
            host.run(|| Netlink::open()?.up(link))?;
        }
        Ok(())
    }
}

/// The network namespace of this thread, as the kernel names it.
fn network() -> Result<String> {
    Ok(fs::read_link("/proc/thread-self/ns/net")
        .context("cannot read /proc/thread-self/ns/net; is /proc mounted?")?
        .to_string_lossy()
        .into_owned())
}

/// The helper that makes a lab's namespaces, and waits for its end.
pub(super) fn helper() -> u8 {
    reporting(|channel| {
        let task: Task = enter(
            channel,
            CloneFlags::CLONE_NEWUSER
                | CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWPID,
        )?;
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        mounts::detach()?;
        // Only children are in the new process namespace; the first is its init.
        let ended = Command::new(own_program())
            .arg0(Role::LabInit.name())
            .args(env::args_os().skip(1))
            .env(OUTSIDE, task.outside)
            .status()
            .context("cannot start the first process of the lab")?;
        Ok(status(ended))
    })
}

/// The first process in a lab: when it ends, the kernel ends all others.
pub(super) fn init() -> u8 {
    run_program().unwrap_or_else(|error| {
        eprintln!("cordon: {error:#}");
        FAILED
    })
}

fn run_program() -> Result<u8> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    loopback_up(&mut Netlink::open()?)?;
    let mut arguments = env::args_os().skip(1);
    let program = arguments.next().context("no program was named")?;
    let child = Command::new(&program)
        .args(arguments)
        .spawn()
        .with_context(|| format!("cannot run {} in the lab", program.to_string_lossy()))?;
    let child = i32::try_from(child.id())?;
    // Whoever loses his parent in here becomes a child of ours.
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid.as_raw() == child => {
                return Ok(u8::try_from(code).unwrap_or(FAILED));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == child => {
                return Ok(u8::try_from(128 + signal as i32).unwrap_or(FAILED));
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => bail!("cannot wait for the program: {}", error.desc()),
        }
    }
}
