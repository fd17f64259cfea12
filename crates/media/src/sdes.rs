//! `a=crypto` lines (RFC 4568): keys for SRTP inside the description, as good as the way that the description takes.

use data_encoding::BASE64;

use crate::srtp::{MasterKey, Suite};

/// Tags have at most nine digits (RFC 4568 §9.1).
const MAX_TAG_DIGITS: usize = 9;

/// A line that can be used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crypto {
    /// By which an answer names the line of the offer.
    pub tag: u32,
    /// What the side that wrote the line protects with.
    pub key: MasterKey,
}

impl Crypto {
    /// Reads the value of a line; `None` where it is malformed, or asks for something that is not known here: another suite, several
    /// keys or an MKI, session parameters, none of which may be passed over (RFC 4568 §5.1.2). A lifetime is not kept count of: it
    /// is at least as long as any call.
    pub fn parse(value: &str) -> Option<Crypto> {
        let mut words = value.split(' ').filter(|word| !word.is_empty());
        let (tag, suite, keys) = (words.next()?, words.next()?, words.next()?);
        let is_tag = tag.len() <= MAX_TAG_DIGITS && tag.bytes().all(|byte| byte.is_ascii_digit());
        let tag = tag.parse().ok().filter(|_| is_tag)?;
        let suite = Suite::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(suite))?;
        if words.next().is_some() {
            return None;
        }
        let (method, inline) = keys.split_once(':')?;
        if !method.eq_ignore_ascii_case("inline") || inline.contains([';', ':']) {
            return None;
        }
        let key = inline.split('|').next()?;
        Some(Crypto { tag, key: MasterKey::new(suite, &BASE64.decode(key.as_bytes()).ok()?)? })
    }

    /// Writes the value of the line.
    pub fn to_value(&self) -> String {
        let key = BASE64.encode(&self.key.to_bytes());
        format!("{} {} inline:{key}", self.tag, self.key.suite().name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_line_of_rfc_4568_is_read() {
        let line = "1 AES_CM_128_HMAC_SHA1_80 inline:PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR|2^20";
        let crypto = Crypto::parse(line).unwrap();
        assert_eq!((crypto.tag, crypto.key.suite()), (1, Suite::AesCm80));
        assert_eq!(crypto.key.to_bytes(), b"=-n@%^x!Bjufr9)?,#5h\\`=&]{qiPQ");
        assert_eq!(crypto.to_value(), line.trim_end_matches("|2^20"));
    }

    #[test]
    fn every_suite_is_read_as_it_is_written() {
        for suite in Suite::ALL {
            let crypto = Crypto { tag: 7, key: MasterKey::random(suite, &mut |bytes| bytes.fill(0xfb)) };
            assert_eq!(Crypto::parse(&crypto.to_value()), Some(crypto));
        }
    }

    #[test]
    fn what_is_not_known_is_no_way_to_protect_anything() {
        let key = "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR";
        for bad in [
            String::new(),
            "1".to_owned(),
            format!("1 AES_CM_128_HMAC_SHA1_80 {key}"),
            format!("x AES_CM_128_HMAC_SHA1_80 inline:{key}"),
            format!("+1 AES_CM_128_HMAC_SHA1_80 inline:{key}"),
            format!("1234567890 AES_CM_128_HMAC_SHA1_80 inline:{key}"),
            format!("1 F8_128_HMAC_SHA1_80 inline:{key}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^20|1:4"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key};inline:{key}"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{key} UNENCRYPTED_SRTP"),
            "1 AES_CM_128_HMAC_SHA1_80 inline:AAAA".to_owned(),
            "1 AES_CM_128_HMAC_SHA1_80 inline:not base64".to_owned(),
        ] {
            assert_eq!(Crypto::parse(&bad), None, "{bad}");
        }
    }
}
