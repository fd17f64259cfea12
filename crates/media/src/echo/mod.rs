//! The echo: whatever audio comes is sent back to where it came from, and a report on it to whoever sends reports.
//!
//! Pure: packets go in with the time, packets come out. It never sends to an address that did not speak first, sends at most as
//! much as it got, and once it knows its caller nobody else is heard, so it can be used neither to flood a third party nor to
//! listen in (threat 19 of the design).

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::relay::{Format, Meter};
use crate::rtcp::{self, Report, SenderInfo};
use crate::rtp::Packet;
use crate::sdp::Agreement;

/// A call without audio for this long is over: its caller crashed or lost the network.
pub const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// A call on hold brings no audio; one forgotten there ends after half an hour.
pub const HOLD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// How long the caller's stream must have been silent before another source (SSRC) at his address is taken for him: longer than
/// any loss, shorter than a person waits.
pub const SOURCE_CHANGE_AFTER: Duration = Duration::from_secs(1);

/// Packets sent back in a second, at most. Phones send 50, those with 5 ms frames 200.
pub const MAX_PACKETS_PER_SECOND: u32 = 250;

/// The largest packet sent back: what fits an Ethernet frame. Audio has 40 to 400 bytes.
pub const MAX_PACKET_LEN: usize = 1472;

/// A report of the caller's is answered with one of ours, no more often than this.
const REPORT_EVERY: Duration = Duration::from_secs(4);

/// A packet to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub destination: SocketAddr,
    /// The RTP packet.
    pub packet: Vec<u8>,
}

/// What happened that the owner should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// There was no audio for [`IDLE_LIMIT`] or [`HOLD_LIMIT`]: hang up. Nothing more comes after it.
    Idle,
}

/// Why the machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerReason {
    /// The caller may have gone.
    Idle,
}

/// Numbers that must not be guessed (RFC 3550 §5.1); they come from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Our source.
    pub ssrc: u32,
    /// Our first sequence number.
    pub sequence_number: u16,
    /// Our first timestamp.
    pub timestamp: u32,
}

/// The machine of one call.
#[derive(Debug)]
pub struct Echo {
    agreement: Agreement,
    /// Where the call's signalling came from; its audio may come from there when the description names a private address.
    signalling_source: IpAddr,
    caller: Option<Caller>,
    ssrc: u32,
    /// What the next packet has, should it begin a stream.
    next_sequence_number: u16,
    next_timestamp: u32,
    began: Instant,
    meter: Meter,
    /// Packets that were sent, and the bytes in them.
    sent: (u32, u32),
    last_report: Option<Instant>,
    last_heard: Instant,
    last_sent: Option<Instant>,
    /// The second that is counted, and packets sent in it.
    counted: (Instant, u32),
    ended: bool,
    transmits: VecDeque<Transmit>,
    reports: VecDeque<Transmit>,
    events: VecDeque<Event>,
}

/// The caller's stream, and how far ours is from it.
#[derive(Debug, Clone, Copy)]
struct Caller {
    address: SocketAddr,
    ssrc: u32,
    sequence_offset: u16,
    timestamp_offset: u32,
}

impl Echo {
    /// Makes the machine of a call whose descriptions were exchanged.
    pub fn new(now: Instant, agreement: Agreement, signalling_source: IpAddr, start: Start) -> Echo {
        Echo {
            agreement,
            signalling_source: signalling_source.to_canonical(),
            caller: None,
            ssrc: start.ssrc,
            next_sequence_number: start.sequence_number,
            next_timestamp: start.timestamp,
            began: now,
            meter: Meter::default(),
            sent: (0, 0),
            last_report: None,
            last_heard: now,
            last_sent: None,
            counted: (now, 0),
            ended: false,
            transmits: VecDeque::new(),
            reports: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes what a new exchange of descriptions agreed upon. The caller may have moved, so he is learned anew.
    pub fn handle_agreement(&mut self, now: Instant, agreement: Agreement, signalling_source: IpAddr) {
        self.agreement = agreement;
        self.signalling_source = signalling_source.to_canonical();
        self.caller = None;
        self.last_heard = now;
    }

    /// Takes a datagram.
    pub fn handle_input(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        if self.ended || datagram.len() > MAX_PACKET_LEN {
            return;
        }
        let Ok(packet) = Packet::parse(datagram) else { return };
        let is_agreed = packet.payload_type == self.agreement.payload_type
            || Some(packet.payload_type) == self.agreement.event_payload_type;
        if !is_agreed || !self.is_caller(now, source, packet.ssrc) {
            return;
        }
        let caller = match self.caller {
            Some(caller) if caller.ssrc == packet.ssrc => caller,
            Some(_) | None => self.begin(now, source, &packet),
        };
        self.caller = Some(caller);
        self.last_heard = now;
        let format = Format::new(packet.payload_type, self.agreement.clock_rate);
        self.meter.on_rtp(now, packet.ssrc, packet.sequence_number, packet.timestamp, format);
        if self.agreement.direction.sends() && self.is_within_rate(now) {
            self.send(now, &caller, &packet);
        }
    }

    /// Takes a datagram that came to the port for RTCP. It is answered there: how the caller arrives, and what was sent back.
    pub fn handle_report(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        if self.ended || self.caller.is_none_or(|caller| caller.address.ip() != source.ip()) {
            return;
        }
        let Some(reports) = rtcp::reports(datagram).filter(|reports| !reports.is_empty()) else { return };
        for report in &reports {
            match report {
                Report::Receiver(block) if block.ssrc == self.ssrc => self.meter.on_report(now, block),
                Report::Voip(metrics) if metrics.ssrc == self.ssrc => self.meter.on_metrics(*metrics),
                Report::Sender { sent } => self.meter.on_said(now, *sent),
                Report::Receiver(_) | Report::Voip(_) => {}
            }
        }
        if self.last_report.is_some_and(|last| now.saturating_duration_since(last) < REPORT_EVERY) {
            return;
        }
        self.last_report = Some(now);
        // In units of 2⁻³² s, and never zero, which would say that there was no report (RFC 3550 §6.4.1).
        let elapsed = now.saturating_duration_since(self.began);
        let ntp = ((elapsed.as_secs() + 1) << 32) | ((u64::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000);
        let (packets, octets) = self.sent;
        let sender = SenderInfo { ssrc: self.ssrc, ntp, timestamp: self.next_timestamp, packets, octets };
        let heard = self.meter.report(now, 0, [0; 2]);
        let packet = rtcp::compound(&sender, heard.as_ref().map(|(reception, report)| (reception, report)));
        let sent = u32::try_from((ntp >> 16) & u64::from(u32::MAX)).unwrap_or_default();
        self.meter.on_passed(now, &Report::Sender { sent });
        self.reports.push_back(Transmit { destination: source, packet });
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        if !self.ended && now >= self.last_heard + self.limit() {
            self.ended = true;
            self.events.push_back(Event::Idle);
        }
    }

    /// Returns when and why [`Echo::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        (!self.ended).then(|| (self.last_heard + self.limit(), TimerReason::Idle))
    }

    /// Returns the next packet to be sent.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the next packet to be sent from the port for RTCP.
    pub fn poll_report(&mut self) -> Option<Transmit> {
        self.reports.pop_front()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn limit(&self) -> Duration {
        // Who receives only, or nothing, need not send.
        let caller_sends = self.agreement.direction.reversed().sends();
        if caller_sends && self.agreement.direction.sends() { IDLE_LIMIT } else { HOLD_LIMIT }
    }

    /// Before anybody was heard, audio may come from the address in the description or from where the signalling came; NAT may
    /// have changed the port. Afterwards only from exactly where it came.
    fn is_caller(&self, now: Instant, source: SocketAddr, ssrc: u32) -> bool {
        match &self.caller {
            None => Some(source.ip()) == self.agreement.remote_address || source.ip() == self.signalling_source,
            Some(caller) => {
                let may_change = now.saturating_duration_since(self.last_heard) >= SOURCE_CHANGE_AFTER;
                caller.address == source && (caller.ssrc == ssrc || may_change)
            }
        }
    }

    /// Makes the stream of a new source go on where ours was: the next number, and as much later as time has passed.
    fn begin(&self, now: Instant, address: SocketAddr, packet: &Packet<'_>) -> Caller {
        let silence = self.last_sent.map_or(Duration::ZERO, |sent| now.saturating_duration_since(sent));
        let ticks = silence.as_millis().saturating_mul(u128::from(self.agreement.clock_rate)) / 1000;
        // Timestamps wrap; only the lower bits of a long silence count.
        let ticks = u32::try_from(ticks & u128::from(u32::MAX)).unwrap_or_default();
        Caller {
            address,
            ssrc: packet.ssrc,
            sequence_offset: self.next_sequence_number.wrapping_sub(packet.sequence_number),
            timestamp_offset: self.next_timestamp.wrapping_add(ticks).wrapping_sub(packet.timestamp),
        }
    }

    fn is_within_rate(&mut self, now: Instant) -> bool {
        let (since, count) = &mut self.counted;
        if now.saturating_duration_since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= MAX_PACKETS_PER_SECOND
    }

    fn send(&mut self, now: Instant, caller: &Caller, packet: &Packet<'_>) {
        // Offsets keep losses and order visible: what is missing in the caller's stream is missing in ours.
        let echoed = Packet {
            sequence_number: packet.sequence_number.wrapping_add(caller.sequence_offset),
            timestamp: packet.timestamp.wrapping_add(caller.timestamp_offset),
            ssrc: self.ssrc,
            ..*packet
        };
        self.next_sequence_number = echoed.sequence_number.wrapping_add(1);
        self.next_timestamp = echoed.timestamp;
        self.last_sent = Some(now);
        let (packets, octets) = self.sent;
        let len = u32::try_from(packet.payload.len()).unwrap_or_default();
        self.sent = (packets.wrapping_add(1), octets.wrapping_add(len));
        self.transmits.push_back(Transmit { destination: caller.address, packet: echoed.to_bytes() });
    }
}
