//! What a client is told at once, so that applications fail over instead of waiting.

use super::{ANSWERS_PER_SECOND, Gateway};
use crate::packet::build::{self, Unreachable};
use crate::packet::{Echo, Parsed, Transport};
use crate::policy::Reply;
use crate::time::Time;
use std::net::IpAddr;

impl Gateway {
    /// Answers a blocked packet as the rule says: ICMP *administratively prohibited*, and for TCP a RST behind it for
    /// stacks that do not heed ICMP; or silence.
    pub(super) fn answer_blocked(
        &mut self,
        reply: Reply,
        bytes: &[u8],
        parsed: &Parsed,
        now: Time,
    ) {
        if reply == Reply::Drop {
            return;
        }
        self.answer_unreachable(Unreachable::Prohibited, bytes, parsed, now);
        if matches!(parsed.transport, Transport::Tcp(_)) {
            self.answer_reset(parsed, now);
        }
    }

    /// Answers with an ICMP error.
    pub(super) fn answer_unreachable(
        &mut self,
        why: Unreachable,
        bytes: &[u8],
        parsed: &Parsed,
        now: Time,
    ) {
        if let Some(from) = self.own_address(parsed.src)
            && self.may_answer(now)
        {
            self.draft.clear();
            build::unreachable(&mut self.draft, parsed, bytes, why, from);
            self.send_draft();
        }
    }

    /// Answers a segment with a RST.
    pub(super) fn answer_reset(&mut self, parsed: &Parsed, now: Time) {
        if self.may_answer(now) {
            self.draft.clear();
            build::tcp_reset(&mut self.draft, parsed);
            self.send_draft();
        }
    }

    /// Answers what is meant for ourselves: echo with its reply, anything else as a host without that service.
    pub(super) fn answer_for_ourselves(&mut self, bytes: &[u8], parsed: &Parsed, now: Time) {
        match parsed.transport {
            Transport::Tcp(_) => self.answer_reset(parsed, now),
            Transport::Udp(_) => self.answer_unreachable(Unreachable::Port, bytes, parsed, now),
            Transport::EchoRequest(echo) => self.answer_echo(echo, bytes, parsed, now),
            Transport::EchoReply(_)
            | Transport::IcmpError(_)
            | Transport::Fragment(_)
            | Transport::Other => {}
        }
    }

    fn answer_echo(&mut self, echo: Echo, bytes: &[u8], parsed: &Parsed, now: Time) {
        if !self.may_answer(now) {
            return;
        }
        self.draft.clear();
        self.draft.resize(build::HEADROOM, 0);
        self.draft.extend_from_slice(parsed.payload(bytes));
        let (from, to) = (parsed.dst, parsed.src);
        let (start, _) = build::echo_reply_in_place(
            &mut self.draft,
            build::HEADROOM,
            from,
            to,
            echo.id,
            echo.seq,
        );
        self.outbox.add(self.draft.get(start..).unwrap_or_default());
    }

    /// Our own address of the same family as `peer`.
    pub(super) fn own_address(&self, peer: IpAddr) -> Option<IpAddr> {
        self.settings
            .own
            .iter()
            .copied()
            .find(|own| own.is_ipv4() == peer.is_ipv4())
    }

    pub(super) fn send_draft(&mut self) {
        if !self.draft.is_empty() {
            self.outbox.add(&self.draft);
        }
    }

    fn may_answer(&mut self, now: Time) -> bool {
        let second = now.as_nanos() / 1_000_000_000;
        if self.answers.0 != second {
            self.answers = (second, 0);
        }
        self.answers.1 += 1;
        self.answers.1 <= ANSWERS_PER_SECOND
    }
}
