//! Policies of several files: inheritance, inclusion, lists.

use super::*;
use std::collections::BTreeMap;

/// Files in memory.
#[derive(Debug)]
struct Memory(BTreeMap<&'static str, String>);

impl Files for Memory {
    fn read(&self, path: &str) -> Result<String, String> {
        self.0
            .get(path)
            .cloned()
            .ok_or_else(|| "no such file".into())
    }
}

fn files(files: &[(&'static str, &str)]) -> Memory {
    Memory(
        files
            .iter()
            .map(|(name, text)| (*name, (*text).into()))
            .collect(),
    )
}

fn try_with(data: &Data, text: &str, files: &Memory) -> Result<Policy, LoadError> {
    let groups = Groups::embedded().unwrap();
    let around = Surroundings {
        data,
        groups: &groups,
    };
    Policy::load_with(
        "p/main.toml",
        &format!("version = 1\n{text}"),
        &around,
        files,
    )
}

fn with(data: &Data, text: &str, files: &Memory) -> Policy {
    try_with(data, text, files).unwrap_or_else(|error| panic!("{error}"))
}

fn ids(policy: &Policy) -> Vec<&str> {
    policy.rule_ids().collect()
}

fn locked(id: &str, body: &str) -> String {
    rule(id, &format!("{body}\nlocked = true"))
}

#[test]
fn inherited_rules_come_after_the_own_ones_and_locked_ones_before() {
    let data = data();
    let base = format!(
        "version = 1\n{OPEN}{}{}",
        rule("base-rest", "port = [1]\naction = \"block\""),
        locked("floor", "jurisdiction = [\"CN\"]\naction = \"block\"")
    );
    let middle = format!(
        "version = 1\nextends = \"base.toml\"\n{}{}",
        rule("middle-rest", "port = [2]\naction = \"block\""),
        locked("middle-floor", "port = [3]\naction = \"block\"")
    );
    let files = files(&[("p/base.toml", &base), ("p/middle.toml", &middle)]);
    let policy = with(
        &data,
        &format!(
            "extends = \"middle.toml\"\n{}",
            rule("own", "jurisdiction = [\"CN\"]\naction = \"allow\"")
        ),
        &files,
    );
    assert_eq!(
        ids(&policy),
        ["floor", "middle-floor", "own", "middle-rest", "base-rest"]
    );
    let facts = flow(&data, address(&["CN"], Some("CN")), &[]);
    assert_eq!(said(&policy, &facts), "block floor");
    // The defaults are inherited too.
    let facts = flow(&data, address(&["DE"], Some("DE")), &[]);
    assert_eq!(said(&policy, &facts), "allow default");
    let lint: Vec<String> = policy.lint().iter().map(ToString::to_string).collect();
    assert_eq!(
        lint,
        [
            "p/main.toml:3:1: rule `own` lets nothing go: block rule `floor` at p/base.toml:7:1 stops all of it before"
        ]
    );
}

#[test]
fn a_policy_that_observes_does_not_make_locked_rules_only_observed() {
    let data = data();
    let sanitizers = "[[sanitize]]\nid = \"s\"\nleak = \"secret\"\naction = \"drop\"\nlocked = true\n\
        [[sanitize]]\nid = \"t\"\nleak = \"secret\"\naction = \"drop\"\n";
    let base = format!(
        "version = 1\n[default]\naction = \"block\"\nlocked = true\n{}{}{sanitizers}",
        rule("rest", "port = [443]\naction = \"block\""),
        locked("floor", "country = [\"CN\"]\naction = \"block\"")
    );
    let files = files(&[("p/base.toml", &base)]);
    let policy = with(
        &data,
        "extends = \"base.toml\"\nmode = \"observe\"\n",
        &files,
    );
    let facts = flow(&data, address(&["CN"], None), &[]);
    assert_eq!(said(&policy, &facts), "block floor");
    let mut facts = flow(&data, address(&["DE"], None), &[]);
    assert_eq!(
        said(&policy, &facts),
        "block default",
        "what would be blocked by another rule is no news"
    );
    facts.destination.set_port(1);
    assert_eq!(said(&policy, &facts), "block default");
    let observed: Vec<bool> = policy
        .sanitizers
        .iter()
        .map(|entry| entry.observed)
        .collect();
    assert_eq!(observed, [false, true]);
    let printed = policy.to_string();
    let again = try_load(&data, &printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(again.to_string(), printed);
    assert_eq!(said(&again, &facts), "block default");
}

#[test]
fn locked_defaults_cannot_be_changed_and_others_can_one_by_one() {
    let data = data();
    let base = "version = 1\n[default]\naction = \"block\"\nreply = \"drop\"\nlocked = true\n";
    let error = try_with(
        &data,
        "extends = \"base.toml\"\n[default]\naction = \"allow\"\n",
        &files(&[("p/base.toml", base)]),
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "p/main.toml:3:1: the defaults are locked at p/base.toml:5:1"
    );
    let open = base.replace("locked = true\n", "");
    let policy = with(
        &data,
        "extends = \"base.toml\"\n[default]\non_unknown = \"allow\"\n",
        &files(&[("p/base.toml", &open)]),
    );
    let decision = policy.decide(&flow(&data, address(&["DE"], None), &[]));
    assert_eq!(decision.verdict, Verdict::Block(Reply::Drop));
}

#[test]
fn a_childs_on_unknown_does_not_loosen_what_it_inherits() {
    let data = data();
    let base = format!(
        "version = 1\n{OPEN}{}",
        locked("floor", "country = [\"CN\"]\naction = \"block\"")
    );
    let policy = with(
        &data,
        "extends = \"base.toml\"\n[default]\non_unknown = \"allow\"\n",
        &files(&[("p/base.toml", &base)]),
    );
    let facts = flow(&data, unknown("8.8.8.8"), &[]);
    assert_eq!(said(&policy, &facts), "block floor?");
}

#[test]
fn names_of_a_parent_can_be_used_and_not_taken() {
    let data = data();
    let base = "version = 1\n[sources]\nstaff = [\"10.0.0.0/8\"]\n";
    let files = files(&[("p/base.toml", base)]);
    let policy = with(
        &data,
        &format!(
            "extends = \"base.toml\"\n{}",
            rule("x", "from = \"staff\"\naction = \"allow\"")
        ),
        &files,
    );
    assert_eq!(ids(&policy), ["x"]);
    let error = try_with(
        &data,
        "extends = \"base.toml\"\n[sources]\nstaff = [\"wg:eve\"]\n",
        &files,
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "p/main.toml:4:1: source `staff` is taken at p/base.toml:3:1"
    );
}

#[test]
fn included_rules_stand_where_their_file_is_named() {
    let data = data();
    let top = rule("top", "port = [1]\naction = \"block\"");
    let inner = format!(
        "[targets]\nads = {{ domain = [\".ads.example\"] }}\n{}",
        rule("inner", "from = \"phones\"\nport = [2]\naction = \"block\"")
    );
    let files = files(&[("p/top.toml", &top), ("p/sub/inner.toml", &inner)]);
    let policy = with(
        &data,
        &format!(
            "include = [\"top.toml\"]\n[sources]\nphones = [\"wg:alice\"]\n{}[[rule]]\ninclude = \"sub/inner.toml\"\n{}",
            rule("a", "to = \"ads\"\naction = \"block\""),
            rule("b", "port = [3]\naction = \"block\"")
        ),
        &files,
    );
    assert_eq!(ids(&policy), ["top", "a", "inner", "b"]);
}

#[test]
fn a_policy_of_several_files_prints_as_one_that_is_the_same() {
    let data = data();
    let base = format!(
        "version = 1\n{OPEN}{}",
        locked("floor", "port = [1]\naction = \"block\"")
    );
    let part = format!(
        "[lists]\nads = {{ file = \"ads.txt\", format = \"domains\" }}\n{}",
        rule("ads", "domain = [\"list:ads\"]\naction = \"block\"")
    );
    let files = files(&[
        ("p/base.toml", &base),
        ("p/sub/part.toml", &part),
        ("p/sub/ads.txt", "ads.example\n"),
    ]);
    let policy = with(
        &data,
        &format!(
            "extends = \"base.toml\"\n{}[[rule]]\ninclude = \"sub/part.toml\"\n",
            rule("own", "port = [2]\naction = \"block\"")
        ),
        &files,
    );
    let printed = policy.to_string();
    let again = with(
        &data,
        printed.strip_prefix("version = 1\n").unwrap(),
        &files,
    );
    assert_eq!(again.to_string(), printed);
    assert_eq!(ids(&again), ["floor", "own", "ads"]);
}

#[test]
fn what_is_wrong_in_another_file_is_told_with_that_files_place() {
    let data = data();
    let broken = "version = 1\nmode = \"observe\"\n[[rule]]\nid = \"x\"\nprot = \"udp\"\naction = \"block\"\n";
    let error = try_with(
        &data,
        "include = [\"broken.toml\", \"missing.toml\", \"/etc/x.toml\"]\n",
        &files(&[("p/broken.toml", broken)]),
    )
    .unwrap_err();
    let lines: Vec<String> = error.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "p/broken.toml:2:1: unknown key `mode`; possible are version, include, sources, targets, exits, schedules, lists, sanitize, rule, test",
            "p/broken.toml:5:1: unknown key `prot`; did you mean `proto`?",
            "p/main.toml:2:27: `p/missing.toml` cannot be read: no such file",
            "p/main.toml:2:43: `/etc/x.toml` is not the name of a file beside this one",
        ]
    );
}

#[test]
fn files_that_contain_themselves_are_refused() {
    let data = data();
    let loops = files(&[
        ("p/a.toml", "version = 1\nextends = \"b.toml\"\n"),
        ("p/b.toml", "version = 1\nextends = \"a.toml\"\n"),
    ]);
    let error = try_with(&data, "extends = \"a.toml\"\n", &loops).unwrap_err();
    assert_eq!(
        error.to_string(),
        "p/b.toml:2:11: `a.toml` would contain itself"
    );
    let many: String = (0..80).map(|_| "\"a.toml\", ").collect();
    let error = try_with(
        &data,
        &format!("include = [{many}]\n"),
        &files(&[("p/a.toml", "")]),
    );
    assert!(error.unwrap_err().to_string().contains("64 files"));
}

#[test]
fn lists_of_names_match_with_their_exceptions() {
    let data = data();
    let files = files(&[
        (
            "p/lists/ads.txt",
            "||ads.example^\n@@||good.ads.example^\n||x.example/path^$image\n",
        ),
        ("p/lists/category", "a.example\ninclude:more @cn\n"),
        ("p/lists/more", "full:b.example @cn\nc.example\n"),
        ("p/lists/drop.txt", "192.0.2.0/24\n"),
    ]);
    let policy = with(
        &data,
        &format!(
            "[default]\naction = \"allow\"\non_unknown = \"allow\"\n[lists]\nads = {{ file = \"lists/ads.txt\", format = \"adblock\" }}\n\
             category = {{ file = \"lists/category\", format = \"v2fly\" }}\ndrop = {{ file = \"lists/drop.txt\", format = \"addresses\" }}\n{}{}{}",
            rule(
                "ads",
                "domain = [\"list:ads\", \"own.example\"]\naction = \"block\""
            ),
            rule(
                "category",
                "domain = [\"list:category\"]\naction = \"block\""
            ),
            rule(
                "drop",
                "ip = [\"list:drop\", \"198.51.100.1\"]\naction = \"block\""
            )
        ),
        &files,
    );
    for (name, expected) in [
        ("x.ads.example", "block ads"),
        ("own.example", "block ads"),
        ("good.ads.example", "allow default"),
        ("x.good.ads.example", "allow default"),
        ("y.a.example", "block category"),
        ("b.example", "block category"),
        ("c.example", "allow default"),
    ] {
        let names = [sni(name)];
        let facts = flow(&data, address(&["US"], None), &names);
        assert_eq!(said(&policy, &facts), expected, "{name}");
    }
    let names = [sni("z.example")];
    for address in ["192.0.2.77", "198.51.100.1"] {
        let facts = flow(&data, unknown(address), &names);
        assert_eq!(said(&policy, &facts), "block drop");
    }
    let doubts: Vec<String> = policy.lint().iter().map(ToString::to_string).collect();
    assert_eq!(
        doubts,
        ["p/main.toml:6:1: list `ads`: 1 entry asks for more than a name and is left out"]
    );
}

#[test]
fn an_attribute_asked_for_holds_for_included_lists_too() {
    let data = data();
    let files = files(&[
        (
            "p/a",
            "a.example @cn\nb.example\ninclude:more\ninclude:less @-x\nnot a line:\n",
        ),
        ("p/more", "c.example @cn\nd.example\n"),
        ("p/less", "e.example @cn\nf.example @cn @x\n"),
    ]);
    let body = rule(
        "a",
        "domain = [\"list:a\"]\naction = \"block\"\non_unknown = \"allow\"",
    );
    let text = |format: &str| {
        format!(
            "{OPEN}[lists]\na = {{ file = \"a\", format = \"{format}\", attribute = \"cn\" }}\n{body}"
        )
    };
    let policy = with(&data, &text("v2fly"), &files);
    let blocked = ["a", "b", "c", "d", "e", "f"].map(|name| {
        let name = format!("{name}.example");
        let names = [sni(&name)];
        said(&policy, &flow(&data, address(&["US"], None), &names)) == "block a"
    });
    assert_eq!(blocked, [true, false, true, false, true, false]);
    let error = try_with(&data, &text("domains"), &files).unwrap_err();
    assert!(error.to_string().contains("for the format \"v2fly\" only"));
}

#[test]
fn lines_of_a_list_that_are_nothing_are_counted_and_the_first_is_told() {
    let data = data();
    let files = files(&[("p/a.txt", "a.example\n-!-\n\n-?-\n")]);
    let text = "[lists]\na = { file = \"a.txt\", format = \"domains\" }\n".to_owned()
        + &rule("a", "domain = [\"list:a\"]\naction = \"block\"");
    let doubts = with(&data, &text, &files).lint();
    let doubts: Vec<String> = doubts.iter().map(ToString::to_string).collect();
    assert_eq!(
        doubts,
        ["p/main.toml:3:1: list `a`: 2 lines cannot be understood, the first at p/a.txt:2"]
    );
}

#[test]
fn a_list_without_entries_is_an_error_and_so_is_one_that_is_not_there() {
    let data = data();
    let files = files(&[("p/page.html", "<html>log in first</html>\n")]);
    for (text, wanted) in [
        (
            "[lists]\nads = { file = \"page.html\", format = \"hosts\" }\n",
            "has no entries in the format \"hosts\"",
        ),
        (
            "[lists]\nads = { file = \"nowhere\", format = \"hosts\" }\n",
            "cannot be read: no such file",
        ),
        (
            "[lists]\nads = { file = \"page.html\", format = \"host\" }\n",
            "did you mean `hosts`?",
        ),
        (
            "[[rule]]\nid = \"x\"\ndomain = [\"list:ads\"]\naction = \"block\"\n",
            "no list is called `ads`",
        ),
    ] {
        let error = try_with(&data, text, &files).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[test]
fn a_schedule_bounds_a_rule_and_is_unknown_without_a_clock() {
    let data = data();
    let policy = load(
        &data,
        &format!(
            "[default]\naction = \"allow\"\n[schedules]\nnight = {{ from = \"22:00\", to = \"06:00\" }}\n{}",
            rule("sleep", "schedule = \"night\"\naction = \"block\"")
        ),
    );
    let mut facts = flow(&data, address(&["US"], None), &[]);
    for (moment, expected) in [
        (Some(23 * 3600), "block sleep"),
        (Some(12 * 3600), "allow default"),
        (None, "block sleep?"),
    ] {
        facts.wall = moment;
        assert_eq!(said(&policy, &facts), expected);
    }
}

#[test]
fn exits_that_the_policy_itself_blocks_are_refused() {
    let data = data();
    let exits = "[exits]\nx = { kind = \"socks5\", server = \"proxy.agora.io:1080\" }\n\
        y = { kind = \"http-connect\", server = \"192.0.2.7:3128\" }\n";
    let text = format!(
        "{OPEN}{exits}{}{}",
        rule(
            "agora",
            "operator = [\"agora\"]\nport = [1]\naction = \"block\""
        ),
        rule("net", "ip = [\"192.0.2.0/24\"]\naction = \"block\""),
    );
    let error = try_load(&data, &format!("version = 1\n{text}")).unwrap_err();
    let lines: Vec<String> = error.problems().iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "p.toml:4:5: exit `x` at proxy.agora.io:1080 falls under block rule `agora` itself",
            "p.toml:5:5: exit `y` at 192.0.2.7:3128 falls under block rule `net` itself",
        ]
    );
    // What is let go before is meant to be reached.
    let spared = text.replace(
        "[[rule]]\nid = \"agora\"",
        "[[rule]]\nid = \"exits\"\nip = [\"192.0.2.7\"]\naction = \"allow\"\n[[rule]]\nid = \"agora\"",
    );
    let error = try_load(&data, &format!("version = 1\n{spared}")).unwrap_err();
    assert_eq!(error.problems().len(), 1);
}

#[test]
fn data_that_is_too_old_touches_and_settles_nothing() {
    let data = data();
    let text = format!(
        "[default]\naction = \"allow\"\nmax_data_age = 90\n{}{}",
        rule("cn", "country = [\"CN\"]\naction = \"block\""),
        rule("de", "country = [\"DE\"]\naction = \"allow\"")
    );
    let policy = load(&data, &text);
    // This data has no locations at all: its age is that of the epoch.
    let mut facts = flow(&data, address(&["DE"], None), &[]);
    assert_eq!(said(&policy, &facts), "block cn?");
    facts.address = address(&["CN"], None);
    assert_eq!(said(&policy, &facts), "block cn");
    facts.address = address(&["DE"], None);
    facts.wall = None;
    assert_eq!(said(&policy, &facts), "allow de");
    facts.wall = Some(89 * 86_400);
    assert_eq!(said(&policy, &facts), "allow de");
}

#[test]
fn a_test_may_be_about_what_a_flow_gives_away() {
    let data = data();
    let policy = load(
        &data,
        "[targets]\nagora = { domain = [\".agora.io\"] }\n\
         [[sanitize]]\nid = \"pings\"\nto = \"agora\"\nleak = [\"sd-rtn\"]\naction = \"drop\"\n\
         [[test]]\nflow = \"* -> 198.51.100.1:8000/udp\"\nname = \"x.agora.io\"\nleak = \"sd-rtn.identifier\"\nexpect = \"drop by pings\"\n\
         [[test]]\nflow = \"* -> 198.51.100.1:8000/udp\"\nname = \"x.example\"\nleak = \"sd-rtn.identifier\"\nexpect = \"pass\"\n\
         [[test]]\nflow = \"* -> 198.51.100.1:8000/udp\"\nname = \"x.agora.io\"\nleak = \"oicq.account\"\nexpect = \"drop by pings\"\n",
    );
    let results = policy.run_tests(&data);
    let passed: Vec<bool> = results.iter().map(|result| result.passed).collect();
    assert_eq!(passed, [true, true, false], "{results:?}");
    assert_eq!(results[2].found, "pass");
    for (leak, expect, wanted) in [
        ("person_id", "drop", "stands for several leaks"),
        ("secret", "block", "`pass`"),
        (
            "secret",
            "drop by nobody",
            "no sanitizer is called `nobody`",
        ),
    ] {
        let text = format!(
            "version = 1\n[[test]]\nflow = \"* -> 192.0.2.1:1\"\nleak = \"{leak}\"\nexpect = \"{expect}\"\n"
        );
        let error = try_load(&data, &text).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
}
