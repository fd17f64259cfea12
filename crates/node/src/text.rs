//! Texts of others, as people may be shown them.

/// Controls, and what turns the direction of text: none of that is seen, and all of it deceives.
pub(crate) fn is_harmful(character: char) -> bool {
    (character.is_control() && character != '\t')
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

/// Whether a text fits into a line as it is.
pub(crate) fn is_harmless(text: &str) -> bool {
    !text.chars().any(|character| character == '\t' || is_harmful(character))
}

/// So many characters of a text at most, without those that do harm in a line.
pub(crate) fn harmless(text: &str, most: usize) -> String {
    text.chars().filter(|character| *character != '\t' && !is_harmful(*character)).take(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_is_left_out_and_the_rest_is_not_endless() {
        assert_eq!(harmless("Bo\u{202e}b\r\n\u{1b}[2J\tçé", 7), "Bob[2Jç");
        assert!(is_harmless("Bob Bäcker") && !is_harmless("Bob\u{2066}") && !is_harmless("a\tb"));
    }
}
