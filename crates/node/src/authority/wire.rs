//! What is said on a stream to the authority: one request and one answer, CBOR arrays.
//!
//! | message | array |
//! | --- | --- |
//! | ask for a code | 1, 1, certification request |
//! | prove | 1, 2, certification request, code |
//! | renew | 1, 3, certification request, node and home certificate |
//! | show another authority's certificate | 1, 4, certification request, its chain, when, signature |
//! | certify a page | 1, 5, home certificate, key of the page, its names |
//! | a mail is on its way, if that is allowed | 1, 0, whether only people who are enrolled already get one |
//! | certificate | 1, 1, certificate |
//! | refusal | 1, 2, number, text |
//! | renewed | 1, 3, node and home certificate |
//!
//! The first number is the version. A later one adds fields at the end, which are passed over. Requests and certificates are DER.

use meshtone_identity::ForeignProof;
use meshtone_identity::foreign::MAX_CHAIN_LEN;
use serde::de::DeserializeOwned;

use super::error::Refusal;
use super::page::PageRequest;
use crate::enrol::renew::Renewal;
use crate::store::cbor::{Blob, to_cbor};

/// The version that both sides write, and the only one they read.
const VERSION: u8 = 1;

/// Largest message: a certification request or certificate has at most 4 KiB, a chain of another authority 12 KiB.
pub(super) const MAX_MESSAGE: usize = 4 << 10 | MAX_CHAIN_LEN;

const ASK: u8 = 1;
const PROVE: u8 = 2;
const RENEW: u8 = 3;
const SHOW: u8 = 4;
const PAGE: u8 = 5;

const MAILED: u8 = 0;
const CERTIFICATE: u8 = 1;
const REFUSED: u8 = 2;
const RENEWED: u8 = 3;

/// What a node asks for, for one of its people.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// A mail with a code.
    Ask { certification: Vec<u8> },
    /// A certificate for the code.
    Prove { certification: Vec<u8>, code: String },
    /// Its own certificates anew.
    Renew(Renewal),
    /// A certificate for that of another authority.
    Show { certification: Vec<u8>, proof: ForeignProof },
    /// A certificate for its page.
    Page(PageRequest),
}

/// What the authority says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// A mail is on its way, if that is allowed.
    Mailed {
        /// Whether only people get one who are enrolled already.
        is_closed: bool,
    },
    /// The certificate.
    Certificate(Vec<u8>),
    /// The asking node's own certificates.
    Renewed { node: Vec<u8>, home: Vec<u8> },
    /// No.
    Refused(Refusal),
}

impl Request {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Request::Ask { certification } => to_cbor(&(VERSION, ASK, Blob(certification.clone()))),
            Request::Prove { certification, code } => to_cbor(&(VERSION, PROVE, Blob(certification.clone()), code)),
            Request::Renew(Renewal { certification, node, home }) => {
                let [certification, node, home] = [certification, node, home].map(|der| Blob(der.clone()));
                to_cbor(&(VERSION, RENEW, certification, node, home))
            }
            Request::Show { certification, proof: ForeignProof { chain, made, signature } } => {
                let chain: Vec<Blob> = chain.iter().map(|der| Blob(der.clone())).collect();
                to_cbor(&(VERSION, SHOW, Blob(certification.clone()), chain, made, Blob(signature.clone())))
            }
            Request::Page(PageRequest { home, key, names }) => {
                to_cbor(&(VERSION, PAGE, Blob(home.clone()), Blob(key.clone()), names))
            }
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Request> {
        let (VERSION, kind) = read::<(u8, u8)>(bytes)? else { return None };
        match kind {
            ASK => {
                let (_, _, Blob(certification)) = read::<(u8, u8, Blob)>(bytes)?;
                Some(Request::Ask { certification })
            }
            PROVE => {
                let (_, _, Blob(certification), code) = read::<(u8, u8, Blob, String)>(bytes)?;
                Some(Request::Prove { certification, code })
            }
            RENEW => {
                let (_, _, Blob(certification), Blob(node), Blob(home)) = read::<(u8, u8, Blob, Blob, Blob)>(bytes)?;
                Some(Request::Renew(Renewal { certification, node, home }))
            }
            PAGE => {
                let (_, _, Blob(home), Blob(key), names) = read::<(u8, u8, Blob, Blob, Vec<String>)>(bytes)?;
                Some(Request::Page(PageRequest { home, key, names }))
            }
            SHOW => {
                let (_, _, Blob(certification), chain, made, Blob(signature)) =
                    read::<(u8, u8, Blob, Vec<Blob>, u64, Blob)>(bytes)?;
                let chain = chain.into_iter().map(|Blob(der)| der).collect();
                Some(Request::Show { certification, proof: ForeignProof { chain, made, signature } })
            }
            _ => None,
        }
    }
}

impl Answer {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Answer::Mailed { is_closed } => to_cbor(&(VERSION, MAILED, is_closed)),
            Answer::Certificate(certificate) => to_cbor(&(VERSION, CERTIFICATE, Blob(certificate.clone()))),
            Answer::Renewed { node, home } => to_cbor(&(VERSION, RENEWED, Blob(node.clone()), Blob(home.clone()))),
            Answer::Refused(refusal) => to_cbor(&(VERSION, REFUSED, refusal.number(), refusal.to_string())),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Answer> {
        let (VERSION, kind) = read::<(u8, u8)>(bytes)? else { return None };
        match kind {
            MAILED => {
                let (_, _, is_closed) = read::<(u8, u8, bool)>(bytes)?;
                Some(Answer::Mailed { is_closed })
            }
            CERTIFICATE => {
                let (_, _, Blob(certificate)) = read::<(u8, u8, Blob)>(bytes)?;
                Some(Answer::Certificate(certificate))
            }
            RENEWED => {
                let (_, _, Blob(node), Blob(home)) = read::<(u8, u8, Blob, Blob)>(bytes)?;
                Some(Answer::Renewed { node, home })
            }
            REFUSED => {
                let (_, _, number, text) = read::<(u8, u8, u8, String)>(bytes)?;
                Some(Answer::Refused(Refusal::from_number(number, &text)))
            }
            _ => None,
        }
    }
}

/// Reads the beginning of an array: a reader of tuples does not mind what comes after their end.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    if bytes.len() > MAX_MESSAGE {
        return None;
    }
    ciborium::from_reader(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back() {
        let certification = vec![0x30, 0x82, 1, 2];
        let ask = Request::Ask { certification: certification.clone() };
        let prove = Request::Prove { certification: certification.clone(), code: "ABCD-EFGH".to_owned() };
        let renew = Request::Renew(Renewal { certification: certification.clone(), node: vec![1], home: vec![2] });
        let proof = ForeignProof { chain: vec![vec![3; 300], vec![4]], made: 1_800_000_000, signature: vec![5; 256] };
        let show = Request::Show { certification: certification.clone(), proof };
        let names = vec!["mesh.example".to_owned(), "10.0.0.1".to_owned()];
        let page = Request::Page(PageRequest { home: vec![6; 600], key: vec![4; 65], names });
        for request in [ask, prove, renew, show, page] {
            assert!(Request::decode(&request.encode()) == Some(request));
        }
        for answer in [
            Answer::Mailed { is_closed: true },
            Answer::Certificate(vec![1, 2, 3]),
            Answer::Renewed { node: vec![1], home: vec![2, 3] },
            Answer::Refused(Refusal::WrongCode),
            Answer::Refused(Refusal::Certificate("it has run out".to_owned())),
            Answer::Refused(Refusal::Other("a later release says this".to_owned())),
        ] {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
    }

    #[test]
    fn what_a_later_release_adds_at_the_end_is_passed_over() {
        let longer = to_cbor(&(VERSION, PROVE, Blob(vec![1]), "ABCD-EFGH", "new", 5));
        assert!(matches!(Request::decode(&longer), Some(Request::Prove { code, .. }) if code == "ABCD-EFGH"));
        let longer = to_cbor(&(VERSION, MAILED, false, "new"));
        assert_eq!(Answer::decode(&longer), Some(Answer::Mailed { is_closed: false }));
    }

    #[test]
    fn what_is_no_message_is_none() {
        let too_long = to_cbor(&(VERSION, ASK, Blob(vec![0; MAX_MESSAGE])));
        let other_version = to_cbor(&(2, ASK, Blob(vec![1])));
        let other_kind = to_cbor(&(VERSION, 9, Blob(vec![1])));
        let short = to_cbor(&(VERSION, PROVE, Blob(vec![1])));
        let nested = vec![0x81; 4096];
        for bytes in [vec![], vec![0xff; 64], vec![0x9b; 9], nested, too_long, other_version, other_kind, short] {
            assert!(Request::decode(&bytes).is_none() && Answer::decode(&bytes).is_none(), "{bytes:x?}");
        }
    }
}
