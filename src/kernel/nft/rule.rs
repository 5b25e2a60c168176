//! One rule: conditions from left to right, and what becomes of the packet that meets them all.
use crate::kernel::netlink::Family;
use crate::packet::protocol;
use anyhow::Result;
use ipnet::IpNet;
pub(in crate::kernel) use netlink_bindings::nftables::PayloadBase;
use netlink_bindings::nftables::{
    CmpOps, ExprOps, FibFlags, IterableExprListAttrs, MetaKeys, PushExprAttrs, PushExprListAttrs,
    VerdictCode,
};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::{finalize_nested_header, push_header, push_nested_header};
use std::ffi::{CStr, CString};
use std::net::IpAddr;

/// Registers of four bytes each; larger values take several (`NFT_REG32_00` of `linux/netfilter/nf_tables.h`).
pub(in crate::kernel) const REGISTER: u32 = 8;
/// The register that holds the verdict.
const VERDICT: u32 = 0;
/// `NFTA_EXPR_DATA`.
const EXPRESSION_DATA: u16 = 2;

/// A rule that is being written.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    text: String,
    bytes: Vec<u8>,
}

type Expression<'a> = PushExprAttrs<PushExprListAttrs<&'a mut Vec<u8>>>;

impl Rule {
    /// A rule that matches every packet. The comment tells people what it is for; `nft list` shows it.
    pub fn new(comment: &str) -> Self {
        Self {
            text: comment.to_owned(),
            bytes: Vec::new(),
        }
    }

    /// It came in through this interface.
    pub fn came_in(self, link: &str) -> Self {
        self.meta(MetaKeys::Iifname).is(&name(link))
    }

    /// It goes out through this interface.
    pub fn goes_out(self, link: &str) -> Self {
        self.meta(MetaKeys::Oifname).is(&name(link))
    }

    /// Its mark is `value` in the bits of `mask`.
    pub fn marked(self, value: u32, mask: u32) -> Self {
        self.meta(MetaKeys::Mark)
            .bits(&mask.to_ne_bytes(), &[0; 4])
            .is(&value.to_ne_bytes())
    }

    /// As [`Rule::marked`], and it loses that part of its mark.
    pub fn marked_until_now(mut self, value: u32, mask: u32) -> Self {
        const PART: u32 = REGISTER + 1;
        self = self.meta(MetaKeys::Mark);
        self.masked((REGISTER, PART), &mask.to_ne_bytes(), &[0; 4]);
        self.equals(PART, &value.to_ne_bytes())
            .bits(&(!mask).to_ne_bytes(), &[0; 4])
            .set_mark()
    }

    /// Sets the bits of `mask` in its mark to those of `value`.
    pub fn mark(self, value: u32, mask: u32) -> Self {
        self.meta(MetaKeys::Mark)
            .bits(&(!mask).to_ne_bytes(), &value.to_ne_bytes())
            .set_mark()
    }

    fn set_mark(mut self) -> Self {
        self.expression()
            .nested_data_meta()
            .push_key(MetaKeys::Mark as u32)
            .push_sreg(REGISTER);
        self
    }

    /// Its destination is of this kind (`RTN_…` of `linux/rtnetlink.h`): this machine, a broadcast address, …
    pub fn destination_is(self, kind: u8) -> Self {
        self.kind(FibFlags::Daddr)
            .is(&u32::from(kind).to_ne_bytes())
    }

    /// Its destination is of none of these kinds.
    pub(in crate::kernel) fn destination_differs(self, kinds: &[u8]) -> Self {
        self.differ(FibFlags::Daddr, kinds)
    }

    /// Its source is of none of these kinds.
    pub(in crate::kernel) fn source_differs(self, kinds: &[u8]) -> Self {
        self.differ(FibFlags::Saddr, kinds)
    }

    fn differ(self, which: FibFlags, kinds: &[u8]) -> Self {
        kinds.iter().fold(self.kind(which), |rule, kind| {
            rule.differs(&u32::from(*kind).to_ne_bytes())
        })
    }

    fn kind(mut self, which: FibFlags) -> Self {
        // `NFT_FIB_RESULT_ADDRTYPE`, which the encoder numbers wrongly.
        const KIND: u32 = 3;
        self.expression()
            .nested_data_fib()
            .push_dreg(REGISTER)
            .push_result(KIND)
            .push_flags(which as u32);
        self
    }

    /// Its destination lies in this network.
    pub fn goes_to(self, net: IpNet) -> Self {
        self.address_in(net, [16, 24])
    }

    /// Its source lies in this network.
    pub fn comes_from(self, net: IpNet) -> Self {
        self.address_in(net, [12, 8])
    }

    /// The address at this offset of an IPv4 or an IPv6 header lies in this network.
    fn address_in(self, net: IpNet, [v4, v6]: [u32; 2]) -> Self {
        let net = net.trunc();
        let (offset, len) = match net {
            IpNet::V4(_) => (v4, 4),
            IpNet::V6(_) => (v6, 16),
        };
        let (address, mask) = (octets(net.addr()), octets(net.netmask()));
        let zeros = vec![0; mask.len()];
        self.family(Family::of(net.addr()))
            .load(PayloadBase::NetworkHeader, offset, len)
            .bits(&mask, &zeros)
            .is(&address)
    }

    /// It is of this address family.
    pub(in crate::kernel) fn family(self, family: Family) -> Self {
        // The EtherType, which tables that see frames know as well.
        let number = match family {
            Family::V4 => libc::ETH_P_IP,
            Family::V6 => libc::ETH_P_IPV6,
        };
        self.meta(MetaKeys::Protocol)
            .is(&(number as u16).to_be_bytes())
    }

    /// The frame was sent to this machine, and to no other.
    pub(in crate::kernel) fn sent_to_us(self) -> Self {
        const HOST: u8 = 0; // `PACKET_HOST` of `linux/if_packet.h`
        self.meta(MetaKeys::Pkttype).is(&[HOST])
    }

    /// The frame has a VLAN's tag of this EtherType.
    pub(in crate::kernel) fn tagged(self, kind: u16) -> Self {
        self.load(PayloadBase::LinkLayerHeader, 12, 2)
            .is(&kind.to_be_bytes())
    }

    /// It goes to the interface of this index at once, as if it had been forwarded to it: its hop limit is one less. Only
    /// in tables that see frames, and for an interface without link layer.
    pub(in crate::kernel) fn forward_to(mut self, family: Family, index: u32) -> Self {
        // Whom the interface would have to look for if it had neighbours: dummies (RFC 7600, RFC 6666).
        let (number, neighbour) = match family {
            Family::V4 => (libc::NFPROTO_IPV4, octets([192, 0, 0, 8].into())),
            Family::V6 => (
                libc::NFPROTO_IPV6,
                octets([0x100, 0, 0, 0, 0, 0, 0, 1].into()),
            ),
        };
        self = self
            .put(REGISTER, &index.to_ne_bytes())
            .put(REGISTER + 1, &neighbour);
        // `NFTA_FWD_…`, which the encoder does not know: registers of the interface and the neighbour, family.
        self.raw(
            c"fwd",
            [
                (1, &REGISTER.to_be_bytes()),
                (2, &(REGISTER + 1).to_be_bytes()),
                (3, &(number as u32).to_be_bytes()),
            ],
        );
        self
    }

    /// It is neighbour discovery (RFC 4861, section 7.1: hop limit 255, types 133 to 137), which never leaves the link.
    pub fn neighbour_discovery(mut self) -> Self {
        self = self
            .family(Family::V6)
            .load(PayloadBase::NetworkHeader, 7, 1)
            .is(&[255])
            .meta(MetaKeys::L4Proto)
            .is(&[protocol::ICMPV6])
            .load(PayloadBase::TransportHeader, 0, 1);
        self = self.at_least(&[133]);
        self.compare(REGISTER, CmpOps::Lte, &[137]);
        self
    }

    /// Counts it.
    pub fn count(mut self) -> Self {
        self.expression().nested_data_counter();
        self
    }

    /// Keeps it out of connection tracking.
    pub fn untracked(mut self) -> Self {
        self.expression().push_name(c"notrack");
        self
    }

    /// It goes on, past the rest of this base chain.
    pub fn accept(self) -> Self {
        self.verdict(VerdictCode::Accept, None)
    }

    /// It ends here.
    pub fn drop(self) -> Self {
        self.verdict(VerdictCode::Drop, None)
    }

    /// It is looked at by another chain, and by the next rule if that decides nothing.
    ///
    /// # Errors
    /// If no chain can have that name.
    pub fn jump(self, chain: &str) -> Result<Self> {
        let chain = CString::new(chain)?;
        Ok(self.verdict(VerdictCode::Jump, Some(&chain)))
    }

    /// Loads bytes of the packet, from `offset` in one of its headers.
    pub(in crate::kernel) fn load(self, base: PayloadBase, offset: u32, len: u32) -> Self {
        self.load_to(REGISTER, base, offset, len)
    }

    /// As [`Rule::load`], to another register.
    pub(in crate::kernel) fn load_to(
        mut self,
        register: u32,
        base: PayloadBase,
        offset: u32,
        len: u32,
    ) -> Self {
        self.expression()
            .nested_data_payload()
            .push_dreg(register)
            .push_base(base as u32)
            .push_offset(offset)
            .push_len(len);
        self
    }

    /// Puts fixed bytes into a register.
    pub(in crate::kernel) fn put(mut self, register: u32, bytes: &[u8]) -> Self {
        self.expression()
            .nested_data_immediate()
            .push_dreg(register)
            .nested_data()
            .push_value(bytes);
        self
    }

    /// What lies in the registers from the first on is an element of a set.
    pub(in crate::kernel) fn member_of(mut self, set: &CStr) -> Self {
        // `NFTA_LOOKUP_…`, which the encoder numbers wrongly.
        self.raw(
            c"lookup",
            [(1, set.to_bytes_with_nul()), (2, &REGISTER.to_be_bytes())],
        );
        self
    }

    /// What was loaded is `value`.
    pub(in crate::kernel) fn is(self, value: &[u8]) -> Self {
        self.equals(REGISTER, value)
    }

    /// What was loaded is anything but `value`.
    pub(in crate::kernel) fn differs(mut self, value: &[u8]) -> Self {
        self.compare(REGISTER, CmpOps::Neq, value);
        self
    }

    /// What was loaded is at least `value`.
    pub(in crate::kernel) fn at_least(mut self, value: &[u8]) -> Self {
        self.compare(REGISTER, CmpOps::Gte, value);
        self
    }

    /// As [`Rule::is`], in another register.
    pub(in crate::kernel) fn equals(mut self, register: u32, value: &[u8]) -> Self {
        self.compare(register, CmpOps::Eq, value);
        self
    }

    /// Keeps the bits of `mask` of what was loaded, and flips those of `flip`.
    pub(in crate::kernel) fn bits(self, mask: &[u8], flip: &[u8]) -> Self {
        self.bits_in(REGISTER, mask, flip)
    }

    /// As [`Rule::bits`], in another register.
    pub(in crate::kernel) fn bits_in(mut self, register: u32, mask: &[u8], flip: &[u8]) -> Self {
        self.masked((register, register), mask, flip);
        self
    }

    fn masked(&mut self, (from, to): (u32, u32), mask: &[u8], flip: &[u8]) {
        self.expression()
            .nested_data_bitwise()
            .push_sreg(from)
            .push_dreg(to)
            .push_len(u32::try_from(mask.len()).unwrap_or(u32::MAX))
            .nested_mask()
            .push_value(mask)
            .end_nested()
            .nested_xor()
            .push_value(flip);
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn expressions(&self) -> &[u8] {
        &self.bytes
    }

    /// The comment as `nft` stores it: type, length, text, a closing zero.
    pub(super) fn userdata(&self) -> Vec<u8> {
        let text: Vec<u8> = self.text.bytes().take(MAX_COMMENT).collect();
        let len = u8::try_from(text.len() + 1).unwrap_or(u8::MAX);
        [&[COMMENT, len][..], &text, &[0]].concat()
    }

    fn meta(mut self, key: MetaKeys) -> Self {
        self.expression()
            .nested_data_meta()
            .push_dreg(REGISTER)
            .push_key(key as u32);
        self
    }

    fn compare(&mut self, register: u32, how: CmpOps, value: &[u8]) {
        self.expression()
            .nested_data_cmp()
            .push_sreg(register)
            .push_op(how as u32)
            .nested_data()
            .push_value(value);
    }

    /// An expression with plain attributes: their numbers and values.
    fn raw<const N: usize>(&mut self, name: &CStr, attributes: [(u16, &[u8]); N]) {
        let mut expression = self.expression().push_name(name);
        let bytes = expression.as_vec_mut();
        let data = push_nested_header(bytes, EXPRESSION_DATA);
        for (number, value) in attributes {
            push_header(bytes, number, u16::try_from(value.len()).unwrap_or(0));
            bytes.extend_from_slice(value);
        }
        finalize_nested_header(bytes, data);
    }

    fn verdict(mut self, code: VerdictCode, chain: Option<&CStr>) -> Self {
        let verdict = self
            .expression()
            .nested_data_immediate()
            .push_dreg(VERDICT)
            .nested_data()
            .nested_verdict()
            .push_code(code as u32);
        match chain {
            Some(chain) => drop(verdict.push_chain(chain)),
            None => drop(verdict),
        }
        self
    }

    fn expression(&mut self) -> Expression<'_> {
        PushExprListAttrs::new(&mut self.bytes).nested_elem()
    }
}

/// `NFTNL_UDATA_RULE_COMMENT` of libnftnl, and the longest that `nft` shows.
const COMMENT: u8 = 0;
const MAX_COMMENT: usize = 127;

/// The comment in a rule's user data.
pub(super) fn comment(userdata: &[u8]) -> Option<String> {
    let (&[kind, len], text) = userdata.split_first_chunk()?;
    let text = text.get(..usize::from(len).checked_sub(1)?)?;
    (kind == COMMENT).then(|| String::from_utf8_lossy(text).into_owned())
}

/// How many packets a rule has counted.
pub(super) fn counted(expressions: &IterableExprListAttrs<'_>) -> u64 {
    let mut counted = 0;
    for expression in expressions.get_elem() {
        if let Ok(ExprOps::Counter(counter)) = expression.get_data() {
            counted += counter.get_packets().unwrap_or(0);
        }
    }
    counted
}

/// An interface name as registers hold it.
fn name(link: &str) -> [u8; libc::IFNAMSIZ] {
    let mut padded = [0; libc::IFNAMSIZ];
    for (to, from) in padded.iter_mut().zip(link.bytes()) {
        *to = from;
    }
    padded
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_survive_and_are_cut_to_what_nft_shows() {
        for text in ["", "net/ipv4/ip_forward=0"] {
            assert_eq!(comment(&Rule::new(text).userdata()).as_deref(), Some(text));
        }
        let long = "x".repeat(300);
        assert_eq!(
            comment(&Rule::new(&long).userdata()).unwrap().len(),
            MAX_COMMENT
        );
        for broken in [&[][..], &[0], &[0, 0], &[0, 9, b'a', 0], &[1, 2, b'a', 0]] {
            assert_eq!(comment(broken), None);
        }
    }
}
