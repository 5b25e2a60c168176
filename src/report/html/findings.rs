//! Each finding with its bytes in context, masked.

use super::markup::{Page, moment};
use super::tables::{tone, verdict_tone};
use crate::report::audit::Told;
use crate::report::judged::Judged;
use crate::report::lines::{action_name, protocol};
use crate::report::totals::{Totals, operator, place};
use std::cmp::Reverse;

/// Findings shown.
const MOST: usize = 300;

/// The gravest first.
pub(super) fn list(page: &mut Page, totals: &Totals) {
    page.part(
        "findings",
        "What was in the clear",
        "Gravest first. Open a line for the bytes around the field, the field itself masked. Server names and software \
         are counted above and not listed here.",
    );
    let mut all: Vec<_> = totals
        .flows
        .iter()
        .flat_map(|(capture, judged)| {
            let told = judged.flow.findings.iter().zip(&judged.actions);
            told.map(move |(told, action)| (capture, judged, told, action))
        })
        .filter(|(_, _, told, _)| told.is_grave())
        .collect();
    all.sort_by_key(|(_, _, told, _)| (told.class, Reverse(told.certainty), Reverse(told.count)));
    if all.is_empty() {
        page.raw("<p>Nothing was found.</p>");
    }
    for (capture, judged, told, action) in all.iter().take(MOST) {
        page.raw("<details><summary>");
        page.tag(tone(told.class), told.class.name());
        page.raw("<span class=\"what\">");
        page.text(&format!(" {}: {} ", told.detector, told.field));
        page.raw("</span>");
        page.text(&format!(
            "{} to {} ({}, {}) ",
            told.sample,
            judged.flow.key.destination,
            place(judged),
            operator(judged)
        ));
        let action = action_name(action.as_ref().map(|(_, action)| *action));
        page.tag(verdict_tone(action), action);
        page.raw("</summary>");
        one(page, capture, judged, told);
        page.raw("</details>");
    }
    if all.len() > MOST {
        page.raw("<p class=\"soft\">");
        page.text(&format!(
            "{} more are not shown; the JSON output has all.",
            all.len() - MOST
        ));
        page.raw("</p>");
    }
    page.raw("</section>");
}

fn one(page: &mut Page, capture: &str, judged: &Judged, told: &Told) {
    let key = judged.flow.key;
    page.raw("<p class=\"soft\">");
    page.text(&format!(
        "{}, frame {}{} · {} {} → {} · {} · {} bytes at offset {} · first seen {}",
        capture,
        told.packets.first().unwrap_or(&0),
        if told.count > 1 {
            format!(" and {} more", told.count - 1)
        } else {
            String::new()
        },
        protocol(key.protocol),
        key.source,
        key.destination,
        told.certainty.name(),
        told.length,
        told.offset,
        told.moments
            .first()
            .map_or_else(String::new, |at| moment(*at)),
    ));
    page.raw("</p><pre>");
    page.text(&readable(&told.excerpt.before));
    page.raw("<mark>");
    page.text(&format!("‹{}›", told.sample));
    page.raw("</mark>");
    page.text(&readable(&told.excerpt.after));
    page.raw("</pre>");
}

/// Printable bytes as they are, others as a dot; what belongs to another finding as a block.
fn readable(bytes: &[Option<u8>]) -> String {
    bytes
        .iter()
        .map(|byte| match byte {
            None => '█',
            Some(byte) if byte.is_ascii_graphic() || *byte == b' ' => char::from(*byte),
            Some(b'\n') => '⏎',
            Some(_) => '·',
        })
        .collect()
}
