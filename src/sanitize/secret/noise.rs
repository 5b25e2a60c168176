//! Whether bytes look like ciphertext, compressed data or a random token.

/// Fewest bytes that can be judged at all.
const ENOUGH: usize = 16;

/// Whether `window` looks random. Entropy says little on short payloads (n bytes cannot exceed log2(n) bits), so this
/// counts what random bytes rarely do: repeat, be mostly printable, hold many zeros, or stray from four set bits a
/// byte. Below 16 bytes nothing can be said, and the answer is no.
///
/// About 1 % of random windows of 16 bytes are not recognised, fewer of longer ones: an unrecognised one is searched
/// more strictly, never less.
pub(in crate::sanitize) fn looks_random(window: &[u8]) -> bool {
    if window.len() < ENOUGH {
        return false;
    }
    let length = window.len() as u64;
    let mut seen = [0_u64; 4];
    let (mut ones, mut printable, mut zeros) = (0_u64, 0_u64, 0_u64);
    for &byte in window {
        ones += u64::from(byte.count_ones());
        printable += u64::from((0x20..0x7f).contains(&byte));
        zeros += u64::from(byte == 0);
        if let Some(word) = seen.get_mut(usize::from(byte >> 6)) {
            *word |= 1 << (byte & 63);
        }
    }
    let distinct: u64 = seen.iter().map(|word| u64::from(word.count_ones())).sum();
    // Of n random bytes 256 * (1 - (255/256)^n) are distinct: 15.5 of 16, 56.8 of 64, 162 of 256. The bound
    // n * 512 / (512 + n) * 3/4 stays below that with room for chance.
    let expected = length * 512 / (512 + length);
    distinct * 4 >= expected.min(160) * 3
        && printable * 100 <= length * 70
        && zeros * 100 <= length * 13
        && ones * 10 >= length * 29
        && ones * 10 <= length * 51
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize, seed: u64) -> Vec<u8> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        (0..length)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect()
    }

    #[test]
    fn noise_is_recognised_from_16_bytes_on() {
        for length in [16, 24, 40, 64, 128, 256, 1200] {
            let hits = (1..=1000)
                .filter(|&seed| looks_random(&noise(length, seed)))
                .count();
            assert!(hits >= 960, "{length} bytes: {hits} of 1000");
        }
        assert!(!looks_random(&noise(15, 1)));
    }

    #[test]
    fn text_headers_and_padding_are_not_noise() {
        assert!(!looks_random(
            b"GET /room/M5xk2Rj9 HTTP/1.1\r\nHost: example.net\r\n"
        ));
        assert!(!looks_random(&[0; 64]));
        assert!(!looks_random(
            b"PING\0\0\0\x01\0\0\x01\x77\x8a\x12\x34\x56\x1e\x8a\x2f\x57\0\0\0\x08M5xk2Rj9"
        ));
        assert!(!looks_random(&[0x80, 0x60].repeat(40)));
    }
}
