//! Fields that hold the time of day: shared by every datagram of a moment, and nobody's identifier.

use crate::time::Time;
use std::ops::RangeInclusive;

/// How far a device's clock may be off, in seconds.
const SLACK: u64 = 3600;
/// Seconds from the NTP era (1900) to the Unix epoch (RFC 5905, section 6).
const NTP_ERA: u64 = 2_208_988_800;
/// Fewest digits of a time in seconds: those since 2001 have ten.
const DIGITS: usize = 10;
/// A second, in seconds, milli-, micro- and nanoseconds.
const UNITS: [u64; 4] = [1, 1_000, 1_000_000, 1_000_000_000];

/// Marks the bytes of `bytes` that read as the present time: seconds in four bytes; seconds, milli-, micro- or
/// nanoseconds in eight, in either byte order; NTP's 64-bit form; decimal digits.
pub(super) fn mark(bytes: &[u8], now: Time, marks: &mut [bool]) {
    let seconds = now.as_nanos() / 1_000_000_000;
    if seconds < SLACK {
        return;
    }
    let unix = around(seconds, 1);
    let ntp = around(seconds + NTP_ERA, 1);
    for (at, window) in bytes.array_windows::<4>().enumerate() {
        let be = u64::from(u32::from_be_bytes(*window));
        let le = u64::from(u32::from_le_bytes(*window));
        if unix.contains(&be) || unix.contains(&le) {
            set(marks, at, 4);
        }
        if ntp.contains(&be) {
            set(marks, at, 8);
        }
    }
    let units = UNITS.map(|unit| around(seconds, unit));
    let is_now = |value: u64| units.iter().any(|unit| unit.contains(&value));
    // Most values are far off: the highest byte is that of nanoseconds, or nothing for the longer units.
    let [.., nanoseconds] = &units;
    let (low, high) = (nanoseconds.start() >> 56, nanoseconds.end() >> 56);
    let may_be = |high_byte: u8| high_byte == 0 || (low..=high).contains(&u64::from(high_byte));
    for (at, window) in bytes.array_windows::<8>().enumerate() {
        let [first, .., last] = *window;
        let be = u64::from_be_bytes(*window);
        if may_be(first) && is_now(be) || may_be(last) && is_now(be.swap_bytes()) {
            set(marks, at, 8);
        }
    }
    let mut at = 0;
    for word in bytes.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()) {
        if word.len() >= DIGITS && is_now(decimal(word)) {
            set(marks, at, word.len());
        }
        at += word.len();
    }
}

/// The values that are the present time, give or take the slack, in this unit.
fn around(seconds: u64, unit: u64) -> RangeInclusive<u64> {
    let start = seconds.saturating_sub(SLACK).saturating_mul(unit);
    let end = (seconds + SLACK + 1).saturating_mul(unit).saturating_sub(1);
    start..=end
}

/// The value of a word of digits; 0 for anything else.
fn decimal(word: &[u8]) -> u64 {
    match word {
        [first, ..] if first.is_ascii_digit() => std::str::from_utf8(word)
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0),
        _ => 0,
    }
}

fn set(marks: &mut [bool], at: usize, length: usize) {
    for mark in marks.iter_mut().skip(at).take(length) {
        *mark = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(bytes: &[u8]) -> Vec<usize> {
        let mut marks = [false; 64];
        mark(bytes, Time::from_secs(1_612_750_000), &mut marks);
        marks
            .iter()
            .enumerate()
            .filter_map(|(at, mark)| mark.then_some(at))
            .collect()
    }

    #[test]
    fn the_present_time_is_recognised_in_its_usual_forms() {
        let at_two = |field: &[u8]| marked(&[b"ab", field, b"cd"].concat());
        let seconds = 1_612_750_123_u32;
        let whole = |length: usize| (2..2 + length).collect::<Vec<_>>();
        assert_eq!(at_two(&seconds.to_be_bytes()), whole(4));
        assert_eq!(at_two(&seconds.to_le_bytes()), whole(4));
        assert_eq!(at_two(&1_612_750_123_456_u64.to_be_bytes()), whole(8));
        assert_eq!(at_two(&1_612_750_123_456_u64.to_le_bytes()), whole(8));
        assert_eq!(at_two(&1_612_750_123_456_789_u64.to_be_bytes()), whole(8));
        assert_eq!(at_two(b"1612750123456"), whole(13));
        let ntp = [
            &(seconds.wrapping_add(2_208_988_800)).to_be_bytes()[..],
            &[1, 2, 3, 4],
        ]
        .concat();
        assert_eq!(at_two(&ntp), whole(8));
    }

    #[test]
    fn other_numbers_are_not_clocks() {
        assert_eq!(marked(b"uid=512345687&room=M5xk2Rj9"), [0; 0]);
        assert_eq!(marked(&1_512_750_123_u32.to_be_bytes()), [0; 0]);
    }
}
