//! What is told to people and programs: events as JSON Lines, the summary at the end.

pub mod audit;
pub mod html;
pub mod judged;
pub mod lines;
pub mod live;
pub mod text;
pub mod totals;

mod events;
mod summary;
mod tally;

pub use events::EventLog;
pub use summary::{Row, RowKey, Summary};
pub(crate) use summary::{bytes, plural};
pub use tally::Tally;

use crate::gateway::Event;
use std::sync::{Arc, Mutex, PoisonError};

/// Takes events as they come, off the packet path.
#[derive(Default)]
pub struct Reporter {
    /// Everything, one object a line.
    pub log: Option<EventLog>,
    /// Everything, added up; it grows with whom is talked to, so a gate that runs for long has none.
    pub summary: Option<Summary>,
    /// Everything, counted, for whoever asks meanwhile.
    pub tally: Arc<Mutex<Tally>>,
    /// Everything, told at once.
    pub live: Option<Live>,
    /// Everything, kept for a page.
    pub record: Option<live::Recorder>,
}

/// Is told of each event as it comes.
pub type Live = Box<dyn FnMut(&Event) + Send>;

impl Reporter {
    /// Takes one event and the number of those lost before it.
    ///
    /// # Errors
    /// If the log cannot be written; the others have taken it nevertheless.
    pub fn take(&mut self, event: &Event, lost: u64) -> std::io::Result<()> {
        if let Some(summary) = &mut self.summary {
            summary.take(event, lost);
        }
        let tally = self.tally.lock();
        tally
            .unwrap_or_else(PoisonError::into_inner)
            .take(event, lost);
        if let Some(live) = &mut self.live {
            live(event);
        }
        if let Some(record) = &mut self.record {
            record.take(event);
        }
        match &mut self.log {
            Some(log) => log.write(event, lost),
            None => Ok(()),
        }
    }
}

/// Text of others, safe to show on a terminal: control characters are replaced.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}
