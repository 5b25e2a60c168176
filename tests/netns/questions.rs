//! Questions and ways past the resolver, end to end: asked by `dig`, by hand, and by clients with a resolver of their own.

use crate::abroad::{program, said};
use crate::harness::in_lab;
use crate::names::{
    CN, DOH, NAMELESS, Net, POLICY, RESOLVER, SHARED, addresses, contains, end, goes_to, loaded,
    net,
};
use cordon::kernel::namespace::lab::Observer;
use hickory_proto::op::{Message, ResponseCode};
use std::fs;
use std::net::UdpSocket;
use std::process::{Command, Output};
use std::time::Duration;

/// What `dig` says when it asks a resolver that is nobody's.
fn dig(net: &Net, words: &[&str]) -> String {
    let program = program("dig").unwrap();
    let output = net
        .phone
        .run(|| {
            let mut dig = Command::new(program);
            dig.args(["@8.8.4.4", "+time=5", "+tries=1"]).args(words);
            Ok(dig.output()?)
        })
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn dig_gets_what_fits_by_udp_and_all_by_tcp() {
    in_lab(|lab| {
        if program("dig").is_none() {
            return;
        }
        let net = net(lab);
        let daemon = net.start(&format!("upstreams = [\"{RESOLVER}\"]"));
        let observer = Observer::on(&net.world, "net").unwrap();
        let short = |words: &[&str]| {
            let text = dig(&net, &[words, &["+short"]].concat());
            let lines = text.lines().map(str::to_owned);
            lines.collect::<Vec<_>>()
        };
        assert_eq!(short(&["www.good.example"]), [SHARED]);
        assert_eq!(short(&["+tcp", "www.good.example"]), [SHARED]);
        // Told that 64 KiB would fit: cut, marked as such, and asked again by TCP.
        let cut = dig(&net, &["+bufsize=65535", "+ignore", "large.example"]);
        assert!(cut.contains("tc") && cut.contains("ANSWER: 0"), "{cut}");
        let whole = dig(&net, &["+bufsize=65535", "large.example"]);
        assert!(
            whole.contains("retrying in TCP mode") && whole.contains("ANSWER: 300"),
            "{whole}"
        );
        let chain = short(&["+tcp", "chain.example"]);
        assert_eq!(
            (chain.len(), chain.last().map(String::as_str)),
            (51, Some(SHARED))
        );
        assert_eq!(short(&["mixed.example"]), [SHARED], "not the one in China");
        let rebound = dig(&net, &["rebind.example"]);
        assert!(rebound.contains("status: REFUSED"), "{rebound}");
        let blocked = dig(&net, &["+tcp", "www.bad.example"]);
        assert!(blocked.contains("status: NXDOMAIN"), "{blocked}");
        let canary = dig(&net, &["use-application-dns.net"]);
        assert!(canary.contains("status: NXDOMAIN"), "{canary}");

        let seen = observer.finish().unwrap();
        let told = |text: &[u8]| {
            let frames = seen.kept.iter();
            frames.filter(|frame| contains(frame, text)).count()
        };
        assert_eq!((seen.missed, told(b"\x03bad\x07example")), (0, 0));
        assert_eq!(told(b"use-application-dns"), 0);
        assert!(!seen.kept.iter().any(|frame| goes_to(frame, "8.8.4.4")));
        end(daemon);
    });
}

/// Sends bytes to a resolver that is nobody's; its answer, if one comes.
fn send(net: &Net, bytes: &[u8]) -> Option<Message> {
    let bytes = bytes.to_vec();
    let answer = net.phone.run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect("8.8.4.4:53")?;
        socket.set_read_timeout(Some(Duration::from_secs(8)))?;
        socket.send(&bytes)?;
        let mut buffer = vec![0; 4096];
        let len = socket.recv(&mut buffer)?;
        Ok(buffer[..len].to_vec())
    });
    Message::from_vec(&answer.ok()?).ok()
}

#[test]
fn names_that_point_to_themselves_are_refused_and_harm_nobody() {
    in_lab(|lab| {
        let net = net(lab);
        let daemon = net.start(&format!("upstreams = [\"{RESOLVER}\"]"));
        let observer = Observer::on(&net.world, "net").unwrap();
        let head = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let two = [&[0xc0, 14, 0xc0, 12][..], &[0, 1, 0, 1]].concat();
        for loops in [
            &[0xc0, 12, 0, 1, 0, 1][..],
            b"\x01a\xc0\x0c\0\x01\0\x01",
            &two,
        ] {
            let answer = send(&net, &[&head[..], loops].concat()).expect("an answer");
            let code = answer.metadata.response_code;
            assert_eq!(code, ResponseCode::FormErr, "{loops:?}");
        }
        let seen = observer.finish().unwrap();
        let asked = seen.kept.iter().filter(|frame| goes_to(frame, RESOLVER));
        assert_eq!(
            (seen.missed, asked.count()),
            (0, 0),
            "nothing of it was asked"
        );
        // One in an answer is no answer, and the address in it is not learned.
        let failed = net.ask("loop.example.", None, false);
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
        assert!(!loaded(&net.curl("loop.example", SHARED, &[])));
        assert_eq!(
            addresses(&net.ask("www.good.example.", None, false)),
            [SHARED]
        );
        end(daemon);
    });
}

/// Loads a page by a name that curl asks a resolver of its own for, over HTTPS.
fn curl(net: &Net, resolver: &str, name: &str) -> Output {
    net.phone
        .run(|| {
            Ok(Command::new("/usr/bin/curl")
                .args([
                    "-sS",
                    "--insecure",
                    "--doh-insecure",
                    "--max-time",
                    "8",
                    "-4",
                ])
                .args(["--doh-url", &format!("https://{resolver}/dns-query")])
                .arg(format!("https://{name}/"))
                .output()?)
        })
        .unwrap()
}

#[test]
fn what_a_clients_own_resolver_answers_opens_nothing() {
    in_lab(|lab| {
        let net = net(lab);
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/no-bypass.toml");
        fs::copy(shipped, net.directory.path().join("no-bypass.toml")).unwrap();
        let strict = "version = 1\nname = \"test\"\nextends = \"no-bypass.toml\"\n\
            [default]\naction = \"allow\"\n\
            [[rule]]\nid = \"resolver\"\nip = [\"9.9.9.9\"]\naction = \"allow\"\n";
        // The well-known one is out of reach.
        let dns = format!("upstreams = [\"tls://{RESOLVER}#dns.example\"]");
        let ca = net.directory.path().join("ca.pem");
        let dns = format!("{dns}\nca = {ca:?}");
        let daemon = net.start_with(strict, "", &dns);
        let observer = Observer::on(&net.world, "net").unwrap();
        assert!(!loaded(&curl(&net, DOH, "www.good.example")));
        let seen = observer.finish().unwrap();
        let to = |address: &str| {
            let frames = seen.kept.iter();
            frames.filter(|frame| goes_to(frame, address)).count()
        };
        assert_eq!((seen.missed, to(DOH), to(SHARED)), (0, 0, 0));
        assert!(loaded(&net.curl("www.good.example", SHARED, &[])));
        end(daemon);

        // One that a policy lets go answers, but what it answers is no answer of ours: the address stays closed, and so
        // does one that is built into an app.
        let open =
            format!("{POLICY}[[rule]]\nid = \"theirs\"\nip = [\"{DOH}\"]\naction = \"allow\"\n");
        let daemon = net.start_with(&open, "", &dns);
        let observer = Observer::on(&net.world, "net").unwrap();
        assert!(!loaded(&curl(&net, DOH, "www.good.example")));
        assert!(!loaded(&curl(&net, DOH, "mixed.example")));
        assert!(!loaded(&net.curl(NAMELESS, NAMELESS, &[])));
        let seen = observer.finish().unwrap();
        let to = |address: &str| {
            let frames = seen.kept.iter();
            frames.filter(|frame| goes_to(frame, address)).count()
        };
        assert!(to(DOH) > 0, "its resolver was asked");
        assert_eq!(
            (seen.missed, to(SHARED), to(NAMELESS), to(CN)),
            (0, 0, 0, 0)
        );
        // Asked here, the same page opens.
        net.ask("www.good.example.", None, false);
        assert!(loaded(&curl(&net, DOH, "www.good.example")));
        end(daemon);
    });
}
