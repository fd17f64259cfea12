//! What a person would say of a call: the E-model (ITU-T G.107), simplified to what a node on the way can know.
//!
//! Room noise, loudness and echo have their default values, which leaves R = 93.2 − Id − Ie,eff: what delay takes, in the fit of
//! Cole and Rosenbluth ("Voice over IP performance monitoring", 2001), and what codec and losses take (G.107 §7.5, losses without
//! bursts). It is an estimate on the scale of the telephone: what a wider band adds is not seen.

use std::time::Duration;

use crate::codec::Codec;

/// R of a call that nothing is wrong with, all else at its default (G.107 §7.7).
const BEST: f64 = 93.2;

/// A delay that is noticed (one way, in ms), and what each ms costs before and beyond it.
const NOTICED_MS: f64 = 177.3;
const COST: f64 = 0.024;
const COST_BEYOND: f64 = 0.11;

/// What a codec takes by itself, and how well it takes losses: Ie and Bpl of G.113 Appendix I (02/2001), as far as that has them: G.729A with
/// silence suppression (11, 19.0), G.723.1 at 6.3 kbit/s with it (15, 16.1), G.711 with the concealment of its Appendix I (0, 25.1).
///
/// An assumption are those of the others. G.722 and Opus have impairments on the scale of wide bands alone (G.107.1, where R goes to 129), and GSM
/// none for losses: G.711's stand for them, so that no codec is said to be better than a telephone. That phones conceal losses of G.711 is assumed
/// as well; one that plays silence sounds worse than is said here.
fn impairment(codec: Option<Codec>) -> (f64, f64) {
    match codec {
        Some(Codec::G729) => (11.0, 19.0),
        Some(Codec::G723) => (15.0, 16.1),
        Some(Codec::Pcmu | Codec::Pcma | Codec::G722 | Codec::Opus | Codec::Gsm) | None => (0.0, 25.1),
    }
}

/// Returns the transmission rating R, 0 to 93.2: `loss` is the share of packets that is not played, `delay` the time from mouth to ear.
pub fn rating(codec: Option<Codec>, loss: f64, delay: Duration) -> f64 {
    let (own, robustness) = impairment(codec);
    let percent = loss.clamp(0.0, 1.0) * 100.0;
    let equipment = own + (95.0 - own) * percent / (percent + robustness);
    let delay_ms = delay.as_secs_f64() * 1000.0;
    let waiting = COST * delay_ms + COST_BEYOND * (delay_ms - NOTICED_MS).max(0.0);
    (BEST - waiting - equipment).clamp(0.0, BEST)
}

/// Returns the mean opinion score of a rating (G.107 Annex B): 1 is bad, 4.4 as good as a telephone can be.
pub fn mean_opinion(rating: f64) -> f64 {
    let rating = rating.clamp(0.0, 100.0);
    (1.0 + 0.035 * rating + rating * (rating - 60.0) * (100.0 - rating) * 7e-6).clamp(1.0, 4.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mos(codec: Codec, loss: f64, delay_ms: u64) -> f64 {
        mean_opinion(rating(Some(codec), loss, Duration::from_millis(delay_ms)))
    }

    #[test]
    fn the_table_of_the_recommendation_is_met() {
        // G.107 Annex B, table B.1: R and the score.
        for (rating, score) in [(90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            assert!((mean_opinion(rating) - score).abs() < 0.01, "{rating}: {}", mean_opinion(rating));
        }
    }

    #[test]
    fn losses_delay_and_narrow_codecs_cost() {
        assert!(mos(Codec::Pcmu, 0.0, 20) > 4.3);
        assert!(mos(Codec::Pcmu, 0.05, 20) < mos(Codec::Pcmu, 0.01, 20));
        assert!(mos(Codec::G729, 0.0, 20) < mos(Codec::Pcma, 0.0, 20));
        assert!(mos(Codec::Pcmu, 0.0, 400) < mos(Codec::Pcmu, 0.0, 150));
        // 5 % of packets lost: "many users dissatisfied" (R between 60 and 80 in G.107 Annex B).
        assert!((60.0..80.0).contains(&rating(Some(Codec::Pcmu), 0.05, Duration::from_millis(20))));
    }

    #[test]
    fn nothing_leaves_the_scale() {
        for loss in [-1.0, 0.0, 1.0, 7.0, f64::NAN] {
            let score = mean_opinion(rating(None, loss, Duration::from_secs(60)));
            assert!(score.is_nan() || (1.0..=4.5).contains(&score), "{loss}: {score}");
        }
    }
}
