//! Addresses of interfaces.
use super::{Family, Netlink};
use anyhow::Result;
use ipnet::IpNet;
use netlink_bindings::rt_addr::{IfaFlags, Ifaddrmsg, Request};

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Index of the interface.
    pub link: u32,
    /// The address and the length of its network's prefix.
    pub net: IpNet,
}

impl Netlink {
    /// Gives an interface an address. IPv6 addresses are usable at once: nobody is asked whether he has it already.
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
        self.acknowledged(&request, || format!("give {link} the address {net}"))
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
