//! Where a dissector writes down what it found.

use super::hpack;
use crate::sanitize::class::Certainty;
use crate::sanitize::finding::{Finding, Leak};
use std::ops::Range;

/// Most fields of unknown meaning that one datagram can point out; further ones are not compared across servers.
const MOST_OPAQUE: usize = 8;

/// The findings of one payload, appended to the caller's.
pub(in crate::sanitize) struct Notes<'a> {
    payload: &'a [u8],
    found: &'a mut Vec<Finding>,
    kept: usize,
    opaque: [(usize, usize); MOST_OPAQUE],
    opaque_count: usize,
    table: Option<&'a mut Option<Box<hpack::Table>>>,
}

impl<'a> Notes<'a> {
    /// An empty page for this payload.
    pub(in crate::sanitize) fn new(payload: &'a [u8], found: &'a mut Vec<Finding>) -> Self {
        let kept = found.len();
        Self {
            payload,
            found,
            kept,
            opaque: [(0, 0); MOST_OPAQUE],
            opaque_count: 0,
            table: None,
        }
    }

    /// With what earlier messages of the stream left for later ones.
    pub(super) fn after(mut self, table: &'a mut Option<Box<hpack::Table>>) -> Self {
        self.table = Some(table);
        self
    }

    /// The table of the stream; an empty one at first.
    pub(super) fn take_table(&mut self) -> hpack::Table {
        let kept = self.table.as_mut().and_then(|table| table.take());
        kept.map(|table| *table).unwrap_or_default()
    }

    /// Keeps the table of the stream for later messages.
    pub(super) fn keep_table(&mut self, table: hpack::Table) {
        if let Some(kept) = &mut self.table {
            **kept = Some(Box::new(table));
        }
    }

    /// What is being read.
    pub(super) fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// A field that the protocol defines.
    pub(super) fn certain(&mut self, leak: &'static Leak, span: Range<usize>) {
        self.note(leak, Certainty::Certain, span);
    }

    /// A field whose meaning is inferred.
    pub(super) fn probable(&mut self, leak: &'static Leak, span: Range<usize>) {
        self.note(leak, Certainty::Probable, span);
    }

    /// A field that only looks like one.
    pub(super) fn suspected(&mut self, leak: &'static Leak, span: Range<usize>) {
        self.note(leak, Certainty::Suspected, span);
    }

    /// Reads a part of the payload with another dissector; its notes are placed in this payload.
    pub(super) fn within<T>(
        &mut self,
        part: Range<usize>,
        read: impl FnOnce(&'a [u8], &mut Notes<'_>) -> Option<T>,
    ) -> Option<T> {
        let first = self.found.len();
        let bytes = self.payload.get(part.clone()).unwrap_or_default();
        let result = read(bytes, &mut Notes::new(bytes, self.found));
        if result.is_none() {
            self.found.truncate(first);
        }
        for finding in self.found.iter_mut().skip(first) {
            finding.span = finding.span.start + part.start..finding.span.end + part.start;
        }
        result
    }

    /// Takes over what was found in decoded bytes that begin at `start` of this payload and are as long as it, or whose spans
    /// are those of what was decoded.
    pub(super) fn adopt(&mut self, found: Vec<Finding>, start: usize) {
        self.found.extend(found.into_iter().map(|mut finding| {
            finding.span = finding.span.start + start..finding.span.end + start;
            finding.decoded = true;
            finding
        }));
    }

    /// Points out a field of unknown meaning, to be compared across servers.
    pub(super) fn opaque(&mut self, span: Range<usize>) {
        if let Some(place) = self.opaque.get_mut(self.opaque_count) {
            *place = (span.start, span.end);
            self.opaque_count += 1;
        }
    }

    /// A field whose value reads `value` once decoded; the sample shows that, masked like any value.
    pub(super) fn decoded(
        &mut self,
        leak: &'static Leak,
        certainty: Certainty,
        span: Range<usize>,
        value: &[u8],
    ) {
        self.found.push(leak.at(certainty, span, value));
    }

    /// A field of some certainty; nothing is noted of an empty one.
    pub(super) fn note(&mut self, leak: &'static Leak, certainty: Certainty, span: Range<usize>) {
        if span.is_empty() {
            return;
        }
        let value = self.payload.get(span.clone()).unwrap_or_default();
        self.found.push(leak.at(certainty, span, value));
    }

    /// Forgets everything noted: the payload is not what it looked like.
    pub(super) fn discard(&mut self) {
        self.found.truncate(self.kept);
        self.opaque_count = 0;
    }

    /// The fields of unknown meaning that were pointed out, as (start, end).
    pub(in crate::sanitize) fn into_opaque(
        self,
    ) -> impl Iterator<Item = Range<usize>> + Clone + use<> {
        self.opaque
            .into_iter()
            .take(self.opaque_count)
            .map(|(start, end)| start..end)
    }
}

#[cfg(test)]
pub(super) mod testing {
    #![allow(clippy::unwrap_used, reason = "test helpers")]

    use super::*;
    use crate::sanitize::dissect::Reading;
    use crate::sanitize::dissect::stream::Reader;

    /// What a datagram dissector tells; `None` if it does not know the payload.
    pub(in crate::sanitize::dissect) fn found(
        read: fn(&[u8], &mut Notes<'_>) -> Option<Reading>,
        payload: &[u8],
    ) -> Option<Vec<Finding>> {
        let mut found = Vec::new();
        read(payload, &mut Notes::new(payload, &mut found)).map(|_| found)
    }

    /// What a stream tells, as (leak, bytes), and its protocol at the end.
    pub(in crate::sanitize::dissect) fn told(
        stream: &[u8],
    ) -> (Vec<(&'static str, String)>, Option<Reading>) {
        let mut reader = Reader::default();
        let mut found = Vec::new();
        reader.read(stream, &mut found);
        let told = found
            .iter()
            .map(|f| {
                (
                    f.leak,
                    String::from_utf8_lossy(stream.get(f.span.clone()).unwrap()).into_owned(),
                )
            })
            .collect();
        (told, reader.reading())
    }
}
