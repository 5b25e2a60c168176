//! Packets that came out of the tunnel.

use super::{Endpoint, PROBE};
use crate::exit::tunnel::frame::Header;
use crate::packet::{Checksum, Parsed, Transport};
use crate::time::Time;
use std::net::SocketAddr;

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
                if let Some(stream) = self.streams.get_mut(&id) {
                    let connection = &mut stream.connection;
                    self.terminator
                        .segment(connection, bytes, &parsed, &mut self.outbox, now);
                }
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
            Transport::IcmpError(_) | Transport::Other => {}
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
