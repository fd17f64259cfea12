//! In which order records are to be followed: NAPTR (RFC 3263 §4.1, RFC 3403 §4) and SRV (RFC 2782).
//!
//! Pure: chance comes in from outside.

use meshtone_sip::transport::Transport;

/// Records of one answer that are looked at; real domains have a handful, and an answer of thousands is an attack.
pub(crate) const MAX_RECORDS: usize = 32;

/// A NAPTR record, as far as it matters to SIP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Naptr {
    pub(crate) order: u16,
    pub(crate) preference: u16,
    pub(crate) flags: String,
    pub(crate) services: String,
    pub(crate) has_regexp: bool,
    pub(crate) replacement: String,
}

/// An SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Srv {
    pub(crate) priority: u16,
    pub(crate) weight: u16,
    pub(crate) port: u16,
    pub(crate) target: String,
}

/// The services that a domain offers over transports we speak, best first: transport and the name to ask SRV about.
pub(crate) fn services(mut records: Vec<Naptr>, is_secure: bool, spoken: &[Transport]) -> Vec<(Transport, String)> {
    records.truncate(MAX_RECORDS);
    records.sort_by_key(|record| (record.order, record.preference));
    records
        .into_iter()
        .filter(|record| record.flags.eq_ignore_ascii_case("s") && !record.has_regexp)
        .filter_map(|record| Some((transport_of(&record.services)?, record.replacement)))
        .filter(|(transport, _)| spoken.contains(transport) && (!is_secure || *transport == Transport::Tls))
        .collect()
}

fn transport_of(services: &str) -> Option<Transport> {
    if services.eq_ignore_ascii_case("SIP+D2U") {
        Some(Transport::Udp)
    } else if services.eq_ignore_ascii_case("SIP+D2T") {
        Some(Transport::Tcp)
    } else if services.eq_ignore_ascii_case("SIPS+D2T") {
        Some(Transport::Tls)
    } else {
        None
    }
}

/// The name under which a domain's SRV records for a transport lie.
pub(crate) fn srv_name(transport: Transport, domain: &str) -> Option<String> {
    match transport {
        Transport::Udp => Some(format!("_sip._udp.{domain}")),
        Transport::Tcp => Some(format!("_sip._tcp.{domain}")),
        Transport::Tls => Some(format!("_sips._tcp.{domain}")),
        Transport::Ws | Transport::Wss | Transport::Peer => None,
    }
}

/// Orders SRV records: lowest priority first, among equals by weighted chance (RFC 2782 "Usage rules").
///
/// `chance(n)` gives a number from 0 to n, both included. A target of "." says that there is no such service.
pub(crate) fn order_srv(mut records: Vec<Srv>, mut chance: impl FnMut(u32) -> u32) -> Vec<Srv> {
    records.truncate(MAX_RECORDS);
    records.retain(|record| !record.target.is_empty() && record.target != ".");
    // Those without weight first within their priority, as the RFC wants; then by name, so that only chance decides.
    records.sort_by(|one, other| {
        (one.priority, one.weight > 0, &one.target, one.port).cmp(&(
            other.priority,
            other.weight > 0,
            &other.target,
            other.port,
        ))
    });
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(priority) = records.first().map(|record| record.priority) {
        let equals = records.iter().take_while(|record| record.priority == priority).count();
        let sum: u32 = records.iter().take(equals).map(|record| u32::from(record.weight)).sum();
        let drawn = chance(sum).min(sum);
        let mut running = 0;
        let chosen = records.iter().take(equals).position(|record| {
            running += u32::from(record.weight);
            running >= drawn
        });
        ordered.push(records.remove(chosen.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Transport; 3] = [Transport::Udp, Transport::Tcp, Transport::Tls];

    fn naptr(order: u16, preference: u16, services: &str) -> Naptr {
        Naptr {
            order,
            preference,
            flags: "S".to_owned(),
            services: services.to_owned(),
            has_regexp: false,
            replacement: format!("{order}.{preference}"),
        }
    }

    fn srv(priority: u16, weight: u16, target: &str) -> Srv {
        Srv { priority, weight, port: 5060, target: target.to_owned() }
    }

    fn targets(ordered: &[Srv]) -> Vec<&str> {
        ordered.iter().map(|record| record.target.as_str()).collect()
    }

    #[test]
    fn naptr_records_go_by_order_and_then_by_preference() {
        let records = vec![naptr(90, 50, "SIP+D2U"), naptr(50, 60, "SIP+D2T"), naptr(50, 50, "sips+d2t")];
        let found: Vec<_> = services(records, false, &ALL).into_iter().map(|(transport, _)| transport).collect();
        assert_eq!(found, [Transport::Tls, Transport::Tcp, Transport::Udp]);
    }

    #[test]
    fn a_sips_uri_leads_to_tls_only_and_a_transport_we_do_not_speak_is_passed_over() {
        let records = vec![naptr(1, 1, "SIP+D2U"), naptr(2, 1, "SIPS+D2T"), naptr(3, 1, "SIP+D2S")];
        assert_eq!(services(records.clone(), true, &ALL), [(Transport::Tls, "2.1".to_owned())]);
        assert_eq!(services(records, false, &[Transport::Udp]), [(Transport::Udp, "1.1".to_owned())]);
    }

    #[test]
    fn a_naptr_record_that_is_not_about_srv_is_passed_over() {
        let mut other = naptr(1, 1, "SIP+D2U");
        other.flags = "u".to_owned();
        let mut rewriting = naptr(1, 2, "SIP+D2U");
        rewriting.has_regexp = true;
        assert!(services(vec![other, rewriting, naptr(1, 3, "E2U+sip")], false, &ALL).is_empty());
    }

    #[test]
    fn srv_goes_by_priority_whatever_chance_says() {
        let records = vec![srv(20, 9, "c"), srv(10, 1, "a"), srv(15, 0, "b")];
        assert_eq!(targets(&order_srv(records.clone(), |_| 0)), ["a", "b", "c"]);
        assert_eq!(targets(&order_srv(records, |sum| sum)), ["a", "b", "c"]);
    }

    #[test]
    fn among_equals_the_weight_is_the_share_of_first_places() {
        let first_places = |target: &str| {
            let records = || vec![srv(1, 3, "heavy"), srv(1, 1, "light")];
            (1..=4).filter(|drawn| order_srv(records(), |sum| (*drawn).min(sum))[0].target == target).count()
        };
        assert_eq!((first_places("heavy"), first_places("light")), (3, 1));
    }

    #[test]
    fn a_record_without_weight_comes_first_only_when_zero_is_drawn() {
        let records = vec![srv(1, 5, "heavy"), srv(1, 0, "spare")];
        assert_eq!(targets(&order_srv(records.clone(), |_| 0)), ["spare", "heavy"]);
        assert_eq!(targets(&order_srv(records, |_| 1)), ["heavy", "spare"]);
    }

    #[test]
    fn a_dot_says_that_there_is_no_such_service() {
        assert!(order_srv(vec![srv(0, 0, "."), srv(0, 0, "")], |_| 0).is_empty());
    }
}
