//! The layer under everything else: links, labs, the TUN, a program shut in.
use crate::harness::{cordon, in_lab, wait_until};
use cordon::kernel::namespace::lab::{Host, Lab, Observer};
use cordon::kernel::netlink::{Family, Netlink, Route, Rule, Target};
use nix::sys::stat::Mode;
use std::ffi::{OsStr, OsString};
use std::net::UdpSocket;
use std::time::Duration;
use std::{fs, thread};

/// Two hosts on one cable, with addresses of both families.
fn pair(lab: &Lab) -> (Host, Host) {
    let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
    lab.wire((&a, "eth0"), (&b, "eth0")).unwrap();
    for net in ["198.51.100.1/24", "2001:db8::1/64"] {
        a.address("eth0", net).unwrap();
    }
    for net in ["198.51.100.2/24", "2001:db8::2/64"] {
        b.address("eth0", net).unwrap();
    }
    (a, b)
}

/// A socket on a host that does not wait for ever.
fn udp(host: &Host, address: &str) -> UdpSocket {
    let socket = host.run(|| Ok(UdpSocket::bind(address)?)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

#[test]
fn hosts_on_a_cable_reach_each_other_over_both_families() {
    in_lab(|lab| {
        let (a, b) = pair(lab);
        for (from, to) in [
            ("198.51.100.1:1000", "198.51.100.2:2000"),
            ("[2001:db8::1]:1000", "[2001:db8::2]:2000"),
        ] {
            let (here, there) = (udp(&a, from), udp(&b, to));
            here.send_to(b"ping", to).unwrap();
            let mut buf = [0; 16];
            let (len, sender) = there.recv_from(&mut buf).unwrap();
            assert_eq!(
                (&buf[..len], sender.to_string().as_str()),
                (&b"ping"[..], from)
            );
            there.send_to(b"pong", sender).unwrap();
            assert_eq!(here.recv_from(&mut buf).unwrap().0, 4);
        }
    });
}

#[test]
fn an_observer_sees_exactly_what_was_sent() {
    in_lab(|lab| {
        let (a, b) = pair(lab);
        let observer = Observer::judging(&b, "eth0", |frame| {
            frame.ethertype == 0x0800 && frame.bytes.get(9) == Some(&17)
        })
        .unwrap();
        let here = udp(&a, "198.51.100.1:1000");
        let there = udp(&b, "198.51.100.2:2000");
        for number in 0..500_u32 {
            here.send_to(&number.to_be_bytes(), "198.51.100.2:2000")
                .unwrap();
            let mut buf = [0; 4];
            there.recv_from(&mut buf).unwrap();
            there.send_to(&buf, "198.51.100.1:1000").unwrap();
            here.recv_from(&mut buf).unwrap();
        }
        let capture = observer.finish().unwrap();
        assert_eq!(capture.missed, 0);
        assert_eq!(capture.kept.len(), 1000);
        for (number, pair) in (0..500_u32).zip(capture.kept.chunks(2)) {
            assert_eq!(
                pair.iter().map(|frame| frame.outgoing).collect::<Vec<_>>(),
                [false, true]
            );
            for frame in pair {
                assert_eq!(frame.bytes[28..], number.to_be_bytes());
            }
        }
    });
}

#[test]
fn with_a_lab_ends_everything_in_it() {
    in_lab(|_| {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        // Whoever has the pipe open for writing is alive: a background job that outlives the lab's program.
        let script = format!(
            "exec 3>{}; trap '' TERM HUP; setsid sleep 60 & exit 3",
            pipe.display()
        );
        let reader = thread::spawn(move || fs::read(pipe).unwrap());
        let code = Lab::run(
            &cordon(),
            OsStr::new("/bin/sh"),
            &[OsString::from("-c"), OsString::from(script)],
        );
        assert_eq!(code.unwrap(), 3);
        wait_until("nobody writes any more", || reader.is_finished());
    });
}

#[test]
fn a_machine_outside_is_never_taken_for_a_lab() {
    in_lab(|lab| {
        let host = lab.host("host").unwrap();
        // Claim that this namespace is the machine's own.
        let network = fs::read_link("/proc/thread-self/ns/net").unwrap();
        let claim = format!("export CORDON_LAB='{}'", network.display());
        assert!(Lab::here().is_some());
        let own = std::env::current_exe().unwrap();
        let script = format!(
            "{claim}; exec {} --exact layer::here_is_no_lab --ignored",
            own.display()
        );
        let run = |on: Option<&Host>| {
            let run = || {
                Ok(std::process::Command::new("/bin/sh")
                    .args(["-c", &script])
                    .status()?)
            };
            on.map_or_else(run, |host| host.run(run)).unwrap()
        };
        assert!(run(None).success());
        assert!(!run(Some(&host)).success());
    });
}

/// Run by the test above only.
#[test]
#[ignore = "it is part of another test"]
fn here_is_no_lab() {
    assert!(Lab::here().is_none());
}

#[test]
fn addresses_and_neighbours_are_listed() {
    in_lab(|lab| {
        let (a, _b) = pair(lab);
        udp(&a, "198.51.100.1:1000")
            .send_to(b"hello", "198.51.100.2:9")
            .unwrap();
        a.run(|| {
            let mut netlink = Netlink::open()?;
            let index = netlink.index("eth0")?;
            let mut far = None;
            wait_until("the neighbour has answered", || {
                far = netlink
                    .neighbours()
                    .unwrap()
                    .into_iter()
                    .find(|neighbour| neighbour.address.to_string() == "198.51.100.2");
                far.is_some()
            });
            let far = far.unwrap();
            assert_eq!(far.link, index);
            let addresses = netlink.addresses()?;
            assert!(addresses.iter().any(|address| {
                address.link == index && address.net == "2001:db8::1/64".parse().unwrap()
            }));
            netlink.remove_address("eth0", "198.51.100.1/24".parse().unwrap())?;
            let again = netlink
                .remove_address("eth0", "198.51.100.1/24".parse().unwrap())
                .unwrap_err();
            assert!(
                again
                    .to_string()
                    .starts_with("cannot take the address 198.51.100.1/24 from eth0: "),
                "{again}"
            );
            Ok(())
        })
        .unwrap();
    });
}

#[test]
fn links_are_renamed_sized_and_removed() {
    in_lab(|lab| {
        let (a, b) = pair(lab);
        a.run(|| {
            let mut netlink = Netlink::open()?;
            netlink.down("eth0")?;
            netlink.rename("eth0", "wan0")?;
            netlink.set_mtu("wan0", 1400)?;
            netlink.set_queue_len("wan0", 5000)?;
            netlink.up("wan0")?;
            assert!(netlink.index("eth0").is_err());
            netlink.delete_link("wan0")
        })
        .unwrap();
        let gone = b.run(|| Netlink::open()?.index("eth0")).unwrap_err();
        assert!(gone.to_string().contains("there is no interface"), "{gone}");
    });
}

#[test]
fn routes_are_added_listed_and_removed() {
    in_lab(|lab| {
        let (a, _b) = pair(lab);
        a.run(|| {
            let mut netlink = Netlink::open()?;
            for (family, via) in [(Family::V4, "198.51.100.2"), (Family::V6, "2001:db8::2")] {
                let route = |metric, target| Route {
                    destination: Route::default_of(family),
                    table: 17_231,
                    metric,
                    target,
                };
                let out = Target::Device {
                    name: "eth0".to_owned(),
                    via: Some(via.parse()?),
                };
                let routes = [route(10, out), route(20, Target::Unreachable)];
                for route in &routes {
                    netlink.add_route(route)?;
                }
                assert_eq!(netlink.routes(family, 17_231)?, routes);
                for route in &routes {
                    netlink.remove_route(route)?;
                }
                assert!(netlink.routes(family, 17_231)?.is_empty());
                assert!(netlink.remove_route(&routes[0]).is_err());
            }
            Ok(())
        })
        .unwrap();
    });
}

#[test]
fn policy_rules_are_added_listed_and_removed() {
    in_lab(|lab| {
        let (a, _b) = pair(lab);
        a.run(|| {
            let mut netlink = Netlink::open()?;
            for family in Family::BOTH {
                let rules = [
                    Rule {
                        iif: Some("eth0".to_owned()),
                        suppress_prefixlength: Some(0),
                        protocol: 67,
                        ..Rule::new(family, 100, 254)
                    },
                    Rule {
                        mark: Some((0x1200, 0xff00)),
                        not: true,
                        protocol: 67,
                        ..Rule::new(family, 101, 17_231)
                    },
                ];
                for rule in &rules {
                    netlink.add_rule(rule)?;
                }
                let mut listed = netlink.rules(family)?;
                listed.retain(|rule| rule.protocol == 67);
                assert_eq!(listed, rules);
                let twice = netlink.add_rule(&rules[0]).unwrap_err();
                assert!(twice.to_string().contains("it is there already"), "{twice}");
                for rule in &rules {
                    netlink.remove_rule(rule)?;
                }
                let left = netlink.rules(family)?;
                assert!(left.iter().all(|rule| rule.protocol != 67));
            }
            Ok(())
        })
        .unwrap();
    });
}
