//! The client hello of TLS (RFC 8446, section 4.1.2) and DTLS (RFC 6347, section 4.2.1): whom the client asks for.

use super::bytes::Bytes;
use std::ops::Range;

/// Extension types: RFC 6066, section 3, and RFC 9849, section 5. All others are stepped over, among them the values
/// that clients make up (RFC 8701).
const SERVER_NAME: u16 = 0;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// What a client hello says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientHello {
    /// Where the server name lies in the payload.
    pub(crate) server_name: Option<Range<usize>>,
    /// It carries an encrypted client hello, or pretends to: the server name may stand for another one.
    pub(crate) encrypted: bool,
    /// It was read to its end, and names no more than one server.
    pub(crate) whole: bool,
}

impl ClientHello {
    /// Reads the body of the message as far as it is there. That of DTLS (`datagrams`) has a cookie more.
    pub(crate) fn read(body: Bytes<'_>, datagrams: bool) -> Self {
        let mut hello = Self::default();
        hello.whole = hello.fill(body, datagrams).is_some();
        hello
    }

    fn fill(&mut self, mut body: Bytes<'_>, datagrams: bool) -> Option<()> {
        body.skip(2 + 32)?;
        let session = body.u8()?;
        body.skip(usize::from(session))?;
        if datagrams {
            let cookie = body.u8()?;
            body.skip(usize::from(cookie))?;
        }
        let suites = body.u16()?;
        body.skip(usize::from(suites))?;
        let compressions = body.u8()?;
        body.skip(usize::from(compressions))?;
        if body.is_empty() {
            return Some(());
        }
        let declared = usize::from(body.u16()?);
        let is_whole = declared == body.len();
        let mut names = 0;
        while !body.is_empty() {
            let kind = body.u16()?;
            let length = body.u16()?;
            let extension = body.sub(usize::from(length))?;
            if kind == SERVER_NAME {
                names += 1;
                self.server_name = Some(host_name(extension)?);
            }
            self.encrypted |= kind == ENCRYPTED_CLIENT_HELLO;
        }
        (is_whole && names <= 1).then_some(())
    }
}

/// The first name of the list, which is the only one that may be there.
fn host_name(mut extension: Bytes<'_>) -> Option<Range<usize>> {
    extension.u16()?;
    extension.u8().filter(|kind| *kind == 0)?;
    let length = extension.u16()?;
    extension.span(usize::from(length))
}

/// Client hellos for tests.
#[cfg(test)]
pub(crate) mod samples {
    /// The handshake message with these extensions.
    pub(crate) fn message(extensions: &[(u16, &[u8])]) -> Vec<u8> {
        let mut all = Vec::new();
        for (kind, body) in extensions {
            all.extend(kind.to_be_bytes());
            all.extend((body.len() as u16).to_be_bytes());
            all.extend(*body);
        }
        let mut body = vec![3, 3];
        body.extend([5; 32]);
        body.extend([0, 0, 2, 0x13, 1, 1, 0]);
        body.extend((all.len() as u16).to_be_bytes());
        body.extend(all);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        message
    }

    /// The body of the extension that names a server.
    pub(crate) fn server_name(name: &[u8]) -> Vec<u8> {
        let mut body = (name.len() as u16 + 3).to_be_bytes().to_vec();
        body.push(0);
        body.extend((name.len() as u16).to_be_bytes());
        body.extend(name);
        body
    }

    /// The message in one record.
    pub(crate) fn record(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![22, 3, 1];
        bytes.extend((message.len() as u16).to_be_bytes());
        bytes.extend(message);
        bytes
    }

    /// A hello for this server, in one record.
    pub(crate) fn hello(name: &[u8]) -> Vec<u8> {
        record(&message(&[(0, &server_name(name))]))
    }
}

#[cfg(test)]
mod tests {
    use super::samples::{message, server_name};
    use super::*;

    fn read(message: &[u8]) -> (Option<String>, bool, bool) {
        let mut body = Bytes::new(message);
        body.skip(4);
        let hello = ClientHello::read(body, false);
        let name = hello
            .server_name
            .map(|span| String::from_utf8_lossy(&message[span]).into_owned());
        (name, hello.encrypted, hello.whole)
    }

    #[test]
    fn the_name_is_found_among_made_up_extensions() {
        let name = server_name(b"a.example");
        let message = message(&[(0x2a2a, b""), (0, &name), (51, &[7; 1200]), (0x5a5a, b"\0")]);
        assert_eq!(read(&message), (Some("a.example".into()), false, true));
        assert!(!read(&message[..message.len() - 1]).2, "cut short");
    }

    #[test]
    fn an_encrypted_hello_is_recognised_and_a_second_name_is_not_believed() {
        let name = server_name(b"outer.example");
        let ech = message(&[(0xfe0d, &[0, 0, 1, 0, 1]), (0, &name)]);
        assert_eq!(read(&ech), (Some("outer.example".into()), true, true));
        let twice = message(&[(0, &name), (0, &name)]);
        assert!(!read(&twice).2);
        assert_eq!(read(&message(&[])), (None, false, true));
    }
}
