//! What the sources say in common: one combination of their answers, weighed.

use super::column::Fact;
use super::{Anycast, Asn, Confidence, Country, FewCountries};

/// What the sources say about the ranges of one combination of answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) country: Option<Country>,
    pub(super) registered: Option<Country>,
    pub(super) confidence: Confidence,
    /// As in a column: 1 yes, 2 no.
    pub(super) anycast: u8,
    pub(super) located: FewCountries,
    pub(super) registered_in: FewCountries,
    /// By the second and later sources that speak about origins.
    pub(super) asn: Asn,
}

/// Which source gave a column of answers, and about what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Voice {
    pub(super) source: usize,
    pub(super) fact: Fact,
}

impl Place {
    /// Weighs the answers of all voices.
    pub(super) fn new(voices: &[Voice], answers: &[u32]) -> Self {
        let mut place = Self {
            country: None,
            registered: None,
            confidence: Confidence::None,
            anycast: 0,
            located: FewCountries::of(None),
            registered_in: FewCountries::of(None),
            asn: 0,
        };
        let mut locations = Vec::new();
        let mut all = Vec::new();
        for (voice, &answer) in voices.iter().zip(answers) {
            let country = Country::from_number(answer);
            match (voice.fact, country) {
                (Fact::Location, Some(country)) => {
                    place.located.insert(country);
                    locations.push(country);
                    all.push(country);
                }
                (Fact::Registration, Some(country)) => {
                    place.registered_in.insert(country);
                    place.registered = place.registered.or(Some(country));
                    all.push(country);
                }
                (Fact::Origin, _) if place.asn == 0 => place.asn = answer,
                // One source that knows of many places outweighs any that sees one.
                (Fact::Anycast, _) if answer == 1 || place.anycast == 0 => {
                    place.anycast = answer as u8
                }
                (
                    Fact::Location
                    | Fact::Registration
                    | Fact::Origin
                    | Fact::Anycast
                    | Fact::AsCountry
                    | Fact::Operator,
                    _,
                ) => {}
            }
        }
        place.country = most_named(&locations);
        place.confidence = confidence(&all);
        place
    }
}

/// The country named most often; of equally many, the one named first.
fn most_named(countries: &[Country]) -> Option<Country> {
    let count = |country: &Country| countries.iter().filter(|other| *other == country).count();
    // `max_by_key` takes the last of equals.
    countries
        .iter()
        .rev()
        .max_by_key(|country| count(country))
        .copied()
}

fn confidence(answers: &[Country]) -> Confidence {
    let most = most_named(answers).map_or(0, |most| {
        answers.iter().filter(|answer| **answer == most).count()
    });
    match (answers.len(), most) {
        (0, _) => Confidence::None,
        (1, _) => Confidence::Single,
        (all, most) if most == all => Confidence::Unanimous,
        (all, most) if most * 2 > all => Confidence::Majority,
        _ => Confidence::Contested,
    }
}

/// From a column's value.
pub(super) fn anycast(value: u32) -> Anycast {
    match value {
        1 => Anycast::Yes,
        2 => Anycast::No,
        _ => Anycast::Unknown,
    }
}
