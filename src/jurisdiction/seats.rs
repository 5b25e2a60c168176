//! Where autonomous systems are registered.

use super::column::{Column, Fact};
use super::source::Source;
use super::{Asn, BadData, Country};

/// Where autonomous systems are registered, by one source.
pub(super) struct Seats {
    /// By number, for those that are in use today: hardly any needs a search.
    dense: Vec<Option<Country>>,
    /// As steps over the numbers beyond.
    sparse: Vec<(Asn, Option<Country>)>,
}

/// Beyond the numbers assigned so far.
const DENSE: Asn = 1 << 19;

impl Seats {
    fn read(column: &Column) -> Result<Self, BadData> {
        let body = column.bytes()?;
        let mut encoded = column.steps(&body)?;
        // Room that is not used costs nothing; growing would cost copies.
        let (mut dense, mut sparse) = (Vec::with_capacity(DENSE as usize), Vec::new());
        let mut holds = None;
        while let Some(step) = encoded.next()? {
            let asn = Asn::try_from(step.start).map_err(|_| BadData::Corrupt("an AS number"))?;
            dense.resize(asn.min(DENSE) as usize, holds);
            holds = Country::from_number(step.value);
            if asn >= DENSE {
                sparse.push((asn, holds));
            }
        }
        if sparse.is_empty() {
            sparse.push((0, holds));
        }
        Ok(Self { dense, sparse })
    }

    pub(super) fn of(&self, asn: Asn) -> Option<Country> {
        if let Some(country) = self.dense.get(asn as usize) {
            return *country;
        }
        let behind = self.sparse.partition_point(|(start, _)| *start <= asn);
        self.sparse.get(behind.checked_sub(1)?)?.1
    }
}

/// By each source that tells, in their order.
pub(super) fn seats(sources: &[Source]) -> Result<Vec<Seats>, BadData> {
    let columns = sources.iter().flat_map(|source| &source.columns);
    let told = columns.filter(|column| column.fact == Fact::AsCountry);
    told.map(Seats::read).collect()
}
