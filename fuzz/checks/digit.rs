//! What holds for the body of any INFO that is taken for a digit.

use meshtone_media::digit::Digit;

/// Reads it: what is a digit has a number, and ends.
pub(crate) fn check(data: &[u8]) {
    let Some(digit) = Digit::parse(data) else { return };
    assert!(digit.event <= 16 && !digit.lasts.is_zero() && digit.lasts.as_secs() <= 5);
}
