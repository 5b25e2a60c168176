//! A day of ever new flows, by a fake clock: nothing of them stays.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    clippy::disallowed_methods,
    reason = "a test may fail loudly, and this one reads how much memory its process has"
)]

#[path = "gateway/world.rs"]
#[expect(dead_code, reason = "the scenarios use the rest")]
mod world;

use cordon::gateway::{Event, Order};
use cordon::packet::Tcp;
use std::time::Duration;
use world::{Segment, World, tcp_headers, udp};

const POLICY: &str = "version = 1\nname = \"t\"\n[default]\naction = \"allow\"\n\
    [[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n";
/// Seconds of a day.
const MOMENTS: u32 = 86_400;

/// Resident bytes of this process (proc(5), `/proc/self/statm`, in pages).
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// One second: a datagram, a blocked connection, and a whole connection of a few bytes.
fn second(world: &mut World, number: u32) {
    let port = 1024 + number % 60_000;
    let client = format!("10.111.{}.{}:{port}", number % 7, 2 + number % 200);
    world.packet(&udp(&client, "192.5.5.241:443", b"payload"));
    let segment = |to, flags, seq, ack, payload| Segment {
        from: &client,
        to,
        flags,
        seq,
        ack,
        payload,
    };
    world.packet(&segment("1.2.4.8:443", Tcp::SYN, 1, 0, &[]).bytes());
    let to = "198.41.0.4:80";
    world.packet(&segment(to, Tcp::SYN, 1000, 0, &[]).bytes());
    world.packets();
    for order in world.orders() {
        let Order::Dial { flow, .. } = order else {
            continue;
        };
        world.gateway.connected(flow, world.now);
        let next = tcp_headers(&world.packets())[0].seq.wrapping_add(1);
        world.packet(&segment(to, Tcp::ACK, 1001, next, b"\xffrequest").bytes());
        assert_eq!(world.pump(flow), b"\xffrequest");
        if !number.is_multiple_of(3) {
            world.packet(&segment(to, Tcp::ACK | Tcp::FIN, 1009, next, &[]).bytes());
            world.pump(flow);
            world.gateway.upstream_done(flow);
            world.pump(flow);
            world.packet(&segment(to, Tcp::ACK, 1010, next + 1, &[]).bytes());
            world.pump(flow);
        } else {
            world.packet(&segment(to, Tcp::RST, 1009, next, &[]).bytes());
            world.pump(flow);
        }
    }
}

/// The same for a router's connections, which pass: some are closed, some only fall silent.
fn pass(world: &mut World, number: u32) {
    let port = 1024 + number % 60_000;
    let client = format!("192.168.7.{}:{port}", 2 + number % 200);
    for flags in [Tcp::SYN, Tcp::ACK, Tcp::ACK | Tcp::FIN]
        .iter()
        .take(2 + usize::from(!number.is_multiple_of(50)))
    {
        let segment = Segment {
            from: &client,
            to: "198.41.0.4:80",
            flags: *flags,
            seq: 1,
            ack: 0,
            payload: &[],
        };
        world.packet(&segment.bytes());
    }
}

#[test]
fn a_day_of_flows_leaves_no_memory_behind() {
    let mut worlds = [World::new(POLICY, &[]), World::router(POLICY, &[])];
    let (mut opened, mut closed, mut after_three_hours) = (0_u64, 0_u64, 0);
    for number in 0..MOMENTS {
        second(&mut worlds[0], number);
        pass(&mut worlds[1], number);
        for world in &mut worlds {
            world.wait(Duration::from_secs(1));
            world.packets();
            world.orders();
            for event in world.events() {
                match event {
                    Event::Open(_) => opened += 1,
                    Event::Close(_) => closed += 1,
                    _ => {}
                }
            }
        }
        // Connections that fall silent are kept for two hours.
        if number == 3 * 3600 {
            after_three_hours = resident();
        }
    }
    let grown = resident().saturating_sub(after_three_hours);
    assert!(grown < 2 << 20, "{grown} bytes more after a day");
    assert_eq!(opened, 4 * u64::from(MOMENTS));
    for world in &mut worlds {
        world.wait(Duration::from_secs(3 * 3600));
        world.wait(Duration::from_secs(3 * 3600));
        assert!(world.gateway.is_empty());
        let ends = world.events().into_iter();
        closed += ends
            .filter(|event| matches!(event, Event::Close(_)))
            .count() as u64;
    }
    assert_eq!(opened, closed);
}
