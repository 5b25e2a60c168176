//! What flows show of whom they ask for, end to end: however it is cut, wrapped or reordered, by real clients.

use crate::abroad::program;
use crate::harness::in_lab;
use crate::names::{
    CN, NAMELESS, Net, POLICY, RESOLVER, SHARED, addresses, end, goes_to, net, wired,
};
use cordon::kernel::namespace::lab::{Capture, Frame, Host, Lab, Observer};
use cordon::link::Tun;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

const GOOD: &str = "www.good.example";
const BAD: &str = "www.bad.example";

fn upstream() -> String {
    format!("upstreams = [\"{RESOLVER}\"]")
}

/// A client that trusts the servers of the lab.
fn trusting(net: &Net) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(net.identity.pem.as_bytes()).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Sends every byte in a segment of its own.
struct ByteByByte(TcpStream);

impl Read for ByteByByte {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for ByteByByte {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(1)])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Loads a page byte by byte.
fn drip(net: &Net, name: &'static str, address: &str) -> anyhow::Result<Vec<u8>> {
    let config = Arc::new(trusting(net));
    let to = SocketAddr::new(address.parse()?, 443);
    net.phone.run(move || {
        let stream = TcpStream::connect_timeout(&to, Duration::from_secs(8))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(8)))?;
        let connection = rustls::ClientConnection::new(config, ServerName::try_from(name)?)?;
        let mut tls = rustls::StreamOwned::new(connection, ByteByByte(stream));
        tls.write_all(b"GET / HTTP/1.1\r\n\r\n")?;
        let mut page = Vec::new();
        tls.read_to_end(&mut page)?;
        Ok(page)
    })
}

/// Bytes that TCP carried to an address.
fn carried(capture: &Capture, address: &str) -> Vec<u8> {
    let frames = capture.kept.iter().filter(|frame| goes_to(frame, address));
    let payload = |frame: &Frame| {
        let bytes = &frame.bytes;
        let head = usize::from(bytes[0] & 15) * 4;
        let total = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        if bytes[9] != 6 {
            return Vec::new();
        }
        let data = head + usize::from(bytes[head + 12] >> 4) * 4;
        bytes[data..total.min(bytes.len())].to_vec()
    };
    frames.flat_map(payload).collect()
}

#[test]
fn a_server_name_in_single_bytes_is_read_like_a_whole_one() {
    in_lab(|lab| {
        let net = net(lab);
        for link in ["path = \"terminate\"", ""] {
            let daemon = net.start_with(POLICY, link, &upstream());
            // No answer gave this address: the name decides, and while it is not whole nothing leaves, not even a SYN.
            let observer = Observer::on(&net.world, "net").unwrap();
            for (name, address) in [(GOOD, NAMELESS), (BAD, SHARED), (GOOD, CN)] {
                assert!(drip(&net, name, address).is_err(), "{name} at {address}");
            }
            let seen = observer.finish().unwrap();
            for address in [NAMELESS, SHARED, CN] {
                let frames = seen.kept.iter().filter(|frame| goes_to(frame, address));
                assert_eq!((seen.missed, frames.count()), (0, 0), "{address}");
            }
            // The address was given for one name: with another it gets nowhere.
            assert_eq!(
                addresses(&net.ask("www.good.example.", None, false)),
                [SHARED]
            );
            let page = drip(&net, GOOD, SHARED).unwrap();
            assert!(page.ends_with(b"hello"));
            let observer = Observer::on(&net.world, "net").unwrap();
            assert!(drip(&net, BAD, SHARED).is_err());
            let carried = carried(&observer.finish().unwrap(), SHARED);
            let name = BAD.as_bytes();
            assert!(!carried.windows(name.len()).any(|window| window == name));
            // What is terminated is read to its end before its first byte leaves.
            assert!(
                link.is_empty() || carried.is_empty(),
                "{} bytes",
                carried.len()
            );
            end(daemon);
        }
    });
}

/// The extension of an encrypted client hello (RFC 9849).
const ENCRYPTED: [u8; 2] = [0xfe, 0x0d];

#[test]
fn with_a_pretended_encrypted_hello_the_outer_name_counts_against_and_the_answer_for() {
    in_lab(|lab| {
        let Some(browser) = program("chromium") else {
            return;
        };
        let net = net(lab);
        let daemon = net.start(&upstream());
        let browse = |name: &str, address: &str| {
            let profile = tempfile::tempdir().unwrap();
            let output = net.phone.run(|| {
                Ok(Command::new(&browser)
                    .args(["--headless", "--no-sandbox", "--disable-gpu"])
                    .args(["--disable-background-networking", "--disable-quic"])
                    .args([
                        "--ignore-certificate-errors",
                        "--timeout=8000",
                        "--dump-dom",
                    ])
                    .arg(format!("--user-data-dir={}", profile.path().display()))
                    .arg(format!("--host-resolver-rules=MAP * {address}"))
                    .arg(format!("https://{name}/"))
                    .output()?)
            });
            String::from_utf8(output.unwrap().stdout).unwrap()
        };
        let observer = Observer::on(&net.world, "net").unwrap();
        assert!(!browse(GOOD, NAMELESS).contains("hello"));
        let seen = observer.finish().unwrap();
        let frames = seen.kept.iter().filter(|frame| goes_to(frame, NAMELESS));
        assert_eq!((seen.missed, frames.count()), (0, 0));

        net.ask("www.good.example.", None, false);
        let observer = Observer::on(&net.world, "net").unwrap();
        assert!(browse(GOOD, SHARED).contains("hello"));
        let hellos = carried(&observer.finish().unwrap(), SHARED);
        let has = |what: &[u8]| hellos.windows(what.len()).any(|window| window == what);
        assert!(
            has(&ENCRYPTED) && has(GOOD.as_bytes()),
            "a hello with the extension"
        );

        let observer = Observer::on(&net.world, "net").unwrap();
        assert!(!browse(BAD, SHARED).contains("hello"));
        let seen = observer.finish().unwrap();
        // Other names that the browser asks for by itself, with as much pretence, count as what the answer was for.
        let sent = carried(&seen, SHARED);
        let named = |what: &[u8]| sent.windows(what.len()).any(|window| window == what);
        assert_eq!((seen.missed, named(BAD.as_bytes())), (0, false));
        assert!(net.events().contains("\"end\":\"shown\""));
        end(daemon);
    });
}

/// A cable that delivers the phone's datagrams to port 443 in pairs, the second one first.
#[derive(Default)]
struct Swaps {
    swapped: AtomicU64,
    cut: AtomicBool,
}

fn swapping_cable(phone: &Host, router: &Host, swaps: &Arc<Swaps>) {
    let [a, b] = [(phone, "wlan"), (router, "lan")].map(|(host, name)| {
        let tun = host.run(|| Tun::create_plain(name, 1500)).unwrap();
        Arc::new(tun)
    });
    for (from, to, swaps_here) in [(Arc::clone(&a), Arc::clone(&b), true), (b, a, false)] {
        let swaps = Arc::clone(swaps);
        thread::spawn(move || carry(&from, &to, swaps_here, &swaps));
    }
}

fn carry(from: &Tun, to: &Tun, swaps_here: bool, swaps: &Swaps) {
    let (mut buffer, mut held) = (vec![0; Tun::BUFFER], None::<Vec<u8>>);
    let mut patience = 0;
    while !swaps.cut.load(Ordering::Relaxed) {
        let Some(len) = from.recv(&mut buffer).unwrap_or(None) else {
            thread::sleep(Duration::from_micros(100));
            patience += 1;
            // Nothing to swap it with.
            if patience > 200
                && let Some(alone) = held.take()
            {
                drop(to.send(&alone));
            }
            continue;
        };
        let packet = &buffer[..len];
        let ip = packet.get(cordon::packet::offload::LEN..).unwrap_or(&[]);
        let is_quic = ip.first() == Some(&0x45) && ip[9] == 17 && ip[22..24] == [1, 187];
        patience = 0;
        match held.take() {
            Some(first) if is_quic => {
                swaps.swapped.fetch_add(1, Ordering::Relaxed);
                drop(to.send(packet));
                drop(to.send(&first));
            }
            None if is_quic && swaps_here => held = Some(packet.to_vec()),
            waiting => {
                held = waiting;
                drop(to.send(packet));
            }
        }
    }
}

/// Echoes what is sent on the first stream of each connection.
async fn echo(at: SocketAddr, config: rustls::ServerConfig) -> anyhow::Result<()> {
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(config)?;
    let server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let endpoint = quinn::Endpoint::server(server, at)?;
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await?;
            let (mut send, mut receive) = connection.accept_bi().await?;
            send.write_all(&receive.read_to_end(1000).await?).await?;
            send.finish()?;
            connection.closed().await;
            anyhow::Ok(())
        });
    }
    Ok(())
}

/// Has a server echo a few bytes over QUIC.
async fn exchange(
    to: SocketAddr,
    name: &str,
    config: rustls::ClientConfig,
) -> anyhow::Result<Vec<u8>> {
    let mut endpoint = quinn::Endpoint::client("0.0.0.0:0".parse()?)?;
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(config)?;
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
    let talk = async {
        let connection = endpoint.connect(to, name)?.await?;
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(b"hello").await?;
        send.finish()?;
        let echoed = receive.read_to_end(1000).await?;
        connection.close(0u8.into(), b"");
        anyhow::Ok(echoed)
    };
    let outcome = tokio::time::timeout(Duration::from_secs(8), talk).await?;
    endpoint.close(0u8.into(), b"");
    outcome
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_quic_hello_over_two_reordered_datagrams_is_read_before_any_leaves() {
    in_lab(|lab: &Lab| {
        let swaps = Arc::<Swaps>::default();
        let net = wired(lab, |_, phone, router| {
            swapping_cable(phone, router, &swaps)
        });
        for address in [SHARED, NAMELESS] {
            let at = SocketAddr::new(address.parse().unwrap(), 443);
            let mut config = rustls::ServerConfig::clone(&net.identity.server);
            config.alpn_protocols = vec![b"echo".to_vec()];
            net.world
                .spawn(move || runtime().block_on(echo(at, config)))
                .unwrap();
        }
        let mut config = trusting(&net);
        // Enough that the hello does not fit one datagram.
        config.alpn_protocols = (0..8).map(|n| vec![b'a' + n; 200]).collect();
        config.alpn_protocols.push(b"echo".to_vec());
        let exchange = |name: &'static str, address: &str| {
            let to = SocketAddr::new(address.parse().unwrap(), 443);
            let config = config.clone();
            net.phone
                .run(move || runtime().block_on(exchange(to, name, config)))
        };
        let daemon = net.start(&upstream());
        let observer = Observer::on(&net.world, "net").unwrap();
        for (name, address) in [(GOOD, NAMELESS), (BAD, SHARED), (GOOD, SHARED)] {
            assert!(exchange(name, address).is_err(), "{name} at {address}");
        }
        // The address was given for one name: with another it gets nowhere.
        net.ask("www.good.example.", None, false);
        assert!(exchange(BAD, SHARED).is_err());
        let seen = observer.finish().unwrap();
        for address in [NAMELESS, SHARED] {
            let frames = seen.kept.iter().filter(|frame| goes_to(frame, address));
            assert_eq!((seen.missed, frames.count()), (0, 0), "{address}");
        }
        assert_eq!(exchange(GOOD, SHARED).unwrap(), b"hello");
        assert!(
            swaps.swapped.load(Ordering::Relaxed) > 3,
            "datagrams were reordered"
        );
        swaps.cut.store(true, Ordering::Relaxed);
        end(daemon);
    });
}
