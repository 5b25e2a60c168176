//! Who is on the links: IP addresses and the hardware addresses behind them.
use super::Netlink;
use anyhow::Result;
use netlink_bindings::rt_neigh::{Ndmsg, Request};
use std::net::IpAddr;

/// A neighbour the kernel knows (ARP, RFC 826; neighbour discovery, RFC 4861).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// Index of the interface it is on.
    pub link: u32,
    /// Its IP address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: [u8; 6],
}

impl Netlink {
    /// All neighbours with a known Ethernet address, of both families.
    ///
    /// # Errors
    /// If the kernel refuses the dump.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>> {
        let request = Request::new().op_getneigh_dump(&Ndmsg::new());
        let mut neighbours = Vec::new();
        self.dump(&request, "list the neighbours", |(header, attributes)| {
            let mac = attributes
                .get_lladdr()
                .ok()
                .and_then(|bytes| <[u8; 6]>::try_from(bytes).ok())
                // Entries without ARP (loopback, TUN, multicast) carry zeros.
                .filter(|mac| *mac != [0; 6]);
            if let (Some(mac), Ok(address), Ok(link)) =
                (mac, attributes.get_dst(), u32::try_from(header.ndm_ifindex))
            {
                neighbours.push(Neighbour { link, address, mac });
            }
        })?;
        Ok(neighbours)
    }
}
