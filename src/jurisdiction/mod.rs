//! Under whose jurisdiction an address lies: several facts, not one.
//!
//! Where an address is located, where its block is registered, who originates it, who operates it, where that operator
//! is seated and whether it is anycast are different questions with different answers, and the sources that answer them
//! disagree for one range in six. So everything is kept: [`AddressFacts`] holds every country that any source names,
//! and how far they agree.
//!
//! The order of work for an address is: take out an embedded IPv4 address, name its special range, and only then ask
//! the tables. At load all [`Source`]s are merged into one table of ranges ([`Data::compile`]), so a look-up is one
//! search however many sources there are.

mod column;
mod combinations;
mod compile;
mod country;
mod data;
mod embedded;
mod export;
mod fine;
mod groups;
mod import;
mod joined;
mod lanes;
mod merge;
mod names;
mod operators;
mod pack;
mod place;
mod rows;
mod seats;
mod source;
mod special;
mod table;
mod written;

use std::net::IpAddr;

pub use column::Fact;
pub use country::{BadCountry, Country, CountrySet, FewCountries};
pub use data::{Answer, Data, Says, SourceInfo};
pub use export::write_mmdb;
pub use groups::{Group, Groups};
pub use import::{Draft, Format, Label, Ranges, is_mmdb, mmdb_meta};
pub use operators::{Operator, Operators};
pub use pack::{is_compact, sha256};
pub use rows::Family;
pub use source::{Freshness, Meta, Source};
pub use special::{Embedding, Special};
pub(crate) use written::{asn, country, network};

/// A number of an autonomous system (RFC 6793).
pub type Asn = u32;

/// Which entry of the operator file. Only [`Data::operator`] of the snapshot that gave it tells which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorId(pub(crate) u16);

/// Whether an address is announced from many places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Anycast {
    /// It is, by the operator's own documents or a loaded source.
    Yes,
    /// A loaded source says that it is not.
    No,
    /// Nobody says.
    #[default]
    Unknown,
}

impl Anycast {
    /// Its name as the commands print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown => "unknown",
        }
    }
}

/// How far the loaded sources agree on the country: all that locate the address or name its registration have a voice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Confidence {
    /// All that answer say the same, and there are at least two.
    Unanimous,
    /// More than half say the same.
    Majority,
    /// No answer has more than half.
    Contested,
    /// Only one source answers.
    Single,
    /// None answers.
    #[default]
    None,
}

impl Confidence {
    /// Its name as the commands print it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unanimous => "unanimous",
            Self::Majority => "majority",
            Self::Contested => "contested",
            Self::Single => "single",
            Self::None => "none",
        }
    }
}

/// Everything the data says about an address. Plain data: names are looked up in [`Data`] by id.
///
/// A rule that blocks should fire if *any* known fact touches what it names ([`AddressFacts::touches`]); a rule that
/// allows, only if *all* known facts lie inside ([`AddressFacts::is_within`]). That asymmetry is what keeps contested
/// data safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressFacts {
    /// The address the tables were asked for: embedded IPv4 addresses (mapped, 6to4, Teredo, NAT64) are unwrapped.
    pub looked_up_as: IpAddr,
    /// How `looked_up_as` was embedded in the address, if it was.
    pub embedded: Option<Embedding>,
    /// Its special range, if it lies in one. Then no other fact is known.
    pub special: Option<Special>,
    /// Where most sources locate it; of equally many, the answer of the first source.
    pub country: Option<Country>,
    /// Every country where some source locates it.
    pub located: FewCountries,
    /// Where the address block is registered, by the first source that tells.
    pub registered: Option<Country>,
    /// Every country where some source says it is registered.
    pub registered_in: FewCountries,
    /// Who originates it, by the first source that tells.
    pub asn: Option<Asn>,
    /// Who operates it: by prefix, else by origin.
    pub operator: Option<OperatorId>,
    /// The seat of whoever controls it: that of `operator`, from the operator file; if there is none, the country
    /// where its autonomous system is registered.
    pub operator_country: Option<Country>,
    /// Announced from many places? Then a location is one place of many.
    pub anycast: Anycast,
    /// How far the sources agree.
    pub confidence: Confidence,
}

impl AddressFacts {
    /// Nothing is known.
    #[cfg(test)]
    pub(crate) fn unknown(address: IpAddr) -> Self {
        Self {
            looked_up_as: address,
            embedded: None,
            special: None,
            country: None,
            located: FewCountries::of(None),
            registered: None,
            registered_in: FewCountries::of(None),
            asn: None,
            operator: None,
            operator_country: None,
            anycast: Anycast::Unknown,
            confidence: Confidence::None,
        }
    }

    /// Every country that any fact names: location, registration, the operator's seat.
    pub fn countries(&self) -> FewCountries {
        let all = self.located.union(&self.registered_in);
        all.union(&FewCountries::of(self.operator_country))
    }

    /// Whether any known fact lies in `set`: the question of a rule that blocks.
    pub fn touches(&self, set: &CountrySet) -> bool {
        self.located.intersects(set)
            || self.registered_in.intersects(set)
            || self.operator_country.is_some_and(|seat| set.contains(seat))
    }

    /// Whether facts are known and all of them lie in `set`: the question of a rule that allows. The location of an
    /// anycast address is one of many places, so there the operator's seat must be known too.
    pub fn is_within(&self, set: &CountrySet) -> bool {
        let seat_inside = self.operator_country.map(|seat| set.contains(seat));
        let known =
            !self.located.is_empty() || !self.registered_in.is_empty() || seat_inside.is_some();
        known
            && self.located.is_within(set)
            && self.registered_in.is_within(set)
            && seat_inside.unwrap_or(self.anycast != Anycast::Yes)
    }

    /// Whether it is on this machine or its own network: loopback, link-local, private. Such an address has no country
    /// and needs none. One that is embedded in an IPv6 address is not local: it is reached through a translator or a
    /// relay elsewhere, and must not pass for the LAN.
    pub fn is_local(&self) -> bool {
        self.embedded.is_none()
            && matches!(
                self.special,
                Some(Special::Loopback | Special::LinkLocal | Special::Private)
            )
    }
}

/// Why bytes are not a source. Each is one sentence without the file's
/// name, which whoever read the file puts before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadData {
    /// Neither a compact nor an mmdb file.
    #[error(
        "it is neither an mmdb nor a Cordon data file; if it is text, say what it holds (`kind`)"
    )]
    Foreign,
    /// A compact file of another version.
    #[error(
        "it has version {0}, which this program does not read; build it again with `cordon db build`"
    )]
    Version(u8),
    /// It ends too early.
    #[error("it is cut short")]
    Truncated,
    /// Its content is not what was written.
    #[error("it is damaged: its digest does not match its content")]
    Digest,
    /// A part makes no sense.
    #[error("it is damaged: {0} cannot be read")]
    Corrupt(&'static str),
    /// More than any honest file holds.
    #[error("it is larger than any honest data file")]
    TooLarge,
    /// A build date that cannot be one, in seconds since the Unix epoch.
    #[error("its build date ({0} seconds after 1970) cannot be right")]
    Date(u64),
    /// What the mmdb reader says.
    #[error("it is not a sound mmdb file: {0}")]
    Mmdb(String),
    /// No row, or no field that this program knows.
    #[error("it holds no fact that this program knows")]
    NothingKnown,
    /// A row of a text file.
    #[error("line {line} cannot be used: {why}")]
    Row {
        /// Counted from 1.
        line: u64,
        /// In words.
        why: &'static str,
    },
    /// More operators, sources or ranges than can be numbered.
    #[error("there are too many {0}")]
    TooMany(&'static str),
}
