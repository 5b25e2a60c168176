//! Names, end to end: real clients and servers, and an observer that says what left.

use crate::harness::{cordon, in_lab};
use cordon::kernel::namespace::lab::{Frame, Host, Lab, Observer};
use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// One address of two names, one that nobody names, and one in China.
const SHARED: &str = "198.41.0.4";
const NAMELESS: &str = "199.9.14.201";
const CN: &str = "1.2.4.8";
/// The resolver that is configured.
const RESOLVER: &str = "9.9.9.9";
/// The resolver that the phone asks, which is nobody's.
const ASKED: &str = "8.8.4.4:53";

const POLICY: &str = "version = 1\nname = \"test\"\n[default]\naction = \"block\"\n\
    [[rule]]\nid = \"resolver\"\nip = [\"9.9.9.9\"]\naction = \"allow\"\n\
    [[rule]]\nid = \"bad\"\ndomain = [\".bad.example\"]\naction = \"block\"\non_unknown = \"allow\"\n\
    [[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n\
    [[rule]]\nid = \"good\"\ndomain = [\".example\"]\naction = \"allow\"\n";

/// A phone, a router, the world.
struct Net {
    phone: Host,
    router: Host,
    world: Host,
    directory: tempfile::TempDir,
}

/// The certificate of every server, and its key.
struct Identity {
    pem: String,
    server: Arc<rustls::ServerConfig>,
}

fn identity() -> Identity {
    let names = ["www.good.example", "www.bad.example", "dns.example"];
    let made = rcgen::generate_simple_self_signed(names.map(String::from)).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    Identity {
        pem: made.cert.pem(),
        server: Arc::new(server),
    }
}

fn net(lab: &Lab) -> Net {
    let [phone, router, world] = ["phone", "router", "world"].map(|name| lab.host(name).unwrap());
    lab.wire((&phone, "wlan"), (&router, "lan")).unwrap();
    lab.wire((&router, "wan"), (&world, "net")).unwrap();
    for (host, link, address) in [
        (&phone, "wlan", "192.168.7.2/24"),
        (&router, "lan", "192.168.7.1/24"),
        (&router, "wan", "203.0.113.1/24"),
        (&world, "net", "203.0.113.2/24"),
    ] {
        host.address(link, address).unwrap();
    }
    for address in [SHARED, NAMELESS, CN, RESOLVER] {
        world.address("net", &format!("{address}/32")).unwrap();
    }
    phone.default_route("wlan", "192.168.7.1").unwrap();
    router.default_route("wan", "203.0.113.2").unwrap();
    world
        .route("192.168.7.0/24", "net", Some("203.0.113.1"))
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let identity = identity();
    fs::write(directory.path().join("ca.pem"), &identity.pem).unwrap();
    world
        .run(|| {
            for address in [SHARED, NAMELESS, CN] {
                web(&format!("{address}:443"), Arc::clone(&identity.server))?;
            }
            resolver(&identity.server)
        })
        .unwrap();
    Net {
        phone,
        router,
        world,
        directory,
    }
}

/// Answers each connection with a few bytes, over TLS.
fn web(at: &str, config: Arc<rustls::ServerConfig>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(at)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || {
                let mut tls = tls(stream, config);
                let mut request = [0; 4096];
                // A client that goes away is its own business.
                let _ = tls.read(&mut request);
                let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
                tls.conn.send_close_notify();
                let _ = tls.flush();
            });
        }
    });
    Ok(())
}

fn tls(
    stream: TcpStream,
    config: Arc<rustls::ServerConfig>,
) -> rustls::StreamOwned<rustls::ServerConnection, TcpStream> {
    rustls::StreamOwned::new(rustls::ServerConnection::new(config).unwrap(), stream)
}

/// Answers questions in the clear, by UDP what is short and by TCP all, and over TLS.
fn resolver(config: &Arc<rustls::ServerConfig>) -> anyhow::Result<()> {
    let socket = UdpSocket::bind((RESOLVER, 53))?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let mut bytes = answer(&buffer[..len]);
            if bytes.len() > 1232 {
                let mut short = Message::from_vec(&bytes).unwrap();
                short.answers.clear();
                short.metadata.truncation = true;
                bytes = short.to_vec().unwrap();
            }
            let _ = socket.send_to(&bytes, from);
        }
    });
    let listener = TcpListener::bind((RESOLVER, 53))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(|| converse(stream, false));
        }
    });
    let listener = TcpListener::bind((RESOLVER, 853))?;
    let config = Arc::clone(config);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let stream = tls(stream, Arc::clone(&config));
            thread::spawn(move || converse(stream, true));
        }
    });
    Ok(())
}

/// Answers questions, each behind its length.
fn converse(mut stream: impl Read + Write, padded: bool) -> std::io::Result<()> {
    let mut length = [0; 2];
    while stream.read_exact(&mut length).is_ok() {
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question)?;
        assert!(!padded || question.len() % 128 == 0, "queries are padded");
        let answer = answer(&question);
        let length = u16::try_from(answer.len()).unwrap_or(0).to_be_bytes();
        stream.write_all(&[&length[..], &answer].concat())?;
        stream.flush()?;
    }
    Ok(())
}

fn answer(question: &[u8]) -> Vec<u8> {
    let question = Message::from_vec(question).unwrap();
    let query = question.queries[0].clone();
    let mut message = Message::response(question.metadata.id, OpCode::Query);
    let asked = query.name().clone();
    let add = |message: &mut Message, name: &Name, address: &str| {
        let data = RData::A(A(address.parse().unwrap()));
        message.add_answer(Record::from_rdata(name.clone(), 60, data));
    };
    let addresses: &[&str] = match asked.to_ascii().as_str() {
        "rebind.example." => &["192.168.7.1"],
        "mixed.example." => &[CN, SHARED],
        "large.example." => &[SHARED; 300],
        "chain.example." => {
            let link = |n: usize| match n {
                0 => asked.clone(),
                n => Name::from_ascii(format!("n{n}.example.")).unwrap(),
            };
            for n in 0..50 {
                let alias = RData::CNAME(CNAME(link(n + 1)));
                message.add_answer(Record::from_rdata(link(n), 60, alias));
            }
            add(&mut message, &link(50), SHARED);
            &[]
        }
        _ => &[SHARED],
    };
    if query.query_type() == RecordType::A {
        for address in addresses {
            add(&mut message, &asked, address);
        }
    }
    message.add_query(query);
    message.to_vec().unwrap()
}

impl Net {
    /// Starts the daemon on the router and waits until it says that the gate is closed.
    fn start(&self, dns: &str) -> Child {
        let policy = self.directory.path().join("policy.toml");
        fs::write(&policy, POLICY).unwrap();
        let config = self.directory.path().join("cordon.toml");
        let events = self.directory.path().join("events.jsonl");
        let text = format!(
            "policy = {policy:?}\n[link]\ninside = [\"lan\"]\n[events]\nfile = {events:?}\n[dns]\n{dns}\n"
        );
        fs::write(&config, text).unwrap();
        self.router
            .run(|| {
                let mut child = Command::new(cordon())
                    .args(["run", "--config"])
                    .arg(&config)
                    .stderr(Stdio::piped())
                    .spawn()?;
                let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
                let mut said = String::new();
                while !said.contains("the gate is closed") {
                    match lines.next() {
                        Some(line) => said.push_str(&line?),
                        None => panic!("the daemon ended: {said}"),
                    }
                }
                thread::spawn(move || lines.for_each(drop));
                Ok(child)
            })
            .unwrap()
    }

    /// Loads a page by a name, from an address that the client was told of by hand.
    fn curl(&self, name: &str, address: &str, more: &[&str]) -> Output {
        self.phone
            .run(|| {
                Ok(Command::new("/usr/bin/curl")
                    .args(["-sS", "--insecure", "--max-time", "8", "--resolve"])
                    .arg(format!("{name}:443:{address}"))
                    .args(more)
                    .arg(format!("https://{name}/"))
                    .output()?)
            })
            .unwrap()
    }

    fn ask(&self, name: &str, payload: Option<u16>, by_tcp: bool) -> Message {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        let name = Name::from_ascii(name).unwrap();
        message.add_query(Query::query(name, RecordType::A));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        let bytes = message.to_vec().unwrap();
        let answer = self.phone.run(|| {
            if by_tcp {
                let mut stream = TcpStream::connect(ASKED)?;
                stream.set_read_timeout(Some(Duration::from_secs(8)))?;
                let length = u16::try_from(bytes.len())?.to_be_bytes();
                stream.write_all(&[&length[..], &bytes].concat())?;
                let mut length = [0; 2];
                stream.read_exact(&mut length)?;
                let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut answer)?;
                return Ok(answer);
            }
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(ASKED)?;
            socket.set_read_timeout(Some(Duration::from_secs(8)))?;
            socket.send(&bytes)?;
            let mut buffer = vec![0; 65_536];
            let len = socket.recv(&mut buffer)?;
            buffer.truncate(len);
            Ok(buffer)
        });
        Message::from_vec(&answer.unwrap()).unwrap()
    }

    fn events(&self) -> String {
        fs::read_to_string(self.directory.path().join("events.jsonl")).unwrap()
    }
}

fn end(mut child: Child) {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}

fn loaded(output: &Output) -> bool {
    output.status.success() && output.stdout == b"hello"
}

fn addresses(message: &Message) -> Vec<String> {
    let address = |record: &Record| {
        if let RData::A(address) = &record.data {
            Some(address.0.to_string())
        } else {
            None
        }
    };
    message.answers.iter().filter_map(address).collect()
}

fn goes_to(frame: &Frame, address: &str) -> bool {
    let address: std::net::Ipv4Addr = address.parse().unwrap();
    frame.ethertype == 0x0800 && frame.bytes.get(16..20) == Some(&address.octets())
}

fn contains(frame: &Frame, text: &[u8]) -> bool {
    frame.bytes.windows(text.len()).any(|window| window == text)
}

#[test]
fn pages_are_loaded_by_their_names_and_nothing_of_others_leaves() {
    in_lab(|lab| {
        let net = net(lab);
        let daemon = net.start(&format!("upstreams = [\"{RESOLVER}\"]"));
        let observer = Observer::on(&net.world, "net").unwrap();
        // An address that no answer gave, whatever name is claimed for it: not even a SYN.
        assert!(!loaded(&net.curl("www.good.example", NAMELESS, &[])));
        assert!(!loaded(&net.curl("www.good.example", SHARED, &[])));
        assert!(!loaded(&net.curl("www.good.example", CN, &[])));
        let early = observer.finish().unwrap();
        let to_any = |frame: &&Frame| {
            [SHARED, NAMELESS, CN]
                .iter()
                .any(|address| goes_to(frame, address))
        };
        assert_eq!(
            (early.missed, early.kept.iter().filter(to_any).count()),
            (0, 0)
        );

        let observer = Observer::on(&net.world, "net").unwrap();
        assert_eq!(
            addresses(&net.ask("www.good.example.", None, false)),
            [SHARED]
        );
        let page = net.curl("www.good.example", SHARED, &[]);
        assert!(loaded(&page), "{}", String::from_utf8_lossy(&page.stderr));
        // The other name at the same address, and names that are blocked are not even asked for.
        assert!(!loaded(&net.curl("www.bad.example", SHARED, &[])));
        let blocked = net.ask("www.bad.example.", None, false);
        assert_eq!(blocked.metadata.response_code, ResponseCode::NXDomain);
        let seen = observer.finish().unwrap();
        assert_eq!(seen.missed, 0);
        let told = |text: &[u8]| {
            seen.kept
                .iter()
                .filter(|frame| contains(frame, text))
                .count()
        };
        assert!(told(b"\x03www\x04good") > 0 && told(b"www.good.example") > 0);
        assert_eq!(told(b"\x03bad\x07example") + told(b"bad.example"), 0);
        assert!(!seen.kept.iter().any(|frame| goes_to(frame, "8.8.4.4")));
        assert!(
            net.events().contains("\"end\":\"shown\""),
            "{}",
            net.events()
        );
        end(daemon);
    });
}

#[test]
fn answers_are_judged_and_come_whole_by_tcp() {
    in_lab(|lab| {
        let net = net(lab);
        let daemon = net.start(&format!("upstreams = [\"{RESOLVER}\"]"));
        assert_eq!(addresses(&net.ask("mixed.example.", None, false)), [SHARED]);
        let rebound = net.ask("rebind.example.", None, false);
        assert_eq!(rebound.metadata.response_code, ResponseCode::Refused);
        assert!(rebound.answers.is_empty());
        let cut = net.ask("large.example.", Some(65_535), false);
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        assert_eq!(net.ask("large.example.", None, true).answers.len(), 300);
        let chain = net.ask("chain.example.", None, true);
        assert_eq!(
            (chain.answers.len(), addresses(&chain)),
            (51, vec![SHARED.to_owned()])
        );
        // The address is known under the name that was asked, not by its aliases alone.
        assert!(loaded(&net.curl("chain.example", SHARED, &[])));
        end(daemon);
    });
}

#[test]
fn over_tls_no_question_leaves_in_the_clear_and_none_goes_to_a_stranger() {
    in_lab(|lab| {
        let net = net(lab);
        let ca = net.directory.path().join("ca.pem");
        let upstream =
            |name: &str| format!("upstreams = [\"tls://{RESOLVER}#{name}\"]\nca = {ca:?}");
        let observer = Observer::on(&net.world, "net").unwrap();
        let daemon = net.start(&upstream("dns.example"));
        assert_eq!(
            addresses(&net.ask("www.good.example.", None, false)),
            [SHARED]
        );
        end(daemon);
        // A certificate of another name: no answer, and nothing asked in another way.
        let daemon = net.start(&upstream("other.example"));
        let failed = net.ask("www.good.example.", None, false);
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
        end(daemon);
        let seen = observer.finish().unwrap();
        let clear = |frame: &&Frame| contains(frame, b"\x04good\x07example");
        assert_eq!(
            (seen.missed, seen.kept.iter().filter(clear).count()),
            (0, 0)
        );
    });
}
