//! Linux as Cordon needs it: links, addresses, routes, rules, nf_tables and namespaces, all spoken to directly.
//!
//! No helper program (`ip`, `nft`, `sysctl`) is started anywhere: a fresh machine has none of them.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the shell: it reads /proc, opens sockets and starts threads and programs"
)]

pub mod divert;
pub mod fastpath;
pub mod heap;
pub mod ingress;
pub mod namespace;
pub mod netlink;
pub mod nft;
pub mod probe;
pub mod schedule;
pub mod settings;
pub mod transaction;
