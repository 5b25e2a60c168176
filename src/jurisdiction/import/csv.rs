//! Ranges as comma- or tab-separated text.

use super::{Draft, parse_asn, parse_prefix};
use crate::jurisdiction::BadData;
use crate::jurisdiction::column::Fact;
use crate::jurisdiction::rows::{Family, number};
use std::net::IpAddr;

/// What the columns behind the range mean. A range is `first,last` (addresses or decimal numbers) or one prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// `range,country`: where addresses are located.
    Location,
    /// `range,country`: where the block is registered.
    Registration,
    /// `range,asn[,name]`: who originates it.
    Origin,
    /// `range[,…]`: announced from many places; the rest is ignored.
    Anycast,
    /// `range,asn,country,name`: who originates it and where that system is registered (the IPtoASN layout).
    OriginAndCountry,
}

impl Draft {
    /// Adds the rows of a file. They may overlap and stand in any order; a first line that is no row is a heading.
    pub fn ranges(&mut self, text: &[u8], meaning: Ranges) -> Result<(), BadData> {
        self.came_from(text);
        let first_line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let delimiter = if first_line.contains(&b'\t') {
            b'\t'
        } else {
            b','
        };
        let mut reader = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .trim(csv::Trim::All)
            .comment(Some(b'#'))
            .from_reader(text);
        let mut record = csv::StringRecord::new();
        loop {
            let before = reader.position().clone();
            match reader.read_record(&mut record) {
                Ok(false) => return Ok(()),
                Ok(true) => {}
                Err(_) => {
                    let line = line_of_row(text, &before);
                    return Err(BadData::Row {
                        line,
                        why: "it is not text in columns",
                    });
                }
            }
            match self.range_row(&record, meaning) {
                Ok(()) => {}
                Err(_) if before.line() == 1 => {}
                Err(why) => {
                    let line = line_of_row(text, &before);
                    return Err(BadData::Row { line, why });
                }
            }
        }
    }

    fn range_row(
        &mut self,
        record: &csv::StringRecord,
        meaning: Ranges,
    ) -> Result<(), &'static str> {
        let field = |index: usize| record.get(index).unwrap_or_default();
        let ((family, first, last), behind) = if field(0).contains('/') {
            (
                parse_prefix(field(0)).ok_or("its prefix cannot be read")?,
                1,
            )
        } else {
            (
                parse_range(field(0), field(1)).ok_or("its range cannot be read")?,
                2,
            )
        };
        if first > last {
            return Err("its range ends before it begins");
        }
        match meaning {
            Ranges::Location => {
                let value = self.country_value(field(behind));
                self.add(Fact::Location, family, first, last, value);
            }
            Ranges::Registration => {
                let value = self.country_value(field(behind));
                self.add(Fact::Registration, family, first, last, value);
            }
            Ranges::Anycast => self.add(Fact::Anycast, family, first, last, 1),
            Ranges::Origin => {
                let asn = parse_asn(field(behind)).ok_or("its AS number cannot be read")?;
                self.add(Fact::Origin, family, first, last, asn);
                self.add_name(asn, field(behind + 1));
            }
            Ranges::OriginAndCountry => {
                let asn = parse_asn(field(behind)).ok_or("its AS number cannot be read")?;
                if asn != 0 {
                    self.add(Fact::Origin, family, first, last, asn);
                    let value = self.country_value(field(behind + 1));
                    self.add(Fact::AsCountry, Family::As, asn.into(), asn.into(), value);
                    self.add_name(asn, field(behind + 2));
                }
            }
        }
        Ok(())
    }
}

/// The reader counts empty lines to the row behind them.
fn line_of_row(text: &[u8], before: &csv::Position) -> u64 {
    let start = usize::try_from(before.byte()).unwrap_or(usize::MAX);
    let rest = text.get(start..).unwrap_or_default();
    let breaks = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    (before.line()..)
        .zip(breaks.filter(|byte| **byte == b'\n'))
        .last()
        .map_or(before.line(), |(line, _)| line + 1)
}

fn parse_range(first: &str, last: &str) -> Option<(Family, u128, u128)> {
    if let (Ok(first), Ok(last)) = (first.parse::<u128>(), last.parse::<u128>()) {
        let family = if last <= Family::V4.last() {
            Family::V4
        } else {
            Family::V6
        };
        return Some((family, first, last));
    }
    let (family, first) = number(first.parse::<IpAddr>().ok()?);
    let (last_family, last) = number(last.parse::<IpAddr>().ok()?);
    (family == last_family).then_some((family, first, last))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "helpers of tests")]
    use super::super::steps_of;
    use super::*;
    use crate::jurisdiction::Country;
    use crate::jurisdiction::source::{Meta, Source};

    fn read(text: &str, meaning: Ranges) -> Result<Source, BadData> {
        let mut draft = Draft::default();
        draft.ranges(text.as_bytes(), meaning)?;
        draft.finish(Meta {
            name: "t".into(),
            licence: "l".into(),
            attribution: "a".into(),
            built: 1_781_654_400,
        })
    }

    fn countries(source: &Source, fact: Fact, family: Family) -> Vec<(u128, String)> {
        let steps = steps_of(source, fact, family).unwrap();
        steps
            .iter()
            .map(|step| {
                let country = Country::from_number(step.value);
                (step.start, country.map_or("-".into(), |c| c.to_string()))
            })
            .collect()
    }

    #[test]
    fn addresses_numbers_and_prefixes_say_the_same() {
        for text in [
            "1.0.0.0,1.0.0.255,AU\n1.0.1.0,1.0.3.255,CN\n",
            "16777216,16777471,AU\n16777472,16778239,CN\n",
            "first,last,country\n1.0.1.0/24,CN\n1.0.2.0/23,CN\n# a remark\n1.0.0.0/24,AU",
            "1.0.0.0\t1.0.0.255\tau\n1.0.1.0\t1.0.3.255\tcn\n",
        ] {
            let source = read(text, Ranges::Location).unwrap();
            assert_eq!(
                countries(&source, Fact::Location, Family::V4),
                [
                    (0, "-".into()),
                    (16_777_216, "AU".into()),
                    (16_777_472, "CN".into()),
                    (16_778_240, "-".into())
                ],
                "{text}"
            );
        }
    }

    #[test]
    fn a_code_that_means_no_country_hides_the_wider_row() {
        let source = read(
            "10.0.0.0/8,DE\n10.1.0.0/16,EU\n10.2.0.0/16,UK\n",
            Ranges::Registration,
        )
        .unwrap();
        let found: Vec<String> = countries(&source, Fact::Registration, Family::V4)
            .into_iter()
            .map(|(_, code)| code)
            .collect();
        assert_eq!(found, ["-", "DE", "-", "GB", "DE", "-"]);
    }

    #[test]
    fn bad_rows_are_named_by_their_line() {
        let line = |text, meaning| match read(text, meaning) {
            Err(BadData::Row { line, .. }) => line,
            other => panic!("{text:?} gave {other:?}"),
        };
        assert_eq!(line("1.0.0.0,1.0.0.255,AU\nx,y,AU\n", Ranges::Location), 2);
        assert_eq!(line("a,b,c\n1.0.0.9,1.0.0.1,AU\n", Ranges::Location), 2);
        assert_eq!(line("a,b,c\n\n1.0.0.0,::1,AU\n", Ranges::Location), 3);
        assert_eq!(line("a,b,c\n1.0.0.0/33,AU\n", Ranges::Location), 2);
        assert_eq!(line("a,b,c\n1.0.0.0/24,ASX\n", Ranges::Origin), 2);
        assert_eq!(
            read("heading only\n", Ranges::Location).unwrap_err(),
            BadData::NothingKnown
        );
    }

    #[test]
    fn origins_carry_names_and_the_layout_of_iptoasn_countries_too() {
        let source = read(
            "1.0.0.0\t1.0.0.255\t13335\tUS\tCLOUDFLARENET\n2.0.0.0\t2.0.0.9\t0\tNone\tNot routed\n",
            Ranges::OriginAndCountry,
        )
        .unwrap();
        assert_eq!(
            countries(&source, Fact::AsCountry, Family::As)[1],
            (13335, "US".into())
        );
        let steps = steps_of(&source, Fact::Origin, Family::V4).unwrap();
        assert_eq!(
            steps.iter().map(|step| step.value).collect::<Vec<_>>(),
            [0, 13335, 0]
        );
        assert!(source.names.is_some());
        let v6 = read(
            "2001:db8::,2001:db8::ff,AS174,\"Cogent, Inc\"\n",
            Ranges::Origin,
        )
        .unwrap();
        assert_eq!(
            steps_of(&v6, Fact::Origin, Family::V6).unwrap()[1].value,
            174
        );
    }
}
