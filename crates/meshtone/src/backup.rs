//! `meshtone backup` and `restore`: a node, or the overlay's authority alone, in one encrypted file.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use meshtone_node::backup::{self, BackupError, Contents, Scope};
use meshtone_node::control::NewBackup;
use meshtone_node::store::Store;
use serde::Serialize;

use crate::administer::{lasting, unix_ms};
use crate::client::Client;
use crate::command::{BackupOptions, RestoreOptions};
use crate::failure::Failure;
use crate::output;
use crate::people::{new_passphrase, passphrase};
use crate::trunk::read_password;

/// What `--json` prints of a backup.
#[derive(Serialize)]
struct Report<'a> {
    scope: &'a str,
    node: String,
    overlay: String,
    domain: &'a str,
    made: u64,
    authority: bool,
    accounts: usize,
    people: usize,
    certificates: usize,
}

pub(crate) fn backup(data: &Path, options: &BackupOptions) -> Result<(), Failure> {
    let passphrase = match &options.passphrase_file {
        Some(file) => read_password(file).map_err(|(what, hint)| Failure::new(what, hint))?,
        None => new_passphrase()?,
    };
    let scope = if options.authority { Scope::Authority } else { Scope::Node };
    let file = &options.file;
    let failed = |error: std::io::Error| {
        Failure::new(format!("{} cannot be written: {error}", file.display()), "name a file that does not exist yet")
    };
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file).map_err(failed)?;
    let written = write(data, scope, &passphrase, &opened).and_then(|()| opened.sync_all().map_err(failed));
    // What cannot be read back is no backup.
    let contents = written.and_then(|()| Ok(backup::inspect(BufReader::new(read(file)?), &passphrase)?));
    let contents = contents.inspect_err(|_| {
        // It was made just now, and is of no use.
        let _ = std::fs::remove_file(file);
    })?;
    if options.json {
        return output::print_json(&report(&contents));
    }
    let lines = [
        format!("{} is in {}, encrypted; it was read back.", subject(&contents), file.display()),
        "Whoever has the file and the passphrase has all of that: keep them apart. To have it back:".to_owned(),
        String::new(),
        format!("  meshtone restore {} --data DIR", file.display()),
    ];
    output::print(&lines.join("\n"));
    Ok(())
}

/// Lets the running node write, or, where none runs, does it from its folder.
fn write(data: &Path, scope: Scope, passphrase: &str, file: &File) -> Result<(), Failure> {
    let mut out = BufWriter::new(file);
    let written = match Client::connect(data)? {
        Some(client) => {
            let request = NewBackup { authority: scope == Scope::Authority, passphrase: passphrase.to_owned() };
            client.download("/backup", &request, &mut out)
        }
        // Opening a store makes one; here that would only hide a mistyped path.
        None if !data.join("version").exists() => Err(BackupError::NoNode.into()),
        None => Ok(backup::write(&Store::open(data)?, scope, passphrase, &mut out)?),
    };
    written?;
    out.flush().map_err(|error| BackupError::Output(error).into())
}

pub(crate) fn restore(data: &Path, options: &RestoreOptions) -> Result<(), Failure> {
    let input = read(&options.file)?;
    let passphrase = match &options.passphrase_file {
        Some(file) => read_password(file).map_err(|(what, hint)| Failure::new(what, hint))?,
        None => passphrase("Passphrase: ")?,
    };
    let contents = backup::restore(BufReader::new(input), &passphrase, data)?;
    if options.json {
        return output::print_json(&report(&contents));
    }
    let age = lasting((unix_ms() / 1000).saturating_sub(contents.start.made));
    let mut lines = vec![format!("{}, as of {age} ago, is restored in {}.", subject(&contents), data.display())];
    lines.push(match contents.start.scope {
        Scope::Node => {
            "Phones register with the passwords that they have. Never run it while the old one still runs,\n\
             nor both of two copies: they would contradict each other."
                .to_owned()
        }
        Scope::Authority => {
            "It goes on issuing at the new node that the next start makes. Never run it beside the old one.".to_owned()
        }
    });
    if contents.has_authority {
        lines.push("Tickets that were made before are void: they may have been used since.".to_owned());
    }
    lines.extend([String::new(), format!("  meshtone run --data {}", data.display())]);
    output::print(&lines.join("\n"));
    Ok(())
}

fn read(file: &Path) -> Result<File, Failure> {
    File::open(file).map_err(|error| {
        Failure::new(
            format!("{} cannot be read: {error}", file.display()),
            "name the file that `meshtone backup` wrote",
        )
    })
}

/// What a backup holds, in words.
fn subject(contents: &Contents) -> String {
    let counted = |count: usize, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    let certificates = counted(contents.certificates, "certificate", "certificates");
    let start = &contents.start;
    match start.scope {
        Scope::Authority => format!("The authority of overlay {}, which issued {certificates},", start.overlay.short()),
        Scope::Node => {
            let accounts = counted(contents.accounts, "account", "accounts");
            let people = match contents.people {
                0 => String::new(),
                people => format!(", {}", counted(people, "person's key", "people's keys")),
            };
            let authority = match contents.has_authority {
                true => format!(", and the overlay's authority, which issued {certificates},"),
                false => String::new(),
            };
            format!("Node {} of {} with {accounts}{people}{authority}", start.node.short(), start.domain)
        }
    }
}

fn report(contents: &Contents) -> Report<'_> {
    let start = &contents.start;
    Report {
        scope: match start.scope {
            Scope::Node => "node",
            Scope::Authority => "authority",
        },
        node: start.node.to_string(),
        overlay: start.overlay.to_string(),
        domain: &start.domain,
        made: start.made,
        authority: contents.has_authority,
        accounts: contents.accounts,
        people: contents.people,
        certificates: contents.certificates,
    }
}
