use super::*;
use crate::link::frame::Segment;
use crate::packet::protocol::TCP;

fn udp<'a>(source: u16, server: u8, payload: &'a [u8]) -> Seen<'a> {
    Seen {
        source: SocketAddr::from(([10, 0, 0, 1], source)),
        destination: SocketAddr::from(([203, 0, 113, server], 8000)),
        protocol: UDP,
        payload,
        segment: None,
        fragment: false,
        length: payload.len() + 28,
    }
}

fn tcp(payload: &[u8], sequence: u32, syn: bool) -> Seen<'_> {
    Seen {
        segment: Some(Segment {
            sequence,
            syn,
            ack: !syn,
            end: false,
        }),
        protocol: TCP,
        ..udp(40_000, 9, payload)
    }
}

fn at(millis: u64) -> Time {
    Time::from_secs(1_612_750_000) + Duration::from_millis(millis)
}

fn audit(packets: &[(u64, Seen<'_>)]) -> (Vec<Flow>, Vec<Fanout>) {
    let mut audit = Audit::new(Sanitizer::default());
    let mut flows = Vec::new();
    for (number, (millis, seen)) in (1..).zip(packets) {
        audit.packet(
            (number, at(*millis)),
            seen,
            |_| false,
            |flow| flows.push(flow),
        );
    }
    let fanouts = audit.finish(|flow| flows.push(flow));
    (flows, fanouts)
}

#[test]
fn pings_to_three_servers_are_one_fan_out_with_those_that_left_before() {
    let ping = b"ping n=512345687 r=M5xk2Rj9";
    let packets: Vec<_> = (1..=5)
        .map(|server| (u64::from(server) * 100, udp(40_000, server, ping)))
        .collect();
    let (flows, fanouts) = audit(&packets);
    assert_eq!(flows.len(), 5);
    assert_eq!(fanouts.len(), 1);
    assert_eq!(fanouts[0].destinations.len(), 5);
    assert_eq!(fanouts[0].packets, [1, 2, 3, 4, 5]);
    assert_eq!(
        fanouts[0]
            .leaked
            .iter()
            .map(|(_, number)| *number)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    assert!(flows[0].findings.is_empty() && !flows[2].findings.is_empty());
}

#[test]
fn a_stream_is_read_in_order_and_its_findings_name_their_frames() {
    let (flows, _) = audit(&[
        (0, tcp(b"", 99, true)),
        (1, tcp(b"PASS secret\r\n", 111, false)),
        (2, tcp(b"USER anne\r\n", 100, false)),
    ]);
    let told: Vec<_> = flows[0]
        .findings
        .iter()
        .map(|told| (told.leak, told.packets.clone()))
        .collect();
    assert_eq!(told, [("login.user", vec![3]), ("login.password", vec![2])]);
    let before: Vec<u8> = flows[0].findings[1]
        .excerpt
        .before
        .iter()
        .flatten()
        .copied()
        .collect();
    assert_eq!(before, b"PASS ");
}

#[test]
fn an_answer_belongs_to_the_flow_that_was_opened() {
    let request = udp(40_000, 9, b"x");
    let answer = Seen {
        source: request.destination,
        destination: request.source,
        ..request
    };
    let (flows, _) = audit(&[(0, request), (1, answer)]);
    assert_eq!(flows.len(), 1);
    assert_eq!((flows[0].packets, flows[0].index), (2, 1));
}

#[test]
fn silent_flows_are_handed_out_before_the_end() {
    let mut audit = Audit::new(Sanitizer::default());
    let mut over = 0;
    audit.packet((1, at(0)), &udp(1, 1, b"x"), |_| false, |_| over += 1);
    audit.packet((2, at(700_000)), &udp(2, 2, b"x"), |_| false, |_| over += 1);
    assert_eq!(over, 1);
}

#[test]
fn a_server_is_called_what_its_client_was_told() {
    // `a.example` is 203.0.113.9.
    let answer = b"\x12\x34\x81\x80\0\x01\0\x01\0\0\0\0\x01a\x07example\0\0\x01\0\x01\
        \xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xcb\0\x71\x09";
    let resolver = SocketAddr::from(([203, 0, 113, 53], 53));
    let question = Seen {
        destination: resolver,
        ..udp(40_000, 9, &answer[..27])
    };
    let told = Seen {
        source: resolver,
        destination: question.source,
        ..udp(40_000, 9, answer)
    };
    let (flows, _) = audit(&[
        (0, question),
        (10, told),
        (20, udp(41_000, 9, b"hello")),
        (30, udp(41_000, 8, b"hello")),
    ]);
    let names: Vec<Vec<&str>> = flows
        .iter()
        .map(|flow| flow.all_names().collect())
        .collect();
    assert_eq!(names, [vec![], vec!["a.example"], vec![]]);
    assert_eq!(flows[1].resolved[0].1, at(10));
}

#[test]
fn what_comes_in_fragments_is_read_whole() {
    // One UDP datagram with a request, cut after 24 bytes of its payload.
    let text = b"INVITE sip:bob@b.example SIP/2.0\r\nFrom: <sip:anne@a.example>\r\n\r\n";
    let mut datagram = vec![0x13, 0xc4, 0x13, 0xc4, 0, 0, 0, 0];
    datagram[5] = (text.len() + 8) as u8;
    datagram.extend(text);
    let piece = |range: std::ops::Range<usize>, more: bool| {
        let data = &datagram[range.clone()];
        let mut packet = vec![0x45, 0, 0, (20 + data.len()) as u8, 0, 7];
        packet.extend([
            if more { 0x20 } else { 0 },
            (range.start / 8) as u8,
            64,
            17,
            0,
            0,
        ]);
        packet.extend([10, 0, 0, 1, 203, 0, 113, 9]);
        packet.extend(data);
        let sum = crate::packet::checksum::Sum::of(&packet[..20]).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    let pieces = [piece(32..datagram.len(), false), piece(0..32, true)];
    let (mut audit, mut flows) = (Audit::new(Sanitizer::default()), Vec::new());
    for (number, bytes) in (1..).zip(&pieces) {
        let frame = Frame {
            number,
            at: at(number),
            link: 101,
            bytes,
            wire: bytes.len() as u32,
        };
        audit.frame(&frame, |_, _| false, |flow| flows.push(flow));
    }
    audit.finish(|flow| flows.push(flow));
    assert_eq!(flows.len(), 1);
    assert_eq!(
        flows[0].reading.map(|reading| reading.protocol),
        Some("sip")
    );
    assert_eq!(flows[0].findings[0].packets, [2]);
}

#[test]
fn what_flows_hold_is_bounded_and_the_oldest_go_first() {
    let (gap, part) = ([b'b'; 1400], [&b"GET /"[..], &[b'a'; 1000]].concat());
    let (mut audit, mut over) = (Audit::new(Sanitizer::default()), Vec::new());
    for number in 0..30_000_u32 {
        let source = SocketAddr::from(([10, 0, (number >> 14) as u8, 1], number as u16 | 0x4000));
        for (payload, sequence, syn) in
            [(&b""[..], 0, true), (&part, 1, false), (&gap, 9000, false)]
        {
            let seen = Seen {
                source,
                ..tcp(payload, sequence, syn)
            };
            let moment = (u64::from(number), at(u64::from(number)));
            audit.packet(moment, &seen, |_| false, |flow| over.push(flow.key.source));
        }
        assert!(audit.weight <= MOST_BYTES + 4096);
    }
    assert!(!over.is_empty());
    assert_eq!(over[0].port(), 0x4000);
    let weight: usize = audit.flows.iter().map(Flow::weight).sum();
    assert_eq!(audit.weight, weight);
}
