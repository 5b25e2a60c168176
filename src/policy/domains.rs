//! All domain patterns of a policy in one table, so that a name is looked up once, however many rules ask for names.
//!
//! A name's suffixes are hashed from the right, byte by byte, and looked up at every label boundary; the stored text is
//! compared, so a hash that collides costs time, never a wrong answer.

use crate::document::Shown;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A set of patterns, as one `domain` list is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SetId(u32);

/// One pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Pattern {
    /// Lower case, A-labels, without dots at either end.
    pub(super) name: Box<str>,
    /// The name itself and all below it; otherwise only the name itself.
    pub(super) below: bool,
}

impl Pattern {
    /// Reads `name` (that name alone) or `.name` (it and all below).
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (below, bare) = match text.strip_prefix('.') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if bare.starts_with("*.") {
            let rest = bare.trim_start_matches("*.");
            return Err(format!(
                "`{}` has a wildcard; write `.{}` for a name and all below it",
                Shown(text),
                Shown(rest)
            ));
        }
        if bare.parse::<IpAddr>().is_ok() {
            let text = Shown(text);
            return Err(format!(
                "`{text}` is an address, not a name; ask for it with `ip`"
            ));
        }
        let name = canonical(bare)
            .ok_or_else(|| format!("`{}` is not a domain name", Shown(text)))?
            .into_boxed_str();
        Ok(Self { name, below })
    }
}

impl std::fmt::Display for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", if self.below { "." } else { "" }, self.name)
    }
}

/// A name as facts and rules have it: lower case, A-labels (RFC 5890), without the trailing dot; `None` for what cannot
/// be a host name. Underscores pass, as service names have them.
pub fn canonical(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    // No name longer than this has A-labels that fit; it also bounds the work.
    if name.is_empty() || name.len() > 1024 {
        return None;
    }
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    let is_canonical = name.bytes().all(plain) && !name.contains("xn--");
    let ascii = if is_canonical {
        name.to_owned()
    } else {
        idna::domain_to_ascii(name).ok()?
    };
    let fits = ascii.len() <= 253
        && ascii.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        });
    fits.then_some(ascii)
}

/// A name as [`canonical`] has it, and no address.
pub(super) fn host(name: &str) -> Option<String> {
    canonical(name).filter(|name| name.parse::<IpAddr>().is_err())
}

impl SetId {
    /// No other comes before it.
    pub(super) const FIRST: Self = Self(0);

    /// Its place among the sets of the policy.
    fn number(self) -> usize {
        self.0 as usize
    }
}

/// Some of the sets in the table that a name is in.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hit {
    start: u32,
    len: u32,
}

/// What one distinct name in the table stands for.
#[derive(Clone, Copy, Debug)]
struct Entry {
    text: u32,
    len: u8,
    /// Where its sets start among the members: first those that list the name alone, then those with all below.
    start: u32,
    exact: u32,
    below: u32,
}

/// A place in the hash table: part of the hash, and the entry's index plus one (0 is empty).
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    tag: u32,
    entry: u32,
}

/// The table.
#[derive(Debug, Default)]
pub(super) struct Domains {
    text: String,
    entries: Vec<Entry>,
    members: Vec<SetId>,
    slots: Vec<Slot>,
    sets: Vec<Set>,
}

/// What is known of a set beside its members.
#[derive(Debug)]
struct Set {
    /// A name that is in it; empty if it has no members.
    example: Box<str>,
    /// Names that are not in it, whatever else matches them.
    except: Option<SetId>,
}

/// Collects sets of patterns, then makes the table.
#[derive(Debug, Default)]
pub(super) struct DomainsBuilder {
    patterns: Vec<(Pattern, SetId)>,
    sets: Vec<Set>,
}

impl DomainsBuilder {
    /// A set of these patterns.
    pub(super) fn add(&mut self, patterns: impl IntoIterator<Item = Pattern>) -> SetId {
        self.push(patterns, None)
    }

    /// A set of these patterns without what the exceptions match.
    pub(super) fn add_except(&mut self, patterns: Vec<Pattern>, exceptions: Vec<Pattern>) -> SetId {
        let except = (!exceptions.is_empty()).then(|| self.push(exceptions, None));
        self.push(patterns, except)
    }

    fn push(
        &mut self,
        patterns: impl IntoIterator<Item = Pattern>,
        except: Option<SetId>,
    ) -> SetId {
        let set = SetId(u32::try_from(self.sets.len()).unwrap_or(u32::MAX));
        let before = self.patterns.len();
        self.patterns
            .extend(patterns.into_iter().map(|pattern| (pattern, set)));
        let first = self.patterns.get(before);
        self.sets.push(Set {
            example: first
                .map(|(pattern, _)| pattern.name.clone())
                .unwrap_or_default(),
            except,
        });
        set
    }

    pub(super) fn build(mut self) -> Domains {
        // `false` sorts first, so a name's exact members precede those with all below.
        self.patterns.sort_unstable();
        self.patterns.dedup();
        let mut domains = Domains::default();
        for group in self.patterns.chunk_by(|(a, _), (b, _)| a.name == b.name) {
            domains.push(group);
        }
        domains.index();
        domains.sets = self.sets;
        domains
    }
}

impl Domains {
    /// A name that matches the set; `None` for an empty one.
    pub(super) fn example(&self, set: SetId) -> Option<&str> {
        let name = &self.sets.get(set.number())?.example;
        (!name.is_empty()).then_some(name)
    }

    /// Calls back for every group of sets that the name (canonical) is in. Longest name first is not promised.
    pub(super) fn find(&self, name: &str, mut found: impl FnMut(Hit)) {
        if self.slots.is_empty() || name.len() > 253 {
            return;
        }
        let mut hash = SEED;
        for (at, byte) in name.bytes().enumerate().rev() {
            if byte == b'.'
                && let Some(entry) = self.probe(hash, name.get(at + 1..).unwrap_or_default())
            {
                found(Hit {
                    start: entry.start + entry.exact,
                    len: entry.below,
                });
            }
            hash = step(hash, byte);
        }
        if let Some(entry) = self.probe(hash, name) {
            found(Hit {
                start: entry.start,
                len: entry.exact + entry.below,
            });
        }
    }

    /// The sets of a hit.
    pub(super) fn sets_of(&self, hit: Hit) -> &[SetId] {
        let start = hit.start as usize;
        self.members
            .get(start..start + hit.len as usize)
            .unwrap_or_default()
    }

    /// The set of names that are not in this one, whatever matches them.
    pub(super) fn exceptions(&self, set: SetId) -> Option<SetId> {
        self.sets.get(set.number())?.except
    }

    /// Pairs of sets of which the second has all names of the first; of each first only some, so that many sets with
    /// a name in common cost no more than others.
    pub(super) fn within(&self) -> BTreeSet<(SetId, SetId)> {
        const MOST: usize = 64;
        // Of a set's patterns the one that fewest others have tells which to look at.
        let mut wider: BTreeMap<SetId, (usize, Vec<SetId>)> = BTreeMap::new();
        self.each_pattern(|set, holders| {
            let (fewest, others) = wider.entry(set).or_insert((usize::MAX, Vec::new()));
            if holders.len() < *fewest {
                let first = holders.iter().filter(|one| **one != set).take(MOST);
                (*fewest, *others) = (holders.len(), first.copied().collect());
            }
        });
        self.each_pattern(|set, holders| {
            if let Some((_, others)) = wider.get_mut(&set) {
                others.retain(|one| holders.binary_search(one).is_ok());
            }
        });
        let pairs = wider.into_iter().flat_map(|(set, (_, others))| {
            let whole = others
                .into_iter()
                .filter(|one| self.exceptions(*one).is_none());
            whole.map(move |one| (set, one))
        });
        pairs.collect()
    }

    /// Calls back for every pattern of every set, with all sets that have what it matches, in order.
    fn each_pattern(&self, mut found: impl FnMut(SetId, &[SetId])) {
        for entry in &self.entries {
            let itself = Hit {
                start: entry.start,
                len: entry.exact + entry.below,
            };
            let (mut alone, mut below) = (Vec::new(), Vec::new());
            self.find(self.name(*entry), |hit| {
                let sets = self.sets_of(hit);
                let is_itself = (hit.start, hit.len) == (itself.start, itself.len);
                let skipped = if is_itself { entry.exact as usize } else { 0 };
                alone.extend(sets);
                below.extend(sets.get(skipped..).unwrap_or_default());
            });
            alone.sort_unstable();
            below.sort_unstable();
            for (place, set) in (0..).zip(self.sets_of(itself)) {
                found(*set, if place < entry.exact { &alone } else { &below });
            }
        }
    }

    /// Whether a name (canonical) matches a pattern of the set; exceptions are the caller's business.
    pub(super) fn contains(&self, set: SetId, name: &str) -> bool {
        let mut inside = false;
        self.find(name, |hit| inside |= self.sets_of(hit).contains(&set));
        inside
    }

    fn push(&mut self, group: &[(Pattern, SetId)]) {
        let Some((Pattern { name, .. }, _)) = group.first() else {
            return;
        };
        let exact = group.iter().filter(|(pattern, _)| !pattern.below).count();
        let (Ok(text), Ok(len), Ok(start), Ok(exact), Ok(total)) = (
            u32::try_from(self.text.len()),
            u8::try_from(name.len()),
            u32::try_from(self.members.len()),
            u32::try_from(exact),
            u32::try_from(group.len()),
        ) else {
            return;
        };
        self.text.push_str(name);
        self.members.extend(group.iter().map(|(_, set)| *set));
        self.entries.push(Entry {
            text,
            len,
            start,
            exact,
            below: total - exact,
        });
    }

    fn index(&mut self) {
        if self.entries.is_empty() {
            return;
        }
        let size = (self.entries.len() * 2).next_power_of_two();
        let mut slots = vec![Slot::default(); size];
        for (index, entry) in self.entries.iter().enumerate() {
            let hash = self.name(*entry).bytes().rev().fold(SEED, step);
            let (mut place, tag) = spread(hash, size);
            while slots.get(place).is_some_and(|slot| slot.entry != 0) {
                place = (place + 1) & (size - 1);
            }
            if let (Some(slot), Ok(index)) = (slots.get_mut(place), u32::try_from(index + 1)) {
                *slot = Slot { tag, entry: index };
            }
        }
        self.slots = slots;
    }

    fn name(&self, entry: Entry) -> &str {
        let start = entry.text as usize;
        self.text
            .get(start..start + usize::from(entry.len))
            .unwrap_or_default()
    }

    fn probe(&self, hash: u64, name: &str) -> Option<Entry> {
        let (mut place, tag) = spread(hash, self.slots.len());
        loop {
            // At most half the slots are taken, so an empty one comes.
            let slot = self.slots.get(place)?;
            let index = slot.entry.checked_sub(1)?;
            if slot.tag == tag {
                let entry = *self.entries.get(index as usize)?;
                if self.name(entry) == name {
                    return Some(entry);
                }
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// One step of FNV-1a.
fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
}

/// The slot to begin at, and the tag to compare. `size` is a power of two.
fn spread(hash: u64, size: usize) -> (usize, u32) {
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bytes = mixed.to_be_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    let high = u32::from_be_bytes([a, b, c, d]);
    let low = u32::from_be_bytes([e, f, g, h]);
    (high as usize & (size - 1), low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(sets: &[&[&str]]) -> (Domains, Vec<SetId>) {
        let mut builder = DomainsBuilder::default();
        let ids = sets
            .iter()
            .map(|set| builder.add(set.iter().map(|text| Pattern::parse(text).unwrap())))
            .collect();
        (builder.build(), ids)
    }

    #[test]
    fn suffixes_match_on_label_boundaries_only() {
        let (domains, ids) = table(&[&[".agora.io", "exact.org"], &[".io"], &["agora.io"]]);
        let inside = |name: &str| -> Vec<bool> {
            ids.iter().map(|id| domains.contains(*id, name)).collect()
        };
        assert_eq!(inside("agora.io"), [true, true, true]);
        assert_eq!(inside("ap1.agora.io"), [true, true, false]);
        assert_eq!(inside("notagora.io"), [false, true, false]);
        assert_eq!(inside("agora.io.evil.net"), [false, false, false]);
        assert_eq!(inside("exact.org"), [true, false, false]);
        assert_eq!(inside("www.exact.org"), [false, false, false]);
        assert_eq!(inside(""), [false, false, false]);
        assert_eq!(inside("."), [false, false, false]);
    }

    #[test]
    fn a_set_lies_within_another_that_has_all_its_names() {
        let (domains, ids) = table(&[
            &[".a.example", "b.example"],
            &["a.example", "x.a.example", "b.example"],
            &[".x.a.example"],
            &["a.example"],
            &[".b.example"],
        ]);
        let pairs = [(1, 0), (2, 0), (3, 0), (3, 1)].map(|(inner, outer)| (ids[inner], ids[outer]));
        assert_eq!(domains.within(), BTreeSet::from(pairs));
    }

    #[test]
    fn names_are_written_one_way() {
        assert_eq!(
            canonical("Bücher.Example."),
            Some("xn--bcher-kva.example".into())
        );
        assert_eq!(canonical("_dmarc.Example"), Some("_dmarc.example".into()));
        for bad in [
            "",
            ".",
            "a..b",
            "a b",
            "x/y",
            &"a".repeat(64),
            &"a.".repeat(200),
        ] {
            assert_eq!(canonical(bad), None, "{bad}");
        }
        let wildcard = Pattern::parse("*.agora.io").unwrap_err();
        assert!(wildcard.contains("write `.agora.io`"), "{wildcard}");
        for address in ["192.0.2.1", "2001:db8::1"] {
            let refused = Pattern::parse(address).unwrap_err();
            assert!(refused.ends_with("ask for it with `ip`"), "{refused}");
        }
        assert_eq!(
            Pattern::parse(".Agora.IO").unwrap().to_string(),
            ".agora.io"
        );
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_comparing_each_pattern(
            sets in proptest::collection::vec(proptest::collection::vec("\\.?([ab]{1,2}\\.){0,3}[ab]", 0..6), 0..6),
            name in "([ab]{1,2}\\.){0,4}[ab]",
        ) {
            let borrowed: Vec<Vec<&str>> = sets
                .iter()
                .map(|set| set.iter().map(String::as_str).collect())
                .collect();
            let slices: Vec<&[&str]> = borrowed.iter().map(Vec::as_slice).collect();
            let (domains, ids) = table(&slices);
            for (inner, outer) in domains.within() {
                prop_assert!(!domains.contains(inner, &name) || domains.contains(outer, &name));
            }
            for (set, id) in sets.iter().zip(ids) {
                let naive = set.iter().any(|text| match text.strip_prefix('.') {
                    Some(bare) => name == bare || name.ends_with(text.as_str()),
                    None => name == *text,
                });
                prop_assert_eq!(domains.contains(id, &name), naive);
            }
        }
    }
}
