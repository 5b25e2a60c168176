//! The resolvers that are configured, end to end: real servers for every transport, and what they see of a question.

use crate::abroad::{Proxy, destination};
use crate::harness::{in_lab, wait_until};
use crate::names::{Net, RESOLVER, SHARED, addresses, contains, end, net};
use cordon::kernel::namespace::lab::{Frame, Host, Observer};
use hickory_proto::op::{Edns, Message, Metadata, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsCode, EdnsOption};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use std::net::{IpAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Another resolver.
const OTHER: &str = "149.112.112.112";
const POLICY: &str = "version = 1\nname = \"test\"\n[default]\naction = \"block\"\n\
    [[rule]]\nid = \"resolvers\"\nip = [\"9.9.9.9\", \"149.112.112.112\"]\naction = \"allow\"\n\
    [[rule]]\nid = \"good\"\ndomain = [\".example\"]\naction = \"allow\"\n";
/// How long its answers hold, seconds.
const HOLDS: u32 = 1;
/// The port of all encrypted ways here: the usual ones are taken by other servers of the lab.
const PORT: u16 = 8853;

/// What a resolver saw of a question.
#[derive(Clone, Debug)]
struct Seen {
    by: Protocol,
    from: IpAddr,
    name: String,
    length: usize,
    subnet: bool,
}

/// A resolver that answers everything with one address.
#[derive(Clone, Default)]
struct Resolver {
    seen: Arc<Mutex<Vec<Seen>>>,
    mute: Arc<AtomicBool>,
}

#[async_trait::async_trait]
impl RequestHandler for Resolver {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let message = Message::from_vec(request.as_slice()).unwrap();
        let options = message.edns.as_ref().map(Edns::options);
        let name = message.queries[0].name();
        self.seen.lock().unwrap().push(Seen {
            by: request.protocol(),
            from: request.src().ip(),
            name: name.to_ascii(),
            length: request.as_slice().len(),
            subnet: options.is_some_and(|options| options.get(EdnsCode::Subnet).is_some()),
        });
        if self.mute.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        let data = RData::A(A(SHARED.parse().unwrap()));
        let record = [Record::from_rdata(name.clone(), HOLDS, data)];
        let builder = MessageResponseBuilder::from_message_request(request);
        let metadata = Metadata::response_from_request(&request.metadata);
        let answer = builder.build(metadata, &record, [], [], []);
        response.send_response(answer).await.unwrap()
    }
}

impl Resolver {
    /// Serves by every way at an address of a host.
    fn serve(host: &Host, at: &'static str, identity: &crate::names::Identity) -> Self {
        let resolver = Self::default();
        let (serving, certificate) = (resolver.clone(), Arc::clone(&identity.certificate));
        let ready = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ready);
        let serve = async move {
            let mut server = Server::new(serving);
            let wait = Duration::from_secs(5);
            let at: IpAddr = at.parse()?;
            server.register_socket(tokio::net::UdpSocket::bind((at, 5353)).await?);
            let clear = tokio::net::TcpListener::bind((at, 5353)).await?;
            server.register_listener(clear, wait, 4096);
            let quic = tokio::net::UdpSocket::bind((at, PORT)).await?;
            server.register_quic_listener(quic, wait, certificate.clone())?;
            let tls = tokio::net::TcpListener::bind((at, PORT)).await?;
            server.register_tls_listener(tls, wait, certificate.clone())?;
            let https = tokio::net::TcpListener::bind((at, PORT + 1)).await?;
            let (name, path) = (Some("dns.example".to_owned()), "/dns-query".to_owned());
            server.register_https_listener(https, wait, certificate, name, path)?;
            told.store(true, Ordering::Relaxed);
            server.block_until_done().await?;
            anyhow::Ok(())
        };
        host.spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let mut runtime = { runtime };
            runtime.enable_all().build()?.block_on(serve)
        })
        .unwrap();
        wait_until("the resolver serves", || ready.load(Ordering::Relaxed));
        resolver
    }

    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

fn resolvers(net: &Net) -> (Resolver, Resolver) {
    net.world.address("net", &format!("{OTHER}/32")).unwrap();
    net.phone.address("wlan", "192.168.7.99/24").unwrap();
    let serve = |at| Resolver::serve(&net.world, at, &net.identity);
    (serve(RESOLVER), serve(OTHER))
}

/// Asks for a name from an address of the phone, and says in which network that is.
fn ask(net: &Net, from: &'static str, name: &str) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    let mut edns = Edns::new();
    let subnet = ClientSubnet::new([192, 168, 7, 0].into(), 24, 0);
    edns.options_mut().insert(EdnsOption::Subnet(subnet));
    message.set_edns(edns);
    let bytes = message.to_vec().unwrap();
    let answer = net.phone.run(move || {
        let socket = UdpSocket::bind((from, 0))?;
        socket.connect("8.8.4.4:53")?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.send(&bytes)?;
        let mut buffer = vec![0; 4096];
        let len = socket.recv(&mut buffer)?;
        Ok(buffer[..len].to_vec())
    });
    Message::from_vec(&answer.unwrap()).unwrap()
}

const PHONE: &str = "192.168.7.2";

fn url(scheme: &str, at: &str) -> String {
    let port = if scheme == "https" { PORT + 1 } else { PORT };
    let path = if scheme == "https" { "/dns-query" } else { "" };
    format!("{scheme}://{at}:{port}{path}#dns.example")
}

fn configured(net: &Net, upstreams: &[String]) -> String {
    let ca = net.directory.path().join("ca.pem");
    format!("upstreams = {upstreams:?}\nca = {ca:?}")
}

#[test]
fn by_every_encrypted_way_questions_are_padded_and_nothing_of_the_client_is_in_them() {
    in_lab(|lab| {
        let net = net(lab);
        let (resolver, _) = resolvers(&net);
        let observer = Observer::on(&net.world, "net").unwrap();
        for (scheme, by) in [
            ("tls", Protocol::Tls),
            ("https", Protocol::Https),
            ("quic", Protocol::Quic),
        ] {
            let dns = configured(&net, &[url(scheme, RESOLVER)]);
            let daemon = net.start_with(POLICY, "", &dns);
            for name in [
                "www.good.example.",
                "a-much-longer-name.of-another.example.",
            ] {
                assert_eq!(addresses(&ask(&net, PHONE, name)), [SHARED], "{scheme}");
                let seen = resolver.take();
                let [one] = seen.as_slice() else {
                    panic!("{scheme}: {seen:?}");
                };
                assert_eq!((one.by, one.name.as_str()), (by, name));
                assert_eq!((one.length % 128, one.subnet), (0, false), "{one:?}");
                assert_eq!(one.from.to_string(), "203.0.113.1");
            }
            end(daemon);
            // A certificate of another name, and no other way is tried.
            let stranger = url(scheme, RESOLVER).replace("dns.example", "other.example");
            let daemon = net.start_with(POLICY, "", &configured(&net, &[stranger]));
            let failed = ask(&net, PHONE, "www.good.example.");
            assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
            assert!(resolver.take().is_empty());
            end(daemon);
        }
        // Neither a question nor the resolver's own name was asked for in the clear.
        let seen = observer.finish().unwrap();
        let clear = |text: &[u8]| {
            let frames = seen.kept.iter();
            frames.filter(|frame| contains(frame, text)).count()
        };
        assert_eq!(
            (seen.missed, clear(b"\x07example\0"), clear(b"\x04good")),
            (0, 0, 0)
        );
    });
}

#[test]
fn in_the_clear_the_case_of_a_question_is_random_and_its_answer_must_have_it() {
    in_lab(|lab| {
        let net = net(lab);
        let (resolver, _) = resolvers(&net);
        let daemon = net.start_with(POLICY, "", &format!("upstreams = [\"{RESOLVER}:5353\"]"));
        let name = "www.a-name-with-many-letters.example.";
        let answer = ask(&net, PHONE, name);
        assert_eq!(addresses(&answer), [SHARED]);
        let spelt = |record: &Record| record.name.to_ascii();
        let as_asked = answer.answers.iter().all(|record| spelt(record) == name);
        assert!(as_asked, "{answer:?}");
        let seen = resolver.take();
        let one = &seen[0];
        assert!(matches!(one.by, Protocol::Udp) && !one.subnet);
        assert!(
            one.name != name && one.name.eq_ignore_ascii_case(name),
            "{}",
            one.name
        );
        end(daemon);
    });
}

#[test]
fn when_one_resolver_fails_the_next_is_asked_and_when_all_do_the_last_answer_is_given() {
    in_lab(|lab| {
        let net = net(lab);
        let (first, second) = resolvers(&net);
        let nobody = "tls://149.112.112.112:9999#dns.example".to_owned();
        let ways = [nobody, url("https", RESOLVER), url("tls", OTHER)];
        let daemon = net.start_with(POLICY, "", &configured(&net, &ways));
        assert_eq!(addresses(&ask(&net, PHONE, "a.example.")), [SHARED]);
        assert_eq!((first.take().len(), second.take().len()), (1, 0));
        first.mute.store(true, Ordering::Relaxed);
        assert_eq!(addresses(&ask(&net, PHONE, "b.example.")), [SHARED]);
        assert_eq!((first.take().len(), second.take().len()), (1, 1));
        // The one that failed is asked last now.
        assert_eq!(addresses(&ask(&net, PHONE, "c.example.")), [SHARED]);
        assert_eq!((first.take().len(), second.take().len()), (0, 1));
        second.mute.store(true, Ordering::Relaxed);
        std::thread::sleep(Duration::from_secs(u64::from(HOLDS)) + Duration::from_millis(200));
        let stale = ask(&net, PHONE, "b.example.");
        assert_eq!(
            (addresses(&stale), stale.answers[0].ttl),
            (vec![SHARED.into()], 30)
        );
        let never = ask(&net, PHONE, "never-asked.example.");
        assert_eq!(never.metadata.response_code, ResponseCode::ServFail);
        end(daemon);
    });
}

/// An exit for whatever goes to the other resolver.
fn by_exit(rule: &str) -> String {
    format!(
        "version = 1\nname = \"test\"\n[default]\naction = \"allow\"\n\
         [exits]\nx = {{ kind = \"socks5\", server = \"203.0.113.2:1080\" }}\n\
         [[rule]]\nid = \"other\"\nip = [\"{OTHER}\"]\n{rule}action = \"reroute\"\nexit = \"x\"\n"
    )
}

#[test]
fn a_resolver_that_the_policy_reroutes_is_asked_by_the_exit_and_never_past_it() {
    in_lab(|lab| {
        let net = net(lab);
        let (usual, other) = resolvers(&net);
        let Some(proxy) = Proxy::microsocks(&net.world, "203.0.113.2", None) else {
            return;
        };
        let to_other = |frame: &Frame| !frame.outgoing && destination(frame) == OTHER.parse().ok();
        let observer = Observer::judging(&net.world, "net", to_other).unwrap();
        let some = |upstream: &str| {
            format!(
                "{}\n[[dns.route]]\ndomain = [\".away.example\"]\nupstreams = [{upstream:?}]",
                configured(&net, &[url("tls", RESOLVER)]),
            )
        };
        let clear = format!("{OTHER}:5353");
        for (upstream, by) in [
            (url("tls", OTHER), Protocol::Tls),
            (clear.clone(), Protocol::Tcp),
        ] {
            let daemon = net.start_with(&by_exit(""), "", &some(&upstream));
            let answer = ask(&net, PHONE, "www.away.example.");
            assert_eq!(addresses(&answer), [SHARED], "{upstream}: {answer:?}");
            let seen = other.take();
            let [one] = seen.as_slice() else {
                panic!("{upstream}: {seen:?}");
            };
            assert_eq!(one.by, by);
            assert_ne!(one.from.to_string(), "203.0.113.1", "it came past the exit");
            assert_eq!(addresses(&ask(&net, PHONE, "www.here.example.")), [SHARED]);
            assert_eq!((usual.take().len(), other.take().len()), (1, 0));
            end(daemon);
        }
        // What is rerouted only as datagrams cannot be, and QUIC neither: nobody is asked.
        for (rule, upstream) in [("proto = \"udp\"\n", clear), ("", url("quic", OTHER))] {
            let daemon = net.start_with(&by_exit(rule), "", &some(&upstream));
            let answer = ask(&net, PHONE, "www.away.example.");
            assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
            end(daemon);
        }
        // An exit that is down is waited for by nobody, and nobody is asked in its place.
        drop(proxy);
        let daemon = net.start_with(&by_exit(""), "", &some(&url("tls", OTHER)));
        let answer = ask(&net, PHONE, "www.away.example.");
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused);
        end(daemon);
        assert!((usual.take().is_empty(), other.take().is_empty()) == (true, true));
        let seen = observer.finish().unwrap();
        assert_eq!(
            (seen.kept.len(), seen.missed),
            (0, 0),
            "it went past the exit"
        );
    });
}

#[test]
fn resolvers_are_split_by_name_and_by_client() {
    in_lab(|lab| {
        let net = net(lab);
        let (usual, other) = resolvers(&net);
        let dns = format!(
            "{}\n[[dns.route]]\ndomain = [\".corp.example\"]\nupstreams = [{:?}]\n\
             [[dns.route]]\nfrom = [\"192.168.7.99/32\"]\nupstreams = [{:?}]",
            configured(&net, &[url("tls", RESOLVER)]),
            url("quic", OTHER),
            url("https", OTHER),
        );
        let daemon = net.start_with(POLICY, "", &dns);
        for (from, name, by_other) in [
            (PHONE, "www.example.", None),
            (PHONE, "notcorp.example.", None),
            (PHONE, "corp.example.", Some(Protocol::Quic)),
            (PHONE, "a.corp.example.", Some(Protocol::Quic)),
            ("192.168.7.99", "else.example.", Some(Protocol::Https)),
        ] {
            assert_eq!(addresses(&ask(&net, from, name)), [SHARED], "{name}");
            let (usual, other) = (usual.take(), other.take());
            let by: Vec<Protocol> = other.iter().map(|seen| seen.by).collect();
            assert_eq!(by, Vec::from_iter(by_other), "{name}");
            assert_eq!(usual.len(), usize::from(by_other.is_none()), "{name}");
        }
        end(daemon);
    });
}
