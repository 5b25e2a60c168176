//! One resolver: where it is, how it is asked, whether it answers.

use super::Provider;
use crate::exit::{Secured, Ways};
use crate::gateway;
use crate::packet::protocol;
use crate::policy::Permit;
use anyhow::{Result, anyhow, bail};
use hickory_proto::op::{
    DnsRequest, DnsRequestOptions, Message, MessageType, OpCode, Query, ResponseCode,
};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverOpts};
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError, NoRecords};
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};
use rustls::pki_types::{CertificateDer, ServerName};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A resolver that did not answer is asked last for so long.
const PENALTY: Duration = Duration::from_secs(30);
/// Queries that are encrypted have a multiple of so many bytes (RFC 8467, section 4.1).
const BLOCK: usize = 128;
/// The EDNS option of padding (RFC 7830).
const PADDING: u16 = 12;

/// Where and how a resolver is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    at: SocketAddr,
    how: How,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum How {
    /// By UDP, and by TCP what does not fit.
    Clear,
    Tls(Arc<str>),
    Https {
        name: Arc<str>,
        path: Arc<str>,
    },
    Quic(Arc<str>),
}

/// The resolvers that this machine asks (resolv.conf(5)).
pub fn system() -> Vec<SocketAddr> {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let addresses = text
        .lines()
        .filter_map(|line| line.strip_prefix("nameserver"))
        .map(str::trim);
    addresses
        .filter_map(|text| text.split('%').next()?.parse().ok())
        .map(|address| SocketAddr::new(address, 53))
        .collect()
}

impl Address {
    /// Reads `system`, `ADDRESS[:PORT]`, or `tls://`, `https://` or `quic://` `ADDRESS[:PORT][/PATH]#NAME`.
    pub(super) fn read(text: &str) -> Result<Vec<Self>> {
        if text == "system" {
            let of = |at| Self {
                at,
                how: How::Clear,
            };
            return Ok(system().into_iter().map(of).collect());
        }
        let wrong = || {
            anyhow!(
                "{text:?} is no resolver: write \"system\", an address, or \
                 \"tls://ADDRESS#NAME\", \"https://ADDRESS/PATH#NAME\" or \"quic://ADDRESS#NAME\""
            )
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            let at = address(text, 53).ok_or_else(wrong)?;
            return Ok(vec![Self {
                at,
                how: How::Clear,
            }]);
        };
        // The name that the certificate must have; the address is never looked up.
        let (place, name) = rest.split_once('#').ok_or_else(wrong)?;
        let name: Arc<str> = name.into();
        let (host, path) = match place.find('/') {
            Some(slash) => place.split_at(slash),
            None => (place, ""),
        };
        let path = if path.is_empty() { "/dns-query" } else { path };
        let (port, how) = match scheme {
            "tls" => (853, How::Tls(name)),
            "quic" => (853, How::Quic(name)),
            "https" => {
                let path = path.into();
                (443, How::Https { name, path })
            }
            _ => bail!(wrong()),
        };
        let at = address(host, port).ok_or_else(wrong)?;
        Ok(vec![Self { at, how }])
    }

    /// What the gateway knows of it.
    pub(super) fn upstream(&self) -> gateway::Upstream {
        let (protocol, name) = match &self.how {
            How::Clear => (protocol::UDP, None),
            How::Quic(name) => (protocol::UDP, Some(name)),
            How::Tls(name) | How::Https { name, .. } => (protocol::TCP, Some(name)),
        };
        gateway::Upstream {
            address: self.at,
            protocol,
            name: name.map(|name| (**name).into()),
        }
    }

    fn connections(&self) -> Vec<ConnectionConfig> {
        let protocols = match &self.how {
            How::Clear => vec![ProtocolConfig::Udp, ProtocolConfig::Tcp],
            How::Tls(name) => vec![ProtocolConfig::Tls {
                server_name: Arc::clone(name),
            }],
            How::Quic(name) => vec![ProtocolConfig::Quic {
                server_name: Arc::clone(name),
            }],
            How::Https { name, path } => vec![ProtocolConfig::Https {
                server_name: Arc::clone(name),
                path: Arc::clone(path),
            }],
        };
        protocols
            .into_iter()
            .map(|protocol| {
                let mut connection = ConnectionConfig::new(protocol);
                connection.port = self.at.port();
                connection
            })
            .collect()
    }
}

/// A resolver that can be asked.
pub(super) struct Upstream {
    address: Address,
    pool: NameServerPool<Provider>,
    /// Whom to believe inside TLS.
    tls: Arc<rustls::ClientConfig>,
    began: Instant,
    /// Milliseconds after the beginning when it last did not answer; 0 if it did since.
    failed: AtomicU64,
}

impl Upstream {
    pub(super) fn new(
        address: Address,
        provider: &Provider,
        roots: &[CertificateDer<'static>],
    ) -> Result<Self> {
        let mut options = ResolverOpts::default();
        options.timeout = super::ATTEMPT;
        options.attempts = 1;
        let mut tls = TlsConfig::new()?;
        if !roots.is_empty() {
            let mut store = rustls::RootCertStore::empty();
            for root in roots {
                store.add(root.clone())?;
            }
            tls.config = rustls::ClientConfig::builder_with_provider(Arc::new(
                rustls::crypto::ring::default_provider(),
            ))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(store)
            .with_no_client_auth();
        }
        let trusted = Arc::new(tls.config.clone());
        let context = Arc::new(PoolContext::new(options, tls));
        let server = NameServerConfig::new(address.at.ip(), true, address.connections());
        Ok(Self {
            pool: NameServerPool::from_config([server], context, provider.clone()),
            address,
            tls: trusted,
            began: Instant::now(),
            failed: AtomicU64::new(0),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address.at
    }

    /// It did not answer of late.
    pub(super) fn has_failed(&self) -> bool {
        let failed = self.failed.load(Ordering::Relaxed);
        failed > 0 && self.elapsed().saturating_sub(failed) < millis(PENALTY)
    }

    pub(super) fn failed(&self) {
        self.failed.store(self.elapsed().max(1), Ordering::Relaxed);
    }

    pub(super) fn answered(&self) {
        self.failed.store(0, Ordering::Relaxed);
    }

    /// Its answer by an exit: in the clear by TCP, or inside TLS. `None` also if it is asked otherwise.
    pub(super) async fn ask_by(
        &self,
        ways: &Ways,
        permit: &Permit,
        question: &Message,
    ) -> Option<Message> {
        let secured = match &self.address.how {
            How::Clear => None,
            How::Tls(name) => Some(Secured {
                config: Arc::clone(&self.tls),
                name: ServerName::try_from(name.to_string()).ok()?,
            }),
            How::Https { .. } | How::Quic(_) => return None,
        };
        let mut message = question.clone();
        message.metadata.id = Message::query().metadata.id;
        let asked = message.queries.first()?.clone();
        if secured.is_some() {
            pad(&mut message);
        }
        let answer = super::by_exit::ask(ways, permit, secured.as_ref(), &message).await?;
        let failed = !matches!(
            answer.metadata.response_code,
            ResponseCode::NoError | ResponseCode::NXDomain
        );
        (!failed).then(|| spelt_as(&asked, answer))
    }

    /// Its answer; `None` if it has none, or says that it failed.
    pub(super) async fn ask(&self, question: &Message) -> Option<Message> {
        let mut message = question.clone();
        message.metadata.id = Message::query().metadata.id;
        let mut options = DnsRequestOptions::default();
        let asked = message.queries.first()?.clone();
        if self.address.how == How::Clear {
            // Who forges an answer must guess it (draft-vixie-dnsext-dns0x20-00).
            options.case_randomization = true;
            for query in &mut message.queries {
                query.name.randomize_label_case();
            }
        } else {
            pad(&mut message);
        }
        let request = DnsRequest::new(message, options).with_original_query(Some(asked.clone()));
        match self.pool.send(request).first_answer().await {
            Ok(response) => Some(spelt_as(&asked, response.into_message())),
            Err(NetError::Dns(DnsError::NoRecordsFound(nothing))) => absent(nothing),
            Err(error) => {
                tracing::debug!(%error, "a resolver did not answer");
                None
            }
        }
    }

    fn elapsed(&self) -> u64 {
        millis(self.began.elapsed())
    }
}

/// The answer with the name as it was asked for, whatever case it was asked in.
fn spelt_as(asked: &Query, mut message: Message) -> Message {
    for record in &mut message.answers {
        if record.name == asked.name {
            record.name = asked.name.clone();
        }
    }
    message
}

/// The answer that there is nothing.
fn absent(nothing: NoRecords) -> Option<Message> {
    if !matches!(
        nothing.response_code,
        ResponseCode::NoError | ResponseCode::NXDomain
    ) {
        return None;
    }
    let mut message = Message::new(0, MessageType::Response, OpCode::Query);
    message.metadata.response_code = nothing.response_code;
    if let Some(authorities) = nothing.authorities {
        message.add_authorities(authorities.iter().cloned());
    } else if let Some(soa) = nothing.soa {
        message.add_authority(soa.into_record_of_rdata());
    }
    Some(message)
}

fn pad(message: &mut Message) {
    let Ok(bytes) = message.to_vec() else {
        return;
    };
    let length = bytes.len() + 4;
    let zeros = vec![0; length.next_multiple_of(BLOCK) - length];
    if let Some(edns) = &mut message.edns {
        let padding = EdnsOption::Unknown(PADDING, zeros);
        edns.options_mut().insert(padding);
    }
}

fn address(text: &str, port: u16) -> Option<SocketAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let ip: Result<IpAddr, _> = bare.unwrap_or(text).parse();
    match ip {
        Ok(ip) => Some(SocketAddr::new(ip, port)),
        Err(_) => text.parse().ok(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_read_with_their_ports_and_names() {
        let read = |text: &str| Address::read(text).unwrap()[0].clone();
        let at = |text: &str| read(text).at.to_string();
        assert_eq!(at("192.0.2.1"), "192.0.2.1:53");
        assert_eq!(at("2001:db8::1"), "[2001:db8::1]:53");
        assert_eq!(at("[2001:db8::1]:5353"), "[2001:db8::1]:5353");
        assert_eq!(at("tls://192.0.2.1#dns.example"), "192.0.2.1:853");
        assert_eq!(
            at("quic://[2001:db8::1]:8853#dns.example"),
            "[2001:db8::1]:8853"
        );
        let https = read("https://192.0.2.1/q#dns.example");
        assert_eq!(https.at.port(), 443);
        assert_eq!(
            https.how,
            How::Https {
                name: "dns.example".into(),
                path: "/q".into()
            }
        );
        for bad in [
            "",
            "dns.example",
            "tls://192.0.2.1",
            "ftp://192.0.2.1#a",
            "https://dns.example/#a",
        ] {
            assert!(Address::read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn encrypted_queries_are_padded_to_whole_blocks() {
        for length in [1, 20, 60] {
            let mut message = Message::query();
            let name = format!("{}.example.", "a".repeat(length));
            let name = hickory_proto::rr::Name::from_ascii(name).unwrap();
            let query = Query::query(name, hickory_proto::rr::RecordType::A);
            message.add_query(query);
            message.set_edns(hickory_proto::op::Edns::new());
            pad(&mut message);
            assert_eq!(message.to_vec().unwrap().len() % BLOCK, 0);
        }
    }
}
