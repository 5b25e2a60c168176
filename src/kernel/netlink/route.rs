//! Routes.
use super::{Family, Netlink};
use anyhow::Result;
use ipnet::IpNet;
use netlink_bindings::rt_route::{PushRouteAttrs, Request, RtmType, Rtmsg};
use netlink_bindings::traits::Pusher;
use std::net::IpAddr;

/// Where packets for a destination go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Out of an interface, to a router on it or straight to the destination.
    Device {
        /// The interface's name.
        name: String,
        /// The next router.
        via: Option<IpAddr>,
    },
    /// Nowhere, and the sender is told.
    Unreachable,
    /// Nowhere, silently.
    Blackhole,
    /// On with the next policy rule, as if this table had no route.
    Throw,
}

/// A route in one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Which destinations; length 0 is the default route.
    pub destination: IpNet,
    /// The table: 254 is `main`.
    pub table: u32,
    /// Of two routes to the same destination the one with the lower metric wins; 0 leaves the choice to the kernel.
    pub metric: u32,
    /// Where to.
    pub target: Target,
}

impl Route {
    /// The number of the table `main`.
    pub const MAIN: u32 = libc::RT_TABLE_MAIN as u32;

    /// The default route of a family.
    pub fn default_of(family: Family) -> IpNet {
        match family {
            Family::V4 => IpNet::V4(ipnet::Ipv4Net::default()),
            Family::V6 => IpNet::V6(ipnet::Ipv6Net::default()),
        }
    }

    /// A route in the table `main`.
    pub fn main(destination: IpNet, device: &str, via: Option<IpAddr>) -> Self {
        Self {
            destination,
            table: Self::MAIN,
            metric: 0,
            target: Target::Device {
                name: device.to_owned(),
                via,
            },
        }
    }
}

impl std::fmt::Display for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.target {
            Target::Device { name, via: None } => write!(f, "{} dev {name}", self.destination)?,
            Target::Device {
                name,
                via: Some(via),
            } => write!(f, "{} via {via} dev {name}", self.destination)?,
            Target::Unreachable => write!(f, "unreachable {}", self.destination)?,
            Target::Blackhole => write!(f, "blackhole {}", self.destination)?,
            Target::Throw => write!(f, "throw {}", self.destination)?,
        }
        write!(f, " table {}", self.table)
    }
}

impl Netlink {
    /// Adds a route.
    ///
    /// # Errors
    /// If the same one is there, the interface is not there or down, or for want of rights.
    pub fn add_route(&mut self, route: &Route) -> Result<()> {
        let mut request = Request::new()
            .set_create()
            .set_excl()
            .op_newroute_do(&header(route));
        let device = self.device(route)?;
        push(request.encode(), route, device);
        self.acknowledged(&request, || format!("add the route {route}"))
    }

    /// Removes a route.
    ///
    /// # Errors
    /// If it is not there (any more), or for want of rights.
    pub fn remove_route(&mut self, route: &Route) -> Result<()> {
        let mut request = Request::new().op_delroute_do(&header(route));
        let device = self.device(route)?;
        push(request.encode(), route, device);
        self.acknowledged(&request, || format!("remove the route {route}"))
    }

    /// All routes of one table. Routes with several next hops are left out.
    ///
    /// # Errors
    /// If the kernel refuses the dump.
    pub fn routes(&mut self, family: Family, table: u32) -> Result<Vec<Route>> {
        let names = self.links()?;
        let mut wanted = Rtmsg::new();
        wanted.rtm_family = family.raw();
        let request = Request::new().op_getroute_dump(&wanted);
        let mut routes = Vec::new();
        self.dump(&request, "list the routes", |(header, attributes)| {
            let number = attributes
                .get_table()
                .unwrap_or_else(|_| u32::from(header.rtm_table));
            // Entries of the routing cache (exceptions) come with the dump, too.
            let cloned = header.rtm_flags & libc::RTM_F_CLONED != 0;
            if number != table || cloned {
                return;
            }
            let destination = match attributes.get_dst() {
                Ok(address) => IpNet::new(address, header.rtm_dst_len).ok(),
                Err(_) => Some(Route::default_of(family)),
            };
            let target = match RtmType::from_value(u64::from(header.rtm_type)) {
                Some(RtmType::Unreachable) => Some(Target::Unreachable),
                Some(RtmType::Blackhole) => Some(Target::Blackhole),
                Some(RtmType::Throw) => Some(Target::Throw),
                _ => attributes.get_oif().ok().and_then(|index| {
                    let (_, name) = names.iter().find(|(known, _)| *known == index)?;
                    Some(Target::Device {
                        name: name.clone(),
                        via: attributes.get_gateway().ok(),
                    })
                }),
            };
            if let (Some(destination), Some(target)) = (destination, target) {
                routes.push(Route {
                    destination,
                    table,
                    metric: attributes.get_priority().unwrap_or(0),
                    target,
                });
            }
        })?;
        Ok(routes)
    }

    /// The index of the interface a route leads out of.
    fn device(&mut self, route: &Route) -> Result<Option<u32>> {
        match &route.target {
            Target::Device { name, .. } => self.index(name).map(Some),
            Target::Unreachable | Target::Blackhole | Target::Throw => Ok(None),
        }
    }
}

fn push<P: Pusher>(mut attributes: PushRouteAttrs<P>, route: &Route, device: Option<u32>) {
    attributes = attributes.push_table(route.table);
    if route.destination.prefix_len() != 0 {
        attributes = attributes.push_dst(route.destination.network());
    }
    if route.metric != 0 {
        attributes = attributes.push_priority(route.metric);
    }
    if let Some(index) = device {
        attributes = attributes.push_oif(index);
    }
    if let Target::Device { via: Some(via), .. } = route.target {
        attributes.push_gateway(via);
    }
}

fn header(route: &Route) -> Rtmsg {
    let (kind, scope) = match &route.target {
        Target::Device { via: Some(_), .. } => (RtmType::Unicast, libc::RT_SCOPE_UNIVERSE),
        Target::Device { via: None, .. } => (RtmType::Unicast, libc::RT_SCOPE_LINK),
        Target::Unreachable => (RtmType::Unreachable, libc::RT_SCOPE_UNIVERSE),
        Target::Blackhole => (RtmType::Blackhole, libc::RT_SCOPE_UNIVERSE),
        Target::Throw => (RtmType::Throw, libc::RT_SCOPE_UNIVERSE),
    };
    Rtmsg {
        rtm_family: Family::of(route.destination.addr()).raw(),
        rtm_dst_len: route.destination.prefix_len(),
        rtm_protocol: libc::RTPROT_STATIC,
        rtm_scope: scope,
        rtm_type: kind as u8,
        ..Rtmsg::new()
    }
}
