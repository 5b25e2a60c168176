//! `cordon lookup`: All jurisdiction facts of addresses.

use super::machine::Machine;
use crate::jurisdiction::{AddressFacts, Answer, Data, Says};
use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use std::io::{BufRead, Write};
use std::net::IpAddr;
use std::process::ExitCode;

/// All jurisdiction facts of addresses, and what each source says.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cordon lookup 156.59.220.1 2001:4860:4860::8888\n  \
    cut -f1 addresses.tsv | cordon lookup --json -"
)]
pub(super) struct Args {
    /// IP addresses; `-` reads them from standard input, one a line.
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<String>,
    /// One JSON object an address.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: Machine,
}

pub(super) fn run(args: Args) -> Result<ExitCode> {
    let data = args.machine.data()?.data;
    let mut out = std::io::stdout().lock();
    for text in &args.addresses {
        if text == "-" {
            for (number, line) in (1..).zip(std::io::stdin().lock().lines()) {
                let line = line.context("cannot read standard input")?;
                let text = line.trim();
                if !text.is_empty() {
                    let address =
                        parse(text).with_context(|| format!("line {number} of standard input"))?;
                    print(&mut out, &data, address, args.json)?;
                }
            }
        } else {
            print(&mut out, &data, parse(text)?, args.json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn parse(text: &str) -> Result<IpAddr> {
    text.parse()
        .map_err(|_| anyhow!("“{text}” is not an IPv4 or IPv6 address"))
}

fn print(out: &mut impl Write, data: &Data, address: IpAddr, json: bool) -> Result<()> {
    let facts = data.lookup(address);
    let answers = data.answers(address);
    let line = if json {
        serde_json::to_string(&Line::new(data, address, &facts, &answers))?
    } else {
        describe(data, address, &facts, &answers)
    };
    writeln!(out, "{line}").context("cannot write to standard output")
}

/// One line of `--json`. The order of its fields is the order of the keys.
#[derive(Serialize)]
struct Line<'a> {
    ip: IpAddr,
    looked_up_as: IpAddr,
    special: Option<&'static str>,
    country: Option<String>,
    registered: Option<String>,
    asn: Option<u32>,
    as_name: Option<&'a str>,
    operator: Option<&'a str>,
    operator_country: Option<String>,
    anycast: &'static str,
    confidence: &'static str,
    sources: Vec<SourceAnswer<'a>>,
}

/// What one source says about one fact.
#[derive(Serialize)]
struct SourceAnswer<'a> {
    name: &'a str,
    #[serde(flatten)]
    says: Said,
    built: String,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Said {
    Country(String),
    Registered(String),
    Asn(u32),
    Anycast(&'static str),
}

impl<'a> Line<'a> {
    fn new(data: &'a Data, ip: IpAddr, facts: &AddressFacts, answers: &[Answer<'a>]) -> Self {
        Self {
            ip,
            looked_up_as: facts.looked_up_as,
            special: facts.special.map(|special| special.name()),
            country: facts.country.map(|country| country.to_string()),
            registered: facts.registered.map(|country| country.to_string()),
            asn: facts.asn,
            as_name: facts.asn.and_then(|asn| data.as_name(asn)),
            operator: facts
                .operator
                .and_then(|id| data.operator(id))
                .map(|operator| operator.id.as_str()),
            operator_country: facts.operator_country.map(|country| country.to_string()),
            anycast: facts.anycast.name(),
            confidence: facts.confidence.name(),
            sources: answers.iter().map(SourceAnswer::new).collect(),
        }
    }
}

impl<'a> SourceAnswer<'a> {
    fn new(answer: &Answer<'a>) -> Self {
        Self {
            name: &answer.source.meta.name,
            says: match answer.says {
                Says::Located(country) => Said::Country(country.to_string()),
                Says::Registered(country) => Said::Registered(country.to_string()),
                Says::Origin(asn) => Said::Asn(asn),
                Says::Anycast(anycast) => Said::Anycast(anycast.name()),
            },
            built: answer.source.meta.built_on(),
        }
    }
}

/// The facts for people.
fn describe(data: &Data, address: IpAddr, facts: &AddressFacts, answers: &[Answer<'_>]) -> String {
    let mut lines = vec![address.to_string()];
    let mut add = |what: &str, text: String| lines.push(format!("  {what:<12}{text}"));
    if let Some(embedding) = facts.embedded {
        add(
            "carries",
            format!("{} ({})", facts.looked_up_as, embedding.name()),
        );
    }
    if let Some(special) = facts.special {
        add("special", format!("{}: it has no country", special.name()));
        return lines.join("\n");
    }
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".into());
    let located = facts.country.map(|country| {
        format!(
            "{country} (sources on the country: {})",
            facts.confidence.name()
        )
    });
    add("located", or_unknown(located));
    add(
        "registered",
        or_unknown(facts.registered.map(|country| country.to_string())),
    );
    let origin = facts
        .asn
        .map(|asn| format!("AS{asn} {}", data.as_name(asn).unwrap_or_default()));
    add(
        "origin",
        or_unknown(origin.map(|origin| origin.trim_end().to_owned())),
    );
    let operator = facts.operator.and_then(|id| data.operator(id));
    add(
        "operator",
        or_unknown(operator.map(|operator| format!("{} ({})", operator.id, operator.name))),
    );
    let basis = if operator.is_some() {
        "operator file"
    } else {
        "registration of its autonomous system"
    };
    add(
        "seat",
        or_unknown(
            facts
                .operator_country
                .map(|country| format!("{country} (by the {basis})")),
        ),
    );
    add("anycast", facts.anycast.name().to_owned());
    for answer in answers {
        add("", say(answer));
    }
    if let Some(note) = operator
        .map(|operator| &operator.note)
        .filter(|note| !note.is_empty())
    {
        add("note", note.clone());
    }
    lines.join("\n")
}

fn say(answer: &Answer<'_>) -> String {
    let says = match answer.says {
        Says::Located(country) => format!("located in {country}"),
        Says::Registered(country) => format!("registered in {country}"),
        Says::Origin(asn) => format!("origin AS{asn}"),
        Says::Anycast(anycast) => format!("anycast {}", anycast.name()),
    };
    let meta = &answer.source.meta;
    format!("{} of {}: {says}", meta.name, meta.built_on())
}
