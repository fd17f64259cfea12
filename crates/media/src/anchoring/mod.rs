//! Offer and answer (RFC 3264) of a call whose media the node carries: what one end describes is written anew for the other, with
//! our addresses, ports and keys in it, and what follows for the [`crate::relay`].
//!
//! Codecs and their parameters pass as they are, and so do the numbers of payload types; directions and the order of streams too.
//! Everything about the way there (addresses, candidates, keys, profiles) is each end's own. Streams that are not RTP are refused.

mod bundle;
mod conversion;
mod feedback;
mod line;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::relay::{End, Fingerprint, MAX_STREAMS, Terms};
use crate::sdp::{Local, Media, SdpError, Session, head};
use crate::srtp::{MasterKey, Suite};
use crate::transcode::Speech;
use line::{Class, Line};

/// The port in descriptions where none is used (RFC 863), as browsers write it.
const DISCARD: u16 = 9;

/// How sound is offered to an end that has not offered any itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// `RTP/AVP` with keys and our certificate beside it, which phones take that can, and others pass over (RFC 8643).
    Optional,
    /// `RTP/SAVP`, with keys in the description (RFC 4568), and our certificate for phones that know none.
    Sdes,
    /// `UDP/TLS/RTP/SAVP`: keys by DTLS, at the address that is described (RFC 5763, RFC 5764).
    Dtls,
    /// As browsers do: ICE, of which we only answer the checks, and keys by DTLS (RFC 8829, RFC 5763).
    WebRtc,
    /// As nodes do: over the link between them, by flows (see [`crate::roq`]).
    Link,
}

/// Terms for both ends, stream by stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreed {
    /// Of who called.
    pub near: Vec<Option<Terms>>,
    /// Of who is called.
    pub far: Vec<Option<Terms>>,
    /// What they speak, who called first, where the sound has to be converted.
    pub converted: Vec<Option<[Speech; 2]>>,
}

/// The descriptions of one call.
#[derive(Debug)]
pub struct Anchoring {
    /// Our certificate in media, without which nobody is offered or answered a handshake.
    fingerprint: Option<Fingerprint>,
    near: Side,
    far: Side,
    /// Whether more codecs are offered than an end offers, which are converted then.
    converts: bool,
    /// The offer that waits for its answer. Answers of a fork are all to this one.
    open: Option<Offer>,
}

#[derive(Debug)]
struct Offer {
    from: End,
    text: Vec<u8>,
}

#[derive(Debug)]
struct Side {
    /// Ours towards it.
    local: Local,
    ports: Vec<u16>,
    /// Our flows, where it is another node; nobody else is offered or understood by one.
    flows: Option<Vec<u64>>,
    profile: Profile,
    /// What was written for it last, but for its version.
    written: String,
    lines: Vec<Line>,
    /// Its streams that share the transport of the first of them.
    shared: Vec<usize>,
}

impl Anchoring {
    /// Begins a call. Towards each end we are at an address of its own; `session_ids` are numbers that nobody guesses.
    pub fn new(near: IpAddr, far: IpAddr, session_ids: [u64; 2], profile: Profile) -> Anchoring {
        let side = |address: IpAddr, session_id: u64| Side {
            local: Local { address: address.to_canonical(), port: 0, session_id, version: 0 },
            ports: Vec::new(),
            flows: None,
            profile,
            written: String::new(),
            lines: Vec::new(),
            shared: Vec::new(),
        };
        let [near_id, far_id] = session_ids;
        Anchoring { fingerprint: None, near: side(near, near_id), far: side(far, far_id), converts: false, open: None }
    }

    /// Offers from now on what the sound of the last offer can be converted into as well. False where that is nothing.
    pub fn convert(&mut self) -> bool {
        let Some(open) = &self.open else { return false };
        let Ok(session) = Session::parse(&open.text) else { return false };
        let mut carried = session.media.iter().take(MAX_STREAMS).filter(|media| media.port != 0);
        self.converts |= carried.any(|media| conversion::added(media).formats.len() > media.formats.len());
        self.converts
    }

    /// Tells whether an answer speaks what was not offered, so that it has to be converted before it is taken: some phones answer what they
    /// know, whatever they were asked.
    pub fn wants_conversion(&self, from: End, text: &[u8]) -> bool {
        self.compared(from, text, |offered, answered| {
            answered.port != 0 && conversion::converted(offered, answered).is_some()
        })
    }

    /// Tells whether an answer refuses sound that could be offered otherwise as well ([`Anchoring::convert`]).
    pub fn could_offer_more(&self, from: End, text: &[u8]) -> bool {
        !self.converts
            && self.compared(from, text, |offered, answered| {
                answered.port == 0 && conversion::added(offered).formats.len() > offered.formats.len()
            })
    }

    /// Whether something holds for a stream of the open offer and what it is answered with.
    fn compared(&self, from: End, text: &[u8], holds: impl Fn(&Media<'_>, &Media<'_>) -> bool) -> bool {
        let Some(open) = self.open.as_ref().filter(|open| open.from == from.other()) else { return false };
        let (Ok(offer), Ok(answer)) = (Session::parse(&open.text), Session::parse(text)) else { return false };
        let mut streams = offer.media.iter().zip(&answer.media).take(MAX_STREAMS);
        streams.any(|(offered, answered)| offered.port != 0 && offered.kind == "audio" && holds(offered, answered))
    }

    /// Takes the fingerprint of our certificate in media.
    pub fn identify(&mut self, fingerprint: Fingerprint) {
        self.fingerprint = Some(fingerprint);
    }

    /// Returns for how many streams of a description ports are needed at either end.
    ///
    /// # Errors
    ///
    /// [`SdpError`] where it cannot be read.
    pub fn streams(text: &[u8]) -> Result<usize, SdpError> {
        let session = bundle::read(text)?;
        let carried = session.media.iter().take(MAX_STREAMS).rposition(|media| Class::of(&session, media).is_some());
        Ok(carried.map_or(0, |last| last + 1))
    }

    /// Returns where the first stream of a description that can be carried is received, where it says so: an end of which checks find
    /// out where it is, or one on hold, says nothing.
    ///
    /// # Errors
    ///
    /// [`SdpError`] where it cannot be read.
    pub fn described(text: &[u8]) -> Result<Option<IpAddr>, SdpError> {
        let session = Session::parse(text)?;
        let media = session.media.iter().find(|media| media.port != 0 && Class::of(&session, media).is_some());
        Ok(media.and_then(|media| line::address_of(&session, media)))
    }

    /// Faces an end from another address of ours. Its ports follow by [`Anchoring::use_ports`].
    pub fn face(&mut self, end: End, address: IpAddr) {
        self.side(end).local.address = address.to_canonical();
    }

    /// Writes the offer that was taken last once more, as things are now; who was answered it meanwhile is offered the same again.
    ///
    /// # Errors
    ///
    /// [`SdpError::NoAudio`] where there was none.
    pub fn offer_again(&mut self, fill: &mut dyn FnMut(&mut [u8])) -> Result<Vec<u8>, SdpError> {
        let Offer { from, text } = self.open.take().ok_or(SdpError::NoAudio)?;
        self.offer(from, &text, fill)
    }

    /// Takes our ports that face an end.
    pub fn use_ports(&mut self, end: End, ports: Vec<u16>) {
        self.side(end).ports = ports;
    }

    /// Takes our flows that an end sends by, which is another node then.
    pub fn use_flows(&mut self, end: End, flows: Vec<u64>) {
        let side = self.side(end);
        (side.profile, side.ports) = (Profile::Link, vec![DISCARD; flows.len()]);
        side.flows = Some(flows);
    }

    /// Offers otherwise from now on to an end that has not said anything yet.
    pub fn prefer(&mut self, end: End, profile: Profile) {
        self.side(end).profile = profile;
    }

    /// Takes an offer; returns what is offered to the other end. `fill` makes keys.
    ///
    /// # Errors
    ///
    /// [`SdpError::NoAudio`] where no stream of it can be carried; all stays as it was.
    pub fn offer(&mut self, from: End, text: &[u8], fill: &mut dyn FnMut(&mut [u8])) -> Result<Vec<u8>, SdpError> {
        let session = bundle::read(text)?;
        let (fingerprint, converts) = (self.fingerprint, self.converts);
        let is_link = self.side(from).flows.is_some();
        self.side(from).listen(&session);
        let to = self.side(from.other());
        let address = to.local.address;
        let mut body = String::new();
        let mut carried = 0;
        // What shares a transport has its address from then on (RFC 8843 §7.2).
        let first_port = to.shared.first().and_then(|first| to.ports.get(*first)).copied();
        let (shared, sharable) = (to.shared.clone(), bundle::sharable(&session));
        let mut mids = Vec::new();
        for (index, media) in session.media.iter().enumerate() {
            let flow = to.flow(index);
            let line = to.line(index);
            let class = Class::of(&session, media)
                .filter(|class| fingerprint.is_some() || !class.needs_certificate())
                .filter(|class| (*class == Class::Link) == is_link);
            match class.filter(|_| media.port != 0).zip(line) {
                Some((_, (line, port))) => {
                    carried += 1;
                    let port = first_port.filter(|_| shared.contains(&index)).unwrap_or(port);
                    if line.is_offered_web()
                        && sharable.contains(&index)
                        && (shared.is_empty() || shared.contains(&index))
                    {
                        mids.push(line.mid(index));
                    }
                    let extended = if converts { conversion::added(media) } else { media.clone() };
                    line.write_offer(
                        &mut body,
                        &session,
                        &extended,
                        &Own { address, port, fingerprint, flow, index },
                        fill,
                    );
                }
                None => line::write_refused(&mut body, media),
            }
        }
        // An offer that ends every stream is one all the same; one that we can do nothing with is none.
        if carried == 0 && session.media.iter().any(|media| media.port != 0) {
            return Err(SdpError::NoAudio);
        }
        let written = to.write(body, &bundle::group(&mids), session.timing);
        self.open = Some(Offer { from, text: text.to_vec() });
        Ok(written)
    }

    /// Takes the answer to the last offer; returns what is answered to the other end, and what both have agreed to.
    ///
    /// # Errors
    ///
    /// [`SdpError::NoAudio`] where there was no offer, or the answer leaves out keys that we insisted on.
    pub fn answer(
        &mut self,
        from: End,
        text: &[u8],
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(Vec<u8>, Agreed), SdpError> {
        let answer = bundle::read(text)?;
        let open = self.open.as_ref().filter(|open| open.from == from.other()).ok_or(SdpError::NoAudio)?;
        let offer_text = open.text.clone();
        let offer = bundle::read(&offer_text)?;
        let mut body = String::new();
        let (mut offerers, mut answerers, mut converted) = (Vec::new(), Vec::new(), Vec::new());
        let converts = self.converts;
        let mut mids = Vec::new();
        // The answerer has them together whom we have offered so; who offered has them together where it has offered so itself.
        self.side(from).shared = bundle::shared(&answer);
        let offered_together = bundle::shared(&offer);
        let is_there = |index: &usize| answer.media.get(*index).is_some_and(|media| media.port != 0);
        let together: Vec<usize> = offered_together.into_iter().filter(is_there).collect();
        self.side(from.other()).shared = if together.len() < 2 { Vec::new() } else { together };
        for (index, offered) in offer.media.iter().enumerate() {
            // An answer has the offer's streams in their places (RFC 3264 §6); what is another there is none.
            let answered = answer
                .media
                .get(index)
                .filter(|media| media.port != 0 && offered.port != 0 && media.kind == offered.kind);
            // What the answer is to who offered, where it names codecs that only we did.
            let spoken = answered.filter(|_| converts).and_then(|answered| conversion::converted(offered, answered));
            let plain = answered.filter(|_| converts && spoken.is_none());
            let rewritten = match &spoken {
                Some((_, _, rewritten)) => Some(rewritten.clone()),
                None => plain.map(|answered| conversion::without_added(offered, answered)),
            };
            let agreed = match answered {
                Some(answered) => {
                    let told = rewritten.as_ref().unwrap_or(answered);
                    self.agree(from, index, (&offer, offered), (&answer, answered, told), &mut body, fill)?
                }
                None => None,
            };
            converted.push(spoken.filter(|_| agreed.is_some()).map(|(offerer, answerer, _)| match from {
                End::Near => [answerer, offerer],
                End::Far => [offerer, answerer],
            }));
            if agreed.is_none() {
                line::write_refused(&mut body, offered);
            }
            if agreed.is_some() && self.side(from.other()).shared.contains(&index) {
                mids.extend(bundle::mid(offered).map(str::to_owned));
            }
            let (offerer, answerer) = agreed.unzip();
            offerers.push(offerer);
            answerers.push(answerer);
        }
        self.side(from).listen(&answer);
        let written = self.side(from.other()).write(body, &bundle::group(&mids), offer.timing);
        let agreed = match from {
            End::Near => Agreed { near: answerers, far: offerers, converted },
            End::Far => Agreed { near: offerers, far: answerers, converted },
        };
        Ok((written, agreed))
    }

    /// Settles one stream, and writes the answer's line; `None` where it is refused.
    fn agree(
        &mut self,
        from: End,
        index: usize,
        (offer, offered): (&Session<'_>, &Media<'_>),
        (answer, answered, told): (&Session<'_>, &Media<'_>, &Media<'_>),
        body: &mut String,
        fill: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Option<(Terms, Terms)>, SdpError> {
        let fingerprint = self.fingerprint;
        let answerer = self.side(from);
        let is_ipv4 = answerer.local.address.is_ipv4();
        if (Class::of(answer, answered) == Some(Class::Link)) != answerer.flows.is_some() {
            return Err(SdpError::NoAudio);
        }
        let Some((line, _)) = answerer.line(index) else { return Ok(None) };
        let theirs = line.protection_answered((answer, answered))?;
        let dtls = line.dtls_answered((answer, answered), theirs.is_some())?;
        let mut answerers_terms = line::terms((answer, answered), (offer, offered), theirs, is_ipv4)?;
        (answerers_terms.dtls, answerers_terms.ice) = (dtls, line.ice_answered((answer, answered)));
        use_transport_of(&mut answerers_terms, index, &self.side(from).shared);
        let offerer = self.side(from.other());
        let address = offerer.local.address;
        let is_ipv4 = address.is_ipv4();
        let (is_link, flow) = (offerer.flows.is_some(), offerer.flow(index));
        let first = offerer.shared.first().copied().filter(|_| offerer.shared.contains(&index));
        let first_port = first.and_then(|first| offerer.ports.get(first)).copied();
        let shared = offerer.shared.clone();
        let Some((line, port)) = offerer.line(index) else { return Ok(None) };
        let port = first_port.unwrap_or(port);
        let class = Class::of(offer, offered).filter(|class| (*class == Class::Link) == is_link);
        let Some(class) = class else { return Ok(None) };
        let crypto = line.protection_offered(class, offered, fill);
        let protection = crypto.as_ref().map(|(_, protection)| protection.clone());
        let mut offerers_terms = line::terms((offer, offered), (answer, told), protection, is_ipv4)?;
        offerers_terms.dtls = line.dtls_offered(class, (offer, offered));
        offerers_terms.ice = line.ice_offered(class, (offer, offered), fill);
        line::write_answer(body, (answer, told), offered, port, crypto.map(|(line, _)| line));
        let own = Own { address, port, fingerprint, flow, index };
        line.write_transport(body, offered, &own, class, &offerers_terms);
        use_transport_of(&mut offerers_terms, index, &shared);
        line::write_flow(body, flow);
        Ok(Some((offerers_terms, answerers_terms)))
    }

    fn side(&mut self, end: End) -> &mut Side {
        match end {
            End::Near => &mut self.near,
            End::Far => &mut self.far,
        }
    }
}

/// A stream that shares the transport of an earlier one has no way there of its own.
fn use_transport_of(terms: &mut Terms, index: usize, shared: &[usize]) {
    terms.carrier = shared.first().copied().filter(|first| *first != index && shared.contains(&index));
    if terms.carrier.is_some() {
        (terms.dtls, terms.ice, terms.remote, terms.remote_rtcp) = (None, None, None, None);
    }
}

impl Side {
    /// A stream's line with our port for it, if it has one.
    fn line(&mut self, index: usize) -> Option<(&mut Line, u16)> {
        let port = *self.ports.get(index)?;
        let profile = self.profile;
        while self.lines.len() <= index {
            self.lines.push(Line::new(profile));
        }
        let line = self.lines.get_mut(index)?;
        line.profile = profile;
        Some((line, port))
    }

    /// By which flow a stream is taken from there.
    fn flow(&self, index: usize) -> Option<u64> {
        self.flows.as_ref()?.get(index).copied()
    }

    /// Remembers by which profile an end speaks, so that it is offered the same.
    fn listen(&mut self, session: &Session<'_>) {
        for (index, media) in session.media.iter().enumerate() {
            let is_link = self.flows.is_some();
            let class = Class::of(session, media).filter(|class| media.port != 0 && (*class == Class::Link) == is_link);
            let Some(class) = class else { continue };
            if let Some((line, _)) = self.line(index) {
                line.spoken = Some((media.protocol.to_owned(), class));
                line.checks = line::fragment_of(session, media).is_some();
                line.called = bundle::mid(media).map(str::to_owned).or_else(|| line.called.take());
            }
        }
    }

    /// Completes a description; one that says something new gets a new version (RFC 3264 §8).
    fn write(&mut self, body: String, group: &str, timing: &str) -> Vec<u8> {
        let body = [group, &body].concat();
        if self.written != body {
            self.local.version += 1;
        }
        // Browsers have to know that they do all the checking (RFC 8839 §5.3).
        let lite = if body.contains("\r\na=ice-ufrag:") { "a=ice-lite\r\n" } else { "" };
        let text = head(&self.local, timing) + lite + &body;
        self.written = body;
        text.into_bytes()
    }
}

/// What a line says of us.
struct Own {
    address: IpAddr,
    port: u16,
    fingerprint: Option<Fingerprint>,
    flow: Option<u64>,
    /// The place of the stream.
    index: usize,
}

/// Our keys of a stream, one for each suite, made when they are first needed and kept for the whole call.
#[derive(Debug, Default)]
struct OwnKeys([Option<MasterKey>; Suite::ALL.len()]);

impl OwnKeys {
    fn get(&mut self, suite: Suite, fill: &mut dyn FnMut(&mut [u8])) -> MasterKey {
        let at = Suite::ALL.iter().position(|known| *known == suite).unwrap_or_default();
        match self.0.get_mut(at) {
            Some(slot) => slot.get_or_insert_with(|| MasterKey::random(suite, fill)).clone(),
            None => MasterKey::random(suite, fill),
        }
    }

    fn known(&self, suite: Suite) -> Option<MasterKey> {
        self.0.iter().flatten().find(|key| key.suite() == suite).cloned()
    }
}
