//! Kernel settings below `/proc/sys/net`, of the network namespace of the calling thread.
use super::netlink::plain;
use anyhow::{Result, anyhow};
use std::{fs, io};

/// A setting by its path below `/proc/sys/net`, such as `ipv4/ip_forward`, and a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its path.
    pub path: String,
    /// The value it has or is to have.
    pub value: String,
}

impl Setting {
    /// A setting and its value.
    pub fn new(path: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            value: value.into(),
        }
    }

    /// Reads what [`Setting`]'s `Display` writes: `path=value`.
    pub fn parse(text: &str) -> Option<Self> {
        let (path, value) = text.split_once('=')?;
        Some(Self::new(path, value))
    }

    /// Gives it its value. Does nothing if it is not there, because its interface has gone or the kernel lacks it.
    ///
    /// # Errors
    /// If it does not take the value, or for want of rights.
    pub fn apply(&self) -> Result<()> {
        match fs::write(file(&self.path), &self.value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let sentence = format!(
                    "cannot set {} to {}: {}; it needs root (and /proc/sys writable, which it is not in some containers)",
                    self.path.replace('/', "."),
                    self.value,
                    plain(&error)
                );
                Err(anyhow!(error).context(sentence))
            }
            _ => Ok(()),
        }
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.path, self.value)
    }
}

/// The value a setting has now; `None` if it is not there.
pub fn value(path: &str) -> Option<String> {
    let text = fs::read_to_string(file(path)).ok()?;
    Some(text.trim_end().to_owned())
}

/// The names below a directory of settings, such as the interfaces below `ipv4/conf`, in order.
pub fn names(directory: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(file(directory)) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn file(path: &str) -> String {
    format!("/proc/sys/net/{path}")
}
