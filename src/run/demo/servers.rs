//! The servers: each answers what it is asked, and knows nothing of the gate.

use super::cast::{Role, SERVERS};
use anyhow::{Context, Result};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};

/// Bytes of the API's answer.
pub(super) const API_ANSWER: usize = 200_000;

/// Starts all servers on this thread's host. They end with the process.
pub(super) fn start() -> Result<()> {
    for server in SERVERS.iter().filter(|server| server.role != Role::Exit) {
        let at = server.socket().context("the cast has a bad address")?;
        let udp = UdpSocket::bind(at).with_context(|| format!("no server at {at}"))?;
        let answer = if server.role == Role::Resolver {
            resolve
        } else {
            echo
        };
        std::thread::Builder::new().spawn(move || serve(&udp, answer))?;
        if server.role == Role::Api {
            let listener = TcpListener::bind(at).with_context(|| format!("no server at {at}"))?;
            std::thread::Builder::new().spawn(move || {
                for stream in listener.incoming().flatten() {
                    // A client that goes away is its own business.
                    let _ = api(stream);
                }
            })?;
        }
    }
    Ok(())
}

fn serve(socket: &UdpSocket, answer: fn(&[u8]) -> Option<Vec<u8>>) {
    let mut buffer = [0; 2048];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        if let Some(answer) = buffer.get(..len).and_then(answer) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn echo(message: &[u8]) -> Option<Vec<u8>> {
    Some(message.to_vec())
}

/// Answers a query for the address of a name of the cast.
fn resolve(query: &[u8]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?.clone();
    let name = question.name().to_ascii();
    let address = SERVERS
        .iter()
        .find(|server| {
            server
                .name
                .is_some_and(|known| name.trim_end_matches('.').eq_ignore_ascii_case(known))
        })
        .and_then(|server| server.address.parse().ok());
    let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
    match (address, question.query_type()) {
        (Some(address), RecordType::A) => {
            answer.add_answer(Record::from_rdata(
                question.name().clone(),
                60,
                RData::A(A(address)),
            ));
        }
        (Some(_), _) => {}
        (None, _) => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    answer.add_query(question);
    answer.to_vec().ok()
}

/// Takes a request and answers with bytes that look random, as encrypted ones do.
fn api(mut stream: TcpStream) -> std::io::Result<()> {
    let mut request = [0; 512];
    stream.read_exact(&mut request)?;
    stream.write_all(&noise(u64::from(request[7]), API_ANSWER))
}

/// Bytes that look encrypted: what an xorshift generator makes of a seed.
pub(super) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}
