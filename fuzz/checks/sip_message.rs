//! A datagram: whatever is read, edited or answered must be read by others as it is by us.

use bytes::Bytes;
use meshtone_sip::message::{
    Builder, Header, Identity, MAX_FIELDS, MAX_LINE_LEN, MAX_MESSAGE_LEN, MAX_URI_LEN, Message, NameAddr, ParseError,
    Uri, Via,
};

/// Fields and bytes that the edits below add, generously.
const ADDED_FIELDS: usize = 8;
const ADDED_BYTES: usize = 1024;

/// Runs the check; it panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    let datagram = Bytes::copy_from_slice(data);
    if let Some(partial) = Message::parse_lenient(datagram.clone()) {
        look_at(&partial);
        let answer = Builder::response(&partial, 400, "").to_tag("fuzz").header(Header::Server, "fuzz").finish();
        assert_same_reading(&answer);
    }
    let Ok(message) = Message::parse(datagram) else { return };
    look_at(&message);
    assert_eq!(message.bytes(), &data[data.len() - trimmed(data).len()..][..message.bytes().len()]);
    assert_same_reading(&message);
    check_edits(&message);
    if message.validate().is_ok() {
        assert!(message.top_via().is_ok() && message.from().is_ok() && message.to().is_ok() && message.cseq().is_ok());
        assert!(!message.call_id().is_empty());
        for contact in message.contacts() {
            check_uri(contact.expect("a valid contact").uri);
        }
    }
}

/// What remains behind the line breaks that may come before a message.
fn trimmed(data: &[u8]) -> &[u8] {
    let start = data.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(data.len());
    &data[start..]
}

/// Reads all that can be asked of a message.
fn look_at(message: &Message) {
    let _ = (message.method(), message.method_name(), message.status(), message.reason(), message.body());
    let _ = (message.top_via(), message.from(), message.to(), message.cseq(), message.call_id());
    let _ = (message.max_forwards(), message.expires(), message.validate(), message.header_named("X-Fuzz"));
    check_uri(message.request_uri());
    for (_, value) in message.all_fields() {
        let _ = (Via::parse(value), NameAddr::parse(value), Identity::parse(value));
        check_uri(value);
    }
    for value in message.values(Header::Contact).chain(message.values(Header::Via)) {
        assert!(!value.is_empty());
    }
}

fn check_uri(text: &str) {
    let Ok(uri) = Uri::parse(text) else { return };
    assert!(uri.equivalent(&uri), "{text:?} is itself");
    let _ = uri.user_unescaped();
    if uri.is_sip() {
        let address = uri.address_of_record();
        let canonical = format!("sip:{address}");
        if canonical.len() > MAX_URI_LEN {
            // What was written raw and is escaped now takes three times the room.
            return;
        }
        let again = Uri::parse(&canonical).expect("a canonical address is one");
        assert_eq!(again.address_of_record(), address);
    }
}

fn check_edits(message: &Message) {
    let edited = message
        .edit()
        .prepend(Header::Via, "SIP/2.0/TCP edge.example.org;branch=z9hG4bKfuzz")
        .prepend(Header::RecordRoute, "<sip:edge.example.org;lr>")
        .set(Header::MaxForwards, "7")
        .finish();
    assert_same_reading(&edited);
    assert_eq!(edited.body(), message.body());
    assert_eq!(edited.values(Header::Via).count(), message.values(Header::Via).count() + 1);
    let unnamed = |name: &str| {
        !matches!(
            Header::from_name(name),
            Header::Via | Header::RecordRoute | Header::MaxForwards | Header::ContentLength
        )
    };
    let before = message.all_fields().filter(|(name, _)| unnamed(name));
    assert!(before.eq(edited.all_fields().filter(|(name, _)| unnamed(name))));

    let back = edited.edit().pop_value(Header::Via).finish();
    assert!(back.values(Header::Via).eq(message.values(Header::Via)));
    let other = message.edit().pop_value(Header::Route).replace_first_value(Header::Contact, "<sip:a@b>").finish();
    assert_same_reading(&other);
    assert_same_reading(&message.edit().body("text/plain", b"x").remove(Header::Subject).finish());
}

/// What we hold of a message is what anybody finds who parses its bytes, if they are within the bounds.
fn assert_same_reading(message: &Message) {
    let has_long_line = message.all_fields().any(|(name, value)| name.len() + value.len() + ADDED_BYTES > MAX_LINE_LEN)
        || message.request_uri().len().max(message.reason().len()) + ADDED_BYTES > MAX_LINE_LEN;
    if message.bytes().len() + ADDED_BYTES > MAX_MESSAGE_LEN
        || message.all_fields().count() + ADDED_FIELDS > MAX_FIELDS
        || has_long_line
    {
        return;
    }
    let again = match Message::parse(message.bytes().clone()) {
        Ok(again) => again,
        Err(error) => panic!("{error}: {:?}", message.bytes()),
    };
    assert_eq!(again.bytes(), message.bytes());
    assert_eq!(again.request_uri(), message.request_uri());
    assert_eq!((again.status(), again.method_name()), (message.status(), message.method_name()));
    assert!(again.all_fields().eq(message.all_fields()));
    assert_eq!(again.body(), message.body());
    assert_ne!(again.validate(), Err(ParseError::BodyTruncated));
}
