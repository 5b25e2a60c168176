use super::*;
use crate::link::frame::Segment;

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
