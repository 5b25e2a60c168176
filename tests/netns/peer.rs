//! The client of the end-to-end tests: what a program behind the gate does, on plain kernel sockets. Says what it saw
//! on standard output; ends with 0 if that is what it was told to expect.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it is about sockets"
)]
#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "that is how it answers, and it may fail loudly"
)]

#[path = "traffic.rs"]
mod traffic;

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use traffic::{Bulk, Digest};

type Outcome = Result<(), Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        ["up", to, bytes] => number(bytes).and_then(|bytes| up(to, bytes)),
        ["down", to, bytes] => number(bytes).and_then(|bytes| down(to, bytes)),
        ["put", to, bytes] => number(bytes).and_then(|bytes| put(to, bytes)),
        ["get", to, bytes] => number(bytes).and_then(|bytes| get(to, bytes)),
        ["both", to, bytes] => number(bytes).and_then(|bytes| both(to, bytes)),
        ["udp", to, count, size] => {
            number(count).and_then(|n| number(size).and_then(|size| udp(to, n, size)))
        }
        ["one-port", address] => one_port(address),
        ["slow", to, bytes] => number(bytes).and_then(|bytes| slow(to, bytes)),
        ["many", to, count] => number(count).and_then(|count| many(to, count)),
        ["refused", to] => fails_with(to, &[ErrorKind::ConnectionRefused]),
        ["prohibited", to] => fails_with(
            to,
            &[ErrorKind::HostUnreachable, ErrorKind::PermissionDenied],
        ),
        ["prohibited-udp", to] => refused_datagram(to),
        ["unreachable", to, count] => number(count).and_then(|count| {
            (0..count).try_for_each(|_| {
                std::thread::sleep(Duration::from_millis(200));
                fails_with(to, &REFUSALS)
            })
        }),
        ["eventually", to] => eventually(to, PATIENCE),
        ["outage", to, seconds] => number(seconds).and_then(|seconds| outage(to, seconds, PATIENCE)),
        ["outage", to, seconds, until] => number(seconds)
            .and_then(|seconds| number(until).and_then(|until| outage(to, seconds, until))),
        ["ping", to, count] => number(count).and_then(|count| ping(to, count)),
        ["call", to, seconds] => number(seconds).and_then(|seconds| call(to, seconds)),
        ["send", to, text] => send(to, text),
        ["flood", to, seconds] => number(seconds).and_then(|seconds| flood(to, seconds)),
        _ => Err("usage: up|down|put|get|both|udp|one-port|slow|many|refused|prohibited|prohibited-udp|ping|unreachable|eventually|outage|call|send|flood ADDRESS …".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("peer: {error}");
            ExitCode::FAILURE
        }
    }
}

fn number(text: &str) -> Result<u64, Box<dyn Error>> {
    Ok(text.parse()?)
}

fn connect(to: &str) -> Result<TcpStream, Box<dyn Error>> {
    let stream = TcpStream::connect_timeout(&to.parse()?, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_write_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Sends bytes and its FIN; the server answers with their digest.
fn up(to: &str, bytes: u64) -> Outcome {
    let mut stream = connect(to)?;
    Bulk::up(bytes).announce(&mut stream)?;
    let sent = traffic::send(&mut stream, bytes)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard)?;
    same(&heard, &sent)
}

/// From one socket to many ports, whole and in fragments: each server tells by which port it was asked.
fn one_port(address: &str) -> Outcome {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut seen = std::collections::BTreeSet::new();
    for size in [10, 20_000] {
        for port in 9001..9033 {
            socket.send_to(&vec![7; size], (address, port))?;
            let mut answer = [0; 64];
            let (len, from) = socket.recv_from(&mut answer)?;
            if from.port() != port {
                return Err(format!("port {port} was asked, {from} answers").into());
            }
            seen.insert(String::from_utf8_lossy(&answer[..len]).into_owned());
        }
    }
    if seen.len() != 1 {
        return Err(format!("one socket showed as {seen:?}").into());
    }
    Ok(())
}

/// Receives bytes until the server's FIN.
fn down(to: &str, bytes: u64) -> Outcome {
    let mut stream = connect(to)?;
    Bulk::down(bytes).announce(&mut stream)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let (count, heard) = traffic::receive(&mut stream)?;
    if count != bytes {
        return Err(format!("{count} bytes came of {bytes}").into());
    }
    same(heard.as_ref(), &traffic::digest(bytes))
}

/// Sends bytes and no FIN: some proxies close both ways when one is done.
fn put(to: &str, bytes: u64) -> Outcome {
    let mut stream = connect(to)?;
    Bulk::up(bytes).counted().announce(&mut stream)?;
    let sent = traffic::send(&mut stream, bytes)?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard)?;
    same(&heard, &sent)
}

/// Receives bytes and sends no FIN before.
fn get(to: &str, bytes: u64) -> Outcome {
    let mut stream = connect(to)?;
    Bulk::down(bytes).announce(&mut stream)?;
    let (count, heard) = traffic::receive(&mut stream)?;
    if count != bytes {
        return Err(format!("{count} bytes came of {bytes}").into());
    }
    same(heard.as_ref(), &traffic::digest(bytes))
}

/// Both at once, on two connections.
fn both(to: &str, bytes: u64) -> Outcome {
    let to = to.to_owned();
    let target = to.clone();
    let other = std::thread::spawn(move || down(&target, bytes).map_err(|error| error.to_string()));
    up(&to, bytes)?;
    other.join().map_err(|_| "the other direction panicked")??;
    Ok(())
}

fn same(left: &[u8], right: &Digest) -> Outcome {
    if left == right.as_ref() {
        Ok(())
    } else {
        Err("the bytes were changed on the way".into())
    }
}

/// Datagrams that may be lost of so many: a machine that has no time for it drops some, as every network may.
const LOSSES: u64 = 3;

/// Sends datagrams of many sizes and wants every one back, in order, unchanged.
fn udp(to: &str, count: u64, size: u64) -> Outcome {
    let to: SocketAddr = to.parse()?;
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut buffer = vec![0; 65_536];
    let mut lost = 0;
    let mut last = Vec::new();
    for number in 0..count {
        let len = usize::try_from(1 + number * 37 % size)?;
        let datagram = traffic::bytes(number, len);
        socket.send(&datagram)?;
        loop {
            match socket.recv(&mut buffer) {
                Ok(heard) if buffer.get(..heard) == Some(datagram.as_slice()) => break,
                // An answer that was taken for lost.
                Ok(heard) if lost > 0 && buffer.get(..heard) == Some(last.as_slice()) => {}
                Ok(_) => return Err(format!("datagram {number} came back changed").into()),
                Err(error) if is_late(&error) && lost < LOSSES => {
                    lost += 1;
                    println!("datagram {number} of {len} bytes is sent again");
                    socket.send(&datagram)?;
                }
                Err(error) => {
                    return Err(format!("datagram {number} of {len} bytes: {error}").into());
                }
            }
        }
        last = datagram;
    }
    Ok(())
}

fn is_late(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Asks for many bytes and takes none of them for a while; then all.
fn slow(to: &str, bytes: u64) -> Outcome {
    let mut stream = connect(to)?;
    Bulk::down(bytes).announce(&mut stream)?;
    println!("asked");
    std::thread::sleep(Duration::from_secs(3));
    let (received, heard) = traffic::receive(&mut stream)?;
    if received != bytes {
        return Err(format!("{received} bytes").into());
    }
    same(heard.as_ref(), &traffic::digest(bytes))
}

/// Opens many connections, then uses all of them.
fn many(to: &str, count: u64) -> Outcome {
    let mut streams = Vec::new();
    for number in 0..count {
        streams.push(connect(to).map_err(|error| format!("connection {number}: {error}"))?);
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        Bulk::down(100)
            .announce(stream)
            .map_err(|error| format!("connection {number}: {error}"))?;
    }
    for (number, mut stream) in streams.into_iter().enumerate() {
        let (bytes, heard) = traffic::receive(&mut stream)
            .map_err(|error| format!("connection {number}: {error}"))?;
        if bytes != 100 {
            return Err(format!("connection {number}: {bytes} bytes").into());
        }
        same(heard.as_ref(), &traffic::digest(100))?;
    }
    Ok(())
}

/// Expects a connection to fail, at once, with one of these errors.
fn fails_with(to: &str, kinds: &[ErrorKind]) -> Outcome {
    let began = Instant::now();
    // A connection that is waited for by poll(2) may have lost the reason by then.
    match TcpStream::connect(to) {
        Ok(_) => Err("it connected".into()),
        Err(error) if kinds.contains(&error.kind()) && began.elapsed() < Duration::from_secs(5) => {
            Ok(())
        }
        Err(error) => {
            Err(format!("{error} ({:?}) after {:?}", error.kind(), began.elapsed()).into())
        }
    }
}

/// Sends echo requests and wants each back.
fn ping(to: &str, count: u64) -> Outcome {
    use socket2::{Domain, Protocol, Socket, Type};
    let to = SocketAddr::new(to.parse()?, 0);
    let (domain, protocol, kind) = match to.is_ipv4() {
        true => (Domain::IPV4, Protocol::ICMPV4, 8),
        false => (Domain::IPV6, Protocol::ICMPV6, 128),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    for number in 0..u8::try_from(count)? {
        let mut request = [kind, 0, 0, 0, 0x12, 0x34, 0, number, b'c', b'o', b'r', b'd'];
        // The kernel does it for IPv6 only.
        let sum: u32 = request
            .chunks(2)
            .map(|w| u32::from(w[0]) << 8 | u32::from(w[1]))
            .sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        request[2..4].copy_from_slice(&sum.to_be_bytes());
        socket.send_to(&request, &to.into())?;
        let mut buffer = [0; 2000];
        loop {
            let len = (&socket).read(&mut buffer)?;
            let reply = if to.is_ipv4() {
                &buffer[20..len]
            } else {
                &buffer[..len]
            };
            let wanted = if to.is_ipv4() { 0 } else { 129 };
            if reply.first() == Some(&wanted) && reply[4..] == request[4..] {
                break;
            }
        }
    }
    Ok(())
}

/// How a connection may fail whose exit does not carry it.
const REFUSALS: [ErrorKind; 5] = [
    ErrorKind::ConnectionRefused,
    ErrorKind::ConnectionReset,
    ErrorKind::HostUnreachable,
    ErrorKind::NetworkUnreachable,
    ErrorKind::PermissionDenied,
];

/// Expects that a datagram is refused, at once.
fn refused_datagram(to: &str) -> Outcome {
    let to: SocketAddr = to.parse()?;
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.send(b"anybody")?;
    match socket.recv(&mut [0; 100]) {
        Ok(_) => Err("it was answered".into()),
        Err(error) if REFUSALS.contains(&error.kind()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Seconds until something that was broken must work again.
const PATIENCE: u64 = 20;

/// Loads a little as soon as that works, within so many seconds; each failure must come at once.
fn eventually(to: &str, within: u64) -> Outcome {
    let until = Instant::now() + Duration::from_secs(within);
    loop {
        match get(to, 1000) {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => {
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}

/// Loads until that breaks, within so many seconds; is then refused, at once; and goes on as soon as it can, within so
/// many seconds more.
fn outage(to: &str, seconds: u64, within: u64) -> Outcome {
    let mut stream = connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(seconds)))?;
    Bulk::down(u64::MAX).announce(&mut stream)?;
    let mut buffer = vec![0; 1 << 20];
    stream.read_exact(&mut buffer)?;
    println!("running");
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err("nobody said that it had ended".into());
            }
            Err(_) => break,
        }
    }
    println!("ended");
    fails_with(to, &REFUSALS)?;
    println!("refused");
    eventually(to, within)?;
    println!("back");
    Ok(())
}

/// Sends a datagram every twenty milliseconds and has all of them echoed; tells the longest silence.
fn call(to: &str, seconds: u64) -> Outcome {
    let to: SocketAddr = to.parse()?;
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let (mut heard, mut longest) = (None::<Instant>, Duration::ZERO);
    let mut buffer = [0; 2000];
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        // A refusal while the way changes is no end of the call.
        let _ = socket.send(&[42; 200]);
        let began = Instant::now();
        if socket.recv(&mut buffer).is_ok() {
            match heard {
                None => println!("running"),
                Some(before) => longest = longest.max(before.elapsed()),
            }
            heard = Some(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(20).saturating_sub(began.elapsed()));
    }
    let silent = heard.ok_or("no answer ever came")?.elapsed();
    println!("gap {}", longest.max(silent).as_millis());
    Ok(())
}

/// Sends one datagram and does not wait for anything.
fn send(to: &str, text: &str) -> Outcome {
    let to: SocketAddr = to.parse()?;
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.send_to(text.as_bytes(), to)?;
    Ok(())
}

/// Sends what it can, by UDP and by ever new TCP connections, whatever comes of it.
fn flood(to: &str, seconds: u64) -> Outcome {
    let to: SocketAddr = to.parse()?;
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        for _ in 0..50 {
            // It is the point that sending may fail.
            let _ = socket.send_to(&[7; 200], to);
        }
        if let Ok(mut stream) = TcpStream::connect_timeout(&to, Duration::from_millis(20)) {
            let _ = stream.write_all(&[7; 1000]);
        }
    }
    Ok(())
}
