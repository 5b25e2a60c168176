//! Fetched sources on disk, in the compact form: `NAME.cdb`, and `NAME.previous.cdb` to go back to.

use crate::jurisdiction::Source;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The file of a source that counts, and the one before it.
fn places(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    (
        directory.join(format!("{name}.cdb")),
        directory.join(format!("{name}.previous.cdb")),
    )
}

/// The source that counts; `None` if none was ever put there.
pub(super) fn read(directory: &Path, name: &str) -> Result<Option<Source>> {
    let (current, previous) = places(directory, name);
    let bytes = match fs::read(&current) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", current.display()));
        }
    };
    let way_out = match previous.exists() {
        true => format!("`cordon db rollback {name}` goes back to the file before"),
        false => format!("`cordon db update {name}` fetches it again"),
    };
    let source = Source::read_compact(&bytes)
        .with_context(|| format!("{} cannot be used; {way_out}", current.display()))?;
    Ok(Some(source))
}

/// Makes a source count, and keeps the one before. At every moment a whole file stands under the name that counts.
pub(super) fn put(directory: &Path, name: &str, compact: &[u8]) -> Result<()> {
    let (current, previous) = places(directory, name);
    let new = directory.join(format!(".{name}.new"));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(compact)?;
        file.sync_all()?;
        keep(&current, &previous)?;
        fs::rename(&new, &current)?;
        File::open(directory)?.sync_all()
    };
    let written = write();
    if written.is_err() {
        // What is left of a failed attempt is of no use; that it is gone is of no consequence.
        drop(fs::remove_file(&new));
    }
    written.with_context(|| format!("cannot write {}", current.display()))
}

/// Exchanges the file of a source with the one before it.
///
/// # Errors
/// If there is none before it, or it cannot be used.
pub fn rollback(directory: &Path, name: &str) -> Result<Source> {
    let (current, previous) = places(directory, name);
    let bytes = match fs::read(&previous) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!(
                "there is nothing to go back to: {} does not exist",
                previous.display()
            )
        }
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", previous.display()));
        }
    };
    let source = Source::read_compact(&bytes)
        .with_context(|| format!("{} cannot be used", previous.display()))?;
    let aside = directory.join(format!(".{name}.aside"));
    let exchange = || -> std::io::Result<()> {
        keep(&current, &aside)?;
        fs::rename(&previous, &current)?;
        match fs::rename(&aside, &previous) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => File::open(directory)?.sync_all(),
        }
    };
    exchange().with_context(|| format!("cannot write {}", current.display()))?;
    Ok(source)
}

/// Holds exclusive access to the directory, which is made if it is not there, until dropped.
pub(super) fn lock(directory: &Path) -> Result<File> {
    let open = || -> std::io::Result<File> {
        fs::create_dir_all(directory)?;
        let lock = File::create(directory.join(".lock"))?;
        lock.lock()?;
        Ok(lock)
    };
    open().with_context(|| format!("cannot write to {}", directory.display()))
}

/// Gives a file a second name, under which nothing else is kept then. No file, no second name.
fn keep(file: &Path, under: &Path) -> std::io::Result<()> {
    for result in [fs::remove_file(under), fs::hard_link(file, under)] {
        match result {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
