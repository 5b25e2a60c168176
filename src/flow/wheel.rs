//! Timers of flows: a wheel of slots, so that no timer ever scans flows.
use crate::time::Time;

/// Deadlines, one a handle at most matters: a handle may be scheduled again and again, the owner checks on expiry whether
/// its deadline has really come.
#[derive(Debug)]
pub struct Wheel<T> {
    _t: std::marker::PhantomData<T>,
}

impl<T: Copy> Wheel<T> {
    /// An empty wheel that begins at `now`.
    pub fn new(_now: Time) -> Self {
        todo!()
    }
    /// Fires `item` at `at`, or up to one slot (4 ms) later. Far deadlines are kept and cascade.
    pub fn schedule(&mut self, _at: Time, _item: T) {
        todo!()
    }
    /// Moves everything that is due into `due`.
    pub fn advance(&mut self, _now: Time, _due: &mut Vec<T>) {
        todo!()
    }
    /// When to call [`advance`](Self::advance) next; `None` if nothing is scheduled.
    pub fn next(&self) -> Option<Time> {
        todo!()
    }
}
