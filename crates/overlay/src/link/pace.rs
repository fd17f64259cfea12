//! How fast enrolments are answered: in all, and for each source. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Instant;

use super::limits::{ENROLMENT_RATE, MAX_ENROLMENT_SOURCES, SOURCE_ENROLMENT_RATE};
use crate::bucket::Bucket;

/// The pace of enrolments. What a source asked in vain takes nothing from the others.
#[derive(Default)]
pub(super) struct Paces {
    all: Bucket,
    sources: BTreeMap<IpAddr, Bucket>,
}

impl Paces {
    /// Whether one more enrolment from there may be answered now.
    pub(super) fn allow(&mut self, now: Instant, source: Option<IpAddr>) -> bool {
        let allowed_source = match source.map(network) {
            Some(source) => self.allow_source(now, source),
            None => true,
        };
        allowed_source && self.all.take(now, 1, ENROLMENT_RATE)
    }

    fn allow_source(&mut self, now: Instant, source: IpAddr) -> bool {
        if !self.sources.contains_key(&source) && self.sources.len() >= MAX_ENROLMENT_SOURCES {
            self.sources.retain(|_, pace| !pace.is_full(now, SOURCE_ENROLMENT_RATE));
            // So many sources at once are one who has many: what is left is the pace of all.
            if self.sources.len() >= MAX_ENROLMENT_SOURCES {
                return true;
            }
        }
        self.sources.entry(source).or_default().take(now, 1, SOURCE_ENROLMENT_RATE)
    }
}

/// What one party holds at least: an IPv4 address, or the /64 of an IPv6 one (RFC 6177 §2).
pub(super) fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(ip) => ip.into(),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    fn source(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn enrolments_come_in_a_burst_and_then_at_a_pace() {
        let (burst, period) = ENROLMENT_RATE;
        let (start, mut paces) = (Instant::now(), Paces::default());
        for _ in 0..burst {
            assert!(paces.allow(start, None));
        }
        assert!(!paces.allow(start, None));
        assert!(paces.allow(start + period, None));
        assert!(!paces.allow(start + period, None));
        let later = start + period * 1000;
        assert_eq!((0..100).filter(|_| paces.allow(later, None)).count(), burst as usize);
    }

    #[test]
    fn one_source_does_not_use_up_the_pace_of_the_others() {
        let (start, mut paces) = (Instant::now(), Paces::default());
        let asked = (0..1000).filter(|_| paces.allow(start, source("192.0.2.1"))).count();
        assert_eq!(asked, SOURCE_ENROLMENT_RATE.0 as usize);
        assert!(paces.allow(start, source("192.0.2.2")));
        assert!(paces.allow(start + SOURCE_ENROLMENT_RATE.1, source("192.0.2.1")));
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_are_one_source() {
        let (start, mut paces) = (Instant::now(), Paces::default());
        let asked = (0..100).filter(|host| paces.allow(start, source(&format!("2001:db8::{host}")))).count();
        assert_eq!(asked, SOURCE_ENROLMENT_RATE.0 as usize);
        assert!(paces.allow(start, source("2001:db8:0:1::1")));
    }

    #[test]
    fn many_sources_take_bounded_room() {
        let (start, mut paces) = (Instant::now(), Paces::default());
        for number in 0..u32::try_from(MAX_ENROLMENT_SOURCES * 2).unwrap() {
            paces.allow(start, Some(IpAddr::from(number.to_be_bytes())));
        }
        assert_eq!(paces.sources.len(), MAX_ENROLMENT_SOURCES);
        let later = start + SOURCE_ENROLMENT_RATE.1 * 100;
        assert!(paces.allow(later, source("198.51.100.1")));
        assert_eq!(paces.sources.len(), 1);
    }
}
