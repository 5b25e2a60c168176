//! The list of dissectors, and the order in which they are tried: strong marks first, weak ones last.

use super::shape::Table;
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

impl Datagrams {
    /// Reads a datagram; leaves no note if it is of another protocol.
    fn try_read(&self, payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
        let reading = (self.read)(payload, notes);
        if reading.is_none() {
            notes.discard();
        }
        reading
    }
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
    ($($module:ident :: $read:ident $shape:ident),* $(,)?) => {
        /// Protocols over datagrams.
        static DATAGRAM: &[Datagrams] = &[$(Datagrams {
            protocol: stringify!($module),
            leaks: $module::LEAKS,
            read: $module::$read,
        }),*];

        /// Which of them may know a datagram.
        static TABLE: Table = Table::new(&[$($module::$shape),*]);
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

datagrams![
    tunnel::wireguard WIREGUARD,
    tunnel::tailscale TAILSCALE,
    tunnel::ike IKE,
    tunnel::openvpn OPENVPN,
    stun::read SHAPE,
    quic::read SHAPE,
    quic::read_google SHAPE_GOOGLE,
    dtls::read SHAPE,
    dhcp::read SHAPE,
    dhcp::read_v6 SHAPE_V6,
    sd_rtn::read SHAPE,
    oicq::read SHAPE,
    steam::read SHAPE,
    snmp::read SHAPE,
    kerberos::read SHAPE,
    ldap::read SHAPE,
    sip::read SHAPE,
    discovery::read SHAPE,
    vendor::dropbox DROPBOX,
    vendor::miio MIIO,
    vendor::tuya TUYA,
    vendor::ubiquiti UBIQUITI,
    vendor::mikrotik MIKROTIK,
    bittorrent::read SHAPE,
    syslog::read SHAPE,
    netbios::name_service NAMES,
    netbios::datagram_service DATAGRAMS,
    rpc::read SHAPE,
    dns::read SHAPE,
    radius::read SHAPE,
    tftp::read SHAPE,
    ntp::read SHAPE,
    gtp::read SHAPE,
    metrics::read SHAPE,
    rtcp::read SHAPE,
    coap::read SHAPE,
    rtp::read SHAPE,
];

/// Protocols over streams.
pub(super) static STREAM: &[Streams] = streams![
    "tls" => tls,
    "ssh" => ssh,
    "http" => http,
    "http2" => http2,
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
    "rlogin" => rlogin,
    "rsync" => rsync,
    "x11" => x11,
    "rfb" => rfb,
    "versions" => versions,
    "iscsi" => iscsi,
    "mongo" => mongo,
    "tds" => tds,
    "rpc" => rpc,
    "cql" => cql,
    "ident" => ident,
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
    let mut fitting = TABLE.fitting(payload);
    fitting.find_map(|place| DATAGRAM.get(place)?.try_read(payload, notes))
}

/// Reads one datagram with the dissectors of one name alone; whether one knows it.
pub(in crate::sanitize) fn datagram_by(name: &str, payload: &[u8], notes: &mut Notes<'_>) -> bool {
    let mut named = DATAGRAM
        .iter()
        .filter(|dissector| dissector.protocol == name);
    named.any(|dissector| dissector.try_read(payload, notes).is_some())
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

#[cfg(test)]
mod tests;
