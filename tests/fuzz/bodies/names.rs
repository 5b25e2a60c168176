//! What clients ask and show: total, bounded, and the same however it is cut.

use cordon::names::{Datagrams, Names, Outcome, Question, Stream, rebinds, screen};
use cordon::time::Time;
use hickory_proto::op::Message;

/// A message as a question, and as an answer that is screened and learned from.
pub(super) fn question(data: &[u8]) {
    if let Ok(question) = Question::read(data) {
        assert!(question.name().len() <= 1024);
        let others = question.to_others();
        assert!(
            others
                .edns
                .is_some_and(|edns| edns.options().as_ref().is_empty())
        );
    }
    let Ok(mut message) = Message::from_vec(data) else {
        return;
    };
    let before = message.answers.len();
    let forbids = |address: std::net::IpAddr| address.is_ipv6();
    screen(&mut message, forbids, true);
    assert!(message.answers.len() <= before);
    let again = message.clone();
    screen(&mut message, forbids, true);
    assert_eq!(message, again, "screened twice is screened once");
    let _ = rebinds(&message, forbids);
    let mut names = Names::new(16, 7);
    names.learn([10, 0, 0, 2].into(), data, Time::from_secs(1));
    assert!(names.len() <= 16);
}

/// A stream in pieces, of lengths that the first byte begins, shows what it shows at once.
pub(super) fn hello(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else {
        return;
    };
    let (mut whole, mut all) = (Stream::default(), Vec::new());
    whole.read(bytes, &mut all);
    let (mut stream, mut shown) = (Stream::default(), Vec::new());
    let (mut size, mut rest) = (*size, bytes);
    while !rest.is_empty() {
        let (piece, next) = rest.split_at(usize::from(size).clamp(1, rest.len()));
        stream.read(piece, &mut shown);
        assert!(stream.pending() <= cordon::names::LONGEST_OPENING);
        (size, rest) = (size.rotate_left(3) ^ 0x5d, next);
    }
    assert_eq!(shown, all);
    assert_eq!(stream.is_done(), whole.is_done());
}

/// Datagrams, each behind its length of two bytes.
pub(super) fn initial(data: &[u8]) {
    let mut reader = Datagrams::default();
    let mut rest = data;
    while let Some((length, bytes)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(bytes.len());
        let (datagram, next) = bytes.split_at(length);
        rest = next;
        if reader.read(datagram) != Outcome::Wait {
            return;
        }
    }
}
