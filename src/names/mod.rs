//! Which name a client asked for when it talks to an address.
