//! Asking a resolver by an exit: one connection for one question (RFC 7766; inside TLS RFC 7858), because exits carry
//! streams, and not all of them anything else.

use crate::exit::{Secured, Talk, Ways};
use crate::policy::Permit;
use hickory_proto::op::Message;
use std::io::{self, ErrorKind};

/// What the resolver answers to a question; none if it does not, or answers another one.
pub(super) async fn ask(
    ways: &Ways,
    permit: &Permit,
    secured: Option<&Secured>,
    question: &Message,
) -> Option<Message> {
    let stream = ways.dial(permit, None).ok()?;
    let mut talk = Talk::begin(stream, secured).await.ok()?;
    let answer = converse(&mut talk, question).await;
    let answer = answer
        .inspect_err(|error| tracing::debug!(%error, "a resolver did not answer by an exit"))
        .ok()?;
    let same = answer.metadata.id == question.metadata.id && answer.queries == question.queries;
    same.then_some(answer)
}

async fn converse(talk: &mut Talk, question: &Message) -> io::Result<Message> {
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    talk.say(&[&length.to_be_bytes()[..], &bytes].concat())
        .await?;
    let mut length = [0; 2];
    fill(talk, &mut length).await?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    fill(talk, &mut answer).await?;
    Message::from_vec(&answer).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

async fn fill(talk: &mut Talk, mut room: &mut [u8]) -> io::Result<()> {
    while !room.is_empty() {
        match talk.hear(room).await? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            heard => room = room.get_mut(heard..).unwrap_or_default(),
        }
    }
    Ok(())
}
