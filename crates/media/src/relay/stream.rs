//! One media stream at one end of a relay: what was agreed with that end, who it is, and its keys.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::dtls::{Dtls, Fingerprint, Identity};
use super::latch::Latch;
use super::quality::Meter;
use super::stun;
use crate::codec::Codec;
use crate::rtcp::{Report, reports};
use crate::rtp::Packet;
use crate::srtp::{MasterKey, Opener, Sealer, SrtpError};

/// Clock rate where the description names none: that of telephony, and of every static audio payload type a phone would use.
pub const DEFAULT_CLOCK_RATE: u32 = 8000;

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
    /// Where it speaks WebRTC: what its checks and its handshake must know. All comes to the port for RTP then.
    pub ice: Option<IceTerms>,
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
}

/// What is known of an end that proves itself by ICE and DTLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceTerms {
    /// The user name of its checks: our fragment, a colon, its own.
    pub username: String,
    /// Our password.
    pub password: String,
    /// Its certificate.
    pub fingerprint: Fingerprint,
    /// Whether we begin the handshake.
    pub is_active: bool,
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
    rtp: Latch,
    rtcp: Latch,
    sealer: Option<Sealer>,
    opener: Option<Opener>,
    /// Where its checks have come from, and when the last one did.
    checked: Option<(SocketAddr, Instant)>,
    is_nominated: bool,
    dtls: Option<Dtls>,
    pub(super) meter: Meter,
}

/// A packet that was taken from an end, as it would be without protection.
pub(super) enum Taken {
    Rtp(Vec<u8>),
    Rtcp(Vec<u8>),
}

impl Stream {
    pub(super) fn new(now: Instant) -> Stream {
        let (rtp, rtcp) = (Latch::new(now), Latch::new(now));
        Stream {
            terms: None,
            rtp,
            rtcp,
            sealer: None,
            opener: None,
            checked: None,
            is_nominated: false,
            dtls: None,
            meter: Meter::default(),
        }
    }

    /// Takes what was agreed. Keys that stay keep their counters, so that no key stream is used twice and nothing is played again.
    pub(super) fn agree(
        &mut self,
        now: Instant,
        terms: Option<Terms>,
        signalling: Option<IpAddr>,
        identity: Option<&Identity>,
    ) {
        self.agree_ice(now, terms.as_ref().and_then(|terms| terms.ice.as_ref()), identity);
        let ours = |terms: &Terms| terms.protection.as_ref().map(|keys| keys.ours.clone());
        let theirs = |terms: &Terms| terms.protection.as_ref().map(|keys| keys.theirs.clone());
        let before = self.terms.as_ref();
        let (own, peers) = (terms.as_ref().and_then(ours), terms.as_ref().and_then(theirs));
        if own != before.and_then(ours) {
            self.sealer = own.as_ref().map(Sealer::new);
        }
        if peers != before.and_then(theirs) {
            self.opener = peers.as_ref().map(Opener::new);
        }
        if let Some(terms) = terms.as_ref().filter(|terms| before != Some(*terms)) {
            self.rtp.describe(now, terms.remote, signalling);
            self.rtcp.describe(now, terms.remote_rtcp, signalling);
        }
        self.terms = terms;
    }

    /// Takes how an end is to prove itself. A handshake outlives new checks, but not another certificate.
    fn agree_ice(&mut self, now: Instant, ice: Option<&IceTerms>, identity: Option<&Identity>) {
        let before = self.terms.as_ref().and_then(|terms| terms.ice.as_ref());
        if ice.map(|ice| &ice.username) != before.map(|ice| &ice.username) {
            (self.checked, self.is_nominated) = (None, false);
        }
        if ice.map(|ice| ice.fingerprint) != before.map(|ice| ice.fingerprint) {
            self.dtls = ice.zip(identity).map(|(ice, own)| Dtls::new(now, own, ice.fingerprint, ice.is_active));
            (self.sealer, self.opener) = (None, None);
        }
    }

    /// Whether all that this end sends and gets goes over one port, and begins with checks.
    pub(super) fn uses_ice(&self) -> bool {
        self.terms.as_ref().is_some_and(|terms| terms.ice.is_some())
    }

    /// Takes a check or a piece of a handshake; gives what is to be sent for it.
    pub(super) fn take_setup(
        &mut self,
        now: Instant,
        source: SocketAddr,
        datagram: &[u8],
    ) -> Vec<(SocketAddr, Vec<u8>)> {
        let Some(ice) = self.terms.as_ref().and_then(|terms| terms.ice.as_ref()) else { return Vec::new() };
        let mut sent = Vec::new();
        if stun::is_stun(datagram) {
            let Some(check) = stun::read(datagram, &ice.username, &ice.password) else { return Vec::new() };
            sent.push((source, stun::answer(&check, source, &ice.password)));
            let is_same = self.checked.is_some_and(|(checked, _)| checked == source);
            // The last that it has chosen; until it has, the first that works.
            if check.nominates || is_same || (!self.is_nominated && self.checked.is_none()) {
                self.checked = Some((source, now));
            }
            self.is_nominated |= check.nominates;
        } else if self.checked.is_some_and(|(checked, _)| checked == source)
            && let Some(dtls) = &mut self.dtls
        {
            // Only from where checks have come: nobody else's greeting is ever looked at (threat 20 of the design).
            dtls.handle_input(now, datagram);
        }
        sent.extend(self.continue_handshake());
        sent
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Vec<(SocketAddr, Vec<u8>)> {
        if self.poll_timeout().is_some_and(|at| at <= now)
            && let Some(dtls) = &mut self.dtls
        {
            dtls.handle_timeout(now);
        }
        self.continue_handshake()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.checked.and(self.dtls.as_ref()).and_then(Dtls::poll_timeout)
    }

    fn continue_handshake(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        let (Some((checked, _)), Some(dtls)) = (self.checked, &mut self.dtls) else { return Vec::new() };
        if let Some(keys) = dtls.keys().filter(|_| self.opener.is_none()) {
            (self.sealer, self.opener) = (Some(Sealer::new(&keys.ours)), Some(Opener::new(&keys.theirs)));
        }
        dtls.take_outgoing().into_iter().map(|datagram| (checked, datagram)).collect()
    }

    /// Where an end that speaks WebRTC is sent to, as long as it consents.
    fn consenting(&self, now: Instant) -> Option<SocketAddr> {
        self.checked.filter(|(_, at)| now.saturating_duration_since(*at) < CONSENT).map(|(checked, _)| checked)
    }

    /// Whether this end is to be heard.
    pub(super) fn sends(&self) -> bool {
        self.terms.as_ref().is_some_and(|terms| terms.sends)
    }

    /// How what passes between the node and this end is protected.
    pub(super) fn protected(&self) -> Protected {
        match &self.terms {
            Some(terms) if terms.ice.is_some() => Protected::Dtls,
            Some(terms) if terms.protection.is_some() => Protected::Sdes,
            Some(_) | None => Protected::No,
        }
    }

    pub(super) fn is_agreed(&self) -> bool {
        self.terms.is_some()
    }

    /// Takes an RTP packet from the network, if it is this end's.
    pub(super) fn take_rtp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Option<Taken> {
        let terms = self.terms.as_ref()?;
        if !terms.sends || (terms.ice.is_some() && self.opener.is_none()) {
            return None;
        }
        let opened = match &mut self.opener {
            Some(opener) => Some(count_forged(&mut self.meter, opener.open_rtp(datagram))?),
            None => None,
        };
        let packet = Packet::parse(opened.as_deref().unwrap_or(datagram)).ok()?;
        let format = *terms.formats.iter().find(|format| format.payload_type == packet.payload_type)?;
        if !self.rtp.admit(now, source, packet.ssrc, opened.is_some()) {
            return None;
        }
        self.meter.on_rtp(now, packet.ssrc, packet.sequence_number, packet.timestamp, format);
        Some(Taken::Rtp(opened.unwrap_or_else(|| datagram.to_vec())))
    }

    /// Takes an RTCP packet from the network, if it is this end's.
    pub(super) fn take_rtcp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Option<Taken> {
        if self.terms.as_ref()?.ice.is_some() && self.opener.is_none() {
            return None;
        }
        let opened = match &mut self.opener {
            Some(opener) => Some(count_forged(&mut self.meter, opener.open_rtcp(datagram))?),
            None => None,
        };
        let packet = opened.as_deref().unwrap_or(datagram);
        let [_, _, _, _, s0, s1, s2, s3] = *packet.first_chunk::<8>()?;
        let ssrc = u32::from_be_bytes([s0, s1, s2, s3]);
        let reports = reports(packet)?;
        if !self.rtcp.admit(now, source, ssrc, opened.is_some()) {
            return None;
        }
        for report in &reports {
            match report {
                Report::Receiver(block) => self.meter.on_report(now, block),
                Report::Voip(metrics) => self.meter.on_metrics(*metrics),
                Report::Sender { .. } => {}
            }
        }
        Some(Taken::Rtcp(opened.unwrap_or_else(|| datagram.to_vec())))
    }

    /// Prepares a packet of the other end's for this one.
    pub(super) fn give(&mut self, now: Instant, taken: Taken) -> Option<(SocketAddr, Vec<u8>)> {
        let uses_ice = self.terms.as_ref()?.ice.is_some();
        if uses_ice && self.sealer.is_none() {
            return None;
        }
        match taken {
            Taken::Rtp(packet) => {
                let destination = if uses_ice { self.consenting(now)? } else { self.rtp.destination(now)? };
                let packet = match &mut self.sealer {
                    Some(sealer) => sealer.seal_rtp(&packet).ok()?,
                    None => packet,
                };
                Some((destination, packet))
            }
            Taken::Rtcp(packet) => {
                let destination = if uses_ice { self.consenting(now)? } else { self.rtcp.destination(now)? };
                for report in reports(&packet).iter().flatten() {
                    self.meter.on_passed(now, report);
                }
                let packet = match &mut self.sealer {
                    Some(sealer) => sealer.seal_rtcp(&packet).ok()?,
                    None => packet,
                };
                Some((destination, packet))
            }
        }
    }
}

/// What is not authentic is dropped and counted, and nothing else comes of it (threat 21 of the design).
fn count_forged(meter: &mut Meter, opened: Result<Vec<u8>, SrtpError>) -> Option<Vec<u8>> {
    if opened == Err(SrtpError::Tag) {
        meter.quality.forged += 1;
    }
    opened.ok()
}
