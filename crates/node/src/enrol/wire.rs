//! The two messages of enrolment, CBOR arrays that the link carries unseen.
//!
//! Request: version, token, certification request. Reply: version, 0, authority, node and home certificate; or
//! version and the number of a [`Refusal`].

use serde::de::DeserializeOwned;

use super::error::Refusal;
use crate::store::cbor::{Blob, Octets, to_cbor};

/// The version that both sides write, and the only one they read.
const VERSION: u8 = 1;

/// What the joiner shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) token: [u8; 16],
    /// PKCS#10, see `meshtone_identity::EnrolRequest`.
    pub(super) certification: Vec<u8>,
}

/// What the joiner gets: certificates, DER.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) authority: Vec<u8>,
    pub(super) node: Vec<u8>,
    pub(super) home: Vec<u8>,
}

impl Request {
    pub(super) fn encode(self) -> Vec<u8> {
        to_cbor(&(VERSION, Octets(self.token), Blob(self.certification)))
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Request> {
        let (VERSION, Octets(token), Blob(certification)) = read(bytes)? else { return None };
        Some(Request { token, certification })
    }
}

impl Reply {
    pub(super) fn encode(self) -> Vec<u8> {
        to_cbor(&(VERSION, 0, Blob(self.authority), Blob(self.node), Blob(self.home)))
    }
}

pub(super) fn encode_refusal(refusal: Refusal) -> Vec<u8> {
    to_cbor(&(VERSION, refusal as u8))
}

/// Reads a reply or a refusal; `None` for what is neither.
pub(super) fn decode_reply(bytes: &[u8]) -> Option<Result<Reply, Refusal>> {
    // The longer one first: a reader of tuples does not mind what comes after their end.
    if let Some((VERSION, 0, Blob(authority), Blob(node), Blob(home))) = read::<(u8, u8, Blob, Blob, Blob)>(bytes) {
        return Some(Ok(Reply { authority, node, home }));
    }
    let (VERSION, number) = read::<(u8, u8)>(bytes)? else { return None };
    Refusal::from_number(number).map(Err)
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    ciborium::from_reader(bytes).ok()
}
