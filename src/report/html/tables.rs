//! The tables of the page.

use super::markup::{Page, bytes};
use crate::report::totals::Totals;
use crate::sanitize::Class;
use std::cmp::Reverse;

/// Rows of each table.
const MOST: usize = 200;

/// Who received what, by country and operator.
pub(super) fn receivers(page: &mut Page, totals: &Totals) {
    page.part(
        "receivers",
        "Who received what",
        "Every flow counts for the country where its other end is located and for whoever runs it.",
    );
    page.table(&[
        "Country",
        "Operator",
        "#Flows",
        "#Bytes",
        "#Blocked",
        "In the clear",
        "Names",
    ]);
    let mut rows: Vec<_> = totals.receivers.iter().collect();
    rows.sort_by_key(|(_, receiver)| Reverse(receiver.bytes));
    let largest = rows
        .first()
        .map_or(1, |(_, receiver)| receiver.bytes.max(1));
    for ((country, operator), receiver) in rows.into_iter().take(MOST) {
        page.raw("<tr><th scope=\"row\">");
        page.text(country);
        page.raw("</th>");
        page.cell(operator);
        page.number(receiver.flows);
        page.raw("<td class=\"n\">");
        page.text(&bytes(receiver.bytes));
        page.raw(&format!(
            "<span class=\"meter\" style=\"width:{}%\" aria-hidden=\"true\"></span></td>",
            receiver.bytes * 100 / largest
        ));
        page.number(receiver.blocked);
        page.raw("<td>");
        for (class, count) in &receiver.classes {
            page.tag(tone(*class), &format!("{} {count}", class.name()));
        }
        page.raw("</td>");
        page.cell(
            &receiver
                .names
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", "),
        );
        page.raw("</tr>");
    }
    page.end_table();
    page.raw("</section>");
}

/// One value to several servers.
pub(super) fn fanouts(page: &mut Page, totals: &Totals) {
    page.part(
        "fanouts",
        "One value to several servers",
        "The same bytes sent to several servers within seconds, as an app does that looks for the fastest route. Whoever \
         sees two of them knows that one device sent both.",
    );
    if totals.fanouts.is_empty() {
        page.raw("<p>None was seen.</p></section>");
        return;
    }
    if totals.is_live() {
        page.raw("<p class=\"soft\">A value is known from its third server on. What went to the first ones has left and ");
        page.raw("is not counted here.</p>");
    }
    let columns = [
        "From",
        "Value",
        "#Bytes",
        "Looks like",
        "#Servers",
        "#Packets",
        "#Milliseconds",
        "#Left before it was known",
    ];
    let shown = columns.len() - usize::from(totals.is_live());
    page.table(columns.get(..shown).unwrap_or_default());
    for (_, fanout) in totals.fanouts.iter().take(MOST) {
        page.raw("<tr>");
        page.cell(&fanout.source.to_string());
        page.cell(&crate::sanitize::mask(&fanout.value));
        page.number(fanout.value.len());
        page.raw("<td>");
        page.tag(tone(fanout.class), fanout.class.name());
        page.tag("", fanout.certainty.name());
        page.raw("</td>");
        page.number(fanout.destinations.len());
        page.number(fanout.packets.len());
        page.number(fanout.last.since(fanout.first).as_millis());
        if !totals.is_live() {
            page.number(fanout.leaked.len());
        }
        page.raw("</tr>");
    }
    page.end_table();
    page.raw("</section>");
}

/// What identifiers tie together.
pub(super) fn links(page: &mut Page, totals: &Totals) {
    page.part(
        "links",
        "Who can link whom",
        "Identifiers that anyone on the way can read, and what they tie together: all flows of a row belong to the same \
         person, device or room, whatever addresses they use; what stands in the last column is tied to it too.",
    );
    let mut rows: Vec<_> = totals.identifiers.iter().collect();
    rows.sort_by_key(|((class, _), tied)| (Reverse(tied.flows), *class));
    if rows.is_empty() {
        page.raw("<p>None was seen.</p></section>");
        return;
    }
    page.table(&[
        "Identifier",
        "Kind",
        "#Flows",
        "#Devices",
        "#Servers",
        "Seen on the way to",
        "Tied to",
    ]);
    for ((class, _), tied) in rows.into_iter().take(MOST) {
        page.raw("<tr><th scope=\"row\">");
        page.text(&tied.sample);
        page.raw("</th><td>");
        page.tag(tone(*class), class.name());
        page.text(&tied.field);
        page.raw("</td>");
        page.number(tied.flows);
        page.number(tied.sources.len());
        page.number(tied.servers.len());
        page.cell(
            &tied
                .countries
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", "),
        );
        page.raw("<td>");
        for (class, sample) in tied.with.iter().take(8) {
            page.tag(tone(*class), &format!("{} {sample}", class.name()));
        }
        page.raw("</td></tr>");
    }
    page.end_table();
    page.raw("</section>");
}

/// What the policy stops, by rule and by entry.
pub(super) fn policy(page: &mut Page, name: &str, totals: &Totals) {
    page.part(
        "policy",
        "What the policy says",
        &format!("Flows by the rule of “{name}” that decides them, findings by the entry that acts on them."),
    );
    page.table(&["Rule or entry", "Says", "#Flows or findings", "#Packets"]);
    let rules = totals
        .rules
        .iter()
        .map(|((name, says), count)| (name, *says, count));
    let entries = totals
        .sanitizers
        .iter()
        .map(|((name, says), count)| (name, *says, count));
    for (name, says, decided) in rules.chain(entries) {
        page.raw("<tr><th scope=\"row\">");
        page.text(name);
        page.raw("</th><td>");
        page.tag(verdict_tone(says), says);
        page.raw("</td>");
        page.number(decided.count);
        page.number(decided.packets);
        page.raw("</tr>");
    }
    page.end_table();
    page.raw("</section>");
}

/// How grave a class is.
pub(super) fn tone(class: Class) -> &'static str {
    match class {
        Class::Credential
        | Class::PersonId
        | Class::DeviceId
        | Class::Location
        | Class::Content => "stop",
        Class::HostName | Class::ChannelId | Class::ContentId | Class::SessionId => "warn",
        Class::AppId | Class::ServiceMeta | Class::Software | Class::DestMeta => "",
    }
}

/// How a verdict or action looks.
pub(super) fn verdict_tone(says: &str) -> &'static str {
    match says {
        "allow" | "pass" => "ok",
        "block" | "drop" | "reject" => "stop",
        _ => "warn",
    }
}
