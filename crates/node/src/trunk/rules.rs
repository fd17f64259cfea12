//! Which dialled numbers a trunk takes, and what it is told to dial. Pure.

/// One rule: numbers that begin like this go out, with so many digits cut off and others put before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigitRule {
    /// The beginning of the number: digits, `+`, `*`, `#`; `X` for any digit, and a final `$` for its end.
    pub pattern: String,
    /// Characters cut off its front.
    pub strip: usize,
    /// What is put before the rest.
    pub prepend: String,
}

impl DigitRule {
    /// What to dial for `number`, or `None` when this rule is not about it.
    pub(crate) fn apply(&self, number: &str) -> Option<String> {
        let (pattern, is_whole) = match self.pattern.strip_suffix('$') {
            Some(pattern) => (pattern, true),
            None => (self.pattern.as_str(), false),
        };
        let mut left = number.chars();
        for wanted in pattern.chars() {
            let digit = left.next()?;
            let fits = if wanted.eq_ignore_ascii_case(&'x') { digit.is_ascii_digit() } else { digit == wanted };
            if !fits {
                return None;
            }
        }
        if is_whole && left.next().is_some() {
            return None;
        }
        let rest = number.get(self.strip..)?;
        let dial = format!("{}{rest}", self.prepend);
        (!dial.is_empty()).then_some(dial)
    }

    /// Whether the pattern can match anything at all.
    pub fn is_sound(&self) -> bool {
        let pattern = self.pattern.strip_suffix('$').unwrap_or(&self.pattern);
        pattern.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '*' | '#' | 'x' | 'X'))
            && self.prepend.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '*' | '#'))
    }
}

/// What the first rule that is about `number` makes of it.
pub(crate) fn dial(rules: &[DigitRule], number: &str) -> Option<String> {
    rules.iter().find_map(|rule| rule.apply(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, strip: usize, prepend: &str) -> DigitRule {
        DigitRule { pattern: pattern.to_owned(), strip, prepend: prepend.to_owned() }
    }

    #[test]
    fn a_prefix_is_cut_off_and_another_put_before() {
        let rules = [rule("00", 2, "+"), rule("0", 1, "+49")];
        assert_eq!(dial(&rules, "0044123").as_deref(), Some("+44123"));
        assert_eq!(dial(&rules, "030123").as_deref(), Some("+4930123"));
        assert_eq!(dial(&rules, "+44123"), None);
    }

    #[test]
    fn a_pattern_may_leave_digits_open_and_fix_the_length() {
        let short = rule("1XX$", 0, "");
        assert_eq!(short.apply("118").as_deref(), Some("118"));
        assert_eq!(short.apply("1180"), None);
        assert_eq!(short.apply("11"), None);
        assert_eq!(short.apply("1+8"), None);
    }

    #[test]
    fn a_rule_that_leaves_nothing_to_dial_is_not_about_the_number() {
        assert_eq!(rule("9", 1, "").apply("9"), None);
        assert_eq!(rule("9", 5, "").apply("912"), None);
        assert_eq!(rule("", 0, "").apply("912").as_deref(), Some("912"));
    }

    #[test]
    fn a_pattern_of_something_else_is_unsound() {
        assert!(rule("+49X$", 0, "0#").is_sound());
        for bad in [rule("^00", 0, ""), rule("0", 0, "sip:"), rule("0$0", 0, "")] {
            assert!(!bad.is_sound(), "{bad:?}");
        }
    }
}
