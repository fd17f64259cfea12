//! What the tests of call flows share: the pages of `corpus/flows`, and a stage on which one element of a page is our engine
//! and the others say what the page says. Each message that reaches our element must make it send what the page shows next.
//!
//! What the page cannot know is translated: our branches, tags, sequence numbers and flow tokens (two Record-Routes where the
//! page has one). What the node decides (a challenge, a target, when a phone answers) is read off the page, for the engine
//! leaves it to its node.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::wildcard_enum_match_arm)]

mod agent;
mod compare;
mod stage;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;

use bytes::Bytes;
use meshtone_sip::message::{Header, Message};
use meshtone_sip::registrar::Binding;
use stage::Stage;

/// One message, from whom to whom.
pub type Step = (char, char, Message);

/// A flow with one of its elements as our engine.
pub struct Play {
    /// Names the page when something differs.
    pub name: String,
    /// Our element, by its letter in the script, and its host.
    pub ours: (char, &'static str),
    /// Every message in the order of the page.
    pub script: Vec<Step>,
    /// Numbers of messages (from 1) of which something is not compared, what, and why.
    pub except: &'static [(usize, Part, &'static str)],
    /// Whether the page's proxy leaves the path of the dialog, as ours never does.
    pub leaves_path: bool,
    /// Whether our element is a user agent, with a mind of its own: what it sends next is what the page lets it want.
    pub is_agent: bool,
}

/// What is not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Uri,
    Via,
    Tag,
    Hops,
    Route,
    Field(Header),
    Body,
}

/// A page of which our element is a proxy or registrar.
pub fn play(file: &str, ours: (char, &'static str), steps: &str) -> Play {
    let messages = page(file);
    let steps: Vec<(char, char)> =
        steps.split(' ').map(|step| (step.chars().next().unwrap(), step.chars().nth(2).unwrap())).collect();
    assert_eq!(steps.len(), messages.len(), "{file}: steps and messages");
    let script = steps.into_iter().zip(messages).map(|((from, to), message)| (from, to, message)).collect();
    Play { name: file.to_owned(), ours, script, except: &[], leaves_path: false, is_agent: false }
}

/// A page of which our element is a user agent.
pub fn act(file: &str, ours: (char, &'static str), steps: &str) -> Play {
    Play { is_agent: true, ..play(file, ours, steps) }
}

/// Plays pages one after the other; the registrar of one knows what the one before registered.
pub fn assert_played(plays: Vec<Play>, keeps_bindings: bool) {
    let mut differences = Vec::new();
    let mut bindings: Vec<Binding> = Vec::new();
    for play in plays {
        let mut stage = Stage::new(&play, bindings);
        stage.run();
        differences.append(&mut stage.differences);
        bindings = if keeps_bindings { stage.bindings } else { Vec::new() };
        // Some pages begin with the Call-ID and CSeq of the one before.
        bindings.iter_mut().for_each(|binding| binding.call_id.clear());
    }
    assert!(differences.is_empty(), "\n{}", differences.join("\n"));
}

/// Every file of a folder is among these, and together they hold so many messages.
pub fn assert_whole(folder: &str, files: &[&str], messages: usize) {
    let root = root().join(folder);
    let found: BTreeSet<String> = std::fs::read_dir(root)
        .unwrap()
        .flatten()
        .map(|file| file.file_name().to_str().unwrap().split('_').next().unwrap().to_owned())
        .collect();
    assert_eq!(found, files.iter().map(|file| (*file).to_owned()).collect());
    let count: usize = files.iter().map(|file| page(&format!("{folder}/{file}")).len()).sum();
    assert_eq!(count, messages, "every message of {folder} is read");
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/flows")
}

/// The messages of the one file whose name begins so.
pub fn page(file: &str) -> Vec<Message> {
    let (folder, start) = file.split_once('/').unwrap();
    let start = format!("{start}_");
    let mut files = std::fs::read_dir(root().join(folder)).unwrap().flatten();
    let found = files.find(|found| found.file_name().to_str().unwrap().starts_with(&start)).expect(file);
    messages_of(&std::fs::read_to_string(found.path()).unwrap())
}

/// The messages of a file: literal blocks of a YAML list, two columns in. Fields are unfolded, Content-Length is made right,
/// a body gets the type that its page forgot, and the words that stand for a URI or a number are one.
fn messages_of(text: &str) -> Vec<Message> {
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let blocks = text.join("\n");
    blocks.split("- |+\n").skip(1).filter_map(message_of).collect()
}

fn message_of(block: &str) -> Option<Message> {
    let lines: Vec<&str> = block.lines().map(|line| line.strip_prefix("  ").unwrap_or(line)).collect();
    let end_of_head = lines.iter().position(|line| line.is_empty()).unwrap_or(lines.len());
    let (head, body) = lines.split_at(end_of_head);
    let body: String = body.iter().skip(1).filter(|line| !line.is_empty()).flat_map(|line| [*line, "\r\n"]).collect();
    let mut text = String::new();
    for line in head {
        if line.starts_with([' ', '\t']) {
            text.truncate(text.trim_end().len());
            let _ = write!(text, " {}\r\n", line.trim());
        } else if !line.to_ascii_lowercase().starts_with("content-length") {
            let _ = write!(text, "{}\r\n", line.trim_end());
        }
    }
    if text.is_empty() {
        return None;
    }
    if !body.is_empty() && !text.to_ascii_lowercase().contains("content-type:") {
        text += "Content-Type: application/sdp\r\n";
    }
    let text = text
        .replace("(whatever URI)", "<sip:whatever@example.com>")
        .replace("(some different URI)", "<sip:different@example.com>")
        .replace("(depends on Refer-To URI)", "300")
        // RFC 4916 spells its users in two ways, which are two users (RFC 3261 §19.1.4).
        .replace("sip:Alice@", "sip:alice@")
        .replace("sip:Bob@", "sip:bob@");
    let text = format!("{text}Content-Length: {}\r\n\r\n{body}", body.len());
    Some(Message::parse(Bytes::from(text)).expect("a message of a flow parses"))
}
