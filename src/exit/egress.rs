//! By which address others see an exit. Who tells is asked through that exit alone, and nothing else leaves by it before
//! the policy has judged the answer.

use super::channel::Secured;
use super::handshake::Target;
use super::talk::Talk;
use super::ways::Means;
use crate::gateway::{End, Snapshot};
use crate::policy::{Egress, Server};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// It is asked again after this long, …
const AGAIN: Duration = Duration::from_secs(300);
/// … after this if the answer was one that the policy forbids, …
const FORBIDDEN: Duration = Duration::from_secs(30);
/// … and after this if there was none.
const UNKNOWN: Duration = Duration::from_secs(5);
/// How long an answer may take, …
const LIMIT: Duration = Duration::from_secs(2);
/// … and how many bytes it may have.
const LONGEST: usize = 16 << 10;
/// What was known stays known although this many answers in a row fail to come.
const PATIENCE: u32 = 1;

/// Who is asked, and how.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) egress: Egress,
    pub(super) secured: Option<Secured>,
}

/// What is known of the egress of one exit.
#[derive(Debug)]
pub(super) struct Assurance {
    /// Nobody, where the policy does not want to know.
    asked: Option<Arc<Asked>>,
    seen: Option<IpAddr>,
    /// What is wrong.
    fault: Option<String>,
    due: Option<Instant>,
    failures: u32,
}

impl Assurance {
    /// `seen` is what was known before, and allowed.
    pub(super) fn new(asked: Option<Arc<Asked>>, seen: Option<IpAddr>) -> Self {
        Self {
            asked,
            seen,
            fault: None,
            due: None,
            failures: 0,
        }
    }

    /// The address, if it is known and allowed.
    pub(super) fn seen(&self) -> Option<IpAddr> {
        self.seen
    }

    /// Flows may leave by the exit as far as this goes.
    pub(super) fn holds(&self) -> bool {
        self.asked.is_none() || self.seen.is_some()
    }

    /// The exit was away, or is another one: who knows where it leaves now.
    pub(super) fn forget(&mut self) {
        (self.seen, self.fault, self.due, self.failures) = (None, None, None, 0);
    }

    /// The exit may have been away: it is asked anew as soon as it answers.
    pub(super) fn doubt(&mut self) {
        self.due = None;
    }

    /// What there is to say of it.
    pub(super) fn says(&self, snapshot: &Snapshot) -> Option<String> {
        match (self.seen, &self.fault) {
            (Some(address), _) => Some(format!("others see it at {}", located(snapshot, address))),
            (None, Some(fault)) => Some(fault.clone()),
            (None, None) => None,
        }
    }

    /// Asks if it is time to.
    pub(super) async fn renew(&mut self, means: &Means, snapshot: &Snapshot) {
        let Some(asked) = self.asked.clone() else {
            return;
        };
        if self.due.is_some_and(|due| Instant::now() < due) {
            return;
        }
        let answer = timeout(LIMIT, asked.ask(means)).await;
        let pause = match answer.unwrap_or(Err("nobody answers in time".into())) {
            Ok(address) => self.judge(address, snapshot),
            Err(why) => {
                self.failures += 1;
                if self.failures > PATIENCE {
                    self.seen = None;
                }
                self.fault = Some(format!("its egress is not known: {why}"));
                UNKNOWN
            }
        };
        self.due = Some(Instant::now() + pause);
    }

    fn judge(&mut self, address: IpAddr, snapshot: &Snapshot) -> Duration {
        self.failures = 0;
        let shown = located(snapshot, address);
        self.fault = if snapshot.data.lookup(address).special.is_some() {
            Some(format!(
                "its egress is said to be {shown}, which is nowhere"
            ))
        } else {
            let rule = snapshot
                .policy
                .forbids_exit_at(address, None, &snapshot.data);
            let rule = rule.map(|origin| snapshot.policy.rule_id(origin));
            rule.map(|rule| format!("others see it at {shown}, which rule {rule} blocks"))
        };
        self.seen = self.fault.is_none().then_some(address);
        match self.seen {
            Some(_) => AGAIN,
            None => FORBIDDEN,
        }
    }
}

fn located(snapshot: &Snapshot, address: IpAddr) -> String {
    match snapshot.data.lookup(address).country {
        Some(country) => format!("{address} ({country})"),
        None => address.to_string(),
    }
}

impl Asked {
    /// What is told by which address it was asked.
    async fn ask(&self, means: &Means) -> Result<IpAddr, String> {
        let refused = |failure| {
            let why = End::Failed(failure).name();
            format!("who tells cannot be asked ({why})")
        };
        let stream = means.open(&self.egress.server).map_err(refused)?;
        let talk = Talk::begin(stream, self.secured.as_ref()).await;
        let heard = self.talk(&mut talk.map_err(refused)?).await;
        let heard = heard.map_err(|error| error.to_string())?;
        address(&heard).ok_or_else(|| format!("{} tells no address", self.egress.server))
    }

    async fn talk(&self, talk: &mut Talk) -> io::Result<Vec<u8>> {
        // No later version, so that the answer comes in one piece and ends with the connection (RFC 9112, section 6.3).
        let request = format!(
            "GET {} HTTP/1.0\r\nHost: {}\r\nUser-Agent: curl/8\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.egress.path,
            host(&self.egress)
        );
        talk.say(request.as_bytes()).await?;
        let (mut heard, mut room) = (Vec::new(), [0; 2048]);
        while heard.len() < LONGEST && !is_whole(&heard) {
            match talk.hear(&mut room).await? {
                0 => break,
                read => heard.extend_from_slice(room.get(..read).unwrap_or_default()),
            }
        }
        Ok(heard)
    }
}

/// As a `Host` says it (RFC 9110, section 7.2): without the port that is understood.
fn host(egress: &Egress) -> String {
    let target = match &egress.server {
        Server::Address(address) => Target::Address(*address),
        Server::Name(name, port) => Target::Name(name.clone(), *port),
    };
    let understood = if egress.tls { ":443" } else { ":80" };
    let shown = target.to_string();
    let bare = shown.strip_suffix(understood).map(str::to_owned);
    bare.unwrap_or(shown)
}

/// The body of an answer, if all of it is there as far as its length is told, and whether it is told: the beginning of an
/// address is another address.
fn body(heard: &[u8]) -> Option<(&[u8], bool)> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(at) = response.parse(heard).ok()? else {
        return None;
    };
    let body = heard.get(at..)?;
    let says = |name: &str| {
        let mut headers = response.headers.iter();
        headers.find(|header| header.name.eq_ignore_ascii_case(name))
    };
    if response.code != Some(200) || says("transfer-encoding").is_some() {
        return None;
    }
    let Some(length) = says("content-length") else {
        return Some((body, false));
    };
    let length: usize = std::str::from_utf8(length.value)
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some((body.get(..length)?, true))
}

/// Nothing more is to be waited for. Without a length the end of the connection tells the end.
fn is_whole(heard: &[u8]) -> bool {
    body(heard).is_some_and(|(_, told)| told)
}

/// The address that an answer tells: all of its text, the `ip` (or `query`, `origin`) of a JSON object, or what stands
/// behind `ip=` on a line of its own.
fn address(heard: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(body(heard)?.0).ok()?.trim();
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    if let Ok(serde_json::Value::Object(object)) = serde_json::from_str(text) {
        let mut told = ["ip", "query", "origin"]
            .iter()
            .filter_map(|key| object.get(*key));
        return told.next()?.as_str()?.trim().parse().ok();
    }
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("ip="));
    lines.next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn told(body: &str) -> Option<String> {
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert!(is_whole(answer.as_bytes()));
        assert!(!is_whole(&answer.as_bytes()[..answer.len() - 1]));
        address(answer.as_bytes()).map(|address| address.to_string())
    }

    #[test]
    fn an_address_is_read_however_it_is_told() {
        for (body, wanted) in [
            ("5.9.0.1\n", Some("5.9.0.1")),
            ("2a01:4f8::1", Some("2a01:4f8::1")),
            (
                "{\"ip\": \"5.9.0.1\", \"country\": \"DE\"}",
                Some("5.9.0.1"),
            ),
            (
                "{\"status\":\"success\",\"query\":\"5.9.0.1\"}",
                Some("5.9.0.1"),
            ),
            (
                "fl=1\nh=198.51.100.9\nip=5.9.0.1\nts=1.2\n",
                Some("5.9.0.1"),
            ),
            ("{\"address\": \"5.9.0.1\"}", None),
            ("{\"ip\": 5}", None),
            ("your address is 5.9.0.1", None),
            ("x", None),
        ] {
            assert_eq!(told(body).as_deref(), wanted, "{body}");
        }
    }

    #[test]
    fn what_is_no_plain_answer_tells_nothing() {
        for answer in [
            "",
            "5.9.0.1",
            "HTTP/1.1 404 Not Found\r\n\r\n5.9.0.1",
            "HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n5.9.0.1",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5.9.0.1",
            "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n5.9.0.1",
            "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n5.9.0.1",
        ] {
            assert_eq!(address(answer.as_bytes()), None, "{answer}");
        }
        assert!(address(b"HTTP/1.0 200 OK\r\n\r\n5.9.0.1").is_some());
    }

    proptest! {
        #[test]
        fn no_answer_brings_it_down(heard in proptest::collection::vec(any::<u8>(), 0..200), ok: bool) {
            let mut answer = if ok { b"HTTP/1.0 200 OK\r\n\r\n".to_vec() } else { Vec::new() };
            answer.extend(heard);
            let _ = (address(&answer), is_whole(&answer));
        }
    }
}
