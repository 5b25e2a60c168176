//! QUIC's Initials, as a real client sends them: held until they show whom the client asks for.
#![expect(
    clippy::disallowed_methods,
    reason = "the client's library takes the time of day"
)]

use crate::world::{World, udp};
use cordon::gateway::Fate;
use quinn_proto::crypto::rustls::QuicClientConfig;
use quinn_proto::{ClientConfig, Endpoint, EndpointConfig};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Blocked is one name; what shows none goes.
const LENIENT: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\non_unknown = \"allow\"\n\
    [[rule]]\nid = \"bad\"\ndomain = [\".bad.example\"]\naction = \"block\"\n";
const CLIENT: &str = "10.111.0.2:40000";
const SERVER: &str = "198.41.0.4:443";

/// The first flight to a server of this name: its client hello does not fit one datagram.
pub(crate) fn initials(name: &str) -> Vec<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    tls.alpn_protocols = vec![vec![b'x'; 200]; 8];
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None);
    let now = Instant::now();
    let to = SERVER.parse().unwrap();
    let (_, mut connection) = endpoint.connect(now, config, to, name).unwrap();
    let mut datagrams = Vec::new();
    loop {
        let mut buffer = Vec::new();
        match connection.poll_transmit(now, 1, &mut buffer) {
            Some(transmit) => datagrams.push(buffer[..transmit.size].to_vec()),
            None => return datagrams,
        }
    }
}

/// Hands in what was released, as the shell does; the payloads that leave.
fn released(world: &mut World) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    while let Some((offload, mut packet)) = world.gateway.next_released() {
        if let Fate::Send(datagram) = world.gateway.packet(&mut packet, &offload, world.now) {
            sent.push(world.gateway.payload(&datagram, &packet).to_vec());
        }
    }
    sent
}

#[test]
fn a_hello_over_two_datagrams_is_read_in_either_order_before_any_leaves() {
    for (name, passes) in [("www.good.example", true), ("www.bad.example", false)] {
        for reversed in [false, true] {
            let mut datagrams = initials(name);
            assert!(datagrams.len() > 1, "the hello takes two");
            datagrams.truncate(2);
            if reversed {
                datagrams.reverse();
            }
            let mut world = World::new(LENIENT, &[]);
            assert_eq!(
                world.packet(&udp(CLIENT, SERVER, &datagrams[0])),
                Fate::Done
            );
            assert!(released(&mut world).is_empty() && world.events().is_empty());
            // Once more the same: it is held, and shows nothing new.
            assert_eq!(
                world.packet(&udp(CLIENT, SERVER, &datagrams[0])),
                Fate::Done
            );
            assert!(released(&mut world).is_empty());
            world.packet(&udp(CLIENT, SERVER, &datagrams[1]));
            let sent = released(&mut world);
            if passes {
                let first = datagrams[0].clone();
                assert_eq!(sent, [first.clone(), first, datagrams[1].clone()]);
            } else {
                assert!(sent.is_empty(), "{} datagrams left", sent.len());
            }
        }
    }
}

#[test]
fn half_a_hello_is_decided_as_unknown_when_its_time_is_over() {
    let mut world = World::new(LENIENT, &[]);
    let datagrams = initials("www.bad.example");
    world.packet(&udp(CLIENT, SERVER, &datagrams[0]));
    world.wait(Duration::from_millis(1900));
    assert!(released(&mut world).is_empty());
    world.wait(Duration::from_millis(200));
    assert_eq!(
        released(&mut world).len(),
        1,
        "unknown is let go by this policy"
    );
    let strict = LENIENT.replace("on_unknown = \"allow\"\n", "");
    let mut world = World::new(&strict, &[]);
    world.packet(&udp(CLIENT, SERVER, &datagrams[0]));
    world.wait(Duration::from_millis(2100));
    assert!(released(&mut world).is_empty(), "and not by this one");
}
