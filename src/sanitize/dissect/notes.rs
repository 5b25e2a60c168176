//! Where a dissector writes down what it found.

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
        }
    }

    /// A field that the protocol defines.
    pub(super) fn certain(&mut self, leak: &'static Leak, span: Range<usize>) {
        self.note(leak, Certainty::Certain, span);
    }

    /// A field whose meaning is inferred.
    pub(super) fn probable(&mut self, leak: &'static Leak, span: Range<usize>) {
        self.note(leak, Certainty::Probable, span);
    }

    /// A field whose value reads better as `text` than as its bytes; the text is masked like any value.
    pub(super) fn shown(
        &mut self,
        leak: &'static Leak,
        certainty: Certainty,
        span: Range<usize>,
        text: &str,
    ) {
        self.found.push(leak.at(certainty, span, text.as_bytes()));
    }

    fn note(&mut self, leak: &'static Leak, certainty: Certainty, span: Range<usize>) {
        let value = self.payload.get(span.clone()).unwrap_or_default();
        self.found.push(leak.at(certainty, span, value));
    }

    /// Forgets everything noted: the payload is not what it looked like.
    pub(super) fn discard(&mut self) {
        self.found.truncate(self.kept);
        self.opaque_count = 0;
    }

    /// The fields of unknown meaning that were pointed out, as (start, end).
    pub(in crate::sanitize) fn into_opaque(self) -> impl Iterator<Item = Range<usize>> + use<> {
        self.opaque
            .into_iter()
            .take(self.opaque_count)
            .map(|(start, end)| start..end)
    }
}
