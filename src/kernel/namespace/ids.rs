//! Which users and groups exist in a user namespace (`user_namespaces(7)`).
use anyhow::{Context, Result};
use nix::unistd::{getegid, geteuid};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Who the processes inside are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ids {
    /// Everybody stays who he is. Without privileges, only the caller exists.
    Same,
    /// The caller is root inside.
    Root,
}

impl Ids {
    /// Writes the maps of a process that has just entered a new user namespace and is our child. `process` is its
    /// directory in `/proc`.
    pub(super) fn map(self, process: &OwnedFd) -> Result<()> {
        // Root maps everybody, so that files of other users look as they are. In a container even root may not.
        if geteuid().is_root() && everybody(process).is_ok() {
            return Ok(());
        }
        let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
        let (inner_uid, inner_gid) = match self {
            Self::Same => (uid, gid),
            Self::Root => (0, 0),
        };
        write(process, "setgroups", "deny")
            .and_then(|()| write(process, "uid_map", &format!("{inner_uid} {uid} 1\n")))
            .and_then(|()| write(process, "gid_map", &format!("{inner_gid} {gid} 1\n")))
            .context("cannot map the users of the new user namespace")
    }
}

fn everybody(process: &OwnedFd) -> io::Result<()> {
    for map in ["gid_map", "uid_map"] {
        let all = identity(&fs::read_to_string(format!("/proc/self/{map}"))?);
        write(process, map, &all)?;
    }
    Ok(())
}

/// The map under which everybody who exists here has the same number inside. Each line of a map has a first number
/// inside, a first number outside, and how many follow.
fn identity(own: &str) -> String {
    own.lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let (inside, _, count) = (fields.next()?, fields.next()?, fields.next()?);
            Some(format!("{inside} {inside} {count}\n"))
        })
        .collect()
}

fn write(process: &OwnedFd, file: &str, text: &str) -> io::Result<()> {
    let directory = process.as_raw_fd();
    fs::write(format!("/proc/self/fd/{directory}/{file}"), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_map_names_exactly_who_exists_here() {
        assert_eq!(
            identity("         0     100000      65536\n     70000          5          1\n"),
            "0 0 65536\n70000 70000 1\n"
        );
        assert_eq!(identity(""), "");
    }
}
