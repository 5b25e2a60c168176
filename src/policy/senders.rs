//! Who sends, as policies name senders.

use super::compiled::Policy;
use super::condition::Member;
use super::draft::Draft;
use super::facts::Source;
use super::networks;
use super::values::{Words, quoted};
use crate::document::{Node, Reader, Shown, accept, suggestion};
use crate::jurisdiction::network;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

/// Who sends, as a policy names senders.
#[derive(Clone, Debug)]
pub struct Sender(Option<Member>);

impl Sender {
    /// As a fact.
    pub fn source(&self) -> Source<'_> {
        source_of(self.0.as_ref())
    }
}

impl Policy {
    /// Who sends, by the name of a source (then its first member stands for it), by `mac:…`, `wg:PEER`, an address or a
    /// network, or by `*` for a sender of whom nothing is known.
    pub fn sender(&self, text: &str) -> Result<Sender, String> {
        let declared = &self.declared.sources;
        if let Some((_, members, _)) = declared.iter().find(|(name, ..)| **name == *text) {
            return Ok(Sender(members.first().cloned()));
        }
        if text == "*" {
            return Ok(Sender(None));
        }
        parse_sender(text).map(|member| Sender(Some(member)))
    }
}

/// A sender as a member of a source describes it: of a network its first address.
pub(super) fn source_of(member: Option<&Member>) -> Source<'_> {
    let mut source = Source {
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        mac: None,
        peer: None,
    };
    match member {
        Some(Member::Mac(mac)) => source.mac = Some(*mac),
        Some(Member::Peer(name)) => source.peer = Some(name),
        Some(Member::Net(net)) => source.address = net.addr(),
        None => {}
    }
    source
}

/// Names of `[sources]`, or members written out.
pub(super) fn senders(
    members: &[Node<'_>],
    words: &mut Words,
    draft: &mut Draft<'_>,
    reader: &mut Reader<'_>,
) -> Arc<[Member]> {
    let read = words.each(members, reader, |node, reader| {
        let text = node.string(reader)?;
        if let Some(source) = draft.sources.get(text) {
            return Some((source.to_vec(), quoted(text)));
        }
        let looks_written_out = text.contains([':', '/', '.']);
        if !looks_written_out {
            let near = suggestion(text, draft.sources.keys().map(String::as_str));
            reader.problem(
                node.start,
                format!("no source is called `{}`{near}", Shown(text)),
            );
            return None;
        }
        let (member, word) = sender(node, reader)?;
        Some((vec![member], word))
    });
    read.concat().into()
}

/// One member of a source: `mac:…`, `wg:…`, an address or a network.
pub(super) fn sender(node: Node<'_>, reader: &mut Reader<'_>) -> Option<(Member, String)> {
    let text = node.string(reader)?;
    let member = accept(parse_sender(text), node, reader)?;
    let word = quoted(&sender_text(&member));
    Some((member, word))
}

/// A member of a source as it is written, without quotes.
pub(super) fn sender_text(member: &Member) -> String {
    match member {
        Member::Mac([a, b, c, d, e, f]) => {
            format!("mac:{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
        }
        Member::Peer(name) => format!("wg:{name}"),
        Member::Net(net) => networks::written(net),
    }
}

/// Reads `mac:…`, `wg:…`, an address or a network.
pub(super) fn parse_sender(text: &str) -> Result<Member, String> {
    if let Some(mac) = text.strip_prefix("mac:") {
        return parse_mac(mac).map(Member::Mac).ok_or_else(|| {
            format!(
                "`{}` is not a hardware address like 3c:22:fb:00:00:01",
                Shown(mac)
            )
        });
    }
    if let Some(peer) = text.strip_prefix("wg:") {
        let printable = !peer.is_empty()
            && !peer
                .chars()
                .any(|letter| letter.is_control() || letter == ' ');
        return printable
            .then(|| Member::Peer(peer.into()))
            .ok_or_else(|| "`wg:` needs the name of a peer, without spaces".into());
    }
    network(text).map(Member::Net).map_err(|error| {
        // Whoever writes a prefix means a network.
        if text.contains('/') {
            return error;
        }
        format!(
            "`{}` is not a sender; write mac:…, wg:PEER, an address or a network",
            Shown(text)
        )
    })
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut parts = text.split([':', '-']);
    let mut mac = [0; 6];
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}
