//! Sets of keys that are forgotten after a while.
use super::Batch;
use netlink_bindings::nftables::{PushSetelemListAttrs, Request, SetFlags};
use netlink_bindings::traits::Pusher;
use std::ffi::CStr;
use std::time::Duration;

/// Keys of one message: its list of elements has a 16-bit length.
const KEYS_AT_ONCE: usize = 800;

/// `nft list` shows keys as numbers (libnftables' data type).
const INTEGER: u32 = 4;

/// A set of keys of equal length.
#[derive(Clone, Debug)]
pub struct Set {
    /// Its name.
    pub name: &'static CStr,
    /// Bytes of a key; every part of it begins at a multiple of four.
    pub key_len: u32,
    /// How long a key stays.
    pub term: Duration,
    /// The most keys.
    pub size: u32,
}

/// What is to become of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// They are in the set.
    Add,
    /// They are not; it is an error if one was not.
    Delete,
    /// They are not. Since Linux 6.3.
    Destroy,
}

impl Batch {
    /// Makes a set.
    pub fn set(&mut self, set: &Set) {
        let mut request = Request::new()
            .set_create()
            .op_newset_do(&self.sees.header());
        request
            .encode()
            .push_table(&self.table)
            .push_name(set.name)
            .push_flags(SetFlags::Timeout as u32)
            .push_key_type(INTEGER)
            .push_key_len(set.key_len)
            .push_id(1)
            .nested_desc()
            .push_size(set.size)
            .end_nested()
            // The attribute is big-endian; the encoder takes it for the machine's own order.
            .push_timeout(milliseconds(set.term).to_be());
        self.push(&request, format!("make the set {:?}", set.name));
    }

    /// Removes all keys of a set.
    pub fn clear(&mut self, set: &Set) {
        let mut request = Request::new().op_delsetelem_do(&self.sees.header());
        request.encode().push_table(&self.table).push_set(set.name);
        self.push(&request, format!("clear the set {:?}", set.name));
    }

    /// Changes which keys are in a set.
    pub fn keys<'a>(
        &mut self,
        change: Change,
        set: &Set,
        keys: impl IntoIterator<Item = &'a [u8]>,
    ) {
        let mut keys = keys.into_iter().peekable();
        while keys.peek().is_some() {
            let some = keys.by_ref().take(KEYS_AT_ONCE);
            let what = format!("change the set {:?}", set.name);
            match change {
                Change::Add => {
                    let mut request = Request::new()
                        .set_create()
                        .op_newsetelem_do(&self.sees.header());
                    list(request.encode(), &self.table, set, some);
                    self.push(&request, what);
                }
                Change::Delete => {
                    let mut request = Request::new().op_delsetelem_do(&self.sees.header());
                    list(request.encode(), &self.table, set, some);
                    self.push(&request, what);
                }
                Change::Destroy => {
                    let mut request = Request::new().op_destroysetelem_do(&self.sees.header());
                    list(request.encode(), &self.table, set, some);
                    self.push(&request, what);
                }
            }
        }
    }
}

fn list<'a, P: Pusher>(
    attributes: PushSetelemListAttrs<P>,
    table: &CStr,
    set: &Set,
    keys: impl Iterator<Item = &'a [u8]>,
) {
    let mut elements = attributes
        .push_table(table)
        .push_set(set.name)
        .nested_elements();
    for key in keys {
        elements = elements
            .nested_elem()
            .nested_key()
            .push_value(key)
            .end_nested()
            .end_nested();
    }
}

/// A time as nf_tables has it.
fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
