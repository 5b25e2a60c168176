//! Addresses of interfaces.
use super::{Family, Netlink};
use anyhow::Result;
use ipnet::IpNet;
use netlink_bindings::rt_addr::{IfaFlags, Ifaddrmsg, Request};
use std::thread;
use std::time::Duration;

/// The routing table of a machine's own addresses.
const LOCAL: u32 = libc::RT_TABLE_LOCAL as u32;
/// How often, and how long apart, a new address is looked for in it.
const ATTEMPTS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(2);

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Index of the interface.
    pub link: u32,
    /// The address and the length of its network's prefix.
    pub net: IpNet,
}

impl Netlink {
    /// Gives an interface an address. Nobody is asked whether he has it already, and it is usable when this returns: the
    /// kernel finishes an IPv6 address a moment after it has agreed to it, which is waited for if the interface is on.
    ///
    /// # Errors
    /// If the interface has it already or is not there, the family is switched off, or for want of rights.
    pub fn add_address(&mut self, link: &str, net: IpNet) -> Result<()> {
        let mut request = Request::new()
            .set_create()
            .set_excl()
            .op_newaddr_do(&self.address_header(link, net)?);
        request
            .encode()
            .push_local(net.addr())
            .push_address(net.addr());
        self.acknowledged(&request, || format!("give {link} the address {net}"))?;
        if net.addr().is_ipv6() {
            self.wait_for(net)?;
        }
        Ok(())
    }

    /// Takes an address from an interface.
    ///
    /// # Errors
    /// If the interface does not have it or is not there, or for want of rights.
    pub fn remove_address(&mut self, link: &str, net: IpNet) -> Result<()> {
        let mut request = Request::new().op_deladdr_do(&self.address_header(link, net)?);
        request.encode().push_local(net.addr());
        self.acknowledged(&request, || format!("take the address {net} from {link}"))
    }

    /// All addresses of all interfaces.
    ///
    /// # Errors
    /// If the kernel refuses the dump.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        let request = Request::new().op_getaddr_dump(&Ifaddrmsg::new());
        let mut addresses = Vec::new();
        self.dump(&request, "list the addresses", |(header, attributes)| {
            let own = attributes
                .get_local()
                .or_else(|_| attributes.get_address())
                .ok();
            if let Some(net) = own.and_then(|own| IpNet::new(own, header.ifa_prefixlen).ok()) {
                addresses.push(Address {
                    link: header.ifa_index,
                    net,
                });
            }
        })?;
        Ok(addresses)
    }

    /// Waits until an IPv6 address has its route, by which the kernel takes packets for it. On an interface that is off
    /// this does not happen; then there is nothing to wait for.
    fn wait_for(&mut self, net: IpNet) -> Result<()> {
        let own = IpNet::from(net.addr());
        for _ in 0..ATTEMPTS {
            let routes = self.routes(Family::V6, LOCAL)?;
            if routes.iter().any(|route| route.destination == own) {
                break;
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn address_header(&mut self, link: &str, net: IpNet) -> Result<Ifaddrmsg> {
        Ok(Ifaddrmsg {
            ifa_family: Family::of(net.addr()).raw(),
            ifa_prefixlen: net.prefix_len(),
            ifa_flags: IfaFlags::Nodad as u8,
            ifa_index: self.index(link)?,
            ..Ifaddrmsg::new()
        })
    }
}
