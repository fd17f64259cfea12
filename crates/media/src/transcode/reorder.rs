//! Packets in the order of their numbers. How many are waited for when one is missing follows what has been seen: none as long as
//! all come in order, more where they overtake each other.

/// The most packets that are waited for: 100 ms of most phones.
const MAX_DEPTH: usize = 5;

/// A number so far ahead is another beginning (RFC 3550 A.1: MAX_DROPOUT).
const MAX_AHEAD: u16 = 3000;

/// After so many in order, one fewer is waited for.
const CALM: u32 = 500;

#[derive(Debug)]
pub(super) struct Reorder {
    next: Option<u16>,
    /// Those ahead of `next`, by number.
    waiting: Vec<(u16, Vec<u8>)>,
    depth: usize,
    in_order: u32,
}

impl Default for Reorder {
    fn default() -> Reorder {
        Reorder { next: None, waiting: Vec::new(), depth: 1, in_order: 0 }
    }
}

impl Reorder {
    /// Takes a packet; returns those whose turn it is, each with how many before it are given up.
    pub(super) fn take(&mut self, number: u16, packet: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let next = *self.next.get_or_insert(number);
        let ahead = number.wrapping_sub(next);
        if ahead > MAX_AHEAD {
            if ahead > u16::MAX - MAX_AHEAD {
                // It is too late: next time more are waited for.
                self.depth = (self.depth + 1).min(MAX_DEPTH);
                self.in_order = 0;
                return Vec::new();
            }
            self.next = Some(number);
            self.waiting.clear();
        }
        self.in_order = if ahead == 0 { self.in_order + 1 } else { 0 };
        if self.in_order >= CALM {
            (self.depth, self.in_order) = (self.depth.saturating_sub(1).max(1), 0);
        }
        let next = self.next.unwrap_or(number);
        let behind = |other: u16| other.wrapping_sub(next);
        match self.waiting.binary_search_by_key(&behind(number), |(other, _)| behind(*other)) {
            // It came twice.
            Ok(_) => {}
            Err(place) => self.waiting.insert(place, (number, packet.to_vec())),
        }
        self.due()
    }

    fn due(&mut self) -> Vec<(u16, Vec<u8>)> {
        let mut due = Vec::new();
        while let (Some(next), Some((number, _))) = (self.next, self.waiting.first()) {
            let lost = number.wrapping_sub(next);
            if lost > 0 && self.waiting.len() <= self.depth {
                break;
            }
            let (number, packet) = self.waiting.remove(0);
            self.next = Some(number.wrapping_add(1));
            due.push((lost, packet));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(reorder: &mut Reorder, number: u16) -> Vec<(u16, u16)> {
        let taken = reorder.take(number, &number.to_be_bytes()).into_iter();
        taken.map(|(lost, packet)| (lost, u16::from_be_bytes([packet[0], packet[1]]))).collect()
    }

    #[test]
    fn what_is_in_order_does_not_wait_and_what_is_not_is_put_in_order() {
        let mut reorder = Reorder::default();
        assert_eq!(numbers(&mut reorder, 65_535), [(0, 65_535)]);
        assert_eq!(numbers(&mut reorder, 0), [(0, 0)]);
        assert_eq!(numbers(&mut reorder, 2), []);
        assert_eq!(numbers(&mut reorder, 2), [], "it came twice");
        assert_eq!(numbers(&mut reorder, 1), [(0, 1), (0, 2)]);
    }

    #[test]
    fn what_does_not_come_is_given_up_and_what_comes_too_late_makes_it_patient() {
        let mut reorder = Reorder::default();
        assert_eq!(numbers(&mut reorder, 1), [(0, 1)]);
        assert_eq!(numbers(&mut reorder, 3), []);
        assert_eq!(numbers(&mut reorder, 4), [(1, 3), (0, 4)]);
        assert_eq!(numbers(&mut reorder, 2), []);
        assert_eq!(numbers(&mut reorder, 6), []);
        assert_eq!(numbers(&mut reorder, 7), [], "now it waits for one more");
        assert_eq!(numbers(&mut reorder, 8), [(1, 6), (0, 7), (0, 8)]);
        assert_eq!(numbers(&mut reorder, 30_000), [(0, 30_000)], "another beginning");
    }
}
