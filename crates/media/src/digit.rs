//! Digits: as phones write them into the body of an INFO (`application/dtmf-relay`, `application/dtmf`), and as telephone events beside
//! the sound (RFC 4733). Those bodies were never standardized; what is read is what phones send. Pure.

use std::time::Duration;

/// A digit lasts this long where nothing is said: what phones write most often.
const USUAL: Duration = Duration::from_millis(250);

/// The shortest that exchanges recognize (ITU-T Q.24), and the longest that is made of one INFO.
const LIMITS: [Duration; 2] = [Duration::from_millis(40), Duration::from_secs(5)];

/// How loud events say they are, in dBm0 below zero: what phones send.
const VOLUME: u8 = 10;

/// The end of an event is said three times, since it may be lost (RFC 4733 §2.5.1.4).
const ENDS: u8 = 3;

/// A digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digit {
    /// Its number as an event (RFC 4733 §3.2): 0 to 9, 10 for `*`, 11 for `#`, 12 to 15 for A to D, 16 for a flash.
    pub event: u8,
    /// How long it lasts.
    pub lasts: Duration,
}

impl Digit {
    /// Tells whether bodies of this type are digits.
    pub fn is_body(content_type: &str) -> bool {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        ["application/dtmf-relay", "application/dtmf"].iter().any(|known| kind.eq_ignore_ascii_case(known))
    }

    /// Reads the body of an INFO; `None` where it is no digit.
    pub fn parse(body: &[u8]) -> Option<Digit> {
        let text = std::str::from_utf8(body).ok()?;
        let value = |name: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once('=')?;
                key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
            })
        };
        // Of the two types the shorter one is the digit alone; some write the longer form into it all the same.
        let signal = value("signal").or_else(|| Some(text.trim()).filter(|text| !text.contains('=')))?;
        let lasts = value("duration").and_then(|text| text.parse().ok()).map_or(USUAL, Duration::from_millis);
        Some(Digit { event: event_of(signal)?, lasts: lasts.clamp(LIMITS[0], LIMITS[1]) })
    }
}

fn event_of(signal: &str) -> Option<u8> {
    let event = match signal {
        "*" => 10,
        "#" => 11,
        "!" => 16,
        _ => match *signal.as_bytes() {
            [letter @ (b'a'..=b'd' | b'A'..=b'D')] => letter.to_ascii_uppercase() - b'A' + 12,
            // Some write the number of the event.
            _ => signal
                .parse()
                .ok()
                .filter(|number| *number <= 16 && signal.bytes().all(|byte| byte.is_ascii_digit()))?,
        },
    };
    Some(event)
}

/// A digit while it is sent.
#[derive(Debug)]
pub(crate) struct Sounding {
    digit: Digit,
    ends_left: u8,
    is_first: bool,
}

impl Sounding {
    pub(crate) fn new(digit: Digit) -> Sounding {
        Sounding { digit, ends_left: ENDS, is_first: true }
    }

    /// The next packet's marker and payload, so long after the beginning; `rate` is that of the event's timestamps.
    pub(crate) fn next(&mut self, elapsed: Duration, rate: u32) -> (bool, [u8; 4]) {
        let is_over = elapsed >= self.digit.lasts;
        if is_over {
            self.ends_left = self.ends_left.saturating_sub(1);
        }
        // Once it is over it lasts no longer with each time it is said.
        let lasts = elapsed.min(self.digit.lasts).as_millis().saturating_mul(u128::from(rate)) / 1000;
        let [high, low] = u16::try_from(lasts).unwrap_or(u16::MAX).to_be_bytes();
        let marker = std::mem::take(&mut self.is_first);
        (marker, [self.digit.event, u8::from(is_over) << 7 | VOLUME, high, low])
    }

    /// Whether all is said.
    pub(crate) fn is_said(&self) -> bool {
        self.ends_left == 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_phones_write_is_read() {
        for (body, event, lasts_ms) in [
            ("Signal=5\r\nDuration=160\r\n", 5, 160),
            ("Signal= #\r\nDuration= 100\r\n", 11, 100),
            ("signal=*\n", 10, 250),
            ("Signal=10\r\nDuration=1\r\n", 10, 40),
            ("Signal=d\r\nDuration=600000\r\n", 15, 5000),
            ("7", 7, 250),
            ("#\r\n", 11, 250),
            ("!", 16, 250),
        ] {
            let digit = Digit::parse(body.as_bytes());
            assert_eq!(digit, Some(Digit { event, lasts: lasts_ms * MS }), "{body:?}");
        }
        for body in ["", "Signal=\r\n", "Signal=17", "Signal=+5", "Signal=x", "55", "Duration=100", "\u{ff}"] {
            assert_eq!(Digit::parse(body.as_bytes()), None, "{body:?}");
        }
        assert_eq!(Digit::parse(b"\xff"), None);
        assert!(Digit::is_body("Application/DTMF-Relay") && Digit::is_body("application/dtmf; charset=x"));
        assert!(!Digit::is_body("application/sdp"));
    }

    #[test]
    fn a_digit_grows_and_says_its_end_three_times() {
        let mut sounding = Sounding::new(Digit { event: 5, lasts: 50 * MS });
        let mut said = Vec::new();
        let mut elapsed = 20 * MS;
        while !sounding.is_said() {
            said.push(sounding.next(elapsed, 8000));
            elapsed += 20 * MS;
        }
        let packets = [(true, 10, 160), (false, 10, 320), (false, 138, 400), (false, 138, 400), (false, 138, 400)];
        let packets = packets.map(|(marker, flags, lasts): (bool, u8, u16)| {
            let [high, low] = lasts.to_be_bytes();
            (marker, [5, flags, high, low])
        });
        assert_eq!(said, packets);
    }
}
