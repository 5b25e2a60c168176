//! A packet filter of a router's own, beside the gate's.
use cordon::kernel::namespace::lab::Host;
use netlink_bindings::nftables::{self, PushExprListAttrs, PushRuleAttrs};
use netlink_socket2::NetlinkSocket;
use std::ffi::CStr;

/// What leaves by `link` gets the router's own address, as at any home.
pub(crate) fn masquerade(router: &Host, link: &str) {
    let mut name = [0; 16];
    name[..link.len()].copy_from_slice(link.as_bytes());
    chain(router, c"nat", (4, 100), |list| {
        list.nested_elem()
            .nested_data_meta()
            .push_dreg(8)
            .push_key(nftables::MetaKeys::Oifname as u32)
            .end_nested()
            .end_nested()
            .nested_elem()
            .nested_data_cmp()
            .push_sreg(8)
            .push_op(nftables::CmpOps::Eq as u32)
            .nested_data()
            .push_value(&name)
            .end_nested()
            .end_nested()
            .end_nested()
            .nested_elem()
            .push_name(c"masq");
    });
}

/// A packet filter of the home's own: one chain with one rule.
pub(crate) fn chain(
    router: &Host,
    kind: &CStr,
    (hook, priority): (u32, i32),
    rule: impl FnOnce(PushExprListAttrs<PushRuleAttrs<&mut Vec<u8>>>) + Send,
) {
    let install = || {
        let header = nftables::Nfgenmsg {
            nfgen_family: libc::NFPROTO_INET as u8,
            ..nftables::Nfgenmsg::new()
        };
        let mut frame = nftables::Nfgenmsg::new();
        frame.set_res_id(10);
        let mut batch = nftables::Chained::new(1);
        batch.request().op_batch_begin_do(&frame);
        batch
            .request()
            .set_create()
            .op_newtable_do(&header)
            .encode()
            .push_name(c"home");
        batch
            .request()
            .set_create()
            .op_newchain_do(&header)
            .encode()
            .push_table(c"home")
            .push_name(kind)
            .nested_hook()
            .push_num(hook)
            .push_priority(priority)
            .end_nested()
            .push_type(kind);
        rule(
            batch
                .request()
                .set_create()
                .set_append()
                .op_newrule_do(&header)
                .encode()
                .push_table(c"home")
                .push_chain(kind)
                .nested_expressions(),
        );
        batch.request().op_batch_end_do(&frame);
        NetlinkSocket::new()
            .request_chained(&batch.finalize())?
            .recv_all()?;
        Ok(())
    };
    router.run(install).unwrap();
}
