//! Datagrams between a mapping and a tunnel's endpoint: each with a header that says where it goes, or comes from.

use crate::exit::Problem;
use crate::packet::build::Unreachable;
use socket2::{Domain, Socket, Type};
use std::io::{self, IoSlice, Read};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};

/// Address (IPv4 as IPv4-mapped IPv6), port, sequence number, bytes of one datagram if there are several.
pub(super) const HEADER: usize = 22;

/// What goes through, beside the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// To whom, or from whom.
    pub(super) remote: SocketAddr,
    /// Echo: the sequence number.
    pub(super) sequence: u16,
    /// Bytes of one datagram if the payload is several, else 0.
    pub(super) segment: u16,
}

/// Instead of the bytes of one datagram: the payload says what became of one that was sent.
const PROBLEM: u16 = u16::MAX;

/// What came out of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A datagram or echo reply: from whom, where its payload lies, and its sequence number.
    Datagram(SocketAddr, Range<usize>, u16),
    /// An ICMP error about one that was sent.
    Problem(Problem),
}

/// One end of a way for datagrams.
#[derive(Debug)]
pub struct Datagrams(Socket);

impl Datagrams {
    /// Two ends that never block. Boundaries are kept, and the kernel bounds what waits in between.
    pub(super) fn pair() -> io::Result<(Self, Self)> {
        let kind = Type::SEQPACKET.nonblocking().cloexec();
        let (ours, theirs) = Socket::pair(Domain::UNIX, kind, None)?;
        Ok((Self(ours), Self(theirs)))
    }

    /// Sends a datagram or echo request, or several datagrams of `segment` bytes each; lost if there is no room.
    pub fn send(&self, payload: &[u8], remote: SocketAddr, sequence: u16, segment: u16) {
        let header = Header {
            remote,
            sequence,
            segment,
        };
        let _ = self.put(&header, payload);
    }

    /// Receives into `buffer`.
    ///
    /// # Errors
    /// *Would block* when nothing is there.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Taken>> {
        let Some((header, len)) = self.take(buffer)? else {
            return Ok(None);
        };
        let payload = HEADER..len;
        if header.segment == PROBLEM {
            let why = buffer.get(payload).and_then(read_problem);
            let to = header.remote;
            return Ok(why.map(|(why, offender)| Taken::Problem(Problem { to, why, offender })));
        }
        let Header {
            remote, sequence, ..
        } = header;
        Ok(Some(Taken::Datagram(remote, payload, sequence)))
    }

    /// The endpoint's end: tells what became of a datagram; lost if there is no room.
    pub(super) fn complain(&self, problem: &Problem) {
        let header = Header {
            remote: problem.to,
            sequence: 0,
            segment: PROBLEM,
        };
        let _ = self.put(&header, &write_problem(problem));
    }

    pub(super) fn put(&self, header: &Header, payload: &[u8]) -> io::Result<()> {
        let header = header.write();
        let parts = [IoSlice::new(&header), IoSlice::new(payload)];
        self.0.send_vectored(&parts).map(drop)
    }

    /// The header, and where the payload ends that begins at [`HEADER`].
    ///
    /// # Errors
    /// *Would block*; *broken pipe* if the other end is gone.
    pub(super) fn take(&self, buffer: &mut [u8]) -> io::Result<Option<(Header, usize)>> {
        let len = (&self.0).read(buffer)?;
        if len == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let header = buffer.get(..len).and_then(Header::read);
        Ok(header.map(|header| (header, len)))
    }
}

const REASONS: [Unreachable; 5] = [
    Unreachable::Prohibited,
    Unreachable::Network,
    Unreachable::Host,
    Unreachable::Port,
    Unreachable::HopLimit,
];

/// The reason's place in [`REASONS`], or else an MTU; the offender as an IPv6 address.
fn write_problem(problem: &Problem) -> [u8; 19] {
    let reason = REASONS.iter().position(|reason| *reason == problem.why);
    let reason = reason.and_then(|reason| u8::try_from(reason).ok());
    let mtu = if let Unreachable::TooBig(mtu) = problem.why {
        mtu
    } else {
        0
    };
    let offender = problem.offender.map_or(Ipv6Addr::UNSPECIFIED, mapped);
    let mut bytes = [0; 19];
    let parts = std::iter::once(reason.unwrap_or(u8::MAX));
    let parts = parts.chain(mtu.to_be_bytes()).chain(offender.octets());
    for (to, from) in bytes.iter_mut().zip(parts) {
        *to = from;
    }
    bytes
}

fn read_problem(bytes: &[u8]) -> Option<(Unreachable, Option<IpAddr>)> {
    let ([reason, m0, m1], rest) = bytes.split_first_chunk()?;
    let why = REASONS.get(usize::from(*reason)).copied();
    let why = why.unwrap_or(Unreachable::TooBig(u16::from_be_bytes([*m0, *m1])));
    let offender = Ipv6Addr::from(*rest.first_chunk::<16>()?).to_canonical();
    Some((why, Some(offender).filter(|by| !by.is_unspecified())))
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

impl AsRawFd for Datagrams {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Header {
    fn write(&self) -> [u8; HEADER] {
        let address = mapped(self.remote.ip());
        let numbers = [self.remote.port(), self.sequence, self.segment];
        let numbers = numbers.into_iter().flat_map(u16::to_be_bytes);
        let mut bytes = [0; HEADER];
        for (to, from) in bytes
            .iter_mut()
            .zip(address.octets().into_iter().chain(numbers))
        {
            *to = from;
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (address, rest) = bytes.split_first_chunk::<16>()?;
        let [p0, p1, q0, q1, s0, s1] = *rest.first_chunk()?;
        let address = Ipv6Addr::from(*address).to_canonical();
        Some(Self {
            remote: SocketAddr::new(address, u16::from_be_bytes([p0, p1])),
            sequence: u16::from_be_bytes([q0, q1]),
            segment: u16::from_be_bytes([s0, s1]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_keep_their_boundaries_and_say_whom_they_concern() {
        let (ours, theirs) = Datagrams::pair().unwrap();
        let mut buffer = [0; 100];
        for remote in ["198.51.100.1:53", "[2001:db8::1]:9"] {
            let remote: SocketAddr = remote.parse().unwrap();
            ours.send(b"one", remote, 7, 0);
            ours.send(b"", remote, 8, 2);
            let Taken::Datagram(from, payload, sequence) =
                theirs.receive(&mut buffer).unwrap().unwrap()
            else {
                panic!("it is no problem");
            };
            assert_eq!((from, &buffer[payload], sequence), (remote, &b"one"[..], 7));
            let (header, end) = theirs.take(&mut buffer).unwrap().unwrap();
            assert_eq!((header.segment, end), (2, HEADER));
        }
        assert!(theirs.receive(&mut buffer).is_err());
        drop(ours);
        assert!(
            theirs
                .take(&mut buffer)
                .is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
        );
    }

    #[test]
    fn problems_arrive_as_they_were_told() {
        let (ours, theirs) = Datagrams::pair().unwrap();
        let mut buffer = [0; 100];
        let reasons = REASONS.into_iter().chain([Unreachable::TooBig(1400)]);
        let offenders = [None, Some("192.0.2.1"), Some("2001:db8::1")];
        for (why, by) in reasons.zip(offenders.iter().cycle()) {
            let problem = Problem {
                to: "198.51.100.1:53".parse().unwrap(),
                why,
                offender: by.map(|by| by.parse().unwrap()),
            };
            theirs.complain(&problem);
            let heard = ours.receive(&mut buffer).unwrap().unwrap();
            assert_eq!(heard, Taken::Problem(problem));
        }
    }
}
