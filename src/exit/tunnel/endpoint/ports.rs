//! Which of our ports a connection or mapping gets.

/// Ports that connections and mappings get (RFC 6335, section 6).
pub(super) const PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// The next port that nobody has.
pub(super) fn next(last: &mut u16, taken: impl Fn(u16) -> bool) -> Option<u16> {
    for _ in PORTS {
        *last = match *last {
            port if PORTS.contains(&port) && port < *PORTS.end() => port + 1,
            _ => *PORTS.start(),
        };
        if !taken(*last) {
            return Some(*last);
        }
    }
    None
}
