//! The load of the lab: a server, and clients that print one measured number (or a few) on a line.
//!
//! `load serve ADDRESS…` answers until it is killed. `load up|down ADDRESS STREAMS SECONDS` prints megabits a second,
//! `put ADDRESS SECONDS` likewise of one stream up that is not ended first,
//! `crr ADDRESS SECONDS` connections a second, `rr ADDRESS SECONDS` the median and the 99th percentile of a ping-pong of
//! 128 bytes in microseconds, `udp ADDRESS BYTES` the most datagrams a second of which fewer than 0.5 % are lost, `idle
//! ADDRESS FLOWS SECONDS` opens connections, prints the seconds it took, and holds them; `idle-udp` likewise. Every
//! byte that arrives is compared with the one that was sent. `load relay ADDRESS [TO]` passes connections on, without TO
//! as a SOCKS5 proxy.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a tool of the project's own measurements"
)]

mod relay;

use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use std::{env, thread};

/// What streams carry again and again: a prime number of bytes, so that a shift by any power of two shows.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_u32;
    let byte = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..PRIME).map(byte).collect()
});
const PRIME: usize = 131_071;
const CHUNK: usize = 128 << 10;
const AT_A_TIME: usize = 32;
/// From one ping to the next.
const PACE: Duration = Duration::from_millis(1);
/// Datagrams that say so are counted; this one asks for the count.
const ASK: &[u8] = b"how many?";

fn main() -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u64>().unwrap();
    match words[..] {
        ["serve", ref at @ ..] => serve(at),
        ["relay", here] => relay::relay(at(here), None),
        ["relay", here, to] => relay::relay(at(here), Some(at(to))),
        [way @ ("up" | "down"), to, streams, seconds] => {
            let bits = bulk(way == "up", at(to), number(streams), number(seconds))?;
            println!("{:.0}", bits / 1e6);
            Ok(())
        }
        ["put", to, seconds] => {
            println!("{:.0}", put(at(to), number(seconds))? / 1e6);
            Ok(())
        }
        ["crr", to, seconds] => crr(at(to), number(seconds)),
        ["rr", to, seconds] => ping_pong(at(to), number(seconds)),
        ["udp", to, bytes] => datagrams(at(to), number(bytes) as usize),
        ["idle", to, flows, seconds] => idle(at(to), number(flows), number(seconds)),
        ["idle-udp", to, flows, seconds] => idle_udp(at(to), number(flows), number(seconds)),
        _ => Err(io::Error::other("usage: see the head of the file")),
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// The bytes of the pattern from `offset` of a stream, as far as they lie in one piece.
fn pattern(offset: u64) -> &'static [u8] {
    &PATTERN[(offset % PRIME as u64) as usize..]
}

/// Sends the pattern until `deadline`, then FIN.
fn send(stream: &mut TcpStream, deadline: Instant) -> io::Result<()> {
    let twice = PATTERN.repeat(2);
    let mut offset = 0;
    while Instant::now() < deadline {
        let from = offset % PRIME;
        offset += stream.write(&twice[from..from + CHUNK.min(PRIME)])?;
    }
    stream.shutdown(Shutdown::Write)
}

/// Receives to the end; how many bytes, each of which was right.
fn receive(stream: &mut TcpStream) -> io::Result<u64> {
    let (mut buffer, mut offset) = (vec![0; CHUNK], 0);
    loop {
        let len = stream.read(&mut buffer)?;
        if len == 0 {
            return Ok(offset);
        }
        let mut rest = &buffer[..len];
        while !rest.is_empty() {
            let right = pattern(offset);
            let len = rest.len().min(right.len());
            if rest[..len] != right[..len] {
                return Err(io::Error::other("a byte that was not sent"));
            }
            (rest, offset) = (&rest[len..], offset + len as u64);
        }
    }
}

/// Receives until nothing more comes after so many seconds; how many bytes, and from the first to the last of them how long.
fn receive_for(stream: &mut TcpStream, seconds: u64) -> io::Result<(u64, Duration)> {
    let (mut buffer, mut bytes) = (vec![0; CHUNK], 0);
    let began = Instant::now();
    let mut last = began;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    while let Ok(len @ 1..) = stream.read(&mut buffer) {
        (bytes, last) = (bytes + len as u64, Instant::now());
        if last - began > Duration::from_secs(seconds + 10) {
            break;
        }
    }
    Ok((bytes, last - began))
}

fn serve(addresses: &[&str]) -> io::Result<()> {
    for address in addresses {
        let socket = UdpSocket::bind(at(address))?;
        SockRef::from(&socket).set_recv_buffer_size(8 << 20)?;
        thread::spawn(move || count(&socket));
        let listener = TcpListener::bind(at(address))?;
        SockRef::from(&listener).listen(4096)?;
        thread::spawn(move || accept(listener).unwrap());
    }
    println!("ready");
    loop {
        thread::park();
    }
}

/// What a client wants, for how many seconds, and bytes that are the beginning of no protocol.
fn wish(kind: u8, seconds: u64) -> [u8; 16] {
    let mut wish = [0xe7; 16];
    (wish[14], wish[15]) = (seconds as u8, kind);
    wish
}

/// Answers short connections in one thread, and gives each long one a thread of its own.
fn accept(listener: TcpListener) -> io::Result<()> {
    const NEW: Token = Token(usize::MAX);
    listener.set_nonblocking(true)?;
    let mut listener = mio::net::TcpListener::from_std(listener);
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(256));
    poll.registry()
        .register(&mut listener, NEW, Interest::READABLE)?;
    let mut streams = Vec::<Option<mio::net::TcpStream>>::new();
    let mut free = Vec::new();
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == NEW {
                while let Ok((mut stream, _)) = listener.accept() {
                    let index = free.pop().unwrap_or(streams.len());
                    poll.registry()
                        .register(&mut stream, Token(index), Interest::READABLE)?;
                    streams.resize_with(streams.len().max(index + 1), || None);
                    streams[index] = Some(stream);
                }
                continue;
            }
            let index = event.token().0;
            if let Some(stream) = streams[index].take() {
                if let Some(waits) = answer(&poll, stream) {
                    streams[index] = Some(waits);
                } else {
                    free.push(index);
                }
            }
        }
    }
}

/// A client that breaks off says so itself. The stream comes back if it has not said anything.
fn answer(poll: &Poll, mut stream: mio::net::TcpStream) -> Option<mio::net::TcpStream> {
    let mut wish = [0; 16];
    match stream.read(&mut wish) {
        Ok(16) if wish[15] == b'c' => drop(stream.write(b"c")),
        Ok(16) => {
            let _ = poll.registry().deregister(&mut stream);
            let stream = TcpStream::from(stream);
            let _ = stream.set_nonblocking(false);
            let thread = thread::Builder::new().stack_size(128 << 10);
            let _ = thread.spawn(move || long(wish[15], wish[14].into(), stream));
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Some(stream),
        _ => {}
    }
    None
}

fn long(kind: u8, seconds: u64, mut stream: TcpStream) -> io::Result<()> {
    match kind {
        b'u' => {
            let bytes = receive(&mut stream)?;
            stream.write_all(&bytes.to_be_bytes())
        }
        b'p' => {
            let (bytes, took) = receive_for(&mut stream, seconds)?;
            stream.write_all(&bytes.to_be_bytes())?;
            stream.write_all(&(took.as_nanos() as u64).to_be_bytes())
        }
        b'd' => {
            let until = Instant::now() + Duration::from_secs(seconds);
            send(&mut stream, until)
        }
        _ => {
            stream.set_nodelay(true)?;
            let mut buffer = [0; 128];
            loop {
                stream.read_exact(&mut buffer)?;
                stream.write_all(&buffer)?;
            }
        }
    }
}

/// Counts datagrams; tells and begins anew when asked. Everything else of up to 16 bytes comes back.
fn count(socket: &UdpSocket) {
    let (mut buffer, mut counted) = ([0; 2048], 0_u64);
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        if &buffer[..len] == ASK {
            let _ = socket.send_to(&std::mem::take(&mut counted).to_be_bytes(), from);
        } else if len <= 16 {
            let _ = socket.send_to(&buffer[..len], from);
        } else {
            counted += 1;
        }
    }
}

fn connect(to: SocketAddr, wish: [u8; 16]) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(10))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.write_all(&wish)?;
    Ok(stream)
}

/// Bits a second.
fn bulk(up: bool, to: SocketAddr, streams: u64, seconds: u64) -> io::Result<f64> {
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds);
    let one = move || {
        if up {
            let mut stream = connect(to, wish(b'u', seconds))?;
            send(&mut stream, until)?;
            let mut bytes = [0; 8];
            stream.read_exact(&mut bytes)?;
            Ok(u64::from_be_bytes(bytes))
        } else {
            let mut stream = connect(to, wish(b'd', seconds))?;
            receive(&mut stream)
        }
    };
    let threads: Vec<_> = (0..streams).map(|_| thread::spawn(one)).collect();
    let mut bytes = 0;
    for thread in threads {
        bytes += thread.join().unwrap().map_err(|error: io::Error| error)?;
    }
    Ok(bytes as f64 * 8.0 / began.elapsed().as_secs_f64())
}

/// Bits a second of one stream, without a FIN before the other end has counted: some proxies end both ways with one.
fn put(to: SocketAddr, seconds: u64) -> io::Result<f64> {
    let mut stream = connect(to, wish(b'p', seconds))?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let twice = PATTERN.repeat(2);
    let mut offset = 0;
    while Instant::now() < until {
        let from = offset % PRIME;
        offset += stream.write(&twice[from..from + CHUNK.min(PRIME)])?;
    }
    let mut said = [[0; 8]; 2];
    for number in &mut said {
        stream.read_exact(number)?;
    }
    let [bytes, nanos] = said.map(u64::from_be_bytes);
    Ok(bytes as f64 * 8e9 / nanos.max(1) as f64)
}

/// Connections that ask one byte and are closed by the server, so many at a time, all by one thread.
fn crr(to: SocketAddr, seconds: u64) -> io::Result<()> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(AT_A_TIME));
    let mut asking = Vec::new();
    for index in 0..AT_A_TIME {
        asking.push(Asking::new(&poll, index, to)?);
    }
    let mut done = 0_u64;
    while Instant::now() < until {
        poll.poll(&mut events, Some(Duration::from_secs(10)))?;
        if events.is_empty() {
            return Err(io::Error::other("connections stand still"));
        }
        for event in &events {
            let index = event.token().0;
            if asking[index].go_on(event.is_writable(), seconds)? {
                done += 1;
                asking[index] = Asking::new(&poll, index, to)?;
            }
        }
    }
    println!("{}", done / seconds);
    Ok(())
}

/// A connection that asks one byte.
struct Asking {
    stream: mio::net::TcpStream,
    asked: bool,
    answered: bool,
}

impl Asking {
    fn new(poll: &Poll, index: usize, to: SocketAddr) -> io::Result<Self> {
        let mut stream = mio::net::TcpStream::connect(to)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut stream, Token(index), interest)?;
        Ok(Self {
            stream,
            asked: false,
            answered: false,
        })
    }

    /// True at its end.
    fn go_on(&mut self, writable: bool, seconds: u64) -> io::Result<bool> {
        if writable && !self.asked {
            self.stream.write_all(&wish(b'c', seconds))?;
            self.asked = true;
        }
        loop {
            let mut answer = [0; 8];
            match self.stream.read(&mut answer) {
                Ok(1) if answer[0] == b'c' && !self.answered => self.answered = true,
                Ok(0) if self.answered => return Ok(true),
                Ok(_) => return Err(io::Error::other("a wrong answer")),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }
}

fn ping_pong(to: SocketAddr, seconds: u64) -> io::Result<()> {
    let mut stream = connect(to, wish(b'r', seconds))?;
    stream.set_nodelay(true)?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut times, mut buffer) = (Vec::new(), [7; 128]);
    while Instant::now() < until {
        let began = Instant::now();
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer)?;
        times.push(began.elapsed());
        thread::sleep(PACE);
    }
    times.sort_unstable();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e6;
    println!("{:.1} {:.1}", at(50), at(99));
    Ok(())
}

/// A second at each rate, the next one higher or lower by what was lost.
fn datagrams(to: SocketAddr, bytes: usize) -> io::Result<()> {
    let (mut best, mut low, mut high) = (0.0_f64, 0.0_f64, 2e6_f64);
    let mut rate = 100_000.0;
    for _ in 0..12 {
        let (sent, arrived) = paced(to, bytes, rate)?;
        let slow = sent < rate * 0.9;
        if arrived >= sent * 0.995 {
            (low, best) = (rate, best.max(arrived));
            if slow {
                // The sender does no more: neither does the path.
                break;
            }
        } else {
            high = rate;
        }
        rate = if high > 1.9e6 {
            rate * 1.5
        } else {
            f64::midpoint(low, high)
        };
        if high - low < high * 0.03 {
            break;
        }
    }
    println!("{best:.0}");
    Ok(())
}

/// Datagrams sent and arrived in a second.
fn paced(to: SocketAddr, bytes: usize, rate: f64) -> io::Result<(f64, f64)> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    ask(&socket)?;
    let payload = vec![0x5a; bytes];
    let began = Instant::now();
    let mut sent = 0.0;
    while began.elapsed() < Duration::from_secs(1) {
        let due = began.elapsed().as_secs_f64() * rate;
        if sent >= due {
            thread::sleep(Duration::from_micros(50));
            continue;
        }
        for _ in 0..16 {
            sent += f64::from(u8::from(socket.send(&payload).is_ok()));
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    thread::sleep(Duration::from_millis(200));
    Ok((sent / seconds, ask(&socket)? as f64 / seconds))
}

fn ask(socket: &UdpSocket) -> io::Result<u64> {
    for _ in 0..5 {
        socket.send(ASK)?;
        let mut count = [0; 8];
        match socket.recv(&mut count) {
            Ok(_) => return Ok(u64::from_be_bytes(count)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("the server does not answer"))
}

fn idle(to: SocketAddr, flows: u64, seconds: u64) -> io::Result<()> {
    let began = Instant::now();
    let mut streams = Vec::new();
    for _ in 0..flows {
        let mut stream = connect(to, wish(b'r', seconds))?;
        let mut buffer = [9; 128];
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer)?;
        streams.push(stream);
    }
    println!("{:.2}", began.elapsed().as_secs_f64());
    thread::sleep(Duration::from_secs(seconds));
    Ok(())
}

fn idle_udp(to: SocketAddr, flows: u64, seconds: u64) -> io::Result<()> {
    let began = Instant::now();
    let mut sockets = Vec::new();
    for _ in 0..flows {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        let mut buffer = [0; 16];
        let echoed =
            (0..5).any(|_| socket.send(b"idle").is_ok() && socket.recv(&mut buffer).is_ok());
        if !echoed {
            return Err(io::Error::other("no answer"));
        }
        sockets.push(socket);
    }
    println!("{:.2}", began.elapsed().as_secs_f64());
    thread::sleep(Duration::from_secs(seconds));
    Ok(())
}
