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
    (b"accesskey", &CREDENTIAL),
    (b"accesstoken", &CREDENTIAL),
    (b"account", &PERSON),
    (b"accountid", &PERSON),
    (b"accountname", &PERSON),
    (b"adid", &DEVICE),
    (b"advertiserid", &DEVICE),
    (b"advertisingid", &DEVICE),
    (b"androiddeviceid", &DEVICE),
    (b"androidid", &DEVICE),
    (b"apikey", &CREDENTIAL),
    (b"apisecret", &CREDENTIAL),
    (b"apitoken", &CREDENTIAL),
    (b"appsecret", &CREDENTIAL),
    (b"aspsessionid", &SESSION),
    (b"authcode", &CREDENTIAL),
    (b"authkey", &CREDENTIAL),
    (b"authorization", &CREDENTIAL),
    (b"authtoken", &CREDENTIAL),
    (b"bearer", &CREDENTIAL),
    (b"birthdate", &PERSON),
    (b"birthday", &PERSON),
    (b"bssid", &DEVICE),
    (b"btmac", &DEVICE),
    (b"cellid", &LOCATION),
    (b"channel", &CHANNEL),
    (b"channelid", &CHANNEL),
    (b"channelname", &CHANNEL),
    (b"chatid", &CHANNEL),
    (b"chatroom", &CHANNEL),
    (b"clientassertion", &CREDENTIAL),
    (b"clienthostname", &HOST),
    (b"clientsecret", &CREDENTIAL),
    (b"computer", &HOST),
    (b"computername", &HOST),
    (b"conferenceid", &CHANNEL),
    (b"coord", &LOCATION),
    (b"coordinates", &LOCATION),
    (b"coords", &LOCATION),
    (b"credential", &CREDENTIAL),
    (b"credentials", &CREDENTIAL),
    (b"customerid", &PERSON),
    (b"dateofbirth", &PERSON),
    (b"deviceid", &DEVICE),
    (b"deviceidentifier", &DEVICE),
    (b"deviceimei", &DEVICE),
    (b"devicemac", &DEVICE),
    (b"devicename", &HOST),
    (b"deviceserial", &DEVICE),
    (b"devicetoken", &CREDENTIAL),
    (b"deviceuid", &DEVICE),
    (b"deviceuuid", &DEVICE),
    (b"devname", &HOST),
    (b"did", &DEVICE),
    (b"displayname", &PERSON),
    (b"dob", &PERSON),
    (b"duid", &DEVICE),
    (b"email", &PERSON),
    (b"emailaddress", &PERSON),
    (b"firstname", &PERSON),
    (b"fullname", &PERSON),
    (b"gaid", &DEVICE),
    (b"geo", &LOCATION),
    (b"geolat", &LOCATION),
    (b"geolng", &LOCATION),
    (b"geolocation", &LOCATION),
    (b"geolon", &LOCATION),
    (b"geopoint", &LOCATION),
    (b"gps", &LOCATION),
    (b"gpsadid", &DEVICE),
    (b"gpsaid", &DEVICE),
    (b"gpslat", &LOCATION),
    (b"gpslatitude", &LOCATION),
    (b"gpslon", &LOCATION),
    (b"gpslongitude", &LOCATION),
    (b"groupid", &CHANNEL),
    (b"hardwareaddress", &DEVICE),
    (b"hardwareid", &DEVICE),
    (b"host", &HOST),
    (b"hostname", &HOST),
    (b"hwaddr", &DEVICE),
    (b"hwid", &DEVICE),
    (b"iccid", &DEVICE),
    (b"idfa", &DEVICE),
    (b"idfamd5", &DEVICE),
    (b"idfv", &DEVICE),
    (b"idtoken", &CREDENTIAL),
    (b"ifa", &DEVICE),
    (b"imei", &DEVICE),
    (b"imeimd5", &DEVICE),
    (b"imsi", &PERSON),
    (b"installid", &DEVICE),
    (b"jsessionid", &SESSION),
    (b"jwt", &CREDENTIAL),
    (b"lastname", &PERSON),
    (b"lat", &LOCATION),
    (b"latitude", &LOCATION),
    (b"latlng", &LOCATION),
    (b"latlon", &LOCATION),
    (b"latlong", &LOCATION),
    (b"ll", &LOCATION),
    (b"lng", &LOCATION),
    (b"loc", &LOCATION),
    (b"localhostname", &HOST),
    (b"location", &LOCATION),
    (b"locationlat", &LOCATION),
    (b"locationlon", &LOCATION),
    (b"login", &PERSON),
    (b"loginid", &PERSON),
    (b"loginname", &PERSON),
    (b"loginpassword", &CREDENTIAL),
    (b"logintoken", &CREDENTIAL),
    (b"lon", &LOCATION),
    (b"longitude", &LOCATION),
    (b"mac", &DEVICE),
    (b"macaddr", &DEVICE),
    (b"macaddress", &DEVICE),
    (b"machineid", &DEVICE),
    (b"machinename", &HOST),
    (b"macid", &DEVICE),
    (b"mail", &PERSON),
    (b"mailaddress", &PERSON),
    (b"mcid", &DEVICE),
    (b"meetingid", &CHANNEL),
    (b"meid", &DEVICE),
    (b"memberid", &PERSON),
    (b"mobile", &PERSON),
    (b"mobileno", &PERSON),
    (b"mobilenumber", &PERSON),
    (b"mobilephone", &PERSON),
    (b"msisdn", &PERSON),
    (b"mylat", &LOCATION),
    (b"mylon", &LOCATION),
    (b"newpassword", &CREDENTIAL),
    (b"nickname", &PERSON),
    (b"nodename", &HOST),
    (b"oaid", &DEVICE),
    (b"oaidmd5", &DEVICE),
    (b"oauthtoken", &CREDENTIAL),
    (b"openid", &PERSON),
    (b"openudid", &DEVICE),
    (b"otp", &CREDENTIAL),
    (b"pass", &CREDENTIAL),
    (b"passcode", &CREDENTIAL),
    (b"passphrase", &CREDENTIAL),
    (b"passwd", &CREDENTIAL),
    (b"password", &CREDENTIAL),
    (b"patientid", &PERSON),
    (b"pcname", &HOST),
    (b"personid", &PERSON),
    (b"phone", &PERSON),
    (b"phoneno", &PERSON),
    (b"phonenumber", &PERSON),
    (b"phpsessid", &SESSION),
    (b"pincode", &CREDENTIAL),
    (b"playerid", &PERSON),
    (b"position", &LOCATION),
    (b"privatekey", &CREDENTIAL),
    (b"privatetoken", &CREDENTIAL),
    (b"pushtoken", &CREDENTIAL),
    (b"pwd", &CREDENTIAL),
    (b"realname", &PERSON),
    (b"refreshtoken", &CREDENTIAL),
    (b"room", &CHANNEL),
    (b"roomid", &CHANNEL),
    (b"roomname", &CHANNEL),
    (b"roomno", &CHANNEL),
    (b"secret", &CREDENTIAL),
    (b"secretkey", &CREDENTIAL),
    (b"securitytoken", &CREDENTIAL),
    (b"serial", &DEVICE),
    (b"serialno", &DEVICE),
    (b"serialnumber", &DEVICE),
    (b"sessid", &SESSION),
    (b"session", &SESSION),
    (b"sessionid", &SESSION),
    (b"sessionkey", &SESSION),
    (b"sessiontoken", &CREDENTIAL),
    (b"sessionuuid", &SESSION),
    (b"sid", &SESSION),
    (b"ssn", &PERSON),
    (b"surname", &PERSON),
    (b"tel", &PERSON),
    (b"telephone", &PERSON),
    (b"token", &CREDENTIAL),
    (b"udid", &DEVICE),
    (b"uid", &PERSON),
    (b"uin", &PERSON),
    (b"uname", &PERSON),
    (b"user", &PERSON),
    (b"useremail", &PERSON),
    (b"userid", &PERSON),
    (b"userlat", &LOCATION),
    (b"userlng", &LOCATION),
    (b"userlon", &LOCATION),
    (b"username", &PERSON),
    (b"userpassword", &CREDENTIAL),
    (b"usertoken", &CREDENTIAL),
    (b"usr", &PERSON),
    (b"uuid", &DEVICE),
    (b"vendorid", &DEVICE),
    (b"wifimac", &DEVICE),
    (b"wifimacaddress", &DEVICE),
    (b"xauthtoken", &CREDENTIAL),
];

/// Length of a key.
const LONGEST: u32 = 16;

/// The names as numbers in the same order: numbers are quicker to compare.
static KEYS: [u128; NAMES.len()] = keys();

const fn keys() -> [u128; NAMES.len()] {
    let mut keys = [0; NAMES.len()];
    let (mut places, mut names): (&mut [u128], _) = (&mut keys, NAMES);
    while let ([place, later @ ..], [(name, _), rest @ ..]) = (places, names) {
        let (mut length, mut bytes): (u32, &[u8]) = (0, name);
        while let [byte, tail @ ..] = bytes {
            *place = *place << 8 | *byte as u128;
            length += 1;
            bytes = tail;
        }
        assert!(length <= LONGEST, "a name is longer than a key");
        *place <<= 8 * (LONGEST - length);
        (places, names) = (later, rest);
    }
    keys
}

/// What a value of this name is.
fn meaning(name: &[u8]) -> Option<&'static Leak> {
    let (mut key, mut length) = (0_u128, 0);
    for byte in name {
        if !matches!(byte, b'-' | b'_' | b'.' | b'[' | b']') {
            length += 1;
            if length > LONGEST {
                return None;
            }
            key = key << 8 | u128::from(byte.to_ascii_lowercase());
        }
    }
    let key = key.checked_shl(8 * (LONGEST - length))?;
    let index = KEYS.binary_search(&key).ok()?;
    NAMES.get(index).map(|(_, leak)| *leak)
}

/// Tells a value by its name, if both say something.
pub(super) fn pair(name: &[u8], value: &[u8], span: Range<usize>, notes: &mut Notes<'_>) {
    const EMPTY: [&[u8]; 5] = [b"null", b"none", b"undefined", b"true", b"false"];
    if value.len() < 2 {
        return;
    }
    if let Some(leak) = meaning(name)
        && !EMPTY.iter().any(|empty| empty.eq_ignore_ascii_case(value))
    {
        // A coordinate is a number.
        if leak.class == Class::Location && !value.iter().any(u8::is_ascii_digit) {
            return;
        }
        // A device's name has no dot, a server's has.
        if leak.class == Class::HostName && value.contains(&b'.') && name.len() == b"host".len() {
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
    while let Some(name) = quoted(text, at) {
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
            Some(b'"') => quoted(text, from),
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

/// `<name>value</name>`, at any depth; prefixes of names count for nothing.
pub(super) fn xml(text: &[u8], start: usize, notes: &mut Notes<'_>) {
    let mut at = 0;
    while let Some(open) = memchr::memchr(b'<', text.get(at..).unwrap_or_default()) {
        let from = at + open + 1;
        let rest = text.get(from..).unwrap_or_default();
        let Some(close) = memchr::memchr2(b'>', b'<', rest) else {
            return;
        };
        at = from + close;
        let tag = rest.get(..close).unwrap_or_default();
        let name = tag.split(|byte| b" \t\r\n/".contains(byte)).next();
        let name = name.unwrap_or_default().rsplit(|byte| *byte == b':').next();
        let value = rest.get(close + 1..).unwrap_or_default();
        let length = memchr::memchr(b'<', value).unwrap_or(value.len());
        // Only what an end tag follows.
        if let (Some(name), Some(b"</")) = (name, value.get(length..length + 2)) {
            let value = text::trimmed(value.get(..length).unwrap_or_default(), at + 1);
            let bytes = text.get(value.clone()).unwrap_or_default();
            pair(name, bytes, value.start + start..value.end + start, notes);
        }
    }
}

/// The fields of a form in parts (RFC 7578), as far as they are text.
pub(super) fn multipart(text: &[u8], start: usize, notes: &mut Notes<'_>) {
    let mut at = 0;
    while let Some(name) = text::between(text, at, b" name=\"", b"\"") {
        at = name.end;
        let Some(value) = text::between(text, at, b"\r\n\r\n", b"\r\n--") else {
            return;
        };
        at = value.end;
        let (name, bytes) = (text.get(name), text.get(value.clone()));
        let (name, bytes) = (name.unwrap_or_default(), bytes.unwrap_or_default());
        pair(name, bytes, value.start + start..value.end + start, notes);
    }
}

/// A body of whatever form it looks like.
pub(super) fn any(text: &[u8], start: usize, notes: &mut Notes<'_>) {
    match text.trim_ascii_start() {
        [b'{' | b'[', ..] => json(text, start, notes),
        [b'<', ..] => xml(text, start, notes),
        [b'-', b'-', ..] => multipart(text, start, notes),
        _ if text.is_ascii() => query(text, start, notes),
        _ => {}
    }
}

/// The place of what stands between the next two quotes.
fn quoted(text: &[u8], from: usize) -> Option<Range<usize>> {
    let start = from + memchr::memchr(b'"', text.get(from..)?)? + 1;
    let length = memchr::memchr(b'"', text.get(start..)?)?;
    Some(start..start + length)
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
    fn bodies_tell_alike_in_every_form() {
        let expected = [
            ("parameter.person", "anne".to_owned()),
            ("parameter.credential", "s3cret".to_owned()),
        ];
        for body in [
            &b"user=anne&password=s3cret"[..],
            b" {\"user\":\"anne\",\"password\":\"s3cret\"}",
            b"<e:Body><w:User a=\"b\"> anne </w:User><n/><Password>s3cret</Password></e:Body>",
            b"--x\r\nContent-Disposition: form-data; name=\"user\"\r\n\r\nanne\r\n--x\r\n\
            Content-Disposition: form-data; name=\"password\"\r\n\r\ns3cret\r\n--x--\r\n",
        ] {
            assert_eq!(told(body, any), expected, "{}", body.escape_ascii());
        }
        assert_eq!(told(b"user=anne\xff", any), []);
    }

    #[test]
    fn broken_json_ends_quietly() {
        for text in [&b"{\"user\":\"x"[..], b"\"", b"{\"user\":", b"\"\"\"\":::"] {
            told(text, json);
            told(text, any);
        }
    }
}
