//! What this machine knows of exits beside the policy: secrets, files, interfaces.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "secrets are kept in files"
)]

use super::secret::{Credentials, Hidden};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// No file with secrets is longer, in bytes.
const LONGEST: u64 = 64 << 10;

/// All that this machine knows of exits, by the names that the policy uses: those of `credentials` and `profile`, else
/// the exit's own.
pub type Profiles = BTreeMap<String, Profile>;

/// One entry of `[exits]` in the configuration.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Profile {
    /// A proxy's user.
    pub user: Option<Hidden>,
    /// The password.
    pub password: Option<Hidden>,
    /// A file whose first line is the password.
    pub password_file: Option<PathBuf>,
    /// The only certificate authorities that may vouch for a proxy, as PEM; otherwise the public ones.
    pub ca_file: Option<PathBuf>,
    /// A WireGuard tunnel, in the format of `wg-quick(8)`.
    pub config: Option<PathBuf>,
    /// The interface by which packets to the exit leave.
    pub interface: Option<Box<str>>,
    /// The addresses that they leave from, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// Their firewall mark.
    pub mark: Option<u32>,
}

impl Profile {
    /// The file in which it stands must be for its owner only.
    pub fn is_secret(&self) -> bool {
        self.password.is_some()
    }

    /// User and password; `None` where there are none.
    ///
    /// # Errors
    /// If one is without the other, or the password's file cannot be used.
    pub(super) fn credentials(&self) -> Result<Option<Credentials>> {
        let password = match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => bail!("both `password` and `password-file` are given"),
            (Some(password), None) => Some(password.clone()),
            (None, Some(path)) => Some(first_line(path)?),
            (None, None) => None,
        };
        match (&self.user, password) {
            (None, None) => Ok(None),
            (Some(user), Some(password)) => Ok(Some(Credentials {
                user: user.clone(),
                password,
            })),
            (Some(_), None) => bail!("`user` is given without `password` or `password-file`"),
            (None, Some(_)) => bail!("a password is given without `user`"),
        }
    }
}

fn first_line(path: &Path) -> Result<Hidden> {
    let text = private(path)?;
    let line = text.lines().next().unwrap_or_default();
    ensure!(!line.is_empty(), "{} is empty", path.display());
    Ok(Hidden::new(line.to_owned()))
}

/// Reads a file that holds secrets.
///
/// # Errors
/// If others than its owner can read or write it, somebody else owns it, or it is too long or no text.
pub(super) fn private(path: &Path) -> Result<Zeroizing<String>> {
    let shown = path.display();
    let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
    let about = file.metadata()?;
    ensure!(about.is_file(), "{shown} is no file");
    let owner = about.uid();
    ensure!(
        owner == 0 || owner == nix::unistd::geteuid().as_raw(),
        "{shown} holds secrets but belongs to another user"
    );
    ensure!(
        about.mode() & 0o077 == 0,
        "{shown} holds secrets but others may read or change it: chmod 600 {shown}"
    );
    ensure!(about.len() <= LONGEST, "{shown} is too long");
    // Room from the start: a text that grows leaves copies behind.
    let room = usize::try_from(LONGEST)? + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    file.take(LONGEST)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read {shown}"))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (directory, path)
    }

    #[test]
    fn a_password_may_stand_in_a_file_of_its_own_that_nobody_else_reads() {
        for (mode, taken) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false)] {
            let (_directory, path) = file("open sesame\nsecond line\n", mode);
            let profile = Profile {
                user: Some(Hidden::new("alice".into())),
                password_file: Some(path),
                ..Profile::default()
            };
            let credentials = profile.credentials();
            assert_eq!(credentials.is_ok(), taken, "{mode:o}");
            if let Ok(Some(credentials)) = credentials {
                assert_eq!(credentials.password.reveal(), "open sesame");
            }
        }
    }

    #[test]
    fn half_of_the_credentials_is_an_error_that_says_which() {
        let user = Profile {
            user: Some(Hidden::new("alice".into())),
            ..Profile::default()
        };
        let error = user.credentials().unwrap_err().to_string();
        assert!(error.contains("without `password`"), "{error}");
        let (_directory, path) = file("", 0o600);
        let empty = Profile {
            password_file: Some(path),
            ..user
        };
        assert!(empty.credentials().is_err());
        assert_eq!(Profile::default().credentials().unwrap(), None);
    }

    #[test]
    fn a_long_file_and_what_is_no_file_are_refused() {
        let (directory, path) = file(&"x".repeat(65_537), 0o600);
        assert!(private(&path).unwrap_err().to_string().contains("too long"));
        assert!(private(directory.path()).is_err());
    }
}
