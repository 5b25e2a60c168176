//! The socket: where it is, who may find it, and that there is one daemon behind it.

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use socket2::{Domain, SockAddr, Socket, Type};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Where the socket of a daemon of the system is.
pub(super) const SYSTEM: &str = "/run/cordon/control.sock";
/// Clients that the kernel lets wait to be taken.
const BACKLOG: i32 = 128;

/// Where the socket of a daemon of this user is, unless its configuration says otherwise.
pub fn default_path() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|own| !own.is_empty());
    match own {
        Some(own) if !geteuid().is_root() => Path::new(&own).join("cordon/control.sock"),
        Some(_) | None => SYSTEM.into(),
    }
}

/// A socket that listens. It is gone when this is dropped; the lock beside it stays, and says nothing by being there.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    path: PathBuf,
    /// Held for as long as the daemon lives, however it ends: whoever has it may take what another has left.
    _lock: Flock<File>,
}

impl Bound {
    /// Makes the socket, in a directory for its owner only if there is none yet. What a dead daemon has left is taken
    /// over.
    ///
    /// # Errors
    /// If another daemon has it, something else is there, or it cannot be made.
    pub fn new(path: &Path) -> Result<Self> {
        let shown = path.display();
        let remedy = "set `socket` under [control] of the configuration to another path";
        if let Some(directory) = path.parent() {
            let made = DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory);
            made.with_context(|| format!("cannot make {}: {remedy}", directory.display()))?;
        }
        let lock = lock(path).with_context(|| format!("cannot lock {shown}: {remedy}"))?;
        let Some(lock) = lock else {
            bail!("another daemon has the control socket {shown}: end it, or {remedy}");
        };
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                bail!("{shown} is no socket: move it away, or {remedy}")
            }
            Ok(_) => fs::remove_file(path).with_context(|| format!("cannot remove {shown}"))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
        }
        let listener =
            listen(path).with_context(|| format!("cannot make the control socket {shown}"))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The socket, non-blocking, for whoever serves it.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn listener(&self) -> Result<UnixListener> {
        Ok(self.listener.try_clone()?)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        // If somebody has removed it before, that is just as well.
        let _ = fs::remove_file(&self.path);
    }
}

/// The lock of a socket; `None` if another process holds it.
fn lock(path: &Path) -> Result<Option<Flock<File>>> {
    let mut name = OsString::from(path);
    name.push(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(name)?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(anyhow!(error)),
    }
}

/// Nobody can connect before only its owner may.
fn listen(path: &Path) -> Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, Permissions::from_mode(0o600))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(std::os::fd::OwnedFd::from(socket).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_socket_is_its_owners_and_is_gone_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cordon/control.sock");
        let bound = Bound::new(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(UnixStream::connect(&path).is_ok());
        drop(bound);
        assert!(!path.exists());
    }

    #[test]
    fn one_daemon_has_a_socket_and_the_next_takes_what_a_dead_one_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let first = Bound::new(&path).unwrap();
        let error = format!("{:#}", Bound::new(&path).unwrap_err());
        assert!(
            error.contains("another daemon") && error.contains("[control]"),
            "{error}"
        );
        assert!(UnixStream::connect(&path).is_ok(), "the first one stays");
        drop(first);
        // Nobody answers any more, but the name is still there.
        drop(UnixListener::bind(&path).unwrap());
        assert!(UnixStream::connect(&path).is_err() && path.exists());
        let _second = Bound::new(&path).unwrap();
        assert!(UnixStream::connect(&path).is_ok());
    }

    #[test]
    fn what_is_no_socket_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("letters");
        fs::write(&path, "dear").unwrap();
        let error = format!("{:#}", Bound::new(&path).unwrap_err());
        assert!(error.contains("no socket"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"dear");
        let long = directory.path().join("x".repeat(200));
        assert!(Bound::new(&long).is_err());
    }
}
