//! What a program shut in sees of the file system: its own resolver, and none of the host's.
use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Sockets and directories of services that would look names up for the program, outside of the namespace: the
/// resolver of systemd, the name service caches, mDNS, and the system bus, over which all of these and a dozen
/// others can be asked.
const SERVICES: [&str; 6] = [
    "/run/systemd/resolve",
    "/run/nscd",
    "/var/run/nscd",
    "/run/avahi-daemon",
    "/run/dbus/system_bus_socket",
    "/var/run/dbus/system_bus_socket",
];

/// Where a file system can be mounted for a moment.
const SCRATCH: [&str; 4] = ["/tmp", "/run", "/mnt", "/var/tmp"];

/// Changes made here stay in this mount namespace; changes made outside still arrive.
pub(super) fn detach() -> Result<()> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        None::<&str>,
    )
    .context("cannot detach the mounts of the new namespace")
}

/// Puts a `resolv.conf` in place that names `resolvers`, and hides every service that would look up names outside.
pub(super) fn resolve_by(resolvers: &[IpAddr]) -> Result<()> {
    let scratch = SCRATCH
        .map(Path::new)
        .into_iter()
        .find(|path| path.is_dir())
        .context("there is no directory to mount on")?;
    tmpfs(scratch)?;
    let prepared = prepare(scratch, resolvers);
    // The file stays: it is mounted elsewhere by now.
    umount2(scratch, MntFlags::MNT_DETACH).context("cannot clear up the scratch mount")?;
    prepared
}

fn prepare(scratch: &Path, resolvers: &[IpAddr]) -> Result<()> {
    let own: String = resolvers
        .iter()
        .map(|address| format!("nameserver {address}\n"))
        .collect();
    let (ours, nothing) = (scratch.join("resolv.conf"), scratch.join("nothing"));
    fs::write(&ours, &own)?;
    fs::write(&nothing, "")?;
    // Often a link into a directory that is about to be hidden. Without the file nothing can be mounted in its place;
    // then the C library asks 127.0.0.1, where nobody is.
    let resolv_conf = fs::canonicalize(RESOLV_CONF).ok();
    for service in SERVICES.map(Path::new) {
        hide(service, &nothing)?;
    }
    let Some(resolv_conf) = resolv_conf else {
        return Ok(());
    };
    if resolv_conf.exists() {
        return bind(&ours, &resolv_conf);
    }
    if let Some(directory) = resolv_conf.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(&resolv_conf, own).with_context(|| format!("cannot write {}", resolv_conf.display()))
}

/// Hides a directory behind an empty one, anything else behind an empty file.
fn hide(path: &Path, nothing: &Path) -> Result<()> {
    match path.metadata() {
        Ok(found) if found.is_dir() => tmpfs(path),
        Ok(_) => bind(nothing, path),
        // Not there, or not for us to see: then it cannot be used either.
        Err(_) => Ok(()),
    }
}

fn tmpfs(on: &Path) -> Result<()> {
    mount(
        Some("cordon"),
        on,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("size=256k,mode=755"),
    )
    .with_context(|| format!("cannot mount an empty file system on {}", on.display()))
}

fn bind(file: &Path, on: &Path) -> Result<()> {
    mount(Some(file), on, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("cannot put another file in the place of {}", on.display()))
}
