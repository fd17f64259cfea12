//! The Identity header field (RFC 8224 §4.1).

use super::ParseError;
use super::classes::{URI, is, is_token};
use super::list::{cut, find_separator, quoted_end, trim};

/// A signed statement of who calls: what [`Identity::passport`] says is believed only by whoever verifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The PASSporT, in its full or compact form.
    pub passport: &'a str,
    /// Where the signer's certificate is found: a URI.
    pub info: &'a str,
    /// The algorithm; `ES256` where none is named.
    pub alg: Option<&'a str>,
    /// The type of the PASSporT, without its quotes.
    pub ppt: Option<&'a str>,
    /// The signer's certificate itself (parameter `cert`, an extension): base64url of its DER.
    pub certificate: Option<&'a str>,
}

impl<'a> Identity<'a> {
    /// Reads one value of the header field. Of `info`, `alg`, `ppt` and `cert` there is at most one each.
    ///
    /// # Errors
    /// [`ParseError::FieldLine`] for what is none, such as one without `info`.
    pub fn parse(value: &'a str) -> Result<Identity<'a>, ParseError> {
        Self::read(value).ok_or(ParseError::FieldLine)
    }

    /// Writes a value: the full form of a PASSporT, and the URI of its signer's certificate.
    pub fn write(passport: &str, info: &str, ppt: Option<&str>) -> String {
        let ppt = ppt.map(|ppt| format!(";ppt={ppt}")).unwrap_or_default();
        format!("{passport};info=<{info}>;alg=ES256{ppt}")
    }

    /// Writes the value again, with the signer's certificate.
    pub fn with_certificate(&self, certificate: &str) -> String {
        format!("{};cert={certificate}", Self::write(self.passport, self.info, self.ppt))
    }

    fn read(value: &'a str) -> Option<Identity<'a>> {
        let (passport, mut rest) = cut(value, find_separator(value, b';'));
        let passport = trim(passport);
        let is_base64 =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'+' | b'/' | b'=');
        (!passport.is_empty() && passport.bytes().all(is_base64)).then_some(())?;
        let (mut info, mut alg, mut ppt, mut certificate) = (None, None, None, None);
        while !rest.is_empty() {
            let (param, next) = cut(rest, find_separator(rest, b';'));
            rest = next;
            let (name, value) = cut(param, find_separator(param, b'='));
            let (name, value) = (trim(name), trim(value));
            let known = match name.to_ascii_lowercase().as_str() {
                "info" => info.replace(value.strip_prefix('<')?.strip_suffix('>')?),
                "alg" => alg.replace(unquoted(value)?),
                "ppt" => ppt.replace(unquoted(value)?),
                "cert" => certificate.replace(unquoted(value)?),
                _ => (!name.is_empty() && name.bytes().all(is_token)).then_some(None)?,
            };
            known.is_none().then_some(())?;
        }
        let info = info.filter(|info| !info.is_empty() && info.bytes().all(|byte| is(byte, URI)))?;
        Some(Identity { passport, info, alg, ppt, certificate })
    }
}

/// A token that may stand in quotes, as `ppt` does in the examples of RFC 8588.
fn unquoted(value: &str) -> Option<&str> {
    let inner = match quoted_end(value) {
        Some(end) if end == value.len() => value.get(1..end - 1)?,
        Some(_) => return None,
        None => value,
    };
    (!inner.is_empty() && inner.bytes().all(is_token)).then_some(inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_value_says_who_signed_and_how() {
        // RFC 8224 §4.1.1 and RFC 8588 §6, shortened.
        let plain = "eyJhb.eyJkZXN0.rq3pjT1h-6_w;info=<https://biloxi.example.org/biloxi.cer>";
        let identity = Identity::parse(plain).unwrap();
        assert_eq!(identity.passport, "eyJhb.eyJkZXN0.rq3pjT1h-6_w");
        assert_eq!((identity.info, identity.alg), ("https://biloxi.example.org/biloxi.cer", None));
        let shaken = "..sig ; info = <https://a.example/c;d=e?f>;ALG=ES256;ppt=\"shaken\";new=1";
        let identity = Identity::parse(shaken).unwrap();
        assert_eq!(identity.passport, "..sig");
        assert_eq!((identity.info, identity.alg), ("https://a.example/c;d=e?f", Some("ES256")));
        assert_eq!(identity.ppt, Some("shaken"));
    }

    #[test]
    fn what_is_written_reads_back() {
        let written = Identity::write("a.b.c", "sip:n.peer.alt", Some("div"));
        let identity = Identity::parse(&written).unwrap();
        assert_eq!((identity.passport, identity.info), ("a.b.c", "sip:n.peer.alt"));
        assert_eq!((identity.alg, identity.ppt, identity.certificate), (Some("ES256"), Some("div"), None));
        let certified = identity.with_certificate("MIIB_-");
        assert_eq!(Identity::parse(&certified), Ok(Identity { certificate: Some("MIIB_-"), ..identity }));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for wrong in [
            "",
            "a.b.c",
            ";info=<x:y>",
            "a b;info=<x:y>",
            "a.b.c;info=x:y",
            "a.b.c;info=<>",
            "a.b.c;info=<x:y>;info=<x:z>",
            "a.b.c;info=<x:y>;alg=ES256;alg=none",
            "a.b.c;info=<x:y>;ppt=\"div",
            "a.b.c;info=<x:y>;alg=",
            "a.b.c;info=<x:y>;cert=a;cert=b",
            "a.b.c;info=<x:y>;=1",
        ] {
            assert_eq!(Identity::parse(wrong), Err(ParseError::FieldLine), "{wrong}");
        }
    }
}
