//! What others ask of this node: lists of nodes, values, room for values.

use meshtone_identity::NodeId;

use super::body::{Ask, Failure, Handed, MAX_NEWER, Offer, OfferState, Reply};
use super::config::{CHECKS, FORWARDS, MAX_BATCH};
use super::evidence::contradict;
use super::message::{MessageError, Refusal, RefusalReason, Request};
use super::storage::{Held, size};
use super::{Dht, Now, Position};
use crate::record::{RecordError, StoredValue};

impl Dht {
    /// Answers a request that has come to its end here.
    pub(super) fn serve(&mut self, now: Now, from: NodeId, request: &Request) {
        match Ask::decode(&request.body) {
            Ok(ask) => {
                let place = ask.place();
                if !self.may_be_checked(now, from, &ask) {
                    return self.answer(from, request, None, &Reply::Failed(Failure::Busy));
                }
                let reply = if let Ask::Listen { resource, kind, .. } = ask {
                    self.storage.expire(now.instant);
                    self.reply_to_listener(now, from, request.origin, (resource, kind))
                } else {
                    self.reply(now, ask)
                };
                self.answer(from, request, place, &reply);
            }
            Err(MessageError::Record(error)) => {
                let refusal = refusal_of(&error);
                self.answer(from, request, None, &Reply::Stored(vec![Err(refusal)]));
            }
            Err(MessageError::Malformed(_) | MessageError::TooLong(_) | MessageError::UnknownType(_)) => {
                self.answer(from, request, None, &Reply::Failed(Failure::NotUnderstood));
            }
        }
    }

    /// Says whether the link may have as many signatures checked as this takes. What is held already takes none.
    fn may_be_checked(&mut self, now: Now, from: NodeId, ask: &Ask) -> bool {
        let values = match ask {
            // Nothing is checked for it, but it takes room, and counts like a value.
            Ask::Listen { .. } => {
                return self
                    .table
                    .allowance(from)
                    .is_none_or(|allowance| allowance.checks.take(now.instant, 1, CHECKS));
            }
            Ask::Store(values) => values.as_slice(),
            Ask::Put(handed) => std::slice::from_ref(&**handed),
            Ask::Find(_) | Ask::Fetch { .. } | Ask::Offer(_) | Ask::Clock | Ask::Changed(_) | Ask::Moved { .. } => {
                return true;
            }
        };
        let wanted = values.iter().filter(|handed| !self.is_held(&handed.record.value)).count();
        self.table.allowance(from).is_none_or(|allowance| allowance.checks.take(now.instant, wanted, CHECKS))
    }

    /// Says whether the link may have as many values passed on as this request carries. Whoever they go to charges them to this
    /// node, which must not lose its own say there to one that floods.
    pub(super) fn may_be_passed_on(&mut self, now: Now, from: NodeId, request: &Request) -> bool {
        let values = Ask::values_carried(&request.body);
        self.table.allowance(from).is_none_or(|allowance| allowance.forwards.take(now.instant, values, FORWARDS))
    }

    /// Says whether this very value is held, and was therefore verified.
    fn is_held(&self, value: &StoredValue) -> bool {
        let held = self.storage.get(value.resource(), &(value.kind, value.key.clone()));
        held.is_some_and(|held| held.record.value == *value)
    }

    /// Does what is asked.
    pub(super) fn reply(&mut self, now: Now, ask: Ask) -> Reply {
        self.storage.expire(now.instant);
        match ask {
            Ask::Find(_) => Reply::Nodes,
            Ask::Fetch { resource, kind } => Reply::Values(self.storage.values(resource, kind)),
            Ask::Store(values) => Reply::Stored(values.into_iter().map(|handed| self.take(now, handed)).collect()),
            Ask::Offer(offers) => self.reply_to_offer(now, &offers),
            Ask::Put(handed) => {
                let newer = self.newer_than(now, &handed.record.value);
                Reply::Merged { result: self.take(now, *handed), newer }
            }
            Ask::Clock => Reply::Time(self.uncorrected_ms(now)),
            Ask::Changed(offers) => {
                let place = offers.first().map(|offer| (offer.resource, offer.kind));
                let of_one_place = offers.iter().all(|offer| Some((offer.resource, offer.kind)) == place);
                Reply::Heard { wanted: of_one_place && place.is_some_and(|place| self.on_told(now, place, &offers)) }
            }
            Ask::Moved { resource, kind } => Reply::Heard { wanted: self.on_moved(now, (resource, kind)) },
            // Who asks has to be known (`serve`): this node does not ask itself.
            Ask::Listen { .. } => Reply::Failed(Failure::NotUnderstood),
        }
    }

    /// Returns what others have written in the place of a value since it was dated, newest first.
    fn newer_than(&self, now: Now, value: &StoredValue) -> Vec<Handed> {
        let held =
            self.storage.at(value.resource()).filter(|((kind, key), _)| *kind == value.kind && *key != value.key);
        let mut newer: Vec<&Held> =
            held.map(|(_, held)| held).filter(|held| held.record.value.storage_ms > value.storage_ms).collect();
        newer.sort_by_key(|held| std::cmp::Reverse(held.record.value.storage_ms));
        let mut room = MAX_BATCH;
        let fits = newer.into_iter().take(MAX_NEWER).take_while(|held| {
            let size = size(&held.record);
            let fits = size <= room;
            room = room.saturating_sub(size);
            fits
        });
        fits.map(|held| held.handed(now.instant)).collect()
    }

    /// Takes a value into the storage, if it is right and belongs here.
    pub(super) fn take(&mut self, now: Now, handed: Handed) -> Result<(), Refusal> {
        let value = &handed.record.value;
        let resource = value.resource();
        // Whoever holds it already, though it is not his business, must not stay behind.
        let held = self.storage.get(resource, &(value.kind, value.key.clone())).is_some();
        if !held && !self.responsible(resource.into()) {
            return Err(Refusal { reason: RefusalReason::NotResponsible, newest_ms: 0 });
        }
        if self.is_held(value) {
            return Ok(());
        }
        self.validator
            .validate(now.unix_ms, resource, value, &handed.record.certificates)
            .map_err(|error| refusal_of(&error))?;
        let contradicting = self.storage.get(resource, &(value.kind, value.key.clone()));
        if let Some(held) = contradicting.filter(|held| contradict(&held.record.value, value)) {
            let held = held.record.clone();
            self.note_contradiction(now, &held, &handed.record);
        }
        self.absences.forget(resource, value.kind);
        let slot = (value.kind, value.key.clone());
        let before = self.storage.get(resource, &slot).map(|held| held.digest);
        self.storage.put(now, &self.config, resource, handed)?;
        self.set_expiry_timer();
        if self.storage.get(resource, &slot).map(|held| held.digest) != before {
            self.on_change(now, resource, &slot);
        }
        Ok(())
    }

    /// Whether a value at this place may be held here: unless many linked nodes are closer. Twice the replicas, since no two
    /// nodes see exactly the same neighbours.
    pub(super) fn responsible(&self, place: Position) -> bool {
        self.role.serves() && self.table.rank(place, self.position) < 2 * self.config.replicas
    }

    fn reply_to_offer(&mut self, now: Now, offers: &[Offer]) -> Reply {
        let mut newer = Vec::new();
        let mut room = MAX_BATCH;
        let mut states = Vec::with_capacity(offers.len());
        for offer in offers {
            let held = self.storage.get(offer.resource, &(offer.kind, offer.key.clone()));
            let state = match held {
                Some(held) if held.digest == offer.digest => OfferState::Same,
                Some(held) if offered_is_newer(held, offer) => OfferState::Wanted,
                Some(held) => {
                    if let Some(left) = room.checked_sub(size(&held.record)) {
                        room = left;
                        newer.push(held.handed(now.instant));
                    }
                    OfferState::Newer
                }
                None if self.responsible(offer.resource.into()) => OfferState::Wanted,
                None => OfferState::Refused,
            };
            states.push(state);
        }
        Reply::Offered { states, newer }
    }
}

/// As [`StoredValue::supersedes`](crate::record::StoredValue::supersedes), with what an offer tells. Of two values of one time
/// both are shown to the other side: the offer is wanted, and the full rule decides there.
fn offered_is_newer(held: &super::storage::Held, offer: &Offer) -> bool {
    offer.storage_ms >= held.record.value.storage_ms
}

fn refusal_of(error: &RecordError) -> Refusal {
    let (reason, newest_ms) = match error {
        RecordError::Malformed(_)
        | RecordError::UnknownKind(_)
        | RecordError::Name(_)
        | RecordError::Content(_)
        | RecordError::TooLarge { .. }
        | RecordError::Lifetime { .. } => (RefusalReason::Malformed, 0),
        RecordError::MissingCertificate(_)
        | RecordError::Certificate(_)
        | RecordError::NotEntitled(_)
        | RecordError::Revoked
        | RecordError::Signature
        | RecordError::Signing(_) => (RefusalReason::NotEntitled, 0),
        RecordError::FromTheFuture { .. } => (RefusalReason::FromTheFuture, 0),
        RecordError::Expired => (RefusalReason::Expired, 0),
        RecordError::TooOld { newest_ms } => (RefusalReason::TooOld, *newest_ms),
    };
    Refusal { reason, newest_ms }
}
