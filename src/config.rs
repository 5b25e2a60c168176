//! This machine: links, bounds, data, declared secrets. The policy says what may leave; nothing of it is here.
#![expect(clippy::disallowed_methods, reason = "a configuration is a file")]

use crate::document::Text;
use crate::exit::Profile;
use crate::gateway::Limits;
use crate::{flow, packet};
use anyhow::{Context, Result, anyhow, bail};
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{self, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// Where the configuration lies unless told otherwise.
pub const DEFAULT_PATH: &str = "/etc/cordon/cordon.toml";

/// The configuration of one machine, as its file says it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The policy's file.
    pub policy: Option<PathBuf>,
    /// Which traffic is taken.
    #[serde(default)]
    pub link: Link,
    /// Where events go.
    #[serde(default)]
    pub events: Events,
    /// How questions to resolvers are answered.
    #[serde(default)]
    pub dns: Dns,
    /// Where the running daemon can be asked.
    #[serde(default)]
    pub control: Control,
    /// Bounds.
    #[serde(default)]
    pub limits: Bounds,
    /// Jurisdiction data beside what the program carries.
    #[serde(default)]
    pub db: crate::db::Settings,
    /// What this machine knows of the policy's exits.
    #[serde(default)]
    pub exits: crate::exit::Profiles,
    /// Values that must not leave in the clear, by the names under which findings show them.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
}

/// Which traffic is taken.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Whose traffic.
    pub mode: Mode,
    /// Gateway: the interfaces to the inside.
    pub inside: Vec<String>,
    /// Destinations that stay out of the gate beside those on the inside itself: other networks of the site.
    pub local: Vec<IpNet>,
    /// Name of the TUN device.
    pub tun: String,
    /// Its MTU in bytes.
    pub mtu: u16,
    /// The cheapest way that flows may go on a gateway.
    pub path: Path,
    /// Threads, each with a queue of the device; as many as cores, up to four, if it is left out.
    pub shards: Option<usize>,
}

/// The ways of an allowed flow through a gateway, cheapest first. Flows that must be rerouted, held or rewritten end
/// here whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// The kernel forwards what is decided and needs no inspection.
    #[default]
    Kernel,
    /// Every packet passes through here.
    Pass,
    /// Every connection ends here and another one goes on.
    Terminate,
}

/// Whose traffic is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Of the devices behind this machine.
    #[default]
    Gateway,
    /// Of this machine.
    Host,
}

/// How questions to resolvers are answered: those of port 53, whatever their address.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// They are answered here. Otherwise they are flows like all others.
    pub answer: bool,
    /// Who is asked, the first that answers: `system`, `ADDRESS[:PORT]`, `tls://ADDRESS[:PORT]#NAME`,
    /// `https://ADDRESS[:PORT]/PATH#NAME` or `quic://ADDRESS[:PORT]#NAME`. Names are only checked, never looked up.
    pub upstreams: Vec<String>,
    /// Names that may lead to private addresses, with all below them.
    pub private: Vec<String>,
    /// Certificates of the authorities that may vouch for upstreams, in place of the public ones.
    pub ca: Option<PathBuf>,
    /// Others to ask, for some names or clients; the first that fits.
    pub route: Vec<DnsRoute>,
}

/// Who is asked for some names, or by some clients.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsRoute {
    /// For these names and all below them.
    pub domain: Vec<String>,
    /// By these clients.
    pub from: Vec<IpNet>,
    /// As under `[dns]`.
    pub upstreams: Vec<String>,
}

/// Where events go.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// A file of JSON Lines, appended to.
    pub file: Option<PathBuf>,
}

/// Where the running daemon can be asked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// Its socket; left out, it is [where it is usually](crate::control::default_path).
    pub socket: Option<PathBuf>,
}

/// Bounds of the gate.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Bounds {
    /// Flows in all.
    pub flows: usize,
    /// Flows of one source.
    pub flows_per_source: usize,
    /// Connections whose way out is not yet connected.
    pub half_open: usize,
    /// MiB of memory for the buffers of terminated connections; a quarter of the machine's if left out.
    pub memory: Option<usize>,
}

impl Config {
    /// Reads the configuration from a file.
    ///
    /// # Errors
    /// If it cannot be read, is not TOML, or has unknown keys: file, line, column and what is wrong. Secrets in a file
    /// that others may read are refused.
    pub fn read(path: &path::Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the configuration {}", path.display()))?;
        let text = Zeroizing::new(text);
        let file = path.display().to_string();
        let config = Self::parse(&file, &text).map_err(|error| anyhow!(error))?;
        if !config.secrets.is_empty() || config.exits.values().any(Profile::is_secret) {
            let mode = std::fs::metadata(path)?.mode();
            if mode & 0o077 != 0 {
                bail!(
                    "{} holds secrets but others may read it: chmod 600 {0}",
                    path.display()
                );
            }
        }
        Ok(config)
    }

    fn parse(file: &str, text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let place = Text::new(file, text).place(start);
            format!("{place}: {}", error.message())
        })
    }
}

impl Default for Link {
    fn default() -> Self {
        Self {
            mode: Mode::Gateway,
            inside: Vec::new(),
            local: Vec::new(),
            tun: "cordon0".into(),
            mtu: 1500,
            path: Path::Kernel,
            shards: None,
        }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            answer: true,
            upstreams: vec!["system".into()],
            private: Vec::new(),
            ca: None,
            route: Vec::new(),
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            flows: 65_536,
            flows_per_source: 16_384,
            half_open: 8192,
            memory: None,
        }
    }
}

impl Bounds {
    /// The bounds of one gateway, as far as this process's descriptors reach: each flow needs one.
    pub fn limits(&self, descriptors: usize) -> Limits {
        let flows = self.flows.min(descriptors.saturating_sub(64)).max(16);
        Limits {
            flows: flow::Limits {
                flows,
                per_source: self.flows_per_source.min(flows),
            },
            half_open: self.half_open,
            fragments: packet::fragment::Limits {
                datagrams: 64,
                per_source: 8,
                bytes: 1 << 20,
                timeout: Duration::from_secs(5),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_an_error_with_its_place() {
        let error = Config::parse("c.toml", "policy = \"p.toml\"\n[link]\n  moed = \"host\"\n")
            .unwrap_err();
        assert!(
            error.starts_with("c.toml:3:3: ") && error.contains("moed"),
            "{error}"
        );
    }

    #[test]
    fn what_is_left_out_has_a_default_and_descriptors_bound_the_flows() {
        let config = Config::parse("c.toml", "[link]\nmode = \"host\"\n").unwrap();
        assert_eq!(config.link.mode, Mode::Host);
        assert_eq!(config.link.tun, "cordon0");
        assert_eq!(config.limits.limits(1024).flows.flows, 960);
    }

    #[test]
    fn secrets_in_a_file_for_all_to_read_are_refused() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cordon.toml");
        std::fs::write(&path, "[secrets]\nphone = \"+4915112345678\"\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = Config::read(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Config::read(&path).unwrap().secrets.len(), 1);
    }
}
