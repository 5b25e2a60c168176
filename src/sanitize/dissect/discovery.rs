//! Discovery on the LAN in text: SSDP (UPnP Device Architecture 2.0, section 1) and WS-Discovery (OASIS 2009).

use super::shape::{Set, Shape};
use super::{Notes, Reading, text};
use crate::sanitize::class::Class;
use crate::sanitize::finding::Leak;

const DEVICE: Leak = Leak::new("discovery.device", Class::DeviceId, "device identifier");
const NAME: Leak = Leak::new("discovery.name", Class::HostName, "friendly name");
const SOFTWARE: Leak = Leak::new("discovery.software", Class::Software, "software");

pub(super) const LEAKS: &[Leak] = &[DEVICE, NAME, SOFTWARE];

/// Of the three first lines, or of a document after white space.
pub(super) const SHAPE: Shape = Shape::first(Set::of(b"MNH< \t\n\r\x0c"));

pub(super) fn read(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    ssdp(payload, notes).or_else(|| ws_discovery(payload, notes))
}

fn ssdp(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    let (first, _) = text::line(payload)?;
    if ![
        &b"M-SEARCH * HTTP/1.1"[..],
        b"NOTIFY * HTTP/1.1",
        b"HTTP/1.1 200 OK",
    ]
    .contains(&first)
    {
        return None;
    }
    for (start, line) in text::lines(payload).skip(1) {
        let Some((name, value)) = text::header(line, start) else {
            continue;
        };
        match name.to_ascii_uppercase().as_slice() {
            b"USN" | b"CPUUID.UPNP.ORG" => notes.certain(&DEVICE, value),
            b"CPFN.UPNP.ORG" => notes.certain(&NAME, value),
            b"SERVER" | b"USER-AGENT" => notes.certain(&SOFTWARE, value),
            _ => {}
        }
    }
    Some(Reading::clear("ssdp"))
}

fn ws_discovery(payload: &[u8], notes: &mut Notes<'_>) -> Option<Reading> {
    if !payload.trim_ascii_start().starts_with(b"<") || !payload.trim_ascii_end().ends_with(b">") {
        return None;
    }
    text::find(payload, b"/ws/2005/04/discovery")
        .or_else(|| text::find(payload, b"/ws-dd/ns/discovery"))?;
    let address = text::between(payload, 0, b"EndpointReference>", b"</")
        .and_then(|place| text::between(payload, place.start, b"Address>", b"<"));
    if let Some(address) = address {
        notes.certain(&DEVICE, address);
    }
    Some(Reading::clear("ws-discovery"))
}

#[cfg(test)]
mod tests {
    use super::super::notes::testing::found;
    use super::*;

    #[test]
    fn an_announcement_tells_the_device_and_a_search_its_software() {
        let told = found(
            read,
            b"NOTIFY * HTTP/1.1\r\nUSN: uuid:1234::rootdevice\r\nSERVER: Linux/5 UPnP/1.0\r\n\r\n",
        )
        .unwrap();
        assert_eq!(told[0].leak, "discovery.device");
        assert_eq!(told[1].class, Class::Software);
        assert_eq!(found(read, b"GET / HTTP/1.1\r\n\r\n"), None);
    }

    #[test]
    fn a_probe_match_tells_the_endpoint() {
        let soap = b"<?xml?><e xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\"><wsa:EndpointReference><wsa:Address>urn:uuid:77</wsa:Address></wsa:EndpointReference></e>";
        let told = found(read, soap).unwrap();
        assert_eq!(&soap[told[0].span.clone()], b"urn:uuid:77");
    }
}
