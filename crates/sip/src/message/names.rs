//! The names that lines of a head begin with, found as nearly all are written: as words of eight bytes, compared at once.
//!
//! Names in other cases, with white space behind them, or of nobody's list are for [`Header::from_bytes`].

use super::Header;
use super::classes::{find_in_word, first_bytes, word_at};
use super::header::NAMES;

/// So many words hold the longest name, and its colon.
const WORDS: usize = 3;

type Words = [u64; WORDS];

/// A name, and what it names.
#[derive(Clone, Copy)]
struct Entry {
    words: Words,
    len: usize,
    header: Header,
}

/// Finds the header whose name, in its usual long or compact spelling, a line begins with, and where the colon behind it is.
/// `None` where it is written otherwise, or too little follows: then the line has to be read byte by byte.
pub(super) fn at_start_of(line: &[u8]) -> Option<(Header, usize)> {
    let (words, len) = name(line)?;
    let entry = ENTRIES.get(usize::from(*PLACES.get(place(words))?))?;
    (entry.words == words && entry.len == len).then_some((entry.header, len))
}

/// What stands before the first colon, and how long it is.
fn name(line: &[u8]) -> Option<(Words, usize)> {
    let first = word_at(line, 0)?;
    if let Some(colon) = find_in_word(first, b':') {
        return Some(([first_bytes(first, colon), 0, 0], colon));
    }
    let second = word_at(line, 8)?;
    if let Some(colon) = find_in_word(second, b':') {
        return Some(([first, first_bytes(second, colon), 0], 8 + colon));
    }
    let third = word_at(line, 16)?;
    find_in_word(third, b':').map(|colon| ([first, second, first_bytes(third, colon)], 16 + colon))
}

static ENTRIES: [Entry; NAMES.len()] = entries();

/// Which entry a name can only be.
static PLACES: [u8; PLACES_LEN] = places();

const PLACES_LEN: usize = 512;

/// Marks a place that no name has; there are fewer names than that.
const FREE: u8 = u8::MAX;

const fn place([first, second, third]: Words) -> usize {
    // Chosen so that no two names share a place, which the compiler checks.
    const FACTOR: u64 = 0x473c_bdcf_6dd7_cc2d;
    (first.wrapping_add(second).wrapping_add(third).wrapping_mul(FACTOR) >> (u64::BITS - PLACES_LEN.ilog2())) as usize
}

const fn entries() -> [Entry; NAMES.len()] {
    let mut entries = [Entry { words: [0; WORDS], len: 0, header: Header::Other }; NAMES.len()];
    let mut index = 0;
    while index < NAMES.len() {
        let (name, header) = NAMES[index];
        let name = name.as_bytes();
        assert!(name.len() < 8 * WORDS);
        let mut at = 0;
        while at < name.len() {
            entries[index].words[at / 8] |= (name[at] as u64) << (8 * (at % 8));
            at += 1;
        }
        entries[index].len = name.len();
        entries[index].header = header;
        index += 1;
    }
    entries
}

const fn places() -> [u8; PLACES_LEN] {
    assert!(NAMES.len() < FREE as usize);
    let (entries, mut places) = (entries(), [FREE; PLACES_LEN]);
    let mut index = 0;
    while index < entries.len() {
        let place = place(entries[index].words);
        assert!(places[place] == FREE);
        places[place] = index as u8;
        index += 1;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_before_its_colon_and_nowhere_else() {
        for (name, header) in NAMES {
            let line = format!("{name}: a value, and: a colon");
            assert_eq!(at_start_of(line.as_bytes()), Some((*header, name.len())));
            for other in [" :", "_:", "\0:", "\0\0:", ""] {
                assert_eq!(at_start_of(format!("{name}{other} 789012345678901234").as_bytes()), None, "{name}{other}");
            }
        }
    }

    #[test]
    fn what_is_written_otherwise_is_left() {
        let lines = [
            "",
            ":",
            "To",
            "To: a",
            ": a a a a a",
            "TO: aaaaaa",
            "X-Foo: aaaaa",
            "P-Preferred-Identity-Too: a",
            "no colon",
        ];
        for line in lines {
            assert_eq!(at_start_of(line.as_bytes()), None, "{line}");
        }
    }
}
