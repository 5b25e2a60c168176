//! What `cordon run` changes on a machine, and that it takes it back.
use crate::harness::{in_lab, wait_until};
use crate::home::{
    Daemon, Home, PHONE, SERVER, assert_nothing_left, close, echoes, gateway, refuse_untracked,
    routed, serve, tun,
};
use cordon::kernel::divert::{Divert, FILTER, OWN_MARK, take_back};
use cordon::kernel::namespace::lab::{Host, Lab, Observer};
use cordon::kernel::netlink::{Family, Netlink};
use cordon::kernel::nft::{Batch, Nft, Sees};
use cordon::link::Tun;
use cordon::packet::offload;
use netlink_bindings::{nftables, rt_route};
use netlink_socket2::NetlinkSocket;
use std::fmt::Write;
use std::io::{Read, Write as _};
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, thread};

/// Sends a megabyte to port 7 of `to` and gets it back.
fn streams(host: &Host, to: &str) -> bool {
    host.run(|| {
        let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 249) as u8).collect();
        let mut stream = TcpStream::connect((to.parse::<IpAddr>()?, 7))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut back = stream.try_clone()?;
        let reader = thread::spawn(move || {
            let mut got = Vec::new();
            back.read_to_end(&mut got).map(|_| got)
        });
        stream.write_all(&sent)?;
        stream.shutdown(std::net::Shutdown::Write)?;
        Ok(reader.join().unwrap()? == sent)
    })
    .unwrap()
}

/// Everything that could have been changed, as text, once it has settled: the kernel adds the routes of a new IPv6
/// address a moment later.
fn state(host: &Host) -> String {
    let mut before = snapshot(host);
    loop {
        thread::sleep(Duration::from_millis(100));
        let now = snapshot(host);
        if now == before {
            return now;
        }
        before = now;
    }
}

fn snapshot(host: &Host) -> String {
    host.run(|| {
        let mut text = String::new();
        let mut netlink = Netlink::open()?;
        for family in Family::BOTH {
            writeln!(text, "{:#?}", netlink.rules(family)?)?;
        }
        writeln!(text, "{:#?}", netlink.addresses()?)?;
        routes(&mut text)?;
        filter(&mut text)?;
        for directory in ["ipv4", "ipv6"] {
            settings(&mut text, &Path::new("/proc/sys/net").join(directory))?;
        }
        Ok(text)
    })
    .unwrap()
}

/// Sorted: the kernel lists routes of equal rank in the order in which they came.
fn routes(text: &mut String) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    let mut socket = NetlinkSocket::new();
    let request = rt_route::Request::new().op_getroute_dump(&rt_route::Rtmsg::new());
    let mut reply = socket.request(&request)?;
    while let Some(answer) = reply.recv() {
        let (header, route) = answer?;
        lines.push(format!(
            "{header:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            route.get_dst().ok(),
            route.get_gateway().ok(),
            route.get_oif().ok(),
            route.get_table().ok(),
            route.get_priority().ok(),
            route.get_prefsrc().ok()
        ));
    }
    lines.sort();
    text.push_str(&lines.join("\n"));
    Ok(())
}

fn filter(text: &mut String) -> anyhow::Result<()> {
    let header = nftables::Nfgenmsg::new();
    let mut socket = NetlinkSocket::new();
    macro_rules! dump {
        ($($operation:ident),*) => {$(
            let request = nftables::Request::new().$operation(&header);
            let mut reply = socket.request(&request)?;
            while let Some(answer) = reply.recv() {
                writeln!(text, "{:#?}", answer?.1)?;
            }
        )*};
    }
    dump!(
        op_gettable_dump,
        op_getchain_dump,
        op_getrule_dump,
        op_getset_dump
    );
    Ok(())
}

fn settings(text: &mut String, directory: &Path) -> anyhow::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_type()?.is_dir() {
            settings(text, &entry.path())?;
        } else if let Ok(value) = fs::read_to_string(entry.path()) {
            writeln!(text, "{}={value}", entry.path().display())?;
        }
    }
    Ok(())
}

#[track_caller]
fn assert_same(before: &str, after: &str) {
    let only_in = |one: &str, other: &str| -> Vec<String> {
        one.lines()
            .filter(|line| !other.lines().any(|there| there == *line))
            .map(str::to_owned)
            .collect()
    };
    let (gone, new) = (only_in(before, after), only_in(after, before));
    assert!(before == after, "gone: {gone:#?}\nnew: {new:#?}");
}

/// Tests that hold whatever way packets come to the TUN.
macro_rules! either_way {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            #[test]
            fn by_the_short_way() {
                super::in_lab(|lab| super::$test(lab, &super::gateway()));
            }

            #[test]
            fn by_routes() {
                super::in_lab(|lab| super::$test(lab, &super::routed()));
            }
        }
    )+};
}

either_way!(
    a_gateway_judges_what_leaves_the_lan_and_nothing_else,
    connections_to_the_router_itself_stay_tracked,
    when_the_daemon_dies_under_load_not_one_packet_leaves,
);

fn a_gateway_judges_what_leaves_the_lan_and_nothing_else(lab: &Lab, divert: &Divert) {
    let home = Home::in_lab(lab);
    let tun = tun(&home.router);
    let before = state(&home.router);
    let (installed, shortcut) = close(&home.router, divert);
    let daemon = Daemon::with(tun);
    for address in SERVER.iter().chain(&["198.51.100.9", "2001:db8:1::9"]) {
        let passed = daemon.passed();
        assert!(echoes(&home.phone, address, None), "{address}");
        assert!(streams(&home.phone, address), "{address}");
        assert!(
            daemon.passed() > passed + 2,
            "{address} did not go through the TUN"
        );
    }
    daemon.settle();
    let passed = daemon.passed();
    for near in ["192.168.7.1", "fd00:7::1"] {
        assert!(echoes(&home.phone, near, None) && streams(&home.phone, near));
    }
    // The way back, and the router's own traffic, are not diverted.
    for (host, address) in [(&home.server, PHONE), (&home.router, SERVER)] {
        for address in address {
            let any = if address.contains(':') {
                "[::]:0"
            } else {
                "0.0.0.0:0"
            };
            let socket = host.run(|| Ok(UdpSocket::bind(any)?)).unwrap();
            socket
                .send_to(b"hello", (address.parse::<IpAddr>().unwrap(), 9))
                .unwrap();
        }
    }
    assert!(echoes(&home.router, SERVER[0], None));
    // The phone's refusals (port unreachable) leave the LAN, and go through the TUN like anything else.
    assert!(daemon.passed() <= passed + 2);
    drop(shortcut);
    home.router.run(|| installed.undo()).unwrap();
    let after = state(&home.router);
    assert_same(&before, &after);
    daemon.die();
}

fn connections_to_the_router_itself_stay_tracked(lab: &Lab, divert: &Divert) {
    let home = Home::in_lab(lab);
    refuse_untracked(&home.router);
    let device = tun(&home.router);
    let _closed = close(&home.router, divert);
    for own in ["192.168.7.1", "203.0.113.1", "fd00:7::1", "2001:db8::1"] {
        assert!(echoes(&home.phone, own, None), "{own}");
    }
    // What goes into the TUN is tracked only when it is written back.
    let tracked = || -> u32 {
        let count = "/proc/sys/net/netfilter/nf_conntrack_count";
        let text = home.router.run(|| Ok(fs::read_to_string(count)?)).unwrap();
        text.trim().parse().unwrap()
    };
    let before = tracked();
    assert!(!echoes(&home.phone, SERVER[0], None));
    assert_eq!(tracked(), before);
    let daemon = Daemon::with(device);
    assert!(echoes(&home.phone, SERVER[0], None));
    assert!(tracked() > before);
    daemon.die();
}

#[test]
fn a_machine_with_odd_settings_is_given_back_as_it_was() {
    in_lab(|lab| {
        let home = Home::in_lab(lab);
        for (path, value) in [
            ("ipv4/ip_forward", "0"),
            ("ipv4/conf/all/accept_redirects", "0"),
            ("ipv4/conf/wan0/forwarding", "1"),
            ("ipv6/conf/wan0/forwarding", "1"),
            ("ipv6/conf/default/forwarding", "1"),
            ("ipv6/conf/wan0/accept_ra", "1"),
            ("ipv4/conf/lan0/rp_filter", "1"),
        ] {
            home.router.setting(path, value).unwrap();
        }
        let tun = tun(&home.router);
        let before = state(&home.router);
        let installed = home.router.run(|| routed().install()).unwrap();
        let during = state(&home.router);
        for changed in [
            "net/ipv4/ip_forward=1",
            "net/ipv6/conf/all/forwarding=1",
            "net/ipv6/conf/wan0/accept_ra=2",
        ] {
            assert!(during.contains(changed), "{changed}");
        }
        home.router.run(|| installed.undo()).unwrap();
        assert_same(&before, &state(&home.router));
        // The same where forwarding is on, but not everywhere.
        home.router.forward().unwrap();
        home.router
            .setting("ipv4/conf/lan0/forwarding", "0")
            .unwrap();
        let before = state(&home.router);
        let installed = home.router.run(|| routed().install()).unwrap();
        assert!(state(&home.router).contains("net/ipv4/conf/lan0/forwarding=1"));
        home.router.run(|| installed.undo()).unwrap();
        assert_same(&before, &state(&home.router));
        drop(tun);
    });
}

#[test]
fn a_start_that_fails_half_way_leaves_the_machine_as_it_was() {
    in_lab(|lab| {
        let home = Home::in_lab(lab);
        let missing = home.router.run(|| routed().install()).unwrap_err();
        assert!(
            missing
                .to_string()
                .contains("cannot find the interface cordon0"),
            "{missing}"
        );
        let _tun = tun(&home.router);
        // The last steps are policy rules, and one of them is there twice.
        let mut twice = routed();
        twice.lans.push("lan0".to_owned());
        let before = state(&home.router);
        let refused = home.router.run(|| twice.install()).unwrap_err();
        assert!(
            refused
                .to_string()
                .starts_with("cannot add the policy rule 4310: iif lan0 fwmark"),
            "{refused}"
        );
        assert_same(&before, &state(&home.router));
        // The interface is down: no route into it can be had.
        home.router
            .run(|| Netlink::open()?.down("cordon0"))
            .unwrap();
        let before = state(&home.router);
        assert!(home.router.run(|| routed().install()).is_err());
        assert_same(&before, &state(&home.router));
    });
}

fn when_the_daemon_dies_under_load_not_one_packet_leaves(lab: &Lab, divert: &Divert) {
    let home = Home::in_lab(lab);
    // A router it was before, so that a guard that is gone would show.
    home.router.forward().unwrap();
    let untouched = state(&home.router);
    let tun_device = tun(&home.router);
    let (installed, shortcut) = close(&home.router, divert);
    let daemon = Daemon::with(tun_device);
    for address in SERVER {
        assert!(echoes(&home.phone, address, None));
    }
    let load = Load::from(&home.phone);
    wait_until("the load is on", || daemon.passed() > 1000);
    // From here on whatever leaves has slipped through, at the moment of death, too.
    daemon.stun();
    let outside = home.outside();
    drop((installed, shortcut));
    daemon.die();
    let sent = load.sent();
    wait_until("the phone has sent more", || load.sent() > sent + 5000);
    for address in SERVER {
        assert!(!echoes(&home.phone, address, None));
    }
    assert_nothing_left(outside);

    // Even if somebody puts the routes back as they were.
    let outside = home.outside();
    remove_rules(&home.router);
    let sent = load.sent();
    wait_until("the phone has sent more", || load.sent() > sent + 5000);
    assert_nothing_left(outside);

    // A start that fails does not open what was closed.
    let outside = home.outside();
    let device = divert.routed.then(|| {
        let device = tun(&home.router);
        home.router
            .run(|| Netlink::open()?.down("cordon0"))
            .unwrap();
        device
    });
    assert!(home.router.run(|| divert.install()).is_err());
    let sent = load.sent();
    wait_until("the phone has sent more", || load.sent() > sent + 5000);
    assert_nothing_left(outside);
    drop(device);

    // One that succeeds takes the leftovers over.
    let device = tun(&home.router);
    let (installed, shortcut) = close(&home.router, divert);
    let daemon = Daemon::with(device);
    for address in SERVER {
        assert!(echoes(&home.phone, address, None));
    }
    drop(load);
    drop(shortcut);
    home.router.run(|| installed.undo()).unwrap();
    daemon.die();
    assert_same(&untouched, &state(&home.router));
}

/// Removes Cordon's policy rules, as somebody might who wants the network back.
fn remove_rules(router: &Host) {
    router
        .run(|| {
            let mut netlink = Netlink::open()?;
            for family in Family::BOTH {
                for rule in netlink.rules(family)? {
                    if rule.protocol == 67 {
                        netlink.remove_rule(&rule)?;
                    }
                }
            }
            Ok(())
        })
        .unwrap();
}

/// A phone that sends without pause, over both families.
struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl Load {
    fn from(phone: &Host) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let load = Self {
            stop: Arc::clone(&stop),
            sent: Arc::clone(&sent),
        };
        phone
            .spawn(move || {
                let sockets = [UdpSocket::bind("0.0.0.0:0")?, UdpSocket::bind("[::]:0")?];
                while !stop.load(Ordering::SeqCst) {
                    for (socket, to) in sockets.iter().zip(SERVER) {
                        let to = (to.parse::<IpAddr>()?, 9);
                        // *Unreachable* comes back as an error of a later call.
                        let _ = socket.send_to(&[7; 500], to);
                        sent.fetch_add(1, Ordering::SeqCst);
                    }
                    thread::sleep(Duration::from_micros(50));
                }
                Ok(())
            })
            .unwrap();
        load
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_guard_that_somebody_removed_is_put_back() {
    in_lab(|lab| {
        let home = Home::in_lab(lab);
        let _tun = tun(&home.router);
        let (installed, shortcut) = close(&home.router, &gateway());
        let guard = || {
            let chains = ["guard", "from_lan", "before"];
            let comments = || {
                chains
                    .map(|chain| Nft::comments(FILTER, chain))
                    .into_iter()
                    .collect()
            };
            home.router.run(comments).unwrap()
        };
        let before: Vec<Vec<String>> = guard();
        assert!(
            before.iter().all(|comments| !comments.is_empty()),
            "{before:?}"
        );
        assert!(!home.router.run(|| installed.keep()).unwrap());
        // As `nft flush ruleset` does it, which leaves the tables of others' connections.
        let flush = || {
            let mut batch = Batch::new(Sees::Packets, FILTER)?;
            batch.remove_table();
            Nft::open()?.commit(&batch)
        };
        home.router.run(flush).unwrap();
        assert!(home.router.run(|| installed.keep()).unwrap());
        assert_eq!(guard(), before);
        drop(shortcut);
        let outside = home.outside();
        assert!(!echoes(&home.phone, SERVER[0], None));
        assert_nothing_left(outside);
        // Nothing else had closed it.
        home.router.run(flush).unwrap();
        assert!(echoes(&home.phone, SERVER[0], None));
    });
}

#[test]
fn what_a_dead_run_left_can_be_taken_back() {
    in_lab(|lab| {
        let home = Home::in_lab(lab);
        let before = state(&home.router);
        assert!(!home.router.run(take_back).unwrap());
        let device = tun(&home.router);
        drop(home.router.run(|| routed().install()).unwrap());
        drop(device);
        assert!(home.router.run(take_back).unwrap());
        assert_same(&before, &state(&home.router));
        home.router.forward().unwrap();
        assert!(echoes(&home.phone, SERVER[0], None));
    });
}

#[test]
fn a_strict_return_path_setting_needs_an_address_on_the_tun() {
    in_lab(|lab| {
        let home = Home::in_lab(lab);
        for all in ["1", "2"] {
            home.router.setting("ipv4/conf/all/rp_filter", all).unwrap();
            let device = tun(&home.router);
            let refused = home.router.run(|| routed().install()).unwrap_err();
            assert!(
                refused
                    .to_string()
                    .contains("cordon0 needs an IPv4 address"),
                "{refused}"
            );
            home.router.address("cordon0", "10.77.0.1/32").unwrap();
            let installed = home.router.run(|| routed().install()).unwrap();
            let daemon = Daemon::with(device);
            for address in SERVER {
                assert!(echoes(&home.phone, address, None), "{address} with {all}");
            }
            home.router.run(|| installed.undo()).unwrap();
            daemon.die();
        }
    });
}

#[test]
fn the_tuns_addresses_answer_nobody_outside() {
    in_lab(|lab| {
        let home = Home::in_lab(lab);
        let _device = addressed_tun(&home);
        serve(&home.router);
        for (net, via) in [
            ("10.77.0.0/24", "203.0.113.1"),
            ("fd00:77::/64", "2001:db8::1"),
        ] {
            home.server.route(net, "eth0", Some(via)).unwrap();
        }
        let installed = home.router.run(|| host_mode(&[]).install()).unwrap();
        for address in ["10.77.0.1", "fd00:77::1"] {
            assert!(!echoes(&home.server, address, None), "{address}");
            assert!(echoes(&home.router, address, None), "{address}");
        }
        home.router.run(|| installed.undo()).unwrap();
        for address in ["10.77.0.1", "fd00:77::1"] {
            assert!(echoes(&home.server, address, None), "{address}");
        }
    });
}

fn host_mode(lans: &[&str]) -> Divert {
    Divert {
        tun: "cordon0".to_owned(),
        lans: lans.iter().map(|lan| (*lan).to_owned()).collect(),
        routed: true,
        own_traffic: true,
    }
}

/// A TUN of the router's with addresses of its own.
fn addressed_tun(home: &Home) -> Tun {
    let device = tun(&home.router);
    home.router.address("cordon0", "10.77.0.1/24").unwrap();
    home.router.address("cordon0", "fd00:77::1/64").unwrap();
    device
}

/// How many datagrams have come out of the TUN.
fn datagrams(device: &Tun) -> usize {
    let mut buf = vec![0; Tun::BUFFER];
    let mut seen = 0;
    while let Some(len) = device.recv(&mut buf).unwrap() {
        let packet = &buf[offload::LEN..len];
        let protocol = if packet[0] >> 4 == 4 {
            packet[9]
        } else {
            packet[6]
        };
        seen += usize::from(protocol == 17);
    }
    seen
}

#[test]
fn in_host_mode_only_marked_sockets_leave() {
    in_lab(|lab| {
        // Here the router is a laptop: lan0 is its home network, wan0 leads to the internet.
        let home = Home::in_lab(lab);
        serve(&home.phone);
        for strict in ["0", "1"] {
            let setting = "ipv4/conf/wan0/rp_filter";
            home.router.setting(setting, strict).unwrap();
            let device = addressed_tun(&home);
            let before = state(&home.router);
            let installed = home.router.run(|| host_mode(&[]).install()).unwrap();
            datagrams(&device);
            for address in SERVER.iter().chain(&["198.51.100.9", "2001:db8:1::9"]) {
                assert!(!echoes(&home.router, address, None), "{address}");
                assert_eq!(datagrams(&device), 3, "{address} into the TUN");
                let marked = echoes(&home.router, address, Some(OWN_MARK));
                assert!(marked, "{address}, strict {strict}");
                assert_eq!(datagrams(&device), 0, "{address} past the TUN");
            }
            for near in PHONE.iter().chain(&["127.0.0.1", "::1", "192.168.7.1"]) {
                assert!(echoes(&home.router, near, None), "{near}");
                assert_eq!(datagrams(&device), 0, "{near} past the TUN");
            }
            home.router.run(|| installed.undo()).unwrap();
            assert_same(&before, &state(&home.router));
        }
    });
}

#[test]
fn when_the_daemon_dies_this_machine_is_cut_off() {
    in_lab(|lab| {
        let home = Home::in_lab(lab);
        let device = addressed_tun(&home);
        let before = state(&home.router);
        drop(home.router.run(|| host_mode(&[]).install()).unwrap());
        drop(device);
        let outside = Observer::judging(&home.router, "wan0", |frame| {
            let protocol = match frame.ethertype {
                0x0800 => frame.bytes[9],
                0x86dd => frame.bytes[6],
                _ => 0,
            };
            frame.outgoing && protocol == 17
        })
        .unwrap();
        for address in SERVER {
            assert!(!echoes(&home.router, address, None), "{address}");
        }
        remove_rules(&home.router);
        for address in SERVER {
            assert!(!echoes(&home.router, address, None), "{address}");
        }
        assert_nothing_left(outside);
        let _device = addressed_tun(&home);
        let installed = home.router.run(|| host_mode(&[]).install()).unwrap();
        home.router.run(|| installed.undo()).unwrap();
        assert_same(
            &without_indexes(&before),
            &without_indexes(&state(&home.router)),
        );
        assert!(echoes(&home.router, SERVER[0], None));
    });
}

/// A TUN that was made again has another index, and makes up other addresses.
fn without_indexes(state: &str) -> String {
    let new = ["link: ", "net: fe80", "Rtmsg", "stable_secret"];
    state
        .lines()
        .filter(|line| new.iter().all(|new| !line.contains(new)))
        .collect::<Vec<_>>()
        .join("\n")
}

#[test]
fn a_router_can_guard_its_lan_and_itself() {
    in_lab(|lab| {
        let home = Home::in_lab(lab);
        for strict in ["0", "1"] {
            home.router
                .setting("ipv4/conf/wan0/rp_filter", strict)
                .unwrap();
            let device = addressed_tun(&home);
            let before = state(&home.router);
            let installed = home.router.run(|| host_mode(&["lan0"]).install()).unwrap();
            let daemon = Daemon::with(device);
            for address in SERVER {
                let passed = daemon.passed();
                assert!(
                    echoes(&home.phone, address, None),
                    "{address}, strict {strict}"
                );
                assert!(streams(&home.phone, address), "{address}");
                assert!(daemon.passed() > passed);
                assert!(echoes(&home.router, address, Some(OWN_MARK)), "{address}");
            }
            for near in ["192.168.7.1", "fd00:7::1"] {
                assert!(echoes(&home.phone, near, None), "{near}");
            }
            home.router.run(|| installed.undo()).unwrap();
            assert_same(&before, &state(&home.router));
            daemon.die();
        }
    });
}
