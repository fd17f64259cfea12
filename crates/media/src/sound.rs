//! A player and a recorder, in samples of telephony: 8000 a second, one channel. Pure: whoever drives them has the clock.

/// Samples a second.
pub const RATE: u32 = 8000;

/// Samples of a packet, 20 ms.
pub const FRAME: usize = 160;

/// The longest recording: two hours, 115 MB.
pub const MAX_RECORDED: usize = 2 * 3600 * 8000;

/// A pause up to this long is recorded as such; what seems longer is another beginning of the sender's clock.
const MAX_GAP: usize = 60 * 8000;

/// Plays samples, frame by frame, and silence afterwards.
#[derive(Debug, Clone, Default)]
pub struct Player {
    samples: Vec<i16>,
    at: usize,
    repeats: bool,
}

impl Player {
    /// Plays these once.
    pub fn new(samples: Vec<i16>) -> Player {
        Player { samples, at: 0, repeats: false }
    }

    /// Plays these again and again.
    pub fn repeating(samples: Vec<i16>) -> Player {
        Player { repeats: !samples.is_empty(), ..Player::new(samples) }
    }

    /// A tone of one second each four: whoever is called hears that there is sound.
    pub fn prompt() -> Player {
        let step = std::f32::consts::TAU * 440.0 / 8000.0;
        let tone = (0..8000_u16).map(|n| (f32::from(n) * step).sin() * 6000.0);
        #[allow(clippy::cast_possible_truncation, reason = "6000 is well within it")]
        let samples = tone.map(|sample| sample as i16).chain(std::iter::repeat_n(0, 3 * 8000)).collect();
        Player::repeating(samples)
    }

    /// The tone by which recorders on telephone lines say that they are there, as the FCC has it: 1400 Hz for a fifth of a second.
    pub fn beep() -> Player {
        let step = std::f32::consts::TAU * 1400.0 / 8000.0;
        #[allow(clippy::cast_possible_truncation, reason = "6000 is well within it")]
        let samples = (0..1600_u16).map(|n| ((f32::from(n) * step).sin() * 6000.0) as i16);
        Player::new(samples.collect())
    }

    /// Begins again.
    pub fn rewind(&mut self) {
        self.at = 0;
    }

    /// Returns the next 20 ms.
    pub fn next_frame(&mut self) -> [i16; FRAME] {
        let mut frame = [0; FRAME];
        for sample in &mut frame {
            if self.repeats && self.at >= self.samples.len() {
                self.at = 0;
            }
            *sample = self.samples.get(self.at).copied().unwrap_or_default();
            self.at = self.at.saturating_add(1);
        }
        frame
    }

    /// Tells whether everything was played.
    pub fn is_over(&self) -> bool {
        !self.repeats && self.at >= self.samples.len()
    }
}

/// Puts samples where the timestamps of their packets have them, so that losses are silence and order does not matter.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    samples: Vec<i16>,
    /// The timestamp that the first sample would have.
    beginning: Option<u32>,
}

impl Recorder {
    /// Takes the samples of a packet.
    pub fn hear(&mut self, timestamp: u32, samples: &[i16]) {
        let here = u32::try_from(self.samples.len()).unwrap_or(u32::MAX);
        let beginning = *self.beginning.get_or_insert(timestamp.wrapping_sub(here));
        let mut at = usize::try_from(timestamp.wrapping_sub(beginning)).unwrap_or(usize::MAX);
        if at > self.samples.len().saturating_add(MAX_GAP) {
            // Also where it lies before the beginning.
            self.beginning = Some(timestamp.wrapping_sub(here));
            at = self.samples.len();
        }
        let end = at.saturating_add(samples.len()).min(MAX_RECORDED);
        if end > self.samples.len() {
            self.samples.resize(end, 0);
        }
        for (place, sample) in self.samples.iter_mut().skip(at).zip(samples) {
            *place = *sample;
        }
    }

    /// Goes on behind what there is: another source speaks, whose timestamps begin elsewhere.
    pub fn begin_anew(&mut self) {
        self.beginning = None;
    }

    /// Returns what was recorded.
    pub fn samples(&self) -> &[i16] {
        &self.samples
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_player_ends_in_silence_and_a_repeating_one_never() {
        let mut player = Player::new(vec![7; FRAME + 1]);
        assert_eq!(player.next_frame(), [7; FRAME]);
        assert!(!player.is_over());
        assert_eq!(player.next_frame()[..2], [7, 0]);
        assert!(player.is_over());
        let mut player = Player::repeating(vec![1, 2, 3]);
        assert_eq!(player.next_frame()[..4], [1, 2, 3, 1]);
        assert!(!player.is_over());
        assert_eq!(Player::repeating(Vec::new()).next_frame(), [0; FRAME]);
    }

    #[test]
    fn a_recording_has_losses_as_silence_and_late_packets_in_their_place() {
        let mut recorder = Recorder::default();
        let first = u32::MAX - 1;
        recorder.hear(first, &[1, 1]);
        recorder.hear(first.wrapping_add(6), &[4, 4]);
        recorder.hear(first.wrapping_add(2), &[2, 2]);
        assert_eq!(recorder.samples(), [1, 1, 2, 2, 0, 0, 4, 4]);
        recorder.hear(first.wrapping_sub(2), &[9]);
        assert_eq!(recorder.samples().last(), Some(&9), "a clock that was set anew goes on behind");
        recorder.begin_anew();
        recorder.hear(77, &[5]);
        assert_eq!(recorder.samples(), [1, 1, 2, 2, 0, 0, 4, 4, 9, 5]);
    }

    #[test]
    fn a_recording_does_not_grow_without_end() {
        let mut recorder = Recorder::default();
        let mut timestamp = 0_u32;
        for _ in 0..200 {
            recorder.hear(timestamp, &[1; FRAME]);
            timestamp = timestamp.wrapping_add(MAX_GAP as u32);
        }
        assert_eq!(recorder.samples().len(), MAX_RECORDED);
    }
}
