//! Subscribed lists: names and addresses that others collect, in the formats in which they publish them.

use super::domains::{self, Pattern};
use super::networks;
use ipnet::IpNet;
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
    /// Other lists that belong to it, with the attribute that their entries must have.
    pub(super) includes: Vec<(String, Option<String>)>,
    /// Entries of a kind that cannot be said here: paths, keywords, regular expressions, options.
    pub(super) left_out: usize,
    /// Lines that are nothing at all, by their numbers; the first is told.
    pub(super) broken: Option<usize>,
}

/// Reads a list. Never fails: what cannot be used is counted. Of a v2fly list only entries with the attribute are
/// taken, if one is asked for.
pub(super) fn read(format: Format, text: &str, attribute: Option<&str>) -> Listed {
    let mut listed = Listed::default();
    for (number, line) in (1..).zip(text.lines()) {
        let before = listed.clone_counts();
        let understood = match format {
            Format::Domains => plain(line, &mut listed),
            Format::Hosts => hosts(line, &mut listed),
            Format::Adblock => adblock(line, &mut listed),
            Format::Dnsmasq => dnsmasq(line, &mut listed),
            Format::V2fly => v2fly(line, attribute, &mut listed),
            Format::Addresses => address(line, &mut listed),
        };
        if understood.is_none() && listed.clone_counts() == before {
            listed.broken.get_or_insert(number);
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
        self.broken = self.broken.or(other.broken);
    }

    fn clone_counts(&self) -> (usize, usize, usize, usize) {
        (
            self.names.len(),
            self.exceptions.len(),
            self.networks.len(),
            self.left_out,
        )
    }

    fn push(&mut self, name: &str, below: bool) -> Option<()> {
        let name = domains::canonical(name)?.into_boxed_str();
        self.names.push(Pattern { name, below });
        Some(())
    }
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
    for name in words {
        if !OWN.contains(&name) && !name.starts_with("ip6-") {
            listed.push(name, false)?;
        }
    }
    Some(())
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
        .and_then(domains::canonical);
    match name {
        Some(name) => {
            let pattern = Pattern {
                name: name.into(),
                below: true,
            };
            if exception {
                listed.exceptions.push(pattern);
            } else {
                listed.names.push(pattern);
            }
        }
        // A filter for paths, elements or some kinds of requests: it cannot be told by the name alone.
        None => listed.left_out += 1,
    }
    Some(())
}

fn dnsmasq(line: &str, listed: &mut Listed) -> Option<()> {
    let Some(line) = uncommented(line, &['#']) else {
        return Some(());
    };
    let (option, value) = line.split_once('=')?;
    if !matches!(option, "address" | "server" | "local") {
        listed.left_out += 1;
        return Some(());
    }
    let inner = value.strip_prefix('/')?;
    let (names, _) = inner.rsplit_once('/')?;
    for name in names.split('/') {
        listed.push(name, true)?;
    }
    Some(())
}

fn v2fly(line: &str, attribute: Option<&str>, listed: &mut Listed) -> Option<()> {
    let Some(line) = uncommented(line, &['#']) else {
        return Some(());
    };
    let mut words = line.split_whitespace();
    let entry = words.next()?;
    let mut attributes = words.filter_map(|word| word.strip_prefix('@'));
    let (kind, value) = entry.split_once(':').unwrap_or(("domain", entry));
    if kind == "include" {
        listed
            .includes
            .push((value.into(), attributes.next().map(Into::into)));
        return Some(());
    }
    if attribute.is_some_and(|wanted| !attributes.any(|word| word == wanted)) {
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
    listed.networks.push(networks::parse(line).ok()?);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(format: Format, text: &str) -> Vec<String> {
        let listed = read(format, text, None);
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
        let listed = read(Format::V2fly, v2fly, Some("cn"));
        assert_eq!(listed.names.len(), 1);
        let listed = read(Format::V2fly, v2fly, None);
        assert_eq!(listed.includes, [("other".into(), Some("ads".into()))]);
        assert_eq!((listed.left_out, listed.broken), (2, None));
    }

    #[test]
    fn of_an_adblock_list_only_whole_names_are_taken_and_exceptions_apart() {
        let text = "[Adblock Plus 2.0]\n! comment\n||ads.example^\n||x.example^$important\n@@||good.ads.example^\n\
            ||third.example^$third-party\n/banner/*\nexample##.ad\n";
        let listed = read(Format::Adblock, text, None);
        assert_eq!(names(Format::Adblock, text), [".ads.example", ".x.example"]);
        assert_eq!(listed.exceptions.len(), 1);
        assert_eq!((listed.left_out, listed.broken), (3, None));
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_list_panic_and_every_name_read_is_canonical(
            text in "([a-z.|^@/#:=0-9 *é-]{0,30}\n){0,5}", format in 0usize..6,
        ) {
            let listed = read(FORMATS[format].1, &text, None);
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
            None,
        );
        assert_eq!(listed.networks.len(), 2);
        assert_eq!(listed.broken, Some(4));
        assert_eq!(read(Format::Hosts, "nonsense\n", None).broken, Some(1));
    }
}
