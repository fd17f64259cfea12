//! URIs: one text has one meaning, its canonical form means the same, and whom two mean does not depend on who asks.

use meshtone_sip::agent::with_replaces_mapped;
use meshtone_sip::message::{MAX_COMPARED, MAX_URI_LEN, NameAddr, Uri};

/// Runs the check; lines are URIs or addresses to compare. It panics where something does not hold.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let (first, second) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    for text in [first, second] {
        check_one(text);
        let once = with_replaces_mapped(text, |named| Some(named.to_owned()));
        assert_eq!(with_replaces_mapped(&once, |named| Some(named.to_owned())), once, "it is read as it was written");
        assert_eq!(with_replaces_mapped(text, |_| None), text);
        if let Ok(address) = NameAddr::parse(text)
            && !address.is_wildcard()
        {
            check_one(address.uri);
            let written = format!("<{}>{}", address.uri, address.params.as_str());
            let again = NameAddr::parse(&written).expect("what was read can be written");
            assert_eq!((again.uri, again.params, again.tag()), (address.uri, address.params, address.tag()));
        }
    }
    if let (Ok(one), Ok(other)) = (Uri::parse(first), Uri::parse(second)) {
        assert_eq!(one.equivalent(&other), other.equivalent(&one), "{first:?} and {second:?}");
        if one.equivalent(&other) && one.is_sip() {
            assert_eq!(one.address_of_record(), other.address_of_record());
        }
    }
}

fn check_one(text: &str) {
    let Ok(uri) = Uri::parse(text) else { return };
    assert!(text.len() <= MAX_URI_LEN && uri.equivalent(&uri));
    if !uri.is_sip() {
        return;
    }
    assert!(!uri.host.is_empty() && !uri.host.contains(['@', ';', '?', '/', ' ', '%']));
    let address = uri.address_of_record();
    assert!(address.bytes().all(|byte| byte.is_ascii_graphic()), "{address:?} can be a name in a table and in a log");
    let canonical = format!("sip:{address}");
    if canonical.len() <= MAX_URI_LEN {
        let again = Uri::parse(&canonical).expect("a canonical address is one");
        assert_eq!(again.address_of_record(), address);
        // The dot that ends a fully qualified name says nothing more.
        assert!(again.host.eq_ignore_ascii_case(uri.host.trim_end_matches('.')));
    }
    for (name, _) in uri.params.iter().take(MAX_COMPARED) {
        let _ = uri.param(name);
    }
}
