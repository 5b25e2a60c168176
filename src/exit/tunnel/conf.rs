//! A WireGuard tunnel as `wg-quick(8)` describes it. What is for the machine rather than the tunnel (its routes, its
//! resolvers, commands) is read over: nothing of the machine is changed, and nothing of it is run.

use crate::policy::Server;
use anyhow::{Context, Result, anyhow, bail, ensure};
use data_encoding::BASE64;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use zeroize::Zeroizing;

/// What `wg-quick` gives an interface on a link of 1500 bytes.
const MTU: u16 = 1420;
/// Every link carries so much (RFC 8200, section 5; RFC 791, section 3.1).
const LEAST: [u16; 2] = [576, 1280];

/// A tunnel to one server.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Conf {
    pub(super) private_key: Zeroizing<[u8; 32]>,
    /// Our addresses inside, at most one of each family.
    pub(super) addresses: Vec<IpAddr>,
    /// Bytes of the longest packet inside.
    pub(super) mtu: u16,
    pub(super) listen_port: u16,
    pub(super) public_key: [u8; 32],
    pub(super) preshared_key: Option<Zeroizing<[u8; 32]>>,
    pub(crate) endpoint: Server,
    pub(super) allowed: Vec<IpNet>,
    /// Seconds.
    pub(super) keepalive: Option<u16>,
}

/// The settings while they are read.
#[derive(Default)]
struct Draft {
    private_key: Option<Zeroizing<[u8; 32]>>,
    addresses: Vec<IpAddr>,
    mtu: Option<u16>,
    listen_port: u16,
    public_key: Option<[u8; 32]>,
    preshared_key: Option<Zeroizing<[u8; 32]>>,
    endpoint: Option<Server>,
    allowed: Vec<IpNet>,
    keepalive: Option<u16>,
    peers: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    None,
    Interface,
    Peer,
}

impl Conf {
    /// Reads the text of a `.conf`.
    ///
    /// # Errors
    /// The line, and what is wrong with it; never a value, which may be a secret.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut draft = Draft::default();
        let mut section = Section::None;
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            if line.eq_ignore_ascii_case("[interface]") {
                section = Section::Interface;
            } else if line.eq_ignore_ascii_case("[peer]") {
                section = Section::Peer;
                draft.peers += 1;
            } else {
                let taken = draft.take(section, line);
                taken.with_context(|| format!("line {}", number + 1))?;
            }
        }
        draft.finish()
    }

    /// Whether the tunnel carries packets to this address.
    pub(super) fn reaches(&self, to: IpAddr) -> bool {
        self.address(to).is_some() && self.allowed.iter().any(|net| net.contains(&to))
    }

    /// Bytes of data in a segment of either family, behind the headers of IP and TCP.
    pub(super) fn mss(&self, v4: bool) -> usize {
        usize::from(self.mtu).saturating_sub(if v4 { 40 } else { 60 })
    }

    /// Our address of the family of `to`.
    pub(super) fn address(&self, to: IpAddr) -> Option<IpAddr> {
        let mut ours = self.addresses.iter();
        ours.find(|ours| ours.is_ipv4() == to.is_ipv4()).copied()
    }

    /// Whether it carries anything of a family at all.
    pub(crate) fn carries(&self, v4: bool) -> bool {
        self.addresses.iter().any(|ours| ours.is_ipv4() == v4)
            && self.allowed.iter().any(|net| net.addr().is_ipv4() == v4)
    }
}

impl Draft {
    fn take(&mut self, section: Section, line: &str) -> Result<()> {
        let (key, value) = line.split_once('=').context("it is not KEY = VALUE")?;
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        match (section, &*key) {
            (Section::Interface, "privatekey") => self.private_key = Some(secret(value)?),
            (Section::Interface, "address") => {
                for text in value.split(',') {
                    self.add_address(text.trim())?;
                }
            }
            (Section::Interface, "mtu") => {
                self.mtu = Some(value.parse().context("MTU is no number of bytes")?);
            }
            (Section::Interface, "listenport") => {
                self.listen_port = value.parse().context("ListenPort is no port")?;
            }
            (
                Section::Interface,
                "dns" | "table" | "fwmark" | "saveconfig" | "preup" | "postup" | "predown"
                | "postdown",
            ) => {}
            (Section::Peer, "publickey") => self.public_key = Some(*secret(value)?),
            (Section::Peer, "presharedkey") => self.preshared_key = Some(secret(value)?),
            (Section::Peer, "allowedips") => {
                for text in value
                    .split(',')
                    .map(str::trim)
                    .filter(|text| !text.is_empty())
                {
                    let net = net(text).context("AllowedIPs has what is no network")?;
                    self.allowed.push(net.trunc());
                }
            }
            (Section::Peer, "endpoint") => {
                let server = Server::parse(value);
                self.endpoint = Some(server.map_err(|_| anyhow!("Endpoint is not HOST:PORT"))?);
            }
            (Section::Peer, "persistentkeepalive") => {
                self.keepalive = match value {
                    "off" | "0" => None,
                    seconds => Some(
                        seconds
                            .parse()
                            .context("PersistentKeepalive is no number")?,
                    ),
                };
            }
            _ => bail!("nothing is called so here"),
        }
        Ok(())
    }

    fn add_address(&mut self, text: &str) -> Result<()> {
        let address = net(text).context("Address is no address")?.addr();
        let known = self
            .addresses
            .iter()
            .any(|ours| ours.is_ipv4() == address.is_ipv4());
        ensure!(!known, "Address may have one of each family");
        self.addresses.push(address);
        Ok(())
    }

    fn finish(self) -> Result<Conf> {
        ensure!(
            self.peers == 1,
            "it has {} [Peer] sections, and an exit goes to one server: give each its own file and exit",
            self.peers
        );
        ensure!(!self.addresses.is_empty(), "Address is missing");
        ensure!(!self.allowed.is_empty(), "AllowedIPs is missing");
        let mtu = self.mtu.unwrap_or(MTU);
        let [v4, v6] = LEAST;
        let least = if self.addresses.iter().any(IpAddr::is_ipv6) {
            v6
        } else {
            v4
        };
        ensure!(mtu >= least, "MTU is less than {least}");
        Ok(Conf {
            private_key: self.private_key.context("PrivateKey is missing")?,
            addresses: self.addresses,
            mtu,
            listen_port: self.listen_port,
            public_key: self.public_key.context("PublicKey is missing")?,
            preshared_key: self.preshared_key,
            endpoint: self.endpoint.context("Endpoint is missing")?,
            allowed: self.allowed,
            keepalive: self.keepalive,
        })
    }
}

impl fmt::Debug for Conf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conf")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// A network, or an address alone.
fn net(text: &str) -> Result<IpNet> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => Ok(text.parse()?),
    }
}

/// A key: 32 bytes in base64.
fn secret(text: &str) -> Result<Zeroizing<[u8; 32]>> {
    let bytes = BASE64.decode(text.as_bytes()).map(Zeroizing::new);
    let bytes = bytes.map_err(|_| anyhow!("the key is no base64"))?;
    let key = bytes.first_chunk().filter(|_| bytes.len() == 32);
    key.map(|key| Zeroizing::new(*key))
        .context("the key is not 32 bytes long")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
    const PEER: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

    fn conf(more: &str) -> String {
        format!(
            "[Interface]\nPrivateKey = {KEY} # mine\naddress = 10.9.0.2/32, fd09::2/128\nDNS = 10.9.0.1\n\
             PostUp = rm -rf /\n\n[Peer]\nPublicKey={PEER}\nAllowedIPs = 0.0.0.0/0,::/0\n{more}"
        )
    }

    #[test]
    fn a_file_of_wg_quick_is_read_and_its_commands_are_not_run() {
        let text = conf("Endpoint = vpn.example:51820\nPersistentKeepalive = 25\n");
        let conf = Conf::parse(&text).unwrap();
        assert_eq!((conf.mtu, conf.keepalive), (1420, Some(25)));
        assert_eq!(conf.endpoint.to_string(), "vpn.example:51820");
        assert!(conf.carries(true) && conf.carries(false));
        assert!(conf.reaches("198.51.100.1".parse().unwrap()));
        assert!(!format!("{conf:?}").contains("yAnz"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_without_its_value() {
        for (text, what) in [
            (conf(""), "Endpoint is missing"),
            (
                conf("Endpoint = nowhere\n"),
                "line 10: Endpoint is not HOST:PORT",
            ),
            (conf("[Peer]\n"), "2 [Peer] sections"),
            (conf("Endpiont = a:1\n"), "line 10: nothing is called so"),
            (
                conf("Endpoint = a:1\n").replace(KEY, "c2VjcmV0"),
                "line 2: the key is not 32",
            ),
            (
                conf("Endpoint = a:1\n").replace(KEY, "secret!"),
                "line 2: the key is no base64",
            ),
            (
                conf("Endpoint = a:1\n").replace("fd09::2/128", "10.1.1.1"),
                "one of each family",
            ),
            (String::new(), "0 [Peer] sections"),
        ] {
            let error = format!("{:#}", Conf::parse(&text).unwrap_err());
            assert!(error.contains(what), "{error}");
            assert!(
                !error.contains("secret") && !error.contains("c2Vj"),
                "{error}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_text_brings_it_down(text in "(\\[?(Peer|Interface|Address|MTU|x)\\]? ?=? ?[0-9a-f:./,]*\n){0,12}") {
            let _ = Conf::parse(&text);
        }
    }
}
