//! SOCKS5 (RFC 1928) with user and password (RFC 1929), the client's side: bytes in, bytes out.

use super::handshake::{Progress, Refusal, Target};
use super::secret::Credentials;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use zeroize::Zeroizing;

const VERSION: u8 = 5;
/// Version of the sub-negotiation (RFC 1929, section 2).
const AUTHENTICATION: u8 = 1;
const CONNECT: u8 = 1;
const UDP_ASSOCIATE: u8 = 3;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// The longest header of a datagram that we write: reserved, fragment, type, IPv6 address, port.
pub const HEADER: usize = 22;

/// What is wanted of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// A connection to this target.
    Connect(Target),
    /// A relay for datagrams.
    Associate,
    /// Only to see that it is there and accepts us.
    Greet,
}

/// The conversation up to the point where the flow begins.
#[derive(Debug)]
pub struct Negotiation {
    request: Request,
    credentials: Option<Arc<Credentials>>,
    state: State,
    /// What is to be written; wiped, for it may hold a password.
    output: Zeroizing<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Method,
    Authentication,
    Reply,
    Done(Option<SocketAddr>),
}

impl Negotiation {
    /// Begins with the offer of methods: the proxy may let us in without credentials even if we have some.
    pub fn new(request: Request, credentials: Option<Arc<Credentials>>) -> Self {
        let methods: &[u8] = match credentials {
            None => &[VERSION, 1, NO_AUTHENTICATION],
            Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
        };
        Self {
            request,
            credentials,
            state: State::Method,
            output: Zeroizing::new(methods.to_vec()),
        }
    }

    pub(super) fn output(&self) -> &[u8] {
        &self.output
    }

    pub(super) fn written(&mut self, bytes: usize) {
        let bytes = bytes.min(self.output.len());
        self.output.drain(..bytes);
    }

    pub(super) fn progress(&self) -> Progress {
        match self.state {
            State::Done(bound) if self.output.is_empty() => Progress::Done(bound),
            State::Done(_) | State::Method | State::Authentication | State::Reply => {
                Progress::Waiting
            }
        }
    }

    pub(super) fn input(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match self.state {
            State::Method => self.method(bytes),
            State::Authentication => self.authentication(bytes),
            State::Reply => self.reply(bytes),
            State::Done(_) => Ok(0),
        }
    }

    /// RFC 1928, section 3.
    fn method(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        let Some([version, method]) = bytes.first_chunk() else {
            return Ok(0);
        };
        if *version != VERSION {
            return Err(Refusal::Malformed);
        }
        match (*method, &self.credentials) {
            (NO_AUTHENTICATION, _) => self.ask()?,
            (USER_AND_PASSWORD, Some(credentials)) => {
                self.output = introduction(credentials).ok_or(Refusal::Credentials)?;
                self.state = State::Authentication;
            }
            (0xff, _) => return Err(Refusal::Credentials),
            // It chose what was not on offer.
            _ => return Err(Refusal::Malformed),
        }
        Ok(2)
    }

    /// RFC 1929, section 2.
    fn authentication(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match bytes.first_chunk() {
            None => Ok(0),
            Some([AUTHENTICATION, 0]) => {
                self.ask()?;
                Ok(2)
            }
            Some([AUTHENTICATION, _]) => Err(Refusal::Credentials),
            Some(_) => Err(Refusal::Malformed),
        }
    }

    /// RFC 1928, section 4.
    fn ask(&mut self) -> Result<(), Refusal> {
        let (command, target) = match &self.request {
            Request::Connect(target) => (CONNECT, target),
            // We do not know yet where our datagrams will come from as the proxy sees them: all zeros says so.
            Request::Associate => (
                UDP_ASSOCIATE,
                &Target::Address(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)),
            ),
            Request::Greet => {
                self.state = State::Done(None);
                return Ok(());
            }
        };
        let mut output = vec![VERSION, command, 0];
        write_target(&mut output, target).ok_or(Refusal::Unsupported)?;
        self.output = Zeroizing::new(output);
        self.state = State::Reply;
        Ok(())
    }

    /// RFC 1928, section 6.
    fn reply(&mut self, bytes: &[u8]) -> Result<usize, Refusal> {
        match bytes {
            [VERSION, 0, 0, ..] => {}
            [VERSION, 0] | [VERSION] | [] => return Ok(0),
            // A refusal counts without the address behind it, which some leave away.
            [VERSION, code, ..] => return Err(refusal(*code)),
            _ => return Err(Refusal::Malformed),
        }
        let Some(address) = bytes.get(3..) else {
            return Ok(0);
        };
        match read_address(address)? {
            None => Ok(0),
            Some((bound, len)) => {
                self.state = State::Done(bound);
                Ok(3 + len)
            }
        }
    }
}

/// Header of a datagram to `to`, and how many of its bytes count (RFC 1928, section 7).
pub fn header(to: SocketAddr) -> ([u8; HEADER], usize) {
    let (kind, octets, len) = match to.ip() {
        IpAddr::V4(address) => (IPV4, address.to_ipv6_mapped().octets(), 4),
        IpAddr::V6(address) => (IPV6, address.octets(), 16),
    };
    let address = octets.into_iter().skip(octets.len() - len);
    let bytes = [0, 0, 0, kind]
        .into_iter()
        .chain(address)
        .chain(to.port().to_be_bytes());
    let mut header = [0; HEADER];
    for (to, from) in header.iter_mut().zip(bytes) {
        *to = from;
    }
    (header, 6 + len)
}

/// From whom a relayed datagram is, and where its payload begins. `None` for what is not one, is one of several
/// fragments, or is from a name, which nobody asked for.
pub fn read_datagram(bytes: &[u8]) -> Option<(SocketAddr, usize)> {
    let [0, 0, 0, rest @ ..] = bytes else {
        return None;
    };
    let (from, len) = read_address(rest).ok()??;
    Some((from?, 3 + len))
}

/// User and password, each with its length before it; `None` if one is empty or too long.
fn introduction(credentials: &Credentials) -> Option<Zeroizing<Vec<u8>>> {
    let mut output = Zeroizing::new(Vec::with_capacity(513));
    output.push(AUTHENTICATION);
    for text in [&credentials.user, &credentials.password] {
        let text = text.reveal().as_bytes();
        let len = u8::try_from(text.len()).ok().filter(|len| *len > 0)?;
        output.push(len);
        output.extend_from_slice(text);
    }
    Some(output)
}

/// Appends type, address and port; `None` if a name is too long.
fn write_target(output: &mut Vec<u8>, target: &Target) -> Option<()> {
    let port = match target {
        Target::Address(SocketAddr::V4(address)) => {
            output.push(IPV4);
            output.extend_from_slice(&address.ip().octets());
            address.port()
        }
        Target::Address(SocketAddr::V6(address)) => {
            output.push(IPV6);
            output.extend_from_slice(&address.ip().octets());
            address.port()
        }
        Target::Name(name, port) => {
            output.push(NAME);
            output.push(u8::try_from(name.len()).ok().filter(|len| *len > 0)?);
            output.extend_from_slice(name.as_bytes());
            *port
        }
    };
    output.extend_from_slice(&port.to_be_bytes());
    Some(())
}

/// Reads type, address and port; how long they are, and `None` for the address if it is a name. `Ok(None)` if there is
/// more to come.
fn read_address(bytes: &[u8]) -> Result<Option<(Option<SocketAddr>, usize)>, Refusal> {
    let Some((kind, rest)) = bytes.split_first() else {
        return Ok(None);
    };
    let read = match *kind {
        IPV4 => rest.first_chunk::<6>().map(|[a, b, c, d, high, low]| {
            let port = u16::from_be_bytes([*high, *low]);
            (Some(SocketAddr::new([*a, *b, *c, *d].into(), port)), 7)
        }),
        IPV6 => rest.first_chunk::<16>().and_then(|address| {
            let port = rest.get(16..)?.first_chunk()?;
            let port = u16::from_be_bytes(*port);
            Some((Some(SocketAddr::new((*address).into(), port)), 19))
        }),
        NAME => rest.split_first().and_then(|(len, rest)| {
            let len = usize::from(*len);
            rest.get(..len + 2)?;
            Some((None, 4 + len))
        }),
        _ => return Err(Refusal::Malformed),
    };
    Ok(read)
}

fn refusal(code: u8) -> Refusal {
    match code {
        2 => Refusal::Forbidden,
        5 => Refusal::Refused,
        6 => Refusal::TimedOut,
        7 | 8 => Refusal::Unsupported,
        1 | 3 | 4 => Refusal::Unreachable,
        // The reserved third byte is not zero, or a code that nobody assigned.
        _ => Refusal::Malformed,
    }
}

#[cfg(test)]
mod tests;
