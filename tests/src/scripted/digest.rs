//! A phone's side of HTTP digest with MD5 or SHA-256 (RFC 7616, `qop=auth`), written anew so that it checks the node's.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use md5::{Digest, Md5};

/// What a user types into a phone.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// User name.
    pub user: String,
    /// Password.
    pub password: String,
}

impl Credentials {
    /// The value of `Authorization` or `Proxy-Authorization` that answers `challenge`.
    pub fn answer(&self, challenge: &str, method: &str, uri: &str, uses: &mut HashMap<String, u32>) -> String {
        let realm = quoted(challenge, "realm").unwrap_or_default();
        let nonce = quoted(challenge, "nonce").unwrap_or_default();
        let count = uses.entry(nonce.clone()).or_default();
        *count += 1;
        let count = format!("{count:08x}");
        let (algorithm, hash): (&str, fn(&str) -> String) =
            if challenge.contains("algorithm=SHA-256") { ("SHA-256", sha256) } else { ("MD5", hash) };
        let secret = hash(&format!("{}:{realm}:{}", self.user, self.password));
        let request = hash(&format!("{method}:{uri}"));
        let cnonce = "f00dcafe";
        let response = hash(&format!("{secret}:{nonce}:{count}:{cnonce}:auth:{request}"));
        let opaque = quoted(challenge, "opaque").map(|opaque| format!(", opaque=\"{opaque}\"")).unwrap_or_default();
        format!(
            "Digest username=\"{}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", response=\"{response}\", \
             algorithm={algorithm}, cnonce=\"{cnonce}\", qop=auth, nc={count}{opaque}",
            self.user
        )
    }
}

fn hash(text: &str) -> String {
    HEXLOWER.encode(&Md5::digest(text.as_bytes()))
}

fn sha256(text: &str) -> String {
    HEXLOWER.encode(digest(&SHA256, text.as_bytes()).as_ref())
}

/// The quoted parameter `name` of a challenge.
pub fn quoted(challenge: &str, name: &str) -> Option<String> {
    let start = challenge.find(&format!("{name}=\""))? + name.len() + 2;
    let rest = challenge.get(start..)?;
    Some(rest[..rest.find('"')?].to_owned())
}

#[cfg(test)]
mod tests {
    use super::{hash, sha256};

    #[test]
    fn sha_256_is_that_of_rfc_7616_section_3_9_1() {
        let secret = sha256("Mufasa:http-auth@example.org:Circle of Life");
        let request = sha256("GET:/dir/index.html");
        let nonce = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let response = sha256(&format!("{secret}:{nonce}:00000001:{cnonce}:auth:{request}"));
        assert_eq!(response, "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1");
    }

    #[test]
    fn the_response_is_that_of_rfc_2617_section_3_5() {
        let secret = hash("Mufasa:testrealm@host.com:Circle Of Life");
        let request = hash("GET:/dir/index.html");
        let nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093";
        let response = hash(&format!("{secret}:{nonce}:00000001:0a4f113b:auth:{request}"));
        assert_eq!(response, "6629fae49393a05397450978507c4ef1");
    }
}
