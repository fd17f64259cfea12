//! People with addresses of their own: their keys, and which nodes may speak for them.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use hyper::Method;
use meshtone_node::authority::holder::MAX_PEM;
use meshtone_node::control::{
    Card, Delegation, Enrolment, ForeignCertificate, KeyList, KeyRow, Mailed, NewKey, Passphrase, UserCredentials,
};

use crate::administer::{NOTHING, running, show_credentials};
use crate::client::segment;
use crate::command::{DelegateOptions, EnrollOptions, KeyCommand};
use crate::failure::Failure;
use crate::output;

/// Larger files are no soft-cards.
const MAX_CARD: u64 = 16 << 10;

pub(crate) fn enroll(data: &Path, options: EnrollOptions) -> Result<(), Failure> {
    let EnrollOptions { address, code, certificate, key, json } = options;
    let foreign = certificate.zip(key).map(|(certificate, key)| foreign(&certificate, &key)).transpose()?;
    let is_proof = code.is_some() || foreign.is_some();
    let request = Enrolment { address, code, foreign };
    let client = running(data, "the key is kept by the node")?;
    if is_proof {
        let credentials: UserCredentials = client.ask(Method::POST, "/enrolments", Some(&request))?;
        return show_credentials(&credentials, json);
    }
    let mailed: Mailed = client.ask(Method::POST, "/enrolments", Some(&request))?;
    if json {
        return output::print_json(&mailed);
    }
    let address = &mailed.address;
    let first = if mailed.only_if_enrolled {
        format!(
            "This overlay takes nobody new. If {address} is enrolled already, a mail with a code is on its way there."
        )
    } else {
        format!("If {address} can be enrolled here, a mail with a code is on its way there. It is good for an hour:")
    };
    let lines = [first, String::new(), format!("  meshtone enroll {address} --code XXXX-XXXX")];
    output::print(&lines.join("\n"));
    Ok(())
}

/// Reads what another authority certified.
fn foreign(certificate: &Path, key: &Path) -> Result<ForeignCertificate, Failure> {
    let read = |path: &Path| {
        let mut text = String::new();
        let bound = u64::try_from(MAX_PEM).unwrap_or(u64::MAX).saturating_add(1);
        let read = File::open(path).and_then(|file| file.take(bound).read_to_string(&mut text));
        read.map(|_| text).map_err(|error| {
            Failure::new(format!("{} cannot be read: {error}", path.display()), "name PEM files that you may read")
        })
    };
    Ok(ForeignCertificate { certificate: read(certificate)?, key: read(key)? })
}

pub(crate) fn delegate(data: &Path, options: &DelegateOptions) -> Result<(), Failure> {
    let client = running(data, "nobody could be told")?;
    let request = Delegation { node: options.node.clone(), may: !options.revoke };
    let path = format!("/keys/{}/nodes", segment(&options.address));
    client.ask::<()>(Method::POST, &path, Some(&request))?;
    let (address, node) = (&options.address, &options.node);
    output::print(&if options.revoke {
        format!("node {node} does not speak for {address} any more; every node knows within a minute")
    } else {
        format!("node {node} may speak for {address}; there, `meshtone user add {address}` lets a phone register")
    });
    Ok(())
}

pub(crate) fn key(data: &Path, command: KeyCommand) -> Result<(), Failure> {
    match command {
        KeyCommand::List { json } => {
            let list: KeyList = running(data, "there is nothing to show")?.ask(Method::GET, "/keys", NOTHING)?;
            if json {
                return output::print_json(&list);
            }
            output::print(&list_text(&list));
            Ok(())
        }
        KeyCommand::Export { address, file } => {
            let client = running(data, "its store is not read from outside")?;
            let request = Passphrase { passphrase: new_passphrase()? };
            let path = format!("/keys/{}/export", segment(&address));
            let Card { card } = client.ask(Method::POST, &path, Some(&request))?;
            write_new(&file, &card)?;
            let lines = [
                format!("The key of {address} is in {}, encrypted.", file.display()),
                "Whoever has the file and the passphrase can speak for that address. On another node:".to_owned(),
                String::new(),
                format!("  meshtone key import {}", file.display()),
            ];
            output::print(&lines.join("\n"));
            Ok(())
        }
        KeyCommand::Import { file, json } => {
            let client = running(data, "its store is not written from outside")?;
            let request = NewKey { card: read_card(&file)?, passphrase: passphrase("Passphrase: ")? };
            let credentials: UserCredentials = client.ask(Method::POST, "/keys", Some(&request))?;
            show_credentials(&credentials, json)
        }
    }
}

fn list_text(list: &KeyList) -> String {
    if list.keys.is_empty() {
        return "no keys here; `meshtone enroll ADDRESS` makes one".to_owned();
    }
    let text = |key: &KeyRow| {
        let state = match (key.superseded, key.certified_until) {
            (true, _) => "of no use: the mailbox was proved anew since".to_owned(),
            (false, Some(_)) if key.nodes.is_empty() => "no node speaks for it".to_owned(),
            (false, Some(_)) => {
                let name = |node: &String| if *node == list.node { "this node".to_owned() } else { node.clone() };
                format!("spoken for by {}", key.nodes.iter().map(name).collect::<Vec<_>>().join(", "))
            }
            (false, None) => "not enrolled yet".to_owned(),
        };
        format!("{}  {state}", key.address)
    };
    list.keys.iter().map(text).collect::<Vec<_>>().join("\n")
}

fn read_card(file: &Path) -> Result<String, Failure> {
    let failed = |why: String| {
        Failure::new(
            format!("{} cannot be read: {why}", file.display()),
            "name the file that `meshtone key export` wrote",
        )
    };
    let size = std::fs::metadata(file).map_err(|error| failed(error.to_string()))?.len();
    if size > MAX_CARD {
        return Err(failed("it is larger than any soft-card".to_owned()));
    }
    std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))
}

/// Writes a file that only its owner may read, and no other one over.
fn write_new(file: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::new(format!("{} cannot be written: {error}", file.display()), "name a file that does not exist yet")
    };
    let mut opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    opened.write_all(text.as_bytes()).and_then(|()| opened.sync_all()).map_err(failed)
}

/// A passphrase typed twice; once, where nobody types.
pub(crate) fn new_passphrase() -> Result<String, Failure> {
    let first = passphrase("New passphrase (10 characters at least): ")?;
    if std::io::stdin().is_terminal() && passphrase("Once more: ")? != first {
        return Err(Failure::new("the two passphrases differ", "type the same one twice"));
    }
    Ok(first)
}

/// A passphrase, without showing it; from a pipe its first line.
pub(crate) fn passphrase(prompt: &str) -> Result<String, Failure> {
    let unread =
        |error: std::io::Error| Failure::new(format!("no passphrase could be read: {error}"), "type it, or pipe it in");
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password(prompt).map_err(unread);
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map_err(unread)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
