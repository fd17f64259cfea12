//! How the node stands, read off its rooms for whoever asks.

pub(crate) mod network;
mod role;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use data_encoding::HEXLOWER;
use meshtone_media::roq::Dropped;
use meshtone_overlay::dht::Evidence;
use meshtone_overlay::{Path, RelayLoad, RelayServer};
use meshtone_sip::digest::Algorithm;

use crate::acme;
use crate::authority::Service;
use crate::authority::mail::MailStanding;
use crate::bootstrap::{Peer, Tried};
use crate::clock::unix_ms;
use crate::control::{
    AccountsStatus, AuthorityStatus, Call, Contradiction, FinishedCall, Heard, KeyChange, Link, MailStatus,
    MediaBetween, MediaUse, Netcheck, OwnRelay, Registration, RelayUsed, Search, ServerStatus, Sound, Status,
    StatusSource, Trace, TrunkStatus, Trust,
};
use crate::exchange::first_stage::FirstStage;
use crate::exchange::trunk::TrunkState;
use crate::exchange::{Exchange, calls};
use crate::node::{Summary, reachable};
use crate::renewal::Validity;
use crate::revocation::Revocations;
use crate::trace;
use crate::turn::Turn;
use crate::web::Certificates;

/// What `status` is read from.
pub(crate) struct StatusView {
    summary: Summary,
    exchange: Arc<Exchange>,
    first_stage: Option<Arc<FirstStage>>,
    tried: Arc<Tried>,
    authority: Option<Arc<Service>>,
    revocations: Revocations,
    validity: Validity,
    turn: Option<Arc<Turn>>,
    certificates: Option<Certificates>,
    acme: Option<(acme::Settings, acme::Standing)>,
    started: Instant,
}

impl StatusView {
    pub(crate) fn new(
        summary: Summary,
        exchange: Arc<Exchange>,
        first_stage: Option<Arc<FirstStage>>,
        tried: Arc<Tried>,
        authority: Option<Arc<Service>>,
        revocations: Revocations,
        validity: Validity,
    ) -> Self {
        let (turn, certificates, acme, started) = (None, None, None, Instant::now());
        Self {
            summary,
            exchange,
            first_stage,
            tried,
            authority,
            revocations,
            validity,
            turn,
            certificates,
            acme,
            started,
        }
    }

    /// The same, which tells who vouches for the node's page.
    pub(crate) fn with_certificates(
        self,
        certificates: Certificates,
        acme: Option<(acme::Settings, acme::Standing)>,
    ) -> Self {
        Self { certificates: Some(certificates), acme, ..self }
    }

    /// The same, of a node with a TURN server.
    pub(crate) fn with_turn(self, turn: Option<Arc<Turn>>) -> Self {
        Self { turn, ..self }
    }

    fn authority(&self, now_ms: u64) -> Option<AuthorityStatus> {
        let standing = self.authority.as_ref()?.standing();
        Some(AuthorityStatus {
            policy: standing.policy.as_str().to_owned(),
            certificates: standing.certificates,
            mail: standing.mail.map(|mail| mail_status(mail, now_ms)),
        })
    }

    fn links(&self) -> Vec<Link> {
        let link = |link: meshtone_overlay::LinkStatus| Link {
            node: link.node.to_string(),
            relay: link.relay.and_then(|key| self.exchange.overlay.relay_node(key)).map(|node| node.to_string()),
            path: match link.path {
                Path::Direct(address) if link.introduced => format!("introduced {address}"),
                Path::Direct(address) => format!("direct {address}"),
                Path::Relayed => "relayed".to_owned(),
            },
            rtt_ms: link.rtt_ms,
            domains: link.domains,
        };
        self.exchange.overlay.links().into_iter().map(link).collect()
    }

    fn relays(&self) -> Vec<RelayUsed> {
        let overlay = &self.exchange.overlay;
        let used = overlay.relays_in_use().into_iter().filter_map(|used| {
            let node = overlay.relay_node(used.link_key)?;
            let rtt_ms = used.rtt_ms.map(|rtt_ms| (rtt_ms * 10.0).round() / 10.0);
            Some(RelayUsed { node: node.to_string(), is_home: used.is_home, is_connected: used.is_connected, rtt_ms })
        });
        used.collect()
    }

    fn peer(&self) -> Vec<String> {
        let own = self.exchange.overlay.own_address();
        own.addrs.iter().map(|address| Peer::At(own.link_key, *address).to_string()).collect()
    }

    fn registrations(&self, now_ms: u64) -> Vec<Registration> {
        let mut rows = Vec::new();
        for (address, bindings) in self.exchange.registrations.all(now_ms) {
            rows.extend(bindings.into_iter().map(|binding| Registration {
                address: address.clone(),
                contact: binding.contact,
                transport: binding.flow.transport().to_string(),
                expires_s: binding.expires_ms.saturating_sub(now_ms) / 1000,
                q: f64::from(binding.q) / 1000.0,
            }));
        }
        rows
    }

    fn trunks(&self, now_ms: u64) -> Vec<TrunkStatus> {
        let row = |trunk: &Arc<TrunkState>| {
            let (settings, standing) = (&trunk.settings, trunk.standing());
            let registered = standing.registered_until_ms.map(|until| until.saturating_sub(now_ms) / 1000);
            let state = match (&standing.failing, registered) {
                (Some(_), _) => "failing",
                (None, Some(_)) => "registered",
                (None, None) if settings.register => "registering",
                (None, None) => "ready",
            };
            let (since, reason, hint) = standing.failing.map_or((None, None, None), |(since_ms, reason, hint)| {
                (Some(now_ms.saturating_sub(since_ms) / 1000), Some(reason), Some(hint))
            });
            TrunkStatus {
                name: settings.name.clone(),
                server: settings.server.clone(),
                state: state.to_owned(),
                registered_for_s: registered,
                failing_for_s: since,
                reason,
                hint,
                calls: trunk.lines.in_use(),
                max_calls: settings.max_calls,
            }
        };
        self.exchange.trunks.all().iter().map(row).collect()
    }

    fn second_stage(&self) -> Vec<ServerStatus> {
        let servers = self.first_stage.iter().flat_map(|first_stage| first_stage.servers());
        servers.map(|(server, answers)| ServerStatus { server, answers }).collect()
    }

    fn media_between(&self) -> MediaBetween {
        let between = &self.exchange.between;
        let Dropped { unknown, foreign, excess, malformed } = between.dropped();
        MediaBetween { flows: between.flows(), unknown, foreign, excess, malformed }
    }

    fn media(&self) -> MediaUse {
        let ((ports, most_ports), (converted, most_converted)) =
            (self.exchange.anchor_ports.in_use(), self.exchange.conversions.in_use());
        MediaUse { ports, most_ports, converted, most_converted, refused: self.exchange.shares.refused() }
    }

    fn calls(&self, now_ms: u64) -> Vec<Call> {
        let row = |(call_id, call): (String, calls::Call)| Call {
            call_id,
            from: call.from,
            to: call.to,
            state: call.state.as_str().to_owned(),
            since_s: now_ms.saturating_sub(call.since_ms) / 1000,
            sound: call.monitor.map(|monitor| sound(&calls::Sound::of(&monitor))),
        };
        self.exchange.calls.all().into_iter().map(row).collect()
    }

    fn finished_calls(&self, now_ms: u64) -> Vec<FinishedCall> {
        let row = |call: calls::Finished| FinishedCall {
            call_id: call.call_id,
            from: call.from,
            to: call.to,
            lasted_s: call.ended_ms.saturating_sub(call.began_ms) / 1000,
            ended_s: now_ms.saturating_sub(call.ended_ms) / 1000,
            sound: sound(&call.sound),
        };
        self.exchange.calls.all_finished().into_iter().map(row).collect()
    }
}

impl StatusSource for StatusView {
    fn status(&self) -> Status {
        let now_ms = unix_ms();
        let overlay = &self.exchange.overlay;
        let changes = self.exchange.members.key_changes().into_iter();
        let key_changes = changes.map(|(address, changed)| KeyChange { address, changed }).collect();
        let (certified_until, renewal_failing) = self.validity.now();
        let listening = self.exchange.transports.addresses();
        Status {
            node: self.summary.node.clone(),
            overlay: self.summary.overlay.clone(),
            domain: self.summary.domain.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            links: self.links(),
            registrations: self.registrations(now_ms),
            calls: self.calls(now_ms),
            finished_calls: self.finished_calls(now_ms),
            media_between: self.media_between(),
            media: self.media(),
            trunks: self.trunks(now_ms),
            second_stage: self.second_stage(),
            turn: self.turn.as_ref().map(|turn| turn.status()),
            records: overlay.records_held().into_iter().map(|(kind, count)| (kind.to_string(), count)).collect(),
            accounts: AccountsStatus {
                users: self.exchange.accounts.users(),
                version: self.exchange.accounts.version(),
            },
            peer: self.peer(),
            sip: reachable(&listening.sip, &overlay.addresses()),
            sips: reachable(&listening.tls, &overlay.addresses()),
            role: role::role(&overlay.role(), self.exchange.rights, now_ms),
            relay: overlay.relay().filter(RelayServer::is_open).map(|relay| {
                let RelayLoad { clients, carried } = relay.load();
                OwnRelay { clients, carried }
            }),
            relays: self.relays(),
            network: network::status(&network::Facts::of(overlay)),
            nodes_served: overlay.nodes_served(),
            overlay_nodes_known: overlay.nodes_known(),
            clock_behind_ms: overlay.clock_behind_ms(),
            search: overlay.search().map(|search| Search {
                since_s: now_ms.saturating_sub(search.since_ms) / 1000,
                attempts: search.attempts,
                reason: search.reason,
                tried: self.tried.sentence(),
            }),
            contradictions: overlay.evidence().iter().map(contradiction).collect(),
            revoked: self.revocations.of_own(),
            key_changes,
            certified_until,
            renewal_failing,
            authority: self.authority(now_ms),
            trust: self.trust(),
            acme: self.acme.as_ref().map(|(settings, standing)| standing.status(settings, now_ms / 1000)),
        }
    }

    fn trust(&self) -> Option<Trust> {
        self.certificates.as_ref().map(Certificates::trust)
    }

    fn netcheck(&self) -> Netcheck {
        network::check(&network::Facts::of(&self.exchange.overlay))
    }

    fn trace(&self, target: String) -> Pin<Box<dyn Future<Output = Trace> + Send>> {
        Box::pin(trace::trace(Arc::clone(&self.exchange), target))
    }

    fn sip(&self) -> Vec<SocketAddr> {
        self.exchange.transports.addresses().sip
    }

    fn offers(&self, algorithms: &[Algorithm]) -> bool {
        self.exchange.offers(algorithms)
    }
}

fn sound(sound: &calls::Sound) -> Sound {
    Sound {
        heard_by_caller: sound.by_caller.map(|by| heard(&by)),
        heard_by_callee: sound.by_callee.map(|by| heard(&by)),
        protection_of_caller: trace::protection(sound.to_caller).to_owned(),
        protection_of_callee: trace::protection(sound.to_callee).to_owned(),
    }
}

/// Figures for people: no more digits than the measurement has.
fn heard(heard: &meshtone_media::relay::Heard) -> Heard {
    let rounded = |value: f64| (value * 100.0).round() / 100.0;
    Heard {
        codec: heard.codec.map(|codec| codec.name().to_owned()),
        loss_percent: rounded(heard.loss * 100.0),
        jitter_ms: rounded(heard.jitter_ms),
        round_trip_ms: heard.round_trip.map(|time| rounded(time.as_secs_f64() * 1000.0)),
        mos: rounded(heard.mean_opinion),
        reported_mos: heard.reported_mean_opinion,
    }
}

fn mail_status(mail: MailStanding, now_ms: u64) -> MailStatus {
    let MailStanding { server, is_ready, waiting, trouble, refused } = mail;
    let state = match (&trouble, is_ready) {
        (Some(_), _) => "failing",
        (None, true) => "ready",
        (None, false) => "starting",
    };
    let ago_s = |then_ms: u64| now_ms.saturating_sub(then_ms) / 1000;
    let (failing_for_s, reason, hint) = trouble.map_or((None, None, None), |(since_ms, reason, hint)| {
        (Some(ago_s(since_ms)), Some(reason), Some(hint.to_owned()))
    });
    let (refused_ms, refused) = refused.unzip();
    let refused_ago_s = refused_ms.map(ago_s);
    MailStatus { server, state: state.to_owned(), waiting, failing_for_s, reason, hint, refused, refused_ago_s }
}

fn contradiction(evidence: &Evidence) -> Contradiction {
    let value = &evidence.first.value;
    Contradiction {
        writer: value.signer.to_string(),
        kind: value.kind.to_string(),
        name: value.name.clone(),
        stored_ms: value.storage_ms,
        found_ms: evidence.found_ms,
        records: [&evidence.first, &evidence.second].map(|record| HEXLOWER.encode(&record.encode())),
    }
}
