//! BitTorrent: the distributed hash table (BEP 5), trackers over UDP (BEP 15), the peers' handshake (BEP 3).

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::stream::{Opening, Step};
use super::{Notes, Reading};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const NODE: Leak = Leak::new(
    "bittorrent.node",
    Class::SessionId,
    "node or peer identifier",
);
const TORRENT: Leak = Leak::new("bittorrent.torrent", Class::ContentId, "info hash");

pub(super) const LEAKS: &[Leak] = &[NODE, TORRENT];

pub(super) const SHAPE: Shape = Shape::first(Set::of(b"d\0"));

const HANDSHAKE: &[u8] = b"\x13BitTorrent protocol";
const HASH: usize = 20;

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    table(payload, notes).or_else(|| tracker(payload, notes))
}

/// A bencoded dictionary that begins with the arguments or the answer.
fn table(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let known = [
        &b"d1:ad2:id20:"[..],
        b"d1:rd2:id20:",
        b"d2:ip6:",
        b"d1:eli2",
    ];
    if !payload.ends_with(b"e") || !known.iter().any(|mark| payload.starts_with(mark)) {
        return None;
    }
    for (key, leak) in [(&b"2:id20:"[..], &NODE), (b"9:info_hash20:", &TORRENT)] {
        if let Some(at) = memchr::memmem::find(payload, key) {
            let start = at + key.len();
            notes.certain(leak, start..(start + HASH).min(payload.len()));
        }
    }
    Some(Reading::clear("bittorrent"))
}

/// A connect request with its magic number. What follows has none.
fn tracker(payload: &[u8], _: &mut Notes<'_>) -> Option<Reading> {
    const CONNECT: &[u8] = &[0, 0, 4, 0x17, 0x27, 0x10, 0x19, 0x80, 0, 0, 0, 0];
    (payload.len() == 16 && payload.starts_with(CONNECT)).then_some(Reading::clear("bittorrent"))
}

pub(super) fn open(stream: &[u8]) -> Opening {
    Opening::mark(stream, HANDSHAKE)
}

pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    if *phase == 1 {
        return Step::Lost;
    }
    let read = (|| {
        bytes.tag(HANDSHAKE)?;
        bytes.skip(8)?;
        Some((bytes.span(HASH)?, bytes.span(HASH)?))
    })();
    let Some((torrent, peer)) = read else {
        return Step::Wait;
    };
    notes.certain(&TORRENT, torrent);
    notes.certain(&NODE, peer.clone());
    *phase = 1;
    Step::Took(peer.end)
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::{found, told};
    use super::*;

    #[test]
    fn the_hash_table_tells_node_and_torrent() {
        let query = b"d1:ad2:id20:abcdefghij01234567899:info_hash20:mnopqrstuvwxyz123456e1:q9:get_peers1:t2:aa1:y1:qe";
        let leaks: Vec<_> = found(read, query).unwrap().iter().map(|f| f.leak).collect();
        assert_eq!(leaks, ["bittorrent.node", "bittorrent.torrent"]);
        assert_eq!(found(read, &query[..50]), None);
    }

    #[test]
    fn the_handshake_tells_the_torrent() {
        let stream = [HANDSHAKE, &[0; 8], &[b't'; 20], &[b'p'; 20]].concat();
        assert_eq!(told(&stream).0[0].1, "t".repeat(20));
    }
}
