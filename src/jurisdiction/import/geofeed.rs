//! Self-published location feeds (RFC 8805): `prefix,country,region,city,postal`.

use super::{Draft, parse_prefix};
use crate::jurisdiction::BadData;
use crate::jurisdiction::column::Fact;
use std::net::IpAddr;

impl Draft {
    /// Adds the entries of a feed. What an entry says about the country is a location, never a registration and never
    /// an operator: feeds are their publishers' own word. Entries that cannot be read are skipped, as section 2.1.2
    /// asks, and an empty country means *do not locate*; a feed without a single entry is an error.
    pub fn geofeed(&mut self, text: &[u8]) -> Result<(), BadData> {
        self.came_from(text);
        let text = std::str::from_utf8(text)
            .map_err(|_| BadData::Corrupt("the text (it is not UTF-8)"))?;
        let mut entries = 0usize;
        for line in text.trim_start_matches('\u{feff}').lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let mut fields = line.split(',').map(|field| field.trim().trim_matches('"'));
            let prefix = fields.next().and_then(parse_prefix_or_host);
            let (Some((family, first, last)), Some(code)) = (prefix, fields.next()) else {
                self.skipped += 1;
                continue;
            };
            let value = self.country_value(code);
            self.add(Fact::Location, family, first, last, value);
            entries += 1;
        }
        if entries == 0 {
            return Err(BadData::NothingKnown);
        }
        Ok(())
    }
}

/// A prefix, or one address (section 2.1.1.1 permits it).
fn parse_prefix_or_host(text: &str) -> Option<(super::Family, u128, u128)> {
    if text.contains('/') {
        return parse_prefix(text);
    }
    let (family, bits) = super::number(text.parse::<IpAddr>().ok()?);
    Some((family, bits, bits))
}

#[cfg(test)]
mod tests {
    use super::super::{Family, steps_of};
    use super::*;
    use crate::jurisdiction::source::Meta;

    #[test]
    fn the_example_of_the_rfc_reads_and_broken_entries_are_skipped() {
        let text = "\u{feff}# a feed\n192.0.2.0/25,US,US-AL,,\n192.0.2.5,US,US-AL,Alabaster,\n\
                    192.0.2.128/25,PL,PL-MZ,,\n2001:db8::/32,PL,,,\n2001:db8:cafe::/48,PL,PL-MZ,,02-784\n\
                    192.0.2.64/26,,,,\nnonsense\n300.0.0.0/8,DE,,,\n";
        let mut draft = Draft::default();
        draft.geofeed(text.as_bytes()).unwrap();
        assert_eq!(
            draft.skipped, 3,
            "two broken entries and one that asks not to be located"
        );
        let meta = Meta {
            name: "f".into(),
            licence: "l".into(),
            attribution: "a".into(),
            built: 1_781_654_400,
        };
        let source = draft.finish(meta).unwrap();
        let v4 = steps_of(&source, Fact::Location, Family::V4).unwrap();
        assert_eq!(v4.len(), 5, "nothing, US, nothing, PL, nothing: {v4:?}");
        let v6 = steps_of(&source, Fact::Location, Family::V6).unwrap();
        assert_eq!(v6.len(), 3);
    }

    #[test]
    fn a_feed_without_entries_is_an_error() {
        assert_eq!(
            Draft::default().geofeed(b"<html>\nnot a feed\n</html>"),
            Err(BadData::NothingKnown)
        );
        assert!(Draft::default().geofeed(&[0xff, 0xfe, 0x00]).is_err());
    }
}
