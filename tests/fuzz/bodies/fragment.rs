//! The bytes are a series of fragments, four bytes each: which datagram, where, how long, how much later. The reassembler
//! must do what a plain model does and keep its bounds.
use cordon::packet::fragment::{Limits, Reassembler, Refused};
use cordon::packet::{Checksum, Parsed};
use cordon::time::Time;
use std::collections::HashMap;
use std::time::Duration;

const LIMITS: Limits = Limits {
    datagrams: 6,
    per_source: 3,
    bytes: 6000,
    timeout: Duration::from_secs(5),
};

/// What the reassembler counts for a fragment beside its data.
const PIECE: usize = 64;

/// Version, host and identification of a datagram.
type Name = (bool, u8, u8);

#[derive(Default)]
struct Model {
    since: Time,
    dropped: bool,
    /// Which units of 8 bytes are there.
    units: Vec<bool>,
    bytes: usize,
    held: usize,
    end: Option<usize>,
}

pub(crate) fn run(data: &[u8]) {
    let mut reassembler = Reassembler::new(LIMITS);
    let mut models: HashMap<Name, Model> = HashMap::new();
    let mut now = Time::from_secs(1_800_000_000);
    let mut timed_out = 0;
    for step in data.chunks_exact(4) {
        let [which, offset, size, later] = *step else {
            return;
        };
        now += Duration::from_millis(u64::from(later) * 20);
        let name = (which & 1 != 0, which >> 1 & 3, which >> 3 & 3);
        let more = which & 0x80 != 0;
        let start = usize::from(offset) * 8;
        // Only the last fragment may be of odd length.
        let len = if more {
            usize::from(size) * 8
        } else {
            usize::from(size)
        };
        let packet = fragment(name, start, more, len);
        let Ok(parsed) = Parsed::read(&packet, Checksum::Verify) else {
            continue;
        };
        if !name.0 && start == 0 && !more {
            let taken = reassembler.take(&parsed, &packet, now);
            assert_eq!(taken, Err(Refused::NotFragment));
            continue;
        }
        models.retain(|_, model| {
            let young = now < model.since + LIMITS.timeout;
            timed_out += usize::from(!young && !model.dropped);
            young
        });
        let taken = reassembler.take(&parsed, &packet, now);
        let header = packet.len() - len;
        let piece = Piece {
            start,
            len,
            more,
            header,
        };
        expect(&mut models, name, &piece, now, taken);
        let held: usize = models.values().map(|model| model.held).sum();
        assert_eq!(reassembler.datagrams(), models.len());
        assert_eq!(reassembler.bytes(), held);
        assert!(models.len() <= LIMITS.datagrams && held <= LIMITS.bytes);
    }
    let rest = models.values().filter(|model| !model.dropped).count();
    assert_eq!(reassembler.expire(now + LIMITS.timeout), timed_out + rest);
    assert_eq!((reassembler.datagrams(), reassembler.bytes()), (0, 0));
    assert_eq!(reassembler.next(), None);
}

struct Piece {
    start: usize,
    len: usize,
    more: bool,
    /// Bytes before the data.
    header: usize,
}

/// Compares what the reassembler did with what the model says.
fn expect(
    models: &mut HashMap<Name, Model>,
    name: Name,
    piece: &Piece,
    now: Time,
    taken: Result<Option<Vec<u8>>, Refused>,
) {
    if piece.start == 0 && !piece.more {
        let whole = taken.expect("an atomic fragment").expect("whole at once");
        check_whole(&whole, name, piece.len);
        return;
    }
    if !models.contains_key(&name) {
        let of_source = |other: &&Name| (other.0, other.1) == (name.0, name.1);
        if models.len() >= LIMITS.datagrams {
            assert_eq!(taken, Err(Refused::Datagrams));
            return;
        }
        if models.keys().filter(of_source).count() >= LIMITS.per_source {
            assert_eq!(taken, Err(Refused::DatagramsPerSource));
            return;
        }
    }
    let room = LIMITS.bytes - models.values().map(|model| model.held).sum::<usize>();
    let model = models.entry(name).or_insert_with(|| Model {
        since: now,
        ..Model::default()
    });
    match model.add(piece, room) {
        Err(refused) => {
            assert_eq!(taken, Err(refused));
            *model = Model {
                since: model.since,
                dropped: true,
                ..Model::default()
            };
        }
        Ok(()) if model.end == Some(model.bytes) => {
            let whole = taken.expect("taken").expect("whole");
            check_whole(&whole, name, model.bytes);
            models.remove(&name);
        }
        Ok(()) => assert_eq!(taken, Ok(None)),
    }
}

impl Model {
    fn add(&mut self, piece: &Piece, room: usize) -> Result<(), Refused> {
        if self.dropped {
            return Err(Refused::Dropped);
        }
        let stop = piece.start + piece.len;
        let units = piece.start / 8..stop.div_ceil(8);
        if self.units.len() < units.end {
            self.units.resize(units.end, false);
        }
        if self.units[units.clone()].contains(&true) {
            return Err(Refused::Overlap);
        }
        let beyond = self.units[units.end..].contains(&true);
        if self.end.is_some_and(|end| stop > end || !piece.more) || (!piece.more && beyond) {
            return Err(Refused::Inconsistent);
        }
        let header = if piece.start == 0 {
            // Of IPv6 the fragment header is not kept.
            piece.header - if piece.header == 48 { 8 } else { 0 }
        } else {
            0
        };
        let cost = PIECE + header + piece.len;
        if cost > room {
            return Err(Refused::Bytes);
        }
        if !piece.more {
            self.end = Some(stop);
        }
        self.units[units].fill(true);
        self.bytes += piece.len;
        self.held += cost;
        Ok(())
    }
}

/// What lies at this offset of this datagram.
fn content(name: Name, offset: usize) -> u8 {
    (offset * 7 + offset / 251) as u8 ^ name.1 << 6 ^ name.2 << 4
}

fn fragment((v6, host, id): Name, start: usize, more: bool, len: usize) -> Vec<u8> {
    let data = (start..start + len).map(|offset| content((v6, host, id), offset));
    let mut packet = Vec::new();
    if v6 {
        packet.extend([0x60, 0, 0, 0]);
        packet.extend((8 + len as u16).to_be_bytes());
        packet.extend([44, 64]);
        packet.extend([[0xfd; 15].as_slice(), &[host], &[0x20; 16]].concat());
        packet.extend([99, 0]);
        packet.extend((start as u16 | u16::from(more)).to_be_bytes());
        packet.extend([0, 0, 0, id]);
    } else {
        packet.extend([0x45, 0]);
        packet.extend((20 + len as u16).to_be_bytes());
        packet.extend([0, id]);
        packet.extend(((start / 8) as u16 | u16::from(more) << 13).to_be_bytes());
        packet.extend([64, 99, 0, 0, 10, 0, 0, host, 192, 0, 2, 9]);
        let sum = cordon::packet::checksum::Sum::of(&packet).finish();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet.extend(data);
    packet
}

fn check_whole(packet: &[u8], name: Name, len: usize) {
    let parsed = Parsed::read(packet, Checksum::Verify).expect("a good packet");
    assert_eq!(parsed.protocol, 99);
    assert_eq!(parsed.ip_len, if name.0 { 40 } else { 20 });
    let payload = parsed.payload(packet);
    assert_eq!(payload.len(), len);
    assert!(
        payload
            .iter()
            .enumerate()
            .all(|(i, b)| *b == content(name, i))
    );
}
