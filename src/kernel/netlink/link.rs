//! Interfaces.
use super::{Netlink, Refused, name};
use anyhow::{Context, Result};
use netlink_bindings::rt_link::{IfinfoFlags, Ifinfomsg, PushLinkAttrs, Request};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::{finalize_nested_header, push_nested_header};
use netlink_socket2::ReplyError;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `IFLA_INFO_DATA` of `linux/if_link.h`.
const INFO_DATA: u16 = 2;
/// `VETH_INFO_PEER` of `linux/veth.h`.
const VETH_PEER: u16 = 1;

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// Its name there.
    pub name: &'a str,
    /// The network namespace it is put into; `None` is the one of the connection.
    pub namespace: Option<BorrowedFd<'a>>,
}

impl Netlink {
    /// The index of an interface.
    ///
    /// # Errors
    /// If there is none of that name.
    pub fn index(&mut self, link: &str) -> Result<u32> {
        let mut request = Request::new().op_getlink_do(&Ifinfomsg::new());
        request.encode().push_ifname(&name(link)?);
        let refused =
            |error: &ReplyError| Refused::new(format!("find the interface {link}"), error);
        let mut reply = self
            .socket
            .request(&request)
            .map_err(|error| refused(&error.into()))?;
        let (header, _) = reply.recv_one().map_err(|error| refused(&error))?;
        u32::try_from(header.ifi_index).context("the kernel gave a negative interface index")
    }

    /// The names of all interfaces, with their indexes.
    ///
    /// # Errors
    /// If the kernel refuses the dump.
    pub fn links(&mut self) -> Result<Vec<(u32, String)>> {
        let request = Request::new().op_getlink_dump(&Ifinfomsg::new());
        let mut links = Vec::new();
        self.dump(&request, "list the interfaces", |(header, attributes)| {
            if let (Ok(index), Ok(name)) =
                (u32::try_from(header.ifi_index), attributes.get_ifname())
            {
                links.push((index, name.to_string_lossy().into_owned()));
            }
        })?;
        Ok(links)
    }

    /// Switches an interface on.
    ///
    /// # Errors
    /// If there is none of that name, or for want of rights.
    pub fn up(&mut self, link: &str) -> Result<()> {
        self.switch(link, IfinfoFlags::Up as u32)
    }

    /// Switches an interface off.
    ///
    /// # Errors
    /// If there is none of that name, or for want of rights.
    pub fn down(&mut self, link: &str) -> Result<()> {
        self.switch(link, 0)
    }

    /// Sets the largest packet in bytes, IP header included.
    ///
    /// # Errors
    /// If the interface does not take that size, is not there, or for want of rights.
    pub fn set_mtu(&mut self, link: &str, mtu: u32) -> Result<()> {
        let mut request = Request::new().op_setlink_do(&Ifinfomsg::new());
        request.encode().push_ifname(&name(link)?).push_mtu(mtu);
        self.acknowledged(&request, || format!("set the MTU of {link} to {mtu}"))
    }

    /// Sets how many packets wait in the interface's queue (`txqueuelen`).
    ///
    /// # Errors
    /// If the interface is not there, or for want of rights.
    pub fn set_queue_len(&mut self, link: &str, packets: u32) -> Result<()> {
        let mut request = Request::new().op_setlink_do(&Ifinfomsg::new());
        request
            .encode()
            .push_ifname(&name(link)?)
            .push_txqlen(packets);
        self.acknowledged(&request, || {
            format!("set the queue of {link} to {packets} packets")
        })
    }

    /// Gives an interface (which must be down) another name.
    ///
    /// # Errors
    /// If the new name is taken, the old one unknown, or for want of rights.
    pub fn rename(&mut self, link: &str, to: &str) -> Result<()> {
        let mut header = Ifinfomsg::new();
        header.ifi_index = i32::try_from(self.index(link)?)?;
        let mut request = Request::new().op_setlink_do(&header);
        request.encode().push_ifname(&name(to)?);
        self.acknowledged(&request, || format!("rename {link} to {to}"))
    }

    /// Removes an interface.
    ///
    /// # Errors
    /// If it is not there, cannot be removed, or for want of rights.
    pub fn delete_link(&mut self, link: &str) -> Result<()> {
        let mut request = Request::new().op_dellink_do(&Ifinfomsg::new());
        request.encode().push_ifname(&name(link)?);
        self.acknowledged(&request, || format!("remove the interface {link}"))
    }

    /// Makes an interface that swallows what it is given.
    ///
    /// # Errors
    /// If the name is taken, the kernel has no dummy driver, or for want of rights.
    pub fn create_dummy(&mut self, link: &str) -> Result<()> {
        let mut request = Request::new()
            .set_create()
            .set_excl()
            .op_newlink_do(&Ifinfomsg::new());
        request
            .encode()
            .push_ifname(&name(link)?)
            .nested_linkinfo()
            .push_kind(c"dummy");
        self.acknowledged(&request, || format!("make the dummy interface {link}"))
    }

    /// Makes two interfaces joined by a cable; each is put where its end says.
    ///
    /// # Errors
    /// If a name is taken there, or for want of rights in one of the namespaces.
    pub fn create_veth(&mut self, a: VethEnd<'_>, b: VethEnd<'_>) -> Result<()> {
        let mut request = Request::new()
            .set_create()
            .set_excl()
            .op_newlink_do(&Ifinfomsg::new());
        let mut link = push_end(request.encode(), a)?.nested_linkinfo();
        link = link.push_kind(c"veth");
        let buf = link.as_vec_mut();
        let data = push_nested_header(buf, INFO_DATA);
        let peer = push_nested_header(buf, VETH_PEER);
        buf.extend_from_slice(Ifinfomsg::new().as_slice());
        push_end(PushLinkAttrs::new(&mut *buf), b)?;
        finalize_nested_header(buf, peer);
        finalize_nested_header(buf, data);
        drop(link);
        self.acknowledged(&request, || {
            format!("join {} and {} by a veth pair", a.name, b.name)
        })
    }

    fn switch(&mut self, link: &str, flags: u32) -> Result<()> {
        let mut header = Ifinfomsg::new();
        header.ifi_flags = flags;
        header.ifi_change = IfinfoFlags::Up as u32;
        let mut request = Request::new().op_setlink_do(&header);
        request.encode().push_ifname(&name(link)?);
        let state = if flags == 0 { "off" } else { "on" };
        self.acknowledged(&request, || format!("switch {state} the interface {link}"))
    }
}

fn push_end<P: Pusher>(attributes: PushLinkAttrs<P>, end: VethEnd<'_>) -> Result<PushLinkAttrs<P>> {
    let attributes = attributes.push_ifname(&name(end.name)?);
    Ok(match end.namespace {
        Some(fd) => attributes.push_net_ns_fd(u32::try_from(fd.as_raw_fd())?),
        None => attributes,
    })
}
