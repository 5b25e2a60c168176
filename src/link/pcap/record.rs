//! How captures are laid out: the records of pcap (draft-ietf-opsawg-pcap) and the blocks of pcapng
//! (draft-ietf-opsawg-pcapng). What is read is borrowed from the bytes.

use crate::time::Time;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;
/// Type and both lengths of a block.
const FRAME: usize = 12;
const RESOLUTION: u16 = 9;
const OFFSET: u16 = 14;
/// Interfaces of one section; those beyond are not known.
const MOST_INTERFACES: usize = 65_536;

/// A captured frame, before it is counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Captured<'a> {
    pub(super) at: Time,
    pub(super) link: u32,
    pub(super) bytes: &'a [u8],
    pub(super) wire: u32,
}

/// What stands in front of the bytes that were not read yet.
pub(super) enum Next<'a> {
    /// A frame, and the bytes it takes with its header.
    Frame(usize, Captured<'a>),
    /// Something else that takes this many bytes.
    Other(usize),
    /// Too little: at least this many bytes are needed.
    Short(usize),
    /// Nothing that a capture holds.
    Damaged,
}

/// One of the two formats, and what its headers said.
#[derive(Debug)]
pub(super) enum Format {
    Pcap {
        order: Order,
        /// Length of a record's header.
        header: usize,
        interface: Interface,
    },
    Pcapng {
        order: Order,
        interfaces: Vec<Interface>,
    },
}

/// Byte order of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

/// What a capture says of an interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Interface {
    link: u32,
    /// Most bytes captured of a frame; 0 without a bound.
    snap: usize,
    /// Units of time a second.
    resolution: u64,
    /// Nanoseconds in a unit; 0 if they are no whole number.
    unit: u64,
    /// Seconds to add.
    offset: i64,
}

impl Order {
    fn long(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    fn short(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    /// `N` numbers of four bytes, and what comes after them.
    fn longs<const N: usize>(self, bytes: &[u8]) -> Option<([u32; N], &[u8])> {
        let (numbers, _) = bytes.as_chunks::<4>();
        let numbers: &[[u8; 4]; N] = numbers.first_chunk()?;
        Some((numbers.map(|number| self.long(number)), bytes.get(4 * N..)?))
    }
}

impl Format {
    /// Tells the format by the first bytes of a file, and how many of them are its header.
    pub(super) fn of(head: &[u8]) -> Option<(Self, usize)> {
        const HEADER: usize = 24;
        const MICROSECONDS: u32 = 0xa1b2_c3d4;
        const NANOSECONDS: u32 = 0xa1b2_3c4d;
        /// Records with eight bytes more, of an old Linux tool.
        const PATCHED: u32 = 0xa1b2_cd34;
        for order in [Order::Little, Order::Big] {
            let ([magic], _) = order.longs(head)?;
            let (resolution, header) = match magic {
                MICROSECONDS => (1_000_000, 16),
                NANOSECONDS => (1_000_000_000, 16),
                PATCHED => (1_000_000, 24),
                SECTION => {
                    let interfaces = Vec::new();
                    return Some((Self::Pcapng { order, interfaces }, 0));
                }
                _ => continue,
            };
            let ([_, _, _, _, _, network], _) = order.longs(head)?;
            // The upper bits tell of a frame check sequence.
            let interface = Interface::new(network & 0xffff, 0, resolution, 0);
            let format = Self::Pcap {
                order,
                header,
                interface,
            };
            return Some((format, HEADER));
        }
        None
    }

    /// Reads what stands in front.
    pub(super) fn next<'a>(&mut self, unread: &'a [u8]) -> Next<'a> {
        match self {
            Self::Pcap {
                order,
                header,
                interface,
            } => record(unread, *order, *header, interface),
            Self::Pcapng { order, interfaces } => block(unread, order, interfaces),
        }
    }
}

/// A record of pcap.
fn record<'a>(unread: &'a [u8], order: Order, header: usize, interface: &Interface) -> Next<'a> {
    let Some(([seconds, fraction, captured, wire], _)) = order.longs(unread) else {
        return Next::Short(header);
    };
    let length = header.saturating_add(captured as usize);
    let Some(bytes) = unread.get(header..length) else {
        return Next::Short(length);
    };
    let stamp = u64::from(seconds) * interface.resolution + u64::from(fraction);
    Next::Frame(length, interface.captured(stamp, bytes, wire))
}

/// A block of pcapng.
fn block<'a>(unread: &'a [u8], order: &mut Order, interfaces: &mut Vec<Interface>) -> Next<'a> {
    let Some(([mark, ..], [_, _, _, _, magic @ ..])) = Order::Little
        .longs::<2>(unread)
        .map(|(words, _)| (words, unread.get(4..).unwrap_or_default()))
    else {
        return Next::Short(FRAME);
    };
    if mark == SECTION {
        // A section begins with a number that shows its byte order.
        *order = match magic {
            [0x4d, 0x3c, 0x2b, 0x1a, ..] => Order::Little,
            [0x1a, 0x2b, 0x3c, 0x4d, ..] => Order::Big,
            [_, _, _, _, ..] => return Next::Damaged,
            _ => return Next::Short(FRAME),
        };
    }
    let Some(([kind, length], _)) = order.longs(unread) else {
        return Next::Short(FRAME);
    };
    let length = length as usize;
    if length < FRAME || !length.is_multiple_of(4) {
        return Next::Damaged;
    }
    let Some((block, _)) = unread.split_at_checked(length) else {
        return Next::Short(length);
    };
    let (body, tail) = block.split_at(length - 4);
    let body = body.get(8..).unwrap_or_default();
    if order.longs(tail) != Some(([length as u32], &[])) {
        return Next::Damaged;
    }
    let frame = match kind {
        SECTION => {
            interfaces.clear();
            None
        }
        INTERFACE => {
            if interfaces.len() < MOST_INTERFACES {
                interfaces.extend(Interface::described(body, *order));
            }
            None
        }
        ENHANCED_PACKET | OBSOLETE_PACKET => packet(kind, body, *order, interfaces),
        SIMPLE_PACKET => simple(body, *order, interfaces),
        _ => None,
    };
    frame.map_or(Next::Other(length), |frame| Next::Frame(length, frame))
}

/// An enhanced packet block, or the packet block that came before it: interface, time, lengths, bytes.
fn packet<'a>(
    kind: u32,
    body: &'a [u8],
    order: Order,
    interfaces: &[Interface],
) -> Option<Captured<'a>> {
    let ([number, high, low, captured, wire], bytes) = order.longs(body)?;
    let number = if kind == OBSOLETE_PACKET {
        u32::from(order.short(*body.first_chunk()?))
    } else {
        number
    };
    let interface = interfaces.get(number as usize)?;
    let stamp = u64::from(high) << 32 | u64::from(low);
    let bytes = bytes.get(..captured as usize).unwrap_or(bytes);
    Some(interface.captured(stamp, bytes, wire))
}

/// A simple packet block: of the first interface, without a time, and padded.
fn simple<'a>(body: &'a [u8], order: Order, interfaces: &[Interface]) -> Option<Captured<'a>> {
    let ([wire], bytes) = order.longs(body)?;
    let interface = interfaces.first()?;
    let bytes = bytes.get(..wire as usize).unwrap_or(bytes);
    let bytes = match interface.snap {
        0 => bytes,
        snap => bytes.get(..snap).unwrap_or(bytes),
    };
    Some(interface.captured(0, bytes, wire))
}

impl Interface {
    fn new(link: u32, snap: usize, resolution: u64, offset: i64) -> Self {
        const SECOND: u64 = 1_000_000_000;
        let resolution = resolution.max(1);
        let whole = SECOND.is_multiple_of(resolution) && offset == 0;
        Self {
            link,
            snap,
            resolution,
            unit: if whole { SECOND / resolution } else { 0 },
            offset,
        }
    }

    /// An interface description block; microseconds unless it says otherwise.
    fn described(body: &[u8], order: Order) -> Option<Self> {
        let (head, mut options) = body.split_first_chunk::<8>()?;
        let [l0, l1, _, _, snap @ ..] = *head;
        let (mut resolution, mut offset) = (1_000_000, 0);
        while let Some(([c0, c1, s0, s1], rest)) = options.split_first_chunk::<4>() {
            let size = usize::from(order.short([*s0, *s1]));
            let value = rest.get(..size).unwrap_or_default();
            match (order.short([*c0, *c1]), value) {
                (0, _) => break,
                (RESOLUTION, [exponent]) => {
                    let base: u64 = if exponent & 0x80 == 0 { 10 } else { 2 };
                    let units = base.checked_pow(u32::from(exponent & 0x7f));
                    resolution = units.unwrap_or(resolution);
                }
                (OFFSET, value) => {
                    if let Some(bytes) = value.first_chunk() {
                        offset = match order {
                            Order::Little => i64::from_le_bytes(*bytes),
                            Order::Big => i64::from_be_bytes(*bytes),
                        };
                    }
                }
                _ => {}
            }
            options = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
        let link = u32::from(order.short([l0, l1]));
        let snap = order.long(snap) as usize;
        Some(Self::new(link, snap, resolution, offset))
    }

    fn captured<'a>(&self, stamp: u64, bytes: &'a [u8], wire: u32) -> Captured<'a> {
        Captured {
            at: self.time(stamp),
            link: self.link,
            bytes,
            wire,
        }
    }

    fn time(&self, stamp: u64) -> Time {
        if let Some(nanos) = stamp.checked_mul(self.unit).filter(|_| self.unit > 0) {
            return Time::from_nanos(nanos);
        }
        let nanos = u128::from(stamp) * 1_000_000_000 / u128::from(self.resolution);
        let nanos = i128::try_from(nanos).unwrap_or(i128::MAX);
        let shifted = nanos.saturating_add(i128::from(self.offset) * 1_000_000_000);
        Time::from_nanos(u64::try_from(shifted.max(0)).unwrap_or(u64::MAX))
    }
}
