//! mmdb files of any schema in circulation. The fields are found by name, whatever else a record holds.

use super::{Draft, parse_asn};
use crate::jurisdiction::column::Fact;
use crate::jurisdiction::rows::{Family, Row, number};
use crate::jurisdiction::source::Meta;
use crate::jurisdiction::{BadData, Country, special};
use maxminddb::{MaxMindDbError, Reader, WithinOptions};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";

/// The metadata lies in the last 128 KiB (MaxMind DB format 2.0).
const METADATA_ROOM: usize = 128 << 10;

/// Whether bytes claim to be an mmdb file.
pub fn is_mmdb(bytes: &[u8]) -> bool {
    let tail = bytes.len().saturating_sub(METADATA_ROOM + MARKER.len());
    bytes
        .get(tail..)
        .is_some_and(|end| end.windows(MARKER.len()).any(|window| window == MARKER))
}

/// What an mmdb file says of itself: its type as the name, its build date. Licence and attribution it does not tell.
pub fn mmdb_meta(bytes: &[u8]) -> Result<Meta, BadData> {
    let reader = Reader::from_source(bytes).map_err(bad)?;
    let metadata = reader.metadata();
    Ok(Meta {
        name: metadata.database_type.clone(),
        licence: "unknown".into(),
        attribution: String::new(),
        built: Meta::check_built(metadata.build_epoch)?,
    })
}

impl Draft {
    /// Adds every fact of an mmdb file. Understood are `country_code`, `country` (a map with `iso_code`, or a code),
    /// `registered_country`, `autonomous_system_number` and `asn` (a number or `AS174`) with the name beside them,
    /// `is_anycast`, and the last three also under `traits`.
    ///
    /// The file's own check ([`Reader::verify`]) is no gate: widely used files fail it by an empty description. Instead
    /// the whole tree is walked, within a bound, so that damage shows here and not in the middle of a look-up.
    pub fn mmdb(&mut self, bytes: &[u8]) -> Result<(), BadData> {
        self.came_from(bytes);
        let reader = Reader::from_source(bytes).map_err(bad)?;
        let mut rows = Gathered::default();
        let mut seen: HashMap<usize, Values> = HashMap::new();
        // A sound tree has one leaf more than nodes; the IPv4 part may hang in it at up to four places more. A damaged
        // one may share subtrees without end, so empty and aliased leaves are counted as well.
        let bound = u64::from(reader.metadata().node_count)
            .saturating_add(2)
            .saturating_mul(8);
        let every_leaf = WithinOptions::default()
            .include_networks_without_data()
            .include_aliased_networks();
        for (count, leaf) in (0..).zip(reader.networks(every_leaf).map_err(bad)?) {
            if count > bound {
                return Err(BadData::Corrupt(
                    "the search tree (it has more leaves than nodes)",
                ));
            }
            let leaf = leaf.map_err(bad)?;
            let Some(offset) = leaf.offset() else {
                continue;
            };
            let network = leaf.network().map_err(bad)?;
            // An alias of the IPv4 part: such addresses are unwrapped before any table is asked.
            if special::unwrap(network.ip()).1.is_some() {
                continue;
            }
            let values = match seen.get(&offset) {
                Some(values) => *values,
                None => {
                    let record = leaf
                        .decode::<Record<'_>>()
                        .map_err(bad)?
                        .unwrap_or_default();
                    let values = self.values(&record);
                    seen.insert(offset, values);
                    values
                }
            };
            rows.add(network.ip(), network.prefix(), values)?;
        }
        rows.into_draft(self);
        if self.rows.is_empty() {
            Err(BadData::NothingKnown)
        } else {
            Ok(())
        }
    }

    fn values(&mut self, record: &Record<'_>) -> Values {
        let origin = [
            record.autonomous_system_number,
            record.asn,
            record.traits.autonomous_system_number,
        ]
        .into_iter()
        .find_map(Loose::asn)
        .unwrap_or(0);
        let name = [
            record.autonomous_system_organization,
            record.as_name,
            record.as_organization,
            record.traits.autonomous_system_organization,
        ];
        if let Some(name) = name
            .into_iter()
            .find_map(Loose::text)
            .filter(|_| origin != 0)
        {
            self.add_name(origin, name);
        }
        let anycast = [record.is_anycast, record.traits.is_anycast]
            .into_iter()
            .find_map(Loose::flag);
        Values {
            // `country_code` first: where both stand, `country` is the country's name.
            location: [record.country_code, record.country]
                .into_iter()
                .find_map(Loose::country)
                .unwrap_or(0),
            registration: record.registered_country.country().unwrap_or(0),
            origin,
            anycast: anycast.map_or(0, |yes| if yes { 1 } else { 2 }),
        }
    }
}

/// What one record says, as columns hold it; 0 is nothing.
#[derive(Clone, Copy, Default)]
struct Values {
    location: u32,
    registration: u32,
    origin: u32,
    anycast: u32,
}

/// Rows by fact and family. The tree is walked in order of addresses, so neighbours that say the same are joined.
#[derive(Default)]
struct Gathered([[Vec<Row>; 2]; 4]);

const FACTS: [Fact; 4] = [
    Fact::Location,
    Fact::Registration,
    Fact::Origin,
    Fact::Anycast,
];
const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

impl Gathered {
    fn add(&mut self, address: IpAddr, length: u8, values: Values) -> Result<(), BadData> {
        let (family, first) = number(address);
        let width = if family == Family::V4 { 32 } else { 128 };
        let host_bits =
            u32::from(u8::checked_sub(width, length).ok_or(BadData::Corrupt("the search tree"))?);
        let last = first
            | 1u128
                .checked_shl(host_bits)
                .map_or(u128::MAX, |bit| bit - 1);
        let values = [
            values.location,
            values.registration,
            values.origin,
            values.anycast,
        ];
        for (by_family, value) in self.0.iter_mut().zip(values) {
            let [v4, v6] = by_family;
            let rows = if family == Family::V4 { v4 } else { v6 };
            match rows.last_mut() {
                _ if value == 0 => {}
                Some(row) if row.value == value && row.last.checked_add(1) == Some(first) => {
                    row.last = last
                }
                _ => rows.push(Row { first, last, value }),
            }
        }
        Ok(())
    }

    fn into_draft(self, draft: &mut Draft) {
        for (fact, by_family) in FACTS.into_iter().zip(self.0) {
            for (family, rows) in FAMILIES.into_iter().zip(by_family) {
                for row in rows {
                    draft.add(fact, family, row.first, row.last, row.value);
                }
            }
        }
    }
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Record<'a> {
    #[serde(borrow)]
    country_code: Loose<'a>,
    #[serde(borrow)]
    country: Loose<'a>,
    #[serde(borrow)]
    registered_country: Loose<'a>,
    #[serde(borrow)]
    autonomous_system_number: Loose<'a>,
    #[serde(borrow)]
    asn: Loose<'a>,
    #[serde(borrow)]
    autonomous_system_organization: Loose<'a>,
    #[serde(borrow)]
    as_name: Loose<'a>,
    #[serde(borrow)]
    as_organization: Loose<'a>,
    #[serde(borrow)]
    is_anycast: Loose<'a>,
    #[serde(borrow)]
    traits: Traits<'a>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Traits<'a> {
    #[serde(borrow)]
    autonomous_system_number: Loose<'a>,
    #[serde(borrow)]
    autonomous_system_organization: Loose<'a>,
    #[serde(borrow)]
    is_anycast: Loose<'a>,
}

/// A field whose type differs from schema to schema.
#[derive(Clone, Copy, Default)]
enum Loose<'a> {
    #[default]
    Absent,
    Text(&'a str),
    Number(u64),
    Flag(bool),
    /// A map, of which only `iso_code` counts.
    IsoCode(&'a str),
}

impl<'a> Loose<'a> {
    fn text(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Absent | Self::Number(_) | Self::Flag(_) | Self::IsoCode(_) => None,
        }
    }

    fn country(self) -> Option<u32> {
        match self {
            Self::Text(code) | Self::IsoCode(code) => match Country::parse(code) {
                Ok(country) | Err(crate::jurisdiction::BadCountry::Alias(country)) => {
                    Some(country.number())
                }
                Err(_) => None,
            },
            Self::Absent | Self::Number(_) | Self::Flag(_) => None,
        }
    }

    fn asn(self) -> Option<u32> {
        match self {
            Self::Text(text) => parse_asn(text),
            Self::Number(number) => u32::try_from(number).ok(),
            Self::Absent | Self::Flag(_) | Self::IsoCode(_) => None,
        }
    }

    fn flag(self) -> Option<bool> {
        match self {
            Self::Flag(flag) => Some(flag),
            Self::Number(number) => Some(number != 0),
            Self::Text(text) => text.parse().ok(),
            Self::Absent | Self::IsoCode(_) => None,
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Loose<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(LooseVisitor)
    }
}

struct LooseVisitor;

impl<'de> Visitor<'de> for LooseVisitor {
    type Value = Loose<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Loose::Text(text))
    }

    fn visit_str<E>(self, _text: &str) -> Result<Self::Value, E> {
        Ok(Loose::Absent)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(Loose::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Loose::Number(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(number).map_or(Loose::Absent, Loose::Number))
    }

    fn visit_u128<E>(self, _number: u128) -> Result<Self::Value, E> {
        Ok(Loose::Absent)
    }

    fn visit_f64<E>(self, _number: f64) -> Result<Self::Value, E> {
        Ok(Loose::Absent)
    }

    fn visit_bytes<E>(self, _bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(Loose::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Loose::Absent)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Loose::Absent;
        while let Some(key) = map.next_key::<&str>()? {
            if key == "iso_code" {
                if let Loose::Text(code) = map.next_value()? {
                    found = Loose::IsoCode(code);
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

fn bad(error: MaxMindDbError) -> BadData {
    BadData::Mmdb(error.to_string())
}
