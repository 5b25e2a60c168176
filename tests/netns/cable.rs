//! A bad cable, and readers that do not read: bytes stay right and memory stays bounded.

use crate::gate::{Net, US, US6, end, wired};
use crate::harness::in_lab;
use cordon::kernel::namespace::lab::{Host, Lab};
use cordon::link::Tun;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// Bytes moved each way.
const BULK: &str = "20000000";

/// What a cable has done to packets.
#[derive(Default)]
struct Faults {
    lost: AtomicU64,
    doubled: AtomicU64,
    swapped: AtomicU64,
    cut: AtomicBool,
}

/// Lays a cable that loses, doubles and swaps one packet in a hundred each; two threads carry its packets.
fn bad_cable(phone: &Host, router: &Host, faults: &Arc<Faults>) {
    let [a, b] = [(phone, "wlan"), (router, "lan")].map(|(host, name)| {
        let tun = host.run(|| Tun::create_plain(name, 1500)).unwrap();
        Arc::new(tun)
    });
    for (from, to, seed) in [(Arc::clone(&a), Arc::clone(&b), 1), (b, a, 2)] {
        let faults = Arc::clone(faults);
        thread::spawn(move || carry(&from, &to, seed, &faults));
    }
}

fn carry(from: &Tun, to: &Tun, seed: u64, faults: &Faults) {
    let (mut buffer, mut held, mut state) = (vec![0; Tun::BUFFER], None::<Vec<u8>>, seed);
    while !faults.cut.load(Ordering::Relaxed) {
        let Some(len) = from.recv(&mut buffer).unwrap_or(None) else {
            thread::sleep(Duration::from_micros(100));
            continue;
        };
        let packet = &buffer[..len];
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        // A full receiver loses packets, as cables do.
        let put = |packet: &[u8]| drop(to.send(packet));
        match (state >> 33) % 100 {
            0 => drop(count(&faults.lost)),
            1 => {
                count(&faults.doubled);
                put(packet);
                put(packet);
            }
            2 if held.is_none() => held = Some(packet.to_vec()),
            _ => put(packet),
        }
        if let Some(earlier) = held.take_if(|earlier| *earlier != *packet) {
            count(&faults.swapped);
            put(&earlier);
        }
    }
}

fn behind_a_bad_cable(lab: &Lab, path: &str) {
    let faults = Arc::<Faults>::default();
    let net = wired(lab, |_, phone, router| bad_cable(phone, router, &faults));
    let daemon = net.start(&format!("inside = [\"lan\"]\npath = \"{path}\""));
    for server in [format!("{US}:9"), format!("[{US6}]:9")] {
        net.phone(&["both", &server, BULK]);
    }
    end(daemon);
    faults.cut.store(true, Ordering::Relaxed);
    for fault in [&faults.lost, &faults.doubled, &faults.swapped] {
        assert!(fault.load(Ordering::Relaxed) > 50);
    }
}

#[test]
fn a_bad_cable_changes_no_byte_of_a_terminated_connection() {
    in_lab(|lab| behind_a_bad_cable(lab, "terminate"));
}

#[test]
fn a_bad_cable_changes_no_byte_of_a_connection_that_passes() {
    in_lab(|lab| behind_a_bad_cable(lab, "pass"));
}

/// Bytes of memory that the gate has for itself (proc(5), `RssAnon`); `/proc` has the numbers of the outer processes,
/// the lab's own are at the end of `NSpid`.
fn memory(id: u32) -> u64 {
    let id = format!("\t{id}");
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read_to_string(entry.unwrap().path().join("status")).ok())
        .find_map(|status| {
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
            let is_it = status.starts_with("Name:\tcordon") && field("NSpid:")?.ends_with(&id);
            let kib = field("RssAnon:")?.trim().strip_suffix(" kB")?;
            is_it.then(|| kib.parse::<u64>().unwrap() * 1024)
        })
        .unwrap()
}

#[test]
fn a_reader_that_does_not_read_costs_two_rings_and_no_more() {
    in_lab(|lab| {
        let net: Net = wired(lab, |lab, phone, router| {
            lab.wire((phone, "wlan"), (router, "lan")).unwrap();
        });
        let daemon = net.start("inside = [\"lan\"]\npath = \"terminate\"");
        // What is used once, such as stacks of threads, is in use by now.
        net.phone(&["both", &format!("{US}:9"), BULK]);
        let before = memory(daemon.id());
        let mut most = before;
        thread::scope(|scope| {
            let slow = scope.spawn(|| net.phone(&["slow", &format!("{US}:9"), "200000000"]));
            while !slow.is_finished() {
                most = most.max(memory(daemon.id()));
                thread::sleep(Duration::from_millis(50));
            }
        });
        let grown = most - before;
        assert!(grown < 4 << 20, "{grown} bytes");
        end(daemon);
    });
}
