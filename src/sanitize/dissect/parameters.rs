//! Named values in queries, forms, JSON and headers: what a name such as `imei` or `lat` says of its value.

use super::Notes;
use super::text;
use crate::sanitize::class::Class;
use crate::sanitize::finding::{Codec, Leak};
use std::ops::Range;

const CREDENTIAL: Leak = Leak::new(
    "parameter.credential",
    Class::Credential,
    "password or token",
)
.with(Codec::Letters);
const PERSON: Leak = Leak::new(
    "parameter.person",
    Class::PersonId,
    "account, name, phone or mail address",
)
.with(Codec::Letters);
const DEVICE: Leak = Leak::new(
    "parameter.device",
    Class::DeviceId,
    "device or advertising identifier",
)
.with(Codec::Letters);
const HOST: Leak = Leak::new("parameter.host", Class::HostName, "device name").with(Codec::Letters);
const CHANNEL: Leak =
    Leak::new("parameter.channel", Class::ChannelId, "room or channel").with(Codec::Letters);
const LOCATION: Leak =
    Leak::new("parameter.location", Class::Location, "coordinates").with(Codec::Letters);
const SESSION: Leak =
    Leak::new("parameter.session", Class::SessionId, "session").with(Codec::Letters);

pub(super) const LEAKS: &[Leak] = &[CREDENTIAL, PERSON, DEVICE, HOST, CHANNEL, LOCATION, SESSION];

/// Names without `-`, `_` and case, sorted, each with what it means.
const NAMES: &[(&[u8], &Leak)] = &[
    (b"aaid", &DEVICE),
    (b"accesstoken", &CREDENTIAL),
    (b"account", &PERSON),
    (b"accountid", &PERSON),
    (b"adid", &DEVICE),
    (b"advertisingid", &DEVICE),
    (b"androidid", &DEVICE),
    (b"apikey", &CREDENTIAL),
    (b"authtoken", &CREDENTIAL),
    (b"channel", &CHANNEL),
    (b"channelid", &CHANNEL),
    (b"channelname", &CHANNEL),
    (b"clientsecret", &CREDENTIAL),
    (b"computername", &HOST),
    (b"deviceid", &DEVICE),
    (b"devicename", &HOST),
    (b"deviceserial", &DEVICE),
    (b"email", &PERSON),
    (b"firstname", &PERSON),
    (b"fullname", &PERSON),
    (b"gaid", &DEVICE),
    (b"gps", &LOCATION),
    (b"gpslat", &LOCATION),
    (b"gpslon", &LOCATION),
    (b"hostname", &HOST),
    (b"hwaddr", &DEVICE),
    (b"idfa", &DEVICE),
    (b"idfv", &DEVICE),
    (b"imei", &DEVICE),
    (b"imsi", &PERSON),
    (b"installid", &DEVICE),
    (b"lastname", &PERSON),
    (b"lat", &LOCATION),
    (b"latitude", &LOCATION),
    (b"latlng", &LOCATION),
    (b"latlon", &LOCATION),
    (b"ll", &LOCATION),
    (b"lng", &LOCATION),
    (b"login", &PERSON),
    (b"lon", &LOCATION),
    (b"longitude", &LOCATION),
    (b"mac", &DEVICE),
    (b"macaddr", &DEVICE),
    (b"macaddress", &DEVICE),
    (b"meid", &DEVICE),
    (b"mobile", &PERSON),
    (b"msisdn", &PERSON),
    (b"nickname", &PERSON),
    (b"oaid", &DEVICE),
    (b"openudid", &DEVICE),
    (b"pass", &CREDENTIAL),
    (b"passwd", &CREDENTIAL),
    (b"password", &CREDENTIAL),
    (b"phone", &PERSON),
    (b"phonenumber", &PERSON),
    (b"pwd", &CREDENTIAL),
    (b"refreshtoken", &CREDENTIAL),
    (b"room", &CHANNEL),
    (b"roomid", &CHANNEL),
    (b"secret", &CREDENTIAL),
    (b"serial", &DEVICE),
    (b"serialnumber", &DEVICE),
    (b"session", &SESSION),
    (b"sessionid", &SESSION),
    (b"token", &CREDENTIAL),
    (b"udid", &DEVICE),
    (b"uid", &PERSON),
    (b"user", &PERSON),
    (b"userid", &PERSON),
    (b"username", &PERSON),
    (b"wifimac", &DEVICE),
    (b"xuidh", &PERSON),
];

/// What a value of this name is.
fn meaning(name: &[u8]) -> Option<&'static Leak> {
    const LONGEST: usize = 16;
    let mut bare = [0; LONGEST];
    let mut length = 0;
    for byte in name.iter().filter(|byte| !b"-_.[]".contains(byte)) {
        *bare.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    let bare = bare.get(..length)?;
    let index = NAMES.binary_search_by_key(&bare, |(name, _)| name).ok()?;
    NAMES.get(index).map(|(_, leak)| *leak)
}

/// Tells a value by its name, if both say something.
pub(super) fn pair(name: &[u8], value: &[u8], span: Range<usize>, notes: &mut Notes<'_>) {
    let empty = [
        &b""[..],
        b"0",
        b"null",
        b"none",
        b"undefined",
        b"true",
        b"false",
    ];
    if value.len() < 2 || empty.iter().any(|empty| empty.eq_ignore_ascii_case(value)) {
        return;
    }
    if let Some(leak) = meaning(name) {
        // A coordinate is a number.
        if leak.class == Class::Location && !value.iter().any(u8::is_ascii_digit) {
            return;
        }
        notes.probable(leak, span);
    }
}

/// `a=b&c=d`, as in a query or a form.
pub(super) fn query(text: &[u8], start: usize, notes: &mut Notes<'_>) {
    let mut at = start;
    for part in text.split(|byte| matches!(byte, b'&' | b';')) {
        if let Some(equals) = memchr::memchr(b'=', part)
            && let Some((name, value)) = part.split_at_checked(equals)
            && let Some(value) = value.get(1..)
        {
            pair(name, value, at + equals + 1..at + part.len(), notes);
        }
        at += part.len() + 1;
    }
}

/// `"name": "value"` and `"name": 12.5`, at any depth.
pub(super) fn json(text: &[u8], start: usize, notes: &mut Notes<'_>) {
    let mut at = 0;
    while let Some(name) = text::between(text, at, b"\"", b"\"") {
        at = name.end + 1;
        let rest = text.get(at..).unwrap_or_default();
        let blank = |bytes: &[u8]| bytes.len() - bytes.trim_ascii_start().len();
        let colon = blank(rest);
        if rest.get(colon) != Some(&b':') {
            continue;
        }
        let from = at + colon + 1;
        let from = from + blank(text.get(from..).unwrap_or_default());
        let value = match text.get(from) {
            Some(b'"') => text::between(text, from, b"\"", b"\""),
            Some(b'0'..=b'9' | b'-') => {
                let number = text.get(from..).unwrap_or_default();
                let length = number
                    .iter()
                    .take_while(|byte| byte.is_ascii_digit() || b"-.eE+".contains(byte))
                    .count();
                Some(from..from + length)
            }
            _ => None,
        };
        if let Some(value) = value {
            let (key, bytes) = (text.get(name), text.get(value.clone()));
            pair(
                key.unwrap_or_default(),
                bytes.unwrap_or_default(),
                value.start + start..value.end + start,
                notes,
            );
            let quoted = text.get(value.end) == Some(&b'"');
            at = value.end + usize::from(quoted);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sanitize::finding::Finding;

    fn told(text: &[u8], read: fn(&[u8], usize, &mut Notes<'_>)) -> Vec<(&'static str, String)> {
        let mut found: Vec<Finding> = Vec::new();
        read(text, 0, &mut Notes::new(text, &mut found));
        found
            .iter()
            .map(|f| {
                (
                    f.leak,
                    String::from_utf8_lossy(&text[f.span.clone()]).into_owned(),
                )
            })
            .collect()
    }

    #[test]
    fn names_are_sorted_for_the_search() {
        assert!(NAMES.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn queries_and_json_tell_alike() {
        let expected = [
            ("parameter.device", "356938035643809".to_owned()),
            ("parameter.location", "52.52".to_owned()),
        ];
        assert_eq!(
            told(b"imei=356938035643809&q=x&LAT=52.52&user=", query),
            expected
        );
        assert_eq!(
            told(
                b"{\"IMEI\":\"356938035643809\",\"a\":[{\"lat\" : 52.52}],\"user\":null}",
                json
            ),
            expected
        );
    }

    #[test]
    fn broken_json_ends_quietly() {
        for text in [&b"{\"user\":\"x"[..], b"\"", b"{\"user\":", b"\"\"\"\":::"] {
            told(text, json);
        }
    }
}
