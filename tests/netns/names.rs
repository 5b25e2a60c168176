//! Names, end to end: real clients and servers, and an observer that says what left.

use crate::gate::launch;
use crate::harness::in_lab;
use cordon::kernel::namespace::lab::{Frame, Host, Lab, Observer};
use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Output};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// One address of two names, one that nobody names, and one in China.
pub(crate) const SHARED: &str = "198.41.0.4";
pub(crate) const NAMELESS: &str = "199.9.14.201";
pub(crate) const CN: &str = "1.2.4.8";
/// The resolver that is configured.
pub(crate) const RESOLVER: &str = "9.9.9.9";
/// A well-known one that answers over HTTPS.
pub(crate) const DOH: &str = "8.8.8.8";
/// The resolver that the phone asks, which is nobody's.
const ASKED: &str = "8.8.4.4:53";

pub(crate) const POLICY: &str = "version = 1\nname = \"test\"\n[default]\naction = \"block\"\n\
    [[rule]]\nid = \"resolver\"\nip = [\"9.9.9.9\"]\naction = \"allow\"\n\
    [[rule]]\nid = \"bad\"\ndomain = [\".bad.example\"]\naction = \"block\"\non_unknown = \"allow\"\n\
    [[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n\
    [[rule]]\nid = \"good\"\ndomain = [\".example\"]\naction = \"allow\"\n";

/// A phone, a router, the world.
pub(crate) struct Net {
    pub(crate) phone: Host,
    pub(crate) router: Host,
    pub(crate) world: Host,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) identity: Identity,
}

/// The certificate of every server, and its key.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) pem: String,
    pub(crate) server: Arc<rustls::ServerConfig>,
    /// The same, for servers that make their own configuration.
    pub(crate) certificate: Arc<rustls::sign::SingleCertAndKey>,
}

pub(crate) fn identity() -> Identity {
    let names = ["www.good.example", "www.bad.example", "dns.example"];
    let made = rcgen::generate_simple_self_signed(names.map(String::from)).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![made.cert.der().clone()];
    let certified = rustls::sign::CertifiedKey::from_der(chain, key.clone_key(), &provider);
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    Identity {
        pem: made.cert.pem(),
        server: Arc::new(server),
        certificate: Arc::new(certified.unwrap().into()),
    }
}

pub(crate) fn net(lab: &Lab) -> Net {
    wired(lab, |lab, phone, router| {
        lab.wire((phone, "wlan"), (router, "lan")).unwrap();
    })
}

/// The same with whatever `cable` lays between the phone's `wlan` and the router's `lan`.
pub(crate) fn wired(lab: &Lab, cable: impl FnOnce(&Lab, &Host, &Host)) -> Net {
    let [phone, router, world] = ["phone", "router", "world"].map(|name| lab.host(name).unwrap());
    cable(lab, &phone, &router);
    lab.wire((&router, "wan"), (&world, "net")).unwrap();
    for (host, link, address) in [
        (&phone, "wlan", "192.168.7.2/24"),
        (&router, "lan", "192.168.7.1/24"),
        (&router, "wan", "203.0.113.1/24"),
        (&world, "net", "203.0.113.2/24"),
    ] {
        host.address(link, address).unwrap();
    }
    for address in [SHARED, NAMELESS, CN, RESOLVER, DOH] {
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
            for address in [SHARED, NAMELESS, CN, DOH] {
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
        identity,
    }
}

/// Answers each connection with a few bytes, or what a question that is posted asks for, over TLS.
fn web(at: &str, config: Arc<rustls::ServerConfig>) -> anyhow::Result<()> {
    let listener = TcpListener::bind(at)?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || {
                let mut tls = tls(stream, config);
                let (kind, body) = match posted(&mut tls) {
                    Some(question) => ("application/dns-message", answer(&question)),
                    None => ("text/plain", b"hello".to_vec()),
                };
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                // A client that goes away is its own business.
                let _ = tls.write_all(&[head.as_bytes(), &body].concat());
                tls.conn.send_close_notify();
                let _ = tls.flush();
            });
        }
    });
    Ok(())
}

/// Reads a request; what it posts.
fn posted(stream: &mut impl Read) -> Option<Vec<u8>> {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&buffer[..read]);
        let end = request.windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end.map(|at| at + 4) else {
            continue;
        };
        let head = String::from_utf8_lossy(&request[..end]).to_lowercase();
        let (_, rest) = head.split_once("content-length: ")?;
        let length: usize = rest.split("\r\n").next()?.parse().ok()?;
        if request.len() >= end + length {
            return Some(request[end..end + length].to_vec());
        }
    }
}

pub(crate) fn tls(
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

pub(crate) fn answer(question: &[u8]) -> Vec<u8> {
    let question = Message::from_vec(question).unwrap();
    let query = question.queries[0].clone();
    let mut message = Message::response(question.metadata.id, OpCode::Query);
    let asked = query.name().clone();
    let add = |message: &mut Message, name: &Name, address: &str| {
        let data = RData::A(A(address.parse().unwrap()));
        message.add_answer(Record::from_rdata(name.clone(), 60, data));
    };
    let addresses: &[&str] = match asked.to_lowercase().to_ascii().as_str() {
        "rebind.example." => &["192.168.7.1"],
        "mixed.example." => &[CN, SHARED],
        "large.example." => &[SHARED; 300],
        "loop.example." => return looped(&question),
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

/// An answer in which a name is compressed by pointing to itself.
fn looped(question: &Message) -> Vec<u8> {
    let mut message = Message::response(question.metadata.id, OpCode::Query);
    message.add_query(question.queries[0].clone());
    let mut bytes = message.to_vec().unwrap();
    bytes[7] = 1;
    let at = u16::try_from(bytes.len()).unwrap();
    bytes.extend((0xc000 | at).to_be_bytes());
    bytes.extend([0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 198, 41, 0, 4]);
    bytes
}

impl Net {
    /// Starts the daemon on the router and waits until it says that the gate is closed.
    pub(crate) fn start(&self, dns: &str) -> Child {
        self.start_with(POLICY, "", dns)
    }

    /// The same under another policy, and with more to say of the link.
    pub(crate) fn start_with(&self, policy_text: &str, link: &str, dns: &str) -> Child {
        let policy = self.directory.path().join("policy.toml");
        fs::write(&policy, policy_text).unwrap();
        let config = self.directory.path().join("cordon.toml");
        let events = self.directory.path().join("events.jsonl");
        let socket = self.directory.path().join("control.sock");
        let text = format!(
            "policy = {policy:?}\n[control]\nsocket = {socket:?}\n[link]\ninside = [\"lan\"]\n{link}\n[events]\nfile = {events:?}\n[dns]\n{dns}\n"
        );
        fs::write(&config, text).unwrap();
        launch(&self.router, &config)
    }

    /// Loads a page by a name, from an address that the client was told of by hand.
    pub(crate) fn curl(&self, name: &str, address: &str, more: &[&str]) -> Output {
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

    pub(crate) fn ask(&self, name: &str, payload: Option<u16>, by_tcp: bool) -> Message {
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

    pub(crate) fn events(&self) -> String {
        fs::read_to_string(self.directory.path().join("events.jsonl")).unwrap()
    }
}

pub(crate) fn end(mut child: Child) {
    let pid = nix::unistd::Pid::from_raw(child.id() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(child.wait().unwrap().success());
}

pub(crate) fn loaded(output: &Output) -> bool {
    output.status.success() && output.stdout == b"hello"
}

pub(crate) fn addresses(message: &Message) -> Vec<String> {
    let address = |record: &Record| {
        if let RData::A(address) = &record.data {
            Some(address.0.to_string())
        } else {
            None
        }
    };
    message.answers.iter().filter_map(address).collect()
}

pub(crate) fn goes_to(frame: &Frame, address: &str) -> bool {
    let address: std::net::Ipv4Addr = address.parse().unwrap();
    frame.ethertype == 0x0800 && frame.bytes.get(16..20) == Some(&address.octets())
}

pub(crate) fn contains(frame: &Frame, text: &[u8]) -> bool {
    let mut windows = frame.bytes.windows(text.len());
    // Names in questions have random case.
    windows.any(|window| window.eq_ignore_ascii_case(text))
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
