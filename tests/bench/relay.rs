//! A relay as cheap as one can be, plain or behind SOCKS5 (RFC 1928, without a password): the bytes stay in the kernel
//! (splice(2)), so that two paths that both go by it differ in what Cordon does and in nothing else.
#![expect(unsafe_code, reason = "splice(2)")]

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

/// Bytes that a pipe between two sockets holds.
const PIPE: usize = 1 << 20;

/// Relays connections at `at` to `to`; without it, to where each asks by SOCKS5.
pub(crate) fn relay(at: SocketAddr, to: Option<SocketAddr>) -> io::Result<()> {
    let listener = TcpListener::bind(at)?;
    println!("ready");
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || one(stream, to));
    }
    Ok(())
}

fn one(mut client: TcpStream, to: Option<SocketAddr>) -> io::Result<()> {
    client.set_nodelay(true)?;
    let to = match to {
        Some(to) => to,
        None => asked(&mut client)?,
    };
    let server = TcpStream::connect(to)?;
    server.set_nodelay(true)?;
    let (from, back) = (client.try_clone()?, server.try_clone()?);
    let up = thread::spawn(move || pass(&from, &back));
    let _ = pass(&server, &client);
    let _ = up.join();
    Ok(())
}

/// The address that a client asks for; it is told that it is connected.
fn asked(client: &mut TcpStream) -> io::Result<SocketAddr> {
    let mut greeting = [0; 2];
    client.read_exact(&mut greeting)?;
    let mut methods = vec![0; usize::from(greeting[1])];
    client.read_exact(&mut methods)?;
    client.write_all(&[5, 0])?;
    let mut request = [0; 10];
    client.read_exact(&mut request)?;
    let [5, 1, 0, 1, a, b, c, d, p0, p1] = request else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let ip = IpAddr::V4(Ipv4Addr::new(a, b, c, d));
    Ok(SocketAddr::new(ip, u16::from_be_bytes([p0, p1])))
}

/// From one socket to the other, to the end.
fn pass(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (out, into) = nix::unistd::pipe()?;
    // SAFETY: the descriptor is open; the call takes and gives numbers.
    unsafe { libc::fcntl(into.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE as libc::c_int) };
    let outcome = (|| {
        loop {
            let mut waiting = splice(from.as_raw_fd(), into.as_raw_fd(), PIPE)?;
            if waiting == 0 {
                return to.shutdown(Shutdown::Write);
            }
            while waiting > 0 {
                waiting -= splice(out.as_raw_fd(), to.as_raw_fd(), waiting)?;
            }
        }
    })();
    if outcome.is_err() {
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
    outcome
}

fn splice(from: i32, to: i32, bytes: usize) -> io::Result<usize> {
    let none = std::ptr::null_mut();
    // SAFETY: both descriptors are open, and without offsets no memory is touched.
    let moved = unsafe { libc::splice(from, none, to, none, bytes, libc::SPLICE_F_MOVE) };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}
