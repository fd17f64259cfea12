//! One media stream at one end of a relay: what was agreed with that end, who it is, and its keys.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::latch::Latch;
use super::quality::Meter;
use crate::rtcp::reports;
use crate::rtp::Packet;
use crate::srtp::{MasterKey, Opener, Sealer, SrtpError};

/// Clock rate where the description names none: that of telephony, and of every static audio payload type a phone would use.
pub const DEFAULT_CLOCK_RATE: u32 = 8000;

/// What was agreed with one end for one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Where it receives RTP; `None` where its description names no address that can be sent to.
    pub remote: Option<SocketAddr>,
    /// Where it receives RTCP.
    pub remote_rtcp: Option<SocketAddr>,
    /// Whether it may send.
    pub sends: bool,
    /// The payload types that either end listed, and their clock rates.
    pub formats: Vec<(u8, u32)>,
    /// The keys, where it speaks SRTP.
    pub protection: Option<Protection>,
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
        Stream { terms: None, rtp, rtcp, sealer: None, opener: None, meter: Meter::default() }
    }

    /// Takes what was agreed. Keys that stay keep their counters, so that no key stream is used twice and nothing is played again.
    pub(super) fn agree(&mut self, now: Instant, terms: Option<Terms>, signalling: Option<IpAddr>) {
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

    /// Whether this end is to be heard.
    pub(super) fn sends(&self) -> bool {
        self.terms.as_ref().is_some_and(|terms| terms.sends)
    }

    pub(super) fn is_agreed(&self) -> bool {
        self.terms.is_some()
    }

    /// Takes an RTP packet from the network, if it is this end's.
    pub(super) fn take_rtp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Option<Taken> {
        let terms = self.terms.as_ref()?;
        if !terms.sends {
            return None;
        }
        let opened = match &mut self.opener {
            Some(opener) => Some(count_forged(&mut self.meter, opener.open_rtp(datagram))?),
            None => None,
        };
        let packet = Packet::parse(opened.as_deref().unwrap_or(datagram)).ok()?;
        let (_, clock_rate) = *terms.formats.iter().find(|(format, _)| *format == packet.payload_type)?;
        if !self.rtp.admit(now, source, packet.ssrc, opened.is_some()) {
            return None;
        }
        self.meter.on_rtp(now, packet.ssrc, packet.sequence_number, packet.timestamp, clock_rate);
        Some(Taken::Rtp(opened.unwrap_or_else(|| datagram.to_vec())))
    }

    /// Takes an RTCP packet from the network, if it is this end's.
    pub(super) fn take_rtcp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Option<Taken> {
        self.terms.as_ref()?;
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
            if let crate::rtcp::Report::Receiver(block) = report {
                self.meter.on_report(now, block);
            }
        }
        Some(Taken::Rtcp(opened.unwrap_or_else(|| datagram.to_vec())))
    }

    /// Prepares a packet of the other end's for this one.
    pub(super) fn give(&mut self, now: Instant, taken: Taken) -> Option<(SocketAddr, Vec<u8>)> {
        self.terms.as_ref()?;
        match taken {
            Taken::Rtp(packet) => {
                let destination = self.rtp.destination(now)?;
                let packet = match &mut self.sealer {
                    Some(sealer) => sealer.seal_rtp(&packet).ok()?,
                    None => packet,
                };
                Some((destination, packet))
            }
            Taken::Rtcp(packet) => {
                let destination = self.rtcp.destination(now)?;
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
