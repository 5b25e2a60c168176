//! Policy rules: which table answers for which packet.
use super::{Family, Netlink, name};
use anyhow::Result;
use netlink_bindings::rt_rule::{FibRuleHdr, FrAct, PushFibRuleAttrs, Request};
use netlink_bindings::traits::Pusher;

/// `FIB_RULE_INVERT` of `linux/fib_rules.h`.
const INVERT: u32 = 2;

/// One policy rule: packets that match look into `table`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Whose packets.
    pub family: Family,
    /// Rules are tried from the lowest number up.
    pub priority: u32,
    /// The table that is looked into.
    pub table: u32,
    /// Only packets that came in here; `lo` means: of this machine.
    pub iif: Option<String>,
    /// Only packets whose mark is this one: value and mask.
    pub mark: Option<(u32, u32)>,
    /// Matches every packet that the conditions above do *not* describe.
    pub not: bool,
    /// Routes with prefixes of this length or shorter do not count; 0 leaves out the default route.
    pub suppress_prefixlength: Option<u32>,
    /// Who made the rule, as a number of `rt_protos`; by it leftovers are recognised.
    pub protocol: u8,
}

impl Rule {
    /// A rule without conditions.
    pub const fn new(family: Family, priority: u32, table: u32) -> Self {
        Self {
            family,
            priority,
            table,
            iif: None,
            mark: None,
            not: false,
            suppress_prefixlength: None,
            protocol: libc::RTPROT_STATIC,
        }
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:", self.priority)?;
        if self.not {
            f.write_str(" not")?;
        }
        if let Some(iif) = &self.iif {
            write!(f, " iif {iif}")?;
        }
        if let Some((value, mask)) = self.mark {
            write!(f, " fwmark {value:#x}/{mask:#x}")?;
        }
        write!(f, " lookup {}", self.table)?;
        if let Some(length) = self.suppress_prefixlength {
            write!(f, " suppress_prefixlength {length}")?;
        }
        Ok(())
    }
}

impl Netlink {
    /// Adds a policy rule.
    ///
    /// # Errors
    /// If the same one is there, the kernel has no policy routing for the family, or for want of rights.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<()> {
        let mut request = Request::new()
            .set_create()
            .set_excl()
            .op_newrule_do(&header(rule));
        push(request.encode(), rule)?;
        self.acknowledged(&request, || format!("add the policy rule {rule}"))
    }

    /// Removes a policy rule.
    ///
    /// # Errors
    /// If it is not there (any more), or for want of rights.
    pub fn remove_rule(&mut self, rule: &Rule) -> Result<()> {
        let mut request = Request::new().op_delrule_do(&header(rule));
        push(request.encode(), rule)?;
        self.acknowledged(&request, || format!("remove the policy rule {rule}"))
    }

    /// All policy rules of a family that look into a table.
    ///
    /// # Errors
    /// If the kernel refuses the dump.
    pub fn rules(&mut self, family: Family) -> Result<Vec<Rule>> {
        let mut wanted = FibRuleHdr::new();
        wanted.family = family.raw();
        let request = Request::new().op_getrule_dump(&wanted);
        let mut rules = Vec::new();
        self.dump(&request, "list the policy rules", |(header, attributes)| {
            if Family::from_raw(header.family) != Some(family)
                || header.action != FrAct::ToTbl as u8
            {
                return;
            }
            let mark = attributes.get_fwmark().ok();
            rules.push(Rule {
                family,
                priority: attributes.get_priority().unwrap_or(0),
                table: attributes
                    .get_table()
                    .unwrap_or_else(|_| u32::from(header.table)),
                iif: attributes
                    .get_iifname()
                    .ok()
                    .map(|name| name.to_string_lossy().into_owned()),
                mark: mark.map(|value| (value, attributes.get_fwmask().unwrap_or(u32::MAX))),
                not: header.flags & INVERT != 0,
                suppress_prefixlength: attributes
                    .get_suppress_prefixlen()
                    .ok()
                    // The kernel says "none" as -1.
                    .filter(|length| *length != u32::MAX),
                protocol: attributes.get_protocol().unwrap_or(0),
            });
        })?;
        Ok(rules)
    }
}

fn push<P: Pusher>(mut attributes: PushFibRuleAttrs<P>, rule: &Rule) -> Result<()> {
    attributes = attributes
        .push_priority(rule.priority)
        .push_table(rule.table)
        .push_protocol(rule.protocol);
    if let Some(iif) = &rule.iif {
        attributes = attributes.push_iifname(&name(iif)?);
    }
    if let Some((value, mask)) = rule.mark {
        attributes = attributes.push_fwmark(value).push_fwmask(mask);
    }
    if let Some(length) = rule.suppress_prefixlength {
        attributes.push_suppress_prefixlen(length);
    }
    Ok(())
}

fn header(rule: &Rule) -> FibRuleHdr {
    FibRuleHdr {
        family: rule.family.raw(),
        action: FrAct::ToTbl as u8,
        flags: if rule.not { INVERT } else { 0 },
        ..FibRuleHdr::new()
    }
}
