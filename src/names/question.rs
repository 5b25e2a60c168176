//! What a client asks of a resolver, and the shape of answers to it (RFC 1035, RFC 6891).

use super::known::text;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};

/// Bytes of an answer by UDP to a client that says nothing of itself …
const PLAIN: u16 = 512;
/// … and the most to any: no link in use cuts it (RFC 9715, section 3).
const LARGEST: u16 = 1232;

/// A question of a client.
#[derive(Clone, Debug)]
pub struct Question {
    /// As it was asked, its case with it.
    query: Query,
    /// Lower case, A-labels, no trailing dot.
    name: Box<str>,
    id: u16,
    recursion: bool,
    checking_disabled: bool,
    /// Bytes that the client takes by UDP, and whether it wants signatures; none without EDNS.
    edns: Option<(u16, bool)>,
}

/// What makes two questions the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    name: Box<str>,
    kind: RecordType,
    class: DNSClass,
    signatures: bool,
    checking_disabled: bool,
    lane: usize,
}

impl Question {
    /// Reads a query.
    ///
    /// # Errors
    /// The answer to what is not one, if it can be answered.
    pub fn read(bytes: &[u8]) -> Result<Self, Option<Vec<u8>>> {
        let refuse = |code| {
            let id = bytes.first_chunk().copied().map(u16::from_be_bytes);
            let is_query = bytes.get(2).is_some_and(|flags| flags & 0x80 == 0);
            let id = id.filter(|_| is_query && bytes.len() >= 12);
            Err(id.and_then(|id| Message::error_msg(id, OpCode::Query, code).to_vec().ok()))
        };
        let Ok(message) = Message::from_vec(bytes) else {
            return refuse(ResponseCode::FormErr);
        };
        if message.metadata.op_code != OpCode::Query {
            return refuse(ResponseCode::NotImp);
        }
        let ([query], MessageType::Query) =
            (message.queries.as_slice(), message.metadata.message_type)
        else {
            return refuse(ResponseCode::FormErr);
        };
        Ok(Self {
            name: text(query.name()).into(),
            query: query.clone(),
            id: message.metadata.id,
            recursion: message.metadata.recursion_desired,
            checking_disabled: message.metadata.checking_disabled,
            edns: message
                .edns
                .as_ref()
                .map(|edns| (edns.max_payload(), edns.flags().dnssec_ok)),
        })
    }

    /// The name that is asked for: lower case, A-labels, no trailing dot.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it has in common with the same question of others. `lane` tells resolvers apart that may answer otherwise.
    pub fn key(&self, lane: usize) -> Key {
        Key {
            name: self.name.clone(),
            kind: self.query.query_type(),
            class: self.query.query_class(),
            signatures: self.edns.is_some_and(|(_, signatures)| signatures),
            checking_disabled: self.checking_disabled,
            lane,
        }
    }

    /// The question as it is asked of others: nothing of the client is in it.
    pub fn to_others(&self) -> Message {
        let mut message = Message::new(0, MessageType::Query, OpCode::Query);
        let mut query = self.query.clone();
        query.set_name(query.name().to_lowercase());
        message.add_query(query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = self.checking_disabled;
        let mut edns = Edns::new();
        edns.set_max_payload(LARGEST);
        edns.set_dnssec_ok(self.edns.is_some_and(|(_, signatures)| signatures));
        message.set_edns(edns);
        message
    }

    /// Makes a message one that answers this question, as it was asked.
    pub fn put_into(&self, message: &mut Message) {
        message.queries = vec![self.query.clone()];
    }

    /// An answer without records.
    pub fn refuse(&self, code: ResponseCode) -> Message {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.response_code = code;
        message
    }

    /// The bytes of an answer to this question; by UDP cut to what the client takes, and marked as such. `None` if it
    /// cannot be written.
    pub fn answer(&self, mut message: Message, by_udp: bool) -> Option<Vec<u8>> {
        message.metadata.id = self.id;
        message.metadata.message_type = MessageType::Response;
        message.metadata.op_code = OpCode::Query;
        message.metadata.authoritative = false;
        message.metadata.truncation = false;
        message.metadata.recursion_desired = self.recursion;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.checking_disabled;
        self.put_into(&mut message);
        message.signature = None;
        message.edns = self.edns.map(|(_, signatures)| {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST);
            edns.set_dnssec_ok(signatures);
            edns
        });
        let bytes = message.to_vec().ok()?;
        let most = self
            .edns
            .map_or(PLAIN, |(takes, _)| takes.clamp(PLAIN, LARGEST));
        if !by_udp || bytes.len() <= usize::from(most) {
            return u16::try_from(bytes.len()).is_ok().then_some(bytes);
        }
        let mut short = message.truncate();
        short.answers.clear();
        short.authorities.clear();
        short.additionals.clear();
        short.metadata.truncation = true;
        short.to_vec().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{Name, RData, Record};

    fn query(payload: Option<u16>) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.id = 99;
        message.metadata.recursion_desired = true;
        let name = Name::from_ascii("WwW.Example.").unwrap();
        message.add_query(Query::query(name, RecordType::A));
        if let Some(payload) = payload {
            let mut edns = Edns::new();
            edns.set_max_payload(payload);
            message.set_edns(edns);
        }
        message.to_vec().unwrap()
    }

    #[test]
    fn what_goes_to_others_has_nothing_of_the_client() {
        use hickory_proto::rr::rdata::opt::{ClientSubnet, EdnsOption};
        let mut message = Message::from_vec(&query(Some(4096))).unwrap();
        let subnet = ClientSubnet::new("192.0.2.0".parse().unwrap(), 24, 0);
        let edns = message.edns.as_mut().unwrap();
        edns.options_mut().insert(EdnsOption::Subnet(subnet));
        let question = Question::read(&message.to_vec().unwrap()).unwrap();
        let other = question.to_others();
        assert_ne!(other.metadata.id, 99);
        assert!(other.edns.unwrap().options().as_ref().is_empty());
        assert_eq!(other.queries[0].name().to_ascii(), "www.example.");
    }

    #[test]
    fn an_answer_has_the_case_of_its_question_and_is_cut_to_what_the_client_takes() {
        for (payload, records, cut) in [
            (None, 20, false),
            (None, 60, true),
            (Some(1232), 60, false),
            (Some(65_535), 100, true),
        ] {
            let question = Question::read(&query(payload)).unwrap();
            assert_eq!(question.name(), "www.example");
            let mut message = Message::response(1, OpCode::Query);
            for _ in 0..records {
                let name = Name::from_ascii("www.example.").unwrap();
                message.add_answer(Record::from_rdata(name, 60, RData::A(A::new(192, 0, 2, 1))));
            }
            let bytes = question.answer(message.clone(), true).unwrap();
            let read = Message::from_vec(&bytes).unwrap();
            assert_eq!(read.metadata.id, 99);
            assert_eq!(read.queries[0].name().to_ascii(), "WwW.Example.");
            assert_eq!(read.metadata.truncation, cut);
            assert_eq!(read.answers.is_empty(), cut);
            let whole = question.answer(message, false).unwrap();
            let whole = Message::from_vec(&whole).unwrap();
            assert_eq!(whole.answers.len(), records);
        }
    }

    #[test]
    fn what_is_no_query_is_refused_and_answers_and_stumps_are_not_answered() {
        let whole = query(None);
        let mut response = whole.clone();
        response[2] |= 0x80;
        assert_eq!(Question::read(&response).unwrap_err(), None);
        assert_eq!(Question::read(&whole[..11]).unwrap_err(), None);
        // A name whose compression points to itself.
        let mut looped = whole[..12].to_vec();
        looped.extend([0xc0, 12, 0, 1, 0, 1]);
        let mut update = whole.clone();
        update[2] |= 5 << 3;
        for (bytes, code) in [
            (&whole[..20], ResponseCode::FormErr),
            (&looped[..], ResponseCode::FormErr),
            (&update[..], ResponseCode::NotImp),
        ] {
            let answer = Question::read(bytes).unwrap_err().unwrap();
            let answer = Message::from_vec(&answer).unwrap();
            assert_eq!(answer.metadata.response_code, code);
        }
    }
}
