//! The exit of the third act: a SOCKS5 proxy (RFC 1928) that relays datagrams and knows nothing of the gate.

use super::cast::{Role, of};
use crate::exit::socks5;
use anyhow::{Context, Result};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

/// What a client says of itself when it asks for a relay: nothing (RFC 1928, section 7).
const ASSOCIATE: [u8; 10] = [5, 3, 0, 1, 0, 0, 0, 0, 0, 0];
const GRANTED: [u8; 4] = [5, 0, 0, 1];
const REFUSED: [u8; 10] = [5, 7, 0, 1, 0, 0, 0, 0, 0, 0];

/// Starts it on this thread's host. It ends with the process.
pub(super) fn start() -> Result<()> {
    let server = of(Role::Exit).next().context("no exit")?;
    let at = server.socket().context("the cast has a bad address")?;
    let listener = TcpListener::bind(at).with_context(|| format!("no exit at {at}"))?;
    thread::Builder::new().spawn(move || {
        for client in listener.incoming().flatten() {
            // A thread on this host for each: its sockets are of this host, too. Who goes away is his own business.
            let _ = thread::Builder::new().spawn(move || serve(client, at.ip()));
        }
    })?;
    Ok(())
}

/// Greets a client and relays its datagrams as long as it stays.
fn serve(mut client: TcpStream, own: IpAddr) -> std::io::Result<()> {
    let mut offer = [0; 2];
    client.read_exact(&mut offer)?;
    let mut methods = vec![0; usize::from(offer[1])];
    client.read_exact(&mut methods)?;
    client.write_all(&[5, 0])?;
    let mut request = [0; 10];
    client.read_exact(&mut request)?;
    if request != ASSOCIATE {
        return client.write_all(&REFUSED);
    }
    let inner = UdpSocket::bind((own, 0))?;
    let outer = UdpSocket::bind((own, 0))?;
    let mut granted = GRANTED.to_vec();
    if let (IpAddr::V4(own), port) = (own, inner.local_addr()?.port()) {
        granted.extend(own.octets());
        granted.extend(port.to_be_bytes());
    }
    client.write_all(&granted)?;
    let asker = client.peer_addr()?.ip();
    let (to_inner, to_outer) = (inner.try_clone()?, outer.try_clone()?);
    thread::Builder::new().spawn(move || relay(&inner, &to_outer, &outer, &to_inner, asker))?;
    // It ends when the client does.
    client.read_exact(&mut [0])
}

/// Takes datagrams out of their headers on the way out, and puts them into headers on the way back.
fn relay(
    inner: &UdpSocket,
    to_outer: &UdpSocket,
    outer: &UdpSocket,
    to_inner: &UdpSocket,
    asker: IpAddr,
) {
    let mut buffer = [0; 2048];
    let mut client = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let patience = Some(std::time::Duration::from_millis(5));
    let _ = (
        inner.set_read_timeout(patience),
        outer.set_read_timeout(patience),
    );
    loop {
        if let Ok((len, from)) = inner.recv_from(&mut buffer)
            && from.ip() == asker
        {
            client = from;
            let bytes = buffer.get(..len).unwrap_or_default();
            if let Some((to, payload)) = socks5::read_datagram(bytes) {
                let _ = to_outer.send_to(bytes.get(payload..).unwrap_or_default(), to);
            }
        }
        if let Ok((len, from)) = outer.recv_from(&mut buffer) {
            let (header, header_len) = socks5::header(from);
            let mut answer = header.get(..header_len).unwrap_or_default().to_vec();
            answer.extend_from_slice(buffer.get(..len).unwrap_or_default());
            let _ = to_inner.send_to(&answer, client);
        }
    }
}
