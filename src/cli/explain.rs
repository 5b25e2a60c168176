//! `cordon explain`: The verdict on a destination, and why.

use super::machine::Machine;
use super::policy::load_or_observe;
use crate::policy::{
    Evidence, Explanation, FactSheet, Facts, Name, NameFact, Opening, SourceFact, Step,
    canonical_name,
};
use anyhow::{Context, Result, anyhow};
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

/// The verdict on a destination, and why: every rule tried, where each fact came from, what would change it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 allow, 10 block, 11 reroute, 12 allowed only because the rule that would stop it is \
    observed,\n1 the policy has errors, 2 wrong usage.\n\nExamples:\n  cordon explain 1.2.4.8\n  \
    cordon explain --policy policies/clubhouse-2021.toml --from wg:alice --proto udp \\\n    \
    --name qos-america.agoralab.co 47.74.211.17:8000"
)]
pub(super) struct Args {
    /// The policy; without it, one that only observes.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Who sends: a source of the policy, mac:…, wg:PEER, an address or a network.
    #[arg(
        long,
        value_name = "SRC",
        default_value = "*",
        hide_default_value = true
    )]
    from: String,
    /// Transport protocol.
    #[arg(long, value_enum, default_value_t = Proto::Tcp)]
    proto: Proto,
    /// A name that the client uses for the destination.
    #[arg(long)]
    name: Option<String>,
    /// How the name is known: shown by the flow and by a DNS answer, by an answer alone, or only claimed by the flow.
    #[arg(long, value_enum, default_value_t = Known::Sni, requires = "name")]
    evidence: Known,
    /// One JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
    /// Address, and port; without it 443, and none for icmp.
    #[arg(value_name = "DEST[:PORT]")]
    destination: String,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Proto {
    Tcp,
    Udp,
    Icmp,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Known {
    Sni,
    Dns,
    Claimed,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let data = args.machine.data()?;
    let policy = load_or_observe(args.policy.as_deref(), &data)?;
    let sender = policy.sender(&args.from).map_err(|error| anyhow!(error))?;
    let destination = destination(&args.destination, args.proto)?;
    let name = match &args.name {
        Some(name) => {
            Some(canonical_name(name).with_context(|| format!("“{name}” is not a domain name"))?)
        }
        None => None,
    };
    let evidence: &[Evidence] = match args.evidence {
        Known::Sni => &[Evidence::Dns { age: 0 }, Evidence::Sni],
        Known::Dns => &[Evidence::Dns { age: 0 }],
        Known::Claimed => &[Evidence::Sni],
    };
    let names: Vec<Name<'_>> = name
        .iter()
        .flat_map(|name| {
            let evidence = evidence.iter().copied();
            evidence.map(move |evidence| Name { name, evidence })
        })
        .collect();
    let why = policy.explain(&Facts {
        source: sender.source(),
        protocol: match args.proto {
            Proto::Tcp => 6,
            Proto::Udp => 17,
            Proto::Icmp => 1,
        },
        destination,
        address: data.data.lookup(destination.ip()),
        names: &names,
        opening: Opening::default(),
        data: &data.data,
        wall: SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()
            .map(|since| since.as_secs()),
    });
    if args.json {
        println!("{}", serde_json::to_string(&why)?);
    } else {
        print!("{}", describe(&why, &args.from));
    }
    Ok(ExitCode::from(status(&why)))
}

fn destination(text: &str, proto: Proto) -> Result<SocketAddr> {
    if let Ok(destination) = text.parse() {
        return Ok(destination);
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address: IpAddr = bare.parse().with_context(|| {
        format!(
            "“{text}” is not an address, with or without a port; nothing is looked up here, so give a name by --name \
             beside the address"
        )
    })?;
    let port = match proto {
        Proto::Tcp | Proto::Udp => 443,
        Proto::Icmp => 0,
    };
    Ok(SocketAddr::new(address, port))
}

fn status(why: &Explanation) -> u8 {
    match why.verdict {
        "block" => 10,
        "reroute" => 11,
        _ if why
            .would
            .as_ref()
            .is_some_and(|would| would.verdict == "block") =>
        {
            12
        }
        _ => 0,
    }
}

/// For people: the answer first, then what it rests on.
fn describe(why: &Explanation, from: &str) -> String {
    let facts = &why.facts;
    let mut text = String::new();
    let destination = SocketAddr::new(facts.ip, facts.port);
    let sender = if from == "*" { "anyone" } else { from };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{} from {sender} to {destination}\n", facts.proto);
    let _ = writeln!(text, "{}", answer(why));
    let _ = writeln!(text, "\nWhat is known");
    for (what, value) in known(why) {
        let _ = writeln!(text, "  {what:<16} {value}");
    }
    if !why.trace.is_empty() {
        let _ = writeln!(text, "\nRules in order");
    }
    let width = why
        .trace
        .iter()
        .map(|step| step.rule.len())
        .max()
        .unwrap_or(0);
    for (number, step) in (1..).zip(&why.trace) {
        let _ = writeln!(
            text,
            "  {number:>2} {:<width$}  {:<8} {}",
            step.rule,
            outcome(step),
            step.because
        );
    }
    if why.rule == "default" {
        let _ = writeln!(text, "     no rule decided, so the default did");
    }
    if !why.sanitizers.is_empty() {
        let list = why.sanitizers.join(", ");
        let _ = writeln!(text, "\nWhat it carries is read by: {list}");
    }
    if let Some(flip) = &why.flip {
        let _ = writeln!(text, "\nThe smallest change: {flip}.");
    }
    text
}

fn answer(why: &Explanation) -> String {
    let by = if why.rule == "default" {
        "by default".into()
    } else {
        format!("by rule `{}`", why.rule)
    };
    let mut text = match (why.verdict, &why.exit) {
        ("block", _) if why.reply == Some("drop") => format!("BLOCKED {by}, without an answer"),
        ("block", _) => {
            format!("BLOCKED {by}; the sender is told (TCP RST, ICMP administratively prohibited)")
        }
        (_, Some(exit)) => format!("REROUTED {by} through exit `{exit}`"),
        _ => format!("ALLOWED {by}"),
    };
    if why.unknown {
        text +=
            "\nA fact that the rule needs is not known, and the policy blocks what it cannot tell.";
    }
    if let Some(would) = &why.would {
        let _ = write!(
            text,
            "\nOnly observed: `{}` would {} it.",
            would.rule, would.verdict
        );
    }
    if !why.needs.is_empty() {
        let _ = write!(
            text,
            "\nA real flow would be held first until its {} is seen; this is the answer if it never is.",
            why.needs.join(" or ")
        );
    }
    text
}

fn outcome(step: &Step) -> &'static str {
    match (step.matched, step.fired, step.observed) {
        (_, true, true) => "observed",
        ("unknown", true, false) => "unknown*",
        (matched, ..) => matched,
    }
}

/// Facts line by line, with what each source says.
fn known(why: &Explanation) -> Vec<(&'static str, String)> {
    let facts = &why.facts;
    let mut lines = names(facts);
    let or_unknown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".into());
    if facts.looked_up_as != facts.ip {
        lines.push(("carries", facts.looked_up_as.to_string()));
    }
    if let Some(special) = facts.special {
        lines.push(("special", format!("{special}; it has no country")));
        return lines;
    }
    let origin = facts.asn.map(|asn| {
        let name = facts.as_name.as_deref().unwrap_or("without a name");
        format!("AS{asn} {name}")
    });
    let sources = &facts.sources;
    let located = told(sources, |source| source.country.clone());
    let registered = told(sources, |source| source.registered.clone());
    let announced = told(sources, |source| source.asn.map(|asn| format!("AS{asn}")));
    let operator = facts.operator.as_deref().unwrap_or("none that is listed");
    let checked = told(sources, |source| source.operator.clone());
    let confidence = facts.confidence;
    lines.extend([
        (
            "located in",
            format!("{} {confidence}{located}", or_unknown(&facts.country)),
        ),
        (
            "registered in",
            format!("{}{registered}", or_unknown(&facts.registered)),
        ),
        (
            "announced by",
            format!("{}{announced}", or_unknown(&origin)),
        ),
        ("operator", format!("{operator}{checked}")),
        ("operator's seat", or_unknown(&facts.operator_country)),
        ("anycast", facts.anycast.into()),
        ("data", facts.data.clone()),
    ]);
    lines
}

fn names(facts: &FactSheet) -> Vec<(&'static str, String)> {
    if facts.names.is_empty() {
        return vec![("name", "none".into())];
    }
    let line = |name: &NameFact| {
        let age = name.age.map(|age| format!(", {age} s old"));
        let operator = name.operator.as_ref();
        let operator = operator.map(|operator| format!(", of operator {operator}"));
        format!(
            "{} ({}{}{})",
            name.name,
            name.evidence,
            age.unwrap_or_default(),
            operator.unwrap_or_default()
        )
    };
    facts
        .names
        .iter()
        .map(|name| ("name", line(name)))
        .collect()
}

/// What each source says about a fact, with its age, in brackets; nothing if none does.
fn told(sources: &[SourceFact], fact: impl Fn(&SourceFact) -> Option<String>) -> String {
    let said: Vec<String> = sources
        .iter()
        .filter_map(|source| {
            let age = source.age_days.map(|days| format!(", {days} days old"));
            Some(format!(
                "{}: {}{}",
                source.name,
                fact(source)?,
                age.unwrap_or_default()
            ))
        })
        .collect();
    if said.is_empty() {
        return String::new();
    }
    format!(" ({})", said.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_addresses_with_or_without_a_port() {
        let read = |text| destination(text, Proto::Tcp).map(|to| to.to_string()).ok();
        assert_eq!(read("1.2.4.8").as_deref(), Some("1.2.4.8:443"));
        assert_eq!(read("1.2.4.8:53").as_deref(), Some("1.2.4.8:53"));
        assert_eq!(read("2001:db8::1").as_deref(), Some("[2001:db8::1]:443"));
        assert_eq!(
            read("[2001:db8::1]:53").as_deref(),
            Some("[2001:db8::1]:53")
        );
        assert_eq!(read("example.org"), None);
        assert_eq!(read("1.2.4.8:99999"), None);
        assert_eq!(
            destination("1.2.4.8", Proto::Icmp).map(|to| to.port()).ok(),
            Some(0)
        );
    }
}
