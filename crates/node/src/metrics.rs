//! What is counted, in Prometheus' text form. On the way of a message stands one relaxed addition to a counter of the worker's own; all else is
//! read off the node when somebody asks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use meshtone_sip::message::{Message, Method};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::control::Status;

/// The methods that are counted apart, in the order of the counters; all others are one.
const METHODS: [&str; 15] = [
    "INVITE",
    "ACK",
    "BYE",
    "CANCEL",
    "REGISTER",
    "OPTIONS",
    "INFO",
    "UPDATE",
    "PRACK",
    "SUBSCRIBE",
    "NOTIFY",
    "PUBLISH",
    "MESSAGE",
    "REFER",
    "other",
];
/// Classes of responses, by the first digit of their status.
const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx"];

/// What look-ups take, in seconds: most are answered within a round trip; after ten they are given up.
const LOOKUP_BUCKETS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 10.0];
/// The share of packets lost: one in a hundred is not heard, one in ten is.
const LOSS_BUCKETS: [f64; 8] = [0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3];
/// Scores from bad to as good as it gets (ITU-T G.107).
const SCORE_BUCKETS: [f64; 7] = [1.5, 2.0, 2.6, 3.1, 3.6, 4.0, 4.3];

/// The counters of one worker, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct OfWorker {
    requests: [AtomicU64; METHODS.len()],
    responses: [AtomicU64; CLASSES.len()],
}

/// What is counted as it happens.
#[derive(Debug)]
pub(crate) struct Metrics {
    workers: Vec<OfWorker>,
    lookups: Histogram,
    failed_lookups: Counter,
    loss: Histogram,
    score: Histogram,
    started: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMethod {
    method: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfClass {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPath {
    path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfState {
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfTrunk {
    trunk: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSeverity {
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBuild {
    version: String,
}

impl Metrics {
    pub(crate) fn new(workers: usize) -> Metrics {
        Metrics {
            workers: (0..workers).map(|_| OfWorker::default()).collect(),
            lookups: Histogram::new(LOOKUP_BUCKETS),
            failed_lookups: Counter::default(),
            loss: Histogram::new(LOSS_BUCKETS),
            score: Histogram::new(SCORE_BUCKETS),
            started: Instant::now(),
        }
    }

    /// A message came.
    pub(crate) fn received(&self, worker: usize, message: &Message) {
        if !message.is_request() {
            return;
        }
        let counter = self.workers.get(worker).and_then(|worker| worker.requests.get(index_of(message.method())));
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A message goes.
    pub(crate) fn sent(&self, worker: usize, message: &Message) {
        if message.is_request() {
            return;
        }
        let class = usize::from(message.status() / 100).wrapping_sub(1);
        if let Some(counter) = self.workers.get(worker).and_then(|worker| worker.responses.get(class)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A look-up in the overlay ended.
    pub(crate) fn looked_up(&self, took: Duration, has_failed: bool) {
        self.lookups.observe(took.as_secs_f64());
        if has_failed {
            self.failed_lookups.inc();
        }
    }

    /// How a call sounds at one end.
    pub(crate) fn heard(&self, loss: f64, score: f64) {
        self.loss.observe(loss);
        self.score.observe(score);
    }

    /// All of it, together with how the node stands, and how much of what is wrong.
    pub(crate) fn text(&self, status: &Status, problems: [(&'static str, usize); 3], sessions: usize) -> String {
        let mut registry = Registry::with_prefix("meshtone");
        self.register_counted(&mut registry);
        register_status(&mut registry, status);
        let gauges = Family::<OfSeverity, Gauge>::default();
        for (severity, count) in problems {
            gauges.get_or_create(&OfSeverity { severity }).set(number(count));
        }
        registry.register("health_problems", "What is not as it should be, as the page says it", gauges);
        registry.register("page_sessions", "Who is logged in at the page", whole(number(sessions)));
        if let Some(bytes) = resident_bytes() {
            let gauge = whole(bytes);
            registry.register_with_unit("resident_memory", "Memory that the process uses", Unit::Bytes, gauge);
        }
        let mut text = String::new();
        // Nothing is written but to a text.
        let _ = encode(&mut text, &registry);
        text
    }

    fn register_counted(&self, registry: &mut Registry) {
        let sum = |counters: &dyn Fn(&OfWorker) -> Option<u64>| self.workers.iter().filter_map(counters).sum::<u64>();
        let requests = Family::<OfMethod, Counter>::default();
        for (index, method) in METHODS.into_iter().enumerate() {
            let all = sum(&|worker| Some(worker.requests.get(index)?.load(Ordering::Relaxed)));
            requests.get_or_create(&OfMethod { method }).inc_by(all);
        }
        registry.register("sip_requests", "SIP requests that arrived", requests);
        let responses = Family::<OfClass, Counter>::default();
        for (index, class) in CLASSES.into_iter().enumerate() {
            let all = sum(&|worker| Some(worker.responses.get(index)?.load(Ordering::Relaxed)));
            responses.get_or_create(&OfClass { class }).inc_by(all);
        }
        registry.register("sip_responses", "SIP responses that were sent", responses);
        registry.register_with_unit(
            "overlay_lookup",
            "How long it took to find where somebody is registered",
            Unit::Seconds,
            self.lookups.clone(),
        );
        registry.register("overlay_lookup_failures", "Look-ups without an answer", self.failed_lookups.clone());
        registry.register(
            "media_loss_ratio",
            "The share of packets that ends of carried calls missed, each five seconds",
            self.loss.clone(),
        );
        registry.register(
            "media_score",
            "The estimated mean opinion score at ends of carried calls, each five seconds",
            self.score.clone(),
        );
        let uptime = real(self.started.elapsed().as_secs_f64().round());
        registry.register_with_unit("uptime", "How long the node has been running", Unit::Seconds, uptime);
    }
}

fn register_status(registry: &mut Registry, status: &Status) {
    let calls = Family::<OfState, Gauge>::default();
    for state in ["ringing", "established"] {
        let count = status.calls.iter().filter(|call| call.state == state).count();
        calls.get_or_create(&OfState { state: state.to_owned() }).set(number(count));
    }
    registry.register("calls_active", "Calls that pass through this node", calls);
    let carried = status.calls.iter().filter(|call| call.sound.is_some()).count();
    registry.register("calls_carried", "Calls whose sound runs through this node", whole(number(carried)));
    let links = Family::<OfPath, Gauge>::default();
    for path in ["direct", "introduced", "relayed"] {
        let count = status.links.iter().filter(|link| link.path.starts_with(path)).count();
        links.get_or_create(&OfPath { path: path.to_owned() }).set(number(count));
    }
    registry.register("overlay_links", "Links to other nodes", links);
    let simple: [(&str, &str, i64); 6] = [
        ("registered_phones", "Contacts registered at this node", number(status.registrations.len())),
        ("accounts", "Users of the domain", number(status.accounts.users)),
        ("overlay_nodes_known", "Other nodes of the overlay that are known", number(status.overlay_nodes_known)),
        ("overlay_nodes_served", "Ordinary nodes that use the overlay through this one", number(status.nodes_served)),
        ("overlay_serves", "Whether this node stores and forwards for others", i64::from(status.role.serves)),
        ("overlay_records", "Values held for the overlay", number(status.records.values().sum())),
    ];
    for (name, help, value) in simple {
        registry.register(name, help, whole(value));
    }
    let behind = real(Duration::from_millis(status.clock_behind_ms.unsigned_abs()).as_secs_f64());
    registry.register_with_unit(
        "clock_offset",
        "How far the clock is off those of most neighbours",
        Unit::Seconds,
        behind,
    );
    let ends = whole(i64::try_from(status.certified_until).unwrap_or(i64::MAX));
    registry.register_with_unit("certified_until_timestamp", "When this node's certificates end", Unit::Seconds, ends);
    let trunks = Family::<OfTrunk, Gauge>::default();
    for trunk in &status.trunks {
        let works = i64::from(trunk.state != "failing");
        trunks.get_or_create(&OfTrunk { trunk: trunk.name.clone() }).set(works);
    }
    registry.register("trunk_up", "Whether a trunk works", trunks);
    let build = Family::<OfBuild, Gauge>::default();
    build.get_or_create(&OfBuild { version: status.version.clone() }).set(1);
    registry.register("build_info", "The program's version", build);
}

fn index_of(method: Method) -> usize {
    match method {
        Method::Invite => 0,
        Method::Ack => 1,
        Method::Bye => 2,
        Method::Cancel => 3,
        Method::Register => 4,
        Method::Options => 5,
        Method::Info => 6,
        Method::Update => 7,
        Method::Prack => 8,
        Method::Subscribe => 9,
        Method::Notify => 10,
        Method::Publish => 11,
        Method::Message => 12,
        Method::Refer => 13,
        Method::Other => 14,
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn whole(value: i64) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

fn real(value: f64) -> Gauge<f64, AtomicU64> {
    let gauge = Gauge::default();
    gauge.set(value);
    gauge
}

/// What the process holds in memory, as Linux tells it.
fn resident_bytes() -> Option<i64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: i64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn requests_are_counted_by_method_and_responses_by_class_over_all_workers() {
        let metrics = Metrics::new(2);
        let message = |first: &str, method: &str| {
            let text = format!(
                "{first}\r\nVia: SIP/2.0/UDP 192.0.2.2;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=a\r\nTo: <sip:c@d>\r\n\
                 Call-ID: one\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n\r\n"
            );
            Message::parse(bytes::Bytes::from(text)).unwrap()
        };
        for (worker, method) in [(0, "INVITE"), (1, "INVITE"), (0, "FOO"), (7, "INVITE")] {
            metrics.received(worker, &message(&format!("{method} sip:c@d SIP/2.0"), method));
        }
        metrics.sent(1, &message("SIP/2.0 486 Busy Here", "INVITE"));
        metrics.sent(1, &message("INVITE sip:c@d SIP/2.0", "INVITE"));
        metrics.looked_up(Duration::from_millis(3), false);
        let mut registry = Registry::with_prefix("meshtone");
        metrics.register_counted(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "meshtone_sip_requests_total{method=\"INVITE\"} 2",
            "meshtone_sip_requests_total{method=\"other\"} 1",
            "meshtone_sip_responses_total{class=\"4xx\"} 1",
            "meshtone_sip_responses_total{class=\"2xx\"} 0",
            "meshtone_overlay_lookup_seconds_count 1",
            "meshtone_overlay_lookup_seconds_bucket{le=\"0.005\"} 1",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn a_method_has_its_own_name() {
        for (index, name) in METHODS.into_iter().enumerate().take(METHODS.len() - 1) {
            assert_eq!(index_of(Method::from_name(name)), index);
        }
    }
}
