//! Server transactions of every method but INVITE that have sent their final response over an unreliable transport, and wait for
//! Timer J to end them (state Completed of RFC 3261 §17.2.2).
//!
//! Nothing is left of such a transaction but its response, for a client that asks again, and a busy registrar has a million of
//! them. All are kept equally long, so they end in the order in which they came: a log that is appended to at one end and
//! dropped at the other, in chunks that are used again. No transaction has memory or a timer of its own, and only its place
//! in one table is not beside that of its neighbours.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::give_back;
use super::key::{Key, KeyHasher};
use crate::transport::Flow;

/// Bytes of responses in one chunk: so many that chunks come and go seldom, and so few that an idle worker, which keeps one, does
/// not keep much.
const CHUNK_BYTES: usize = 64 << 10;

/// Responses in one chunk, for which there is room from its start: usual ones have 350 to 600 bytes.
const CHUNK_ENTRIES: usize = CHUNK_BYTES / 350;

/// The log of one layer. How many transactions there may be is the layer's to bound.
#[derive(Debug)]
pub(super) struct CompletedLog {
    /// Timer J.
    kept: Duration,
    /// Oldest first; none is empty but the last.
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk; they are counted up, around the end of the numbers.
    first: u32,
    places: HashMap<Key, Place, KeyHasher>,
    /// A chunk that was emptied, for the next one.
    spare: Option<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    entries: Vec<Entry>,
    /// The responses of all entries, one behind the other.
    responses: Vec<u8>,
    /// So many entries, the first ones, are over.
    gone: usize,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    since: Instant,
    reply: Flow,
    /// Where its response ends.
    end: usize,
}

/// Where an entry is.
#[derive(Debug, Clone, Copy)]
struct Place {
    chunk: u32,
    entry: u32,
}

impl CompletedLog {
    /// An empty log, whose transactions are kept for this long.
    pub(super) fn new(kept: Duration) -> CompletedLog {
        CompletedLog { kept, chunks: VecDeque::new(), first: 0, places: HashMap::default(), spare: None }
    }

    /// How many transactions there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether a request repeats one of these.
    pub(super) fn contains(&self, key: &Key) -> bool {
        self.places.contains_key(key)
    }

    /// The response to a request that was answered, and where to.
    pub(super) fn find(&self, key: &Key) -> Option<(Flow, Bytes)> {
        let place = self.places.get(key)?;
        let chunk = self.chunks.get(usize::try_from(place.chunk.wrapping_sub(self.first)).ok()?)?;
        let index = usize::try_from(place.entry).ok()?;
        let entry = chunk.entries.get(index)?;
        let start = match index.checked_sub(1) {
            Some(before) => chunk.entries.get(before)?.end,
            None => 0,
        };
        Some((entry.reply.clone(), Bytes::copy_from_slice(chunk.responses.get(start..entry.end)?)))
    }

    /// Adds a transaction, whose final response has just been given.
    pub(super) fn append(&mut self, now: Instant, key: Key, reply: Flow, response: &[u8]) {
        if self.chunks.back().is_none_or(|last| !last.has_room_for(response.len())) {
            self.chunks.push_back(self.spare.take().unwrap_or_else(Chunk::new));
        }
        let Some(last) = self.chunks.len().checked_sub(1) else { return };
        let Some(chunk) = self.chunks.back_mut() else { return };
        // Neither is near 2^32: a chunk has some hundred entries, and a log of so many chunks would have 256 TiB.
        let (Ok(last), Ok(entry)) = (u32::try_from(last), u32::try_from(chunk.entries.len())) else { return };
        chunk.responses.extend_from_slice(response);
        chunk.entries.push(Entry { key, since: now, reply, end: chunk.responses.len() });
        self.places.insert(key, Place { chunk: self.first.wrapping_add(last), entry });
    }

    /// Since when the oldest one is here.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.chunks.front().and_then(Chunk::oldest).map(|entry| entry.since)
    }

    /// When the oldest one ends.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.oldest().map(|since| since + self.kept)
    }

    /// Ends all whose time is over.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while self.poll_timeout().is_some_and(|until| until <= now) {
            self.drop_oldest();
        }
    }

    /// Ends the oldest one.
    pub(super) fn drop_oldest(&mut self) {
        let Some(chunk) = self.chunks.front_mut() else { return };
        if let Some(key) = chunk.oldest().map(|entry| entry.key) {
            self.places.remove(&key);
            chunk.gone += 1;
        }
        if chunk.oldest().is_none()
            && let Some(mut empty) = self.chunks.pop_front()
        {
            self.first = self.first.wrapping_add(1);
            empty.clear();
            self.spare = Some(empty);
            give_back(&mut self.places);
        }
    }
}

impl Chunk {
    fn new() -> Chunk {
        Chunk { entries: Vec::with_capacity(CHUNK_ENTRIES), responses: Vec::with_capacity(CHUNK_BYTES), gone: 0 }
    }

    /// What is longer than a chunk has one of its own.
    fn has_room_for(&self, len: usize) -> bool {
        self.entries.is_empty() || (self.entries.len() < CHUNK_ENTRIES && self.responses.len() + len <= CHUNK_BYTES)
    }

    fn oldest(&self) -> Option<&Entry> {
        self.entries.get(self.gone)
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.responses.clear();
        self.responses.shrink_to(CHUNK_BYTES);
        self.gone = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::key::Keys;
    use super::*;
    use crate::message::Message;

    const KEPT: Duration = Duration::from_secs(32);

    fn flow() -> Flow {
        Flow::Udp { listener: 0, remote: "192.0.2.1:5060".parse().unwrap() }
    }

    fn keys(count: usize) -> Vec<Key> {
        let keys = Keys::default();
        let request = |number| {
            format!("OPTIONS sip:b@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z{number}\r\nCSeq: 1 OPTIONS\r\n\r\n")
        };
        (0..count).map(|number| keys.client(&Message::parse(request(number).into()).unwrap()).unwrap()).collect()
    }

    /// A response that is like no other, of very different lengths, some longer than a chunk.
    fn response(number: usize) -> Vec<u8> {
        let len = if number.is_multiple_of(197) { CHUNK_BYTES + number } else { 1 + number * 7919 % 1500 };
        (0..len).map(|at| u8::try_from((at + number) % 251).unwrap()).collect()
    }

    #[test]
    fn each_response_is_found_as_it_was_given_until_its_time_is_over() {
        let keys = keys(2000);
        let start = Instant::now();
        let at = |number: usize| start + Duration::from_millis(u64::try_from(number).unwrap() * 40);
        let mut log = CompletedLog::new(KEPT);
        for (number, key) in keys.iter().enumerate() {
            log.handle_timeout(at(number));
            assert_eq!(log.len(), number.min(799));
            log.append(at(number), *key, flow(), &response(number));
            for known in [number, number.saturating_sub(400), number.saturating_sub(799)] {
                assert_eq!(log.find(&keys[known]).unwrap().1, response(known));
            }
            assert!(number < 800 || !log.contains(&keys[number - 800]));
        }
        assert_eq!(log.poll_timeout(), Some(at(2000 - 800) + KEPT));
        log.handle_timeout(at(2000) + KEPT);
        assert_eq!((log.len(), log.chunks.len(), log.oldest()), (0, 0, None));
        let spare = log.spare.unwrap();
        assert!(spare.responses.capacity() <= CHUNK_BYTES && spare.entries.capacity() <= CHUNK_ENTRIES);
    }

    #[test]
    fn what_is_left_of_a_usual_transaction_takes_about_its_response() {
        const COUNT: usize = 20_000;
        let mut log = CompletedLog::new(KEPT);
        let response = [0; 400];
        let start = Instant::now();
        for key in keys(COUNT) {
            log.append(start, key, flow(), &response);
        }
        let of_chunk = |chunk: &Chunk| chunk.responses.capacity() + chunk.entries.capacity() * size_of::<Entry>();
        // A table has room for an eighth more than it says, and a byte for each place.
        let table = log.places.capacity() * (size_of::<(Key, Place)>() + 1) * 8 / 7;
        let bytes = log.chunks.iter().map(of_chunk).sum::<usize>() + table;
        assert!(bytes / COUNT <= response.len() + 200, "{}", bytes / COUNT);
    }
}
