//! What is said on the local network: one service instance (RFC 6763), in the messages of multicast DNS (RFC 6762). Pure.
//!
//! The codec is hickory's. A message has the port and the link key of its sender, and the first digits of the overlay's id; of
//! addresses only the one that it is sent from, for other programs: nodes go by where a message came from.

use std::net::Ipv4Addr;

use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query};
use hickory_resolver::proto::rr::rdata::{A, PTR, SRV, TXT};
use hickory_resolver::proto::rr::{DNSClass, Name, RData, Record, RecordType};
use meshtone_identity::LinkKey;

/// The service, of a type of its own, in the domain of the local network.
const SERVICE: &str = "_meshtone._udp.local.";

/// What others' messages do not contain: they are put away unread.
const MARK: &[u8] = b"meshtone";

/// The time to live that RFC 6762 §10 recommends of records which name a host, in seconds; ours all go with its address.
const TTL_S: u32 = 120;

/// The bit of the class by which a record replaces others of its name (§10.2), and a question asks for a direct answer (§5.4).
const TOP_BIT: u16 = 0x8000;

/// Digits of the link key in the name of the instance: a label holds 63, the key has 64, and half of them do not collide.
const NAME_DIGITS: usize = 32;

/// A node as it is announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Announced {
    /// The first digits of the overlay's id.
    pub(super) overlay: String,
    /// The key that it will have to prove.
    pub(super) key: LinkKey,
    /// The port of its links.
    pub(super) port: u16,
}

/// What somebody says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// Nodes are looked for.
    Question,
    /// A node is here.
    Here(Announced),
}

/// The messages of one node in one network, ready to be sent.
#[derive(Debug)]
pub(super) struct Messages {
    service: Name,
    instance: Name,
    host: Name,
    /// Asks who is there.
    pub(super) question: Vec<u8>,
    /// Says that we are here.
    pub(super) answer: Vec<u8>,
    /// Says that we are not here any longer (§10.1).
    pub(super) goodbye: Vec<u8>,
}

impl Messages {
    /// Writes the messages of `own`, who has this address.
    ///
    /// # Errors
    /// When they make no DNS messages.
    pub(super) fn new(own: &Announced, address: Ipv4Addr) -> Result<Messages, ProtoError> {
        let service = Name::from_ascii(SERVICE)?;
        let key = own.key.to_string();
        let label = key.get(..NAME_DIGITS).unwrap_or(&key);
        let instance = service.prepend_label(label)?;
        let host = Name::from_ascii("local.")?.prepend_label(format!("meshtone-{label}"))?;
        let mut question = Message::new(0, MessageType::Query, OpCode::Query);
        question.add_query(Query::query(service.clone(), RecordType::PTR));
        let texts = TXT::new(vec![format!("overlay={}", own.overlay), format!("key={key}")]);
        let server = SRV::new(0, 0, own.port, host.clone());
        let answer = |ttl| {
            let mut message = Message::response(0, OpCode::Query);
            message.metadata.authoritative = true;
            // The pointer is one of many of its name; the others are this node's alone.
            message.add_answer(Record::from_rdata(service.clone(), ttl, RData::PTR(PTR(instance.clone()))));
            message.add_answer(unique(&instance, ttl, RData::SRV(server.clone())));
            message.add_answer(unique(&instance, ttl, RData::TXT(texts.clone())));
            message.add_answer(unique(&host, ttl, RData::A(A(address))));
            message.to_vec()
        };
        let (here, goodbye, question) = (answer(TTL_S)?, answer(0)?, question.to_vec()?);
        Ok(Messages { service, instance, host, question, answer: here, goodbye })
    }

    /// Reads what somebody says; `None` when it is not for us, no DNS message, or nothing but what he knows already.
    pub(super) fn read(&self, bytes: &[u8]) -> Option<Said> {
        if !bytes.windows(MARK.len()).any(|part| part.eq_ignore_ascii_case(MARK)) {
            return None;
        }
        let message = Message::from_vec(bytes).ok()?;
        if message.metadata.op_code != OpCode::Query {
            return None;
        }
        match message.metadata.message_type {
            MessageType::Query => self.is_to_be_answered(&message).then_some(Said::Question),
            MessageType::Response => self.announced(&message).map(Said::Here),
        }
    }

    /// Whether it asks for one of our records and does not show that it has them (§7.1).
    fn is_to_be_answered(&self, message: &Message) -> bool {
        let asked = message.queries.iter().any(|query| {
            let of_type =
                |types: &[RecordType]| query.query_type == RecordType::ANY || types.contains(&query.query_type);
            let ours = (query.name == self.service && of_type(&[RecordType::PTR]))
                || (query.name == self.instance && of_type(&[RecordType::SRV, RecordType::TXT]))
                || (query.name == self.host && of_type(&[RecordType::A]));
            ours && is_internet(query.query_class)
        });
        let known = message.answers.iter().any(|record| {
            record.ttl >= TTL_S / 2 && matches!(&record.data, RData::PTR(PTR(instance)) if *instance == self.instance)
        });
        asked && !known
    }

    /// The node that a response tells of; the first one, as nodes tell of themselves alone.
    fn announced(&self, message: &Message) -> Option<Announced> {
        let records =
            || message.answers.iter().chain(&message.additionals).filter(|record| is_internet(record.dns_class));
        let (instance, port) = records().find_map(|record| {
            let RData::SRV(server) = &record.data else { return None };
            let is_here = self.service.zone_of(&record.name) && record.ttl > 0 && server.port > 0;
            is_here.then_some((&record.name, server.port))
        })?;
        let texts = records().find_map(|record| {
            let RData::TXT(texts) = &record.data else { return None };
            (record.name == *instance).then_some(&texts.txt_data)
        })?;
        let text = |name: &str| {
            let mut texts = texts.iter().filter_map(|text| std::str::from_utf8(text).ok());
            texts.find_map(|text| text.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
        };
        Some(Announced { overlay: text("overlay")?, key: text("key")?.parse().ok()?, port })
    }
}

/// A record that nobody else has of this name.
fn unique(name: &Name, ttl: u32, data: RData) -> Record {
    let mut record = Record::from_rdata(name.clone(), ttl, data);
    record.dns_class = (u16::from(DNSClass::IN) | TOP_BIT).into();
    record
}

fn is_internet(class: DNSClass) -> bool {
    matches!((u16::from(class) & !TOP_BIT).into(), DNSClass::IN | DNSClass::ANY)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 1, 7);

    fn node(number: u8) -> Announced {
        Announced { overlay: "0verlay1".to_owned(), key: LinkKey::from_bytes([number; 32]), port: 6084 }
    }

    fn messages(number: u8) -> Messages {
        Messages::new(&node(number), ADDRESS).unwrap()
    }

    fn question(name: &Name, of: RecordType, known: &[Record]) -> Vec<u8> {
        let mut message = Message::new(0, MessageType::Query, OpCode::Query);
        message.add_query(Query::query(name.clone(), of));
        message.add_answers(known.to_vec());
        message.to_vec().unwrap()
    }

    #[test]
    fn a_node_reads_what_another_one_says() {
        let (ours, theirs) = (messages(1), messages(2));
        assert_eq!(ours.read(&theirs.answer), Some(Said::Here(node(2))));
        assert_eq!(ours.read(&theirs.question), Some(Said::Question));
        assert_eq!(ours.read(&theirs.goodbye), None);
    }

    #[test]
    fn each_of_our_records_is_to_be_had_by_its_name_and_others_are_not_ours() {
        let ours = messages(1);
        for (name, of) in [
            (&ours.service, RecordType::PTR),
            (&ours.service, RecordType::ANY),
            (&ours.instance, RecordType::SRV),
            (&ours.instance, RecordType::TXT),
            (&ours.host, RecordType::A),
        ] {
            assert_eq!(ours.read(&question(name, of, &[])), Some(Said::Question), "{name} {of}");
        }
        assert_eq!(ours.read(&question(&ours.service, RecordType::A, &[])), None);
        assert_eq!(ours.read(&question(&messages(2).instance, RecordType::ANY, &[])), None);
        assert_eq!(ours.read(&question(&Name::from_ascii("_ipp._tcp.local.").unwrap(), RecordType::PTR, &[])), None);
        let any_case = Name::from_ascii("_MeshTone._UDP.Local.").unwrap();
        assert_eq!(ours.read(&question(&any_case, RecordType::PTR, &[])), Some(Said::Question));
    }

    #[test]
    fn who_shows_that_he_knows_us_well_enough_is_not_answered() {
        let ours = messages(1);
        let known = |ttl| Record::from_rdata(ours.service.clone(), ttl, RData::PTR(PTR(ours.instance.clone())));
        assert_eq!(ours.read(&question(&ours.service, RecordType::PTR, &[known(TTL_S / 2)])), None);
        let soon_over = question(&ours.service, RecordType::PTR, &[known(TTL_S / 2 - 1)]);
        assert_eq!(ours.read(&soon_over), Some(Said::Question));
    }

    #[test]
    fn a_message_fits_into_one_packet() {
        assert!(messages(1).answer.len() <= 512, "{}", messages(1).answer.len());
    }

    #[test]
    fn what_is_broken_or_hostile_is_nothing() {
        let (ours, theirs) = (messages(1), messages(2).answer);
        for end in 0..theirs.len() {
            assert_eq!(ours.read(&theirs[..end]), None, "cut at {end}");
        }
        // Every byte wrong in turn: it may still name somebody, and it must come to an end.
        for at in 0..theirs.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = theirs.clone();
                bytes[at] ^= flip;
                ours.read(&bytes);
            }
        }
        // 65535 records promised, names that point at themselves and at each other, and as many pointers as fit.
        let head = |records: u16| {
            [[0, 0, 0x84, 0, 0, 0], [0, 0, 0, 0, 0, 0]]
                .concat()
                .into_iter()
                .enumerate()
                .map(move |(at, byte)| if at == 6 || at == 7 { records.to_be_bytes()[at - 6] } else { byte })
        };
        let tail = |bytes: &[u8]| [bytes, MARK].concat();
        for body in [
            tail(&[0xc0, 12]),
            tail(&[0xc0, 14, 0xc0, 12]),
            tail(&[0xc0, 12].repeat(4400)),
            tail(&[63; 8900]),
            MARK.repeat(1100),
        ] {
            let bytes: Vec<u8> = head(u16::MAX).chain(body).collect();
            assert_eq!(ours.read(&bytes), None);
        }
    }
}
