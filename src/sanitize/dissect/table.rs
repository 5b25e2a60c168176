//! The list of dissectors, and the order in which they are tried: strong marks first, weak ones last.

use super::stream::{Opening, Step};
use super::*;
use crate::sanitize::finding::Leak;

/// One protocol over datagrams.
struct Datagrams {
    /// Its name.
    protocol: &'static str,
    leaks: &'static [Leak],
    read: fn(&[u8], &mut Notes<'_>) -> Option<Reading>,
}

/// One protocol over streams.
pub(super) struct Streams {
    /// Its name.
    pub(super) protocol: &'static str,
    leaks: &'static [Leak],
    /// Whether a stream that begins with these bytes is of this protocol.
    pub(super) open: fn(&[u8]) -> Opening,
    /// Reads one message from the front of what is not read yet. The number is the protocol's own phase, 0 at first.
    pub(super) step: fn(&mut u8, &[u8], &mut Notes<'_>) -> Step,
}

macro_rules! datagrams {
    ($($module:ident :: $read:ident),* $(,)?) => {
        &[$(Datagrams {
            protocol: stringify!($module),
            leaks: $module::LEAKS,
            read: $module::$read,
        }),*]
    };
}

macro_rules! streams {
    ($($protocol:literal => $module:ident),* $(,)?) => {
        &[$(Streams {
            protocol: $protocol,
            leaks: $module::LEAKS,
            open: $module::open,
            step: $module::step,
        }),*]
    };
}

static DATAGRAM: &[Datagrams] = datagrams![
    tunnel::read,
    stun::read,
    quic::read,
    dtls::read,
    dhcp::read,
    dhcp::read_v6,
    sd_rtn::read,
    oicq::read,
    steam::read,
    snmp::read,
    kerberos::read,
    ldap::read,
    sip::read,
    discovery::read,
    vendor::read,
    bittorrent::read,
    syslog::read,
    netbios::read,
    dns::read,
    radius::read,
    tftp::read,
    ntp::read,
    gtp::read,
    metrics::read,
    rtcp::read,
    coap::read,
    rtp::read,
];

/// Protocols over streams.
pub(super) static STREAM: &[Streams] = streams![
    "tls" => tls,
    "ssh" => ssh,
    "http" => http,
    "nats" => nats,
    "stomp" => stomp,
    "amqp" => amqp,
    "mtproto" => mtproto,
    "websocket" => websocket,
    "sip" => sip,
    "xmpp" => xmpp,
    "stun" => stun,
    "mqtt" => mqtt,
    "ldap" => ldap,
    "kerberos" => kerberos,
    "rdp" => rdp,
    "smb" => smb,
    "postgres" => postgres,
    "mysql" => mysql,
    "redis" => redis,
    "socks" => socks,
    "bittorrent" => bittorrent,
    "hl7" => hl7,
    "smpp" => smpp,
    "diameter" => diameter,
    "telnet" => telnet,
    "imap" => imap,
    "verbs" => verbs,
    "syslog" => syslog,
    "dns" => dns,
    "metrics" => metrics,
];

/// What reads a stream that none of them can be of.
pub(super) static FALLBACK: Streams = Streams {
    protocol: "text",
    leaks: plain::LEAKS,
    open: plain::open,
    step: plain::step,
};

/// Reads a datagram that no dissector knows, as text if it is text.
pub(in crate::sanitize) fn unknown(payload: &[u8], notes: &mut Notes<'_>) {
    plain::read(payload, notes);
}

/// Reads one datagram; `None` if no dissector knows it.
pub(in crate::sanitize) fn datagram(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    DATAGRAM.iter().find_map(|dissector| {
        let reading = (dissector.read)(payload, notes);
        if reading.is_none() {
            notes.discard();
        }
        reading
    })
}

/// Reads one datagram with the dissectors of one name alone; whether one knows it.
pub(in crate::sanitize) fn datagram_by(name: &str, payload: &[u8], notes: &mut Notes<'_>) -> bool {
    let mut named = DATAGRAM
        .iter()
        .filter(|dissector| dissector.protocol == name);
    named.any(|dissector| {
        let reading = (dissector.read)(payload, notes);
        if reading.is_none() {
            notes.discard();
        }
        reading.is_some()
    })
}

/// The name of every dissector, of datagrams first; some are of both.
pub(in crate::sanitize) fn names() -> impl Iterator<Item = &'static str> {
    let datagrams = DATAGRAM.iter().map(|dissector| dissector.protocol);
    let streams = STREAM.iter().map(|dissector| dissector.protocol);
    datagrams.chain(streams).chain([FALLBACK.protocol])
}

/// Every leak some dissector can tell.
pub(in crate::sanitize) fn leaks() -> impl Iterator<Item = &'static Leak> {
    let datagrams = DATAGRAM.iter().flat_map(|dissector| dissector.leaks);
    let streams = STREAM.iter().flat_map(|dissector| dissector.leaks);
    datagrams
        .chain(streams)
        .chain(FALLBACK.leaks)
        .chain(parameters::LEAKS)
}
