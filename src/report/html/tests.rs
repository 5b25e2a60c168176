use super::*;
use crate::jurisdiction::{Data, Groups};
use crate::link::frame::Seen;
use crate::policy::{Policy, Surroundings};
use crate::report::audit::Audit;
use crate::report::judged::Judge;
use crate::sanitize::Sanitizer;
use crate::time::Time;
use std::net::SocketAddr;

fn totals(payload: &[u8]) -> Totals {
    let (data, groups) = (Data::embedded().unwrap(), Groups::embedded().unwrap());
    let around = Surroundings {
        data: &data,
        groups: &groups,
    };
    let text = "version = 1\nname = \"p\"\n[default]\naction = \"allow\"\non_unknown = \"allow\"\n[[sanitize]]\nid = \"s\"\nleak = [\"person_id\"]\naction = \"drop\"\n";
    let policy = Policy::load("p.toml", text, &around).unwrap();
    let mut judge = Judge::new(&policy, &data);
    let mut audit = Audit::new(Sanitizer::default());
    let mut totals = Totals::default();
    let at = Time::from_secs(1_612_750_000);
    for server in 1..=4_u8 {
        let seen = Seen {
            source: SocketAddr::from(([10, 0, 0, 1], 5060)),
            destination: SocketAddr::from(([203, 0, 113, server], 5060)),
            protocol: 17,
            payload,
            segment: None,
            fragment: false,
            length: payload.len() + 28,
        };
        audit.packet(
            (u64::from(server), at),
            &seen,
            |destination| judge.blocks(seen.source.ip(), destination, at),
            |_| {},
        );
    }
    let fanouts = audit.finish(|flow| totals.add("c.pcap", judge.judge(flow)));
    totals.summary.captures = 1;
    totals.add_fanouts("c.pcap", fanouts);
    totals
}

const CALL: &[u8] = b"INVITE sip:bob@b.example SIP/2.0\r\nFrom: <sip:anne-private-number@a.example>;tag=<script>\r\nUser-Agent: x\r\n\r\n";

#[test]
fn the_page_stands_alone_and_shows_no_value() {
    let page = page("p", &totals(CALL));
    for outside in ["http://", "https://", "src=", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(!page.contains("anne-private-number"));
    assert!(page.contains("a…er"));
    assert!(!page.contains("<script"));
}

#[test]
fn every_part_is_there_and_every_tag_closed() {
    let page = page("p", &totals(CALL));
    for id in [
        "receivers",
        "timeline",
        "findings",
        "fanouts",
        "links",
        "policy",
    ] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
        assert!(page.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    for tag in [
        "section", "table", "details", "svg", "g", "main", "div", "pre", "mark", "tr", "ul",
    ] {
        let (open, close) = (
            page.matches(&format!("<{tag}")).count(),
            page.matches(&format!("</{tag}>")).count(),
        );
        let open = if tag == "g" {
            page.matches("<g>").count()
        } else {
            open
        };
        assert_eq!(open, close, "{tag}");
    }
}

#[test]
fn pings_to_several_servers_are_told() {
    let page = page("p", &totals(b"ping n=512345687 r=M5xk2Rj9"));
    assert!(page.contains("session_id") || page.contains("person_id"));
    assert!(!page.contains("512345687"));
    assert!(page.contains("Left before it was known"));
}
