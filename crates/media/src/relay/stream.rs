//! One media stream at one end of a relay: what was agreed with that end, who it is, and its keys.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::check;
use super::dialer::Dialer;
use super::dtls::{Dtls, Fingerprint, Identity};
use super::latch::Latch;
use super::quality::Meter;
use super::wishes::Wishes;
use crate::codec::Codec;
use crate::rtcp::{Report, reports};
use crate::rtp::Packet;
use crate::srtp::{MasterKey, Opener, Sealer, SrtpError};
use crate::stun::is_stun;

/// Clock rate where the description names none: that of telephony, and of every static audio payload type a phone would use.
pub const DEFAULT_CLOCK_RATE: u32 = 8000;

/// Sources remembered of a stream: a camera in three sizes with repairs has six.
const MAX_SOURCES: usize = 8;

/// How long is sent to an end of which no check has come: it renews its consent every five seconds (RFC 7675 §5.1).
const CONSENT: Duration = Duration::from_secs(30);

/// What was agreed with one end for one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Where it receives RTP; `None` where its description names no address that can be sent to.
    pub remote: Option<SocketAddr>,
    /// Where it receives RTCP.
    pub remote_rtcp: Option<SocketAddr>,
    /// Whether it may send.
    pub sends: bool,
    /// The payload types that either end listed.
    pub formats: Vec<Format>,
    /// The keys, where it speaks SRTP.
    pub protection: Option<Protection>,
    /// Where it makes keys by a handshake instead: what that must know.
    pub dtls: Option<DtlsTerms>,
    /// Its checks, where it does them; else it is where its description says.
    pub ice: Option<IceTerms>,
    /// Where it is another node: the flow by which that takes the stream (see [`crate::roq`]). What comes by our own flow is from there.
    pub flow: Option<u64>,
    /// The stream whose transport this one shares (RFC 8843); it has no way there of its own then.
    pub carrier: Option<usize>,
    /// By which payload type it takes telephone events, and at which rate (RFC 4733), if it said so itself.
    pub events: Option<(u8, u32)>,
    /// By which wishes for key frames it is asked.
    pub wishes: Wishes,
}

/// What is known of an end that proves itself by DTLS (RFC 5763).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtlsTerms {
    /// Its certificate.
    pub fingerprint: Fingerprint,
    /// Whether we begin the handshake.
    pub is_active: bool,
    /// Whether RTCP comes to the port for RTP; else it has a handshake of its own (RFC 5764 §4.1).
    pub is_muxed: bool,
}

/// Where a packet is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Towards {
    /// To a place, from one of our ports.
    Address(SocketAddr),
    /// To another node.
    Flow(u64),
}

/// Where a packet came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// From a place, to one of our ports.
    Address(SocketAddr),
    /// From the node that the flow is of.
    Flow,
}

/// What a payload type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// The payload type.
    pub payload_type: u8,
    /// The rate of its timestamps in Hz.
    pub clock_rate: u32,
    /// Its codec, where it is one that is known by name.
    pub codec: Option<Codec>,
}

impl Format {
    /// Makes one of which nothing but the rate is said: its codec is that of the static payload type, if any.
    pub fn new(payload_type: u8, clock_rate: u32) -> Format {
        Format { payload_type, clock_rate, codec: Codec::of_static(payload_type) }
    }
}

/// How what passes between the node and an end is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protected {
    /// Not at all.
    No,
    /// SRTP, with keys in the description (RFC 4568).
    Sdes,
    /// SRTP, with keys from a handshake between the node and the end (RFC 5764).
    Dtls,
    /// As all of the link to another node is, which that end is.
    Link,
}

/// The way that media takes between the node and an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing is agreed, or its description names no address.
    Unknown,
    /// To where its description says that it is; nothing has come from it.
    Described(SocketAddr),
    /// To where its packets come from.
    Heard(SocketAddr),
    /// It does checks (RFC 8445), and none has come.
    Unchecked,
    /// The candidate pair that its checks chose.
    Checked {
        /// Its own end of the pair.
        remote: SocketAddr,
        /// Whether it has nominated the pair, or this is but the first that works.
        is_nominated: bool,
    },
    /// Over the link to another node.
    Link,
}

/// What is known of an end that does checks (RFC 8445).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceTerms {
    /// The user name of its checks: our fragment, a colon, its own.
    pub username: String,
    /// Our password.
    pub password: String,
}

/// The keys of a stream at one end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// Ours: what is sent to that end.
    pub ours: MasterKey,
    /// Its own: what comes from there.
    pub theirs: MasterKey,
}

/// The stream.
#[derive(Debug)]
pub(super) struct Stream {
    terms: Option<Terms>,
    rtp: Component,
    /// Used for RTCP only where that has a port of its own; its keys only where it has a handshake of its own.
    rtcp: Component,
    pub(super) meter: Meter,
    /// Who has sent in it, the newest last.
    sources: Vec<u32>,
    /// What puts digits into what is sent there, once there was one.
    pub(super) dialer: Option<Box<Dialer>>,
    /// How many wishes were rewritten for it.
    wished: u8,
}

/// What has a port of its own at the other end.
#[derive(Debug)]
struct Component {
    latch: Latch,
    sealer: Option<Sealer>,
    opener: Option<Opener>,
    dtls: Option<Dtls>,
    /// With whom the handshake is, where no checks say so.
    shakes_with: Option<SocketAddr>,
    /// Where its checks have come from, and when it was heard from there last.
    checked: Option<(SocketAddr, Instant)>,
    is_nominated: bool,
}

/// A piece of a handshake, or the answer to a check.
pub(super) struct Setup {
    pub(super) is_rtcp: bool,
    pub(super) destination: SocketAddr,
    pub(super) datagram: Vec<u8>,
}

/// A packet that was taken from an end, as it would be without protection.
pub(super) enum Taken {
    Rtp(Vec<u8>),
    Rtcp(Vec<u8>),
}

impl Component {
    fn new(now: Instant) -> Component {
        Component {
            latch: Latch::new(now),
            sealer: None,
            opener: None,
            dtls: None,
            shakes_with: None,
            checked: None,
            is_nominated: false,
        }
    }

    /// Takes a check that knew our password: the last pair that the other side has chosen counts; until it has, the first that works.
    fn on_check(&mut self, now: Instant, source: SocketAddr, nominates: bool) {
        let is_same = self.is_checked(source);
        if nominates || is_same || (!self.is_nominated && self.checked.is_none()) {
            self.checked = Some((source, now));
            if !is_same {
                // It is as good as described.
                self.latch.describe(now, Some(source), None);
            }
        }
        self.is_nominated |= nominates;
    }

    fn is_checked(&self, source: SocketAddr) -> bool {
        self.checked.is_some_and(|(checked, _)| checked == source)
    }

    /// It still wants what it is sent: agents older than consent (RFC 7675) do not repeat their checks, but go on speaking, or say that they
    /// are there (RFC 8445 §11).
    fn on_heard(&mut self, now: Instant, source: SocketAddr) {
        if let Some((_, at)) = self.checked.as_mut().filter(|(checked, _)| *checked == source) {
            *at = now;
        }
    }

    /// Where an end that does checks is sent to, as long as it consents.
    fn consenting(&self, now: Instant) -> Option<SocketAddr> {
        self.checked.filter(|(_, at)| now.saturating_duration_since(*at) < CONSENT).map(|(checked, _)| checked)
    }

    /// Whether a packet that came in this way is the end's, as far as that shows before it is read.
    fn admits(
        &mut self,
        now: Instant,
        from: From,
        (flow, uses_ice): (Option<u64>, bool),
        ssrc: u32,
        is_proven: bool,
    ) -> bool {
        match (from, flow) {
            (From::Flow, Some(_)) => true,
            (From::Address(source), None) => {
                // What proves nothing itself has to come from where checks did.
                let is_possible = !uses_ice || is_proven || self.is_checked(source);
                let is_admitted = is_possible && self.latch.admit(now, source, ssrc, is_proven);
                if is_admitted {
                    self.on_heard(now, source);
                }
                is_admitted
            }
            (From::Flow, None) | (From::Address(_), Some(_)) => false,
        }
    }

    /// Begins a handshake, or ends all that came of one.
    fn begin(
        &mut self,
        now: Instant,
        terms: Option<&DtlsTerms>,
        (remote, uses_ice): (Option<SocketAddr>, bool),
        identity: Option<&Identity>,
    ) {
        let dtls = terms.zip(identity).map(|(terms, own)| Dtls::new(now, own, terms, uses_ice));
        // Who begins has to know where to; who waits hears of it.
        let shakes_with = remote.filter(|_| terms.is_some_and(|terms| terms.is_active && !uses_ice));
        (self.dtls, self.shakes_with, self.sealer, self.opener) = (dtls, shakes_with, None, None);
    }

    fn proceed(&mut self) -> Vec<Vec<u8>> {
        let Some(dtls) = &mut self.dtls else { return Vec::new() };
        if let Some(keys) = dtls.keys().filter(|_| self.opener.is_none()) {
            (self.sealer, self.opener) = (Some(Sealer::new(&keys.ours)), Some(Opener::new(&keys.theirs)));
        }
        dtls.take_outgoing()
    }
}

impl Stream {
    pub(super) fn new(now: Instant) -> Stream {
        let (rtp, rtcp) = (Component::new(now), Component::new(now));
        Stream { terms: None, rtp, rtcp, meter: Meter::default(), sources: Vec::new(), dialer: None, wished: 0 }
    }

    /// Takes what was agreed. Keys that stay keep their counters, so that no key stream is used twice and nothing is played again.
    pub(super) fn agree(
        &mut self,
        now: Instant,
        terms: Option<Terms>,
        signalling: Option<IpAddr>,
        identity: Option<&Identity>,
    ) {
        self.agree_dtls(now, terms.as_ref(), identity);
        let ours = |terms: &Terms| terms.protection.as_ref().map(|keys| keys.ours.clone());
        let theirs = |terms: &Terms| terms.protection.as_ref().map(|keys| keys.theirs.clone());
        let before = self.terms.as_ref();
        let (own, peers) = (terms.as_ref().and_then(ours), terms.as_ref().and_then(theirs));
        if own != before.and_then(ours) {
            self.rtp.sealer = own.as_ref().map(Sealer::new);
        }
        if peers != before.and_then(theirs) {
            self.rtp.opener = peers.as_ref().map(Opener::new);
        }
        if let Some(terms) = terms.as_ref().filter(|terms| before != Some(*terms)) {
            let uses_ice = terms.ice.is_some();
            for (component, remote) in [(&mut self.rtp, terms.remote), (&mut self.rtcp, terms.remote_rtcp)] {
                let checked = component.checked.map(|(checked, _)| checked);
                let (remote, signalling) = if uses_ice { (checked, None) } else { (remote, signalling) };
                component.latch.describe(now, remote, signalling);
            }
        }
        self.terms = terms;
    }

    /// Takes how an end is to prove itself. A handshake outlives new checks, but not another certificate.
    fn agree_dtls(&mut self, now: Instant, terms: Option<&Terms>, identity: Option<&Identity>) {
        let dtls = terms.and_then(|terms| terms.dtls.as_ref());
        let before = self.dtls_terms();
        let ice = terms.and_then(|terms| terms.ice.as_ref());
        let username = |ice: &IceTerms| ice.username.clone();
        let is_checked_anew = ice.map(username) != self.ice().map(username);
        let proof = |dtls: &DtlsTerms| (dtls.fingerprint, dtls.is_muxed);
        let is_proved_anew = dtls.map(proof) != before.map(proof);
        if is_checked_anew {
            for component in [&mut self.rtp, &mut self.rtcp] {
                (component.checked, component.is_nominated) = (None, false);
            }
        }
        if is_proved_anew {
            let second = dtls.filter(|dtls| !dtls.is_muxed);
            let uses_ice = ice.is_some();
            self.rtp.begin(now, dtls, (terms.and_then(|terms| terms.remote), uses_ice), identity);
            self.rtcp.begin(now, second, (terms.and_then(|terms| terms.remote_rtcp), uses_ice), identity);
        }
    }

    fn dtls_terms(&self) -> Option<&DtlsTerms> {
        self.terms.as_ref().and_then(|terms| terms.dtls.as_ref())
    }

    fn ice(&self) -> Option<&IceTerms> {
        self.terms.as_ref().and_then(|terms| terms.ice.as_ref())
    }

    /// Whether checks or pieces of a handshake are expected from it.
    pub(super) fn is_set_up(&self) -> bool {
        self.dtls_terms().is_some() || self.uses_ice()
    }

    /// Whether all that this end sends and gets goes over one port.
    pub(super) fn is_muxed(&self) -> bool {
        self.dtls_terms().is_some_and(|dtls| dtls.is_muxed)
    }

    fn uses_ice(&self) -> bool {
        self.ice().is_some()
    }

    /// Takes a check or a piece of a handshake; gives what is to be sent for it.
    pub(super) fn take_setup(
        &mut self,
        now: Instant,
        is_rtcp: bool,
        source: SocketAddr,
        datagram: &[u8],
    ) -> Vec<Setup> {
        let mut sent = Vec::new();
        if is_stun(datagram) {
            let Some(ice) = self.ice() else { return Vec::new() };
            let Some(found) = check::read(datagram, &ice.username, &ice.password) else {
                if check::is_sign_of_life(datagram) {
                    self.component(is_rtcp).on_heard(now, source);
                }
                return Vec::new();
            };
            let answer = check::answer(&found, source, &ice.password);
            sent.push(Setup { is_rtcp, destination: source, datagram: answer });
            self.component(is_rtcp).on_check(now, source, found.nominates);
        } else if self.is_peer(is_rtcp, source)
            && let Some(dtls) = &mut self.component(is_rtcp).dtls
        {
            // Nobody else's greeting is ever looked at (threat 20 of the design).
            dtls.handle_input(now, datagram);
        }
        sent.extend(self.continue_handshakes());
        sent
    }

    /// Whether a handshake is with whoever is there: where checks have come from; without checks, the place that the signalling vouches for.
    /// Of several that share the address of a phone behind NAT it is the first.
    fn is_peer(&mut self, is_rtcp: bool, source: SocketAddr) -> bool {
        if self.uses_ice() {
            return self.component(is_rtcp).is_checked(source);
        }
        let component = self.component(is_rtcp);
        match component.shakes_with {
            Some(known) if component.latch.is_vouched_for(known) => known == source,
            Some(_) | None => {
                let is_vouched_for = component.latch.is_vouched_for(source);
                if is_vouched_for {
                    component.shakes_with = Some(source);
                }
                is_vouched_for
            }
        }
    }

    fn component(&mut self, is_rtcp: bool) -> &mut Component {
        if is_rtcp { &mut self.rtcp } else { &mut self.rtp }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<Setup> {
        for is_rtcp in [false, true] {
            let is_due = self.handshake_due(is_rtcp).is_some_and(|at| at <= now);
            if let Some(dtls) = self.component(is_rtcp).dtls.as_mut().filter(|_| is_due) {
                dtls.handle_timeout(now);
            }
        }
        self.continue_handshakes()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let digit = self.dialer.as_ref().and_then(|dialer| dialer.poll_timeout());
        [false, true].into_iter().filter_map(|is_rtcp| self.handshake_due(is_rtcp)).chain(digit).min()
    }

    fn handshake_due(&self, is_rtcp: bool) -> Option<Instant> {
        self.handshake_at(is_rtcp)?;
        let component = if is_rtcp { &self.rtcp } else { &self.rtp };
        component.dtls.as_ref().and_then(Dtls::poll_timeout)
    }

    /// Where the other side of a handshake is, as soon as that is known.
    fn handshake_at(&self, is_rtcp: bool) -> Option<SocketAddr> {
        let component = if is_rtcp { &self.rtcp } else { &self.rtp };
        if self.uses_ice() { component.checked.map(|(checked, _)| checked) } else { component.shakes_with }
    }

    fn continue_handshakes(&mut self) -> Vec<Setup> {
        let mut sent = Vec::new();
        for is_rtcp in [false, true] {
            let Some(destination) = self.handshake_at(is_rtcp) else { continue };
            let datagrams = self.component(is_rtcp).proceed().into_iter();
            sent.extend(datagrams.map(|datagram| Setup { is_rtcp, destination, datagram }));
        }
        sent
    }

    /// The way that it takes.
    pub(super) fn way(&self) -> Way {
        let Some(terms) = &self.terms else { return Way::Unknown };
        if terms.flow.is_some() {
            return Way::Link;
        }
        if self.uses_ice() {
            let is_nominated = self.rtp.is_nominated;
            return self.rtp.checked.map_or(Way::Unchecked, |(remote, _)| Way::Checked { remote, is_nominated });
        }
        match (self.rtp.latch.known(), terms.remote) {
            (Some(heard), _) => Way::Heard(heard),
            (None, Some(described)) => Way::Described(described),
            (None, None) => Way::Unknown,
        }
    }

    /// Whether this end is to be heard.
    pub(super) fn sends(&self) -> bool {
        self.terms.as_ref().is_some_and(|terms| terms.sends)
    }

    /// How what passes between the node and this end is protected.
    pub(super) fn protected(&self) -> Protected {
        match &self.terms {
            Some(terms) if terms.dtls.is_some() => Protected::Dtls,
            Some(terms) if terms.protection.is_some() => Protected::Sdes,
            Some(terms) if terms.flow.is_some() => Protected::Link,
            Some(_) | None => Protected::No,
        }
    }

    /// The stream whose transport it shares.
    pub(super) fn carrier(&self) -> Option<usize> {
        self.terms.as_ref()?.carrier
    }

    /// Whether this end speaks by that payload type in it.
    pub(super) fn speaks(&self, payload_type: u8) -> bool {
        self.terms.as_ref().is_some_and(|terms| terms.formats.iter().any(|format| format.payload_type == payload_type))
    }

    /// Whether that source has sent in it.
    pub(super) fn is_source(&self, ssrc: u32) -> bool {
        self.sources.contains(&ssrc)
    }

    fn remember(&mut self, ssrc: u32) {
        if self.sources.last() != Some(&ssrc) {
            self.sources.retain(|known| *known != ssrc);
            if self.sources.len() >= MAX_SOURCES {
                self.sources.remove(0);
            }
            self.sources.push(ssrc);
        }
    }

    /// Takes a packet that came by the transport which several streams share, out of its protection. Whose it is, it says itself.
    pub(super) fn open(&mut self, now: Instant, from: From, is_rtcp: bool, datagram: &[u8]) -> Option<Vec<u8>> {
        let opener = self.rtp.opener.as_mut()?;
        let opened = if is_rtcp { opener.open_rtcp(datagram) } else { opener.open_rtp(datagram) };
        let opened = count_forged(&mut self.meter, opened)?;
        let ssrc = if is_rtcp { rtcp_source(&opened)? } else { Packet::parse(&opened).ok()?.ssrc };
        if let From::Address(source) = from {
            // Both go over the one transport.
            self.rtp.on_heard(now, source);
        }
        self.component(is_rtcp).admits(now, from, (None, true), ssrc, true).then_some(opened)
    }

    /// Takes a packet of its own that came by another one's transport.
    pub(super) fn take_opened(&mut self, now: Instant, is_rtcp: bool, opened: Vec<u8>) -> Option<Taken> {
        if is_rtcp {
            let reports = reports(&opened)?;
            self.hear(now, &reports);
            return Some(Taken::Rtcp(opened));
        }
        let terms = self.terms.as_ref().filter(|terms| terms.sends)?;
        let packet = Packet::parse(&opened).ok()?;
        let format = *terms.formats.iter().find(|format| format.payload_type == packet.payload_type)?;
        self.meter.on_rtp(now, packet.ssrc, packet.sequence_number, packet.timestamp, format);
        self.remember(packet.ssrc);
        Some(Taken::Rtp(opened))
    }

    fn hear(&mut self, now: Instant, reports: &[Report]) {
        for report in reports {
            match report {
                Report::Receiver(block) => self.meter.on_report(now, block),
                Report::Voip(metrics) => self.meter.on_metrics(*metrics),
                Report::Sender { sent } => self.meter.on_said(now, *sent),
            }
        }
    }

    pub(super) fn is_agreed(&self) -> bool {
        self.terms.is_some()
    }

    /// Takes an RTP packet from the network, if it is this end's.
    pub(super) fn take_rtp(&mut self, now: Instant, from: From, datagram: &[u8]) -> Option<Taken> {
        let terms = self.terms.as_ref()?;
        let way = (terms.flow, terms.ice.is_some());
        if !terms.sends || (terms.dtls.is_some() && self.rtp.opener.is_none()) {
            return None;
        }
        let opened = match &mut self.rtp.opener {
            Some(opener) => Some(count_forged(&mut self.meter, opener.open_rtp(datagram))?),
            None => None,
        };
        let packet = Packet::parse(opened.as_deref().unwrap_or(datagram)).ok()?;
        let format = *terms.formats.iter().find(|format| format.payload_type == packet.payload_type)?;
        if !self.rtp.admits(now, from, way, packet.ssrc, opened.is_some()) {
            return None;
        }
        let ssrc = packet.ssrc;
        self.meter.on_rtp(now, ssrc, packet.sequence_number, packet.timestamp, format);
        self.remember(ssrc);
        Some(Taken::Rtp(opened.unwrap_or_else(|| datagram.to_vec())))
    }

    /// Whether RTCP has the keys of the port for RTP: unless a handshake of its own makes others.
    fn shares_keys(&self) -> bool {
        self.dtls_terms().is_none_or(|dtls| dtls.is_muxed)
    }

    /// Takes an RTCP packet from the network, if it is this end's.
    pub(super) fn take_rtcp(&mut self, now: Instant, from: From, datagram: &[u8]) -> Option<Taken> {
        let shares_keys = self.shares_keys();
        let terms = self.terms.as_ref()?;
        let (is_by_handshake, way) = (terms.dtls.is_some(), (terms.flow, terms.ice.is_some()));
        let is_muxed = self.is_muxed();
        let opener = if shares_keys { &mut self.rtp.opener } else { &mut self.rtcp.opener };
        if is_by_handshake && opener.is_none() {
            return None;
        }
        let opened = match opener {
            Some(opener) => Some(count_forged(&mut self.meter, opener.open_rtcp(datagram))?),
            None => None,
        };
        let packet = opened.as_deref().unwrap_or(datagram);
        let ssrc = rtcp_source(packet)?;
        let reports = reports(packet)?;
        let is_proven = opened.is_some();
        if !self.rtcp.admits(now, from, way, ssrc, is_proven) {
            return None;
        }
        if let From::Address(source) = from
            && is_muxed
        {
            self.rtp.on_heard(now, source);
        }
        let packet = opened.unwrap_or_else(|| datagram.to_vec());
        self.hear(now, &reports);
        Some(Taken::Rtcp(packet))
    }

    /// By which payload type this end takes telephone events, and at which rate.
    pub(super) fn events(&self) -> Option<(u8, u32)> {
        self.terms
            .as_ref()
            .filter(|terms| {
                terms.remote.is_some() || terms.dtls.is_some() || terms.ice.is_some() || terms.flow.is_some()
            })?
            .events
    }

    /// Looks at a packet of the other end's that is on its way to this one; `None` where it is left out.
    pub(super) fn prepare(&mut self, now: Instant, mut taken: Taken) -> Option<Taken> {
        match &mut taken {
            Taken::Rtp(packet) => {
                if self.dialer.as_mut().is_some_and(|dialer| !dialer.pass(now, packet)) {
                    return None;
                }
            }
            Taken::Rtcp(packet) => {
                for report in reports(packet).iter().flatten() {
                    self.meter.on_passed(now, report);
                }
                let wishes = self.terms.as_ref().map(|terms| terms.wishes).unwrap_or_default();
                if let Some(rewritten) = wishes.rewrite(packet, &mut self.wished) {
                    *packet = rewritten;
                }
            }
        }
        Some(taken)
    }

    /// The packet of a digit that is due.
    pub(super) fn dial(&mut self, now: Instant) -> Option<Taken> {
        let events = self.events();
        let packet = self.dialer.as_mut()?.handle_timeout(now, events.unwrap_or_default())?;
        events.map(|_| Taken::Rtp(packet))
    }

    /// Protects a packet for this end, and says where it goes.
    pub(super) fn send(&mut self, now: Instant, taken: Taken) -> Option<(Towards, Vec<u8>)> {
        let (uses_ice, is_muxed, shares_keys) = (self.uses_ice(), self.is_muxed(), self.shares_keys());
        let terms = self.terms.as_ref()?;
        let (is_by_handshake, flow) = (terms.dtls.is_some(), terms.flow);
        let is_rtcp = matches!(taken, Taken::Rtcp(_));
        let destination = match flow {
            Some(flow) => Towards::Flow(flow),
            None if uses_ice => Towards::Address(self.component(is_rtcp && !is_muxed).consenting(now)?),
            None => Towards::Address(self.component(is_rtcp && !is_muxed).latch.destination(now)?),
        };
        let sealer = &mut self.component(is_rtcp && !shares_keys).sealer;
        if is_by_handshake && sealer.is_none() {
            return None;
        }
        let packet = match (taken, sealer) {
            (Taken::Rtp(packet), Some(sealer)) => sealer.seal_rtp(&packet).ok()?,
            (Taken::Rtcp(packet), sealer) => match sealer {
                Some(sealer) => sealer.seal_rtcp(&packet).ok()?,
                None => packet,
            },
            (Taken::Rtp(packet), None) => packet,
        };
        Some((destination, packet))
    }
}

/// Who has sent a compound packet.
fn rtcp_source(packet: &[u8]) -> Option<u32> {
    let [_, _, _, _, s0, s1, s2, s3] = *packet.first_chunk::<8>()?;
    Some(u32::from_be_bytes([s0, s1, s2, s3]))
}

/// What is not authentic is dropped and counted, and nothing else comes of it (threat 21 of the design).
fn count_forged(meter: &mut Meter, opened: Result<Vec<u8>, SrtpError>) -> Option<Vec<u8>> {
    if opened == Err(SrtpError::Tag) {
        meter.quality.forged += 1;
    }
    opened.ok()
}
