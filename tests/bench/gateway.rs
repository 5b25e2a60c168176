//! Whole turns of a gateway: what a packet costs from its bytes to its fate, under the policy of a home, with the
//! embedded data and the sanitizer at work.

use crate::samples;
use cordon::flow::FlowId;
use cordon::gateway::{
    Dns, Fate, Gateway, Lane, Limits, Order, Outgoing, Settings, Shared, Snapshot, Upstream,
};
use cordon::jurisdiction::{Data, Groups};
use cordon::packet::{Offload, Tcp, fragment};
use cordon::policy::{Policy, Surroundings};
use cordon::sanitize::{Kind, Sanitizer, Secret};
use cordon::stack::{Ring, Rings, Shape};
use cordon::time::Time;
use divan::Bencher;
use divan::counter::BytesCount;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

const NOW: Time = Time::from_secs(1_800_000_000);

struct Heap;

impl Rings for Heap {
    fn take(&mut self, len: usize) -> Option<Ring> {
        Some(Ring {
            bytes: Box::leak(vec![0; len].into_boxed_slice()),
            id: 0,
        })
    }

    fn idle(&mut self, _: u32) {}
}

static SNAPSHOT: LazyLock<Arc<Snapshot>> = LazyLock::new(|| {
    let data = Data::embedded().unwrap();
    let groups = Groups::embedded().unwrap();
    let around = Surroundings {
        data: &data,
        groups: &groups,
    };
    let policy = Policy::load(
        "home.toml",
        include_str!("../../policies/home.toml"),
        &around,
    )
    .unwrap();
    let secrets = [Secret::new("number", "512345687", Kind::Guess).unwrap()];
    Arc::new(Snapshot {
        policy,
        data: Arc::new(data),
        sanitizer: Sanitizer::new(&secrets).unwrap(),
    })
});

fn gateway() -> Gateway {
    gateway_with(None)
}

fn gateway_with(dns: Option<Dns>) -> Gateway {
    let limits = Limits {
        flows: cordon::flow::Limits {
            flows: 1 << 20,
            per_source: 1 << 20,
        },
        half_open: 1 << 20,
        fragments: fragment::Limits {
            datagrams: 64,
            per_source: 8,
            bytes: 1 << 20,
            timeout: Duration::from_secs(5),
        },
    };
    let shape = Shape {
        mtu: 1500,
        offload: true,
        rings: [1 << 20; 2],
        memory: 1 << 30,
    };
    let own = vec!["10.111.0.1".parse().unwrap()];
    let settings = Settings {
        shard: 0,
        shape,
        own,
        dns,
        forward: false,
        kernel: false,
        limits,
    };
    Gateway::new(
        settings,
        Arc::clone(&SNAPSHOT),
        Arc::new(Shared::new(1024, 7)),
        Box::new(Heap),
        7,
        NOW,
    )
}

/// A question that was asked before: read, judged, screened, answered.
#[divan::bench]
fn answer_out_of_the_cache(bencher: Bencher<'_, '_>) {
    use hickory_proto::op::{Message, OpCode, Query};
    use hickory_proto::rr::{Name, RData, Record, RecordType, rdata::A};
    let upstream = Upstream {
        address: "9.9.9.9:53".parse().unwrap(),
        protocol: 17,
        name: None,
    };
    let mut gateway = gateway_with(Some(Dns {
        upstreams: vec![upstream],
        routes: vec![Lane {
            upstreams: vec![0],
            ..Lane::default()
        }],
        private: Vec::new(),
    }));
    let name = Name::from_ascii("www.example.org.").unwrap();
    let mut query = Message::query();
    query.add_query(Query::query(name.clone(), RecordType::A));
    let mut packet = samples::udp(false, &query.to_vec().unwrap());
    packet[22..24].copy_from_slice(&53u16.to_be_bytes());
    let trusted = Offload {
        verified: true,
        ..Offload::default()
    };
    gateway.packet(&mut packet.clone(), &trusted, NOW);
    let asked = gateway.next_ask().unwrap();
    let mut answer = Message::response(0, OpCode::Query);
    for last in 1..4 {
        let data = RData::A(A::new(198, 41, 0, last));
        answer.add_answer(Record::from_rdata(name.clone(), 600, data));
    }
    gateway.resolved(asked.id, Some(answer), NOW);
    drain(&mut gateway);
    bencher
        .counter(divan::counter::ItemsCount::new(1u8))
        .bench_local(|| {
            gateway.packet(&mut packet.clone(), &trusted, NOW);
            assert!(gateway.next_packet().is_some());
        });
}

fn drain(gateway: &mut Gateway) {
    while gateway.next_event().is_some() {}
    while gateway.next_order().is_some() {}
    while gateway.next_packet().is_some() {}
}

fn noise(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect()
}

/// A datagram of a flow that is known: read, found, searched for what it must not carry, permitted.
#[divan::bench(args = [40, 1200])]
fn datagram_of_a_known_flow(bencher: Bencher<'_, '_>, len: usize) {
    let mut gateway = gateway();
    let packet = samples::udp(false, &noise(len));
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        let fate = gateway.packet(&mut packet.clone(), &Offload::default(), NOW);
        assert!(matches!(fate, Fate::Send(_)));
    });
}

/// The first datagram of a flow: looked up, judged by every rule, told.
#[divan::bench]
fn first_datagram_of_a_flow(bencher: Bencher<'_, '_>) {
    let mut gateway = gateway();
    let template = samples::udp(false, &noise(40));
    let mut port = 0u32;
    bencher
        .with_inputs(|| {
            port += 1;
            // Another source port, and what the flows before left behind taken away.
            let mut packet = template.clone();
            let source = 0x0a6f_0000 + (port >> 15);
            packet[12..16].copy_from_slice(&source.to_be_bytes());
            packet[20..22].copy_from_slice(&(1 + (port & 0x7fff) as u16).to_be_bytes());
            packet[10..12].fill(0);
            let sum = cordon::packet::checksum::Sum::of(&packet[..20]).finish();
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet
        })
        .bench_local_values(|mut packet| {
            let trusted = Offload {
                verified: true,
                ..Offload::default()
            };
            let fate = gateway.packet(&mut packet, &trusted, NOW);
            assert!(matches!(fate, Fate::Send(_)));
            drain(&mut gateway);
        });
}

/// A connection whose handshake is done.
fn connected(gateway: &mut Gateway) -> (FlowId, u32) {
    gateway.packet(
        &mut samples::tcp(false, Tcp::SYN, &[2, 4, 5, 180, 1, 3, 3, 7], &[]),
        &Offload::default(),
        NOW,
    );
    let Some(Order::Dial { flow, .. }) = gateway.next_order() else {
        panic!("not dialled")
    };
    gateway.connected(flow, NOW);
    let answer = gateway.next_packet().unwrap()[cordon::packet::offload::LEN..].to_vec();
    let next = u32::from_be_bytes(answer[24..28].try_into().unwrap()).wrapping_add(1);
    (flow, next)
}

/// A segment of a client through the terminator to the socket's side.
#[divan::bench(args = [1460, 60_000])]
fn segment_to_the_outside(bencher: Bencher<'_, '_>, len: usize) {
    let mut gateway = gateway();
    let (flow, next) = connected(&mut gateway);
    let trusted = Offload {
        partial_checksum: true,
        ..Offload::default()
    };
    let mut template = samples::tcp(false, Tcp::ACK, &[], &noise(len));
    let mut seq = u32::from_be_bytes(template[24..28].try_into().unwrap()).wrapping_add(1);
    template[28..32].copy_from_slice(&next.to_be_bytes());
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        let mut packet = template.clone();
        packet[24..28].copy_from_slice(&seq.to_be_bytes());
        gateway.packet(&mut packet, &trusted, NOW);
        while gateway.next_dirty().is_some() {}
        while matches!(gateway.outgoing(flow, NOW, <[u8]>::len), Outgoing::Taken(_)) {}
        gateway.settle(flow, NOW);
        seq = seq.wrapping_add(len as u32);
        drain(&mut gateway);
    });
}
