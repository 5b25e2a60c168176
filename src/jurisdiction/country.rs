//! Countries by code, and sets of them.

use std::fmt;
use std::num::NonZeroU8;
use std::str::FromStr;

/// ISO 3166-1 alpha-2, in order, with the user-assigned `XK` (Kosovo) that address data uses.
const CODES: &[u8; 500] = b"ADAEAFAGAIALAMAOAQARASATAUAWAXAZBABBBDBEBFBGBHBIBJBLBMBNBOBQBRBSBTBVBWBYBZ\
CACCCDCFCGCHCICKCLCMCNCOCRCUCVCWCXCYCZDEDJDKDMDODZECEEEGEHERESETFIFJFKFMFOFRGAGBGDGEGFGGGHGIGLGMGNGPGQGRGSGTGUGWGY\
HKHMHNHRHTHUIDIEILIMINIOIQIRISITJEJMJOJPKEKGKHKIKMKNKPKRKWKYKZLALBLCLILKLRLSLTLULVLYMAMCMDMEMFMGMHMKMLMMMNMOMPMQMRMSMTMUMVMWMXMYMZ\
NANCNENFNGNINLNONPNRNUNZOMPAPEPFPGPHPKPLPMPNPRPSPTPWPYQARERORSRURWSASBSCSDSESGSHSISJSKSLSMSNSOSRSSSTSVSXSYSZ\
TCTDTFTGTHTJTKTLTMTNTOTRTTTVTWTZUAUGUMUSUYUZVAVCVEVGVIVNVUWFWSXKYEYTZAZMZW";

/// A country or territory by its ISO 3166-1 alpha-2 code (and `XK`). Only assigned codes exist, so a mistyped one
/// cannot become a rule that never matches. Ordered as the codes are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Country(NonZeroU8);

/// Why a text is not a country.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCountry {
    /// Not two ASCII letters, or not assigned.
    #[error("is not an ISO 3166-1 alpha-2 country code like DE")]
    Unassigned,
    /// A code that databases use where they mean *no country*: a region, an operator's footprint, an unknown.
    #[error("means “{0}”, which is not a country")]
    Unknown(&'static str),
    /// Withdrawn from ISO 3166-1; what it covered has several codes now.
    #[error("was withdrawn ({0})")]
    Withdrawn(&'static str),
    /// In common use for a country whose code is another.
    #[error("is not the ISO code; write {0}")]
    Alias(Country),
}

impl Country {
    /// How many there are; [`Country::index`] is below it.
    pub const COUNT: usize = CODES.len() / 2;

    /// Reads a code, in either case. Errors say what else the text may mean.
    pub fn parse(text: &str) -> Result<Self, BadCountry> {
        let &[a, b] = text.as_bytes() else {
            return Err(BadCountry::Unassigned);
        };
        let code = [a.to_ascii_uppercase(), b.to_ascii_uppercase()];
        Self::from_code(code).ok_or_else(|| not_a_country(code))
    }

    /// The code as two capital letters.
    pub fn code(self) -> [u8; 2] {
        // Every `Country` comes from a search in `CODES`, so the chunk exists.
        code_at(self.index()).unwrap_or(*b"??")
    }

    /// Its place among all codes in order, below [`Country::COUNT`]; for tables.
    pub fn index(self) -> usize {
        usize::from(self.0.get()) - 1
    }

    /// The country at a place among all codes in order.
    pub fn from_index(index: usize) -> Option<Self> {
        let number = u8::try_from(index.checked_add(1)?).ok()?;
        NonZeroU8::new(number)
            .filter(|_| index < Self::COUNT)
            .map(Self)
    }

    /// The country with this number in a column, where 0 is none and the others are places + 1.
    pub(super) fn from_number(number: u32) -> Option<Self> {
        Self::from_index(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// Its number in a column.
    pub(super) fn number(self) -> u32 {
        self.0.get().into()
    }

    /// All of them, in the order of their codes.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT).filter_map(Self::from_index)
    }

    fn from_code(code: [u8; 2]) -> Option<Self> {
        let (mut low, mut high) = (0, Self::COUNT);
        while low < high {
            let middle = low.midpoint(high);
            match code_at(middle)?.cmp(&code) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Self::from_index(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code();
        f.pad(std::str::from_utf8(&code).unwrap_or("??"))
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Country {
    type Err = BadCountry;

    fn from_str(text: &str) -> Result<Self, BadCountry> {
        Self::parse(text)
    }
}

impl serde::Serialize for Country {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Country {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(|bad| serde::de::Error::custom(format_args!("“{text}” {bad}")))
    }
}

/// A set of countries: 32 bytes, no allocation.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CountrySet([u64; 4]);

impl CountrySet {
    /// The set without members.
    pub const EMPTY: Self = Self([0; 4]);

    /// Adds a country.
    pub fn insert(&mut self, country: Country) {
        if let Some(word) = self.0.get_mut(country.index() / 64) {
            *word |= 1 << (country.index() % 64);
        }
    }

    /// Whether a country is in it.
    pub fn contains(&self, country: Country) -> bool {
        self.0
            .get(country.index() / 64)
            .is_some_and(|word| word >> (country.index() % 64) & 1 == 1)
    }

    /// Whether any country is in both.
    pub fn intersects(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    /// Whether every member is also in `other`; the empty set is within every set.
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a & !b == 0)
    }

    /// The countries in either.
    pub fn union(&self, other: &Self) -> Self {
        let mut both = *self;
        for (word, more) in both.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
        both
    }

    /// Whether it has no member.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// How many members it has.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Its members in the order of their codes.
    pub fn iter(&self) -> impl Iterator<Item = Country> + '_ {
        Country::all().filter(|country| self.contains(*country))
    }
}

impl Extend<Country> for CountrySet {
    fn extend<I: IntoIterator<Item = Country>>(&mut self, countries: I) {
        for country in countries {
            self.insert(country);
        }
    }
}

impl FromIterator<Country> for CountrySet {
    fn from_iter<I: IntoIterator<Item = Country>>(countries: I) -> Self {
        let mut set = Self::EMPTY;
        set.extend(countries);
        set
    }
}

impl fmt::Debug for CountrySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The countries that sources name for one address. Eight bytes, so that facts stay small: seven countries have room.
/// If even more are named, the set counts as holding every country: it touches whatever a rule asks for and lies
/// within nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct FewCountries {
    few: [Option<Country>; 7],
    more: bool,
}

impl FewCountries {
    /// The set of at most one country.
    #[inline]
    pub fn of(country: Option<Country>) -> Self {
        Self {
            few: [country, None, None, None, None, None, None],
            more: false,
        }
    }

    /// Adds a country.
    pub fn insert(&mut self, country: Country) {
        // Kept in order and without gaps, so that equal sets are equal bytes.
        let mut carried = country;
        for slot in &mut self.few {
            match *slot {
                Some(held) if held == carried => return,
                Some(held) if held < carried => {}
                Some(held) => {
                    *slot = Some(carried);
                    carried = held;
                }
                None => {
                    *slot = Some(carried);
                    return;
                }
            }
        }
        self.more = true;
    }

    /// Whether a country is in it.
    pub fn contains(&self, country: Country) -> bool {
        self.more || self.few.contains(&Some(country))
    }

    /// Whether any of its countries is in `set`.
    pub fn intersects(&self, set: &CountrySet) -> bool {
        (self.more && !set.is_empty()) || self.iter().any(|country| set.contains(country))
    }

    /// Whether all of its countries are in `set`; the empty set is within every set.
    pub fn is_within(&self, set: &CountrySet) -> bool {
        !self.more && self.iter().all(|country| set.contains(country))
    }

    /// Whether no source names a country.
    pub fn is_empty(&self) -> bool {
        self.few.iter().all(Option::is_none)
    }

    /// How many countries it lists.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// The countries in either.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        for country in other.iter() {
            self.insert(country);
        }
        self.more |= other.more;
        self
    }

    /// Its countries in the order of their codes.
    pub fn iter(&self) -> impl Iterator<Item = Country> + '_ {
        self.few.iter().flatten().copied()
    }
}

impl FromIterator<Country> for FewCountries {
    fn from_iter<I: IntoIterator<Item = Country>>(countries: I) -> Self {
        let mut few = Self::of(None);
        for country in countries {
            few.insert(country);
        }
        few
    }
}

impl From<FewCountries> for CountrySet {
    fn from(few: FewCountries) -> Self {
        if few.more {
            Country::all().collect()
        } else {
            few.iter().collect()
        }
    }
}

impl fmt::Debug for FewCountries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

fn code_at(index: usize) -> Option<[u8; 2]> {
    CODES.get(index * 2..)?.first_chunk().copied()
}

/// What a code that is not assigned means in the address data in circulation.
fn not_a_country(code: [u8; 2]) -> BadCountry {
    match &code {
        b"UK" => Country::from_code(*b"GB").map_or(BadCountry::Unassigned, BadCountry::Alias),
        b"EL" => Country::from_code(*b"GR").map_or(BadCountry::Unassigned, BadCountry::Alias),
        b"EU" => BadCountry::Unknown("somewhere in Europe"),
        b"AP" => BadCountry::Unknown("somewhere in Asia or the Pacific"),
        b"ZZ" | b"XX" | b"??" => BadCountry::Unknown("unknown"),
        b"A1" => BadCountry::Unknown("anonymous proxy"),
        b"A2" => BadCountry::Unknown("satellite provider"),
        b"A3" => BadCountry::Unknown("anycast"),
        b"T1" => BadCountry::Unknown("Tor"),
        b"O1" => BadCountry::Unknown("other"),
        b"AN" => BadCountry::Withdrawn("Netherlands Antilles: BQ, CW, SX"),
        b"SU" => BadCountry::Withdrawn("Soviet Union"),
        b"CS" => BadCountry::Withdrawn("Serbia and Montenegro: RS, ME"),
        b"YU" => BadCountry::Withdrawn("Yugoslavia"),
        _ => BadCountry::Unassigned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_as_itself_and_they_are_in_order() {
        let all: Vec<Country> = Country::all().collect();
        assert_eq!(all.len(), 250);
        for pair in all.windows(2) {
            assert!(pair[0].code() < pair[1].code(), "{pair:?}");
        }
        for country in all {
            assert_eq!(Country::parse(&country.to_string()), Ok(country));
            assert_eq!(
                country.to_string().to_lowercase().parse::<Country>(),
                Ok(country)
            );
        }
    }

    #[test]
    fn codes_that_mean_no_country_are_refused_with_their_meaning() {
        assert!(matches!(Country::parse("EU"), Err(BadCountry::Unknown(_))));
        assert!(matches!(Country::parse("a3"), Err(BadCountry::Unknown(_))));
        assert!(matches!(
            Country::parse("AN"),
            Err(BadCountry::Withdrawn(_))
        ));
        let Err(BadCountry::Alias(britain)) = Country::parse("uk") else {
            panic!("UK is an alias");
        };
        assert_eq!(britain.to_string(), "GB");
        for text in ["", "C", "CHN", "C1", "é", "QQ"] {
            assert_eq!(Country::parse(text), Err(BadCountry::Unassigned), "{text}");
        }
        assert_eq!(Country::parse("XK").map(|c| c.code()), Ok(*b"XK"));
    }

    #[test]
    fn sets_hold_exactly_what_was_put_in() {
        let [cn, de, zw] = ["CN", "DE", "ZW"].map(|c| Country::parse(c).unwrap());
        let set: CountrySet = [zw, cn, cn].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [cn, zw]);
        assert_eq!(set.len(), 2);
        assert!(set.contains(cn) && !set.contains(de));
        assert!(set.intersects(&CountrySet::from_iter([cn, de])));
        assert!(!set.intersects(&CountrySet::from_iter([de])));
        assert!(CountrySet::from_iter([cn]).is_within(&set));
        assert!(!set.is_within(&CountrySet::from_iter([cn])));
        assert!(CountrySet::EMPTY.is_within(&set) && CountrySet::EMPTY.is_empty());
        assert_eq!(CountrySet::from_iter(Country::all()).len(), Country::COUNT);
    }

    #[test]
    fn few_countries_are_a_set_in_order_and_too_many_count_as_all() {
        let all: Vec<Country> = Country::all().collect();
        let mut few = FewCountries::of(None);
        assert!(few.is_empty() && few.is_within(&CountrySet::EMPTY));
        for at in [30, 10, 20, 10, 40, 5, 50, 60] {
            few.insert(all[at]);
        }
        let listed: Vec<Country> = few.iter().collect();
        assert_eq!(listed, [5, 10, 20, 30, 40, 50, 60].map(|at| all[at]));
        let set: CountrySet = listed.iter().copied().collect();
        assert_eq!(CountrySet::from(few), set);
        assert!(few.is_within(&set) && few.intersects(&set) && !few.contains(all[7]));
        let one = FewCountries::of(Some(all[7]));
        assert!(!one.intersects(&set) && !one.is_within(&set));
        let eight = few.union(&one);
        assert!(
            eight.contains(all[200]) && !eight.is_within(&CountrySet::from_iter(Country::all()))
        );
        assert!(eight.intersects(&CountrySet::from_iter([all[200]])));
        assert_eq!(CountrySet::from(eight).len(), Country::COUNT);
    }
}
