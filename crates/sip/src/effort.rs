//! How many bytes the readers of messages look at or move, counted in tests only: nothing that a peer sends may cost more
//! than linear time (threat 18). Elsewhere the count costs nothing, as there is none.

#[cfg(test)]
thread_local! {
    static SPENT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Notes that a loop went over so many bytes. Every loop whose length the peer decides says so.
#[inline(always)]
pub(crate) fn spend(_bytes: usize) {
    #[cfg(test)]
    SPENT.with(|spent| spent.set(spent.get() + _bytes));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;

    use super::SPENT;
    use crate::message::{BareBreaks, Header, Message, NameAddr, Scanner, Uri, Via};
    use crate::stream::StreamDecoder;

    /// Most times that one byte is looked at by all readers of a node together: scanned, indexed, checked to be text, then
    /// read as an element of a list, an address, its URI and its parameters, each by several users.
    const PASSES_MAX: usize = 40;

    /// Bytes that `read` looks at.
    fn spent(read: impl FnOnce()) -> usize {
        SPENT.set(0);
        read();
        SPENT.get()
    }

    fn read_whole(text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let _ = Message::parse_lenient(bytes.clone());
        let Ok(message) = Message::parse(bytes) else { return };
        let _ = message.validate();
        for header in [Header::Via, Header::Contact, Header::Route] {
            for value in message.values(header) {
                let _ = (Via::parse(value), NameAddr::parse(value));
            }
        }
        for (_, value) in message.all_fields() {
            let _ = (Uri::parse(value), NameAddr::parse(value), Via::parse(value));
        }
        message.edit().prepend(Header::Via, "SIP/2.0/UDP x").pop_value(Header::Contact).finish();
    }

    fn read_as_stream(text: &str) {
        let mut decoder = StreamDecoder::default();
        for byte in text.as_bytes() {
            decoder.push(std::slice::from_ref(byte));
            if decoder.next().is_err() {
                return;
            }
        }
    }

    /// A request of about this length whose lines repeat one unit: lines of 8,000 bytes, nearly the most that one may have.
    fn made_of(line: (&str, &str, &str), len: usize) -> String {
        let (name, open, unit) = line;
        let line = format!("{name}{open}{}y\r\n", unit.repeat(7900 / unit.len()));
        format!(
            "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
             From: <sip:a@b>;tag=1\r\nTo: <sip:b@b>\r\nCall-ID: c\r\nCSeq: 1 OPTIONS\r\n{}Content-Length: 0\r\n\r\n",
            line.repeat(len / 8000)
        )
    }

    #[test]
    fn eight_times_the_input_costs_eight_times_the_work_whatever_it_is_made_of() {
        let many_lines = format!("{}\r\nZ: ", "y".repeat(200));
        let inputs = [
            ("many lines", ("Z: ", "y", many_lines.as_str())),
            ("deep folding", ("Z: ", "y", "\r\n y")),
            ("commas", ("Contact: ", "<sip:a@b>", ",<sip:a@b>")),
            ("empty values", ("Contact: ", "<sip:a@b>", ",")),
            ("parameters", ("Contact: ", "<sip:a@b>", ";p=q")),
            ("Vias", ("Via: ", "SIP/2.0/UDP h", ",SIP/2.0/UDP h;a=b")),
            ("open quotes", ("Contact: ", "\"", "\\\"")),
            ("quotes", ("Contact: ", "", "\"")),
            ("brackets", ("Route: ", "", "<")),
            ("escapes", ("Route: ", "<sip:", "%41")),
            ("spaces", ("Z: ", "y", " \t")),
            ("NULs", ("Z: ", "\"y", "\\\0")),
            ("bare breaks", ("Z: ", "y", "\ny")),
            ("no field at all", ("x", "", "x x x\r\n")),
        ];
        for (what, line) in inputs {
            let (short, long) = (made_of(line, 8_000), made_of(line, 64_000));
            for (how, read) in [("datagram", read_whole as fn(&str)), ("single bytes", read_as_stream)] {
                let (one, eight) = (spent(|| read(&short)), spent(|| read(&long)));
                // The head around the lines makes it a little less than eight.
                assert!(eight <= one * 8 + 64, "{what}, {how}: {one} and {eight}");
                assert!(eight <= long.len() * PASSES_MAX, "{what}, {how}: {eight} of {}", long.len());
            }
        }
    }

    #[test]
    fn a_stream_in_single_bytes_costs_what_it_costs_at_once() {
        let stream = made_of(("Z: ", "y", "\r\n y"), 64_000);
        let at_once = spent(|| {
            let mut decoder = StreamDecoder::default();
            decoder.push(stream.as_bytes());
            assert!(decoder.next().unwrap().is_some());
        });
        let single = spent(|| read_as_stream(&stream));
        assert!(at_once >= 2 * stream.len(), "scanned and copied at least: {at_once}");
        // A line break is looked at again when the byte behind it is there.
        assert!(single <= 2 * at_once, "{single} and {at_once}");
    }

    /// So that the counts above mean something.
    #[test]
    fn a_scan_that_begins_anew_for_each_byte_is_seen_to_be_quadratic() {
        let head = made_of(("Z: ", "y", "y"), 8_000);
        let naive = spent(|| {
            for end in 1..head.len() {
                Scanner::new(BareBreaks::Refuse).scan(head.get(..end).unwrap_or_default().as_bytes());
            }
        });
        assert!(naive > head.len() * head.len() / 3, "{naive}");
    }
}
