//! The app: what a phone does when its user joins a room.

use super::cast::{ROOM, Role, USER, of};
use super::servers::{API_ANSWER, noise};
use anyhow::{Context, Result, bail};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// Audio frames sent each way, one every 20 ms.
const FRAMES: u8 = 50;
/// How long the app waits for an answer before it goes on.
const PATIENCE: Duration = Duration::from_millis(250);

/// How the app fared.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// API calls answered with the right bytes, of three.
    pub(super) api: u32,
    /// Pings that were answered.
    pub(super) pings: u32,
    /// Audio frames that came back unchanged, of [`FRAMES`], from the operator's edge …
    pub(super) edge: u32,
    /// … and from the relay.
    pub(super) relay: u32,
}

impl Outcome {
    /// What must work whatever is stopped.
    pub(super) fn is_usable(&self) -> bool {
        self.api == 3 && (self.edge == u32::from(FRAMES) || self.relay == u32::from(FRAMES))
    }
}

/// Joins a room.
pub(super) fn join() -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for server in of(Role::Api) {
        for call in 0..3 {
            let at = SocketAddr::new(look_up(server.name)?, server.port);
            outcome.api += u32::from(call_api(at, call).is_ok());
        }
    }
    let hello = format!("\u{1}\u{2}JOIN uid={USER} channel={ROOM} mute=1");
    for server in of(Role::Qos) {
        // A name that cannot be had is to the app an unreachable server.
        let Ok(address) = look_up(server.name) else {
            continue;
        };
        let at = SocketAddr::new(address, server.port);
        outcome.pings += u32::from(ping(at, hello.as_bytes())?);
    }
    let mut probe = b"\x01\x03RTT?".to_vec();
    probe.extend(USER.to_le_bytes());
    probe.extend(format!(" uid={USER}").bytes());
    for server in of(Role::Route).chain(of(Role::BuiltIn)) {
        let address = match server.name {
            Some(_) => look_up(server.name).ok(),
            None => server.address.parse().ok(),
        };
        let Some(address) = address else {
            continue;
        };
        outcome.pings += u32::from(ping(SocketAddr::new(address, server.port), &probe)?);
    }
    for server in of(Role::BuiltIn) {
        // The old library also tries a connection; whether it gets one is not the app's concern.
        let at = SocketAddr::new(server.address.parse()?, server.port);
        let _ = TcpStream::connect_timeout(&at, PATIENCE);
    }
    for server in of(Role::Edge).chain(of(Role::Relay)) {
        let at = server.socket().context("the cast has a bad address")?;
        let heard = talk(at)?;
        let counter = if server.role == Role::Edge {
            &mut outcome.edge
        } else {
            &mut outcome.relay
        };
        *counter = heard;
        if heard == u32::from(FRAMES) {
            break;
        }
    }
    Ok(outcome)
}

/// Asks the resolver for a name's IPv4 address.
fn look_up(name: Option<&str>) -> Result<IpAddr> {
    let resolver = of(Role::Resolver)
        .next()
        .and_then(super::cast::Server::socket)
        .context("no resolver")?;
    let name = name.context("no name")?;
    let mut query = Message::query();
    query.metadata.id = 4711;
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(
        Name::from_ascii(format!("{name}."))?,
        RecordType::A,
    ));
    let socket = socket_for(resolver)?;
    socket.send_to(&query.to_vec()?, resolver)?;
    let mut buffer = [0; 1500];
    let len = socket
        .recv(&mut buffer)
        .with_context(|| format!("no answer for {name}"))?;
    let answer = Message::from_vec(buffer.get(..len).unwrap_or_default())?;
    let address = answer.answers.iter().find_map(|record| {
        if let RData::A(address) = &record.data {
            Some(IpAddr::V4(address.0))
        } else {
            None
        }
    });
    address.with_context(|| format!("{name} has no address"))
}

fn socket_for(remote: SocketAddr) -> Result<UdpSocket> {
    let any: SocketAddr = if remote.is_ipv4() {
        "0.0.0.0:0".parse()?
    } else {
        "[::]:0".parse()?
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends a ping twice, as lossy networks want it; whether it was answered.
fn ping(to: SocketAddr, message: &[u8]) -> Result<bool> {
    let socket = socket_for(to)?;
    socket.connect(to)?;
    let mut buffer = [0; 1500];
    let mut answered = false;
    for _ in 0..2 {
        // "Prohibited" comes back as an error of the socket: to the app it is an unreachable server.
        answered |= socket.send(message).is_ok()
            && socket
                .recv(&mut buffer)
                .is_ok_and(|len| len == message.len());
        if answered {
            break;
        }
    }
    Ok(answered)
}

/// One encrypted call: a request out, an answer back, every byte right.
fn call_api(at: SocketAddr, call: u8) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut request = noise(u64::from(call) + 100, 512);
    // The head of a TLS record of application data, and in the noise which answer is wanted.
    request.splice(..8, [0x17, 3, 3, 1, 0xfb, 0, 0, call]);
    stream.write_all(&request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer != noise(u64::from(call), API_ANSWER) {
        bail!("the answer was changed on the way");
    }
    Ok(())
}

/// Talks: encrypted frames every 20 ms; how many came back unchanged.
fn talk(to: SocketAddr) -> Result<u32> {
    let socket = socket_for(to)?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut heard = 0;
    let mut refused = 0;
    let mut buffer = [0; 1500];
    for number in 0..FRAMES {
        let frame = noise(u64::from(number) + 1000, 160);
        if socket.send_to(&frame, to).is_err() {
            refused += 1;
        }
        match socket.recv(&mut buffer) {
            Ok(len) => heard += u32::from(buffer.get(..len) == Some(frame.as_slice())),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                refused += 1
            }
            Err(_) => refused += 1,
        }
        if heard == 0 && refused >= 5 {
            break;
        }
    }
    Ok(heard)
}
