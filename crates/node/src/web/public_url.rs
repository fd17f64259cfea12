//! Where this node's pages are found from outside.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The web address of a node's pages, such as `https://mesh.example.org`, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(Arc<str>);

/// A text that is no such address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no web address that begins with https://")]
pub struct NotPublic;

const SCHEME: &str = "https://";

impl PublicUrl {
    /// The address of a page, by its path without a slash before it.
    pub(crate) fn of(&self, path: &str) -> String {
        format!("{}/{path}", self.0)
    }

    /// The host alone; an IPv6 address is in brackets.
    pub fn host(&self) -> &str {
        let authority = self.authority();
        let has_port = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
        has_port.map_or(authority, |(host, _)| host)
    }

    /// Host and port as a browser writes them: the port only where it is not that of https.
    pub(crate) fn authority(&self) -> &str {
        let authority = self.0.strip_prefix(SCHEME).unwrap_or_default().split('/').next().unwrap_or_default();
        authority.strip_suffix(":443").unwrap_or(authority)
    }
}

impl FromStr for PublicUrl {
    type Err = NotPublic;

    fn from_str(text: &str) -> Result<PublicUrl, NotPublic> {
        let rest = text.strip_prefix(SCHEME).ok_or(NotPublic)?.trim_end_matches('/');
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // Without what ends a path, and what would break a mail or a header field.
        let is_path = path.bytes().all(|byte| byte.is_ascii_graphic() && !b"#?<>\"\\".contains(&byte));
        let is_authority = authority.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:[]".contains(&byte))
            && !rest.starts_with(':');
        if authority.is_empty() || !is_authority || !is_path {
            return Err(NotPublic);
        }
        let authority = authority.to_ascii_lowercase();
        Ok(PublicUrl(
            if path.is_empty() { format!("{SCHEME}{authority}") } else { format!("{SCHEME}{authority}/{path}") }.into(),
        ))
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Option<String> {
        text.parse::<PublicUrl>().ok().map(|url| url.of("enroll"))
    }

    #[test]
    fn a_web_address_is_read_with_or_without_its_last_slash() {
        for text in ["https://mesh.example.org", "https://Mesh.Example.ORG/"] {
            assert_eq!(read(text).as_deref(), Some("https://mesh.example.org/enroll"));
        }
        assert_eq!(read("https://[2001:db8::1]:8443/a/b/").as_deref(), Some("https://[2001:db8::1]:8443/a/b/enroll"));
    }

    #[test]
    fn host_and_port_are_those_that_a_browser_sends() {
        let authority = |text: &str| text.parse::<PublicUrl>().unwrap().authority().to_owned();
        assert_eq!(authority("https://mesh.example/x"), "mesh.example");
        assert_eq!(authority("https://mesh.example:443"), "mesh.example");
        assert_eq!(authority("https://mesh.example:8443"), "mesh.example:8443");
    }

    #[test]
    fn what_is_no_protected_address_is_refused() {
        for text in [
            "",
            "https://",
            "https:///x",
            "http://mesh.example",
            "mesh.example",
            "https://a b",
            "https://a/#x",
            "https://a/?x",
            "https://a/\r\nBcc:",
            "https://user@a",
            "https://:1",
        ] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
