//! What a policy asks of the jurisdiction data beyond the facts of one address.

use crate::document::{Shown, suggestion};
use crate::jurisdiction::{
    AddressFacts, Confidence, Country, CountrySet, Data, Embedding, Groups, OperatorId, Special,
};

/// Whether a destination is a neighbour, which has no country and needs none: loopback, link-local, private, and the
/// carrier's own network (RFC 6598). The other special ranges are not known to be anywhere. An address embedded in
/// another is reached through a translator or relay elsewhere and does not pass for a neighbour.
pub(super) fn is_local(address: &AddressFacts) -> bool {
    let own = matches!(address.embedded, None | Some(Embedding::Mapped));
    own && matches!(
        address.special,
        Some(Special::Loopback | Special::LinkLocal | Special::Private | Special::Cgnat)
    )
}

/// Where an operator has its seat.
pub(super) fn seat(data: &Data, operator: OperatorId) -> Option<Country> {
    data.operator(operator).map(|operator| operator.seat)
}

/// The operators meant by an id: itself and all that belong to it.
pub(super) fn operators(data: &Data, id: &str) -> Result<Vec<OperatorId>, String> {
    let wanted = data.operator_by_id(id).ok_or_else(|| {
        let known = data
            .operators()
            .iter()
            .map(|(_, operator)| operator.id.as_str());
        let near = suggestion(id, known);
        format!("no operator is called `{}`{near}", Shown(id))
    })?;
    let all = data.operators().iter().map(|(id, _)| id);
    Ok(all
        .filter(|id| data.operators().belongs_to(*id, wanted))
        .collect())
}

/// The id of an operator as policies write it.
pub(super) fn operator_id(data: &Data, operator: OperatorId) -> &str {
    data.operator(operator).map_or("", |operator| &operator.id)
}

/// Places an address in countries, as if one source said each; or in none.
pub(super) fn locate(address: &mut AddressFacts, countries: &[Country]) {
    address.country = countries.first().copied();
    address.located = countries.iter().copied().collect();
    address.confidence = match countries {
        [] => Confidence::None,
        [_] => Confidence::Single,
        _ => Confidence::Contested,
    };
}

/// A named group of countries.
pub(super) fn group(groups: &Groups, name: &str) -> Result<CountrySet, String> {
    groups.get(name).map(|group| group.set).ok_or_else(|| {
        let known: Vec<String> = groups.names().map(|name| format!("@{name}")).collect();
        let near = suggestion(&format!("@{name}"), known.iter().map(String::as_str));
        format!("no group of countries is called `@{}`{near}", Shown(name))
    })
}
