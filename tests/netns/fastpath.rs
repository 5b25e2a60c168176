//! Flows that stay in the kernel.
use crate::harness::in_lab;
use crate::home::{Daemon, Home, SERVER, assert_nothing_left, gateway, routed, tun};
use crate::nat::masquerade;
use cordon::flow::FlowKey;
use cordon::kernel::divert::{Installed, KERNEL_MARK, MARK_MASK};
use cordon::kernel::fastpath::{Fastpath, Place};
use cordon::kernel::namespace::lab::{Host, Lab};
use cordon::kernel::nft::{Base, Batch, Hook, Nft, Rule, Sees};
use cordon::packet::protocol;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

/// A home whose gateway passes everything and can leave flows to the kernel.
struct Fast {
    home: Home,
    daemon: Daemon,
    fastpath: Fastpath,
    _installed: Installed,
}

impl Fast {
    fn in_lab(lab: &Lab, place: Place, term: Duration, size: u32) -> Self {
        let home = Home::in_lab(lab);
        let device = tun(&home.router);
        let divert = match place {
            Place::Ingress => gateway(),
            Place::Prerouting => routed(),
        };
        let installed = home.router.run(|| divert.install()).unwrap();
        let fastpath = home
            .router
            .run(|| Fastpath::open(place, &divert.inside()?, term, size))
            .unwrap();
        Self {
            home,
            daemon: Daemon::with(device),
            fastpath,
            _installed: installed,
        }
    }

    /// How many packets `work` sends through the daemon.
    fn passed<T>(&self, work: impl FnOnce() -> T) -> u64 {
        self.daemon.settle();
        let before = self.daemon.passed();
        work();
        self.daemon.passed() - before
    }

    fn add(&mut self, flow: FlowKey) {
        self.fastpath.add(flow);
        assert!(self.fastpath.commit().unwrap());
    }

    fn remove(&mut self, flow: FlowKey) {
        self.fastpath.remove(flow);
        assert!(self.fastpath.commit().unwrap());
    }
}

const LONG: Duration = Duration::from_secs(60);

/// A datagram socket of the phone's, connected to port 7 of the server.
fn udp(phone: &Host, server: &str) -> (UdpSocket, FlowKey) {
    let socket = phone
        .run(|| {
            let to: IpAddr = server.parse()?;
            let socket = UdpSocket::bind(any(to))?;
            socket.connect((to, 7))?;
            Ok(socket)
        })
        .unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let flow = flow(
        protocol::UDP,
        socket.local_addr().unwrap(),
        socket.peer_addr().unwrap(),
    );
    (socket, flow)
}

fn any(to: IpAddr) -> &'static str {
    if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
}

fn flow(protocol: u8, from: SocketAddr, to: SocketAddr) -> FlowKey {
    FlowKey {
        protocol,
        src: from.ip(),
        dst: to.ip(),
        sport: from.port(),
        dport: to.port(),
    }
}

/// Sends a datagram and waits for its echo.
fn ask(socket: &UdpSocket) {
    socket.send(b"hello").unwrap();
    assert_eq!(socket.recv(&mut [0; 16]).unwrap(), 5);
}

/// Tests that hold wherever flows are told apart.
macro_rules! everywhere {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use cordon::kernel::fastpath::Place;

            #[test]
            fn at_ingress() {
                super::in_lab(|lab| super::$test(lab, Place::Ingress));
            }

            #[test]
            fn before_routing() {
                super::in_lab(|lab| super::$test(lab, Place::Prerouting));
            }
        }
    )+};
}

everywhere!(
    a_decided_flow_of_datagrams_leaves_us_and_comes_back,
    a_running_connection_moves_and_its_bytes_stay_right,
    echoes_and_their_identifiers_are_flows_too,
    a_flow_comes_back_after_its_term_and_may_be_left_again,
    fragments_are_always_judged,
    a_full_set_refuses_new_flows_and_nothing_else,
    the_mark_of_a_decided_flow_goes_no_farther_than_the_guard,
    thousands_of_flows_go_in_one_batch,
    with_us_goes_the_kernel_path,
);

fn a_decided_flow_of_datagrams_leaves_us_and_comes_back(lab: &Lab, place: Place) {
    let mut fast = Fast::in_lab(lab, place, LONG, 100);
    for server in SERVER {
        let (socket, flow) = udp(&fast.home.phone, server);
        let (other, _) = udp(&fast.home.phone, server);
        assert!(fast.passed(|| ask(&socket)) >= 1);
        fast.add(flow);
        fast.add(flow);
        assert_eq!(fast.passed(|| ask(&socket)), 0, "{server}");
        assert!(fast.passed(|| ask(&other)) >= 1, "only that flow");
        fast.remove(flow);
        fast.remove(flow);
        assert!(fast.passed(|| ask(&socket)) >= 1, "{server}");
        fast.add(flow);
        fast.fastpath.clear().unwrap();
        assert!(fast.passed(|| ask(&socket)) >= 1, "{server}");
    }
}

fn a_running_connection_moves_and_its_bytes_stay_right(lab: &Lab, place: Place) {
    let mut fast = Fast::in_lab(lab, place, LONG, 100);
    masquerade(&fast.home.router, "wan0");
    // Without a way back to the phone's own addresses, only masquerading brings answers.
    for route in ["192.168.7.0/24", "fd00:7::/64"] {
        unroute(&fast.home.server, route);
    }
    for server in SERVER {
        let mut stream = fast
            .home
            .phone
            .run(|| Ok(TcpStream::connect((server.parse::<IpAddr>()?, 7))?))
            .unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let flow = flow(
            protocol::TCP,
            stream.local_addr().unwrap(),
            stream.peer_addr().unwrap(),
        );
        let exchange = |stream: &mut TcpStream| {
            let sent: Vec<u8> = (0..300_000_u32).map(|at| (at % 247) as u8).collect();
            let mut got = vec![0; sent.len()];
            let mut writer = stream.try_clone().unwrap();
            thread::scope(|scope| {
                scope.spawn(|| writer.write_all(&sent).unwrap());
                stream.read_exact(&mut got).unwrap();
            });
            assert!(got == sent);
        };
        assert!(fast.passed(|| exchange(&mut stream)) > 0);
        fast.add(flow);
        // What was in the TUN's queue at that instant still comes to us.
        fast.daemon.settle();
        assert_eq!(fast.passed(|| exchange(&mut stream)), 0, "{server}");
        fast.remove(flow);
        assert!(fast.passed(|| exchange(&mut stream)) > 0, "{server}");
        fast.add(flow);
        fast.daemon.settle();
        assert_eq!(fast.passed(|| exchange(&mut stream)), 0, "{server}");

        // A new connection from the same port is a new flow: it opens with us.
        let from = stream.local_addr().unwrap();
        // Closed at once, so that the port is free again.
        SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(stream);
        fast.daemon.settle();
        let opened = fast.passed(|| {
            let again = fast.home.phone.run(|| {
                let socket = Socket::new(Domain::for_address(from), Type::STREAM, None)?;
                socket.bind(&from.into())?;
                socket.connect(&SocketAddr::new(server.parse()?, 7).into())?;
                Ok(socket)
            });
            again.unwrap();
        });
        assert!(opened >= 1, "{server}");
    }
}

fn echoes_and_their_identifiers_are_flows_too(lab: &Lab, place: Place) {
    let mut fast = Fast::in_lab(lab, place, LONG, 100);
    fast.home
        .phone
        .setting("ipv4/ping_group_range", "0 0")
        .unwrap();
    for server in SERVER {
        let to = SocketAddr::new(server.parse().unwrap(), 0);
        let (number, kind, request) = if to.is_ipv4() {
            (protocol::ICMP, Protocol::ICMPV4, 8)
        } else {
            (protocol::ICMPV6, Protocol::ICMPV6, 128)
        };
        let socket = || {
            let socket = fast
                .home
                .phone
                .run(|| {
                    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, Some(kind))?;
                    socket.connect(&to.into())?;
                    Ok(socket)
                })
                .unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(2)))
                .unwrap();
            socket
        };
        let ping = |socket: &Socket| {
            // The kernel fills in the identifier and the checksum.
            socket.send(&[request, 0, 0, 0, 0, 0, 0, 1, 42]).unwrap();
            let mut answer = [MaybeUninit::uninit(); 64];
            assert_eq!(socket.recv(&mut answer).unwrap(), 9);
        };
        let (one, other) = (socket(), socket());
        assert!(fast.passed(|| ping(&one)) >= 1);
        // The identifier is the socket's port.
        let from = one.local_addr().unwrap().as_socket().unwrap();
        fast.fastpath.add(flow(number, from, to));
        assert!(fast.fastpath.commit().unwrap());
        assert_eq!(fast.passed(|| ping(&one)), 0, "{server}");
        assert!(fast.passed(|| ping(&other)) >= 1, "{server}");
    }
}

fn a_flow_comes_back_after_its_term_and_may_be_left_again(lab: &Lab, place: Place) {
    let mut fast = Fast::in_lab(lab, place, Duration::from_secs(2), 100);
    for server in SERVER {
        let (socket, flow) = udp(&fast.home.phone, server);
        ask(&socket);
        for _ in 0..2 {
            fast.add(flow);
            let began = Instant::now();
            assert_eq!(fast.passed(|| ask(&socket)), 0, "{server}");
            // However much it is used.
            while fast.passed(|| ask(&socket)) == 0 {
                assert!(began.elapsed() < Duration::from_secs(20), "{server}");
            }
            assert!(began.elapsed() >= Duration::from_millis(1900), "{server}");
        }
    }
}

fn fragments_are_always_judged(lab: &Lab, place: Place) {
    let mut fast = Fast::in_lab(lab, place, LONG, 100);
    for server in SERVER {
        let (socket, flow) = udp(&fast.home.phone, server);
        fast.add(flow);
        assert_eq!(fast.passed(|| ask(&socket)), 0);
        let sent = fast.passed(|| {
            socket.send(&[9; 1900]).unwrap();
            assert_eq!(socket.recv(&mut [0; 2000]).unwrap(), 1900);
        });
        assert!(sent >= 2, "{server}: {sent} fragments came to us");
    }
}

/// Else somebody's `ct mark` might give it to a later packet.
fn the_mark_of_a_decided_flow_goes_no_farther_than_the_guard(lab: &Lab, place: Place) {
    let mut fast = Fast::in_lab(lab, place, LONG, 100);
    let install = || {
        let mut batch = Batch::new(Sees::Packets, "others")?;
        batch.table(false);
        for (chain, hook) in [("before", Hook::Prerouting), ("behind", Hook::Postrouting)] {
            let priority = -150;
            batch.chain(chain, Some(Base { hook, priority }))?;
            let datagrams = Rule::new("marked").marked(KERNEL_MARK, MARK_MASK).count();
            batch.rule(chain, &datagrams)?;
            batch.rule(chain, &Rule::new("all").count())?;
        }
        Nft::open()?.commit(&batch)
    };
    fast.home.router.run(install).unwrap();
    let (socket, flow) = udp(&fast.home.phone, SERVER[0]);
    fast.add(flow);
    for _ in 0..5 {
        assert_eq!(fast.passed(|| ask(&socket)), 0);
    }
    let counted = |chain| {
        let rules = fast.home.router.run(|| Nft::rules("others", chain));
        rules
            .unwrap()
            .into_iter()
            .map(|(_, packets)| packets)
            .collect::<Vec<_>>()
    };
    let (before, behind) = (counted("before"), counted("behind"));
    assert!(before[0] == 5 && before[1] >= 10, "{before:?}");
    assert!(behind[0] == 0 && behind[1] >= 10, "{behind:?}");
}

fn a_full_set_refuses_new_flows_and_nothing_else(lab: &Lab, place: Place) {
    let mut fast = Fast::in_lab(lab, place, LONG, 3);
    let flows: Vec<_> = (0..5).map(|_| udp(&fast.home.phone, SERVER[0])).collect();
    for (_, flow) in &flows[..3] {
        fast.add(*flow);
    }
    fast.fastpath.add(flows[3].1);
    fast.fastpath.remove(flows[0].1);
    fast.fastpath.add(flows[4].1);
    assert!(!fast.fastpath.commit().unwrap(), "there was no room");
    for (number, (socket, _)) in flows.iter().enumerate() {
        let ours = fast.passed(|| ask(socket)) == 0;
        assert_eq!(ours, number == 1 || number == 2, "flow {number}");
    }
    fast.add(flows[4].1);
    assert_eq!(fast.passed(|| ask(&flows[4].0)), 0);
}

fn thousands_of_flows_go_in_one_batch(lab: &Lab, place: Place) {
    let mut fast = Fast::in_lab(lab, place, LONG, 65_536);
    let flow = |number: u16, server: &str| FlowKey {
        protocol: protocol::UDP,
        src: if server.contains(':') {
            "fd00:7::2"
        } else {
            "192.168.7.2"
        }
        .parse()
        .unwrap(),
        dst: server.parse().unwrap(),
        sport: number,
        dport: 7,
    };
    for change in [Fastpath::add, Fastpath::remove] {
        for server in SERVER {
            for number in 0..5000 {
                change(&mut fast.fastpath, flow(20_000 + number, server));
            }
        }
        assert!(fast.fastpath.commit().unwrap());
    }
    let (socket, flow) = udp(&fast.home.phone, SERVER[0]);
    fast.add(flow);
    assert_eq!(fast.passed(|| ask(&socket)), 0);
}

fn with_us_goes_the_kernel_path(lab: &Lab, place: Place) {
    let mut fast = Fast::in_lab(lab, place, LONG, 100);
    let (socket, flow) = udp(&fast.home.phone, SERVER[0]);
    ask(&socket);
    fast.add(flow);
    assert_eq!(fast.passed(|| ask(&socket)), 0);
    let second = fast
        .home
        .router
        .run(|| Fastpath::open(place, &gateway().inside()?, LONG, 100))
        .unwrap_err();
    assert!(
        format!("{second:#}").starts_with("flows cannot be left to the kernel: "),
        "{second:#}"
    );
    let Fast {
        home,
        daemon,
        fastpath,
        _installed,
    } = fast;
    // As kill -9 ends all of it, in whatever order.
    daemon.stun();
    drop(fastpath);
    drop(_installed);
    let has = |sees, table| home.router.run(|| Nft::has_table(sees, table)).unwrap();
    assert!(!has(Sees::Packets, "cordon_kernel") && !has(Sees::Frames, "cordon_ingress"));
    let outside = home.outside();
    daemon.die();
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    for _ in 0..20 {
        // *Unreachable* comes back as an error of a later call.
        let _ = socket.send(b"hello");
        assert!(socket.recv(&mut [0; 16]).is_err());
    }
    assert_nothing_left(outside);
}

fn unroute(host: &Host, to: &str) {
    use cordon::kernel::netlink::{Family, Netlink, Route};
    host.run(|| {
        let mut netlink = Netlink::open()?;
        let to: ipnet::IpNet = to.parse()?;
        for route in netlink.routes(Family::of(to.addr()), Route::MAIN)? {
            if route.destination == to {
                netlink.remove_route(&route)?;
            }
        }
        Ok(())
    })
    .unwrap();
}
