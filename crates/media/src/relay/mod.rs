//! A relay: it carries the media of one call between its two ends, and converts between plain RTP and SRTP on the way.
//!
//! Pure: datagrams go in with the time, datagrams come out. RTP and RTCP pass as they are, with the sender's own source and
//! numbers, so that reports mean at one end what they say at the other. Nothing is ever sent but what one of the two ends sent,
//! and to nobody but the other: see [`latch`] for who they are. What was agreed with each end is [`crate::anchoring`]'s to say.

mod bursts;
mod check;
mod dialer;
mod dtls;
mod latch;
mod quality;
mod stream;
mod wishes;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::codec::Codec;
use crate::digit::Digit;
use crate::echo::Start;
use crate::rtcp;
use crate::rtp::is_rtcp;
use crate::stun::is_stun;
use crate::transcode::{Speech, Transcoder};
use dialer::{Dialer, Last};
use stream::{From, Setup, Stream, Taken, Towards};

pub use dtls::{Fingerprint, Identity};
pub use latch::SOURCE_CHANGE_AFTER;
pub(crate) use quality::Meter;
pub use quality::{Heard, Quality};
pub use stream::{DEFAULT_CLOCK_RATE, DtlsTerms, Format, IceTerms, Protected, Protection, Terms, Way};
pub use wishes::Wishes;

/// Streams of a call that are carried: sound, a camera, a screen, and one to spare. Those behind are refused.
pub const MAX_STREAMS: usize = 4;

/// A call of which neither end was heard for this long is over: both phones lost the network.
pub const IDLE_LIMIT: Duration = Duration::from_secs(120);

/// A call on hold brings nothing; one forgotten there ends after half an hour.
pub const HOLD_LIMIT: Duration = Duration::from_secs(30 * 60);

/// The largest datagram carried: what fits an Ethernet frame.
pub const MAX_DATAGRAM_LEN: usize = 1500;

/// So often the node reports how what it converts arrives (RFC 3550 §6.2: five seconds).
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Packets carried from one end's stream in a second, at most: video of 20 Mbit/s in packets of 1200 bytes.
pub const MAX_PACKETS_PER_SECOND: u32 = 2000;

/// One of the two ends of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Who called.
    Near,
    /// Who is called.
    Far,
}

impl End {
    /// Both of them.
    pub const ALL: [End; 2] = [End::Near, End::Far];

    /// Returns the other one.
    pub const fn other(self) -> End {
        match self {
            End::Near => End::Far,
            End::Far => End::Near,
        }
    }
}

/// One of our ports in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// Which end it faces.
    pub end: End,
    /// The place of its stream in the description.
    pub stream: usize,
    /// Whether it is the port for RTCP.
    pub is_rtcp: bool,
}

/// A datagram to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// From which port.
    pub port: Port,
    /// Where to.
    pub destination: SocketAddr,
    /// The datagram.
    pub datagram: Vec<u8>,
}

/// A packet to be sent to another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowTransmit {
    /// Which end that node is.
    pub end: End,
    /// The flow by which it takes the stream.
    pub flow: u64,
    /// RTP or RTCP.
    pub packet: Vec<u8>,
}

/// There is more to be sent than one datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct More;

/// What happened that the owner should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Nothing was heard for [`IDLE_LIMIT`] or [`HOLD_LIMIT`]: hang up. Nothing more comes after it.
    Idle,
}

/// What became of a digit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pressed {
    /// It is sent.
    Sent,
    /// That end takes no events.
    NoEvents,
    /// More digits wait than are kept.
    TooMany,
}

/// Why the machine wants to be woken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerReason {
    /// Both ends may have gone.
    Idle,
    /// A piece of a handshake may be lost, or a digit goes on.
    Stream,
    /// Converted sound is due.
    Frame,
    /// A report is due on what is converted.
    Report,
}

/// The machine of one call.
#[derive(Debug)]
pub struct Relay {
    identity: Option<Arc<Identity>>,
    near: Side,
    far: Side,
    /// Where the ends have no codec in common, stream by stream.
    conversions: Vec<Option<Conversion>>,
    /// When our clock began, and when a report is due.
    began: Instant,
    reports_at: Option<Instant>,
    last_heard: Instant,
    ended: bool,
    transmits: VecDeque<Transmit>,
    flow_transmits: VecDeque<FlowTransmit>,
    events: VecDeque<Event>,
}

/// A stream that is converted, both ways.
#[derive(Debug)]
struct Conversion {
    speech: [Speech; 2],
    from_near: Transcoder,
    from_far: Transcoder,
}

impl Conversion {
    /// What makes the sound for an end.
    fn towards(&mut self, end: End) -> &mut Transcoder {
        match end {
            End::Near => &mut self.from_far,
            End::Far => &mut self.from_near,
        }
    }
}

#[derive(Debug)]
struct Side {
    streams: Vec<Stream>,
    /// The second that is counted, and packets taken in it.
    counted: (Instant, u32),
}

impl Relay {
    /// Makes the machine of a call of which nothing is agreed yet.
    pub fn new(now: Instant) -> Relay {
        Relay::identified(now, None)
    }

    /// The same for a node that has a certificate to show, without which no end that speaks WebRTC is understood.
    pub fn identified(now: Instant, identity: Option<Arc<Identity>>) -> Relay {
        let side = || Side { streams: Vec::new(), counted: (now, 0) };
        Relay {
            identity,
            near: side(),
            far: side(),
            conversions: Vec::new(),
            began: now,
            reports_at: None,
            last_heard: now,
            ended: false,
            transmits: VecDeque::new(),
            flow_transmits: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes what was agreed with one end, stream by stream; `None` for those that are refused. Signalling comes from `signalling`,
    /// where that is the end itself.
    pub fn handle_terms(&mut self, now: Instant, end: End, terms: Vec<Option<Terms>>, signalling: Option<IpAddr>) {
        let identity = self.identity.clone();
        let side = self.side(end);
        let count = terms.len().clamp(side.streams.len(), MAX_STREAMS.max(side.streams.len()));
        side.streams.resize_with(count, || Stream::new(now));
        let all = terms.into_iter().chain(std::iter::repeat(None));
        for (stream, terms) in side.streams.iter_mut().zip(all) {
            stream.agree(now, terms, signalling, identity.as_deref());
        }
        self.last_heard = now;
    }

    /// Takes which streams are to be converted: what both ends speak, who called first. `numbers` makes what our own streams begin with.
    pub fn handle_conversions(&mut self, speeches: Vec<Option<[Speech; 2]>>, numbers: &mut dyn FnMut() -> Start) {
        let before = std::mem::take(&mut self.conversions).into_iter().chain(std::iter::repeat_with(|| None));
        let agreed = speeches.into_iter().take(MAX_STREAMS).zip(before).map(|(speech, before)| {
            let speech @ [near, far] = speech?;
            // What stays goes on as it is, with its numbers.
            before.filter(|before| before.speech == speech).or_else(|| {
                let from_near = Transcoder::new(near, far, numbers())?;
                let from_far = Transcoder::new(far, near, numbers())?;
                Some(Conversion { speech, from_near, from_far })
            })
        });
        self.conversions = agreed.collect();
    }

    /// Sends a digit of one end's to the other one, `to`, as a telephone event. `numbers` is what our stream begins with, where the sender
    /// has sent nothing yet.
    pub fn press(&mut self, now: Instant, to: End, digit: Digit, numbers: Start) -> Pressed {
        let streams = &self.side(to).streams;
        let Some(number) = streams.iter().position(|stream| stream.events().is_some()) else {
            return Pressed::NoEvents;
        };
        if let Some(Some(conversion)) = self.conversions.get_mut(number) {
            let transcoder = conversion.towards(to);
            return if transcoder.press(now, digit) { Pressed::Sent } else { Pressed::TooMany };
        }
        let sender = self.side(to.other()).streams.get(number);
        let last = sender.and_then(|stream| stream.meter.last());
        let last = last.unwrap_or_else(|| Last::of_own(now, numbers, DEFAULT_CLOCK_RATE));
        let Some(stream) = self.side(to).streams.get_mut(number) else { return Pressed::NoEvents };
        let dialer = stream.dialer.get_or_insert_with(|| Box::new(Dialer::new(last)));
        if dialer.press(now, digit) { Pressed::Sent } else { Pressed::TooMany }
    }

    /// Tells whether sound is converted.
    pub fn converts(&self) -> bool {
        self.conversions.iter().any(Option::is_some)
    }

    /// Takes a datagram that came to one of our ports.
    pub fn handle_input(&mut self, now: Instant, port: Port, source: SocketAddr, datagram: &[u8]) {
        if self.ended || datagram.len() > MAX_DATAGRAM_LEN {
            return;
        }
        let is_rtcp = port.is_rtcp || is_rtcp(datagram);
        let side = self.side(port.end);
        let Some(stream) = side.streams.get_mut(port.stream) else { return };
        if stream.is_set_up() && (is_stun(datagram) || dtls::Dtls::is_dtls(datagram)) {
            let sent = stream.take_setup(now, port.is_rtcp, source, datagram);
            self.transmits.extend(sent.into_iter().map(|setup| setup.from(port.end, port.stream)));
            return;
        }
        let from = From::Address(source);
        if self.side(port.end).is_shared(port.stream) {
            self.take_shared(now, Port { is_rtcp, ..port }, from, datagram);
            return;
        }
        let Some(stream) = self.side(port.end).streams.get_mut(port.stream) else { return };
        let taken = if is_rtcp { stream.take_rtcp(now, from, datagram) } else { stream.take_rtp(now, from, datagram) };
        self.pass(now, Port { is_rtcp, ..port }, taken);
    }

    /// Takes a packet that came by a transport which several streams share, or would.
    fn take_shared(&mut self, now: Instant, port: Port, from: From, datagram: &[u8]) {
        let Some(stream) = self.side(port.end).streams.get_mut(port.stream).filter(|stream| stream.carrier().is_none())
        else {
            // Nothing comes to a port whose stream is elsewhere.
            return;
        };
        let Some(opened) = stream.open(now, from, port.is_rtcp, datagram) else { return };
        let number = self.stream_of(port, &opened);
        let Some(stream) = self.side(port.end).streams.get_mut(number) else { return };
        let taken = stream.take_opened(now, port.is_rtcp, opened);
        self.pass(now, Port { stream: number, ..port }, taken);
    }

    /// Which of the streams that share a transport a packet is of: sound and pictures by their payload types, reports by whom they are from
    /// or about.
    fn stream_of(&self, port: Port, packet: &[u8]) -> usize {
        let (own, other) = match port.end {
            End::Near => (&self.near, &self.far),
            End::Far => (&self.far, &self.near),
        };
        let shares = |number: &usize| {
            let carrier = own.streams.get(*number).and_then(Stream::carrier);
            *number == port.stream || carrier == Some(port.stream)
        };
        let mut numbers = (0..own.streams.len()).filter(shares);
        let found = if port.is_rtcp {
            let named = named_sources(packet);
            numbers.find(|number| {
                let is_source = |side: &Side, ssrc: &u32| side.streams.get(*number).is_some_and(|s| s.is_source(*ssrc));
                named.first().is_some_and(|ssrc| is_source(own, ssrc))
                    || named.iter().any(|ssrc| is_source(other, ssrc))
            })
        } else {
            let payload_type = packet.get(1).map(|byte| byte & 0x7f).unwrap_or_default();
            numbers.find(|number| own.streams.get(*number).is_some_and(|stream| stream.speaks(payload_type)))
        };
        found.unwrap_or(port.stream)
    }

    /// Takes a packet that came by our flow of a stream, from the node that is this end.
    pub fn handle_flow(&mut self, now: Instant, end: End, stream: usize, packet: &[u8]) {
        if self.ended || packet.len() > MAX_DATAGRAM_LEN {
            return;
        }
        let is_rtcp = is_rtcp(packet);
        let Some(known) = self.side(end).streams.get_mut(stream) else { return };
        let from = From::Flow;
        let taken = if is_rtcp { known.take_rtcp(now, from, packet) } else { known.take_rtp(now, from, packet) };
        self.pass(now, Port { end, stream, is_rtcp }, taken);
    }

    /// Gives what was taken from one end to the other.
    fn pass(&mut self, now: Instant, port: Port, taken: Option<Taken>) {
        let side = self.side(port.end);
        // Counted is what the end itself sent: who floods its port takes nothing from it.
        let Some(taken) = taken.filter(|_| side.is_within_rate(now)) else { return };
        self.last_heard = now;
        let to = Port { end: port.end.other(), ..port };
        if self.conversions.get(port.stream).is_some_and(Option::is_some) {
            self.convert(now, to, taken);
        } else {
            self.give(now, to, taken);
        }
    }

    fn give(&mut self, now: Instant, to: Port, taken: Taken) {
        let Some(other) = self.side(to.end).streams.get_mut(to.stream) else { return };
        if let Some(taken) = other.prepare(now, taken) {
            self.send(now, to, taken);
        }
    }

    /// Sends a packet to an end, by the transport of its stream.
    fn send(&mut self, now: Instant, to: Port, taken: Taken) {
        let side = self.side(to.end);
        let carrier = side.streams.get(to.stream).and_then(Stream::carrier).unwrap_or(to.stream);
        let Some(carrying) = side.streams.get_mut(carrier) else { return };
        let is_rtcp = to.is_rtcp && !carrying.is_muxed();
        let sent = carrying.send(now, taken);
        self.transmit(Port { is_rtcp, stream: carrier, ..to }, sent);
    }

    fn transmit(&mut self, from: Port, given: Option<(Towards, Vec<u8>)>) {
        match given {
            Some((Towards::Address(destination), datagram)) => {
                self.transmits.push_back(Transmit { port: from, destination, datagram });
            }
            Some((Towards::Flow(flow), packet)) => {
                self.flow_transmits.push_back(FlowTransmit { end: from.end, flow, packet });
            }
            None => {}
        }
    }

    fn convert(&mut self, now: Instant, to: Port, taken: Taken) {
        self.reports_at.get_or_insert(now + REPORT_EVERY);
        // Reports are of a stream that the other end does not know.
        let (Taken::Rtp(packet), Some(Some(conversion))) = (taken, self.conversions.get_mut(to.stream)) else { return };
        let transcoder = conversion.towards(to.end);
        if let Some(packet) = transcoder.handle_input(now, &packet) {
            self.give(now, to, Taken::Rtp(packet));
        }
    }

    /// Tells each end of a stream that is converted how what it sends arrives, and what it was sent: nobody else's reports are of those streams.
    fn report(&mut self, now: Instant) {
        // In units of 2⁻³² s, and never zero, which would say that there was no report (RFC 3550 §6.4.1).
        let elapsed = now.saturating_duration_since(self.began);
        let fraction = (u64::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000;
        let ntp = ((elapsed.as_secs() + 1) << 32) | fraction;
        for stream in 0..self.conversions.len() {
            for end in End::ALL {
                let known = self.side(end).streams.get(stream);
                let reported_loss = known.and_then(|known| known.meter.quality.reported_loss);
                let Some(Some(conversion)) = self.conversions.get_mut(stream) else { continue };
                if let Some(share) = reported_loss {
                    conversion.towards(end).expect_loss(share);
                }
                let sender = conversion.towards(end).sender(ntp);
                let (late, waits_ms) = conversion.towards(end.other()).standing();
                let known = self.side(end).streams.get_mut(stream);
                let heard = known.and_then(|known| known.meter.report(now, late, waits_ms));
                let heard = heard.as_ref().map(|(reception, report)| (reception, report));
                let packet = rtcp::compound(&sender, heard);
                self.give(now, Port { end, stream, is_rtcp: true }, Taken::Rtcp(packet));
            }
        }
    }

    /// Sends the converted sound whose time it is.
    fn play(&mut self, now: Instant) {
        for stream in 0..self.conversions.len() {
            for end in End::ALL {
                let Some(Some(conversion)) = self.conversions.get_mut(stream) else { continue };
                for packet in conversion.towards(end).handle_timeout(now) {
                    self.give(now, Port { end, stream, is_rtcp: false }, Taken::Rtp(packet));
                }
            }
        }
    }

    /// Takes the passing of time.
    pub fn handle_timeout(&mut self, now: Instant) {
        for end in End::ALL {
            let side = match end {
                End::Near => &mut self.near,
                End::Far => &mut self.far,
            };
            let mut dialled = Vec::new();
            for (number, stream) in side.streams.iter_mut().enumerate() {
                let sent = stream.handle_timeout(now).into_iter();
                self.transmits.extend(sent.map(|setup| setup.from(end, number)));
                dialled.push((Port { end, stream: number, is_rtcp: false }, stream.dial(now)));
            }
            for (port, digit) in dialled {
                if let Some(digit) = digit {
                    self.send(now, port, digit);
                }
            }
        }
        self.play(now);
        if self.reports_at.is_some_and(|at| at <= now) {
            self.report(now);
            self.reports_at = self.converts().then(|| now + REPORT_EVERY);
        }
        if !self.ended && now >= self.last_heard + self.limit() {
            self.ended = true;
            self.events.push_back(Event::Idle);
        }
    }

    /// Returns when and why [`Relay::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<(Instant, TimerReason)> {
        let idle = (self.last_heard + self.limit(), TimerReason::Idle);
        let streams = [&self.near, &self.far].into_iter().flat_map(|side| &side.streams);
        let stream = streams.filter_map(Stream::poll_timeout).map(|at| (at, TimerReason::Stream));
        let conversions = self.conversions.iter().flatten().flat_map(|known| [&known.from_near, &known.from_far]);
        let frame = conversions.filter_map(Transcoder::poll_timeout).map(|at| (at, TimerReason::Frame));
        let report = self.reports_at.map(|at| (at, TimerReason::Report));
        let next = stream.chain(frame).chain(report).min_by_key(|(at, _)| *at);
        (!self.ended).then(|| next.filter(|(at, _)| *at < idle.0).unwrap_or(idle))
    }

    /// Returns the next datagram to be sent.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// Returns the datagram to be sent, if there is one.
    ///
    /// # Errors
    ///
    /// [`More`] where there are several, or packets for another node: all are left where they are.
    pub fn poll_only_transmit(&mut self) -> Result<Option<Transmit>, More> {
        if self.transmits.len() > 1 || !self.flow_transmits.is_empty() {
            return Err(More);
        }
        Ok(self.transmits.pop_front())
    }

    /// Returns the next packet to be sent to another node.
    pub fn poll_flow_transmit(&mut self) -> Option<FlowTransmit> {
        self.flow_transmits.pop_front()
    }

    /// Returns the next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns how the first stream of an end arrives here.
    pub fn quality(&self, end: End) -> Quality {
        self.first_stream(end).map(|stream| stream.meter.quality).unwrap_or_default()
    }

    /// Returns what an end hears of the other one in the first stream; `None` as long as the other one is silent.
    pub fn heard_by(&self, end: End) -> Option<Heard> {
        Heard::of(&self.quality(end.other()), &self.quality(end))
    }

    /// Returns how the first stream is protected between here and an end.
    pub fn protected(&self, end: End) -> Protected {
        self.first_stream(end).map_or(Protected::No, Stream::protected)
    }

    /// Returns the way that the first stream takes between here and an end.
    pub fn way(&self, end: End) -> Way {
        self.first_stream(end).map_or(Way::Unknown, Stream::way)
    }

    /// Returns the codecs between which the first stream is converted, if it is: that of the near end, and that of the far one.
    pub fn converted(&self) -> Option<[Codec; 2]> {
        let conversion = self.conversions.first()?.as_ref()?;
        Some(conversion.speech.map(|speech| speech.codec))
    }

    fn first_stream(&self, end: End) -> Option<&Stream> {
        match end {
            End::Near => self.near.streams.first(),
            End::Far => self.far.streams.first(),
        }
    }

    fn side(&mut self, end: End) -> &mut Side {
        match end {
            End::Near => &mut self.near,
            End::Far => &mut self.far,
        }
    }

    /// Before anything is agreed it rings, and that has a limit of its own.
    fn limit(&self) -> Duration {
        let mut agreed = [&self.near, &self.far].into_iter().flat_map(|side| &side.streams).filter(|s| s.is_agreed());
        if agreed.any(Stream::sends) { IDLE_LIMIT } else { HOLD_LIMIT }
    }
}

impl Setup {
    fn from(self, end: End, stream: usize) -> Transmit {
        let Setup { is_rtcp, destination, datagram } = self;
        Transmit { port: Port { end, stream, is_rtcp }, destination, datagram }
    }
}

/// The sources that a compound packet names where reports and wishes name them first: who sends, and whom it is about (RFC 3550 §6.4, RFC 4585
/// §6.1).
fn named_sources(packet: &[u8]) -> Vec<u32> {
    let at = |place: usize| Some(u32::from_be_bytes(*packet.get(place..)?.first_chunk::<4>()?));
    let about = match packet.get(1) {
        Some(200) => at(28),
        Some(_) => at(8),
        None => None,
    };
    at(4).into_iter().chain(about).collect()
}

impl Side {
    /// Whether a stream's transport is not its own alone.
    fn is_shared(&self, stream: usize) -> bool {
        let carriers = self.streams.iter().filter_map(Stream::carrier);
        let is_carrier = carriers.into_iter().any(|carrier| carrier == stream);
        is_carrier || self.streams.get(stream).is_some_and(|stream| stream.carrier().is_some())
    }

    fn is_within_rate(&mut self, now: Instant) -> bool {
        let (since, count) = &mut self.counted;
        if now.saturating_duration_since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        let most = u32::try_from(self.streams.len()).unwrap_or(1).saturating_mul(MAX_PACKETS_PER_SECOND);
        *count <= most
    }
}
