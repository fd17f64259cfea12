//! A jitter buffer: packets come when the network lets them, and are played when it is their time. Pure; its owner asks for a piece of sound
//! at each tick.
//!
//! How long is waited follows what was seen: as long as all but two of a hundred packets needed more than the fastest one. It grows by
//! making sound up where too little waits, and shrinks by leaving some out where too much does, never twice in a tenth of a second.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::coder::Decoder;

/// A tick, and what is played at it, in ms.
pub(super) const TICK_MS: i64 = 20;

/// The least and the most that is waited for the network, in µs: a tick, since a packet may come at any time between two; and what people who
/// talk bear in one direction next to everything else (ITU-T G.114 wants 150 ms in all).
const WAIT: [i64; 2] = [TICK_MS * 1000, 120_000];

/// Whatever happens, no sound is played later than this, in µs: what waits longer is left out at once.
const MOST_DELAY: i64 = 250_000;

/// How far what waits may be below what is wanted, and above, before anything is done, in µs: what is wanted has a tick to spare, and beyond that
/// packets come too late.
const BELOW: i64 = TICK_MS * 1000;
const ABOVE: i64 = TICK_MS * 1500;

/// Ticks between two corrections.
const CALM: u32 = 5;

/// Packets of which it is known how long they took: four seconds of most phones.
const REMEMBERED: usize = 200;

/// Of them, so many in a hundred are waited for.
const WAITED_FOR: usize = 98;

/// What is wanted is found anew after so many packets, which costs a sort; with each of the first second, of which little is known.
const JUDGED_EVERY: u32 = 10;
const FIRST: usize = 50;

/// Packets that wait, at most: a second of phones that send one in 20 ms.
const MAX_WAITING: usize = 50;

/// A timestamp so far from what is played is another beginning, in µs: the sender's clock was set anew.
const JUMP: i64 = 2_000_000;

/// Numbers so far ahead are one as well (RFC 3550 A.1: MAX_DROPOUT).
const MAX_DROPOUT: i64 = 3000;

/// The longest gap that is filled, in ms; what is longer is silence.
const MAX_CONCEALED_MS: i64 = 120;

/// The longest packet that is recovered from the one behind it, in µs: longer ones of Opus are several frames, of which one alone is.
const MAX_RECOVERED: i64 = 60_000;

/// After so many ticks of silence it stops until something comes.
const STOPS_AFTER: u32 = 25;

/// What is played at a tick.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Played {
    /// So many samples as were asked for.
    Sound(Vec<i16>),
    /// Nobody speaks.
    Silence,
    /// Nothing has come for a while: nobody has to ask before the next packet does.
    Stopped,
}

/// The buffer of one source.
#[derive(Debug)]
pub(super) struct Jitter {
    clock_rate: u32,
    sample_rate: u32,
    first: Option<First>,
    waiting: BTreeMap<i64, Held>,
    /// The newest number, unrolled.
    newest: i64,
    /// The last number that was played, or that was none of sound.
    passed: i64,
    /// What packets took, less what the first one did, in µs.
    transits: VecDeque<i64>,
    fastest: i64,
    wait: i64,
    unjudged: u32,
    /// The time of the sender's that is played next, in µs since the first packet's.
    cursor: i64,
    is_playing: bool,
    /// Packets that came when their time was over.
    late: u64,
    ready: Vec<i16>,
    concealed_ms: i64,
    silent_ticks: u32,
    calm: u32,
}

#[derive(Debug, Clone, Copy)]
struct First {
    at: Instant,
    timestamp: u32,
    number: u16,
}

#[derive(Debug)]
struct Held {
    /// µs since the first packet's.
    time: i64,
    payload: Vec<u8>,
}

impl Jitter {
    pub(super) fn new(clock_rate: u32, sample_rate: u32) -> Jitter {
        Jitter {
            clock_rate: clock_rate.max(1),
            sample_rate: sample_rate.max(1),
            first: None,
            waiting: BTreeMap::new(),
            newest: 0,
            passed: -1,
            transits: VecDeque::new(),
            fastest: 0,
            wait: WAIT[0],
            unjudged: 0,
            cursor: 0,
            is_playing: false,
            late: 0,
            ready: Vec::new(),
            concealed_ms: 0,
            silent_ticks: 0,
            calm: 0,
        }
    }

    /// How long after the fastest packet would come one is played, in ms.
    #[cfg(test)]
    pub(super) fn delay_ms(&self, now: Instant) -> i64 {
        self.delay(now) / 1000
    }

    /// Packets that came too late, and how long is waited for one now and at most, in ms.
    pub(super) fn standing(&self) -> (u64, [u16; 2]) {
        let ms = |time: i64| u16::try_from(time / 1000).unwrap_or_default();
        (self.late, [ms(self.wait), ms(WAIT[1])])
    }

    /// Takes a packet of sound.
    pub(super) fn take(&mut self, now: Instant, number: u16, timestamp: u32, payload: &[u8]) {
        let first = *self.first.get_or_insert(First { at: now, timestamp, number });
        let (number, time) = (self.unrolled(first, number), self.time_of(first, timestamp));
        let is_jump = (time - self.cursor).abs() > JUMP || (number - self.newest).abs() > MAX_DROPOUT;
        if is_jump {
            *self = Jitter::new(self.clock_rate, self.sample_rate);
            self.first = Some(First { at: now, timestamp, number: 0 });
            self.hold(now, 0, 0, payload);
            return;
        }
        self.hold(now, number, time, payload);
    }

    fn hold(&mut self, now: Instant, number: i64, time: i64, payload: &[u8]) {
        self.newest = self.newest.max(number);
        self.learn(self.elapsed(now) - time);
        if self.is_playing && time + TICK_MS * 500 < self.cursor {
            // Its time is over.
            self.late += 1;
            return;
        }
        self.waiting.entry(number).or_insert_with(|| Held { time, payload: payload.to_vec() });
        if self.waiting.len() > MAX_WAITING {
            self.waiting.pop_first();
        }
    }

    /// Takes notice of a packet that is none of sound, but has a number all the same.
    pub(super) fn pass(&mut self, number: u16) {
        if let Some(first) = self.first {
            let number = self.unrolled(first, number);
            if (number - self.newest).abs() <= MAX_DROPOUT {
                self.newest = self.newest.max(number);
                self.passed = self.passed.max(number);
                // A digit is no sound that is missed.
                self.concealed_ms = MAX_CONCEALED_MS;
            }
        }
    }

    /// Plays so many samples, which are a tick's.
    pub(super) fn play(&mut self, now: Instant, samples: usize, decoder: &mut Decoder) -> Played {
        if !self.is_playing {
            let Some((_, oldest)) = self.waiting.first_key_value() else { return Played::Stopped };
            if self.elapsed(now) - oldest.time - self.fastest < self.wait {
                return Played::Silence;
            }
            (self.cursor, self.is_playing, self.silent_ticks) = (oldest.time, true, 0);
            (self.concealed_ms, self.calm) = (0, CALM);
        }
        let delay = self.delay(now);
        if delay > MOST_DELAY {
            self.leave_out_until(self.elapsed(now) - self.fastest - self.wait);
        }
        self.calm = self.calm.saturating_sub(1);
        if self.calm == 0 && delay < self.wait - BELOW && self.concealed_ms == 0 {
            // More time for what is under way.
            self.calm = CALM;
            self.ready.extend(decoder.stretch(samples.saturating_sub(self.ready.len())));
        }
        let Some(sound) = self.next(samples, decoder) else { return self.silence() };
        self.silent_ticks = 0;
        if self.calm == 0 && delay > self.wait + ABOVE && self.has_next() {
            self.calm = CALM;
            if let Some(after) = self.next(samples, decoder) {
                let mut shorter = decoder.shorten(&[sound, after].concat(), samples);
                self.ready.splice(0..0, shorter.drain(samples.min(shorter.len())..));
                return Played::Sound(shorter);
            }
        }
        Played::Sound(sound)
    }

    fn silence(&mut self) -> Played {
        self.silent_ticks += 1;
        if self.silent_ticks >= STOPS_AFTER && self.waiting.is_empty() {
            self.is_playing = false;
            return Played::Stopped;
        }
        Played::Silence
    }

    /// The next samples, or `None` where nobody speaks.
    fn next(&mut self, samples: usize, decoder: &mut Decoder) -> Option<Vec<i16>> {
        while self.ready.len() < samples {
            let next = self.waiting.first_key_value().map(|(number, held)| (*number, held.time));
            match next {
                // Half a tick is what clocks are allowed to differ by.
                Some((number, time)) if time <= self.cursor + TICK_MS * 500 => {
                    let Some(held) = self.waiting.remove(&number) else { continue };
                    self.passed = self.passed.max(number);
                    let sound = decoder.decode(&held.payload);
                    if sound.is_empty() {
                        continue;
                    }
                    self.cursor = time + self.lasts(sound.len());
                    self.concealed_ms = 0;
                    self.ready.extend(sound);
                }
                // The sender was silent: nothing is missing between the numbers.
                Some((number, _)) if number <= self.passed + 1 => return self.pause(),
                Some(_) | None if self.concealed_ms >= MAX_CONCEALED_MS => return self.pause(),
                Some(_) | None => match next.and_then(|(number, time)| self.recover(number, time, decoder)) {
                    Some(sound) => self.ready.extend(sound),
                    None => {
                        self.concealed_ms += TICK_MS;
                        self.cursor += TICK_MS * 1000;
                        self.ready.extend(decoder.conceal(samples));
                    }
                },
            }
        }
        let rest = self.ready.split_off(samples);
        Some(std::mem::replace(&mut self.ready, rest))
    }

    /// What was lost before a packet, if it was one alone and the packet tells.
    fn recover(&mut self, number: i64, time: i64, decoder: &mut Decoder) -> Option<Vec<i16>> {
        let lasts = time - self.cursor;
        let held = self.waiting.get(&number).filter(|_| number == self.passed + 2 && lasts <= MAX_RECOVERED)?;
        let samples = usize::try_from(lasts * i64::from(self.sample_rate) / 1_000_000).ok()?;
        let sound = decoder.recover(&held.payload, samples)?;
        self.cursor = time;
        Some(sound)
    }

    fn pause(&mut self) -> Option<Vec<i16>> {
        self.ready.clear();
        self.cursor += TICK_MS * 1000;
        None
    }

    fn has_next(&self) -> bool {
        self.waiting.first_key_value().is_some_and(|(_, held)| held.time <= self.cursor + TICK_MS * 500)
    }

    fn leave_out_until(&mut self, cursor: i64) {
        self.waiting.retain(|_, held| held.time >= cursor);
        self.ready.clear();
        self.cursor = cursor;
    }

    /// Learns what a packet took.
    fn learn(&mut self, transit: i64) {
        if self.transits.len() >= REMEMBERED {
            self.transits.pop_front();
        }
        self.transits.push_back(transit);
        self.unjudged += 1;
        if self.unjudged < JUDGED_EVERY && self.transits.len() > FIRST && transit >= self.fastest {
            return;
        }
        self.unjudged = 0;
        let mut sorted: Vec<i64> = self.transits.iter().copied().collect();
        sorted.sort_unstable();
        let slow = sorted.get((sorted.len() - 1) * WAITED_FOR / 100).copied().unwrap_or_default();
        self.fastest = sorted.first().copied().unwrap_or_default();
        self.wait = (slow - self.fastest + WAIT[0]).clamp(WAIT[0], WAIT[1]);
    }

    fn delay(&self, now: Instant) -> i64 {
        self.elapsed(now) - self.cursor - self.fastest
    }

    fn elapsed(&self, now: Instant) -> i64 {
        let elapsed = self.first.map(|first| now.saturating_duration_since(first.at).as_micros());
        elapsed.and_then(|elapsed| i64::try_from(elapsed).ok()).unwrap_or_default()
    }

    fn lasts(&self, samples: usize) -> i64 {
        i64::try_from(samples).unwrap_or_default() * 1_000_000 / i64::from(self.sample_rate)
    }

    /// A number as it would be without rolling over, since the first.
    fn unrolled(&self, first: First, number: u16) -> i64 {
        let since = number.wrapping_sub(first.number);
        let ahead = since.wrapping_sub(u16::try_from(self.newest.rem_euclid(0x1_0000)).unwrap_or_default());
        self.newest + i64::from(ahead.cast_signed())
    }

    /// The sender's time of a timestamp, in µs since the first packet's.
    fn time_of(&self, first: First, timestamp: u32) -> i64 {
        let rate = i64::from(self.clock_rate);
        let near = self.cursor * rate / 1_000_000;
        let known = first.timestamp.wrapping_add(u32::try_from(near.rem_euclid(0x1_0000_0000)).unwrap_or_default());
        let ahead = timestamp.wrapping_sub(known).cast_signed();
        (near + i64::from(ahead)) * 1_000_000 / rate
    }
}
