//! Framing of SIP on streams: TCP, TLS and peer links (RFC 3261 §18.3, RFC 5626 §3.5.1).
//!
//! Bytes go in as they arrive, messages come out. The scan of a head goes on where it stopped, so a peer that sends one
//! byte at a time costs no more than one that sends all at once. Where the framing is lost the decoder says so once and
//! takes nothing more: the connection has to be closed, since anything read on could be smuggled.

#![allow(clippy::result_large_err, reason = "an error here is as rare as the end of a connection, and ends one")]

use bytes::Bytes;
use thiserror::Error;

use crate::effort;
use crate::message::{BareBreaks, MAX_HEAD_LEN, MAX_MESSAGE_LEN, Message, ParseError, Progress, Scanner};

/// What a stream may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// The largest head, at most [`MAX_HEAD_LEN`].
    pub head_len: usize,
    /// The largest message, head and body together.
    pub message_len: usize,
}

impl Default for StreamLimits {
    /// As much as a datagram may hold: a message that one transport takes can go on over any other.
    fn default() -> StreamLimits {
        StreamLimits { head_len: MAX_HEAD_LEN, message_len: MAX_MESSAGE_LEN }
    }
}

/// What the decoder found.
#[derive(Debug)]
pub enum StreamItem {
    /// A message.
    Message(Message),
    /// A message that is malformed though its end is known; with what was read of it, if it is a request, to answer it.
    Bad(ParseError, Option<Message>),
    /// A double line break between messages, to be answered by a single one (RFC 5626 §4.4.1).
    KeepAlivePing,
    /// A single line break between messages: the answer to our ping.
    KeepAlivePong,
}

/// The framing is lost; the connection must be closed.
#[derive(Debug, Clone, Error)]
#[error("the peer's stream cannot be framed any more: {error}")]
pub struct FramingError {
    /// What the peer did.
    pub error: ParseError,
    /// What was read of the request that did it, to answer it before closing.
    pub partial: Option<Message>,
}

/// Cuts a stream into messages.
///
/// The caller pushes what it read and then takes items until there is none; so no more than a message's limit and one
/// read are ever held.
#[derive(Debug)]
pub struct StreamDecoder {
    limits: StreamLimits,
    buffer: Vec<u8>,
    /// Where the message that is being read begins.
    start: usize,
    scanner: Scanner,
    /// The head's length and the message's, once the head is read.
    framed: Option<(usize, usize)>,
    lost: bool,
}

impl Default for StreamDecoder {
    fn default() -> StreamDecoder {
        StreamDecoder::new(StreamLimits::default())
    }
}

impl StreamDecoder {
    /// Makes a decoder for one connection.
    pub fn new(limits: StreamLimits) -> StreamDecoder {
        let scanner = Scanner::new(BareBreaks::Refuse);
        StreamDecoder { limits, buffer: Vec::new(), start: 0, scanner, framed: None, lost: false }
    }

    /// Takes bytes that arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.lost {
            return;
        }
        // Each byte is moved at most once for each time that as many bytes were consumed.
        if self.start > 0 && self.start >= self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.start = 0;
            effort::spend(self.buffer.len());
        }
        effort::spend(bytes.len());
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the bytes held for a message that is not complete.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Returns the next item, `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`FramingError`], once; after it there is nothing more.
    #[allow(clippy::should_implement_trait, reason = "it fails and may go on after `None`, which no iterator does")]
    pub fn next(&mut self) -> Result<Option<StreamItem>, FramingError> {
        if self.lost {
            return Ok(None);
        }
        let item = self.poll_item();
        if item.is_err() {
            self.lost = true;
            self.buffer = Vec::new();
            self.start = 0;
        }
        item
    }

    fn poll_item(&mut self) -> Result<Option<StreamItem>, FramingError> {
        if self.framed.is_none() {
            if let Some(item) = self.keep_alive() {
                return Ok(item);
            }
            let bytes = self.buffer.get(self.start..).unwrap_or_default();
            match self.scanner.scan(bytes) {
                Progress::Incomplete if bytes.len() > self.limits.head_len => {
                    return Err(self.fail(ParseError::HeadTooLarge));
                }
                Progress::Incomplete => return Ok(None),
                Progress::Lost(error) => return Err(self.fail(error)),
                Progress::Head(head) => self.framed = Some((head, self.message_len(head)?)),
            }
        }
        let Some((head, len)) = self.framed else {
            return Ok(None);
        };
        let Some(bytes) = self.buffer.get(self.start..self.start + len) else {
            return Ok(None);
        };
        effort::spend(len);
        // A copy of its own: a message that is kept for a while must not keep the rest of what was read alive.
        let bytes = Bytes::copy_from_slice(bytes);
        self.start += len;
        self.framed = None;
        let mut scanner = std::mem::replace(&mut self.scanner, Scanner::new(BareBreaks::Refuse));
        Ok(Some(match Message::from_scan(bytes.clone(), &mut scanner, head) {
            Ok(message) => StreamItem::Message(message),
            Err(error) => StreamItem::Bad(error, Message::partial(bytes, &mut scanner, head)),
        }))
    }

    /// Takes line breaks between messages. One alone may be the first half of a ping, so it waits for what follows.
    fn keep_alive(&mut self) -> Option<Option<StreamItem>> {
        if !self.scanner.is_fresh() {
            return None;
        }
        let (item, len) = match self.buffer.get(self.start..).unwrap_or_default() {
            [b'\r', b'\n', b'\r', b'\n', ..] => (StreamItem::KeepAlivePing, 4),
            [b'\r'] | [b'\r', b'\n'] | [b'\r', b'\n', b'\r'] => return Some(None),
            [b'\r', b'\n', ..] => (StreamItem::KeepAlivePong, 2),
            _ => return None,
        };
        self.start += len;
        Some(Some(item))
    }

    fn message_len(&mut self, head: usize) -> Result<usize, FramingError> {
        if let Some(fault) = self.scanner.length_fault {
            return Err(self.fail(fault));
        }
        let Some(length) = self.scanner.content_length else {
            return Err(self.fail(ParseError::ContentLengthMissing));
        };
        if head > self.limits.head_len {
            return Err(self.fail(ParseError::HeadTooLarge));
        }
        match head.checked_add(length).filter(|len| *len <= self.limits.message_len) {
            Some(len) => Ok(len),
            None => Err(self.fail(ParseError::MessageTooLarge)),
        }
    }

    fn fail(&mut self, error: ParseError) -> FramingError {
        let bytes = Bytes::copy_from_slice(self.buffer.get(self.start..).unwrap_or_default());
        let body = bytes.len();
        FramingError { error, partial: Message::partial(bytes, &mut self.scanner, body) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    const OPTIONS: &str = "OPTIONS sip:a@b SIP/2.0\r\nCall-ID: x\r\nContent-Length: 4\r\n\r\nbody";

    fn found(decoder: &mut StreamDecoder) -> Vec<String> {
        std::iter::from_fn(|| match decoder.next() {
            Ok(None) => None,
            Ok(Some(StreamItem::Message(message))) => Some(String::from_utf8_lossy(message.bytes()).into_owned()),
            Ok(Some(item)) => Some(format!("{item:?}")),
            Err(lost) => Some(format!("lost: {:?}", lost.error)),
        })
        .collect()
    }

    fn all_of(stream: &[u8]) -> Vec<String> {
        let mut decoder = StreamDecoder::default();
        decoder.push(stream);
        found(&mut decoder)
    }

    #[test]
    fn messages_and_keep_alives_come_out_in_order() {
        let stream = format!("\r\n\r\n{OPTIONS}\r\n\r\n{OPTIONS}\r\n{OPTIONS}");
        assert_eq!(
            all_of(stream.as_bytes()),
            ["KeepAlivePing", OPTIONS, "KeepAlivePing", OPTIONS, "KeepAlivePong", OPTIONS]
        );
    }

    #[test]
    fn half_a_ping_waits_for_the_other_half() {
        let mut decoder = StreamDecoder::default();
        for half in ["\r", "\n", "\r"] {
            decoder.push(half.as_bytes());
            assert!(found(&mut decoder).is_empty());
        }
        decoder.push(b"\n");
        assert_eq!(found(&mut decoder), ["KeepAlivePing"]);
        assert_eq!(decoder.pending(), 0);
    }

    #[test]
    fn a_body_waits_until_it_is_whole() {
        let mut decoder = StreamDecoder::default();
        let (most, rest) = OPTIONS.split_at(OPTIONS.len() - 1);
        decoder.push(most.as_bytes());
        assert!(found(&mut decoder).is_empty());
        assert_eq!(decoder.pending(), most.len());
        decoder.push(rest.as_bytes());
        assert_eq!(found(&mut decoder), [OPTIONS]);
    }

    #[test]
    fn a_malformed_message_with_a_certain_end_costs_only_itself() {
        let stream = format!("OPTIONS  sip:a@b SIP/2.0\r\nl: 2\r\n\r\nxy{OPTIONS}");
        assert_eq!(all_of(stream.as_bytes()), ["Bad(StartLine, Some(Message(OPTIONS <uri>)))", OPTIONS]);
    }

    #[test]
    fn framing_is_lost_once_and_for_all() {
        for (head, error) in [
            ("X: a\nY: b\r\n", "BareLineBreak"),
            ("l: 4\r\nl: 5\r\n", "ContentLengthConflict"),
            ("l: x\r\n", "ContentLength"),
            ("X: y\r\n", "ContentLengthMissing"),
            ("l: 999999\r\n", "MessageTooLarge"),
            ("\r\n", "ContentLengthMissing"),
        ] {
            let mut decoder = StreamDecoder::default();
            decoder.push(format!("OPTIONS sip:a@b SIP/2.0\r\n{head}\r\n{OPTIONS}").as_bytes());
            assert_eq!(found(&mut decoder), [format!("lost: {error}")]);
            decoder.push(OPTIONS.as_bytes());
            assert!(found(&mut decoder).is_empty(), "nothing is read on after {error}");
            assert_eq!(decoder.pending(), 0);
        }
    }

    #[test]
    fn what_was_read_is_there_to_answer_a_lost_request() {
        let mut decoder = StreamDecoder::default();
        decoder.push(b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: x\r\nVia: SIP/2.0/TCP c;branch=z9hG4bK1\r\n\r\n");
        let lost = decoder.next().unwrap_err();
        assert_eq!(lost.error.status(), 400);
        let partial = lost.partial.unwrap();
        assert_eq!((partial.call_id(), partial.top_via().unwrap().host), ("x", "c"));
    }

    #[test]
    fn a_head_without_end_is_bounded() {
        let limits = StreamLimits { head_len: 1000, message_len: 2000 };
        let mut decoder = StreamDecoder::new(limits);
        decoder.push(b"OPTIONS sip:a@b SIP/2.0\r\n");
        let mut pushed = 0;
        let lost = loop {
            decoder.push(b"X: yyyyyyyyyyyyyyyy\r\n");
            pushed += 1;
            match decoder.next() {
                Ok(item) => assert!(item.is_none()),
                Err(lost) => break lost,
            }
        };
        assert_eq!(lost.error, ParseError::HeadTooLarge);
        assert!(pushed < 60);
    }

    #[test]
    fn a_message_of_the_limit_passes_and_one_byte_more_does_not() {
        let head = "OPTIONS sip:a@b SIP/2.0\r\nl: 100\r\n\r\n";
        let stream = format!("{head}{}", "b".repeat(100));
        for (message_len, passes) in [(stream.len(), true), (stream.len() - 1, false)] {
            let mut decoder = StreamDecoder::new(StreamLimits { message_len, ..StreamLimits::default() });
            decoder.push(stream.as_bytes());
            assert_eq!(decoder.next().is_ok(), passes);
        }
    }
}
