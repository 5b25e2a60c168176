//! Where autonomous systems are registered, by a vote of ranges.

use super::{Draft, steps_of};
use crate::jurisdiction::BadData;
use crate::jurisdiction::column::Fact;
use crate::jurisdiction::rows::{Family, Step};
use crate::jurisdiction::source::Source;
use std::collections::BTreeMap;

impl Draft {
    /// Some tables give, per address, the country where its *origin* is registered. Put beside a table of origins they
    /// tell it per system: the country of most of its ranges; of equally many, the first by code.
    pub fn as_countries(&mut self, origins: &Source, countries: &Source) -> Result<(), BadData> {
        self.digests.extend(origins.digest);
        self.digests.extend(countries.digest);
        let mut votes: BTreeMap<u32, BTreeMap<u32, u32>> = BTreeMap::new();
        for family in [Family::V4, Family::V6] {
            let origins = steps_of(origins, Fact::Origin, family)?;
            let countries = steps_of(countries, Fact::Location, family)?;
            for (asn, country) in overlaps(&origins, &countries) {
                if asn != 0 && country != 0 {
                    *votes.entry(asn).or_default().entry(country).or_default() += 1;
                }
            }
        }
        for (asn, votes) in votes {
            // `max_by_key` takes the last of equals; in reverse that is the lowest code.
            if let Some((&country, _)) = votes.iter().rev().max_by_key(|(_, count)| **count) {
                self.add(Fact::AsCountry, Family::As, asn.into(), asn.into(), country);
            }
        }
        Ok(())
    }
}

/// The pairs of values that hold together, one for every stretch between two starts of either.
fn overlaps<'a>(left: &'a [Step], right: &'a [Step]) -> impl Iterator<Item = (u32, u32)> + 'a {
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    let mut now = (0, 0);
    std::iter::from_fn(move || {
        let next = match (left.peek(), right.peek()) {
            (Some(a), Some(b)) => a.start.min(b.start),
            (Some(only), None) | (None, Some(only)) => only.start,
            (None, None) => return None,
        };
        if let Some(step) = left.next_if(|step| step.start == next) {
            now.0 = step.value;
        }
        if let Some(step) = right.next_if(|step| step.start == next) {
            now.1 = step.value;
        }
        Some(now)
    })
}

#[cfg(test)]
mod tests {
    use super::super::Ranges;
    use super::*;
    use crate::jurisdiction::Country;
    use crate::jurisdiction::source::Meta;

    #[test]
    fn most_ranges_decide_where_a_system_is_registered() {
        let meta = Meta {
            name: "t".into(),
            licence: "l".into(),
            attribution: "a".into(),
            built: 1_781_654_400,
        };
        let build = |text: &str, meaning| {
            let mut draft = Draft::default();
            draft.ranges(text.as_bytes(), meaning).unwrap();
            draft.finish(meta.clone()).unwrap()
        };
        let origins = build(
            "1.0.0.0/24,7\n1.0.2.0/24,7\n1.0.4.0/24,7\n2.0.0.0/24,9\n",
            Ranges::Origin,
        );
        let countries = build(
            "1.0.0.0/24,SG\n1.0.2.0/24,CN\n1.0.4.0/24,CN\n2.0.0.0/8,FR\n",
            Ranges::Location,
        );
        let mut draft = Draft::default();
        draft.as_countries(&origins, &countries).unwrap();
        let source = draft.finish(meta).unwrap();
        let steps = steps_of(&source, Fact::AsCountry, Family::As).unwrap();
        let value = |code| Country::parse(code).unwrap().number();
        let said: Vec<_> = steps.iter().map(|step| (step.start, step.value)).collect();
        assert_eq!(
            said,
            [(0, 0), (7, value("CN")), (8, 0), (9, value("FR")), (10, 0)]
        );
    }
}
