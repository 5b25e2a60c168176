//! A home network in a lab, and a stand-in for the daemon.
use crate::harness::wait_until;
use crate::nat::chain;
use cordon::kernel::divert::{Divert, Installed};
use cordon::kernel::ingress::Shortcut;
use cordon::kernel::namespace::lab::{Frame, Host, Lab, Observer};
use cordon::kernel::netlink::Netlink;
use cordon::link::Tun;
use cordon::packet::offload;
use netlink_bindings::nftables;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{setsockopt, sockopt};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

/// A home: a phone behind a router, and a server on the internet.
pub(crate) struct Home {
    pub(crate) phone: Host,
    pub(crate) router: Host,
    pub(crate) server: Host,
}

pub(crate) const PHONE: [&str; 2] = ["192.168.7.2", "fd00:7::2"];
pub(crate) const SERVER: [&str; 2] = ["203.0.113.9", "2001:db8::9"];

impl Home {
    pub(crate) fn in_lab(lab: &Lab) -> Self {
        let [phone, router, server] =
            ["phone", "router", "server"].map(|name| lab.host(name).unwrap());
        lab.wire((&phone, "eth0"), (&router, "lan0")).unwrap();
        lab.wire((&router, "wan0"), (&server, "eth0")).unwrap();
        for (host, link, net) in [
            (&phone, "eth0", "192.168.7.2/24"),
            (&phone, "eth0", "fd00:7::2/64"),
            (&router, "lan0", "192.168.7.1/24"),
            (&router, "lan0", "fd00:7::1/64"),
            (&router, "wan0", "203.0.113.1/24"),
            (&router, "wan0", "2001:db8::1/64"),
            (&server, "eth0", "203.0.113.9/24"),
            (&server, "eth0", "2001:db8::9/64"),
            // Elsewhere on the internet, beyond the router's own network.
            (&server, "lo", "198.51.100.9/32"),
            (&server, "lo", "2001:db8:1::9/128"),
        ] {
            host.address(link, net).unwrap();
        }
        phone.default_route("eth0", "192.168.7.1").unwrap();
        phone.default_route("eth0", "fd00:7::1").unwrap();
        router.default_route("wan0", "203.0.113.9").unwrap();
        router.default_route("wan0", "2001:db8::9").unwrap();
        server
            .route("192.168.7.0/24", "eth0", Some("203.0.113.1"))
            .unwrap();
        server
            .route("fd00:7::/64", "eth0", Some("2001:db8::1"))
            .unwrap();
        serve(&server);
        serve(&router);
        Self {
            phone,
            router,
            server,
        }
    }

    /// Watches what of the phone's the router lets out.
    pub(crate) fn outside(&self) -> Observer {
        Observer::judging(&self.router, "wan0", |frame| {
            frame.outgoing && from_the_phone(frame)
        })
        .unwrap()
    }
}

/// Echoes datagrams and streams on port 7 of every address of a host, for ever. A socket for each address: answers come
/// from where the question went.
pub(crate) fn serve(host: &Host) {
    let addresses = host.run(|| Netlink::open()?.addresses()).unwrap();
    for address in addresses.iter().map(|address| address.net.addr()) {
        if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) {
            continue;
        }
        let bind = || {
            Ok((
                UdpSocket::bind((address, 7))?,
                TcpListener::bind((address, 7))?,
            ))
        };
        // Those that were there before are served already.
        let Ok((datagrams, streams)) = host.run(bind) else {
            continue;
        };
        thread::spawn(move || {
            let mut buf = [0; 2000];
            while let Ok((len, from)) = datagrams.recv_from(&mut buf) {
                // Whoever cannot be answered does not get one.
                let _ = datagrams.send_to(&buf[..len], from);
            }
        });
        thread::spawn(move || {
            for stream in streams.incoming().map_while(Result::ok) {
                thread::spawn(move || {
                    let mut to = stream.try_clone().unwrap();
                    let _ = std::io::copy(&mut &stream, &mut to);
                    let _ = stream.shutdown(std::net::Shutdown::Write);
                });
            }
        });
    }
}

pub(crate) fn from_the_phone(frame: &Frame) -> bool {
    let source: &[u8] = match frame.ethertype {
        0x0800 => frame.bytes.get(12..16).unwrap_or_default(),
        0x86dd => frame.bytes.get(8..24).unwrap_or_default(),
        _ => return false,
    };
    source == [192, 168, 7, 2] || source == [0xfd, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]
}

/// Stands for the daemon: writes every packet back to the TUN as it came.
pub(crate) struct Daemon {
    stop: Arc<AtomicBool>,
    stunned: Arc<AtomicBool>,
    passed: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Daemon {
    /// Takes the TUN: it goes when the daemon ends.
    pub(crate) fn with(tun: Tun) -> Self {
        let [stop, stunned] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let passed = Arc::new(AtomicU64::new(0));
        let thread = thread::spawn({
            let (stop, stunned) = (Arc::clone(&stop), Arc::clone(&stunned));
            let passed = Arc::clone(&passed);
            move || {
                let mut buf = vec![0; Tun::BUFFER];
                while !stop.load(Ordering::SeqCst) {
                    let mut wanted = [PollFd::new(tun.as_fd(), PollFlags::POLLIN)];
                    poll(&mut wanted, PollTimeout::from(10_u8)).unwrap();
                    if stunned.load(Ordering::SeqCst) {
                        continue;
                    }
                    while let Some(len) = tun.recv(&mut buf).unwrap() {
                        // The kernel's own chatter (neighbour discovery) is not for passing on.
                        let multicast =
                            buf[offload::LEN] >> 4 == 6 && buf[offload::LEN + 24] == 0xff;
                        if !multicast {
                            passed.fetch_add(1, Ordering::SeqCst);
                            tun.send(&buf[..len]).unwrap();
                        }
                    }
                }
            }
        });
        Self {
            stop,
            stunned,
            passed,
            thread: Some(thread),
        }
    }

    pub(crate) fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    /// Waits until nothing is on its way any more.
    pub(crate) fn settle(&self) {
        let mut before = self.passed();
        wait_until("nothing comes any more", || {
            thread::sleep(Duration::from_millis(30));
            let now = self.passed();
            std::mem::replace(&mut before, now) == now
        });
    }

    /// Passes nothing any more, but still has the TUN.
    pub(crate) fn stun(&self) {
        self.stunned.store(true, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(100));
    }

    /// As `kill -9` ends it: nothing is taken back, the TUN is gone.
    pub(crate) fn die(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

pub(crate) fn gateway() -> Divert {
    Divert {
        tun: "cordon0".to_owned(),
        lans: vec!["lan0".to_owned()],
        routed: false,
        own_traffic: false,
    }
}

/// The same where the kernel has no short way.
pub(crate) fn routed() -> Divert {
    Divert {
        routed: true,
        ..gateway()
    }
}

/// Puts everything in place on a router that packets come to by either way; the short one ends with what is returned.
pub(crate) fn close(router: &Host, divert: &Divert) -> (Installed, Option<Shortcut>) {
    let work = || {
        let shortcut = (!divert.routed).then(|| Shortcut::open(&divert.inside()?));
        Ok((divert.install()?, shortcut.transpose()?))
    };
    router.run(work).unwrap()
}

pub(crate) fn tun(on: &Host) -> Tun {
    on.run(|| Tun::create("cordon0", 1500)).unwrap()
}

/// Whether a datagram from `host` to port 7 of `to` is echoed.
pub(crate) fn echoes(host: &Host, to: &str, mark: Option<u32>) -> bool {
    host.run(|| {
        let any = if to.contains(':') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let socket = UdpSocket::bind(any)?;
        if let Some(mark) = mark {
            setsockopt(&socket, sockopt::Mark, &mark)?;
        }
        socket.set_read_timeout(Some(Duration::from_millis(300)))?;
        let address = (to.parse::<IpAddr>()?, 7);
        // A first packet may wait for the neighbour's address.
        for _ in 0..3 {
            if socket.send_to(b"hello", address).is_ok() && socket.recv(&mut [0; 16]).is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    })
    .unwrap()
}

/// Of what the observer was to look for there was nothing, and it has missed nothing.
#[track_caller]
pub(crate) fn assert_nothing_left(outside: Observer) {
    let capture = outside.finish().unwrap();
    assert_eq!((capture.missed, capture.kept.len()), (0, 0));
}

/// The router takes no datagram for itself that connection tracking has not seen, as stateful firewalls do.
pub(crate) fn refuse_untracked(router: &Host) {
    const UNTRACKED: u32 = 1 << 6;
    chain(router, c"filter", (1, 0), |list| {
        // Neighbour discovery is never tracked.
        list.nested_elem()
            .nested_data_meta()
            .push_dreg(8)
            .push_key(nftables::MetaKeys::L4Proto as u32)
            .end_nested()
            .end_nested()
            .nested_elem()
            .nested_data_cmp()
            .push_sreg(8)
            .push_op(nftables::CmpOps::Eq as u32)
            .nested_data()
            .push_value(&[17])
            .end_nested()
            .end_nested()
            .end_nested()
            .nested_elem()
            .nested_data_ct()
            .push_dreg(8)
            .push_key(nftables::CtKeys::State as u32)
            .end_nested()
            .end_nested()
            .nested_elem()
            .nested_data_cmp()
            .push_sreg(8)
            .push_op(nftables::CmpOps::Eq as u32)
            .nested_data()
            .push_value(&UNTRACKED.to_ne_bytes())
            .end_nested()
            .end_nested()
            .end_nested()
            .nested_elem()
            .nested_data_immediate()
            .push_dreg(0)
            .nested_data()
            .nested_verdict()
            .push_code(nftables::VerdictCode::Drop as u32);
    });
}
