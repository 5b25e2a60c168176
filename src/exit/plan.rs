//! The exits of a policy together with what this machine knows of them: everything that can be wrong is found before
//! anything is sent.
#![expect(clippy::disallowed_methods, reason = "authorities are kept in files")]

use super::channel::Secured;
use super::direct::Direct;
use super::egress::Asked;
use super::profile::{Profile, Profiles, private};
use super::secret::Credentials;
use super::tunnel::Conf;
use crate::policy::{Egress, Exit, ExitKind, Policy, Server};
use anyhow::{Context, Result, anyhow, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// The exits of one policy, by their ids.
#[derive(Debug, Default)]
pub struct Exits {
    pub(super) exits: Vec<Planned>,
}

/// One exit, ready to be opened.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) name: Box<str>,
    pub(super) kind: PlannedKind,
    /// Who is asked by which address others see it.
    pub(super) egress: Option<Arc<Asked>>,
}

#[derive(Debug)]
pub(super) enum PlannedKind {
    /// Its members carry what is sent by it.
    Group,
    Direct(Direct),
    Proxy(PlannedProxy),
    Tunnel(PlannedTunnel),
}

#[derive(Clone, Debug)]
pub(super) struct PlannedTunnel {
    pub(super) conf: Arc<Conf>,
    pub(super) direct: Direct,
}

#[derive(Clone, Debug)]
pub(super) struct PlannedProxy {
    pub(super) server: Server,
    pub(super) protocol: Protocol,
    pub(super) credentials: Option<Arc<Credentials>>,
    pub(super) direct: Direct,
}

/// How a proxy is spoken to.
#[derive(Clone, Debug)]
pub(super) enum Protocol {
    Socks5,
    HttpConnect(Option<Secured>),
}

impl Exits {
    /// Brings a policy's exits together with this machine's profiles of them. `mark` is the firewall mark of our own
    /// sockets.
    ///
    /// # Errors
    /// If a profile is missing or cannot be used: which, and why.
    pub fn new(policy: &Policy, profiles: &Profiles, mark: Option<u32>) -> Result<Self> {
        let exits = policy.exits().iter().map(|exit| {
            let unusable = || format!("exit `{}` cannot be used", exit.name);
            let kind = planned(exit, profiles, mark).with_context(unusable)?;
            let ask = |egress| asked(egress, exit, profiles).with_context(unusable);
            Ok(Planned {
                name: exit.name.clone(),
                kind,
                egress: exit.egress.as_ref().map(ask).transpose()?,
            })
        });
        Ok(Self {
            exits: exits.collect::<Result<_>>()?,
        })
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.exits.is_empty()
    }
}

/// Who is asked for an exit's egress. The authorities of its profile are those of who is asked, too.
fn asked(egress: &Egress, exit: &Exit, profiles: &Profiles) -> Result<Arc<Asked>> {
    let profile = match &exit.kind {
        ExitKind::Wireguard { profile } => &**profile,
        ExitKind::Socks5 { credentials, .. } | ExitKind::HttpConnect { credentials, .. } => {
            credentials.as_deref().unwrap_or(&exit.name)
        }
        ExitKind::Direct | ExitKind::Failover(_) | ExitKind::Fastest(_) => &exit.name,
    };
    let authorities = profiles
        .get(profile)
        .and_then(|profile| profile.ca_file.as_deref());
    let secured = egress.tls.then(|| secured(&egress.server, authorities));
    Ok(Arc::new(Asked {
        egress: egress.clone(),
        secured: secured.transpose()?,
    }))
}

fn planned(exit: &Exit, profiles: &Profiles, mark: Option<u32>) -> Result<PlannedKind> {
    let profile = |name: &Option<Box<str>>| match name {
        Some(name) => named(profiles, name).cloned(),
        None => Ok(profiles.get(&*exit.name).cloned().unwrap_or_default()),
    };
    match &exit.kind {
        ExitKind::Failover(_) | ExitKind::Fastest(_) => Ok(PlannedKind::Group),
        ExitKind::Direct => Ok(PlannedKind::Direct(direct(&profile(&None)?, mark)?)),
        ExitKind::Socks5 {
            server,
            credentials,
            ..
        } => {
            let profile = profile(credentials)?;
            proxy(server, Protocol::Socks5, &profile, credentials, mark)
        }
        ExitKind::HttpConnect {
            server,
            tls,
            credentials,
        } => {
            let profile = profile(credentials)?;
            let secured = tls.then(|| secured(server, profile.ca_file.as_deref()));
            let protocol = Protocol::HttpConnect(secured.transpose()?);
            proxy(server, protocol, &profile, credentials, mark)
        }
        ExitKind::Wireguard { profile } => {
            tunnel(named(profiles, profile)?, mark).with_context(|| format!("[exits.{profile}]"))
        }
    }
}

fn named<'p>(profiles: &'p Profiles, name: &str) -> Result<&'p Profile> {
    let profile = profiles.get(name);
    profile.ok_or_else(|| anyhow!("the configuration has no [exits.{name}]"))
}

fn proxy(
    server: &Server,
    protocol: Protocol,
    profile: &Profile,
    named: &Option<Box<str>>,
    mark: Option<u32>,
) -> Result<PlannedKind> {
    let credentials = profile.credentials()?;
    if let (Some(name), None) = (named, &credentials) {
        bail!("[exits.{name}] of the configuration has no user and password");
    }
    Ok(PlannedKind::Proxy(PlannedProxy {
        server: server.clone(),
        protocol,
        credentials: credentials.map(Arc::new),
        direct: direct(profile, mark)?,
    }))
}

fn tunnel(profile: &Profile, mark: Option<u32>) -> Result<PlannedKind> {
    let path = profile.config.as_deref();
    let path = path.context("`config`, the path of a WireGuard configuration, is missing")?;
    let text = private(path)?;
    let conf = Conf::parse(&text).with_context(|| path.display().to_string())?;
    Ok(PlannedKind::Tunnel(PlannedTunnel {
        conf: Arc::new(conf),
        direct: direct(profile, mark)?,
    }))
}

/// How packets to an exit leave this machine.
fn direct(profile: &Profile, mark: Option<u32>) -> Result<Direct> {
    for v4 in [true, false] {
        let of_family = profile.addresses.iter().filter(|from| from.is_ipv4() == v4);
        if of_family.count() > 1 {
            bail!("`addresses` may have one of each family");
        }
    }
    Ok(Direct {
        mark: profile.mark.or(mark),
        merge: false,
        interface: profile.interface.clone(),
        addresses: profile.addresses.clone(),
    })
}

/// TLS to a proxy, or to who tells an egress: its certificate must be for the name or address in the policy.
fn secured(server: &Server, authorities: Option<&Path>) -> Result<Secured> {
    let mut roots = RootCertStore::empty();
    match authorities {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let shown = path.display();
            let pem = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.with_context(|| format!("{shown} is no PEM"))?;
                let added = roots.add(certificate);
                added.with_context(|| format!("{shown} has no usable certificate"))?;
            }
            if roots.is_empty() {
                bail!("{shown} has no certificate");
            }
        }
    }
    let name = match server {
        Server::Address(address) => ServerName::from(address.ip()),
        Server::Name(name, _) => ServerName::try_from(name.to_string())?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Secured {
        config: Arc::new(config),
        name,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

    use super::*;
    use crate::exit::Hidden;
    use crate::jurisdiction::{Data, Groups};
    use crate::policy::Surroundings;

    fn planned(exit: &str, profiles: &[(&str, Profile)]) -> Result<Exits> {
        let text = format!(
            "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n[exits]\nx = {exit}\n"
        );
        let (data, groups) = (Data::embedded().unwrap(), Groups::embedded().unwrap());
        let around = Surroundings {
            data: &data,
            groups: &groups,
        };
        let policy = Policy::load("t.toml", &text, &around).unwrap();
        let profiles = profiles
            .iter()
            .map(|(name, profile)| ((*name).to_owned(), profile.clone()))
            .collect();
        Exits::new(&policy, &profiles, None)
    }

    fn alice() -> Profile {
        Profile {
            user: Some(Hidden::new("alice".into())),
            password: Some(Hidden::new("open sesame".into())),
            ..Profile::default()
        }
    }

    #[test]
    fn credentials_that_the_policy_names_must_be_in_the_configuration() {
        let exit = "{ kind = \"socks5\", server = \"198.51.100.7:1080\", credentials = \"nl\" }";
        let error = format!("{:#}", planned(exit, &[]).unwrap_err());
        assert!(
            error.contains("exit `x`") && error.contains("[exits.nl]"),
            "{error}"
        );
        let without = planned(exit, &[("nl", Profile::default())]).unwrap_err();
        assert!(format!("{without:#}").contains("no user and password"));
        let plan = planned(exit, &[("nl", alice())]).unwrap();
        assert!(!format!("{plan:?}").contains("sesame"));
    }

    #[test]
    fn tls_wants_authorities_that_can_be_read() {
        let exit = "{ kind = \"http-connect\", server = \"proxy.example:3128\", tls = true }";
        assert!(planned(exit, &[]).is_ok());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let profile = Profile {
            ca_file: Some(path.clone()),
            ..Profile::default()
        };
        assert!(planned(exit, &[("x", profile.clone())]).is_err());
        std::fs::write(&path, "no certificate").unwrap();
        let error = planned(exit, &[("x", profile)]).unwrap_err();
        assert!(format!("{error:#}").contains("no certificate"), "{error:#}");
    }

    #[test]
    fn a_direct_exit_is_bound_as_its_profile_says() {
        let profile = Profile {
            interface: Some("wwan0".into()),
            addresses: vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()],
            ..Profile::default()
        };
        let exit = "{ kind = \"direct\" }";
        assert!(planned(exit, &[("x", profile.clone())]).is_err());
        let profile = Profile {
            addresses: Vec::new(),
            ..profile
        };
        let plan = planned(exit, &[("x", profile)]).unwrap();
        let PlannedKind::Direct(direct) = &plan.exits[0].kind else {
            panic!("{plan:?}");
        };
        assert_eq!(direct.interface.as_deref(), Some("wwan0"));
    }
}
