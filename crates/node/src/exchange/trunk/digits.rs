//! Digit rules: from what a person dials to what a provider wants, and which numbers are the same. Pure.

/// The longest number, dialled or made: 15 digits of E.164 with room for prefixes.
pub const NUMBER_MAX: usize = 32;

/// Why a digit rule, or a number of the configuration, is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigitError {
    /// Something else than digits, with a `+` in front or not.
    #[error("only digits, and `+` in front of them, make a number")]
    NoDigits,
    /// More than [`NUMBER_MAX`].
    #[error("a number has {NUMBER_MAX} digits at most")]
    TooLong,
}

/// One rule: numbers that begin with `prefix` lose so many characters, and get others in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigitRule {
    prefix: String,
    strip: usize,
    add: String,
}

impl DigitRule {
    /// Makes a rule. An empty prefix means every number; `strip` counts a `+` too.
    ///
    /// # Errors
    /// [`DigitError`] when `prefix` or `add` holds anything but digits with a `+` in front.
    pub fn new(prefix: &str, strip: usize, add: &str) -> Result<DigitRule, DigitError> {
        check(prefix)?;
        check(add)?;
        Ok(DigitRule { prefix: prefix.to_owned(), strip, add: add.to_owned() })
    }

    fn apply(&self, dialled: &str) -> Option<String> {
        let rest = dialled.strip_prefix(&self.prefix).and_then(|_| dialled.get(self.strip..))?;
        let number = format!("{}{rest}", self.add);
        (!rest.is_empty() && is_number(&number)).then_some(number)
    }
}

/// What the first rule that fits makes of a dialled number; `None` when none fits, or what it makes is no number.
pub fn translate(rules: &[DigitRule], dialled: &str) -> Option<String> {
    if !is_number(dialled) {
        return None;
    }
    rules.iter().find(|rule| dialled.starts_with(&rule.prefix))?.apply(dialled)
}

/// Whether a text is a number: digits, with a `+` in front or not, [`NUMBER_MAX`] characters at most.
pub fn is_number(text: &str) -> bool {
    !digits(text).is_empty() && check(text).is_ok()
}

/// Whether two texts mean one number, however a provider writes it: `+4930…`, `004930…` or `4930…`.
pub fn is_same(one: &str, other: &str) -> bool {
    let bare = |text: &str| {
        let text = digits(text);
        text.strip_prefix("00").unwrap_or(text).to_owned()
    };
    is_number(one) && is_number(other) && bare(one) == bare(other)
}

/// Accepts a number, or the beginning of one.
///
/// # Errors
/// [`DigitError`]
pub fn check(text: &str) -> Result<(), DigitError> {
    if text.len() > NUMBER_MAX {
        Err(DigitError::TooLong)
    } else if digits(text).bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(())
    } else {
        Err(DigitError::NoDigits)
    }
}

fn digits(text: &str) -> &str {
    text.strip_prefix('+').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rules() -> Vec<DigitRule> {
        [("00", 2, "+"), ("0", 1, "+49"), ("+", 0, "")]
            .map(|(prefix, strip, add)| DigitRule::new(prefix, strip, add).unwrap())
            .to_vec()
    }

    #[test]
    fn the_first_rule_that_fits_makes_the_number() {
        for (dialled, made) in [
            ("0044201234", Some("+44201234")),
            ("030123", Some("+4930123")),
            ("+33123", Some("+33123")),
            ("110", None),
            ("00", None),
            ("0", None),
            ("+", None),
            ("", None),
            ("030*1", None),
            ("sip:x", None),
        ] {
            assert_eq!(translate(&rules(), dialled).as_deref(), made, "{dialled}");
        }
    }

    #[test]
    fn a_number_that_a_rule_would_spoil_is_not_called() {
        let doubled = [DigitRule::new("", 0, "00").unwrap()];
        assert_eq!(translate(&doubled, "+49"), None);
        assert_eq!(translate(&doubled, "49").as_deref(), Some("0049"));
        assert_eq!(translate(&doubled, &"1".repeat(NUMBER_MAX)), None);
    }

    #[test]
    fn what_is_no_number_makes_no_rule() {
        for (prefix, add) in [("x", ""), ("0", "sip:"), ("0", "4+"), ("0", "ü"), ("\r\n", "")] {
            assert_eq!(DigitRule::new(prefix, 0, add), Err(DigitError::NoDigits), "{prefix} {add}");
        }
        assert_eq!(DigitRule::new(&"1".repeat(33), 0, ""), Err(DigitError::TooLong));
    }

    #[test]
    fn a_number_is_the_same_however_it_is_written() {
        for same in ["+4930123", "004930123", "4930123"] {
            assert!(is_same("+4930123", same), "{same}");
        }
        for other in ["030123", "+4930124", "alice", "", "+"] {
            assert!(!is_same("+4930123", other), "{other}");
        }
        assert!(!is_same("", ""));
    }

    #[test]
    fn whatever_is_dialled_by_whatever_rules_a_number_comes_out_or_nothing() {
        let mut state = 1u64;
        let mut next = |below: u64| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) % below
        };
        let alphabet: Vec<char> = "0123456789+*#aü\r \u{7f}\u{1F600}".chars().collect();
        let mut text = |length: u64, clean: bool| -> String {
            let kinds = if clean { 11 } else { alphabet.len() as u64 };
            (0..next(length)).filter_map(|_| alphabet.get(next(kinds) as usize).copied()).collect()
        };
        let mut made = 0;
        for round in 0..50_000 {
            let rule = DigitRule::new(&text(3, true), round % 7, &text(4, round % 3 > 0));
            let dialled = text(40, round % 2 == 0);
            let Some(number) = rule.ok().and_then(|rule| translate(&[rule], &dialled)) else { continue };
            made += 1;
            assert!(number.len() <= NUMBER_MAX && number.bytes().any(|byte| byte.is_ascii_digit()), "{number:?}");
            let digits = number.strip_prefix('+').unwrap_or(&number);
            assert!(digits.bytes().all(|byte| byte.is_ascii_digit()), "{number:?}");
        }
        assert!(made > 100, "{made}");
    }
}
