//! Other ways out, as a policy declares them. How to open them is the shell's business; the secrets are in the machine's
//! configuration, under the names given here.

use super::domains;
use super::egress::Egress;
use super::values::quoted;
use super::verdict::ExitId;
use crate::document::{Fields, Node, Place, Reader, Shown, accept, suggestion};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// One entry of `[exits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// What the policy calls it.
    pub name: Box<str>,
    /// What it is.
    pub kind: ExitKind,
    /// Who is asked by which address others see what leaves by it; nothing leaves by it before that is known and allowed.
    pub egress: Option<Egress>,
    pub(super) place: Place,
}

/// What an exit is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// From this machine itself; for the last member of a group.
    Direct,
    /// A SOCKS5 proxy (RFC 1928).
    Socks5 {
        /// Where it listens.
        server: Server,
        /// It takes UDP (`UDP ASSOCIATE`).
        udp: bool,
        /// Under which name the configuration holds user and password.
        credentials: Option<Box<str>>,
    },
    /// An HTTP proxy that takes `CONNECT` (RFC 9110, section 9.3.6).
    HttpConnect {
        /// Where it listens.
        server: Server,
        /// It is spoken to inside TLS.
        tls: bool,
        /// Under which name the configuration holds user and password.
        credentials: Option<Box<str>>,
    },
    /// A WireGuard tunnel.
    Wireguard {
        /// Under which name the configuration holds its keys and endpoint.
        profile: Box<str>,
    },
    /// The first of these that is up.
    Failover(Vec<ExitId>),
    /// The one of these that answers fastest.
    Fastest(Vec<ExitId>),
}

/// Where a proxy listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// At this address and port.
    Address(SocketAddr),
    /// At this name (lower case, A-labels) and port.
    Name(Box<str>, u16),
}

impl ExitKind {
    /// As it is called in a policy.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Socks5 { .. } => "socks5",
            Self::HttpConnect { .. } => "http-connect",
            Self::Wireguard { .. } => "wireguard",
            Self::Failover(_) => "failover",
            Self::Fastest(_) => "fastest",
        }
    }

    /// Those that carry what is sent by it, if it is a group.
    pub fn members(&self) -> &[ExitId] {
        match self {
            Self::Failover(members) | Self::Fastest(members) => members,
            Self::Direct
            | Self::Socks5 { .. }
            | Self::HttpConnect { .. }
            | Self::Wireguard { .. } => &[],
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => write!(f, "{address}"),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

impl Server {
    /// Reads `HOST:PORT`.
    ///
    /// # Errors
    /// Says that it is none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        text.rsplit_once(':')
            .filter(|(host, _)| host.parse::<IpAddr>().is_err())
            .and_then(|(host, port)| {
                let name = domains::canonical(host)?.into_boxed_str();
                Some(Self::Name(name, port.parse().ok()?))
            })
            .ok_or_else(|| format!("`{}` is not HOST:PORT", Shown(text)))
    }
}

impl Exit {
    /// As it is written in `[exits]`.
    pub(super) fn written(&self, name: impl Fn(ExitId) -> String) -> String {
        let credentials = |credentials: &Option<Box<str>>| {
            credentials
                .as_ref()
                .map(|name| format!(", credentials = {}", quoted(name)))
                .unwrap_or_default()
        };
        let members = |ids: &[ExitId]| {
            let names: Vec<String> = ids.iter().map(|id| quoted(&name(*id))).collect();
            names.join(", ")
        };
        let egress = match &self.egress {
            Some(egress) => format!(", egress = {}", quoted(&egress.to_string())),
            None => String::new(),
        };
        let written = match &self.kind {
            ExitKind::Direct => "kind = \"direct\"".into(),
            ExitKind::Socks5 {
                server,
                udp,
                credentials: with,
            } => format!(
                "kind = \"socks5\", server = {}, udp = {udp}{}",
                quoted(&server.to_string()),
                credentials(with)
            ),
            ExitKind::HttpConnect {
                server,
                tls,
                credentials: with,
            } => format!(
                "kind = \"http-connect\", server = {}, tls = {tls}{}",
                quoted(&server.to_string()),
                credentials(with)
            ),
            ExitKind::Wireguard { profile } => {
                format!("kind = \"wireguard\", profile = {}", quoted(profile))
            }
            ExitKind::Failover(ids) => {
                format!("kind = \"failover\", members = [{}]", members(ids))
            }
            ExitKind::Fastest(ids) => {
                format!("kind = \"fastest\", members = [{}]", members(ids))
            }
        };
        format!("{{ {written}{egress} }}")
    }
}

/// What kinds there are, with the keys of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Direct,
    Socks5,
    HttpConnect,
    Wireguard,
    Failover,
    Fastest,
}

const KINDS: [(&str, Kind); 6] = [
    ("direct", Kind::Direct),
    ("socks5", Kind::Socks5),
    ("http-connect", Kind::HttpConnect),
    ("wireguard", Kind::Wireguard),
    ("failover", Kind::Failover),
    ("fastest", Kind::Fastest),
];

impl Kind {
    fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Direct => &["kind", "egress"],
            Self::Socks5 => &["kind", "server", "udp", "credentials", "egress"],
            Self::HttpConnect => &["kind", "server", "tls", "credentials", "egress"],
            Self::Wireguard => &["kind", "profile", "egress"],
            Self::Failover | Self::Fastest => &["kind", "members"],
        }
    }
}

/// Every key that some kind of exit has.
const KEYS: [&str; 8] = [
    "kind",
    "server",
    "udp",
    "tls",
    "credentials",
    "profile",
    "members",
    "egress",
];

/// Reads one entry. `known` are the exits before it and so the possible members of a group: a group of later exits, or
/// of itself, cannot be written.
pub(super) fn exit(
    name: &str,
    node: Node<'_>,
    known: &[Exit],
    reader: &mut Reader<'_>,
) -> Option<Exit> {
    let kind = node
        .fields(&KEYS, reader)?
        .require("kind", reader)?
        .word(&KINDS, reader)?;
    let fields = node.fields_of(kind.keys(), &KEYS, reader)?;
    let egress = egress(fields.get("egress"), kind, reader)?;
    let kind = match kind {
        Kind::Direct => ExitKind::Direct,
        Kind::Socks5 => ExitKind::Socks5 {
            server: server(&fields, reader)?,
            udp: flag(fields.get("udp"), reader)?,
            credentials: text(fields.get("credentials"), reader),
        },
        Kind::HttpConnect => ExitKind::HttpConnect {
            server: server(&fields, reader)?,
            tls: flag(fields.get("tls"), reader)?,
            credentials: text(fields.get("credentials"), reader),
        },
        Kind::Wireguard => ExitKind::Wireguard {
            profile: text(fields.require("profile", reader), reader)?,
        },
        Kind::Failover => ExitKind::Failover(members(&fields, known, reader)?),
        Kind::Fastest => ExitKind::Fastest(members(&fields, known, reader)?),
    };
    Some(Exit {
        name: name.into(),
        kind,
        egress,
        place: reader.place(node.start),
    })
}

/// The exit of a name.
pub(super) fn by_name(node: Node<'_>, known: &[Exit], reader: &mut Reader<'_>) -> Option<ExitId> {
    let text = node.string(reader)?;
    let index = known.iter().position(|exit| *exit.name == *text);
    let id = index
        .and_then(|index| u16::try_from(index).ok())
        .map(ExitId);
    if id.is_none() {
        let near = suggestion(text, known.iter().map(|exit| exit.name.as_ref()));
        reader.problem(
            node.start,
            format!("no exit is called `{}`{near}", Shown(text)),
        );
    }
    id
}

fn server(fields: &Fields<'_>, reader: &mut Reader<'_>) -> Option<Server> {
    let node = fields.require("server", reader)?;
    accept(Server::parse(node.string(reader)?), node, reader)
}

/// Where the egress is asked for, if anywhere: `None` if that cannot be.
fn egress(node: Option<Node<'_>>, kind: Kind, reader: &mut Reader<'_>) -> Option<Option<Egress>> {
    let Some(node) = node else {
        return Some(None);
    };
    let egress = accept(Egress::parse(node.string(reader)?), node, reader)?;
    let takes_names = matches!(kind, Kind::Socks5 | Kind::HttpConnect);
    if let (Server::Name(..), false) = (&egress.server, takes_names) {
        reader.problem(
            node.start,
            "such an exit looks no names up: `egress` needs an address",
        );
        return None;
    }
    Some(Some(egress))
}

/// `false` where nothing is said.
fn flag(node: Option<Node<'_>>, reader: &mut Reader<'_>) -> Option<bool> {
    node.map_or(Some(false), |node| node.boolean(reader))
}

fn text(node: Option<Node<'_>>, reader: &mut Reader<'_>) -> Option<Box<str>> {
    node?.string(reader).map(Into::into)
}

fn members(fields: &Fields<'_>, known: &[Exit], reader: &mut Reader<'_>) -> Option<Vec<ExitId>> {
    let node = fields.require("members", reader)?;
    let nodes = node.members();
    if nodes.is_empty() {
        reader.problem(node.start, "a group of exits needs members");
    }
    let ids: Vec<ExitId> = nodes
        .iter()
        .filter_map(|member| by_name(*member, known, reader))
        .collect();
    (!ids.is_empty() && ids.len() == nodes.len()).then_some(ids)
}
