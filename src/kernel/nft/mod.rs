//! nf_tables, spoken to directly: what `nft -f` does, in one batch that the kernel takes whole or not at all.
//!
//! Encoding is `netlink-bindings`'. Sending is done here: a batch may be of any length, may fail in any message, and must
//! never be taken for installed when it is not.

mod rule;
mod set;

pub use rule::Rule;
pub(super) use rule::{PayloadBase, REGISTER};
pub use set::{Change, Set};

use super::netlink::{advice, plain};
use anyhow::{Context, Result, anyhow, bail};
use netlink_bindings::nftables::{Nfgenmsg, Request};
use netlink_bindings::traits::{NetlinkRequest, Protocol, Pusher};
use netlink_socket2::NetlinkSocket;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Bytes of `struct nlmsghdr` (`linux/netlink.h`).
const HEADER: usize = 16;
/// The subsystem's number in a batch's first and last message (`linux/netfilter/nfnetlink.h`).
const SUBSYSTEM: u16 = 10;
/// `NLM_F_REQUEST` and `NLM_F_ACK`.
const REQUEST: u16 = 1;
const ACK: u16 = 4;

/// What a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sees {
    /// IPv4 and IPv6 on their way through the kernel (family `inet`).
    Packets,
    /// What interfaces take in, before anything else does (family `netdev`).
    Frames,
}

/// Where in a packet's way a chain looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook<'a> {
    /// As this interface takes it in; in tables that see frames.
    Ingress(&'a str),
    /// As it comes in, before it is routed.
    Prerouting,
    /// On its way through.
    Forward,
    /// As this machine makes it, after it is routed.
    Output,
    /// As it leaves.
    Postrouting,
}

/// What makes a chain see packets at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base<'a> {
    /// Where.
    pub hook: Hook<'a>,
    /// In which order among other chains at the same place: lower is earlier.
    pub priority: i32,
}

impl Sees {
    fn header(self) -> Nfgenmsg {
        let family = match self {
            Self::Packets => libc::NFPROTO_INET,
            Self::Frames => libc::NFPROTO_NETDEV,
        };
        Nfgenmsg {
            nfgen_family: family as u8,
            ..Nfgenmsg::new()
        }
    }
}

impl Hook<'_> {
    /// As `linux/netfilter.h` and `linux/netfilter_netdev.h` number it.
    const fn number(self) -> u32 {
        match self {
            Self::Ingress(_) | Self::Prerouting => 0,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

/// A connection to the packet filter of one network namespace.
#[derive(Debug)]
pub struct Nft(OwnedFd);

impl Nft {
    /// Opens a connection to the network namespace of the calling thread.
    ///
    /// # Errors
    /// If the kernel has no nf_tables.
    pub fn open() -> Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )
        .context("cannot speak with the kernel's packet filter (is nf_tables in this kernel?)")?;
        Ok(Self(socket))
    }

    /// Installs a batch: all of it at one instant, or nothing.
    ///
    /// # Errors
    /// Which part was refused, and why.
    pub fn commit(&mut self, batch: &Batch) -> Result<()> {
        let bytes = batch.encode()?;
        let last = batch.messages.len();
        send(self.0.as_raw_fd(), &bytes, MsgFlags::empty())
            .map_err(|error| refused("take a batch", error.into()))?;
        // The kernel has worked the batch off and queued all it has to say before `send` returned.
        let mut answer = vec![0; 64 << 10];
        let (mut done, mut failed) = (false, None);
        loop {
            let len = match recv(self.0.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => len,
                Err(nix::errno::Errno::EAGAIN) => break,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(error) => return Err(refused("say what became of a batch", error.into())),
            };
            for (number, errno) in acknowledgements(answer.get(..len).unwrap_or_default()) {
                if errno == 0 {
                    done |= number == last;
                } else {
                    let error = io::Error::from_raw_os_error(errno);
                    failed = failed.or_else(|| Some(refused(batch.what(number), error)));
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None if done => Ok(()),
            None => bail!("the kernel did not say whether it installed the packet filter"),
        }
    }

    /// The comments of all rules of a chain that sees packets, in order; none if there is no such chain.
    ///
    /// # Errors
    /// If the kernel refuses the dump.
    pub fn comments(table: &str, chain: &str) -> Result<Vec<String>> {
        let rules = Self::rules(table, chain)?;
        Ok(rules.into_iter().map(|(comment, _)| comment).collect())
    }

    /// As [`Nft::comments`], with how many packets each rule has counted (0 if it does not).
    ///
    /// # Errors
    /// If the kernel refuses the dump.
    pub fn rules(table: &str, chain: &str) -> Result<Vec<(String, u64)>> {
        let mut socket = NetlinkSocket::new();
        let mut request = Request::new().op_getrule_dump(&Sees::Packets.header());
        request
            .encode()
            .push_table(&CString::new(table)?)
            .push_chain(&CString::new(chain)?);
        let mut reply = socket.request(&request)?;
        let mut rules = Vec::new();
        while let Some(answer) = reply.recv() {
            let (_, rule) = answer.map_err(|error| anyhow!("cannot list the rules: {error}"))?;
            let comment = rule.get_userdata().ok().and_then(rule::comment);
            let counted = rule
                .get_expressions()
                .map_or(0, |list| rule::counted(&list));
            rules.extend(comment.map(|comment| (comment, counted)));
        }
        Ok(rules)
    }

    /// Whether there is a table of this name.
    ///
    /// # Errors
    /// If the kernel refuses the dump.
    pub fn has_table(sees: Sees, table: &str) -> Result<bool> {
        let mut socket = NetlinkSocket::new();
        let request = Request::new().op_gettable_dump(&sees.header());
        let mut reply = socket.request(&request)?;
        let mut found = false;
        while let Some(answer) = reply.recv() {
            let (_, attributes) =
                answer.map_err(|error| anyhow!("cannot list the tables: {error}"))?;
            found |= attributes
                .get_name()
                .is_ok_and(|name| name.to_bytes() == table.as_bytes());
        }
        Ok(found)
    }
}

/// Message numbers and error numbers (0 is success) in what the kernel answers.
fn acknowledgements(mut bytes: &[u8]) -> Vec<(usize, i32)> {
    let mut found = Vec::new();
    while let Some((head, body)) = bytes.split_at_checked(HEADER) {
        let word = |at: usize| {
            let word = head.get(at..).and_then(<[u8]>::first_chunk);
            word.map_or(0, |word| u32::from_ne_bytes(*word))
        };
        let len = usize::try_from(word(0)).unwrap_or(0);
        let is_error = word(4) & 0xffff == libc::NLMSG_ERROR as u32;
        if let Some(code) = body.first_chunk().filter(|_| is_error) {
            let number = usize::try_from(word(8)).unwrap_or(usize::MAX);
            found.push((number, i32::from_ne_bytes(*code).wrapping_neg()));
        }
        let step = len.max(HEADER).next_multiple_of(4);
        bytes = bytes.get(step..).unwrap_or_default();
    }
    found
}

fn refused(what: &str, error: io::Error) -> anyhow::Error {
    let sentence = format!(
        "the packet filter refused to {what}: {}{}",
        plain(&error),
        advice(error.raw_os_error().unwrap_or(0))
    );
    anyhow::Error::new(error).context(sentence)
}

/// Changes to one table.
#[derive(Clone)]
pub struct Batch {
    sees: Sees,
    table: CString,
    messages: Vec<Message>,
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = self.messages.iter().map(|message| &message.what);
        f.debug_list().entries(what).finish()
    }
}

#[derive(Clone)]
struct Message {
    /// What it is to do, for people.
    what: String,
    kind: u16,
    flags: u16,
    payload: Vec<u8>,
}

impl Batch {
    /// No changes yet.
    ///
    /// # Errors
    /// If no table can have that name.
    pub fn new(sees: Sees, table: &str) -> Result<Self> {
        Ok(Self {
            sees,
            table: CString::new(table)?,
            messages: Vec::new(),
        })
    }

    /// Makes the table, or does nothing if it is there. Tables `owned` go with the connection that made them.
    pub fn table(&mut self, owned: bool) {
        let mut request = Request::new()
            .set_create()
            .op_newtable_do(&self.sees.header());
        request
            .encode()
            .push_name(&self.table)
            .push_flags(if owned { OWNED } else { 0 });
        self.push(&request, format!("make the table {}", self.name()));
    }

    /// Removes the table with all that is in it.
    pub fn remove_table(&mut self) {
        let mut request = Request::new().op_deltable_do(&self.sees.header());
        request.encode().push_name(&self.table);
        self.push(&request, format!("remove the table {}", self.name()));
    }

    /// Makes a chain; without a base it sees what others send to it. Packets that no rule decides go on.
    ///
    /// # Errors
    /// If no chain can have that name.
    pub fn chain(&mut self, name: &str, base: Option<Base<'_>>) -> Result<()> {
        let mut request = Request::new()
            .set_create()
            .op_newchain_do(&self.sees.header());
        let attributes = request
            .encode()
            .push_table(&self.table)
            .push_name(&CString::new(name)?);
        if let Some(base) = base {
            let mut hook = attributes
                .nested_hook()
                .push_num(base.hook.number())
                .push_priority(base.priority);
            if let Hook::Ingress(link) = base.hook {
                hook = hook.push_dev(&CString::new(link)?);
            }
            hook.end_nested()
                .push_policy(libc::NF_ACCEPT as u32)
                .push_type(c"filter");
        } else {
            drop(attributes);
        }
        self.push(&request, format!("make the chain {name}"));
        Ok(())
    }

    /// Appends a rule to a chain.
    ///
    /// # Errors
    /// If no chain can have that name.
    pub fn rule(&mut self, chain: &str, rule: &Rule) -> Result<()> {
        let mut request = Request::new()
            .set_create()
            .set_append()
            .op_newrule_do(&self.sees.header());
        let mut list = request
            .encode()
            .push_table(&self.table)
            .push_chain(&CString::new(chain)?)
            .nested_expressions();
        list.as_vec_mut().extend_from_slice(rule.expressions());
        list.end_nested().push_userdata(&rule.userdata());
        self.push(
            &request,
            format!("add to {chain} the rule {:?}", rule.text()),
        );
        Ok(())
    }

    fn push(&mut self, request: &impl NetlinkRequest, what: String) {
        if let Protocol::Raw { request_type, .. } = request.protocol() {
            self.messages.push(Message {
                what,
                kind: request_type,
                flags: request.flags(),
                payload: request.payload().to_vec(),
            });
        }
    }

    fn name(&self) -> std::borrow::Cow<'_, str> {
        self.table.to_string_lossy()
    }

    /// What a message is to do; the first has the number 1.
    fn what(&self, number: usize) -> &str {
        number
            .checked_sub(1)
            .and_then(|index| self.messages.get(index))
            .map_or("take a batch", |message| &message.what)
    }

    /// The bytes to send. Messages are numbered by their place. Only the last asks for an acknowledgement: errors are
    /// told without it, and a long batch's acknowledgements would not fit the socket.
    fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let frame = frame();
        message(&mut bytes, (BEGIN, 0), 0, frame.as_slice())?;
        for (index, part) in self.messages.iter().enumerate() {
            let number = index + 1;
            let wish = if number == self.messages.len() {
                ACK
            } else {
                0
            };
            message(
                &mut bytes,
                (part.kind, part.flags | wish),
                number,
                &part.payload,
            )?;
        }
        let end = self.messages.len() + 1;
        message(&mut bytes, (END, 0), end, frame.as_slice())?;
        Ok(bytes)
    }
}

/// `NFT_TABLE_F_OWNER`.
const OWNED: u32 = 2;
/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`.
const BEGIN: u16 = 16;
const END: u16 = 17;

/// Appends a `struct nlmsghdr` and what it heads.
fn message(
    bytes: &mut Vec<u8>,
    (kind, flags): (u16, u16),
    number: usize,
    payload: &[u8],
) -> Result<()> {
    let len = u32::try_from(HEADER + payload.len())?;
    bytes.extend(len.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | REQUEST).to_ne_bytes());
    bytes.extend(u32::try_from(number)?.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(())
}

/// The header of a batch's first and last message.
fn frame() -> Nfgenmsg {
    let mut header = Nfgenmsg::new();
    header.set_res_id(SUBSYSTEM);
    header
}
