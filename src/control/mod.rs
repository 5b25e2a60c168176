//! Asking the running daemon: a unix socket that only its own user and root may use. A client sends one request, a JSON
//! object in a line, and gets JSON Lines back until the daemon closes the connection.
//!
//! ```text
//! {"ask":"status"}                 one object: how everything stands
//! {"ask":"reload"}                 one object: what came of it
//! {"ask":"flows","limit":100}      an object a flow, those used last; then one with how many there are
//! ```
//!
//! What cannot be answered gets `{"type":"error","error":"…"}`. Requests are short and have to come soon, clients wait
//! for each other beyond a few; nothing that a client does is waited for by a thread that carries packets.
#![expect(
    clippy::disallowed_types,
    reason = "the shell holds the sockets and files"
)]
#![cfg_attr(
    test,
    expect(clippy::disallowed_methods, reason = "tests make files and threads")
)]

mod client;
mod flows;
mod server;
mod socket;
mod status;
mod told;

pub use client::{Unanswered, ask};
pub use flows::{FlowLine, FlowsEnd, table};
pub use server::{Reply, serve};
pub use socket::{Bound, default_path};
pub use status::{
    DataStatus, ExitStatus, FlowsStatus, LinkStatus, PolicyStatus, ReloadStatus, Status, TakesOver,
};

use serde::{Deserialize, Serialize};

/// The longest request, in bytes.
pub const LONGEST_REQUEST: usize = 1024;
/// Flows that one answer lists at most.
pub const MOST_FLOWS: usize = 10_000;

/// What the daemon can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// How everything stands.
    Status {},
    /// To load the policy anew.
    Reload {},
    /// Which flows there are.
    Flows {
        /// How many are listed at most, those used last; never more than [`MOST_FLOWS`].
        #[serde(default = "all")]
        limit: usize,
    },
}

fn all() -> usize {
    MOST_FLOWS
}

/// What came of a request to load the policy anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "reload")]
pub struct Reloaded {
    /// It is in force.
    pub ok: bool,
    /// What the policy calls itself that is in force now.
    pub policy: String,
    /// How many rules it has.
    pub rules: usize,
    /// Why the new one is not in force, with the places in its file.
    pub error: Option<String>,
}

/// A request that is not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "error")]
pub struct Refusal {
    /// Why.
    pub error: String,
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// Says that it is none.
    pub fn parse(line: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(line).map_err(|error| Refusal {
            error: format!("this is no request: {error}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_are_read_as_they_are_written() {
        for request in [
            Request::Status {},
            Request::Reload {},
            Request::Flows { limit: 7 },
        ] {
            let line = serde_json::to_vec(&request).unwrap();
            assert_eq!(Request::parse(&line), Ok(request));
        }
        let all = Request::parse(br#"{"ask":"flows"}"#);
        assert_eq!(all, Ok(Request::Flows { limit: MOST_FLOWS }));
    }

    #[test]
    fn what_is_no_request_is_refused_with_a_reason() {
        for line in [
            "",
            "status",
            "{}",
            r#"{"ask":"stop"}"#,
            r#"{"ask":"status","more":1}"#,
            r#"{"ask":"flows","limit":-1}"#,
            "[[[[[[[[",
        ] {
            let refusal = Request::parse(line.as_bytes()).unwrap_err();
            assert!(refusal.error.starts_with("this is no request"), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_request_brings_it_down(line in proptest::collection::vec(any::<u8>(), 0..LONGEST_REQUEST)) {
            let _ = Request::parse(&line);
        }
    }
}
