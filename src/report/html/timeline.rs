//! Flows over time as a drawing, with the packets that leak marked. A table above says the same in words.

use super::markup::{Page, moment};
use crate::report::judged::Judged;
use crate::report::totals::{Totals, place};
use crate::time::Time;
use std::cmp::Reverse;

/// Flows drawn.
const MOST: usize = 60;
/// Measures of the drawing, in its own units.
const LABEL: f64 = 330.0;
const WIDTH: f64 = 1100.0;
const ROW: f64 = 17.0;
const TOP: f64 = 30.0;

/// Draws the flows that tell most, in order of time.
pub(super) fn draw(page: &mut Page, totals: &Totals) {
    page.part(
        "timeline",
        "Timeline",
        "One row a flow, as long as it lasted; a circle marks a packet that gave something away. The colour is the \
         verdict: allowed, blocked or rerouted.",
    );
    let (Some((first, last)), false) = (totals.period, totals.flows.is_empty()) else {
        page.raw("<p>There is no flow.</p></section>");
        return;
    };
    let mut rows: Vec<&Judged> = totals.flows.iter().map(|(_, judged)| judged).collect();
    rows.sort_by_key(|judged| (Reverse(leaks(judged)), Reverse(judged.flow.bytes)));
    rows.truncate(MOST);
    rows.sort_by_key(|judged| (judged.flow.first, judged.flow.key));
    let height = TOP + ROW * rows.len() as f64 + 12.0;
    page.raw(&format!(
        "<svg class=\"timeline\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{} flows over time\">",
        rows.len()
    ));
    let span = last.since(first).as_secs_f64().max(0.001);
    let x = |at: Time| LABEL + (WIDTH - LABEL - 20.0) * at.since(first).as_secs_f64() / span;
    axis(page, (first, last), height);
    for (index, judged) in rows.iter().enumerate() {
        row(page, judged, TOP + ROW * index as f64, &x);
    }
    page.raw("</svg>");
    let hidden = totals.flows.len().saturating_sub(MOST) + totals.dropped;
    if hidden > 0 {
        page.raw("<p class=\"soft\">");
        page.text(&format!("{hidden} flows that tell less are not drawn."));
        page.raw("</p>");
    }
    page.raw("</section>");
}

fn leaks(judged: &Judged) -> usize {
    let told = judged.flow.findings.iter();
    told.filter(|told| told.is_grave()).count()
}

fn axis(page: &mut Page, (first, last): (Time, Time), height: f64) {
    let right = WIDTH - 20.0;
    for at in [LABEL, right] {
        page.raw(&format!(
            "<line class=\"axis\" x1=\"{at}\" x2=\"{at}\" y1=\"22\" y2=\"{}\"/>",
            height - 6.0
        ));
    }
    page.raw(&format!("<text class=\"soft\" x=\"{LABEL}\" y=\"15\">"));
    page.text(&moment(first));
    page.raw(&format!(
        "</text><text class=\"soft\" x=\"{right}\" y=\"15\" text-anchor=\"end\">"
    ));
    page.text(&moment(last));
    page.raw("</text>");
}

fn row(page: &mut Page, judged: &Judged, y: f64, x: &impl Fn(Time) -> f64) {
    let flow = &judged.flow;
    let protocol = flow.reading.map_or("", |reading| reading.protocol);
    let label: String = format!("{} {} {protocol}", place(judged), name(judged))
        .chars()
        .take(52)
        .collect();
    page.raw(&format!("<g><text x=\"8\" y=\"{}\">", y + 11.0));
    page.text(&label);
    page.raw("</text>");
    let (from, to) = (x(flow.first), x(flow.last));
    page.raw(&format!(
        "<rect class=\"{}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"9\" rx=\"3\"><title>",
        judged.verdict,
        y + 3.0,
        (to - from).max(3.0)
    ));
    page.text(&format!(
        "{} packets, {} by {}",
        flow.packets, judged.verdict, judged.rule
    ));
    page.raw("</title></rect>");
    let told = flow.findings.iter().filter(|told| told.is_grave());
    for (told, at) in told.flat_map(|told| told.moments.iter().map(move |at| (told, *at))) {
        page.raw(&format!(
            "<circle class=\"leak\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4.5\"><title>",
            x(at),
            y + 7.5
        ));
        page.text(&format!(
            "{}: {} {}",
            told.class.name(),
            told.field,
            told.sample
        ));
        page.raw("</title></circle>");
    }
    page.raw("</g>");
}

/// The name of the other side, or its address.
fn name(judged: &Judged) -> String {
    let key = judged.flow.key;
    judged
        .flow
        .all_names()
        .next()
        .map_or_else(|| key.destination.to_string(), str::to_owned)
}
