//! SSH (RFC 4253): the software's banner, then keys are agreed and all is encrypted.

use super::Notes;
use super::stream::{Opening, Step};
use super::text;
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const SOFTWARE: Leak = Leak::new("ssh.software", Class::Software, "software");

pub(super) const LEAKS: &[Leak] = &[SOFTWARE];

pub(super) fn open(stream: &[u8]) -> Opening {
    Opening::mark(stream, b"SSH-2.0-").or(Opening::mark(stream, b"SSH-1."))
}

pub(super) fn step(phase: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    if *phase == 1 {
        return Step::Sealed;
    }
    let Some((line, taken)) = text::line(unread) else {
        return Step::Wait;
    };
    *phase = 1;
    notes.certain(&SOFTWARE, 0..line.len());
    Step::Took(taken)
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn the_banner_is_software_and_the_rest_sealed() {
        let (told, reading) = told(b"SSH-2.0-OpenSSH_9.6\r\n\0\0\x05\x1c");
        assert_eq!(told, [("ssh.software", "SSH-2.0-OpenSSH_9.6".to_owned())]);
        assert!(reading.unwrap().sealed);
    }
}
