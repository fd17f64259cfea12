#![allow(clippy::unwrap_used)]

use super::*;
use crate::authority::code::RANDOM_LENGTH;

fn settings() -> MailSettings {
    MailSettings {
        host: "mail.example.org".to_owned(),
        port: 587,
        security: Security::StartTls,
        account: Some(("meshtone".to_owned(), Password("secret".to_owned()))),
        from: "Meshtone <meshtone@example.org>".to_owned(),
        authorities: None,
    }
}

fn letter(address: &str) -> Letter {
    let code = Code::from_random([0x5a; RANDOM_LENGTH]);
    Letter { address: address.to_owned(), code, node: NodeId::from_bytes([3; 32]), asked: 1_800_000_000 }
}

fn written(address: &str, page: Option<&str>) -> String {
    let page = page.map(|url| Page { node: letter("").node, url: url.parse().unwrap() });
    let mailer = Mailer::new(&settings(), "mesh.example", page).unwrap();
    String::from_utf8(mailer.message(&letter(address)).unwrap().formatted()).unwrap()
}

#[test]
fn the_mail_says_who_asks_for_what_and_what_to_type() {
    let mail = written("alice@example.net", None);
    let code = letter("").code.to_string();
    let command = format!("    meshtone enroll alice@example.net --code {code}\r\n");
    for part in [
        "From: Meshtone <meshtone@example.org>\r\n",
        "To: alice@example.net\r\n",
        "Subject: Your code for mesh.example\r\n",
        "Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "Message-ID: <",
        "@example.org>\r\n",
        "Content-Type: text/plain; charset=utf-8\r\n",
        &command,
        "ends in an hour",
        "ignore it",
    ] {
        assert!(mail.contains(part), "{part:?} is missing in {mail}");
    }
    assert!(!mail.contains("http"), "no link leads nowhere");
    assert!(mail.is_ascii() && mail.lines().all(|line| line.len() <= 78), "{mail}");
}

#[test]
fn a_link_keeps_the_code_behind_the_hash_sign() {
    let mail = written("a@b.example", Some("https://mesh.example/"));
    let code = letter("").code.to_string();
    assert!(mail.contains(&format!("https://mesh.example/confirm#a@b.example,{code}\r\n")), "{mail}");
    let mail = written("a%&'b@b.example", Some("https://mesh.example"));
    assert!(mail.contains(&format!("/confirm#a%25%26%27b@b.example,{code}\r\n")), "{mail}");
}

#[test]
fn a_link_leads_to_no_page_but_the_authoritys_own() {
    let elsewhere = Page { node: NodeId::from_bytes([4; 32]), url: "https://mesh.example".parse().unwrap() };
    let mailer = Mailer::new(&settings(), "mesh.example", Some(elsewhere)).unwrap();
    let mail = String::from_utf8(mailer.message(&letter("a@b.example")).unwrap().formatted()).unwrap();
    assert!(!mail.contains("http"), "{mail}");
}

#[test]
fn every_address_that_has_a_written_form_leaves_the_fields_as_they_are() {
    for address in ["-x", "a.b+c", "!~*'&=+$?", "o'hara", "_"] {
        let Ok(address) = meshtone_identity::address::normalise(&format!("{address}@example.net")) else { continue };
        let mail = written(&address, None);
        let (head, _) = mail.split_once("\r\n\r\n").unwrap();
        assert_eq!(head.lines().filter(|line| line.starts_with("To: ")).count(), 1);
        assert_eq!(
            head.lines().count(),
            written("a@example.net", None).split_once("\r\n\r\n").unwrap().0.lines().count()
        );
    }
    let mailer = Mailer::new(&settings(), "mesh.example", None).unwrap();
    assert!(mailer.message(&letter("a@example.net\r\nBcc: b@example.net")).is_none());
}

#[test]
fn settings_that_cannot_work_are_refused() {
    assert_eq!(settings().check(), Ok(()));
    let wrong = MailSettings { from: "nobody".to_owned(), ..settings() };
    assert_eq!(wrong.check(), Err(MailSettingsError::From));
    let wrong = MailSettings { authorities: Some(b"no certificate".to_vec()), ..settings() };
    assert_eq!(wrong.check(), Err(MailSettingsError::Authorities));
    let wrong = MailSettings { security: Security::None, ..settings() };
    assert_eq!(wrong.check(), Err(MailSettingsError::Unprotected));
    for host in ["localhost", "127.0.0.1", "::1", "127.8.8.8"] {
        let near = MailSettings { security: Security::None, host: host.to_owned(), ..settings() };
        assert_eq!(near.check(), Ok(()), "{host}");
    }
}

#[test]
fn a_certificate_that_is_an_authoritys_is_told_from_one_for_another_name() {
    let said = |why: &str| certificate_hint(&format!("invalid peer certificate: {why}"));
    assert!(said("Other(OtherError(CaUsedAsEndEntity))").contains("CA:FALSE"));
    assert!(said("NotValidForName").contains("ca_file"));
}

#[test]
fn a_log_shows_neither_code_nor_password_nor_whole_address() {
    assert_eq!(masked("alice@example.net"), "a…@example.net");
    let (settings, letter) = (format!("{:?}", settings()), format!("{:?}", letter("a@b.c")));
    assert!(!settings.contains("secret"), "{settings} {letter}");
    assert!(!letter.contains(&self::letter("").code.to_string()));
}
