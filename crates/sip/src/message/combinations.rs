//! All texts that a few pieces can make, for tests that two ways of reading agree.

/// Tells `each` every text of at most so many of these pieces.
pub(super) fn of(pieces: &[&str], most: usize, each: &mut impl FnMut(&str)) {
    let mut text = String::new();
    extend(pieces, most, &mut text, each);
}

fn extend(pieces: &[&str], most: usize, text: &mut String, each: &mut impl FnMut(&str)) {
    each(text);
    if most > 0 {
        for piece in pieces {
            let len = text.len();
            text.push_str(piece);
            extend(pieces, most - 1, text, each);
            text.truncate(len);
        }
    }
}
