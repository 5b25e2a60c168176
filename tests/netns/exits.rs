//! Exits against proxies that others wrote: what is rerouted goes to the proxy and nowhere else, whatever becomes of it.
//!
//! They need `microsocks`, `danted` (dante-server), `tinyproxy` and `stunnel`. Where one is missing its tests are skipped and say
//! so; with `CORDON_PEERS=required` they fail instead.

use crate::abroad::{Abroad, CN, DE, DE6, NL, Options, Proxy, US, US6, destination, said};
use crate::harness::{in_lab, peer, wait_until};
use cordon::kernel::namespace::lab::{Frame, Observer};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

/// Bytes moved each way: no more than an observer on a busy machine can follow packet by packet.
const BULK: u64 = 64 << 20;
const PASSWORD: &str = "open-sesame";

/// All that goes to the places in this policy goes by an exit.
fn rerouted(exits: &str, exit: &str) -> String {
    format!(
        "[default]\naction = \"allow\"\n[exits]\n{exits}\n\
         [[rule]]\nid = \"abroad\"\nip = [\"{US}\", \"{US6}\"]\naction = \"reroute\"\nexit = \"{exit}\"\n\
         [[rule]]\nid = \"no-prc\"\njurisdiction = [\"CN\"]\naction = \"block\"\n"
    )
}

fn socks(server: &str, more: &str) -> String {
    format!("x = {{ kind = \"socks5\", server = \"{server}\"{more} }}")
}

/// Each way, in both families, and a thousand connections at once.
fn carries_streams(abroad: &Abroad, options: &[&str]) {
    for to in [format!("{US}:9"), format!("[{US6}]:9")] {
        abroad.succeed(options, &["put", &to, &BULK.to_string()]);
        abroad.succeed(options, &["get", &to, &BULK.to_string()]);
    }
    abroad.succeed(options, &["many", &format!("{US}:9"), "1000"]);
}

#[test]
fn streams_pass_a_socks5_proxy_with_a_password_and_nothing_goes_past_it() {
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        let Some(_proxy) = Proxy::microsocks(&abroad.german, DE, Some(("alice", PASSWORD))) else {
            return;
        };
        let directory = tempfile::tempdir().unwrap();
        let policy = rerouted(&socks(&format!("{DE}:1080"), ", credentials = \"de\""), "x");
        let options = abroad.options(directory.path(), &policy, &[("de", PASSWORD)]);
        let watch = abroad.watch(&[DE]);
        carries_streams(&abroad, &options.each());
        watch.nothing_else();
    });
}

#[test]
fn streams_pass_an_http_proxy_with_a_password_and_nothing_goes_past_it() {
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        let directory = tempfile::tempdir().unwrap();
        let Some(_proxy) =
            Proxy::tinyproxy(&abroad.german, DE, directory.path(), ("alice", PASSWORD))
        else {
            return;
        };
        let exit = format!(
            "x = {{ kind = \"http-connect\", server = \"{DE}:3128\", credentials = \"de\" }}"
        );
        let options = abroad.options(directory.path(), &rerouted(&exit, "x"), &[("de", PASSWORD)]);
        let watch = abroad.watch(&[DE]);
        carries_streams(&abroad, &options.each());
        // It carries no datagrams: they are refused, not sent another way.
        abroad.succeed(&options.each(), &["prohibited-udp", &format!("{US}:9")]);
        watch.nothing_else();
    });
}

#[test]
fn datagrams_and_streams_pass_a_relay_at_addresses_of_both_families() {
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        let directory = tempfile::tempdir().unwrap();
        let Some(_proxy) = Proxy::dante(&abroad.german, &[DE, DE6], directory.path()) else {
            return;
        };
        for server in [format!("{DE}:1080"), format!("[{DE6}]:1080")] {
            let policy = rerouted(&socks(&server, ", udp = true"), "x");
            let options = abroad.options(directory.path(), &policy, &[]);
            let watch = abroad.watch(&[DE, DE6]);
            abroad.succeed(
                &options.each(),
                &["udp", &format!("{US}:9"), "2000", "1300"],
            );
            abroad.succeed(
                &options.each(),
                &["down", &format!("{US}:9"), &(BULK / 4).to_string()],
            );
            abroad.succeed(
                &options.each(),
                &["up", &format!("[{US6}]:9"), &(BULK / 4).to_string()],
            );
            watch.nothing_else();
        }
        let policy = rerouted(&socks(&format!("{DE}:1080"), ", udp = true"), "x");
        let options = abroad.options(directory.path(), &policy, &[]);
        abroad.succeed(&options.each(), &["many", &format!("{US}:9"), "1000"]);
    });
}

/// Has a proxy die under load and return; the program itself checks that each of its errors came at once.
fn dies_and_returns(
    abroad: &Abroad,
    options: &[&str],
    start: impl Fn() -> Option<Proxy>,
) -> Option<()> {
    let proxy = start()?;
    let watch = abroad.watch(&[DE]);
    let mut client = abroad.begin(options, &["outage", &format!("{US}:9"), "5"]);
    client.says("running");
    drop(proxy);
    client.says("ended");
    client.says("refused");
    let _again = start();
    client.says("back");
    client.succeeds();
    watch.nothing_else();
    Some(())
}

#[test]
fn a_proxy_that_dies_under_load_ends_its_flows_and_its_return_needs_no_restart() {
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        let directory = tempfile::tempdir().unwrap();
        let policy = rerouted(&socks(&format!("{DE}:1080"), ""), "x");
        let options = abroad.options(directory.path(), &policy, &[]);
        let options = options.each();
        dies_and_returns(&abroad, &options, || {
            Proxy::microsocks(&abroad.german, DE, None)
        });
        dies_and_returns(&abroad, &options, || {
            Proxy::dante(&abroad.german, &[DE], directory.path())
        });
    });
}

#[test]
fn an_http_proxy_that_dies_under_load_ends_its_flows_and_its_return_needs_no_restart() {
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        let directory = tempfile::tempdir().unwrap();
        let exit = format!(
            "x = {{ kind = \"http-connect\", server = \"{DE}:3128\", credentials = \"de\" }}"
        );
        let options = abroad.options(directory.path(), &rerouted(&exit, "x"), &[("de", PASSWORD)]);
        dies_and_returns(&abroad, &options.each(), || {
            Proxy::tinyproxy(&abroad.german, DE, directory.path(), ("alice", PASSWORD))
        });
    });
}

#[test]
fn streams_pass_an_http_proxy_inside_tls_and_only_with_its_own_certificate() {
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        let directory = tempfile::tempdir().unwrap();
        let Some(_proxy) =
            Proxy::tinyproxy(&abroad.german, DE, directory.path(), ("alice", PASSWORD))
        else {
            return;
        };
        let Some((_front, certificate)) = Proxy::stunnel(&abroad.german, DE, directory.path())
        else {
            return;
        };
        let policy = rerouted(
            &format!(
                "x = {{ kind = \"http-connect\", server = \"{DE}:3129\", tls = true, credentials = \"de\" }}"
            ),
            "x",
        );
        let profile = format!("[exits.de]\nuser = \"alice\"\npassword = \"{PASSWORD}\"\n");
        let trusting = format!("{profile}ca-file = {certificate:?}\n");
        let options = Options::write(directory.path(), &policy, &trusting);
        let watch = abroad.watch(&[DE]);
        let to = format!("{US}:9");
        abroad.succeed(&options.each(), &["put", &to, &(BULK / 4).to_string()]);
        abroad.succeed(&options.each(), &["get", &to, &(BULK / 4).to_string()]);
        watch.nothing_else();
        // Whom no public authority vouches for is told nothing, least of all the password.
        let options = Options::write(directory.path(), &policy, &profile);
        let watch = abroad.watch(&[DE]);
        abroad.succeed(&options.each(), &["unreachable", &to, "3"]);
        watch.nothing_else();
        let events = fs::read_to_string(options.events()).unwrap();
        assert!(
            events.contains("its certificate is not trusted"),
            "{events}"
        );
    });
}

#[test]
fn an_http_proxy_that_does_not_take_the_password_is_told_of() {
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        let directory = tempfile::tempdir().unwrap();
        let Some(_proxy) =
            Proxy::tinyproxy(&abroad.german, DE, directory.path(), ("alice", PASSWORD))
        else {
            return;
        };
        let policy = rerouted(
            &format!(
                "x = {{ kind = \"http-connect\", server = \"{DE}:3128\", credentials = \"de\" }}"
            ),
            "x",
        );
        let options = abroad.options(directory.path(), &policy, &[("de", "wrong-word")]);
        let watch = abroad.watch(&[DE]);
        let to = format!("{US}:9");
        let output = abroad.succeed(&options.each(), &["unreachable", &to, "3"]);
        watch.nothing_else();
        let events = fs::read_to_string(options.events()).unwrap();
        assert!(events.contains("exit-credentials"), "{events}");
        assert!(!format!("{events}{}", said(&output)).contains("wrong-word"));
    });
}

#[test]
fn nothing_leaves_by_an_exit_that_others_see_where_the_policy_blocks() {
    const CHINESE: &str = "1.2.4.9";
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        abroad
            .german
            .address("eth0", &format!("{CHINESE}/32"))
            .unwrap();
        abroad.route_back(&format!("{CHINESE}/32"), DE);
        let directory = tempfile::tempdir().unwrap();
        let to = format!("{US}:9");
        let exit = |place: &str| socks(&format!("{DE}:1080"), &format!(", egress = \"{place}\""));
        let tried = |place: &str, words: &[&str]| {
            let policy = rerouted(&exit(place), "x");
            let options = abroad.options(directory.path(), &policy, &[]);
            let _ = fs::remove_file(options.events());
            let watch = abroad.watch(&[DE]);
            let output = abroad.succeed(&options.each(), words);
            watch.nothing_else();
            let events = fs::read_to_string(options.events()).unwrap();
            format!("{events}{}", said(&output))
        };
        let there = format!("http://{US}/");
        let Some(proxy) = Proxy::microsocks(&abroad.german, DE, None) else {
            return;
        };
        let told = tried(&there, &["put", &to, "100000"]);
        assert!(
            told.contains(&format!("others see it at {DE} (DE)")),
            "{told}"
        );
        // Nobody tells.
        let told = tried(&format!("http://{US}:10/"), &["unreachable", &to, "3"]);
        assert!(told.contains("its egress is not known"), "{told}");
        drop(proxy);
        let _proxy = Proxy::microsocks_from(&abroad.german, DE, Some(CHINESE), None);
        let told = tried(&there, &["unreachable", &to, "3"]);
        let why = format!("others see it at {CHINESE} (CN), which rule no-prc blocks");
        assert!(told.contains(&why), "{told}");
    });
}

#[test]
fn an_exit_that_comes_back_is_asked_anew_where_it_leaves() {
    const CHINESE: &str = "1.2.4.9";
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        abroad
            .german
            .address("eth0", &format!("{CHINESE}/32"))
            .unwrap();
        abroad.route_back(&format!("{CHINESE}/32"), DE);
        let directory = tempfile::tempdir().unwrap();
        let Some(proxy) = Proxy::microsocks(&abroad.german, DE, None) else {
            return;
        };
        let exit = socks(
            &format!("{DE}:1080"),
            &format!(", egress = \"http://{US}/\""),
        );
        let options = abroad.options(directory.path(), &rerouted(&exit, "x"), &[]);
        let watch = abroad.watch(&[DE]);
        let to = format!("{US}:9");
        // Where it was seen at a forbidden place it is not asked again at once.
        let mut client = abroad.begin(&options.each(), &["outage", &to, "5", "60"]);
        client.says("running");
        drop(proxy);
        client.says("ended");
        client.says("refused");
        wait_until("it is down", || {
            let events = fs::read_to_string(options.events()).unwrap_or_default();
            events.contains("\"up\":false")
        });
        let elsewhere = Proxy::microsocks_from(&abroad.german, DE, Some(CHINESE), None);
        wait_until("it is seen elsewhere", || {
            let events = fs::read_to_string(options.events()).unwrap_or_default();
            events.contains("which rule no-prc blocks")
        });
        drop(elsewhere);
        let _again = Proxy::microsocks(&abroad.german, DE, None);
        client.says("back");
        client.succeeds();
        watch.nothing_else();
    });
}

#[test]
fn an_exit_may_leave_by_a_mark_of_its_own() {
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        abroad.way_for_mark(US, 7);
        let directory = tempfile::tempdir().unwrap();
        let policy = rerouted("x = { kind = \"direct\" }", "x");
        let to = format!("{US}:9");
        for (config, carries) in [("[exits.x]\nmark = 7\n", true), ("", false)] {
            let options = Options::write(directory.path(), &policy, config);
            match carries {
                true => abroad.succeed(&options.each(), &["up", &to, "1000000"]),
                false => abroad.succeed(&options.each(), &["unreachable", &to, "1"]),
            };
        }
    });
}

#[test]
fn a_direct_exit_leaves_by_its_interface_and_address_and_by_no_other() {
    const OTHER: [u8; 4] = [203, 0, 113, 7];
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        abroad.own_address("203.0.113.7/24");
        let directory = tempfile::tempdir().unwrap();
        let policy = rerouted("x = { kind = \"direct\" }", "x");
        for (interface, carries) in [("eth0", true), ("lo", false)] {
            let config =
                format!("[exits.x]\naddresses = [\"203.0.113.7\"]\ninterface = \"{interface}\"\n");
            let options = Options::write(directory.path(), &policy, &config);
            let to_us = |frame: &Frame| {
                let us: IpAddr = US.parse().unwrap();
                !frame.outgoing && destination(frame) == Some(us)
            };
            let observer = Observer::judging(&abroad.net, "m", to_us).unwrap();
            let to = format!("{US}:9");
            if carries {
                abroad.succeed(&options.each(), &["up", &to, "1000000"]);
                abroad.succeed(&options.each(), &["udp", &to, "100", "1000"]);
            } else {
                let output = abroad.exec(&options.each(), &peer(), &["up", &to, "1000"]);
                assert!(!output.status.success(), "{}", said(&output));
            }
            let seen = observer.finish().unwrap();
            assert_eq!((seen.kept.is_empty(), seen.missed), (!carries, 0));
            let from = |frame: &Frame| frame.bytes.get(12..16) == Some(&OTHER);
            assert!(seen.kept.iter().all(from), "another address was used");
        }
    });
}

#[test]
fn a_call_outlives_its_relay_by_another_one_within_three_seconds() {
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        let directory = tempfile::tempdir().unwrap();
        let Some(first) = Proxy::dante(&abroad.german, &[DE], directory.path()) else {
            return;
        };
        let _second = Proxy::dante(&abroad.dutch, &[NL], directory.path());
        let exits = format!(
            "a = {{ kind = \"socks5\", server = \"{DE}:1080\", udp = true }}\n\
             b = {{ kind = \"socks5\", server = \"{NL}:1080\", udp = true }}\n\
             any = {{ kind = \"failover\", members = [\"a\", \"b\"] }}"
        );
        let options = abroad.options(directory.path(), &rerouted(&exits, "any"), &[]);
        let watch = abroad.watch(&[DE, NL]);
        let mut client = abroad.begin(&options.each(), &["call", &format!("{US}:9"), "8"]);
        client.says("running");
        // Silent, not gone: nobody says that it is down.
        first.freeze();
        let gap: u64 = client.says("gap ").trim().parse().unwrap();
        let events = fs::read_to_string(options.events()).unwrap();
        assert!((100..3000).contains(&gap), "silent for {gap} ms: {events}");
        client.succeeds();
        watch.nothing_else();
    });
}

#[test]
fn what_is_wrong_with_an_exit_is_said_and_nothing_goes_past_it() {
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        let Some(_proxy) = Proxy::microsocks(&abroad.german, DE, Some(("alice", PASSWORD))) else {
            return;
        };
        abroad.hosts(&format!("{CN} proxy.example\n{DE} good.example\n"));
        let directory = tempfile::tempdir().unwrap();
        let to = format!("{US}:9");
        let credentials = ", credentials = \"de\"";
        for (server, password, why) in [
            (
                format!("{DE}:1080"),
                "wrong",
                "it does not accept our user and password",
            ),
            (format!("{NL}:1080"), PASSWORD, "it cannot be connected to"),
            ("proxy.example:1080".into(), PASSWORD, "no-prc"),
            ("nowhere.example:1080".into(), PASSWORD, "looked up"),
        ] {
            let policy = rerouted(&socks(&server, credentials), "x");
            let options = abroad.options(directory.path(), &policy, &[("de", password)]);
            let watch = abroad.watch(&[DE, NL]);
            let output = abroad.succeed(&options.each(), &["unreachable", &to, "3"]);
            watch.nothing_else();
            let events = fs::read_to_string(options.events()).unwrap();
            assert!(events.contains(why), "{server}: {events}");
            let heard = format!("{events}{}", said(&output));
            assert!(
                !heard.contains(PASSWORD) && !heard.contains("wrong"),
                "{heard}"
            );
        }
        let policy = rerouted(&socks("good.example:1080", credentials), "x");
        let options = abroad.options(directory.path(), &policy, &[("de", PASSWORD)]);
        abroad.succeed(&options.each(), &["eventually", &to]);
    });
}

#[test]
fn an_exit_in_a_blocked_jurisdiction_is_refused_before_anything_runs() {
    in_lab(|lab| {
        let abroad = Abroad::in_lab(lab);
        let directory = tempfile::tempdir().unwrap();
        let policy = rerouted(&socks(&format!("{CN}:1080"), ""), "x");
        let options = abroad.options(directory.path(), &policy, &[]);
        let output = abroad.exec(&options.each(), Path::new("/bin/true"), &[]);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("no-prc"), "{}", said(&output));
        // Credentials that the policy wants and the configuration lacks.
        let policy = rerouted(&socks(&format!("{DE}:1080"), ", credentials = \"de\""), "x");
        let options = abroad.options(directory.path(), &policy, &[]);
        let output = abroad.exec(&options.each(), Path::new("/bin/true"), &[]);
        assert!(!output.status.success() && said(&output).contains("[exits.de]"));
    });
}
