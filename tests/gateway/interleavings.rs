//! In no interleaving of answers, packets, timeouts and reloads does a byte leave before its verdict or against it.

use crate::names::hello;
use crate::world::{Segment, World, tcp_headers, udp};
use cordon::flow::FlowId;
use cordon::gateway::{Dns, Lane, Order, Upstream};
use cordon::packet::Tcp;
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
}

impl Run {
    fn new(name: &str) -> Self {
        let upstream = Upstream {
            address: "9.9.9.9:53".parse().unwrap(),
            protocol: 17,
            name: None,
        };
        let dns = Dns {
            upstreams: vec![upstream],
            routes: vec![Lane {
                upstreams: vec![0],
                ..Lane::default()
            }],
            private: Vec::new(),
        };
        Self {
            world: World::answering(ONE, dns),
            hello: hello(name, false),
            sent: 0,
            next: None,
            answered: false,
            allows: true,
            dialed: None,
            connected: false,
            left: Vec::new(),
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
        for tcp in tcp_headers(&self.world.packets()) {
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
        self.world.packet(&packet);
    }

    fn answer(&mut self, good: bool) {
        let text = if good {
            "www.good.example."
        } else {
            "other.example."
        };
        let name = Name::from_ascii(text).unwrap();
        let mut query = Message::query();
        query.add_query(Query::query(name.clone(), RecordType::A));
        self.world.packet(&udp(
            "10.111.0.2:5000",
            "8.8.8.8:53",
            &query.to_vec().unwrap(),
        ));
        if let Some(asked) = self.world.gateway.next_ask() {
            let mut message = Message::response(0, OpCode::Query);
            let data = RData::A(A::new(198, 41, 0, 4));
            message.add_answer(Record::from_rdata(name, 60, data));
            let now = self.world.now;
            self.world.gateway.resolved(asked.id, Some(message), now);
        }
        // While nothing is allowed, the resolver is not asked either.
        self.answered |= good && self.allows;
    }
}

proptest! {
    #[test]
    fn no_byte_leaves_before_its_verdict_or_against_it(
        good in any::<bool>(), steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut run = Run::new(if good { "www.good.example" } else { "www.bad.example" });
        for step in &steps {
            run.take(step);
            prop_assert!(run.answered || run.left.is_empty());
            // Of a hello that asks for another name the end never leaves, whatever became of its beginning.
            prop_assert!(good || run.left.len() < run.hello.len());
        }
    }

    #[test]
    fn an_answered_name_gets_through(size in 1usize..300) {
        let mut run = Run::new("www.good.example");
        run.take(&Step::Answer(true));
        run.take(&Step::Syn);
        run.take(&Step::Connect);
        while run.sent < run.hello.len() {
            run.take(&Step::Piece(size));
        }
        prop_assert_eq!(&run.left, &run.hello);
    }
}
