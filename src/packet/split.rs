//! Cutting packets that are longer than a link takes into fragments (RFC 791, section 3.2; RFC 8200, section 4.5).

use super::checksum::{self, Sum};
use super::parse::IPV6_LEN;

const IPV4_LEN: usize = 20;
const FRAGMENT_LEN: usize = 8;
const FRAGMENT: u8 = 44;

/// Hands out a packet whose header has neither options nor extensions: whole if it is at most `mtu` bytes long, else in
/// fragments. Nothing is handed out of what is no such packet, or where not even eight bytes fit behind the headers.
pub fn fragments(packet: &[u8], mtu: usize, mut out: impl FnMut(&[u8])) {
    if packet.len() <= mtu {
        if !packet.is_empty() {
            out(packet);
        }
        return;
    }
    // No more than twice is written for any packet; a scratch buffer serves all its fragments.
    let cut = match packet.first().map(|first| first >> 4) {
        Some(4) => v4(packet, mtu, &mut out),
        Some(6) => v6(packet, mtu, &mut out),
        _ => None,
    };
    if cut.is_none() {
        tracing::debug!("a packet is too long and cannot be cut");
    }
}

fn v4(packet: &[u8], mtu: usize, out: &mut impl FnMut(&[u8])) -> Option<()> {
    let (header, data) = packet.split_first_chunk::<IPV4_LEN>()?;
    let step = step(mtu, IPV4_LEN)?;
    let mut header = *header;
    let id = header.get_mut(4..6)?;
    if id == [0; 2] {
        // One that need not be told apart whole (RFC 6864, section 4.1); its pieces must be.
        id.copy_from_slice(&Sum::of(data).fold().to_be_bytes());
    }
    let mut fragment = Vec::with_capacity(mtu);
    for (number, piece) in data.chunks(step).enumerate() {
        let more = number * step + piece.len() < data.len();
        let len = u16::try_from(IPV4_LEN + piece.len()).ok()?.to_be_bytes();
        let place = u16::try_from(number * step / 8).ok()? | (u16::from(more) << 13);
        header.get_mut(2..4)?.copy_from_slice(&len);
        header.get_mut(6..8)?.copy_from_slice(&place.to_be_bytes());
        header.get_mut(10..12)?.fill(0);
        let sum = Sum::of(&header).finish();
        checksum::put(&mut header, 10, sum);
        fragment.clear();
        fragment.extend_from_slice(&header);
        fragment.extend_from_slice(piece);
        out(&fragment);
    }
    Some(())
}

fn v6(packet: &[u8], mtu: usize, out: &mut impl FnMut(&[u8])) -> Option<()> {
    let (header, data) = packet.split_first_chunk::<IPV6_LEN>()?;
    let step = step(mtu, IPV6_LEN + FRAGMENT_LEN)?;
    let mut header = *header;
    let next = std::mem::replace(header.get_mut(6)?, FRAGMENT);
    // Others of its time must not have the same: the content gives it.
    let id = u32::from(Sum::of(data).fold()) << 16 | u32::from(Sum::of(data.get(4..)?).fold());
    let [i0, i1, i2, i3] = id.to_be_bytes();
    let mut fragment = Vec::with_capacity(mtu);
    for (number, piece) in data.chunks(step).enumerate() {
        let more = number * step + piece.len() < data.len();
        let len = u16::try_from(FRAGMENT_LEN + piece.len())
            .ok()?
            .to_be_bytes();
        header.get_mut(4..6)?.copy_from_slice(&len);
        let place = u16::try_from(number * step).ok()? | u16::from(more);
        let [p0, p1] = place.to_be_bytes();
        fragment.clear();
        fragment.extend_from_slice(&header);
        fragment.extend_from_slice(&[next, 0, p0, p1, i0, i1, i2, i3]);
        fragment.extend_from_slice(piece);
        out(&fragment);
    }
    Some(())
}

/// Bytes of data in a fragment: a multiple of eight.
fn step(mtu: usize, headers: usize) -> Option<usize> {
    let step = mtu.checked_sub(headers)? / 8 * 8;
    (step > 0).then_some(step)
}

#[cfg(test)]
mod tests {
    use super::super::fragment::{Limits, Reassembler};
    use super::super::{Checksum, Parsed, build};
    use super::*;
    use crate::time::Time;
    use proptest::prelude::*;
    use std::net::SocketAddr;
    use std::time::Duration;

    proptest! {
        #[test]
        fn what_is_cut_is_put_together_again(
            len in 0usize..9000, mtu in 576usize..1500, v6: bool,
        ) {
            let [from, to] = match v6 {
                true => ["[2001:db8::1]:1", "[2001:db8::2]:2"],
                false => ["192.0.2.1:1", "192.0.2.2:2"],
            }
            .map(|at| at.parse::<SocketAddr>().unwrap());
            let mut buffer = vec![0; build::HEADROOM];
            buffer.extend((0..len).map(|at| (at % 251) as u8));
            let (start, mut offload) = build::udp_in_place(&mut buffer, build::HEADROOM, from, to, 0);
            checksum::complete(&mut buffer[start..], &mut offload);
            let packet = &buffer[start..];
            let limits = Limits {
                datagrams: 1,
                per_source: 1,
                bytes: 1 << 16,
                timeout: Duration::from_secs(1),
            };
            let mut reassembler = Reassembler::new(limits);
            let (mut whole, mut count) = (None, 0);
            fragments(packet, mtu, |fragment| {
                count += 1;
                assert!(fragment.len() <= mtu);
                let parsed = Parsed::read(fragment, Checksum::Verify).unwrap();
                whole = match packet.len() <= mtu {
                    true => Some(fragment.to_vec()),
                    false => reassembler.take(&parsed, fragment, Time::default()).unwrap(),
                };
            });
            prop_assert!(count >= packet.len().div_ceil(mtu));
            let whole = whole.unwrap();
            prop_assert!(Parsed::read(&whole, Checksum::Verify).is_ok());
            prop_assert_eq!(&whole[whole.len() - len..], &packet[packet.len() - len..]);
        }
    }
}
