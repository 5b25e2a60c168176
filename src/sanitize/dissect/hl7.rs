//! HL7 version 2 in its minimal lower layer (MLLP): records of a patient.

use super::Notes;
use super::stream::{Opening, Step};
use super::text;
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const PATIENT: Leak = Leak::new("hl7.patient", Class::PersonId, "patient");
const RECORD: Leak = Leak::new("hl7.record", Class::Content, "record");

pub(super) const LEAKS: &[Leak] = &[PATIENT, RECORD];

pub(super) fn open(stream: &[u8]) -> Opening {
    Opening::mark(stream, b"\x0bMSH|").or(Opening::mark(stream, b"\x0bFHS|"))
}

/// Segments end with a carriage return, the message with 0x1c 0x0d.
pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    if let [0x1c, ..] = unread {
        return match unread {
            [_, 0x0d, ..] => Step::Took(2),
            [_, _, ..] => Step::Lost,
            _ => Step::Wait,
        };
    }
    let end = memchr::memchr(b'\r', unread);
    let segment = unread
        .get(..end.unwrap_or(unread.len()))
        .unwrap_or_default();
    let whose = [&b"PID|"[..], b"NK1|", b"GT1|", b"IN1|"];
    if whose.iter().any(|name| segment.starts_with(name)) {
        notes.certain(&PATIENT, 4..segment.len().max(4));
    } else if ![&b"MSH|"[..], b"\x0bMSH|", b"EVN|"]
        .iter()
        .any(|name| segment.starts_with(name))
    {
        notes.certain(&RECORD, text::trimmed(segment, 0));
    }
    end.map_or(Step::Wait, |end| Step::Took(end + 1))
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::told;

    #[test]
    fn the_patient_and_the_record_are_told() {
        let (told, _) =
            told(b"\x0bMSH|^~\\&|A|B\rPID|1||4711||Doe^Anne\rOBX|1|NM|8867-4||72\r\x1c\r");
        assert_eq!(told[0], ("hl7.patient", "1||4711||Doe^Anne".to_owned()));
        assert_eq!(told[1].0, "hl7.record");
    }
}
