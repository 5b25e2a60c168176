//! Protocols read to their last byte, tried by content and never by port.
//!
//! Every file has the same plan: what the protocol is and where it is specified, the leaks it can tell, a view of the
//! bytes, what they mean, tests. A datagram is consumed exactly or the dissector fails; a stream is read message by
//! message. A failed dissector leaves no finding.

mod ber;
mod notes;
mod shape;
mod stream;
mod table;

mod amqp;
mod bittorrent;
mod coap;
mod cql;
mod dhcp;
mod diameter;
mod discovery;
mod dns;
mod dtls;
mod gtp;
mod hl7;
mod hpack;
mod http;
mod http2;
mod ident;
mod imap;
mod iscsi;
mod kerberos;
mod ldap;
mod metrics;
mod mongo;
mod mqtt;
mod mtproto;
mod mysql;
mod nats;
mod netbios;
mod ntlm;
mod ntp;
mod oicq;
mod parameters;
mod plain;
mod postgres;
mod quic;
mod radius;
mod rdp;
mod redis;
mod rfb;
mod rlogin;
mod rpc;
mod rsync;
mod rtcp;
mod rtp;
mod sd_rtn;
mod sip;
mod smb;
mod smpp;
mod snmp;
mod socks;
mod ssh;
mod steam;
mod stomp;
mod stun;
mod syslog;
mod tds;
mod telnet;
mod tftp;
mod tls;
mod tunnel;
mod vendor;
mod verbs;
mod versions;
mod websocket;
mod x11;
mod x509;
mod xmpp;

pub(super) use dns::is_signed as is_signed_dns;
pub(super) use notes::Notes;
pub(super) use stream::Reader;
pub(super) use table::{datagram, datagram_by, leaks, names, unknown};

use crate::payload::{bytes, text};

/// What a payload proved to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Name of the protocol: `oicq`.
    pub protocol: &'static str,
    /// Nothing but what was told can be read from this payload or any later one of the flow: it is encrypted.
    pub sealed: bool,
}

impl Reading {
    /// What an IP protocol without ports is, if it is a tunnel.
    pub fn of_ip(protocol: u8) -> Option<Self> {
        match protocol {
            4 | 41 => Some(Self::clear("ip-in-ip")),
            47 => Some(Self::clear("gre")),
            50 => Some(Self::sealed("esp")),
            51 => Some(Self::clear("ah")),
            _ => None,
        }
    }

    /// A protocol that can be read.
    const fn clear(protocol: &'static str) -> Self {
        Self {
            protocol,
            sealed: false,
        }
    }

    /// A protocol that encrypts.
    const fn sealed(protocol: &'static str) -> Self {
        Self {
            protocol,
            sealed: true,
        }
    }
}
