//! Namespaces without privileges: a program shut in with Cordon as its only way out ([`Inside`]), and whole networks to
//! try things in ([`lab`]).
//!
//! A user namespace can only be entered by a process of one thread, and forking a process of several is not safe. So the
//! command starts *itself* again as a helper that does nothing else, and talks with it over a socket pair. For that,
//! `main` calls [`helper`] before anything else.

mod channel;
mod ids;
mod inside;
pub mod lab;
mod mounts;
mod signals;

pub use inside::{Held, Inside, Running};

use crate::kernel::netlink::{self, Netlink};
use anyhow::{Context, Result, anyhow};
use channel::Channel;
use ids::Ids;
use nix::errno::Errno;
use nix::sched::CloneFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

/// What a helper process is for. It is told by its name, which nobody can type by accident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Shuts one program in.
    Inside,
    /// Makes the namespaces of a lab.
    Lab,
    /// The first process in a lab, whose end is the end of everything in it.
    LabInit,
}

impl Role {
    const ALL: [Self; 3] = [Self::Inside, Self::Lab, Self::LabInit];

    const fn name(self) -> &'static str {
        match self {
            Self::Inside => "cordon (inside)",
            Self::Lab => "cordon (lab)",
            Self::LabInit => "cordon (lab init)",
        }
    }
}

/// If this process was started as a helper, is one and returns how it ends; else returns `None` at once.
///
/// To be called first of all in `main`, while the process has one thread.
pub fn helper() -> Option<ExitCode> {
    let name = std::env::args_os().next()?;
    let role = Role::ALL.into_iter().find(|role| name == role.name())?;
    let status = match role {
        Role::Inside => inside::helper(),
        Role::Lab => lab::helper(),
        Role::LabInit => lab::init(),
    };
    Some(ExitCode::from(status))
}

/// The program whose `main` calls [`helper`]: the one that runs.
fn own_program() -> PathBuf {
    // Unlike the path by which it was started, this stays right when the file is replaced or the directory changes.
    PathBuf::from("/proc/self/exe")
}

/// A helper that has entered its namespaces.
struct Helper {
    child: Child,
    channel: Channel,
}

impl Helper {
    /// Starts `program` as a helper, waits until it is in its namespaces, maps its users, and sends it `task`.
    fn start(
        program: &Path,
        role: Role,
        ids: Ids,
        arguments: &[OsString],
        task: &impl Serialize,
    ) -> Result<Self> {
        let (channel, theirs) = Channel::pair()?;
        // The helper finds the socket on its standard input and gets the real one over it: so no descriptor has to be
        // left open for a child, which another thread's child might inherit.
        let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
        let child = Command::new(program)
            .arg0(role.name())
            .args(arguments)
            .stdin(Stdio::from(theirs))
            .spawn()
            .with_context(|| format!("cannot start {} as a helper", program.display()))?;
        let mut helper = Self { child, channel };
        let set_up = |helper: &Self| {
            let process = helper.channel.expect(b"unshared")?;
            let process = process
                .first()
                .context("the helper did not say who it is")?;
            ids.map(process)?;
            helper
                .channel
                .send(&serde_json::to_vec(task)?, &[stdin.as_fd()])
        };
        match set_up(&helper) {
            Ok(()) => Ok(helper),
            Err(error) => {
                helper.end();
                Err(error)
            }
        }
    }

    /// Ends a helper that is still under our control.
    fn end(&mut self) {
        // It may have ended by itself, which is just as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The helper's side of [`Helper::start`]: enters the namespaces and returns the socket and the task.
fn enter<T: DeserializeOwned>(channel: &Channel, namespaces: CloneFlags) -> Result<T> {
    nix::sched::unshare(namespaces).map_err(refused)?;
    // A number would not do: the other side may be in another process namespace than its /proc.
    let process = fs::File::open("/proc/self").context("cannot open /proc/self")?;
    channel.send(b"unshared", &[process.as_fd()])?;
    let (task, fds) = channel
        .receive()?
        .context("the command that started this helper has ended")?;
    let stdin = fds
        .first()
        .context("the standard input was not handed over")?;
    nix::unistd::dup2_stdin(stdin)?;
    Ok(serde_json::from_slice(&task)?)
}

/// Runs a helper's work and tells the other side if it fails. Returns the exit status.
fn reporting(work: impl FnOnce(&Channel) -> Result<u8>) -> u8 {
    let channel = match Channel::from_stdin() {
        Ok(channel) => channel,
        Err(error) => {
            eprintln!("cordon: this helper was not started by cordon: {error:#}");
            return FAILED;
        }
    };
    work(&channel).unwrap_or_else(|error| {
        let error = explained(error);
        // If nobody listens any more, nobody needs to know.
        let _ = channel.fail(&error);
        FAILED
    })
}

/// The exit status of a helper that could not do its work.
const FAILED: u8 = 125;

/// How a program ended, as shells say it: its status, or 128 and the number of the signal that ended it.
fn status(of: ExitStatus) -> u8 {
    let code = of
        .code()
        .or_else(|| of.signal().map(|signal| 128 + signal))
        .unwrap_or(i32::from(FAILED));
    u8::try_from(code).unwrap_or(u8::MAX)
}

/// The loopback interface of a new network namespace is down.
fn loopback_up(netlink: &mut Netlink) -> Result<()> {
    netlink.up("lo")
}

/// Why the kernel let us have no namespaces.
fn refused(error: Errno) -> anyhow::Error {
    let guess = match error as i32 {
        libc::ENOSPC | libc::EUSERS => {
            "too many are nested or in use (`sysctl user.max_user_namespaces` shows the limit)"
        }
        libc::EINVAL => "this kernel was built without user or network namespaces",
        _ => {
            "the system forbids it, as containers do by their seccomp profile: run it outside, or allow `unshare`"
        }
    };
    let remedy = restriction().unwrap_or_else(|| guess.to_owned());
    anyhow!(std::io::Error::from(error)).context(format!("cannot make a user namespace: {remedy}"))
}

/// Adds the remedy to an error that a half-forbidden namespace causes later on.
fn explained(error: anyhow::Error) -> anyhow::Error {
    let denied = matches!(netlink::errno(&error), Some(libc::EPERM | libc::EACCES));
    match restriction().filter(|_| denied) {
        Some(remedy) => error.context(remedy),
        None => error,
    }
}

/// The setting by which this system restricts user namespaces, if any, and how to lift it.
fn restriction() -> Option<String> {
    const SETTINGS: [(&str, &str, &str); 3] = [
        ("user.max_user_namespaces", "0", "10000"),
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ];
    SETTINGS.into_iter().find_map(|(name, forbids, allows)| {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        let value = fs::read_to_string(path).ok()?;
        (value.trim() == forbids).then(|| {
            format!("{name} is {forbids} on this system; `sysctl -w {name}={allows}` allows them")
        })
    })
}
