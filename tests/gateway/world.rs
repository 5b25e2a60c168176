//! A gateway with a fake clock, and hands to craft packets with.

use cordon::flow::FlowId;
use cordon::gateway::{
    Dns, Event, Fate, Gateway, Limits, Order, Outgoing, Settings, Shared, Snapshot,
};
use cordon::jurisdiction::{Data, Groups};
use cordon::packet::{
    Checksum, Gso, Offload, Parsed, Tcp, Transport, build, checksum, offload, protocol,
};
use cordon::policy::{Permit, Policy, Surroundings};
use cordon::sanitize::{Kind, Sanitizer, Secret};
use cordon::stack::{Ring, Rings, Shape};
use cordon::time::Time;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Our own addresses in every world.
pub(crate) const OWN: [&str; 2] = ["10.111.0.1", "fd63::1"];
/// A resolver on the inside.
pub(crate) const RESOLVER: &str = "192.168.1.53:53";

pub(crate) struct World {
    pub(crate) gateway: Gateway,
    pub(crate) now: Time,
    pub(crate) data: Arc<Data>,
    idled: Arc<AtomicUsize>,
    settings: Settings,
    shared: Arc<Shared>,
}

/// Rings on the heap, never given back; it counts how often they could have been.
struct Heap(Arc<AtomicUsize>);

impl Rings for Heap {
    fn take(&mut self, len: usize) -> Option<Ring> {
        Some(Ring {
            bytes: Box::leak(vec![0; len].into_boxed_slice()),
            id: 0,
        })
    }
    fn idle(&mut self, _: u32) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) fn limits() -> Limits {
    Limits {
        flows: cordon::flow::Limits {
            flows: 1000,
            per_source: 800,
        },
        half_open: 500,
        fragments: cordon::packet::fragment::Limits {
            datagrams: 16,
            per_source: 8,
            bytes: 1 << 20,
            timeout: Duration::from_secs(5),
        },
    }
}

impl World {
    /// A world under a policy, with declared secrets.
    pub(crate) fn new(policy: &str, secrets: &[(&str, &str)]) -> Self {
        Self::bounded(policy, secrets, limits())
    }

    /// A router, which may pass packets and has a kernel to leave flows to.
    pub(crate) fn router(policy: &str, secrets: &[(&str, &str)]) -> Self {
        Self::made(policy, secrets, (limits(), 1 << 30), true, None)
    }

    /// A world in which the memory of connections is always spent.
    pub(crate) fn poor(policy: &str) -> Self {
        Self::made(policy, &[], (limits(), 0), false, None)
    }

    /// A world that answers questions.
    pub(crate) fn answering(policy: &str, dns: Dns) -> Self {
        Self::made(policy, &[], (limits(), 1 << 30), false, Some(dns))
    }

    /// A router that answers questions.
    pub(crate) fn answering_router(policy: &str, dns: Dns) -> Self {
        Self::made(policy, &[], (limits(), 1 << 30), true, Some(dns))
    }

    pub(crate) fn bounded(policy: &str, secrets: &[(&str, &str)], limits: Limits) -> Self {
        Self::made(policy, secrets, (limits, 1 << 30), false, None)
    }

    fn made(
        policy: &str,
        secrets: &[(&str, &str)],
        (limits, memory): (Limits, usize),
        router: bool,
        dns: Option<Dns>,
    ) -> Self {
        static DATA: LazyLock<Arc<Data>> = LazyLock::new(|| Arc::new(Data::embedded().unwrap()));
        let data = Arc::clone(&DATA);
        let now = Time::from_secs(1_800_000_000);
        let settings = Settings {
            shard: 0,
            shape: Shape {
                mtu: 1500,
                offload: true,
                rings: [128 << 10; 2],
                memory,
            },
            own: OWN.map(|own| own.parse().unwrap()).to_vec(),
            dns,
            forward: router,
            kernel: router,
            limits,
        };
        let snapshot = snapshot(&data, policy, secrets);
        Self::shard(
            settings,
            snapshot,
            Arc::new(Shared::new(100, 7)),
            (data, now),
        )
    }

    fn shard(
        settings: Settings,
        snapshot: Arc<Snapshot>,
        shared: Arc<Shared>,
        (data, now): (Arc<Data>, Time),
    ) -> Self {
        let idled = Arc::default();
        let mut gateway = Gateway::new(
            settings.clone(),
            snapshot,
            Arc::clone(&shared),
            Box::new(Heap(Arc::clone(&idled))),
            7,
            now,
        );
        gateway.set_wall(Some(1_800_000_000));
        Self {
            gateway,
            now,
            data,
            idled,
            settings,
            shared,
        }
    }

    /// Another shard of the same gate.
    pub(crate) fn sibling(&self) -> Self {
        let settings = Settings {
            shard: self.settings.shard + 1,
            ..self.settings.clone()
        };
        let snapshot = Arc::clone(self.gateway.snapshot());
        let known = (Arc::clone(&self.data), self.now);
        Self::shard(settings, snapshot, Arc::clone(&self.shared), known)
    }

    /// How many rings were given back since the last time.
    pub(crate) fn rings_given_back(&self) -> usize {
        self.idled.swap(0, Ordering::Relaxed)
    }

    pub(crate) fn replace(&mut self, policy: &str) {
        let snapshot = snapshot(&self.data, policy, &[]);
        self.gateway.replace(snapshot, self.now);
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.gateway.tick(self.now);
    }

    /// Hands a packet in; its checksums must be right.
    pub(crate) fn packet(&mut self, packet: &[u8]) -> Fate {
        self.gateway
            .packet(&mut packet.to_vec(), &Offload::default(), self.now)
    }

    /// Hands a datagram in; the payload and permit of what is to be sent.
    pub(crate) fn datagram(
        &mut self,
        from: &str,
        to: &str,
        payload: &[u8],
    ) -> Option<(Permit, Vec<u8>)> {
        let mut bytes = udp(from, to, payload);
        match self
            .gateway
            .packet(&mut bytes, &Offload::default(), self.now)
        {
            Fate::Send(datagram) => {
                let payload = self.gateway.payload(&datagram, &bytes).to_vec();
                Some((datagram.permit, payload))
            }
            Fate::Done | Fate::Pass => None,
        }
    }

    /// Everything for the link, read.
    pub(crate) fn packets(&mut self) -> Vec<(Parsed, Vec<u8>)> {
        let mut packets = Vec::new();
        while let Some(entry) = self.gateway.next_packet() {
            let mut offload = Offload::decode(entry).unwrap();
            let mut bytes = entry[offload::LEN..].to_vec();
            if offload.partial_checksum && offload.gso == Gso::None {
                checksum::complete(&mut bytes, &mut offload);
            }
            // The segments of a super-packet get their sums when it is cut.
            let checksum = if offload.gso == Gso::None {
                Checksum::Verify
            } else {
                Checksum::Trust
            };
            let parsed = Parsed::read(&bytes, checksum).expect("our own packets are well-formed");
            packets.push((parsed, bytes));
        }
        packets
    }

    pub(crate) fn orders(&mut self) -> Vec<Order> {
        std::iter::from_fn(|| self.gateway.next_order()).collect()
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.gateway.next_event().map(|(event, _)| event)).collect()
    }

    /// The one flow that is to be dialled.
    pub(crate) fn dialed(&mut self) -> (FlowId, Permit) {
        match self.orders().as_slice() {
            [Order::Dial { flow, permit }] => (*flow, *permit),
            other => panic!("expected one dial, got {other:?}"),
        }
    }

    /// Pumps dirty flows with an upstream that takes everything; what it took.
    pub(crate) fn pump(&mut self, flow: FlowId) -> Vec<u8> {
        let mut taken = Vec::new();
        while self.gateway.next_dirty().is_some() {}
        loop {
            let outgoing = self.gateway.outgoing(flow, self.now, |bytes| {
                taken.extend_from_slice(bytes);
                bytes.len()
            });
            if !matches!(outgoing, Outgoing::Taken(_)) {
                break;
            }
        }
        while self.gateway.settle(flow, self.now) {}
        taken
    }
}

pub(crate) fn snapshot(data: &Arc<Data>, policy: &str, secrets: &[(&str, &str)]) -> Arc<Snapshot> {
    let groups = Groups::embedded().unwrap();
    let around = Surroundings {
        data,
        groups: &groups,
    };
    let policy =
        Policy::load("test.toml", policy, &around).unwrap_or_else(|error| panic!("{error}"));
    let secrets: Vec<Secret> = secrets
        .iter()
        .map(|(name, value)| Secret::new(name, value, Kind::Guess).unwrap())
        .collect();
    let sanitizer = Sanitizer::new(&secrets).unwrap();
    Arc::new(Snapshot {
        policy,
        data: Arc::clone(data),
        sanitizer,
    })
}

pub(crate) fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A UDP packet with full checksums.
pub(crate) fn udp(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; build::HEADROOM];
    buffer.extend_from_slice(payload);
    let (start, mut offload) =
        build::udp_in_place(&mut buffer, build::HEADROOM, socket(from), socket(to), 0);
    checksum::complete(&mut buffer[start..], &mut offload);
    buffer[start..].to_vec()
}

/// A TCP segment; a SYN carries an MSS of 1460.
#[derive(Clone, Copy)]
pub(crate) struct Segment<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) payload: &'a [u8],
}

impl Segment<'_> {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (from, to) = (socket(self.from), socket(self.to));
        let options: &[u8] = if self.flags & Tcp::SYN != 0 {
            &[2, 4, 5, 180, 1, 3, 3, 7]
        } else {
            &[]
        };
        let mut tcp = Vec::new();
        tcp.extend(from.port().to_be_bytes());
        tcp.extend(to.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([
            (((20 + options.len()) / 4) << 4) as u8,
            self.flags,
            0xff,
            0xff,
            0,
            0,
            0,
            0,
        ]);
        tcp.extend(options);
        tcp.extend(self.payload);
        let sum = checksum::Sum::pseudo_header(from.ip(), to.ip(), protocol::TCP, tcp.len())
            .bytes(&tcp)
            .finish();
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        let mut packet = Vec::new();
        match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                packet.extend([0x45, 0]);
                packet.extend(((20 + tcp.len()) as u16).to_be_bytes());
                packet.extend([0, 0, 0x40, 0, 64, protocol::TCP, 0, 0]);
                packet.extend(from.octets());
                packet.extend(to.octets());
                let sum = checksum::Sum::of(&packet).finish();
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                packet.extend([0x60, 0, 0, 0]);
                packet.extend((tcp.len() as u16).to_be_bytes());
                packet.extend([protocol::TCP, 64]);
                packet.extend(from.octets());
                packet.extend(to.octets());
            }
            _ => panic!("one family"),
        }
        packet.extend(tcp);
        packet
    }
}

/// The TCP headers among packets.
pub(crate) fn tcp_headers(packets: &[(Parsed, Vec<u8>)]) -> Vec<Tcp> {
    packets
        .iter()
        .filter_map(|(parsed, _)| match parsed.transport {
            Transport::Tcp(tcp) => Some(tcp),
            _ => None,
        })
        .collect()
}
