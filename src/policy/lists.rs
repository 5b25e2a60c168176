//! Subscribed lists: names and addresses that others collect, in the formats in which they publish them.

use super::domains::{self, Pattern};
use crate::jurisdiction::network;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// One name a line, as rules write names: `.name` (or `*.name`) for all below too.
    Domains,
    /// `0.0.0.0 name name…`; each stands for itself.
    Hosts,
    /// `||name^` for a name and all below, `@@||name^` for an exception; other filters are left out.
    Adblock,
    /// `address=/name/…`, `server=/name/…` or `local=/name/`: a name and all below.
    Dnsmasq,
    /// The text form of v2fly's lists: `domain:`, `full:`, `include:`, attributes.
    V2fly,
    /// One address or network a line.
    Addresses,
}

pub(super) const FORMATS: [(&str, Format); 6] = [
    ("domains", Format::Domains),
    ("hosts", Format::Hosts),
    ("adblock", Format::Adblock),
    ("dnsmasq", Format::Dnsmasq),
    ("v2fly", Format::V2fly),
    ("addresses", Format::Addresses),
];

impl Format {
    pub(super) fn name(self) -> &'static str {
        FORMATS
            .iter()
            .find(|(_, format)| *format == self)
            .map_or("", |(name, _)| name)
    }
}

/// What a list says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) names: Vec<Pattern>,
    /// Names that are not meant, though they are below one that is.
    pub(super) exceptions: Vec<Pattern>,
    pub(super) networks: Vec<IpNet>,
    /// Other lists that belong to it, with what their entries must have.
    pub(super) includes: Vec<(String, Attributes)>,
    /// Entries of a kind that cannot be said here: paths, keywords, regular expressions, options.
    pub(super) left_out: usize,
    /// The first line of which some or all is nothing at all, and how many such lines there are.
    pub(super) broken: Option<(usize, usize)>,
}

/// Attributes that an entry must have; with `-` before it, that it must not have.
pub(super) type Attributes = BTreeSet<String>;

/// Reads a list. Never fails: what cannot be used is counted. Of a v2fly list only entries with these attributes are
/// taken.
pub(super) fn read(format: Format, text: &str, attributes: &Attributes) -> Listed {
    let mut listed = Listed::default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.lines()) {
        let understood = match format {
            Format::Domains => plain(line, &mut listed),
            Format::Hosts => hosts(line, &mut listed),
            Format::Adblock => adblock(line, &mut listed),
            Format::Dnsmasq => dnsmasq(line, &mut listed),
            Format::V2fly => v2fly(line, attributes, &mut listed),
            Format::Addresses => address(line, &mut listed),
        };
        if understood.is_none() {
            listed.broken.get_or_insert((number, 0)).1 += 1;
        }
    }
    listed
}

impl Listed {
    /// Adds what another part of the list says.
    pub(super) fn append(&mut self, mut other: Self) {
        self.names.append(&mut other.names);
        self.exceptions.append(&mut other.exceptions);
        self.networks.append(&mut other.networks);
        self.left_out += other.left_out;
    }

    fn push(&mut self, name: &str, below: bool) -> Option<()> {
        self.names.push(pattern(name, below)?);
        Some(())
    }

    /// Several names and all below them; a broken one does not take the others with it.
    fn push_each<'n>(&mut self, names: impl Iterator<Item = &'n str>, below: bool) -> Option<()> {
        let mut all = Some(());
        for name in names {
            all = self.push(name, below).and(all);
        }
        all
    }
}

fn pattern(name: &str, below: bool) -> Option<Pattern> {
    let name = domains::host(name)?.into_boxed_str();
    Some(Pattern { name, below })
}

/// A line without its comment; `None` if nothing is left.
fn uncommented<'l>(line: &'l str, marks: &[char]) -> Option<&'l str> {
    let line = line.split(marks).next().unwrap_or_default().trim();
    (!line.is_empty()).then_some(line)
}

fn plain(line: &str, listed: &mut Listed) -> Option<()> {
    let Some(name) = uncommented(line, &['#', ';']) else {
        return Some(());
    };
    match name.strip_prefix("*.").or_else(|| name.strip_prefix('.')) {
        Some(bare) => listed.push(bare, true),
        None => listed.push(name, false),
    }
}

fn hosts(line: &str, listed: &mut Listed) -> Option<()> {
    const OWN: [&str; 8] = [
        "localhost",
        "localhost.localdomain",
        "local",
        "broadcasthost",
        "ip6-localhost",
        "ip6-loopback",
        "ip6-allnodes",
        "0.0.0.0",
    ];
    let Some(line) = uncommented(line, &['#']) else {
        return Some(());
    };
    let mut words = line.split_whitespace();
    words.next()?.parse::<IpAddr>().ok()?;
    let names = words.filter(|name| !OWN.contains(name) && !name.starts_with("ip6-"));
    listed.push_each(names, false)
}

fn adblock(line: &str, listed: &mut Listed) -> Option<()> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['!', '#', '[']) {
        return Some(());
    }
    let (filter, exception) = match line.strip_prefix("@@") {
        Some(rest) => (rest, true),
        None => (line, false),
    };
    let name = filter
        .strip_prefix("||")
        .and_then(|rest| {
            rest.strip_suffix('^')
                .or_else(|| rest.strip_suffix("^$important"))
        })
        .and_then(|name| pattern(name, true));
    match name {
        Some(name) if exception => listed.exceptions.push(name),
        Some(name) => listed.names.push(name),
        // A filter for paths, elements or some kinds of requests: it cannot be told by the name alone.
        None => listed.left_out += 1,
    }
    Some(())
}

fn dnsmasq(line: &str, listed: &mut Listed) -> Option<()> {
    // In a value `#` is a word of its own, or comes before a port.
    let comment = [" #", "\t#"]
        .iter()
        .filter_map(|mark| line.find(mark))
        .min();
    let line = line
        .get(..comment.unwrap_or(line.len()))
        .unwrap_or_default()
        .trim();
    if line.is_empty() || line.starts_with('#') {
        return Some(());
    }
    let (option, value) = line.split_once('=').unwrap_or((line, ""));
    // `/#/` is every name.
    if !matches!(option, "address" | "server" | "local") || value.starts_with("/#/") {
        listed.left_out += 1;
        return Some(());
    }
    let (names, value) = value.strip_prefix('/')?.rsplit_once('/')?;
    let names = names.split('/').map(|name| {
        name.strip_prefix("*.")
            .or(name.strip_prefix('.'))
            .unwrap_or(name)
    });
    // The usual resolvers: so names are spared that lie below one that goes elsewhere.
    if option != "address" && value == "#" {
        let spared: Vec<_> = names.map(|name| pattern(name, true)).collect();
        let understood = spared.iter().all(Option::is_some);
        listed.exceptions.extend(spared.into_iter().flatten());
        return understood.then_some(());
    }
    listed.push_each(names, true)
}

fn v2fly(line: &str, attributes: &Attributes, listed: &mut Listed) -> Option<()> {
    let Some(line) = uncommented(line, &['#']) else {
        return Some(());
    };
    let mut words = line.split_whitespace();
    let entry = words.next()?;
    // `name @a @b` as it is kept, `name:@a,@b` as it is published.
    let (entry, published) = entry.split_once(":@").unwrap_or((entry, ""));
    let published = published
        .split(',')
        .map(|word| word.trim_start_matches('@'));
    let words = words.filter_map(|word| word.strip_prefix('@'));
    let own: Attributes = published
        .chain(words)
        .filter(|word| !word.is_empty())
        .map(Into::into)
        .collect();
    let (kind, value) = entry.split_once(':').unwrap_or(("domain", entry));
    if kind == "include" {
        let both = own.union(attributes).cloned().collect();
        listed.includes.push((value.into(), both));
        return Some(());
    }
    let is_wanted = |word: &String| match word.strip_prefix('-') {
        Some(unwanted) => !own.contains(unwanted),
        None => own.contains(word),
    };
    if !attributes.iter().all(is_wanted) {
        return Some(());
    }
    match kind {
        "domain" => listed.push(value, true),
        "full" => listed.push(value, false),
        "keyword" | "regexp" => {
            listed.left_out += 1;
            Some(())
        }
        _ => None,
    }
}

fn address(line: &str, listed: &mut Listed) -> Option<()> {
    let Some(line) = uncommented(line, &['#', ';']) else {
        return Some(());
    };
    listed.networks.push(network(line).ok()?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(words: &[&str]) -> Attributes {
        words.iter().copied().map(Into::into).collect()
    }

    fn names(format: Format, text: &str) -> Vec<String> {
        let listed = read(format, text, &Attributes::new());
        listed.names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn each_format_is_read_as_its_publishers_mean_it() {
        let hosts = "# comment\n127.0.0.1 localhost\n0.0.0.0 ads.example track.example # both\n::1 ip6-localhost\n";
        assert_eq!(
            names(Format::Hosts, hosts),
            ["ads.example", "track.example"]
        );
        let plain = "ads.example\n*.wild.example\n.dot.example\n; no\n\nBÜCHER.example\n";
        assert_eq!(
            names(Format::Domains, plain),
            [
                "ads.example",
                ".wild.example",
                ".dot.example",
                "xn--bcher-kva.example"
            ]
        );
        let dnsmasq =
            "address=/ads.example/0.0.0.0\nserver=/a.example/b.example/\nlocal=/c.example/\n";
        assert_eq!(
            names(Format::Dnsmasq, dnsmasq),
            [".ads.example", ".a.example", ".b.example", ".c.example"]
        );
        let v2fly =
            "agora.io\nfull:www.x.example @cn\nkeyword:bad\nregexp:^b\ninclude:other @ads\n";
        assert_eq!(names(Format::V2fly, v2fly), [".agora.io", "www.x.example"]);
        let listed = read(Format::V2fly, v2fly, &attributes(&["cn"]));
        assert_eq!(listed.names.len(), 1);
        let listed = read(Format::V2fly, v2fly, &attributes(&[]));
        assert_eq!(listed.includes, [("other".into(), attributes(&["ads"]))]);
        assert_eq!((listed.left_out, listed.broken), (2, None));
    }

    #[test]
    fn of_an_adblock_list_only_whole_names_are_taken_and_exceptions_apart() {
        let text = "[Adblock Plus 2.0]\n! comment\n||ads.example^\n||x.example^$important\n@@||good.ads.example^\n\
            ||third.example^$third-party\n/banner/*\nexample##.ad\n";
        let listed = read(Format::Adblock, text, &attributes(&[]));
        assert_eq!(names(Format::Adblock, text), [".ads.example", ".x.example"]);
        assert_eq!(listed.exceptions.len(), 1);
        assert_eq!((listed.left_out, listed.broken), (3, None));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_list_panic_and_every_name_read_is_canonical(
            text in "([a-z.|^@/#:=0-9 *é-]{0,30}\n){0,5}", format in 0usize..6,
        ) {
            let listed = read(FORMATS[format].1, &text, &attributes(&[]));
            for pattern in listed.names.iter().chain(&listed.exceptions) {
                let again = domains::canonical(&pattern.name);
                proptest::prop_assert_eq!(again.as_deref(), Some(&*pattern.name));
            }
        }
    }

    #[test]
    fn addresses_are_read_with_and_without_prefix_and_the_first_broken_line_is_told() {
        let listed = read(
            Format::Addresses,
            "192.0.2.0/24 ; note\n2001:db8::1\n\nnonsense\nmore\n",
            &attributes(&[]),
        );
        assert_eq!(listed.networks.len(), 2);
        assert_eq!(listed.broken, Some((4, 2)));
        let listed = read(Format::Hosts, "nonsense\n", &attributes(&[]));
        assert_eq!(listed.broken, Some((1, 1)));
    }

    #[test]
    fn a_byte_order_mark_and_line_ends_of_other_systems_cost_no_entry() {
        for (format, first) in [
            (Format::Domains, "a.example"),
            (Format::Hosts, "0.0.0.0 a.example"),
            (Format::Adblock, "||a.example^"),
            (Format::Dnsmasq, "address=/a.example/#"),
            (Format::V2fly, "full:a.example @x"),
            (Format::Addresses, "192.0.2.1"),
        ] {
            let listed = read(
                format,
                &format!("\u{feff}{first}\r\n\r\n"),
                &attributes(&[]),
            );
            assert_eq!(listed.names.len() + listed.networks.len(), 1, "{format:?}");
            assert_eq!((listed.left_out, listed.broken), (0, None), "{format:?}");
        }
    }

    #[test]
    fn a_broken_name_is_told_and_takes_no_other_of_its_line_with_it() {
        let text = "0.0.0.0 good.example bad!name after.example 192.0.2.1\nnone\n";
        assert_eq!(
            names(Format::Hosts, text),
            ["good.example", "after.example"]
        );
        let listed = read(Format::Hosts, text, &attributes(&[]));
        assert_eq!(listed.broken, Some((1, 2)));
        let text = "address=/bad!/after.example/0.0.0.0\n";
        assert_eq!(names(Format::Dnsmasq, text), [".after.example"]);
    }

    #[test]
    fn names_for_the_usual_resolvers_are_exceptions_of_a_dnsmasq_list() {
        let text = "server=/a.example/192.0.2.1#5353\nserver=/ok.a.example/#\naddress=/.b.example/#\n\
            address=/*.c.example/\naddress=/#/192.0.2.1\nipset=/d.example/x\n # note\nlocal=/e.example/ # note\n";
        assert_eq!(
            names(Format::Dnsmasq, text),
            [".a.example", ".b.example", ".c.example", ".e.example"]
        );
        let listed = read(Format::Dnsmasq, text, &attributes(&[]));
        assert_eq!(listed.exceptions, [pattern("ok.a.example", true).unwrap()]);
        assert_eq!((listed.left_out, listed.broken), (2, None));
    }

    #[test]
    fn attributes_of_a_v2fly_entry_are_all_asked_for_or_all_against_it() {
        let text = "a.example @cn @ads\nb.example @ads\nfull:c.example:@cn,@ads\nd.example &other\ninclude:e @-x\n";
        let found = |words: &[&str]| -> Vec<String> {
            let listed = read(Format::V2fly, text, &attributes(words));
            assert_eq!(listed.broken, None);
            listed.names.iter().map(ToString::to_string).collect()
        };
        assert_eq!(found(&["cn", "ads"]), [".a.example", "c.example"]);
        assert_eq!(found(&["-cn"]), [".b.example", ".d.example"]);
        let listed = read(Format::V2fly, text, &attributes(&["cn"]));
        assert_eq!(listed.includes, [("e".into(), attributes(&["-x", "cn"]))]);
    }
}
