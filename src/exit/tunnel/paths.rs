//! How long packets may be behind the tunnel. Its own length is known from the beginning, and what connections say of
//! their segments keeps within it; where somebody further on takes less and says so, they go on as fragments.

use crate::packet::{offload, split};
use crate::stack::Outbox;
use bytes::BytesMut;
use std::collections::HashMap;
use std::net::IpAddr;
use tokio::sync::mpsc;

/// Destinations whose length is kept; all are forgotten for the next one.
const MOST: usize = 256;
/// No way takes less (RFC 791, section 3.1; RFC 8200, section 5), whoever says so.
const LEAST: [u16; 2] = [576, 1280];

/// Destinations that take less than the tunnel.
#[derive(Debug, Default)]
pub(super) struct Paths(HashMap<IpAddr, u16>);

impl Paths {
    /// Somebody on the way to `to` takes packets of at most `mtu` bytes (RFC 1191; RFC 8201).
    pub(super) fn learn(&mut self, to: IpAddr, mtu: u16) {
        let [v4, v6] = LEAST;
        let least = if to.is_ipv4() { v4 } else { v6 };
        if self.0.len() >= MOST && !self.0.contains_key(&to) {
            self.0.clear();
        }
        self.0.insert(to, mtu.max(least));
    }

    /// Hands packets of connections to the device as long as it takes them; each is shown first.
    pub(super) fn drain(
        &self,
        outbox: &mut Outbox,
        leaving: &mpsc::Sender<BytesMut>,
        mut each: impl FnMut(&[u8]),
    ) {
        while let Ok(place) = leaving.try_reserve() {
            let Some(packet) = outbox.take() else {
                return;
            };
            let packet = packet.get(offload::LEN..).unwrap_or_default();
            each(packet);
            match self.length(packet) {
                Some(mtu) if packet.len() > mtu => {
                    drop(place);
                    split::fragments(packet, mtu, |fragment| {
                        // What there is no room for is lost, as on any link.
                        let _ = leaving.try_send(BytesMut::from(fragment));
                    });
                }
                Some(_) | None => place.send(BytesMut::from(packet)),
            }
        }
    }

    /// What the way of a packet takes, if that is less than the tunnel.
    fn length(&self, packet: &[u8]) -> Option<usize> {
        if self.0.is_empty() {
            return None;
        }
        let to = match packet.first()? >> 4 {
            4 => IpAddr::from(*packet.get(16..)?.first_chunk::<4>()?),
            _ => IpAddr::from(*packet.get(24..)?.first_chunk::<16>()?),
        };
        self.0.get(&to).map(|mtu| usize::from(*mtu))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_less_is_taken_packets_are_cut_and_never_to_crumbs() {
        let mut paths = Paths::default();
        let mut packet = vec![0; 1400];
        packet[0] = 0x45;
        packet[16..20].copy_from_slice(&[198, 51, 100, 1]);
        assert_eq!(paths.length(&packet), None);
        paths.learn("198.51.100.1".parse().unwrap(), 1300);
        assert_eq!(paths.length(&packet), Some(1300));
        packet[19] = 2;
        assert_eq!(paths.length(&packet), None);
        paths.learn("198.51.100.2".parse().unwrap(), 0);
        assert_eq!(paths.length(&packet), Some(576));
        paths.learn("2001:db8::1".parse().unwrap(), 68);
        let mut packet = vec![0; 1400];
        packet[0] = 0x60;
        packet[24..40].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(paths.length(&packet), Some(1280));
        assert_eq!(paths.length(&[]), None);
        for n in 0..1000u32 {
            paths.learn(std::net::Ipv4Addr::from(n).into(), 1000);
            assert!(paths.0.len() <= MOST);
        }
    }
}
