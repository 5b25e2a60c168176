//! ONC RPC (RFC 5531) as file servers speak it: in every call the machine's name and the user's number (`AUTH_SYS`,
//! section 14), and of NFS 2 and 3 (RFC 1094, RFC 1813) and of their mounts the names of files and what is written.

use super::bytes::Bytes;
use super::shape::{Set, Shape};
use super::stream::{Opening, Step};
use super::{Notes, Reading};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;
use std::ops::Range;

const MACHINE: Leak = Leak::new("rpc.machine", Class::HostName, "machine name");
const USER: Leak = Leak::new("rpc.user", Class::PersonId, "user number");
const FILE: Leak = Leak::new("rpc.file", Class::ContentId, "file or folder");
const WRITTEN: Leak = Leak::new("rpc.written", Class::Content, "what is written");

pub(super) const LEAKS: &[Leak] = &[MACHINE, USER, FILE, WRITTEN];

/// The fifth byte is the first of the kind of message.
pub(super) const SHAPE: Shape = Shape::ANY.fifth(Set::of(&[0]));

const CALL: u32 = 0;
const VERSION: u32 = 2;
const AUTH_SYS: u32 = 1;
const NFS: u32 = 100_003;
const MOUNT: u32 = 100_005;
/// A record longer than this is not waited for, and the most one may have.
const LONG: usize = 2000;
const MOST: u32 = 8 << 20;
/// Of a record the mark that it is the last fragment.
const LAST: u32 = 1 << 31;

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    if !payload.len().is_multiple_of(4) {
        return None;
    }
    call(payload, notes)?;
    Some(Reading::clear("rpc"))
}

pub(super) fn open(stream: &[u8]) -> Opening {
    let mut bytes = Bytes::new(stream);
    let mark = bytes.u32();
    let fits = mark.is_none_or(|mark| (40..MOST).contains(&(mark & !LAST)));
    bytes.skip(4);
    let call = bytes.u32().is_none_or(|kind| kind == CALL);
    let version = bytes.u32().is_none_or(|version| version == VERSION);
    let program = bytes.u32().is_none_or(is_program);
    match fits && call && version && program {
        true if stream.len() >= 20 => Opening::Yes,
        true if stream.len() < 4 || mark.is_some() => Opening::Perhaps,
        _ => Opening::No,
    }
}

pub(super) fn step(_: &mut u8, unread: &[u8], notes: &mut Notes<'_>) -> Step {
    let mut bytes = Bytes::new(unread);
    let Some(length) = bytes.u32().map(|mark| (mark & !LAST) as usize) else {
        return Step::Wait;
    };
    let whole = length + 4;
    if unread.len() < whole.min(LONG) {
        return Step::Wait;
    }
    // An answer, as servers that call back mix them in, tells nothing.
    notes.within(4..whole.min(unread.len()), call);
    Step::Took(whole)
}

fn is_program(program: u32) -> bool {
    (100_000..100_500).contains(&program)
}

/// Number, kind, versions and procedure, credential and its proof, arguments.
fn call(payload: &[u8], notes: &mut Notes<'_>) -> Option<()> {
    let mut bytes = Bytes::new(payload);
    bytes.u32()?;
    bytes.u32().filter(|kind| *kind == CALL)?;
    bytes.u32().filter(|version| *version == VERSION)?;
    let program = bytes.u32().filter(|program| is_program(*program))?;
    let version = bytes.u32().filter(|version| (1..=9).contains(version))?;
    let procedure = bytes.u32().filter(|procedure| *procedure < 64)?;
    let flavour = bytes.u32()?;
    let length = bytes.u32().filter(|length| *length <= 400)? as usize;
    let mut credential = bytes.sub(length)?;
    if flavour == AUTH_SYS {
        credential.skip(4)?;
        let machine = string(&mut credential)?;
        notes.certain(&MACHINE, machine);
        let start = credential.position();
        // The number of the first user is the same on all machines.
        if credential.u32()? != 0 {
            notes.certain(&USER, start..start + 4);
        }
    }
    bytes.u32()?;
    let proof = bytes.u32().filter(|length| *length <= 400)? as usize;
    bytes.skip(proof)?;
    arguments((program, version, procedure), bytes, notes);
    Some(())
}

fn arguments(
    procedure: (u32, u32, u32),
    mut bytes: Bytes<'_>,
    notes: &mut Notes<'_>,
) -> Option<()> {
    match procedure {
        (MOUNT, 1..=3, 1 | 3) => notes.certain(&FILE, string(&mut bytes)?),
        // Looked up, made, linked, removed, renamed: below a folder of 32 bytes, or of a length told.
        (NFS, 2, 4 | 9..=11 | 13..=15) => {
            bytes.skip(32)?;
            notes.certain(&FILE, string(&mut bytes)?);
        }
        (NFS, 3, 3 | 8..=14) => {
            string(&mut bytes)?;
            notes.certain(&FILE, string(&mut bytes)?);
        }
        (NFS, 2, 8) => {
            bytes.skip(32 + 16)?;
            notes.certain(&WRITTEN, bytes.remainder());
        }
        (NFS, 3, 7) => {
            string(&mut bytes)?;
            bytes.skip(20)?;
            notes.certain(&WRITTEN, bytes.remainder());
        }
        _ => {}
    }
    Some(())
}

/// A length and as many bytes, filled up to words of four.
fn string(bytes: &mut Bytes<'_>) -> Option<Range<usize>> {
    let length = bytes.u32().filter(|length| *length <= 1024)? as usize;
    let span = bytes.span(length)?;
    bytes.skip(length.next_multiple_of(4) - length)?;
    Some(span)
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::{found, told};
    use super::*;

    fn lookup() -> Vec<u8> {
        let words = |words: &[u32]| {
            words
                .iter()
                .flat_map(|w| w.to_be_bytes())
                .collect::<Vec<_>>()
        };
        let text = |text: &str| {
            let mut bytes = words(&[text.len() as u32]);
            bytes.extend(text.bytes());
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        [
            words(&[7, CALL, VERSION, NFS, 3, 3, AUTH_SYS, 28, 1]),
            text("annes-pc"),
            words(&[1000, 1000, 0, 0, 0]),
            text("handle"),
            text("diary.txt"),
        ]
        .concat()
    }

    #[test]
    fn machine_user_and_file_are_told_of_either_transport() {
        let call = lookup();
        let leaks: Vec<_> = found(read, &call).unwrap().iter().map(|f| f.leak).collect();
        assert_eq!(leaks, ["rpc.machine", "rpc.user", "rpc.file"]);
        let mark = (LAST | call.len() as u32).to_be_bytes();
        let (told, protocol) = told(&[&mark[..], &call].concat());
        assert_eq!(protocol.map(|reading| reading.protocol), Some("rpc"));
        assert_eq!(told[0], ("rpc.machine", "annes-pc".to_owned()));
        assert_eq!(told[2], ("rpc.file", "diary.txt".to_owned()));
    }

    #[test]
    fn answers_and_other_programs_are_not_calls() {
        let mut answer = lookup();
        answer[7] = 1;
        assert!(found(read, &answer).is_none());
        let mut other = lookup();
        other[12] = 9;
        assert!(found(read, &other).is_none());
    }
}
