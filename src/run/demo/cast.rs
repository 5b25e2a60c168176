//! Who takes part: servers with real-world addresses, so that the embedded data gives real answers, and what each is
//! for. The app's messages are invented: the layout of 2021 was never published.

use std::net::{IpAddr, SocketAddr};

/// The number of the user who joins.
pub(super) const USER: u32 = 512_345_687;
/// The room that is joined.
pub(super) const ROOM: &str = "M5xk2Rj9";

/// What a server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Answers names.
    Resolver,
    /// The app's own API, encrypted.
    Api,
    /// Measures the quality of a room's connection: the join ping goes there.
    Qos,
    /// One of those pinged to find the fastest route.
    Route,
    /// Built into an old library as a bare address.
    BuiltIn,
    /// The voice operator's own edge, announced from many places.
    Edge,
    /// A relay for audio that somebody else runs.
    Relay,
    /// The user's own exit, in a jurisdiction of the user's choice.
    Exit,
}

/// A server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pub(super) role: Role,
    pub(super) address: &'static str,
    pub(super) port: u16,
    /// The name by which the app finds it, if it asks for one.
    pub(super) name: Option<&'static str>,
    /// Nothing at all may reach it: judged by hand, apart from the policy that is on trial.
    pub(super) forbidden: bool,
}

impl Server {
    pub(super) fn socket(&self) -> Option<SocketAddr> {
        self.address
            .parse::<IpAddr>()
            .ok()
            .map(|address| SocketAddr::new(address, self.port))
    }
}

impl Role {
    /// For the table.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Resolver => "resolver",
            Self::Api => "API",
            Self::Qos => "QoS server",
            Self::Route => "route probe",
            Self::BuiltIn => "built-in address",
            Self::Edge => "audio edge",
            Self::Relay => "audio relay",
            Self::Exit => "exit",
        }
    }
}

const fn server(
    role: Role,
    address: &'static str,
    port: u16,
    name: Option<&'static str>,
    forbidden: bool,
) -> Server {
    Server {
        role,
        address,
        port,
        name,
        forbidden,
    }
}

/// All of them.
pub(super) const SERVERS: [Server; 16] = [
    server(Role::Resolver, "9.9.9.9", 53, None, false),
    server(
        Role::Api,
        "34.102.136.180",
        443,
        Some("www.clubhouseapi.com"),
        false,
    ),
    server(
        Role::Qos,
        "23.248.186.179",
        8130,
        Some("qos-america.agoralab.co"),
        false,
    ),
    server(
        Role::Route,
        "23.248.186.180",
        8000,
        Some("us.edge.agora.io"),
        false,
    ),
    server(Role::Route, "88.198.55.10", 8000, None, false),
    server(Role::Route, "128.199.150.10", 8000, None, false),
    server(Role::Route, "133.242.0.3", 8000, None, false),
    server(Role::Route, "114.114.114.114", 8000, None, true),
    server(Role::Route, "223.5.5.5", 8000, None, true),
    server(Role::Route, "2400:3200::1", 8000, None, true),
    server(Role::BuiltIn, "52.80.192.229", 8000, None, true),
    server(Role::BuiltIn, "47.96.234.219", 8000, None, true),
    server(Role::BuiltIn, "120.92.118.34", 8000, None, true),
    server(Role::Edge, "103.153.24.10", 25_000, None, true),
    server(Role::Relay, "88.198.55.11", 4000, None, false),
    server(Role::Exit, "5.9.0.1", 1080, None, false),
];

/// Those of one role.
pub(super) fn of(role: Role) -> impl Iterator<Item = &'static Server> {
    SERVERS.iter().filter(move |server| server.role == role)
}

/// Where names are asked for.
pub(super) fn resolvers() -> Vec<String> {
    SERVERS
        .iter()
        .filter(|server| server.role == Role::Resolver)
        .map(|server| server.address.to_owned())
        .collect()
}
