use super::*;

#[test]
fn loopback_is_found_and_an_unknown_interface_is_refused_by_name() {
    let mut netlink = Netlink::open().unwrap();
    let lo = netlink.index("lo").unwrap();
    assert!(netlink.links().unwrap().contains(&(lo, "lo".to_owned())));
    let error = netlink.index("no-such-link").unwrap_err();
    assert_eq!(errno(&error), Some(libc::ENODEV));
    let sentence = format!("{error:#}");
    assert!(
        sentence.starts_with("cannot find the interface no-such-link: No such device"),
        "{sentence}"
    );
    assert!(sentence.ends_with("there is no interface of that name or number"));
}

#[test]
fn names_no_interface_can_have_never_reach_the_kernel() {
    for bad in ["", "sixteen-bytes-xx", "a/b", "a b", "..", "nul\0"] {
        assert!(name(bad).is_err(), "{bad:?}");
    }
    assert!(name("fifteen-bytes-x").is_ok());
}

#[test]
fn routes_and_rules_read_as_the_operator_would_type_them() {
    let route = Route {
        destination: "198.51.100.0/24".parse().unwrap(),
        table: 17,
        metric: 0,
        target: Target::Device {
            name: "eth0".to_owned(),
            via: Some("192.0.2.1".parse().unwrap()),
        },
    };
    assert_eq!(
        route.to_string(),
        "198.51.100.0/24 via 192.0.2.1 dev eth0 table 17"
    );
    let rule = Rule {
        mark: Some((0x10, 0xff)),
        not: true,
        ..Rule::new(Family::V6, 5, 17)
    };
    assert_eq!(rule.to_string(), "5: not fwmark 0x10/0xff lookup 17");
}
