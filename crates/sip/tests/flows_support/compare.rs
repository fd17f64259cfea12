//! From the page's words to ours, and what must be the same.

use meshtone_sip::message::{Header, Message, Method, NameAddr, Uri, Via};

use super::Part;
use super::stage::Stage;

impl Stage<'_> {
    /// The page's message with our branches, tags and routes in the place of the page's.
    pub(super) fn translated(&self, message: &Message) -> Message {
        let mut editor = message.edit();
        let ours = self.play.ours.1;
        let number = message.cseq().unwrap().number;
        editor.remove(Header::Via);
        for value in message.values(Header::Via) {
            let via = Via::parse(value).unwrap();
            let known = via.branch().filter(|_| via.host == ours).and_then(|branch| self.vias.get(branch));
            // Some pages use a branch again for another transaction.
            let unique = via.branch().map(|branch| value.replace(branch, &format!("{branch}.{number}")));
            editor.append(Header::Via, known.or(unique.as_ref()).map_or(value, String::as_str));
        }
        if let Some((routes, caller_tag)) = self.routes.get(message.call_id()) {
            let is_from_caller = message.from().unwrap().tag() == Some(caller_tag.as_str());
            for header in [Header::RecordRoute, Header::Route] {
                let values: Vec<String> = message.values(header).map(str::to_owned).collect();
                editor.remove(header);
                for value in values {
                    let is_ours =
                        NameAddr::parse(&value).is_ok_and(|route| Uri::parse(route.uri).unwrap().host == ours);
                    let is_reversed = header == Header::Route && is_from_caller;
                    match (is_ours, is_reversed) {
                        (false, _) => {
                            editor.append(header, &value);
                        }
                        (true, true) => routes.iter().rev().for_each(|route| {
                            editor.append(header, route);
                        }),
                        (true, false) => routes.iter().for_each(|route| {
                            editor.append(header, route);
                        }),
                    }
                }
            }
        }
        for header in [Header::From, Header::To] {
            if let Some(tag) = NameAddr::parse(message.header(header).unwrap()).unwrap().tag()
                && let Some(known) = self.tags.get(tag)
            {
                let value = message.header(header).unwrap().replace(&format!("tag={tag}"), &format!("tag={known}"));
                editor.set(header, &value);
            }
        }
        if let Some(number) = self.numbers.get(&number).filter(|_| !message.is_request()) {
            editor.set(Header::CSeq, &format!("{number} {}", message.method_name()));
        }
        if let Some(event) = message.header(Header::Event) {
            editor.set(Header::Event, &self.numbered(event));
        }
        editor.finish()
    }

    pub(super) fn compare(&mut self, index: usize, page: &Message, ours: &Message) {
        if page.is_request() {
            self.check(index, Part::Uri, ours.request_uri(), page.request_uri());
        }
        self.check(index, Part::Field(Header::CallId), ours.call_id(), page.call_id());
        for (header, page, ours) in [(Header::From, page.from(), ours.from()), (Header::To, page.to(), ours.to())] {
            let (page, ours) = (page.unwrap(), ours.unwrap());
            let known = page.tag().map(|tag| self.tags.get(tag).cloned().unwrap_or_else(|| tag.to_owned()));
            let tag = ours.tag().map(str::to_owned);
            if header == Header::To {
                self.check(index, Part::Field(header), ours.uri, page.uri);
                self.check(index, Part::Tag, tag, known);
            } else {
                self.check(index, Part::Field(header), (ours.uri, tag), (page.uri, known));
            }
        }
        let vias = |message: &Message| -> Vec<(String, Option<String>)> {
            let read = |value| {
                let via = Via::parse(value).unwrap();
                (via.host.to_owned(), via.received().map(str::to_owned))
            };
            message.values(Header::Via).map(read).collect()
        };
        self.check(index, Part::Via, vias(ours), vias(page));
        let (own_host, leaves_path) = (self.play.ours.1, self.play.leaves_path);
        let routes = |message: &Message, header: Header| -> Vec<String> {
            let host = |value| Uri::parse(NameAddr::parse(value).unwrap().uri).unwrap().host.to_owned();
            let mut hosts: Vec<String> = message.values(header).map(host).collect();
            // Two Record-Routes of ours where the page has one (RFC 5658).
            hosts.dedup();
            hosts.retain(|host| !leaves_path || host != own_host);
            hosts
        };
        for header in [Header::Route, Header::RecordRoute] {
            self.check(index, Part::Route, routes(ours, header), routes(page, header));
        }
        let is_hop_by_hop =
            page.method() == Method::Cancel || (page.method() == Method::Ack && page.values(Header::Via).count() == 1);
        if page.is_request() && !is_hop_by_hop {
            self.check(index, Part::Hops, ours.max_forwards().unwrap(), page.max_forwards().unwrap());
        }
        for header in [
            Header::Contact,
            Header::Require,
            Header::Path,
            Header::ProxyAuthenticate,
            Header::WwwAuthenticate,
            Header::ContentType,
            Header::ReferTo,
            Header::Event,
        ] {
            let is_address = matches!(header, Header::Contact | Header::Path | Header::ReferTo);
            let read = |value: &str| if is_address { address(value) } else { value.to_owned() };
            let fields = |message: &Message| message.values(header).map(read).collect::<Vec<_>>();
            let mut page = fields(page);
            if header == Header::Event {
                page = page.iter().map(|event| self.numbered(event)).collect();
            }
            self.check(index, Part::Field(header), fields(ours), page);
        }
        let state = |message: &Message| {
            let parts = message.header(Header::SubscriptionState).unwrap_or_default().split(';');
            parts.filter(|part| !part.starts_with("expires=")).map(str::to_owned).collect::<Vec<_>>()
        };
        self.check(index, Part::Field(Header::SubscriptionState), state(ours), state(page));
        let supported = |message: &Message, tag: &str| message.values(Header::Supported).any(|known| known == tag);
        for tag in page.values(Header::Supported) {
            self.check(index, Part::Field(Header::Supported), supported(ours, tag), true);
        }
        let text = |message: &Message| String::from_utf8_lossy(message.body()).into_owned();
        self.check(index, Part::Body, text(ours), text(page));
    }

    /// The page's Event, which may name a request of ours by its number.
    fn numbered(&self, event: &str) -> String {
        let known =
            event.split_once(";id=").and_then(|(package, id)| Some((package, self.numbers.get(&id.parse().ok()?)?)));
        known.map_or_else(|| event.to_owned(), |(package, number)| format!("{package};id={number}"))
    }
}

/// An address with brackets and its parameters in order, which have no meaning.
fn address(value: &str) -> String {
    let address = NameAddr::parse(value).unwrap();
    let mut params: Vec<&str> = address.params.as_str().split(';').map(str::trim).collect();
    params.sort_unstable();
    format!("<{}>{}", address.uri, params.join(";"))
}
