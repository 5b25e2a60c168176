//! The datagrams, or echo requests, of one mapping, on their way into a tunnel.

use super::conf::Conf;
use super::frame::{Datagrams, HEADER, Header};
use crate::packet::{build, checksum, split};
use bytes::BytesMut;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use tokio::sync::mpsc;

/// Datagrams of one mapping before the others get their turn.
const DATAGRAMS_A_TURN: usize = 64;
/// Where what a mapping sends is put: room for headers before it.
pub(super) const BUFFER: usize = HEADER + build::HEADROOM + 65_536;

/// One mapping.
pub(super) struct Mapping {
    pub(super) way: Datagrams,
    pub(super) udp: bool,
    /// Our port, or identifier.
    pub(super) port: u16,
}

/// What is left to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    Perhaps,
    /// Nor will there ever be anything: the mapping is gone.
    NothingEver,
}

impl Mapping {
    /// Sends what there is to send. `buffer` is of [`BUFFER`] bytes.
    pub(super) fn leave(
        &self,
        buffer: &mut [u8],
        conf: &Conf,
        leaving: &mpsc::Sender<BytesMut>,
    ) -> Left {
        for _ in 0..DATAGRAMS_A_TURN {
            let room = buffer.get_mut(build::HEADROOM..).unwrap_or_default();
            match self.way.take(room) {
                Ok(Some((header, end))) => {
                    if let Some(ours) = conf.address(header.remote.ip()) {
                        let (at, end) = (build::HEADROOM + HEADER, build::HEADROOM + end);
                        let out = (conf.mtu, leaving);
                        self.send((ours, &header), (&mut *buffer, at, end), out);
                    }
                }
                Ok(None) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Left::Nothing,
                Err(_) => return Left::NothingEver,
            }
        }
        Left::Perhaps
    }

    /// Sends the payload that lies in `buffer` from `at` to `end`: as packets that fit the tunnel.
    fn send(
        &self,
        (ours, header): (IpAddr, &Header),
        (buffer, at, end): (&mut [u8], usize, usize),
        (mtu, leaving): (u16, &mpsc::Sender<BytesMut>),
    ) {
        let step = match usize::from(header.segment) {
            0 => (end - at).max(1),
            segment => segment,
        };
        let mut begin = at;
        // Headers go before the payload, over what was sent before.
        loop {
            let stop = (begin + step).min(end);
            let Some(window) = buffer.get_mut(..stop) else {
                return;
            };
            let start = if self.udp {
                let from = SocketAddr::new(ours, self.port);
                let (start, mut offload) =
                    build::udp_in_place(window, begin, from, header.remote, 0);
                if let Some(packet) = window.get_mut(start..) {
                    checksum::complete(packet, &mut offload);
                }
                start
            } else {
                let (to, id) = (header.remote.ip(), self.port);
                build::echo_request_in_place(window, begin, ours, to, id, header.sequence).0
            };
            let packet = window.get(start..).unwrap_or_default();
            split::fragments(packet, usize::from(mtu), |packet| {
                // What there is no room for is lost, as on any link.
                let _ = leaving.try_send(BytesMut::from(packet));
            });
            begin = stop;
            if begin >= end {
                return;
            }
        }
    }
}
