//! Names of header fields, interned: one byte stands for a name and its compact form (RFC 3261 §7.3.3).
//!
//! A name that is not listed is [`Header::Other`]; it keeps its bytes in the message and is found by name.

macro_rules! headers {
    ($($variant:ident = $name:literal $(/ $compact:literal)?,)*) => {
        /// The name of a header field, as registered with IANA for SIP; matched without regard to case.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Header {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// Any name that this list does not hold; see [`Parsed::header_named`](super::Parsed::header_named).
            Other,
        }

        impl Header {
            /// Returns the name in its usual long spelling; `""` for [`Header::Other`].
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Header::$variant => $name,)*
                    Header::Other => "",
                }
            }
        }

        pub(super) const NAMES: &[(&str, Header)] = &[
            $(($name, Header::$variant), $(($compact, Header::$variant),)?)*
        ];
    };
}

headers! {
    Accept = "Accept",
    AcceptContact = "Accept-Contact" / "a",
    AcceptEncoding = "Accept-Encoding",
    AcceptLanguage = "Accept-Language",
    AlertInfo = "Alert-Info",
    Allow = "Allow",
    AllowEvents = "Allow-Events" / "u",
    AttestationInfo = "Attestation-Info",
    AuthenticationInfo = "Authentication-Info",
    Authorization = "Authorization",
    CallId = "Call-ID" / "i",
    CallInfo = "Call-Info",
    Contact = "Contact" / "m",
    ContentDisposition = "Content-Disposition",
    ContentEncoding = "Content-Encoding" / "e",
    ContentLanguage = "Content-Language",
    ContentLength = "Content-Length" / "l",
    ContentType = "Content-Type" / "c",
    CSeq = "CSeq",
    Date = "Date",
    Diversion = "Diversion",
    ErrorInfo = "Error-Info",
    Event = "Event" / "o",
    Expires = "Expires",
    From = "From" / "f",
    HistoryInfo = "History-Info",
    Identity = "Identity" / "y",
    InReplyTo = "In-Reply-To",
    Join = "Join",
    MaxBreadth = "Max-Breadth",
    MaxForwards = "Max-Forwards",
    MimeVersion = "MIME-Version",
    MinExpires = "Min-Expires",
    MinSe = "Min-SE",
    Organization = "Organization",
    OriginationId = "Origination-Id",
    PAssertedIdentity = "P-Asserted-Identity",
    PPreferredIdentity = "P-Preferred-Identity",
    Path = "Path",
    Priority = "Priority",
    Privacy = "Privacy",
    ProxyAuthenticate = "Proxy-Authenticate",
    ProxyAuthorization = "Proxy-Authorization",
    ProxyRequire = "Proxy-Require",
    RAck = "RAck",
    Reason = "Reason",
    RecordRoute = "Record-Route",
    ReferSub = "Refer-Sub",
    ReferTo = "Refer-To" / "r",
    ReferredBy = "Referred-By" / "b",
    RejectContact = "Reject-Contact" / "j",
    RemotePartyId = "Remote-Party-ID",
    Replaces = "Replaces",
    ReplyTo = "Reply-To",
    RequestDisposition = "Request-Disposition" / "d",
    Require = "Require",
    RetryAfter = "Retry-After",
    Route = "Route",
    RSeq = "RSeq",
    Server = "Server",
    ServiceRoute = "Service-Route",
    SessionExpires = "Session-Expires" / "x",
    SipEtag = "SIP-ETag",
    SipIfMatch = "SIP-If-Match",
    Subject = "Subject" / "s",
    SubscriptionState = "Subscription-State",
    Supported = "Supported" / "k",
    Timestamp = "Timestamp",
    To = "To" / "t",
    Unsupported = "Unsupported",
    UserAgent = "User-Agent",
    Via = "Via" / "v",
    Warning = "Warning",
    WwwAuthenticate = "WWW-Authenticate",
}

impl Header {
    /// Finds the header of this name, long or compact, in any case; [`Header::Other`] when it is not listed.
    pub fn from_name(name: &str) -> Header {
        Header::from_bytes(name.as_bytes())
    }

    pub(super) fn from_bytes(name: &[u8]) -> Header {
        let (Some(first), Some(last)) = (name.first(), name.last()) else {
            return Header::Other;
        };
        let mut place = hash(name.len(), *first, *last);
        while let Some((known, header)) = TABLE.get(place).and_then(|entry| NAMES.get(usize::from(*entry))) {
            // Nearly every phone writes names as the RFCs do.
            if known.as_bytes() == name || known.as_bytes().eq_ignore_ascii_case(name) {
                return *header;
            }
            place = (place + 1) % TABLE_LEN;
        }
        Header::Other
    }
}

/// About three times the number of names, so that a look-up nearly always ends at its first place.
const TABLE_LEN: usize = 256;

/// Marks a free place; there are fewer names than that.
const FREE: u8 = u8::MAX;

static TABLE: [u8; TABLE_LEN] = table();

const fn hash(len: usize, first: u8, last: u8) -> usize {
    // Bit 0x20 folds the case of letters. The factors were chosen so that few of the names collide.
    (len * 29 + (first | 0x20) as usize * 7 + (last | 0x20) as usize * 3) % TABLE_LEN
}

const fn table() -> [u8; TABLE_LEN] {
    assert!(NAMES.len() < FREE as usize);
    let mut table = [FREE; TABLE_LEN];
    let mut index = 0;
    while index < NAMES.len() {
        let name = NAMES[index].0.as_bytes();
        let mut place = hash(name.len(), name[0], name[name.len() - 1]);
        while table[place] != FREE {
            place = (place + 1) % TABLE_LEN;
        }
        table[place] = index as u8;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case() {
        for (name, header) in NAMES {
            assert_eq!(Header::from_name(name), *header);
            assert_eq!(Header::from_name(&name.to_uppercase()), *header);
            assert_eq!(Header::from_name(&name.to_lowercase()), *header);
        }
    }

    #[test]
    fn a_name_that_is_not_listed_is_other() {
        for name in ["", "X-Foo", "Vi", "Viaa", "q", "Content-Lengt"] {
            assert_eq!(Header::from_name(name), Header::Other);
        }
    }
}
