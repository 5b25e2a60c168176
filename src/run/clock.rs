//! The clock that the core is told.

use crate::time::Time;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Follows the monotonic clock from the Unix time at which it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Instant,
    at: Time,
}

impl Clock {
    /// A clock that begins now.
    pub fn new() -> Self {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self {
            began: Instant::now(),
            at: Time::default() + unix,
        }
    }

    /// Now.
    pub fn now(&self) -> Time {
        self.at + self.began.elapsed()
    }

    /// The wall clock, in seconds since the Unix epoch: may be set meanwhile, unlike [`now`](Self::now).
    pub fn wall() -> Option<u64> {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .map(|since| since.as_secs())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
