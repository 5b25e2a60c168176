//! Each dissector alone, so that the fuzzer need not guess what the others do not take.

use super::Body;
use cordon::sanitize::{Finding, Sanitizer, Stream, dissect_alone};

macro_rules! targets {
    ($($name:ident)*) => {
        $(fn $name(data: &[u8]) {
            read(stringify!($name), data);
        })*

        /// One target for each dissector; each has its corpus like the others.
        pub(crate) const TARGETS: &[(&str, Body)] = &[$((stringify!($name), $name)),*];
    };
}

targets! {
    amqp
    bittorrent
    coap
    cql
    dhcp
    diameter
    discovery
    dns
    dtls
    gtp
    hl7
    http
    http2
    ident
    imap
    iscsi
    kerberos
    ldap
    metrics
    mongo
    mqtt
    mtproto
    mysql
    nats
    netbios
    ntp
    oicq
    postgres
    quic
    radius
    rdp
    redis
    rfb
    rlogin
    rpc
    rsync
    rtcp
    rtp
    sd_rtn
    sip
    smb
    smpp
    snmp
    socks
    ssh
    steam
    stomp
    stun
    syslog
    tds
    telnet
    text
    tftp
    tls
    tunnel
    vendor
    verbs
    versions
    websocket
    x11
    xmpp
}

/// The first byte is the length of the chunks in which the rest comes as a stream; as a datagram it comes whole.
fn read(name: &str, data: &[u8]) {
    let Some((length, bytes)) = data.split_first() else {
        return;
    };
    let mut found = Vec::new();
    let known = dissect_alone(name, bytes, &mut found);
    assert!(known || found.is_empty());
    within(&found, bytes);
    let Some(mut stream) = Stream::of(name) else {
        return;
    };
    let sanitizer = Sanitizer::default();
    for chunk in bytes.chunks(usize::from(*length).max(1)) {
        let mut found = Vec::new();
        sanitizer.stream(&mut stream, chunk, &mut found);
        within(&found, chunk);
        assert!(stream.pending() <= 4096);
    }
}

fn within(found: &[Finding], bytes: &[u8]) {
    for finding in found {
        assert!(finding.span.start <= finding.span.end);
        assert!(finding.span.end <= bytes.len());
        assert!(finding.earlier.1 <= finding.earlier.0);
    }
}
