//! An audit for people at a terminal: what leaked first, then who received what.

use super::lines::{action_name, protocol};
use super::totals::{Totals, operator, place};
use std::fmt::{self, Write};

/// Lines of each part.
const MOST: usize = 40;

/// Writes the whole answer.
///
/// # Errors
/// Only those of `out`.
pub fn write(out: &mut impl Write, totals: &Totals) -> fmt::Result {
    leaks(out, totals)?;
    fanouts(out, totals)?;
    receivers(out, totals)?;
    rules(out, totals)?;
    let summary = &totals.summary;
    writeln!(
        out,
        "\n{} flows in {} captures: {} blocked, {} rerouted; {} packets left before they could be stopped",
        summary.flows, summary.captures, summary.blocked, summary.rerouted, summary.leaked_packets
    )
}

fn leaks(out: &mut impl Write, totals: &Totals) -> fmt::Result {
    let mut lines: Vec<_> = totals
        .flows
        .iter()
        .flat_map(|(capture, judged)| {
            let told = judged.flow.findings.iter().zip(&judged.actions);
            told.filter(|(told, _)| told.is_grave())
                .map(move |(told, action)| (capture, judged, told, action))
        })
        .collect();
    lines.sort_by_key(|(_, _, told, _)| told.class);
    let mut count = 0;
    for (capture, judged, told, action) in lines {
        if count == 0 {
            writeln!(out, "In the clear\n")?;
        }
        count += 1;
        if count <= MOST {
            let key = judged.flow.key;
            writeln!(
                out,
                "  {:<12} {:<34} {:<8} {} {} -> {} ({}, {})  {} packets, first {}:{}  {}",
                told.class.name(),
                format!("{} {}", told.detector, told.field),
                told.sample,
                protocol(key.protocol),
                key.source.ip(),
                key.destination,
                place(judged),
                operator(judged),
                told.count,
                capture,
                told.packets.first().unwrap_or(&0),
                action_name(action.as_ref().map(|(_, action)| *action)),
            )?;
        }
    }
    if count > MOST {
        writeln!(out, "  … and {} more; --json has all", count - MOST)?;
    }
    if count == 0 {
        writeln!(out, "Nothing was found in the clear.")?;
    }
    Ok(())
}

fn fanouts(out: &mut impl Write, totals: &Totals) -> fmt::Result {
    if totals.fanouts.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nOne value to several servers\n")?;
    for (capture, fanout) in totals.fanouts.iter().take(MOST) {
        writeln!(
            out,
            "  {} sent {} bytes ({}, {}) to {} servers within {} ms  {}",
            fanout.source,
            fanout.value.len(),
            fanout.class.name(),
            fanout.certainty.name(),
            fanout.destinations.len(),
            fanout.last.since(fanout.first).as_millis(),
            capture,
        )?;
    }
    Ok(())
}

fn receivers(out: &mut impl Write, totals: &Totals) -> fmt::Result {
    writeln!(out, "\nWho received what\n")?;
    let mut rows: Vec<_> = totals.receivers.iter().collect();
    rows.sort_by_key(|(_, receiver)| std::cmp::Reverse(receiver.bytes));
    for ((country, operator), receiver) in rows.into_iter().take(MOST) {
        let classes: Vec<String> = receiver
            .classes
            .iter()
            .map(|(class, count)| format!("{} {count}", class.name()))
            .collect();
        writeln!(
            out,
            "  {country:<12} {operator:<28} {:>6} flows {:>12} bytes {:>5} blocked  {}",
            receiver.flows,
            receiver.bytes,
            receiver.blocked,
            classes.join(", ")
        )?;
    }
    Ok(())
}

fn rules(out: &mut impl Write, totals: &Totals) -> fmt::Result {
    writeln!(out, "\nWhat the policy says\n")?;
    for ((rule, verdict), decided) in &totals.rules {
        writeln!(
            out,
            "  {verdict:<8} by {rule:<24} {:>6} flows {:>8} packets",
            decided.count, decided.packets
        )?;
    }
    for ((entry, action), decided) in &totals.sanitizers {
        writeln!(
            out,
            "  {action:<8} by {entry:<24} {:>6} findings {:>5} packets",
            decided.count, decided.packets
        )?;
    }
    Ok(())
}
