//! One pass over bytes that finds every form of every secret, also across chunks.

use super::forms::{Family, Form, SHORTEST};
use super::{MAX_SECRETS, SECRET, Secret, SecretError, looks_random};
use crate::sanitize::class::Class;
use crate::sanitize::finding::{Finding, mask};
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};
use std::collections::BTreeSet;
use std::ops::Range;

/// Most bytes that all patterns may take: about 100 MB of automaton, far above what 256 ordinary values need.
const MAX_SIZE: usize = 4 << 20;
/// How far around a short pattern its surroundings are judged.
const AROUND: usize = 64;
/// In these first bytes of a datagram a short pattern counts whatever follows it: that is where a protocol puts a
/// number in front of ciphertext. A pattern of 4 bytes occurs there by chance once in 150 million datagrams.
const HEADER: usize = 32;

/// Where a search stands between two chunks of one stream.
#[derive(Clone, Copy, Debug)]
pub(in crate::sanitize) struct Cursor(StateID);

/// The compiled secrets.
#[derive(Debug)]
pub(in crate::sanitize) struct Scanner {
    nfa: NFA,
    start: StateID,
    shallow: States,
    gate: Gate,
    forms: Vec<Form>,
    labels: Vec<(String, Class)>,
}

/// Which bytes can begin a pattern: bits set by hash. It lets a search at rest skip over most bytes at a cost that does
/// not grow with the number of patterns. Four bytes are asked first; in text these often are those of some pattern, so
/// the first eight bytes of patterns that have them decide.
#[derive(Debug)]
struct Gate {
    four: Bits,
    /// The first four bytes of patterns shorter than eight.
    short: Bits,
    eight: Bits,
}

/// States by number: those that at most the last `SHORTEST - 1` bytes lead to. Nearly every byte begins some form, so a
/// search hardly ever comes back to the start by itself; from these it goes back to the gate.
#[derive(Debug, Default)]
struct States(Vec<u64>);

/// A set of hashes.
#[derive(Debug)]
struct Bits {
    words: Vec<u64>,
    shift: u32,
}

/// What is searched.
#[derive(Clone, Copy, Debug)]
pub(in crate::sanitize) enum Payload<'a> {
    /// A datagram: it has a header.
    Datagram(&'a [u8]),
    /// Some chunk of a stream.
    Chunk(&'a [u8]),
}

impl Scanner {
    /// Compiles the secrets; `None` if there are none.
    pub(in crate::sanitize) fn new(secrets: &[Secret]) -> Result<Option<Self>, SecretError> {
        if secrets.is_empty() {
            return Ok(None);
        }
        if secrets.len() > MAX_SECRETS {
            return Err(SecretError::TooMany(secrets.len()));
        }
        let mut names = BTreeSet::new();
        let mut family = Family::default();
        for (index, secret) in (0_u16..).zip(secrets) {
            if !names.insert(&secret.name) {
                return Err(SecretError::Duplicate(secret.name.clone()));
            }
            family.add(index, secret);
            if family.size() > MAX_SIZE {
                return Err(SecretError::TooLarge(family.size()));
            }
        }
        let size = family.size();
        let (patterns, forms) = family.into_parts();
        let too_large = || SecretError::TooLarge(size);
        let nfa = NFA::builder()
            .match_kind(MatchKind::Standard)
            .prefilter(false)
            .build(&patterns)
            .map_err(|_| too_large())?;
        let start = nfa.start_state(Anchored::No).map_err(|_| too_large())?;
        Ok(Some(Self {
            shallow: States::shallow(&nfa, start, &patterns),
            nfa,
            start,
            gate: Gate::new(&patterns),
            forms,
            labels: secrets
                .iter()
                .map(|secret| (secret.name.clone(), secret.class))
                .collect(),
        }))
    }

    /// A search that has seen nothing.
    pub(in crate::sanitize) fn begin(&self) -> Cursor {
        Cursor(self.start)
    }

    /// Searches a payload, which follows what `cursor` has seen, and tells every secret found once a place: the
    /// longest of overlapping forms. Spans lie within the payload.
    pub(in crate::sanitize) fn scan(
        &self,
        cursor: &mut Cursor,
        payload: Payload<'_>,
        found: &mut Vec<Finding>,
    ) {
        let bytes = payload.bytes();
        let first = found.len();
        let mut state = cursor.0;
        // Where the bytes begin that led to `state` from where it was last known.
        let (mut from, mut at) = (0, 0);
        if state == self.start {
            at = self.gate.skip(bytes, at);
            from = at;
        }
        while let Some(&byte) = bytes.get(at) {
            state = self.nfa.next_state(Anchored::No, state, byte);
            at += 1;
            if self.nfa.is_special(state) && self.nfa.is_match(state) {
                self.report(state, at, payload, found, first);
            }
            // What goes on here began in the last bytes, after `from`: the gate sees it whole.
            if at - from >= SHORTEST && self.shallow.contains(state) {
                at = self.gate.skip(bytes, at - (SHORTEST - 1));
                (state, from) = (self.start, at);
            }
        }
        cursor.0 = state;
    }

    /// Tells the longest accepted pattern that ends at `end`.
    #[cold]
    fn report(
        &self,
        state: StateID,
        end: usize,
        payload: Payload<'_>,
        found: &mut Vec<Finding>,
        first: usize,
    ) {
        for index in 0..self.nfa.match_len(state) {
            let pattern = self.nfa.match_pattern(state, index);
            let Some(form) = self.forms.get(pattern.as_usize()) else {
                continue;
            };
            let span = end.saturating_sub(usize::from(form.length))..end;
            if !form.fragile || believable(payload, &span) {
                self.tell(form, span, payload.bytes(), found, first);
            }
        }
    }

    /// Adds a finding, or widens the one of the same secret that it overlaps.
    fn tell(
        &self,
        form: &Form,
        span: Range<usize>,
        bytes: &[u8],
        found: &mut Vec<Finding>,
        first: usize,
    ) {
        let Some((name, class)) = self.labels.get(usize::from(form.secret)) else {
            return;
        };
        let overlapping = found.iter_mut().skip(first).find(|finding| {
            finding.span.start < span.end
                && span.start < finding.span.end
                && finding
                    .field
                    .strip_prefix(name.as_str())
                    .is_some_and(|rest| rest.starts_with(" ("))
        });
        let value = bytes.get(span.clone()).unwrap_or_default();
        let finding = Finding {
            class: *class,
            detector: SECRET.detector,
            field: format!("{name} ({})", form.encoding),
            leak: SECRET.name,
            certainty: form.certainty,
            sample: mask(value),
            span,
            earlier: (0, 0),
            decoded: false,
        };
        match overlapping {
            None => found.push(finding),
            Some(known) if known.span.len() < finding.span.len() => *known = finding,
            Some(_) => {}
        }
    }
}

impl<'a> Payload<'a> {
    fn bytes(self) -> &'a [u8] {
        let (Self::Datagram(bytes) | Self::Chunk(bytes)) = self;
        bytes
    }
}

impl States {
    fn shallow(nfa: &NFA, start: StateID, patterns: &[Vec<u8>]) -> Self {
        let mut shallow = Self::default();
        shallow.insert(start);
        for pattern in patterns {
            let mut state = start;
            for &byte in pattern.iter().take(SHORTEST - 1) {
                state = nfa.next_state(Anchored::No, state, byte);
                shallow.insert(state);
            }
        }
        shallow
    }

    fn insert(&mut self, state: StateID) {
        let index = state.as_usize();
        if self.0.len() <= index / 64 {
            self.0.resize(index / 64 + 1, 0);
        }
        if let Some(word) = self.0.get_mut(index / 64) {
            *word |= 1 << (index % 64);
        }
    }

    fn contains(&self, state: StateID) -> bool {
        let index = state.as_usize();
        self.0
            .get(index / 64)
            .is_some_and(|word| word >> (index % 64) & 1 == 1)
    }
}

impl Gate {
    fn new(patterns: &[Vec<u8>]) -> Self {
        let mut gate = Self {
            four: Bits::new(patterns.len()),
            short: Bits::new(patterns.len()),
            eight: Bits::new(patterns.len()),
        };
        for pattern in patterns {
            if let Some(prefix) = pattern.first_chunk() {
                gate.four.insert(four(*prefix));
                match pattern.first_chunk() {
                    Some(longer) => gate.eight.insert(eight(*longer)),
                    None => gate.short.insert(four(*prefix)),
                }
            }
        }
        gate
    }

    /// The first place from `at` on where a pattern may begin; the last three bytes always may.
    fn skip(&self, bytes: &[u8], at: usize) -> usize {
        let mut from = at;
        loop {
            let rest = bytes.get(from..).unwrap_or_default();
            let Some(next) = rest
                .array_windows::<SHORTEST>()
                .position(|prefix| self.four.contains(four(*prefix)))
            else {
                return from + rest.len().saturating_sub(SHORTEST - 1);
            };
            from += next;
            let rest = bytes.get(from..).unwrap_or_default();
            let passes = match (rest.first_chunk(), rest.first_chunk()) {
                (Some(prefix), Some(longer)) => {
                    self.short.contains(four(*prefix)) || self.eight.contains(eight(*longer))
                }
                _ => true,
            };
            if passes {
                return from;
            }
            from += 1;
        }
    }
}

fn four(prefix: [u8; SHORTEST]) -> u32 {
    u32::from_le_bytes(prefix).wrapping_mul(0x9e37_79b1)
}

fn eight(prefix: [u8; 8]) -> u32 {
    (u64::from_le_bytes(prefix).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

impl Bits {
    /// 64 bits an entry keep the share of false alarms near one in 64; 32 KiB bound the table.
    fn new(entries: usize) -> Self {
        let width = (entries.max(1).ilog2() + 7).clamp(12, 18);
        Self {
            words: vec![0; 1 << (width - 6)],
            shift: 32 - width,
        }
    }

    fn insert(&mut self, hash: u32) {
        let bit = hash >> self.shift;
        if let Some(word) = self.words.get_mut((bit >> 6) as usize) {
            *word |= 1 << (bit & 63);
        }
    }

    fn contains(&self, hash: u32) -> bool {
        let bit = hash >> self.shift;
        self.words
            .get((bit >> 6) as usize)
            .is_some_and(|word| word >> (bit & 63) & 1 == 1)
    }
}

/// Whether a short pattern at `span` is more than chance.
fn believable(payload: Payload<'_>, span: &Range<usize>) -> bool {
    if matches!(payload, Payload::Datagram(_)) && span.end <= HEADER {
        return true;
    }
    let bytes = payload.bytes();
    let from = span.start.saturating_sub(AROUND);
    let to = span.end.saturating_add(AROUND).min(bytes.len());
    let around = [bytes.get(from..span.start), bytes.get(span.end..to)];
    // The value itself looks like what it is: in little text it would speak against the text.
    !looks_random(&around.map(Option::unwrap_or_default).concat())
}

#[cfg(test)]
mod tests {
    use super::super::Kind;
    use super::*;
    use crate::sanitize::class::Certainty;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn scanner(values: &[(&str, &str)]) -> Scanner {
        let secrets: Vec<Secret> = values
            .iter()
            .map(|(name, value)| Secret::new(name, value, Kind::Guess).unwrap())
            .collect();
        Scanner::new(&secrets).unwrap().unwrap()
    }

    fn search(scanner: &Scanner, bytes: &[u8]) -> Vec<Finding> {
        let mut found = Vec::new();
        scanner.scan(&mut scanner.begin(), Payload::Datagram(bytes), &mut found);
        found
    }

    #[test]
    fn a_secret_is_named_with_its_encoding_and_place_and_masked() {
        let scanner = scanner(&[("user", "512345687"), ("room", "M5xk2Rj9")]);
        let found = search(&scanner, b"{\"uid\":512345687,\"room\":\"M5xk2Rj9\"}");
        let told: Vec<_> = found
            .iter()
            .map(|f| {
                (
                    f.field.as_str(),
                    f.span.clone(),
                    f.sample.as_str(),
                    f.certainty,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("user (plain)", 7..16, "5…87", Certainty::Certain),
                ("room (plain)", 25..33, "M…j9", Certainty::Certain)
            ]
        );
    }

    #[test]
    fn overlapping_forms_are_told_once_as_the_longest() {
        let scanner = scanner(&[("phone", "+491701234567")]);
        let found = search(&scanner, b"tel=+491701234567;");
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].span, 4..17);
    }

    #[test]
    fn a_short_integer_counts_in_plain_surroundings_and_in_headers_only() {
        let scanner = scanner(&[("user", "512345687")]);
        let number = 512_345_687_u32.to_be_bytes();
        let mut plain = vec![0; 100];
        plain[60..64].copy_from_slice(&number);
        assert_eq!(search(&scanner, &plain).len(), 1);

        let mut state = 7_u64;
        let mut noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .take(400)
        .collect();
        noise[200..204].copy_from_slice(&number);
        assert_eq!(search(&scanner, &noise), []);
        noise[200..209].copy_from_slice(b"512345687");
        assert_eq!(search(&scanner, &noise).len(), 1, "text counts anywhere");
        noise[200..209].fill(0xa5);
        noise[8..12].copy_from_slice(&number);
        assert_eq!(search(&scanner, &noise).len(), 1, "in the header");
    }

    #[test]
    fn a_short_integer_counts_in_a_little_text_too() {
        let scanner = scanner(&[("user", "268435457")]);
        let mut found = Vec::new();
        let varint = b")%\x81\x80\x80\x80\x01cKk5'1c'a";
        scanner.scan(&mut scanner.begin(), Payload::Chunk(varint), &mut found);
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn every_split_finds_what_the_whole_holds() {
        let scanner = scanner(&[("mail", "alice@example.com")]);
        let text = b"xx alice@example.com yy";
        for split in 0..=text.len() {
            let (head, tail) = text.split_at(split);
            let mut cursor = scanner.begin();
            let mut found = Vec::new();
            scanner.scan(&mut cursor, Payload::Chunk(head), &mut found);
            scanner.scan(&mut cursor, Payload::Chunk(tail), &mut found);
            assert_eq!(found.len(), 1, "split at {split}");
        }
    }

    proptest! {
        /// Passing over bytes is worth nothing if something is passed over.
        #[test]
        fn no_form_is_passed_over(
            pieces in vec((0..FORMS, 0_usize..40), 1..12),
            cuts in vec(0_usize..200, 0..4),
        ) {
            let (scanner, forms) = alike();
            let text: Vec<u8> = pieces
                .iter()
                .flat_map(|(form, length)| forms[form % forms.len()].iter().take(*length).copied())
                .collect();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let (mut cursor, mut every) = (scanner.begin(), scanner.start);
            for chunk in cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]) {
                let (mut found, mut expected) = (Vec::new(), Vec::new());
                scanner.scan(&mut cursor, Payload::Chunk(chunk), &mut found);
                for (at, &byte) in chunk.iter().enumerate() {
                    every = scanner.nfa.next_state(Anchored::No, every, byte);
                    if scanner.nfa.is_match(every) {
                        scanner.report(every, at + 1, Payload::Chunk(chunk), &mut expected, 0);
                    }
                }
                prop_assert_eq!(found, expected);
            }
        }
    }

    const FORMS: usize = 1_000;

    /// A search for values whose forms begin and end alike, and the forms.
    fn alike() -> (Scanner, Vec<Vec<u8>>) {
        let mut family = Family::default();
        let secrets: Vec<Secret> = ["abababac", "babaab", "abac", "1212121", "aab@bab.ab"]
            .iter()
            .map(|value| Secret::new(value, value, Kind::Guess).unwrap())
            .collect();
        for (index, secret) in (0..).zip(&secrets) {
            family.add(index, secret);
        }
        (
            Scanner::new(&secrets).unwrap().unwrap(),
            family.into_parts().0,
        )
    }

    #[test]
    fn too_many_or_twin_secrets_are_refused() {
        let secret = |name: &str| Secret::new(name, "value-1", Kind::Guess).unwrap();
        let many: Vec<Secret> = (0..=MAX_SECRETS).map(|i| secret(&i.to_string())).collect();
        assert_eq!(
            Scanner::new(&many).unwrap_err(),
            SecretError::TooMany(MAX_SECRETS + 1)
        );
        assert_eq!(
            Scanner::new(&[secret("a"), secret("a")]).unwrap_err(),
            SecretError::Duplicate("a".to_owned())
        );
        assert!(Scanner::new(&[]).unwrap().is_none());
    }
}
