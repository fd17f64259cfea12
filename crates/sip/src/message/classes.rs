//! What each byte may be part of (RFC 3261 §25.1), and where runs of such bytes end.
//!
//! One look-up a byte in a table, or eight bytes at once in a word: every message is full of these questions.

use crate::effort;

/// A set of bytes: one or several bits of the table.
pub(super) type Class = u8;

/// `token`.
pub(super) const TOKEN: Class = 1;

/// What a parameter's value without quotes may hold: it ends no value, parameter or list.
pub(super) const PLAIN_VALUE: Class = 2;

/// What a URI may hold, against what ends it or has no place anywhere in one.
pub(super) const URI: Class = 4;

/// What a label of a host name may hold, or a number of an IPv4 address. Underscores are common and harmless.
pub(super) const LABEL: Class = 8;

/// Of what a URI may hold, what says nothing of where its parts meet.
pub(super) const PLAIN_URI: Class = 16;

/// What the parameters of a URI may hold if nothing has to be resolved or looked for in them.
pub(super) const PLAIN_URI_PARAMS: Class = 32;

/// What is neither white space nor a control character.
pub(super) const VISIBLE: Class = 64;

static CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < table.len() {
        let byte = index as u8;
        if byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~')
        {
            table[index] |= TOKEN;
        }
        if byte > b' ' && byte != 0x7f {
            table[index] |= VISIBLE;
        }
        if byte > b' ' && byte != 0x7f && !matches!(byte, b'"' | b'<' | b'>') {
            table[index] |= URI;
            if !matches!(byte, b'@' | b':' | b';' | b'?' | b'%') {
                table[index] |= PLAIN_URI;
            }
            if !matches!(byte, b'@' | b'?' | b'%') {
                table[index] |= PLAIN_URI_PARAMS;
            }
            if !matches!(byte, b',' | b';') {
                table[index] |= PLAIN_VALUE;
            }
        }
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            table[index] |= LABEL;
        }
        index += 1;
    }
    table
}

/// Tells whether a byte is in a class.
pub(super) const fn is(byte: u8, class: Class) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// Tells whether a byte may be part of a `token`.
pub(crate) const fn is_token(byte: u8) -> bool {
    is(byte, TOKEN)
}

/// White space within a value; line breaks are there only where a line is folded.
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Where the run of bytes of a class ends that begins at `from`: there, if there is none.
pub(super) fn run(bytes: &[u8], from: usize, class: Class) -> usize {
    let mut at = from;
    while let Some(byte) = bytes.get(at)
        && is(*byte, class)
    {
        at += 1;
    }
    effort::spend(at - from);
    at
}

/// Tells whether there is white space in a text.
pub(super) fn holds_space(bytes: &[u8]) -> bool {
    let mut from = 0;
    while let Some(at) = find_below(bytes, from, b' ' + 1) {
        if bytes.get(at).is_some_and(|byte| is_space(*byte)) {
            return true;
        }
        from = at + 1;
    }
    false
}

/// Finds the first byte below `limit`, which is at most 128, from `from` on.
pub(super) fn find_below(bytes: &[u8], from: usize, limit: u8) -> Option<usize> {
    let (words, rest) = bytes.get(from..)?.as_chunks::<WORD_LEN>();
    let mut at = from;
    for word in words {
        let word = u64::from_le_bytes(*word);
        // Borrows only come from below, so the lowest mark is right.
        let marks = word.wrapping_sub(spread(limit)) & !word & HIGH_BITS;
        if marks != 0 {
            effort::spend(at + first_of(marks) - from);
            return Some(at + first_of(marks));
        }
        at += WORD_LEN;
    }
    effort::spend(bytes.len() - from);
    Some(at + rest.iter().position(|byte| *byte < limit)?)
}

/// Tells whether all bytes are ASCII; as [`slice::is_ascii`], which goes over the last ones one by one.
pub(super) fn is_ascii(bytes: &[u8]) -> bool {
    const BLOCK_LEN: usize = 32;
    let (blocks, rest) = bytes.as_chunks::<BLOCK_LEN>();
    let (words, rest) = rest.as_chunks::<WORD_LEN>();
    blocks.iter().all(|block| block.iter().fold(0, |all, byte| all | byte) < 0x80)
        && words.iter().fold(0, |all, word| all | u64::from_le_bytes(*word)) & HIGH_BITS == 0
        && rest.iter().all(u8::is_ascii)
}

/// Where the first of this byte is in a word; `None` if there is none.
pub(super) fn find_in_word(word: u64, byte: u8) -> Option<usize> {
    let other = word ^ spread(byte);
    let marks = other.wrapping_sub(spread(1)) & !other & HIGH_BITS;
    (marks != 0).then(|| first_of(marks))
}

/// The eight bytes at this place, the first one lowest.
pub(super) fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

/// The first `len` bytes of a word, the others 0.
pub(super) const fn first_bytes(word: u64, len: usize) -> u64 {
    if len < WORD_LEN { word & !(u64::MAX << (8 * len)) } else { word }
}

const WORD_LEN: usize = 8;

const HIGH_BITS: u64 = spread(0x80);

const fn spread(byte: u8) -> u64 {
    u64::from_le_bytes([byte; WORD_LEN])
}

/// Where the lowest of these high bits is.
const fn first_of(marks: u64) -> usize {
    (marks.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_find_what_single_bytes_find() {
        for limit in [0x0e, 0x21, 0x80] {
            for (byte, place) in (0..=u8::MAX).flat_map(|byte| (0..20).map(move |place| (byte, place))) {
                let mut bytes = [0xff; 20];
                bytes[place] = byte;
                // A byte above the one that is looked for must not be taken for it.
                bytes.iter_mut().skip(place + 1).for_each(|other| *other = byte.wrapping_add(1));
                for from in 0..3 {
                    let first = bytes.iter().skip(from).position(|byte| *byte < limit).map(|at| from + at);
                    assert_eq!(find_below(&bytes, from, limit), first, "{byte} at {place} from {from}");
                }
                let first = bytes.iter().take(8).position(|other| *other == byte);
                assert_eq!(word_at(&bytes, 0).and_then(|word| find_in_word(word, byte)), first, "{byte} at {place}");
            }
        }
        for (len, place) in (0..100).flat_map(|len| (0..=len).map(move |place| (len, place))) {
            let mut bytes = vec![0x7f; len];
            bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte = 0x80);
            assert_eq!(is_ascii(&bytes), place == len, "{place} of {len}");
        }
        for (text, holds) in [("", false), ("\x01abcdefgh\x7f", false), ("\x01abcdefgh\t", true), ("a b", true)] {
            assert_eq!(holds_space(text.as_bytes()), holds, "{text:?}");
        }
        for (text, from, len) in
            [("", 0, 0), ("abc", 9, 0), ("abc@", 0, 3), ("abcde", 1, 4), ("abcdefgh i", 0, 8), (" ", 0, 0)]
        {
            assert_eq!(run(text.as_bytes(), from, TOKEN), from + len, "{text} from {from}");
        }
        assert_eq!((find_below(b"", 0, 14), find_below(b"a", 7, 14), word_at(b"1234567", 0)), (None, None, None));
        assert_eq!((first_bytes(u64::MAX, 0), first_bytes(u64::MAX, 2), first_bytes(7, 8)), (0, 0xffff, 7));
    }
}
