//! What left, and to whom, as one page: no network, no script, light and dark, for keyboards, screen readers and paper.

mod findings;
mod markup;
mod tables;
mod timeline;

use super::totals::Totals;
use markup::{Page, bytes, moment};

const STYLE: &str = include_str!("style.css");

/// The whole page.
pub fn page(policy: &str, totals: &Totals) -> String {
    let mut page = Page::default();
    page.raw("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.raw("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    page.raw("<meta name=\"color-scheme\" content=\"light dark\"><title>What left, and to whom</title><style>");
    page.raw(STYLE);
    page.raw("</style></head><body><a class=\"skip\" href=\"#main\">To the findings</a>");
    head(&mut page, policy, totals);
    page.raw("<main id=\"main\">");
    tables::receivers(&mut page, totals);
    timeline::draw(&mut page, totals);
    findings::list(&mut page, totals);
    tables::fanouts(&mut page, totals);
    tables::links(&mut page, totals);
    tables::policy(&mut page, policy, totals);
    page.raw("<footer><p>Values are masked: a sample shows the ends of a value, never all of it. Countries are those of ");
    page.raw("the embedded database; an address announced from many places has no one location.</p></footer>");
    page.raw("</main></body></html>\n");
    page.finish()
}

fn head(page: &mut Page, policy: &str, totals: &Totals) {
    let summary = &totals.summary;
    page.raw("<header class=\"top\"><h1>What left, and to whom</h1><p class=\"soft\">");
    page.text(&match summary.captures {
        0 => "What a gate saw".to_owned(),
        1 => "1 capture".to_owned(),
        more => format!("{more} captures"),
    });
    if let Some((first, last)) = totals.period {
        page.text(&format!(", {} to {} (UTC)", moment(first), moment(last)));
    }
    page.text(&format!("; judged by the policy “{policy}”"));
    page.raw("</p><dl class=\"tiles\">");
    let total: u64 = totals
        .receivers
        .values()
        .map(|receiver| receiver.bytes)
        .sum();
    let stopped: usize = totals
        .sanitizers
        .iter()
        .filter(|((_, action), _)| *action != "report")
        .map(|(_, decided)| decided.count)
        .sum();
    let mut tiles = vec![
        ("flows", summary.flows.to_string()),
        ("both ways", bytes(total)),
        ("countries", summary.countries.len().to_string()),
        ("flows blocked", summary.blocked.to_string()),
        ("flows rerouted", summary.rerouted.to_string()),
    ];
    if totals.is_live() {
        tiles.push(("findings stopped", stopped.to_string()));
    } else {
        tiles.push(("findings to stop", stopped.to_string()));
        let early = summary.leaked_packets.to_string();
        tiles.push(("packets too early to stop", early));
    }
    for (name, value) in tiles {
        page.raw("<div><dt>");
        page.text(name);
        page.raw("</dt><dd>");
        page.text(&value);
        page.raw("</dd></div>");
    }
    page.raw("</dl><nav aria-label=\"Parts of this page\"><ul>");
    for (id, name) in [
        ("receivers", "Who received what"),
        ("timeline", "Timeline"),
        ("findings", "What was in the clear"),
        ("fanouts", "One value to several servers"),
        ("links", "Who can link whom"),
        ("policy", "What the policy says"),
    ] {
        page.raw("<li><a href=\"#");
        page.raw(id);
        page.raw("\">");
        page.text(name);
        page.raw("</a></li>");
    }
    page.raw("</ul></nav></header>");
}

#[cfg(test)]
mod tests;
