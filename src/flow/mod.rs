//! Which conversation a packet belongs to.

mod key;
mod table;
mod wheel;

pub use key::FlowKey;
pub use table::{Exhausted, FlowId, FlowTable, Limits};
pub use wheel::Wheel;
