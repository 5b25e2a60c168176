//! A source as an mmdb file, in the shape that other tools read.

use super::column::{Column, Fact};
use super::names::AsNames;
use super::rows::Family;
use super::source::Source;
use super::{BadData, Country};
use mmdb_writer::{Ipv4Aliasing, Value, Writer};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, UNIX_EPOCH};

/// Writes the locations (`country.iso_code`), registrations (`registered_country.iso_code`) and origins
/// (`autonomous_system_number`, `autonomous_system_organization`) of a source as an mmdb file. IPv4 addresses are not
/// aliased into IPv6.
pub fn write_mmdb(source: &Source) -> Result<Vec<u8>, BadData> {
    let says = |fact| source.columns.iter().any(|column| column.fact == fact);
    // Readers for one shape look for its name in the type.
    let kind = match (
        says(Fact::Location) || says(Fact::Registration),
        says(Fact::Origin),
    ) {
        (_, true) => "Cordon-ASN (shape of GeoLite2-ASN)",
        (true, false) => "Cordon-Country (shape of GeoLite2-Country)",
        (false, false) => return Err(BadData::NothingKnown),
    };
    let meta = source.meta();
    let description = format!("{}, {}; {}", meta.name, meta.licence, meta.attribution);
    let mut writer = Writer::builder(kind)
        .description(&[("en", description.as_str())])
        .ipv4_aliasing(Ipv4Aliasing::Disabled)
        .build_epoch(UNIX_EPOCH + Duration::from_secs(meta.built))
        .build();
    let names = AsNames::new(source.names.iter().cloned().collect());
    for family in [Family::V4, Family::V6] {
        insert(&mut writer, source, family, &names)?;
    }
    writer
        .to_bytes()
        .map_err(|error| BadData::Mmdb(error.to_string()))
}

fn insert(
    writer: &mut Writer,
    source: &Source,
    family: Family,
    names: &AsNames,
) -> Result<(), BadData> {
    let columns: Vec<&Column> = source
        .columns
        .iter()
        .filter(|column| column.family == family)
        .collect();
    let bodies: Vec<_> = columns
        .iter()
        .map(|column| column.bytes())
        .collect::<Result<_, _>>()?;
    let mut lanes = Vec::new();
    for (column, body) in columns.iter().zip(&bodies) {
        let mut steps = column.steps(body)?;
        let head = steps.next()?;
        lanes.push((column.fact, steps, head, 0));
    }
    let mut values: HashMap<Vec<u32>, Option<Value>> = HashMap::new();
    while let Some(start) = lanes
        .iter()
        .filter_map(|lane| lane.2)
        .map(|step| step.start)
        .min()
    {
        for (_, steps, head, now) in &mut lanes {
            if let Some(step) = head.filter(|step| step.start == start) {
                *now = step.value;
                *head = steps.next()?;
            }
        }
        let next = lanes
            .iter()
            .filter_map(|lane| lane.2)
            .map(|step| step.start)
            .min();
        let last = next.map_or(family.last(), |next| next - 1);
        let now: Vec<u32> = lanes.iter().map(|lane| lane.3).collect();
        let facts = lanes.iter().map(|lane| lane.0);
        let value = values
            .entry(now.clone())
            .or_insert_with(|| record(facts.zip(now), names));
        if let Some(value) = value {
            writer
                .insert_range(address(family, start), address(family, last), value)
                .map_err(|error| BadData::Mmdb(error.to_string()))?;
        }
    }
    Ok(())
}

fn record(facts: impl Iterator<Item = (Fact, u32)>, names: &AsNames) -> Option<Value> {
    let mut fields: Vec<(&str, Value)> = Vec::new();
    for (fact, value) in facts.filter(|(_, value)| *value != 0) {
        let code = || {
            let country = Country::from_number(value)?;
            Some(Value::map([("iso_code", Value::from(country.to_string()))]))
        };
        match fact {
            Fact::Location => fields.extend(code().map(|code| ("country", code))),
            Fact::Registration => fields.extend(code().map(|code| ("registered_country", code))),
            Fact::Origin => {
                fields.push(("autonomous_system_number", Value::from(value)));
                let name = names
                    .name(value)
                    .map(|name| ("autonomous_system_organization", Value::from(name)));
                fields.extend(name);
            }
            Fact::Anycast => fields.push(("is_anycast", Value::from(value == 1))),
            Fact::AsCountry | Fact::Operator => {}
        }
    }
    if fields.is_empty() {
        None
    } else {
        Some(Value::map(fields))
    }
}

fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::V4 | Family::As => {
            Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into()
        }
        Family::V6 => Ipv6Addr::from_bits(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::import::{Draft, Ranges};
    use super::super::source::Meta;
    use super::*;

    #[test]
    fn what_is_written_reads_back_the_same_by_another_reader_and_by_our_own() {
        let mut draft = Draft::default();
        draft
            .ranges(
                b"1.0.0.0,1.0.0.255,AU\n1.0.1.0,1.0.3.9,CN\n2001:db8::,2001:db8::5,DE\n",
                Ranges::Location,
            )
            .unwrap();
        draft
            .ranges(b"1.0.0.0,1.0.1.255,13335,Cloudflare\n", Ranges::Origin)
            .unwrap();
        let meta = Meta {
            name: "t".into(),
            licence: "l".into(),
            attribution: "a".into(),
            built: 1_781_654_400,
        };
        let source = draft.finish(meta).unwrap();
        let file = write_mmdb(&source).unwrap();
        let reader = maxminddb::Reader::from_source(file.as_slice()).unwrap();
        reader.verify().unwrap();
        let country = |address: &str| {
            let found = reader.lookup(address.parse().unwrap()).unwrap();
            let path = [
                maxminddb::PathElement::Key("country"),
                maxminddb::PathElement::Key("iso_code"),
            ];
            found.decode_path::<String>(&path).unwrap()
        };
        assert_eq!(country("1.0.3.9").as_deref(), Some("CN"));
        assert_eq!(country("1.0.3.10"), None);
        assert_eq!(country("2001:db8::5").as_deref(), Some("DE"));
        assert_eq!(country("2001:db8::6"), None);

        let mut again = Draft::default();
        again.mmdb(&file).unwrap();
        let again = again.finish(source.meta().clone()).unwrap();
        for (a, b) in source.columns.iter().zip(&again.columns) {
            assert_eq!((a.fact, a.family), (b.fact, b.family));
            assert_eq!(a.bytes(), b.bytes());
        }
        assert_eq!(
            AsNames::new(again.names.into_iter().collect()).name(13335),
            Some("Cloudflare")
        );
    }
}
