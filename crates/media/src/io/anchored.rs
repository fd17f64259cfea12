//! The media of one call that the node carries: ports towards both ends, and the tasks that move what comes there. Dropping it ends
//! them and frees the ports.

use std::fmt;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;

use super::arrivals::Arrival;
use super::between::{Between, Link, LinkEnd};
use super::session::{lock, now, numbers, random};
use super::shares::{Kind, Share, Taken};
use super::{MediaError, PortPair, PortRange};
use crate::anchoring::{Agreed, Anchoring, Profile};
use crate::codec::Codec;
use crate::digit::Digit;
use crate::relay::{
    End, Event, FlowTransmit, Heard, Identity, More, Port, Pressed, Protected, Quality, Relay, Transmit, Way,
};
use crate::roq::pieces;
use crate::sdp::SdpError;

/// Where one end of a call is, as far as the signalling knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Our address that faces it.
    pub local: IpAddr,
    /// Where its signalling comes from, if that is the end itself and not another node.
    pub signalling: Option<IpAddr>,
}

/// A call whose media runs through here.
#[derive(Debug)]
pub struct AnchoredCall {
    range: PortRange,
    near: Place,
    far: Place,
    anchoring: Anchoring,
    facing: Option<Facing>,
    conversion: Option<(OwnedSemaphorePermit, Vec<Taken>)>,
    /// How many calls may be converted.
    conversions: Option<Conversions>,
    /// Who answers for it.
    shares: Vec<Share>,
    /// What its flows count for.
    flows: Vec<Taken>,
    shared: Arc<Shared>,
    /// The ends that are other nodes.
    links: Vec<(End, LinkEnd)>,
    timer: JoinHandle<()>,
    open: Vec<Open>,
    ports: OwnPorts,
}

/// How many calls may be converted at once: it costs the processor a hundred times what carrying them does. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Conversions {
    free: Arc<Semaphore>,
    most: usize,
}

impl Conversions {
    /// So many.
    pub fn new(most: usize) -> Conversions {
        Conversions { free: Arc::new(Semaphore::new(most)), most }
    }

    /// Returns how many there are, and how many there may be.
    pub fn in_use(&self) -> (usize, usize) {
        (self.most.saturating_sub(self.free.available_permits()), self.most)
    }
}

/// Tells which address of this machine faces another one.
#[derive(Clone)]
pub struct Facing(Arc<dyn Fn(IpAddr) -> IpAddr + Send + Sync>);

impl Facing {
    /// By this function.
    pub fn new(facing: impl Fn(IpAddr) -> IpAddr + Send + Sync + 'static) -> Facing {
        Facing(Arc::new(facing))
    }
}

impl fmt::Debug for Facing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Facing")
    }
}

/// Where a call has ports for RTP, those of the first stream of each end first.
type OwnPorts = Arc<Mutex<Vec<(End, SocketAddr)>>>;

/// A pair of ports in use, until dropped.
#[derive(Debug)]
struct Open {
    end: End,
    _arrivals: [Arrival; 2],
    _permit: OwnedSemaphorePermit,
    _taken: Vec<Taken>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) relay: Arc<Mutex<Relay>>,
    sockets: Mutex<Vec<(Port, Arc<UdpSocket>)>>,
    links: Mutex<Vec<(End, Arc<dyn Link>)>>,
    /// Numbers the packets that are cut in two.
    cut: AtomicU8,
    changed: Notify,
    ended: watch::Sender<bool>,
}

impl AnchoredCall {
    /// Begins a call; must be called within a tokio runtime. No port is taken before an offer needs it. Without a certificate no end that
    /// speaks WebRTC is understood.
    pub fn new(
        range: &PortRange,
        near: Place,
        far: Place,
        profile: Profile,
        identity: Option<Arc<Identity>>,
    ) -> AnchoredCall {
        // Positive in 64 bits with a sign, as some phones read them.
        let session_ids = [random() >> 1, random() >> 1];
        let shared = Arc::new(Shared {
            relay: Arc::new(Mutex::new(Relay::identified(now(), identity.clone()))),
            sockets: Mutex::default(),
            links: Mutex::default(),
            cut: AtomicU8::new(0),
            changed: Notify::new(),
            ended: watch::Sender::new(false),
        });
        let timer = tokio::spawn(watch_time(Arc::clone(&shared)));
        let mut anchoring = Anchoring::new(near.local, far.local, session_ids, profile);
        if let Some(identity) = identity {
            anchoring.identify(identity.fingerprint());
        }
        AnchoredCall {
            range: range.clone(),
            near,
            far,
            anchoring,
            facing: None,
            conversion: None,
            conversions: None,
            shares: Vec::new(),
            flows: Vec::new(),
            shared,
            links: Vec::new(),
            timer,
            open: Vec::new(),
            ports: OwnPorts::default(),
        }
    }

    /// Knows which of our addresses face the ends, so that [`AnchoredCall::follow`] may change them.
    pub fn faced_by(mut self, facing: Facing) -> AnchoredCall {
        self.facing = Some(facing);
        self
    }

    /// Lets its sound be converted, as one of those that may be.
    pub fn converted_among(mut self, conversions: &Conversions) -> AnchoredCall {
        self.conversions = Some(conversions.clone());
        self
    }

    /// Charges what the call uses to these parties: each of them has to have it left.
    pub fn charged_to(mut self, shares: Vec<Share>) -> AnchoredCall {
        self.shares = shares;
        self
    }

    /// Lets an end be another node, which is reached over its link alone: no port is opened towards it. To be called before anything is
    /// described; the end's [`Place`] means nothing then.
    pub fn use_link(&mut self, end: End, between: &Arc<Between>, link: Arc<dyn Link>) {
        self.anchoring.use_flows(end, Vec::new());
        lock(&self.shared.links).push((end, Arc::clone(&link)));
        self.links.push((end, LinkEnd::new(between, link)));
    }

    /// Offers otherwise from now on to an end that has not said anything yet.
    pub fn prefer(&mut self, end: End, profile: Profile) {
        self.anchoring.prefer(end, profile);
    }

    /// Offers from now on what the sound can be converted into as well, and counts as one of those that are converted. False where that
    /// is nothing.
    ///
    /// # Errors
    ///
    /// [`MediaError::TooManyConverted`], [`MediaError::ConversionsOfOne`].
    pub fn convert(&mut self) -> Result<bool, MediaError> {
        let Some(conversions) = self.conversions.clone() else { return Ok(false) };
        if self.conversion.is_none() {
            let taken = self.take(Kind::Conversion)?;
            let permit = Arc::clone(&conversions.free).try_acquire_owned();
            self.conversion = Some((permit.map_err(|_| MediaError::TooManyConverted)?, taken));
        }
        Ok(self.anchoring.convert())
    }

    /// Takes an offer; returns what is offered to the other end.
    ///
    /// # Errors
    ///
    /// [`MediaError`], whose status answers the offer; all stays as it was.
    pub fn offer(&mut self, from: End, text: &[u8]) -> Result<Vec<u8>, MediaError> {
        let streams = Anchoring::streams(text)?;
        for end in End::ALL {
            self.open_ports(end, streams)?;
        }
        Ok(self.anchoring.offer(from, text, &mut fill)?)
    }

    /// Faces an end as it describes itself, where that is of another family of addresses than it was expected to be: a phone that is reached
    /// over IPv6 may have its sound over IPv4. True if so: what this end was told before is void, and it is to be offered the same
    /// [again](AnchoredCall::offer_again), unless what it describes is an offer itself.
    ///
    /// # Errors
    ///
    /// [`MediaError`]: there is no address of that family here, or no port.
    pub fn follow(&mut self, end: End, text: &[u8]) -> Result<bool, MediaError> {
        let (Some(described), Some(facing)) = (Anchoring::described(text)?, &self.facing) else { return Ok(false) };
        let place = match end {
            End::Near => &mut self.near,
            End::Far => &mut self.far,
        };
        if described.is_ipv4() == place.local.to_canonical().is_ipv4() || described.is_multicast() {
            return Ok(false);
        }
        let local = facing.0(described).to_canonical();
        if local.is_unspecified() || local.is_ipv4() != described.is_ipv4() {
            return Err(SdpError::Address.into());
        }
        place.local = local;
        self.anchoring.face(end, local);
        let streams = self.open.iter().filter(|open| open.end == end).count();
        self.open.retain(|open| open.end != end);
        lock(&self.shared.sockets).retain(|(port, _)| port.end != end);
        lock(&self.ports).retain(|(of, _)| *of != end);
        self.open_ports(end, streams)?;
        Ok(true)
    }

    /// Returns the last offer as it is to be told again to the end that has answered it.
    ///
    /// # Errors
    ///
    /// [`MediaError`] where there was none.
    pub fn offer_again(&mut self) -> Result<Vec<u8>, MediaError> {
        Ok(self.anchoring.offer_again(&mut fill)?)
    }

    /// Returns what an end is to be offered that has refused the sound of the last offer in its answer, where that is something: the same, and
    /// what it can be converted into.
    ///
    /// # Errors
    ///
    /// As [`AnchoredCall::convert`].
    pub fn offer_more(&mut self, from: End, text: &[u8]) -> Result<Option<Vec<u8>>, MediaError> {
        if self.conversions.is_none() || !self.anchoring.could_offer_more(from, text) || !self.convert()? {
            return Ok(None);
        }
        self.offer_again().map(Some)
    }

    /// Takes the answer to the last offer; returns what is answered to the other end. From here on media runs.
    ///
    /// # Errors
    ///
    /// [`MediaError`]: the call, or the change of it, cannot be.
    pub fn answer(&mut self, from: End, text: &[u8]) -> Result<Vec<u8>, MediaError> {
        if self.conversion.is_none() && self.conversions.is_some() && self.anchoring.wants_conversion(from, text) {
            self.convert()?;
        }
        let (written, Agreed { near, far, converted }) = self.anchoring.answer(from, text, &mut fill)?;
        let now = now();
        let mut relay = lock(&self.shared.relay);
        relay.handle_terms(now, End::Near, near, self.near.signalling);
        relay.handle_terms(now, End::Far, far, self.far.signalling);
        relay.handle_conversions(converted, &mut numbers);
        drop(relay);
        self.shared.changed.notify_one();
        Ok(written)
    }

    /// Sends a digit to an end as a telephone event, if it takes those.
    pub fn press(&mut self, to: End, digit: Digit) -> Pressed {
        let pressed = lock(&self.shared.relay).press(now(), to, digit, numbers());
        self.shared.changed.notify_one();
        pressed
    }

    /// Tells whether it ended by itself: nothing was heard for too long. The call should be hung up.
    pub fn has_ended(&self) -> bool {
        *self.shared.ended.borrow()
    }

    /// Returns how the sound of an end arrives here.
    pub fn quality(&self, end: End) -> Quality {
        lock(&self.shared.relay).quality(end)
    }

    /// Returns what tells how the call sounds, also when it is over. It holds no port.
    pub fn monitor(&self) -> Monitor {
        Monitor { relay: Arc::clone(&self.shared.relay), ports: Arc::clone(&self.ports) }
    }

    /// One more of what all who answer for it have to have left.
    fn take(&self, kind: Kind) -> Result<Vec<Taken>, MediaError> {
        self.shares.iter().map(|share| share.take(kind)).collect()
    }

    /// Binds what is missing towards an end, or opens flows for it.
    fn open_ports(&mut self, end: End, streams: usize) -> Result<(), MediaError> {
        let have = self.links.iter().find(|(of, _)| *of == end).map(|(_, link)| link.len());
        for _ in have.unwrap_or(streams)..streams {
            let taken = self.take(Kind::Stream)?;
            self.flows.extend(taken);
        }
        if let Some((_, link)) = self.links.iter_mut().find(|(of, _)| *of == end) {
            let flows = link.open(&self.shared, end, streams)?;
            self.anchoring.use_flows(end, flows);
            return Ok(());
        }
        let local = match end {
            End::Near => self.near.local,
            End::Far => self.far.local,
        };
        let is_facing = |(port, _): &&(Port, Arc<UdpSocket>)| port.end == end && !port.is_rtcp;
        let open = lock(&self.shared.sockets).iter().filter(is_facing).count();
        for stream in open..streams {
            let _taken = self.take(Kind::Stream)?;
            let PortPair { rtp, rtcp, permit, .. } = self.range.bind(local)?;
            if let Ok(address) = rtp.local_addr() {
                lock(&self.ports).push((end, address));
            }
            let listen = |socket, is_rtcp| {
                let (port, socket) = (Port { end, stream, is_rtcp }, Arc::new(socket));
                lock(&self.shared.sockets).push((port, Arc::clone(&socket)));
                let shared = Arc::clone(&self.shared);
                let take = move |source: SocketAddr, datagram: &[u8]| shared.take(port, source, datagram);
                let arrival = self.range.arrivals().and_then(|arrivals| arrivals.listen(socket, take));
                arrival.map_err(|error| MediaError::NoPort(Some(error)))
            };
            let _arrivals = [listen(rtp, false)?, listen(rtcp, true)?];
            self.open.push(Open { end, _arrivals, _permit: permit, _taken });
        }
        let sockets = lock(&self.shared.sockets);
        let ports = sockets.iter().filter(is_facing).filter_map(|(_, socket)| Some(socket.local_addr().ok()?.port()));
        self.anchoring.use_ports(end, ports.collect());
        Ok(())
    }
}

/// Tells how a call sounds.
#[derive(Debug, Clone)]
pub struct Monitor {
    relay: Arc<Mutex<Relay>>,
    ports: OwnPorts,
}

impl Monitor {
    /// Returns what an end hears of the other one; `None` as long as that is silent.
    pub fn heard_by(&self, end: End) -> Option<Heard> {
        lock(&self.relay).heard_by(end)
    }

    /// Returns the way that the sound takes between the node and an end.
    pub fn way(&self, end: End) -> Way {
        lock(&self.relay).way(end)
    }

    /// Returns the node's own address of the sound towards an end, where it has one.
    pub fn own_address(&self, end: End) -> Option<SocketAddr> {
        lock(&self.ports).iter().find(|(of, _)| *of == end).map(|(_, address)| *address)
    }

    /// Returns the codecs between which the sound is converted, if it is: that of the near end, and that of the far one.
    pub fn converted(&self) -> Option<[Codec; 2]> {
        lock(&self.relay).converted()
    }

    /// Returns how the sound is protected between the node and an end.
    pub fn protected(&self, end: End) -> Protected {
        lock(&self.relay).protected(end)
    }
}

impl Drop for AnchoredCall {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

impl Shared {
    /// Feeds what has come to a port to the machine.
    fn take(&self, port: Port, source: SocketAddr, datagram: &[u8]) {
        let (transmit, is_woken) = {
            let mut relay = lock(&self.relay);
            relay.handle_input(now(), port, source, datagram);
            // A handshake has timers of its own, and converted sound has, which begin with what comes.
            let is_woken = matches!(datagram, [0..=63, ..]) || relay.converts();
            // As a rule one packet leaves for one that comes, and to be looked at once is enough.
            (relay.poll_only_transmit(), is_woken)
        };
        match transmit {
            Ok(transmit) => transmit.into_iter().for_each(|transmit| self.send_one(&transmit)),
            Err(More) => self.send(),
        }
        if is_woken {
            self.changed.notify_one();
        }
    }

    /// Has the timers looked at anew.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Sends whatever is to be sent.
    pub(super) fn send(&self) {
        self.send_by_flows();
        loop {
            let Some(transmit) = lock(&self.relay).poll_transmit() else { return };
            self.send_one(&transmit);
        }
    }

    fn send_one(&self, transmit: &Transmit) {
        let sockets = lock(&self.sockets);
        let socket = sockets.iter().find(|(port, _)| *port == transmit.port).map(|(_, socket)| socket);
        // A full buffer loses the packet, as the network might.
        if let Some(Err(error)) = socket.map(|socket| socket.send_to(&transmit.datagram, transmit.destination)) {
            tracing::trace!(%error, "sending media failed");
        }
    }

    fn send_by_flows(&self) {
        loop {
            let Some(FlowTransmit { end, flow, packet }) = lock(&self.relay).poll_flow_transmit() else { return };
            let link = lock(&self.links).iter().find(|(of, _)| *of == end).map(|(_, link)| Arc::clone(link));
            // While a link is down what is said is lost; it goes on with the next.
            let Some((link, longest)) = link.and_then(|link| Some((Arc::clone(&link), link.max_datagram_len()?)))
            else {
                continue;
            };
            let number = self.cut.fetch_add(1, Ordering::Relaxed);
            pieces(flow, number, &packet, longest).into_iter().for_each(|datagram| link.send(datagram));
        }
    }
}

/// Lets the machine's time pass.
async fn watch_time(shared: Arc<Shared>) {
    loop {
        let Some((deadline, _)) = lock(&shared.relay).poll_timeout() else { return };
        tokio::select! {
            () = tokio::time::sleep_until(deadline.into()) => {}
            () = shared.changed.notified() => {}
        }
        lock(&shared.relay).handle_timeout(now());
        shared.send();
        if let Some(Event::Idle) = lock(&shared.relay).poll_event() {
            shared.ended.send_replace(true);
        }
    }
}

/// Keys. Without chance there are none: what the library cannot fill, the system's hasher does, and no two calls are alike.
fn fill(bytes: &mut [u8]) {
    if aws_lc_rs::rand::fill(bytes).is_err() {
        for chunk in bytes.chunks_mut(8) {
            for (byte, random) in chunk.iter_mut().zip(random().to_be_bytes()) {
                *byte = random;
            }
        }
    }
}
