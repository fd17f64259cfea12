//! How often a form may be sent: by one source, and in all. Pure.

use crate::exchange::generations::Generations;
use crate::exchange::guard::{Bucket, Rate, Source};

/// Codes that one source asks for: a family of people behind one address.
const CODES_OF_SOURCE: Rate = Rate { burst: 6, per_hour: 12 };
/// And all together. The authority mails 20 in an hour for one node, whoever asks.
const CODES: Rate = Rate { burst: 30, per_hour: 60 };
/// Codes that one source types: each is good for five wrong ones at most, which are too few to guess with in any case.
const PROOFS_OF_SOURCE: Rate = Rate { burst: 20, per_hour: 60 };
/// And all together: each costs a request to the authority.
const PROOFS: Rate = Rate { burst: 100, per_hour: 600 };
/// Sources in each generation, 100 bytes each.
const SOURCES_MAX: usize = 4096;

#[derive(Debug, Clone, Copy, Default)]
struct OfSource {
    codes: Bucket,
    proofs: Bucket,
}

/// The state of these limits.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    sources: Generations<Source, OfSource, SOURCES_MAX>,
    codes: Bucket,
    proofs: Bucket,
}

impl Limits {
    /// Whether this source may ask for one more code.
    pub(super) fn may_ask(&mut self, now_ms: u64, source: Source) -> bool {
        let of_source = &mut self.sources.entry(source).codes;
        of_source.take(now_ms, CODES_OF_SOURCE) && self.codes.take(now_ms, CODES)
    }

    /// Whether this source may show one more code.
    pub(super) fn may_prove(&mut self, now_ms: u64, source: Source) -> bool {
        let of_source = &mut self.sources.entry(source).proofs;
        of_source.take(now_ms, PROOFS_OF_SOURCE) && self.proofs.take(now_ms, PROOFS)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const HOUR_MS: u64 = 3_600_000;

    fn source(number: u32) -> Source {
        Source::of(IpAddr::V4(Ipv4Addr::from_bits(0x0A00_0000 + number)))
    }

    #[test]
    fn one_source_asks_for_a_few_codes_and_keeps_nobody_else_from_asking() {
        let mut limits = Limits::default();
        let asked =
            |limits: &mut Limits, now_ms, from| (0..100).filter(|_| limits.may_ask(now_ms, source(from))).count();
        assert_eq!(asked(&mut limits, 0, 1), 6);
        assert_eq!(asked(&mut limits, 0, 2), 6);
        assert_eq!(asked(&mut limits, HOUR_MS / 2, 1), 6);
        assert_eq!(asked(&mut limits, HOUR_MS / 2 + 1, 1), 0);
    }

    #[test]
    fn many_sources_together_ask_for_no_more_than_the_node_may() {
        let mut limits = Limits::default();
        let asked = (0..10_000).filter(|number| limits.may_ask(0, source(*number))).count();
        assert_eq!(asked, 30);
        let later = (10_000..20_000).filter(|number| limits.may_ask(HOUR_MS, source(*number))).count();
        assert_eq!(later, 30);
        assert!(limits.sources.lens().iter().all(|len| *len <= SOURCES_MAX));
    }

    #[test]
    fn typing_codes_has_limits_of_its_own() {
        let mut limits = Limits::default();
        assert_eq!((0..100).filter(|_| limits.may_prove(0, source(1))).count(), 20);
        assert!(limits.may_ask(0, source(1)) && limits.may_prove(0, source(2)));
    }
}
