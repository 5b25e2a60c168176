//! What is inside packets, as far as several rooms read it: a cursor over bytes, lines of text, the client hello of TLS
//! and where QUIC carries it.

pub(crate) mod bytes;
pub(crate) mod hello;
pub(crate) mod quic;
pub(crate) mod text;
