//! Packets that came out of the tunnel.

use super::{Endpoint, PROBE};
use crate::exit::Problem;
use crate::exit::tunnel::complaint::Complaint;
use crate::exit::tunnel::flow::Stream;
use crate::exit::tunnel::frame::Header;
use crate::packet::build::Unreachable;
use crate::packet::protocol;
use crate::packet::{Checksum, Parsed, Transport};
use crate::stack::{Outbox, Terminator};
use crate::time::Time;
use std::net::{IpAddr, SocketAddr};

impl Endpoint {
    /// Takes one packet; nobody has read it yet.
    pub(super) fn packet(&mut self, bytes: &mut [u8], now: Time) {
        let Ok(parsed) = Parsed::read(bytes, Checksum::Verify) else {
            return;
        };
        if self.conf.address(parsed.dst) != Some(parsed.dst) {
            return;
        }
        match parsed.transport {
            Transport::Tcp(tcp) => {
                let key = (SocketAddr::new(parsed.src, tcp.sport), tcp.dport);
                let Some(id) = self.by_remote.get(&key).copied() else {
                    return;
                };
                self.segment(id, bytes, &parsed, now);
                self.later(id);
            }
            Transport::Udp(udp) => {
                let from = SocketAddr::new(parsed.src, udp.sport);
                let payload = bytes.get(udp.payload..parsed.len).unwrap_or_default();
                self.answer((true, udp.dport), from, 0, payload);
            }
            Transport::EchoReply(echo) => {
                let from = SocketAddr::new(parsed.src, 0);
                let payload = bytes.get(echo.payload..parsed.len).unwrap_or_default();
                self.answer((false, echo.id), from, echo.seq, payload);
            }
            Transport::EchoRequest(echo) => {
                if parsed.src == parsed.dst && echo.id == PROBE {
                    self.shared.echoed();
                }
            }
            Transport::Fragment(_) => {
                if let Ok(Some(mut whole)) = self.fragments.take(&parsed, bytes, now) {
                    self.packet(&mut whole, now);
                }
            }
            Transport::IcmpError(error) => {
                if let Some(complaint) = Complaint::read(bytes, &parsed, &error) {
                    self.complain(&complaint, parsed.src);
                }
            }
            Transport::Other => {}
        }
    }

    /// Takes a segment of a connection.
    fn segment(&mut self, id: usize, bytes: &mut [u8], parsed: &Parsed, now: Time) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Stream {
            connection,
            acknowledged,
            ..
        } = &mut *stream;
        let mss = self.conf.mss(parsed.src.is_ipv4());
        let waiting = connection.unacknowledged();
        let (terminator, outbox) = (&mut self.terminator, &mut self.outbox);
        acknowledged.pieces(bytes, parsed, (mss, waiting), |piece, parsed| {
            terminator.segment(connection, piece, parsed, outbox, now);
        });
        terminator.segment(connection, bytes, parsed, outbox, now);
        if stream.recovery.heard(bytes, parsed, now) {
            repeat(stream, terminator, outbox, now);
        }
    }

    /// Has whoever sent a packet know what became of it. A connection that stands outlives such news (RFC 1122, section
    /// 4.2.3.9).
    fn complain(&mut self, about: &Complaint, by: IpAddr) {
        let port = about.from.port();
        if about.protocol == protocol::TCP {
            let id = self.by_remote.get(&(about.to, port)).copied();
            let Some((id, stream)) = id.and_then(|id| Some((id, self.streams.get_mut(&id)?)))
            else {
                return;
            };
            if let Unreachable::TooBig(mtu) = about.why {
                self.paths.learn(about.to.ip(), mtu);
            } else if stream.give_up(about.why) {
                self.later(id);
            }
            return;
        }
        let id = self.by_port.get(&(about.protocol == protocol::UDP, port));
        if let Some(mapping) = id.and_then(|id| self.mappings.get(id)) {
            let problem = Problem {
                to: about.to,
                why: about.why,
                offender: Some(by),
            };
            mapping.way.complain(&problem);
        }
    }

    /// Hands an answer to its mapping; lost if there is no room, as on any link.
    fn answer(&mut self, to: (bool, u16), remote: SocketAddr, sequence: u16, payload: &[u8]) {
        let id = self.by_port.get(&to);
        if let Some(mapping) = id.and_then(|id| self.mappings.get(id)) {
            let header = Header {
                remote,
                sequence,
                segment: 0,
            };
            let _ = mapping.way.put(&header, payload);
        }
    }
}

/// Has the terminator send what is missing first once more.
pub(super) fn repeat(
    stream: &mut Stream,
    terminator: &mut Terminator,
    outbox: &mut Outbox,
    now: Time,
) {
    let Stream {
        recovery,
        connection,
        ..
    } = stream;
    recovery.tell(|bytes, parsed| terminator.segment(connection, bytes, parsed, outbox, now));
}
