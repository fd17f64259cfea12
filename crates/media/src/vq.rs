//! What a phone says of how a call sounded to it: the session reports of RFC 6035, text of fields and values. Pure.
//!
//! Of what the RFC has, only that is read which is shown: whose call it is, and what the phone itself has measured (`LocalMetrics`).

/// The media type of such reports.
pub const MEDIA_TYPE: &str = "application/vq-rtcpxr";
/// The event package that they are published for.
pub const EVENT: &str = "vq-rtcpxr";

/// Largest report that is read: those of the RFC have 1.5 KiB.
const MAX_LEN: usize = 8 << 10;
/// Longest name of a call.
const MAX_CALL_ID: usize = 256;
/// Longest time that is believed, in milliseconds.
const MAX_MS: f64 = 60_000.0;

/// A phone's own measurements of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The Call-ID.
    pub call_id: String,
    /// How much of what was sent to it did not arrive or came too late, in percent.
    pub loss_percent: f64,
    /// Interarrival jitter, in milliseconds.
    pub jitter_ms: f64,
    /// Round trip, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// The mean opinion score that it estimates, of listening before that of the conversation: 1 to 5.
    pub mean_opinion: Option<f64>,
}

/// Reads a report; `None` for what is none, or says nothing of the sound.
pub fn parse(body: &[u8]) -> Option<Report> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= MAX_LEN)?;
    let (mut call_id, mut is_local) = (None, false);
    let (mut lost, mut discarded, mut jitter, mut round_trip) = (None, None, None, None);
    let (mut listening, mut conversing) = (None, None);
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        match name.as_str() {
            "callid" => call_id = Some(value).filter(|value| !value.is_empty() && value.len() <= MAX_CALL_ID),
            "localmetrics" => is_local = true,
            "remotemetrics" => is_local = false,
            _ if !is_local => {}
            "packetloss" => {
                lost = number(value, "NLR", 100.0).or(lost);
                discarded = number(value, "JDR", 100.0).or(discarded);
            }
            "delay" => {
                jitter = number(value, "IAJ", MAX_MS).or(jitter);
                round_trip = number(value, "RTD", MAX_MS).or(round_trip);
            }
            "qualityest" => {
                listening = number(value, "MOSLQ", 5.0).or(listening);
                conversing = number(value, "MOSCQ", 5.0).or(conversing);
            }
            _ => {}
        }
    }
    let mean_opinion = listening.or(conversing).filter(|score| *score >= 1.0);
    if lost.is_none() && discarded.is_none() && mean_opinion.is_none() {
        return None;
    }
    Some(Report {
        call_id: call_id?.to_owned(),
        loss_percent: (lost.unwrap_or_default() + discarded.unwrap_or_default()).min(100.0),
        jitter_ms: jitter.unwrap_or_default(),
        round_trip_ms: round_trip,
        mean_opinion,
    })
}

/// The number of this name among `NAME=value` parts, if it is one between 0 and `most`.
fn number(value: &str, name: &str, most: f64) -> Option<f64> {
    let mut parts = value.split_ascii_whitespace().filter_map(|part| part.split_once('='));
    let (_, text) = parts.find(|(other, _)| other.eq_ignore_ascii_case(name))?;
    text.parse::<f64>().ok().filter(|number| (0.0..=most).contains(number))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// RFC 6035 §4.7.1, shortened.
    const REPORT: &str = "VQSessionReport: CallTerm\r\nCallID: 12345678@example.com\r\nLocalID: <sip:alice@example.com>\r\n\
        LocalMetrics:\r\nTimestamps:START=2004-10-10T18:23:43Z STOP=2004-10-01T18:26:02Z\r\nPacketLoss:NLR=5.0 JDR=2.0\r\n\
        BurstGapLoss:BLD=0 BD=0 GLD=2.0 GD=500 GMIN=16\r\nDelay:RTD=200 ESD=140 SOWD=200 IAJ=2 MAJ=10\r\n\
        QualityEst:RLQ=88 RCQ=85 EXTRI=90 MOSLQ=4.2 MOSCQ=4.3 QoEEstAlg=P.564\r\nRemoteMetrics:\r\nPacketLoss:NLR=70.0 JDR=0\r\n";

    #[test]
    fn what_the_phone_has_measured_itself_is_read() {
        let report = parse(REPORT.as_bytes()).unwrap();
        assert_eq!(
            report,
            Report {
                call_id: "12345678@example.com".to_owned(),
                loss_percent: 7.0,
                jitter_ms: 2.0,
                round_trip_ms: Some(200.0),
                mean_opinion: Some(4.2),
            }
        );
    }

    #[test]
    fn numbers_that_are_none_are_not_believed_and_what_says_nothing_is_no_report() {
        for odd in ["NLR=NaN", "NLR=-1", "NLR=101", "NLR=inf", "NLR=", "=5", "NLR"] {
            let text = REPORT.replace("NLR=5.0", odd);
            assert_eq!(parse(text.as_bytes()).unwrap().loss_percent, 2.0, "{odd}");
        }
        assert!(parse(b"").is_none() && parse(&[0xff; 9]).is_none());
        assert!(parse(REPORT.replace("CallID", "Other").as_bytes()).is_none());
        assert!(parse(REPORT.replace("LocalMetrics", "Other").as_bytes()).is_none());
        assert!(parse(format!("{REPORT}{}", "x".repeat(MAX_LEN)).as_bytes()).is_none());
    }
}
