//! What of an answer a client is given.

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::svcb::{SVCB, SvcParamKey, SvcParamValue};
use hickory_proto::rr::{RData, Record};
use std::net::IpAddr;

/// Removes the addresses that `forbids` names, in records and in hints (RFC 9460, section 7.3), if any other is left; of
/// hints all. With `hide` also the keys by which a client could encrypt whom it asks for (RFC 9849).
pub fn screen(message: &mut Message, mut forbids: impl FnMut(IpAddr) -> bool, hide: bool) {
    let verdicts: Vec<Option<bool>> = message
        .answers
        .iter()
        .map(|record| address(record).map(&mut forbids))
        .collect();
    if verdicts.contains(&Some(false)) {
        let mut verdicts = verdicts.into_iter();
        message
            .answers
            .retain(|_| verdicts.next().flatten() != Some(true));
    }
    let sections = [&mut message.answers, &mut message.additionals];
    for record in sections.into_iter().flatten() {
        if let RData::HTTPS(https) = &mut record.data {
            hints(&mut https.0, &mut forbids, hide);
        } else if let RData::SVCB(svcb) = &mut record.data {
            hints(svcb, &mut forbids, hide);
        }
    }
}

/// Whether the answer points to an address that `is_inside` says is none of the internet.
pub fn rebinds(message: &Message, mut is_inside: impl FnMut(IpAddr) -> bool) -> bool {
    let records = message.answers.iter().chain(&message.additionals);
    records.clone().filter_map(address).any(&mut is_inside)
        || records.flat_map(hinted).any(is_inside)
}

/// Whether a name (canonical) is that of one of these domains or below it; a leading dot means nothing.
pub fn is_below(name: &str, domains: &[Box<str>]) -> bool {
    domains.iter().any(|domain| {
        let domain = domain.strip_prefix('.').unwrap_or(domain);
        let rest = name.strip_suffix(domain);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

fn address(record: &Record) -> Option<IpAddr> {
    if let RData::A(address) = &record.data {
        Some(address.0.into())
    } else if let RData::AAAA(address) = &record.data {
        Some(address.0.into())
    } else {
        None
    }
}

fn hinted(record: &Record) -> Vec<IpAddr> {
    let svcb = if let RData::HTTPS(https) = &record.data {
        &https.0
    } else if let RData::SVCB(svcb) = &record.data {
        svcb
    } else {
        return Vec::new();
    };
    let mut addresses = Vec::new();
    for (_, value) in &svcb.svc_params {
        if let SvcParamValue::Ipv4Hint(hint) = value {
            addresses.extend(hint.0.iter().map(|one| IpAddr::V4(one.0)));
        } else if let SvcParamValue::Ipv6Hint(hint) = value {
            addresses.extend(hint.0.iter().map(|one| IpAddr::V6(one.0)));
        }
    }
    addresses
}

fn hints(svcb: &mut SVCB, forbids: &mut impl FnMut(IpAddr) -> bool, hide: bool) {
    let mut gone = Vec::new();
    svcb.svc_params.retain_mut(|(key, value)| {
        let stays = if let SvcParamValue::Ipv4Hint(hint) = value {
            hint.0.retain(|one| !forbids(one.0.into()));
            !hint.0.is_empty()
        } else if let SvcParamValue::Ipv6Hint(hint) = value {
            hint.0.retain(|one| !forbids(one.0.into()));
            !hint.0.is_empty()
        } else {
            !(hide && *key == SvcParamKey::EchConfigList)
        };
        if !stays {
            gone.push(*key);
        }
        stays
    });
    svcb.svc_params.retain_mut(|(_, value)| {
        let SvcParamValue::Mandatory(mandatory) = value else {
            return true;
        };
        mandatory.0.retain(|key| !gone.contains(key));
        !mandatory.0.is_empty()
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::Name;
    use hickory_proto::rr::rdata::svcb::{EchConfigList, IpHint, Mandatory};
    use hickory_proto::rr::rdata::{A, HTTPS};

    fn message(addresses: &[[u8; 4]]) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        for [a, b, c, d] in addresses {
            let data = RData::A(A::new(*a, *b, *c, *d));
            message.add_answer(Record::from_rdata(Name::root(), 60, data));
        }
        message
    }

    fn forbidden(address: IpAddr) -> bool {
        address.to_string().starts_with("1.2.")
    }

    #[test]
    fn forbidden_addresses_go_if_another_is_left_and_stay_if_none_is() {
        let mut mixed = message(&[[1, 2, 4, 8], [192, 0, 2, 1], [1, 2, 3, 4]]);
        screen(&mut mixed, forbidden, false);
        let left: Vec<_> = mixed.answers.iter().filter_map(address).collect();
        assert_eq!(left, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        let mut all = message(&[[1, 2, 4, 8]]);
        screen(&mut all, forbidden, false);
        assert_eq!(
            all.answers.len(),
            1,
            "the flow is to be blocked with its reason"
        );
    }

    #[test]
    fn hints_and_keys_go_and_are_not_mandatory_any_more() {
        let hint = IpHint(vec![A::new(1, 2, 4, 8), A::new(192, 0, 2, 1)]);
        let svcb = SVCB::new(
            1,
            Name::root(),
            vec![
                (
                    SvcParamKey::Mandatory,
                    SvcParamValue::Mandatory(Mandatory(vec![SvcParamKey::EchConfigList])),
                ),
                (SvcParamKey::Ipv4Hint, SvcParamValue::Ipv4Hint(hint)),
                (
                    SvcParamKey::EchConfigList,
                    SvcParamValue::EchConfigList(EchConfigList(vec![1, 2])),
                ),
            ],
        );
        for (hide, keys) in [(false, 3), (true, 1)] {
            let mut message = message(&[]);
            let data = RData::HTTPS(HTTPS(svcb.clone()));
            message.add_answer(Record::from_rdata(Name::root(), 60, data));
            screen(&mut message, forbidden, hide);
            let record = &message.answers[0];
            assert_eq!(hinted(record), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
            let RData::HTTPS(https) = &record.data else {
                panic!("{record:?}")
            };
            assert_eq!(https.0.svc_params.len(), keys);
        }
    }

    #[test]
    fn domains_end_at_labels() {
        let domains = [".lan".into(), "home.arpa".into()];
        assert!(is_below("lan", &domains) && is_below("a.b.home.arpa", &domains));
        assert!(!is_below("plan", &domains) && !is_below("arpa", &domains));
    }
}
