//! What a payload gives away in the clear: bytes in, findings out. Which finding is acted on, the policy says.

use crate::time::Time;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

/// What kind of thing leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Password, token, community.
    Credential,
    /// Account number, name, phone, mail address.
    PersonId,
    /// MAC, serial, install id.
    DeviceId,
    /// Name of a device or its owner.
    HostName,
    /// A room.
    ChannelId,
    /// What is said or sent.
    Content,
    /// A name of content: file, infohash.
    ContentId,
    /// Random or short-lived.
    SessionId,
    /// Which app.
    AppId,
    /// Data of the service, the same for all users.
    ServiceMeta,
    /// Which software.
    Software,
    /// Where the person is.
    Location,
    /// Whom the flow goes to: server name, queried name.
    DestMeta,
}

/// How sure a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Certainty {
    /// A value that looks like one.
    Suspected,
    /// Seen, the meaning is inferred.
    Probable,
    /// The protocol defines the field, or the user declared the value.
    Certain,
}

/// One thing found in one payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing.
    pub class: Class,
    /// Which detector: `sd-rtn`, `oicq`, `secret`, `probe-fanout`, …
    pub detector: &'static str,
    /// Which field, in words (`account number`); for a declared secret the name the user gave it and its encoding.
    pub field: String,
    /// The name by which a policy's `leak` list calls it: `oicq.account`, `sd-rtn.identifier`, `secret`, `probe-fanout`.
    pub leak: &'static str,
    /// How sure.
    pub certainty: Certainty,
    /// Where it lies in the payload.
    pub span: Range<usize>,
    /// A masked sample that can be shown: `5…87`.
    pub sample: String,
}

/// What a detector may know of a datagram beside its payload.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Inside address.
    pub client: IpAddr,
    /// Inside port.
    pub sport: u16,
    /// Outside address and port.
    pub remote: SocketAddr,
    /// How many datagrams of this flow came before.
    pub index: u32,
    /// When.
    pub now: Time,
}
