//! The servers of the end-to-end tests.

use crate::traffic::{self, Bulk};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;

/// Answers bulk connections, on the host of the calling thread, until the process ends.
pub(crate) fn bulk(at: &str) {
    let listener = TcpListener::bind(at).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = stream;
                // A client that breaks off is the client's affair; its test says so.
                let _ = answer(&mut stream);
            });
        }
    });
}

fn answer(stream: &mut TcpStream) -> std::io::Result<()> {
    let bulk = Bulk::read(stream)?;
    if bulk.to_server {
        let limit = if bulk.to_the_end {
            u64::MAX
        } else {
            bulk.bytes
        };
        let (_, digest) = traffic::receive_up_to(stream, limit)?;
        stream.write_all(digest.as_ref())
    } else {
        traffic::send(stream, bulk.bytes).map(|_| ())
    }
}

/// Sends every datagram back.
pub(crate) fn echo(at: &str) {
    let socket = UdpSocket::bind(at).unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
        }
    });
}

/// Tells whoever asks the port it sees them by.
pub(crate) fn mirror(at: &str) {
    let socket = UdpSocket::bind(at).unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(from.port().to_string().as_bytes(), from);
        }
    });
}

/// A web server that tells whoever asks the address it sees them by.
pub(crate) fn who_am_i(at: &str) {
    let listener = TcpListener::bind(at).unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = BufReader::new(&stream).lines();
            while request
                .next()
                .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
            {}
            let from = stream.peer_addr().unwrap().ip();
            let body = format!("{{\"ip\": \"{from}\"}}\n");
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}");
        }
    });
}

/// A web server: `GET /N` is N bytes, `PUT` is answered with the digest of the body in hexadecimal.
pub(crate) fn web(at: &str) {
    let listener = TcpListener::bind(at).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = http(stream);
            });
        }
    });
}

fn http(stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let (mut request, mut length) = (String::new(), 0);
    reader.read_line(&mut request)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        if line == "expect: 100-continue" {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut words = request.split(' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    if method == "PUT" {
        let (_, digest) = traffic::receive_up_to(&mut reader.by_ref(), length)?;
        let digest = hex(digest.as_ref());
        return write!(
            writer,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{digest}",
            digest.len()
        );
    }
    let bytes: u64 = path.trim_start_matches('/').parse().unwrap_or(0);
    write!(
        writer,
        "HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nConnection: close\r\n\r\n"
    )?;
    traffic::send(&mut writer, bytes).map(|_| ())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
