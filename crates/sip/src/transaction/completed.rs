//! Server transactions of every method but INVITE that have sent their final response over an unreliable transport, and wait for
//! Timer J to end them (state Completed of RFC 3261 §17.2.2).
//!
//! Nothing is left of such a transaction but its response, for a client that asks again, and a busy registrar has a million of
//! them. A client asks again with the very bytes it asked with before, and half of a response is copied from its request: that half
//! is not kept, but copied again. All are kept equally long, so they end in the order in which they came: a log that is appended to
//! at one end and dropped at the other, in chunks that are used again. No transaction has memory or a timer of its own, and only
//! its place in one table is not beside that of its neighbours.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::give_back;
use super::key::{Key, KeyHasher};
use crate::message::{Message, Remainder};
use crate::transport::Flow;

/// Bytes of responses in one chunk: so many that chunks come and go seldom, and so few that an idle worker, which keeps one, does
/// not keep much.
const CHUNK_BYTES: usize = 64 << 10;

/// Responses in one chunk, for which there is room from its start: what is kept of usual ones has 130 to 250 bytes.
const CHUNK_ENTRIES: usize = CHUNK_BYTES / 160;

/// The log of one layer. How many transactions there may be is the layer's to bound.
#[derive(Debug)]
pub(super) struct CompletedLog {
    /// Timer J.
    kept: Duration,
    /// Oldest first; none is empty but the last.
    chunks: VecDeque<Chunk>,
    /// The number of the first chunk; they are counted up, around the end of the numbers.
    first: u32,
    /// By half of the key, which is a hash of its own: where two share it, which does not happen in any number of lives, the older
    /// one is not found any more.
    places: HashMap<u64, Place, KeyHasher>,
    /// A chunk that was emptied, for the next one.
    spare: Option<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    /// When it was begun.
    start: Instant,
    entries: Vec<Entry>,
    /// What all entries are, one behind the other.
    bytes: Vec<u8>,
    /// So many entries, the first ones, are over.
    gone: usize,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    /// Since when it is here, milliseconds from the chunk's start.
    since_ms: u32,
    /// Where its bytes end.
    end: u32,
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
        self.bytes_of(key).is_some()
    }

    /// The response to this request, which has come again, and where to.
    pub(super) fn find(&self, key: &Key, request: &Message) -> Option<(Flow, Bytes)> {
        let bytes = self.bytes_of(key)?;
        let (flow, bytes) = take_flow(bytes)?;
        let (shape, bytes) = bytes.split_first()?;
        if *shape == WHOLE {
            return Some((flow, Bytes::copy_from_slice(bytes)));
        }
        let (start_line, bytes) = take_counted(bytes)?;
        let (to_tag, rest) = take_counted(bytes)?;
        Some((flow, request.with_remainder(Remainder { start_line, to_tag, rest })))
    }

    /// Adds a transaction, whose final response has just been given; with its request, if that is at hand, it takes less. Only
    /// datagrams get lost, so there is none for other flows.
    pub(super) fn append(
        &mut self,
        now: Instant,
        key: Key,
        reply: &Flow,
        request: Option<&Message>,
        response: &Message,
    ) {
        let Flow::Udp { listener, remote } = reply else { return };
        // The response and what is put before it.
        let most = response.bytes().len() + 64;
        if self.chunks.back().is_none_or(|last| !last.has_room_for(now, most)) {
            let chunk = self.spare.take().unwrap_or_else(|| Chunk::new(now));
            self.chunks.push_back(Chunk { start: now, ..chunk });
        }
        let Some(last) = self.chunks.len().checked_sub(1) else { return };
        let Some(chunk) = self.chunks.back_mut() else { return };
        put_flow(&mut chunk.bytes, *listener, *remote);
        match request.and_then(|request| request.remainder_of(response)) {
            Some(Remainder { start_line, to_tag, rest }) => {
                chunk.bytes.push(REMAINDER);
                put_counted(&mut chunk.bytes, start_line);
                put_counted(&mut chunk.bytes, to_tag);
                chunk.bytes.extend_from_slice(rest);
            }
            None => {
                chunk.bytes.push(WHOLE);
                chunk.bytes.extend_from_slice(response.bytes());
            }
        }
        // None is near 2^32: a chunk has some hundred entries of at most 64 KiB, and a log of so many chunks would have 256 TiB.
        let (Ok(last), Ok(entry)) = (u32::try_from(last), u32::try_from(chunk.entries.len())) else { return };
        let (Some(since_ms), Ok(end)) = (chunk.ms_of(now), u32::try_from(chunk.bytes.len())) else { return };
        chunk.entries.push(Entry { key, since_ms, end });
        self.places.insert(key.half(), Place { chunk: self.first.wrapping_add(last), entry });
    }

    /// Since when the oldest one is here.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let chunk = self.chunks.front()?;
        chunk.oldest().map(|entry| chunk.start + Duration::from_millis(entry.since_ms.into()))
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
            self.places.remove(&key.half());
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

    fn bytes_of(&self, key: &Key) -> Option<&[u8]> {
        let place = self.places.get(&key.half())?;
        let chunk = self.chunks.get(usize::try_from(place.chunk.wrapping_sub(self.first)).ok()?)?;
        let index = usize::try_from(place.entry).ok()?;
        let entry = chunk.entries.get(index).filter(|entry| entry.key == *key)?;
        let start = match index.checked_sub(1) {
            Some(before) => chunk.entries.get(before)?.end,
            None => 0,
        };
        chunk.bytes.get(usize::try_from(start).ok()?..usize::try_from(entry.end).ok()?)
    }
}

impl Chunk {
    fn new(start: Instant) -> Chunk {
        Chunk { start, entries: Vec::with_capacity(CHUNK_ENTRIES), bytes: Vec::with_capacity(CHUNK_BYTES), gone: 0 }
    }

    /// What is longer than a chunk has one of its own.
    fn has_room_for(&self, now: Instant, len: usize) -> bool {
        let has_room = self.entries.len() < CHUNK_ENTRIES && self.bytes.len() + len <= CHUNK_BYTES;
        (self.entries.is_empty() || has_room) && self.ms_of(now).is_some()
    }

    /// How long after its start a moment is, rounded up, so that nothing ends too soon; `None` after weeks.
    fn ms_of(&self, now: Instant) -> Option<u32> {
        let passed = now.saturating_duration_since(self.start);
        let ms = passed.as_secs().checked_mul(1000)? + u64::from(passed.subsec_nanos().div_ceil(1_000_000));
        u32::try_from(ms).ok()
    }

    fn oldest(&self) -> Option<&Entry> {
        self.entries.get(self.gone)
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        self.bytes.shrink_to(CHUNK_BYTES);
        self.gone = 0;
    }
}

/// What follows the flow: a response as it is, or what it says beside its request.
const WHOLE: u8 = 0;
const REMAINDER: u8 = 1;

const V4: u8 = 4;
const V6: u8 = 6;

fn put_flow(out: &mut Vec<u8>, listener: u16, remote: SocketAddr) {
    out.extend_from_slice(&listener.to_be_bytes());
    out.extend_from_slice(&remote.port().to_be_bytes());
    match remote {
        SocketAddr::V4(remote) => {
            out.push(V4);
            out.extend_from_slice(&remote.ip().octets());
        }
        SocketAddr::V6(remote) => {
            out.push(V6);
            out.extend_from_slice(&remote.ip().octets());
            out.extend_from_slice(&remote.flowinfo().to_be_bytes());
            out.extend_from_slice(&remote.scope_id().to_be_bytes());
        }
    }
}

fn take_flow(bytes: &[u8]) -> Option<(Flow, &[u8])> {
    let (listener, bytes) = bytes.split_first_chunk()?;
    let (port, bytes) = bytes.split_first_chunk()?;
    let port = u16::from_be_bytes(*port);
    let (family, bytes) = bytes.split_first()?;
    let (remote, bytes) = if *family == V4 {
        let (ip, bytes) = bytes.split_first_chunk::<4>()?;
        (SocketAddr::new(IpAddr::from(*ip), port), bytes)
    } else {
        let (ip, bytes) = bytes.split_first_chunk::<16>()?;
        let (flow_info, bytes) = bytes.split_first_chunk()?;
        let (scope, bytes) = bytes.split_first_chunk()?;
        let (flow_info, scope) = (u32::from_be_bytes(*flow_info), u32::from_be_bytes(*scope));
        (SocketAddrV6::new(Ipv6Addr::from(*ip), port, flow_info, scope).into(), bytes)
    };
    Some((Flow::Udp { listener: u16::from_be_bytes(*listener), remote }, bytes))
}

/// Puts a piece, which is shorter than a line may be, with its length before it.
fn put_counted(out: &mut Vec<u8>, piece: &[u8]) {
    out.extend_from_slice(&u16::try_from(piece.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(piece);
}

fn take_counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, bytes) = bytes.split_first_chunk()?;
    bytes.split_at_checked(usize::from(u16::from_be_bytes(*len)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::key::Keys;
    use super::*;
    use crate::message::{Builder, Header};

    const KEPT: Duration = Duration::from_secs(32);

    fn flow(remote: &str) -> Flow {
        Flow::Udp { listener: 258, remote: remote.parse().unwrap() }
    }

    fn requests(count: usize) -> Vec<(Key, Message)> {
        let keys = Keys::default();
        let request = |number| {
            let text = format!(
                "OPTIONS sip:b@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z{number}\r\nMax-Forwards: 7\r\nv: SIP/2.0/UDP i\r\n\
                 From: <sip:a@a>;tag=1 \r\nt: <sip:b@b>\r\nCall-ID: c{number}\r\nCSeq: 1 OPTIONS\r\n\r\n"
            );
            Message::parse(text.into()).unwrap()
        };
        (0..count).map(request).map(|request| (keys.client(&request).unwrap(), request)).collect()
    }

    /// A response that is like no other, of very different lengths, some longer than a chunk, and some that copy their request.
    fn response(number: usize, request: &Message) -> Message {
        let len = if number.is_multiple_of(197) { CHUNK_BYTES - 400 } else { 1 + number * 7919 % 1500 };
        let body: Vec<u8> = (0..len).map(|at| u8::try_from((at + number) % 251).unwrap()).collect();
        let builder = match number % 3 {
            0 => Builder::response(&requests(1)[0].1, 200, ""),
            1 => Builder::response(request, 404, "Gone, Away"),
            _ => Builder::response(request, 200, "").to_tag("t"),
        };
        builder.body("a/b", &body).finish()
    }

    #[test]
    fn each_response_is_found_as_it_was_given_until_its_time_is_over() {
        let requests = requests(2000);
        let start = Instant::now();
        let at = |number: usize| start + Duration::from_millis(u64::try_from(number).unwrap() * 40);
        let mut log = CompletedLog::new(KEPT);
        for (number, (key, request)) in requests.iter().enumerate() {
            log.handle_timeout(at(number));
            assert_eq!(log.len(), number.min(799));
            let reply = flow(if number % 2 == 0 { "192.0.2.1:5060" } else { "[fe80::1%7]:5061" });
            log.append(at(number), *key, &reply, Some(request), &response(number, request));
            assert_eq!(log.find(key, request).unwrap().0, reply);
            for known in [number, number.saturating_sub(400), number.saturating_sub(799)] {
                let (key, request) = &requests[known];
                assert_eq!(log.find(key, request).unwrap().1, response(known, request).bytes());
            }
            assert!(number < 800 || !log.contains(&requests[number - 800].0));
        }
        assert_eq!(log.poll_timeout(), Some(at(2000 - 800) + KEPT));
        log.handle_timeout(at(2000) + KEPT);
        assert_eq!((log.len(), log.chunks.len(), log.oldest()), (0, 0, None));
        let spare = log.spare.unwrap();
        assert!(spare.bytes.capacity() <= CHUNK_BYTES && spare.entries.capacity() <= CHUNK_ENTRIES);
    }

    #[test]
    fn a_transaction_after_weeks_of_silence_is_kept_as_long_as_any() {
        let requests = requests(2);
        let mut log = CompletedLog::new(KEPT);
        let start = Instant::now();
        for (days, (key, request)) in [0, 60].into_iter().zip(&requests) {
            let now = start + Duration::from_secs(days * 86_400) + Duration::from_nanos(days);
            log.append(now, *key, &flow("192.0.2.1:5060"), None, &response(1, request));
            assert!(log.contains(key));
            log.handle_timeout(now + KEPT - Duration::from_nanos(1));
            assert!(log.contains(key));
        }
    }

    #[test]
    fn what_is_left_of_a_usual_transaction_is_what_its_response_says_of_its_own() {
        const COUNT: usize = 20_000;
        const OWN: usize = 170;
        let mut log = CompletedLog::new(KEPT);
        let start = Instant::now();
        for (key, request) in requests(COUNT) {
            let response = Builder::response(&request, 200, "").to_tag("0123456789abcdef0123").header(
                Header::Contact,
                &"c".repeat(
                    OWN - "SIP/2.0 200 OK\r\n;tag=0123456789abcdef0123Contact: \r\nContent-Length: 0\r\n\r\n".len(),
                ),
            );
            log.append(start, key, &flow("192.0.2.1:5060"), Some(&request), &response.finish());
        }
        let of_chunk = |chunk: &Chunk| chunk.bytes.capacity() + chunk.entries.capacity() * size_of::<Entry>();
        // A table has room for an eighth more than it says, and a byte for each place.
        let table = log.places.capacity() * (size_of::<(u64, Place)>() + 1) * 8 / 7;
        let bytes = log.chunks.iter().map(of_chunk).sum::<usize>() + table;
        assert!(bytes / COUNT <= OWN + 80, "{}", bytes / COUNT);
    }
}
