//! Datagrams that follow each other to one place, sent in one call: the kernel carries them as one packet to the device
//! and cuts it there (udp(7), `UDP_SEGMENT`).

use super::Datagrams;
use std::io;
use std::net::SocketAddr;

/// The kernel cuts no packet into more datagrams (`UDP_MAX_SEGMENTS`, `linux/udp.h`).
pub(super) const DATAGRAMS: usize = 64;
/// Bytes of one packet, with room for any headers.
pub(super) const BYTES: usize = 65_000;

/// Where datagrams go, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Place of the socket in its owner's slab.
    pub socket: usize,
    /// The destination.
    pub to: SocketAddr,
    /// Hop limit with which they came in.
    pub hop_limit: u8,
    /// They must not be fragmented on the way.
    pub dont_fragment: bool,
}

/// Judged datagrams that wait for the end of the turn, or for one that does not fit to them.
#[derive(Debug, Default)]
pub struct Burst {
    target: Option<Target>,
    bytes: Vec<u8>,
    /// Bytes of each datagram but the last, which may be shorter.
    segment: usize,
}

impl Burst {
    /// Adds a payload of one datagram, or of several of `segment` bytes each. `false` if it does not fit to what is
    /// there, which is to be sent first; into an empty burst everything fits.
    pub fn add(&mut self, target: &Target, payload: &[u8], segment: u16) -> bool {
        let segment = match usize::from(segment) {
            0 => payload.len(),
            segment => segment,
        };
        if self.target.is_none() {
            (self.target, self.segment) = (Some(*target), segment);
        } else {
            let len = self.bytes.len() + payload.len();
            let fits = self.target == Some(*target)
                && segment > 0
                && segment <= self.segment
                && (segment == self.segment || payload.len() == segment)
                && self.bytes.len().is_multiple_of(self.segment)
                && len <= BYTES.min(DATAGRAMS * self.segment);
            if !fits {
                return false;
            }
        }
        self.bytes.extend_from_slice(payload);
        true
    }

    /// Where the waiting datagrams go; `None` if none wait.
    pub fn target(&self) -> Option<Target> {
        self.target
    }

    /// Sends what waits; nothing waits afterwards.
    ///
    /// # Errors
    /// Those of `sendmsg(2)`. What the kernel did not take is lost, as on any link.
    pub fn send(&mut self, socket: &mut Datagrams) -> io::Result<()> {
        let Some(target) = self.target.take() else {
            return Ok(());
        };
        let sent = self.send_to(&target, socket);
        self.bytes.clear();
        sent
    }

    /// Forgets what waits: its socket is gone.
    pub fn clear(&mut self) {
        self.target = None;
        self.bytes.clear();
    }

    fn send_to(&self, target: &Target, socket: &mut Datagrams) -> io::Result<()> {
        socket.shape(target.hop_limit, target.dont_fragment)?;
        let segment = if self.bytes.len() > self.segment {
            u16::try_from(self.segment).unwrap_or(0)
        } else {
            0
        };
        match socket.send(&self.bytes, target.to, segment) {
            // Larger than the path takes, or a device or kernel that cannot cut: the kernel may fragment each.
            Err(error) if segment > 0 && is_uncut(&error) => self
                .bytes
                .chunks(self.segment)
                .try_for_each(|payload| socket.send(payload, target.to, 0)),
            // What became of an earlier datagram is told once, at the cost of this one (ip(7), `IP_RECVERR`).
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                socket.send(&self.bytes, target.to, segment)
            }
            sent => sent,
        }
    }
}

pub(super) fn is_uncut(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO | libc::EOPNOTSUPP)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(port: u16) -> Target {
        Target {
            socket: 1,
            to: SocketAddr::new([192, 0, 2, 1].into(), port),
            hop_limit: 64,
            dont_fragment: false,
        }
    }

    #[test]
    fn datagrams_of_one_size_to_one_place_wait_together_and_a_shorter_one_is_the_last() {
        let mut burst = Burst::default();
        assert!(burst.add(&target(1), &[1; 100], 0));
        assert!(burst.add(&target(1), &[2; 100], 0));
        assert!(burst.add(&target(1), &[3; 200], 100));
        assert!(!burst.add(&target(2), &[4; 100], 0), "another place");
        assert!(!burst.add(&target(1), &[4; 101], 0), "a longer one");
        assert!(burst.add(&target(1), &[4; 50], 0));
        assert!(!burst.add(&target(1), &[5; 50], 0), "behind a shorter one");
        assert_eq!(burst.bytes.len(), 450);
    }

    #[test]
    fn empty_datagrams_go_alone_and_no_more_wait_than_the_kernel_cuts() {
        let mut burst = Burst::default();
        assert!(burst.add(&target(1), &[], 0));
        assert!(!burst.add(&target(1), &[], 0) && !burst.add(&target(1), &[1], 0));
        burst.clear();
        for _ in 0..64 {
            assert!(burst.add(&target(1), &[1; 10], 0));
        }
        assert!(!burst.add(&target(1), &[1; 10], 0));
        burst.clear();
        assert!(burst.add(&target(1), &[1; 60_000], 0));
        assert!(!burst.add(&target(1), &[1; 60_000], 0));
    }

    #[test]
    #[expect(clippy::disallowed_types, reason = "the kernel cuts it")]
    fn what_waits_arrives_datagram_by_datagram() {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = server.local_addr().unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None);
        let mut socket = Datagrams::new(socket.unwrap(), false, false).unwrap();
        let target = Target { to, ..target(0) };
        let mut burst = Burst::default();
        // The second burst is larger than any path takes uncut.
        for sizes in [&[300, 300, 20][..], &[0], &[30_000, 30_000]] {
            for size in sizes {
                assert!(burst.add(&target, &vec![7; *size], 0));
            }
            burst.send(&mut socket).unwrap();
            assert_eq!(burst.target(), None);
            let mut buffer = vec![0; 65_536];
            for size in sizes {
                assert_eq!(server.recv(&mut buffer).unwrap(), *size);
            }
        }
    }
}
