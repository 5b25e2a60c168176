//! In no interleaving of answers, packets, timeouts and reloads does a byte leave before its verdict or against it.

use crate::names::hello;
use crate::quic::initials;
use crate::world::{Segment, World, tcp_headers, udp};
use cordon::flow::FlowId;
use cordon::gateway::{Dns, Fate, Lane, Order, Upstream};
use cordon::packet::{Offload, Parsed, Tcp, Transport};
use hickory_proto::op::{Message, OpCode, Query};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;
use std::time::Duration;

/// Allowed is one name; the resolver is allowed by its address.
const ONE: &str = "version = 1\nname = \"t\"\n[default]\naction = \"block\"\n\
    [[rule]]\nid = \"one\"\ndomain = [\".good.example\"]\naction = \"allow\"\n\
    [[rule]]\nid = \"dns\"\nip = [\"9.9.9.9\"]\naction = \"allow\"\n";
const NONE: &str = "version = 1\nname = \"t\"\n[default]\naction = \"block\"\n";

const CLIENT: &str = "10.111.0.2:40000";
const SERVER: &str = "198.41.0.4:443";

#[derive(Clone, Debug)]
enum Step {
    /// The client is given the address for the allowed name, or for another.
    Answer(bool),
    Syn,
    /// So many bytes more of the hello.
    Piece(usize),
    /// The last bytes once more.
    Repeat,
    /// The other end accepts.
    Connect,
    Wait(u64),
    /// The policy that allows nothing, or the first one.
    Reload(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any::<bool>().prop_map(Step::Answer),
        2 => Just(Step::Syn),
        6 => (1usize..90).prop_map(Step::Piece),
        1 => Just(Step::Repeat),
        3 => Just(Step::Connect),
        2 => prop_oneof![1u64..400, 1000u64..3000].prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Reload),
    ]
}

struct Run {
    world: World,
    hello: Vec<u8>,
    sent: usize,
    /// Our sequence number, as soon as the client was answered.
    next: Option<u32>,
    answered: bool,
    allows: bool,
    dialed: Option<FlowId>,
    connected: bool,
    left: Vec<u8>,
    /// How far into the hello anything that passed reached.
    reach: usize,
}

fn dns() -> Dns {
    let upstream = Upstream {
        address: "9.9.9.9:53".parse().unwrap(),
        protocol: 17,
        name: None,
    };
    Dns {
        upstreams: vec![upstream],
        routes: vec![Lane {
            upstreams: vec![0],
            ..Lane::default()
        }],
        private: Vec::new(),
    }
}

/// Asks for a name and has it answered with the server's address, if it may be asked.
fn learn(world: &mut World, name: &str) {
    let name = Name::from_ascii(name).unwrap();
    let mut query = Message::query();
    query.add_query(Query::query(name.clone(), RecordType::A));
    world.packet(&udp(
        "10.111.0.2:5000",
        "8.8.8.8:53",
        &query.to_vec().unwrap(),
    ));
    if let Some(asked) = world.gateway.next_ask() {
        let mut message = Message::response(0, OpCode::Query);
        let data = RData::A(A::new(198, 41, 0, 4));
        message.add_answer(Record::from_rdata(name, 60, data));
        let now = world.now;
        world.gateway.resolved(asked.id, Some(message), now);
    }
}

fn learned(good: bool) -> &'static str {
    if good {
        "www.good.example."
    } else {
        "other.example."
    }
}

impl Run {
    fn new(name: &str, passes: bool) -> Self {
        Self {
            world: match passes {
                true => World::answering_router(ONE, dns()),
                false => World::answering(ONE, dns()),
            },
            hello: hello(name, false),
            sent: 0,
            next: None,
            answered: false,
            allows: true,
            dialed: None,
            connected: false,
            left: Vec::new(),
            reach: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Answer(good) => self.answer(*good),
            Step::Syn => self.segment(Tcp::SYN, 1000, 0, 0..0),
            Step::Piece(length) => {
                let end = self.hello.len().min(self.sent + length);
                self.piece(self.sent..end);
                if self.next.is_some() {
                    self.sent = end;
                }
            }
            Step::Repeat => self.piece(self.sent.saturating_sub(20)..self.sent),
            Step::Connect => {
                if let Some(flow) = self.dialed {
                    self.world.gateway.connected(flow, self.world.now);
                    self.connected = true;
                }
            }
            Step::Wait(milliseconds) => self.world.wait(Duration::from_millis(*milliseconds)),
            Step::Reload(allows) => {
                self.allows = *allows;
                self.world.replace(if *allows { ONE } else { NONE });
            }
        }
        self.look();
    }

    /// What came of the step: no dial without an answer, no byte without a dial.
    fn look(&mut self) {
        for order in self.world.orders() {
            match order {
                Order::Dial { flow, .. } => {
                    assert!(self.answered && self.allows, "dialled without a verdict");
                    (self.dialed, self.connected) = (Some(flow), false);
                }
                Order::Hangup { .. } => (self.dialed, self.connected) = (None, false),
                Order::Unmap { .. } | Order::Leave { .. } | Order::Recall { .. } => {}
            }
        }
        if let Some(flow) = self.dialed.filter(|_| self.connected) {
            let left = self.world.pump(flow);
            assert!(
                left.is_empty() || self.allows,
                "bytes leave against the policy"
            );
            self.left.extend(left);
        } else {
            while let Some(flow) = self.world.gateway.next_dirty() {
                while self.world.gateway.settle(flow, self.world.now) {}
            }
        }
        let packets = self.world.packets();
        for (parsed, _) in &packets {
            self.passed(parsed);
        }
        for tcp in tcp_headers(&packets) {
            if tcp.flags & (Tcp::SYN | Tcp::ACK) == Tcp::SYN | Tcp::ACK {
                self.next = Some(tcp.seq.wrapping_add(1));
            }
        }
        self.world.events();
        // Orders that came of the pumping.
        if self.world.gateway.is_empty() {
            (self.dialed, self.connected) = (None, false);
        }
    }

    /// A packet on its way: of what the client sends, none without an answer or against the policy.
    fn passed(&mut self, parsed: &Parsed) {
        let Transport::Tcp(tcp) = parsed.transport else {
            return;
        };
        if (parsed.src, tcp.sport) != (CLIENT.parse::<std::net::SocketAddr>().unwrap().ip(), 40000)
            || tcp.flags & Tcp::RST != 0
        {
            return;
        }
        assert!(self.answered && self.allows, "passed without a verdict");
        let data = parsed.len - tcp.payload;
        if data > 0 {
            let end = tcp.seq.wrapping_sub(1001) as usize + data;
            self.reach = self.reach.max(end);
        } else if tcp.flags & Tcp::SYN != 0 {
            // The server answers at once.
            self.next = Some(9000);
        }
    }

    fn piece(&mut self, bytes: std::ops::Range<usize>) {
        if let Some(next) = self.next {
            let seq = 1001 + u32::try_from(bytes.start).unwrap();
            self.segment(Tcp::ACK, seq, next, bytes);
        }
    }

    fn segment(&mut self, flags: u8, seq: u32, ack: u32, bytes: std::ops::Range<usize>) {
        let segment = Segment {
            from: CLIENT,
            to: SERVER,
            flags,
            seq,
            ack,
            payload: &self.hello[bytes],
        };
        let packet = segment.bytes();
        if self.world.packet(&packet) == Fate::Pass {
            let parsed = Parsed::read(&packet, cordon::packet::Checksum::Verify).unwrap();
            self.passed(&parsed);
        }
    }

    fn answer(&mut self, good: bool) {
        learn(&mut self.world, learned(good));
        // While nothing is allowed, the resolver is not asked either.
        self.answered |= good && self.allows;
    }
}

#[derive(Clone, Debug)]
enum Quic {
    Answer(bool),
    /// One of the datagrams of the first flight.
    Datagram(prop::sample::Index),
    Wait(u64),
    Reload(bool),
}

fn quic() -> impl Strategy<Value = Quic> {
    prop_oneof![
        2 => any::<bool>().prop_map(Quic::Answer),
        6 => any::<prop::sample::Index>().prop_map(Quic::Datagram),
        2 => prop_oneof![1u64..400, 1000u64..3000].prop_map(Quic::Wait),
        1 => any::<bool>().prop_map(Quic::Reload),
    ]
}

/// The datagrams of a packet that was handed in, and of those that were released by it, that leave.
fn leaving(world: &mut World, packet: Vec<u8>) -> Vec<Vec<u8>> {
    let mut packets = vec![(Offload::default(), packet)];
    let mut left = Vec::new();
    while let Some((offload, mut packet)) = packets.pop() {
        match world.gateway.packet(&mut packet, &offload, world.now) {
            Fate::Send(datagram) => left.push(world.gateway.payload(&datagram, &packet).to_vec()),
            Fate::Pass => {
                let parsed = Parsed::read(&packet, cordon::packet::Checksum::Trust).unwrap();
                left.push(parsed.payload(&packet).to_vec());
            }
            Fate::Done => {}
        }
        packets.extend(std::iter::from_fn(|| world.gateway.next_released()));
    }
    left
}

/// What was answered here and given up does not go on as if the gate had not been there from its beginning.
#[test]
fn the_end_of_a_hello_whose_beginning_was_not_read_does_not_leave() {
    let reloaded = [Step::Reload(false), Step::Piece(1), Step::Reload(true)];
    for before in [&[][..], &[Step::Piece(18)], &reloaded] {
        let mut run = Run::new("www.bad.example", true);
        for step in [Step::Syn, Step::Wait(2000), Step::Answer(true)] {
            run.take(&step);
        }
        for step in before {
            run.take(step);
        }
        run.take(&Step::Piece(90));
        assert_eq!((run.sent, run.reach), (run.hello.len(), 0));
    }
}

proptest! {
    #[test]
    fn no_byte_leaves_before_its_verdict_or_against_it(
        good in any::<bool>(), passes in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let name = if good { "www.good.example" } else { "www.bad.example" };
        let mut run = Run::new(name, passes);
        for step in &steps {
            run.take(step);
            prop_assert!(run.answered || run.left.is_empty() && run.reach == 0);
            // Of a hello that asks for another name the end never leaves, whatever became of its beginning.
            prop_assert!(good || run.left.len() < run.hello.len() && run.reach < run.hello.len());
        }
    }

    #[test]
    fn no_datagram_leaves_before_its_verdict_or_against_it(
        good in any::<bool>(), passes in any::<bool>(),
        steps in proptest::collection::vec(quic(), 1..40),
    ) {
        let name = if good { "www.good.example" } else { "www.bad.example" };
        let flight = initials(name);
        let mut world = match passes {
            true => World::answering_router(ONE, dns()),
            false => World::answering(ONE, dns()),
        };
        let (mut answered, mut allows) = (false, true);
        let mut left: Vec<Vec<u8>> = Vec::new();
        for step in &steps {
            let mut now = Vec::new();
            match step {
                Quic::Answer(good) => {
                    learn(&mut world, learned(*good));
                    answered |= *good && allows;
                }
                Quic::Datagram(which) => {
                    let datagram = &flight[which.index(flight.len())];
                    now = leaving(&mut world, udp(CLIENT, SERVER, datagram));
                }
                Quic::Wait(milliseconds) => {
                    world.wait(Duration::from_millis(*milliseconds));
                    while let Some((_, packet)) = world.gateway.next_released() {
                        now.extend(leaving(&mut world, packet));
                    }
                }
                Quic::Reload(to) => {
                    allows = *to;
                    world.replace(if allows { ONE } else { NONE });
                }
            }
            world.orders();
            world.packets();
            world.events();
            prop_assert!(now.is_empty() || answered && allows, "left without a verdict");
            left.extend(now);
            // The hello of another name never leaves whole, whatever became of parts of it.
            let whole = flight.iter().all(|datagram| left.contains(datagram));
            prop_assert!(good || !whole);
        }
    }

    #[test]
    fn an_answered_name_gets_through(size in 1usize..300) {
        let mut run = Run::new("www.good.example", false);
        run.take(&Step::Answer(true));
        run.take(&Step::Syn);
        run.take(&Step::Connect);
        while run.sent < run.hello.len() {
            run.take(&Step::Piece(size));
        }
        prop_assert_eq!(&run.left, &run.hello);
    }
}
