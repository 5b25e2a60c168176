//! Questions that come by TCP (RFC 7766): each behind its length.

use super::inspection::Inspection;
use super::questions::Way;
use super::tcp::{Out, Stream};
use super::{End, Flow, Gateway, State};
use crate::flow::{FlowId, FlowKey};
use crate::packet::{Parsed, Tcp, Transport};
use crate::stack::Connection;
use crate::time::Time;
use std::net::IpAddr;
use std::time::Duration;

/// A connection may be silent this long.
const IDLE: Duration = Duration::from_secs(30);

/// A connection by which questions come.
#[derive(Debug, Default)]
pub(super) struct Questioner {
    /// Bytes of a question that is not complete.
    bytes: Vec<u8>,
    /// Answers that are still to come.
    owed: u32,
}

impl Gateway {
    /// Begins a connection for questions with its SYN.
    pub(super) fn open_questions(
        &mut self,
        key: &FlowKey,
        bytes: &[u8],
        parsed: &Parsed,
        now: Time,
    ) -> Option<FlowId> {
        if !matches!(parsed.transport, Transport::Tcp(tcp) if tcp.flags & (Tcp::SYN | Tcp::ACK) == Tcp::SYN)
        {
            self.answer_reset(parsed, now);
            return None;
        }
        let judged = self.judge(key, None, now);
        let begun = self.insert_flow(key, judged, now, |gateway, _, _| {
            let mut syn = bytes.get(..parsed.len).unwrap_or(bytes).to_vec();
            let connection = gateway
                .terminator
                .accept(&mut syn, parsed, &mut gateway.outbox, now)
                .ok_or("memory")?;
            let mut stream = Stream::new(connection, Inspection::new(false), Out::Here);
            stream.questions = Some(Box::default());
            Ok(State::Stream(Box::new(stream)))
        });
        match begun {
            // What the SYN had to say is said.
            Ok(id) => {
                self.schedule(id, now + IDLE);
                self.touch(id);
            }
            Err(bound) => {
                self.refuse(bound, Some(key.src), now);
                self.answer_reset(parsed, now);
            }
        }
        None
    }

    /// Takes the questions that have come by a connection.
    pub(super) fn read_questions(&mut self, id: FlowId, now: Time) {
        while let Some((client, question)) = self.next_question(id, now) {
            let way = Way::Stream { client, flow: id };
            if self.ask(way, &question, now)
                && let Some((_, questions)) = self.questioner(id)
            {
                questions.owed += 1;
            }
        }
        self.close_if_done(id);
        self.touch(id);
    }

    /// Writes an answer to a connection, if it still is there.
    pub(super) fn answer_by_stream(&mut self, id: FlowId, answer: &[u8]) {
        let Some((connection, _)) = self.questioner(id) else {
            return;
        };
        let length = u16::try_from(answer.len()).unwrap_or(u16::MAX);
        let whole = [&length.to_be_bytes()[..], answer].concat();
        let mut rest = &whole[..];
        while !rest.is_empty() {
            let put = connection.put(|room| {
                let fits = room.len().min(rest.len());
                if let (Some(room), Some(now)) = (room.get_mut(..fits), rest.get(..fits)) {
                    room.copy_from_slice(now);
                }
                fits
            });
            if put == 0 {
                // A client that asks and does not listen.
                connection.abort();
                break;
            }
            rest = rest.get(put..).unwrap_or_default();
        }
        self.touch(id);
    }

    /// An answer that was owed was given.
    pub(super) fn paid(&mut self, id: FlowId) {
        if let Some((_, questions)) = self.questioner(id) {
            questions.owed = questions.owed.saturating_sub(1);
        }
        self.close_if_done(id);
        self.touch(id);
    }

    /// The wheel called for a connection.
    pub(super) fn questions_idle(&mut self, id: FlowId, now: Time) {
        let Some((_, flow)) = self.flows.get(id) else {
            return;
        };
        let until = flow.used + IDLE;
        if now >= until {
            self.end(id, End::Idle, now);
        } else {
            self.schedule(id, until);
            self.touch(id);
        }
    }

    fn next_question(&mut self, id: FlowId, now: Time) -> Option<(IpAddr, Vec<u8>)> {
        let (key, flow) = self.flows.get_mut(id)?;
        let client = key.src;
        let State::Stream(stream) = &mut flow.state else {
            return None;
        };
        let Stream {
            connection,
            questions: Some(questions),
            ..
        } = &mut **stream
        else {
            return None;
        };
        loop {
            if let Some((length, rest)) = questions.bytes.split_first_chunk() {
                let length = usize::from(u16::from_be_bytes(*length));
                if let Some(question) = rest.get(..length) {
                    let question = question.to_vec();
                    questions.bytes.drain(..2 + length);
                    flow.used = now;
                    return Some((client, question));
                }
            }
            let taken = connection.take(|bytes| {
                let some = bytes.get(..bytes.len().min(4096)).unwrap_or_default();
                questions.bytes.extend_from_slice(some);
                some.len()
            });
            if taken == 0 {
                return None;
            }
        }
    }

    /// The client has said all and was answered all.
    fn close_if_done(&mut self, id: FlowId) {
        if let Some((connection, questions)) = self.questioner(id)
            && questions.owed == 0
            && connection.is_finished()
        {
            connection.close();
        }
    }

    fn questioner(&mut self, id: FlowId) -> Option<(&mut Connection, &mut Questioner)> {
        let (_, flow) = self.flows.get_mut(id)?;
        let State::Stream(stream) = &mut flow.state else {
            return None;
        };
        let Stream {
            connection,
            questions,
            ..
        } = &mut **stream;
        Some((connection, questions.as_mut()?))
    }
}

impl Flow {
    /// It is a connection for questions: no flow of the client's, so nothing is told of it.
    pub(super) fn is_questioner(&self) -> bool {
        matches!(&self.state, State::Stream(stream) if stream.out == Out::Here)
    }
}
