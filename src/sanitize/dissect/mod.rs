//! Protocols read to their last byte, tried by content and never by port.
//!
//! Every file has the same plan: what the protocol is and where it is specified, the leaks it can tell, a view of the
//! bytes, what they mean, tests. A dissector consumes a datagram exactly or fails, and a failed one leaves no finding.

mod bytes;
mod notes;
mod oicq;
mod sd_rtn;

pub(super) use notes::Notes;

use super::finding::Leak;

/// What a payload proved to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Name of the protocol: `oicq`.
    pub protocol: &'static str,
    /// Nothing but what was told can be read from this payload or any later one of the flow: it is encrypted.
    pub sealed: bool,
}

/// One protocol over datagrams.
struct Dissector {
    leaks: &'static [Leak],
    read: fn(&[u8], &mut Notes<'_>) -> Option<Reading>,
}

static DATAGRAM: [Dissector; 2] = [
    Dissector {
        leaks: &sd_rtn::LEAKS,
        read: sd_rtn::read,
    },
    Dissector {
        leaks: &oicq::LEAKS,
        read: oicq::read,
    },
];

/// Reads one datagram; `None` if no dissector knows it.
pub(super) fn datagram(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    DATAGRAM.iter().find_map(|dissector| {
        let reading = (dissector.read)(payload, notes);
        if reading.is_none() {
            notes.discard();
        }
        reading
    })
}

/// Every leak some dissector can tell.
pub(super) fn leaks() -> impl Iterator<Item = &'static Leak> {
    DATAGRAM.iter().flat_map(|dissector| dissector.leaks)
}

impl Reading {
    /// A protocol that can be read.
    const fn clear(protocol: &'static str) -> Self {
        Self {
            protocol,
            sealed: false,
        }
    }
}
