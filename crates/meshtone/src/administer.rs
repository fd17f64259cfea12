//! `meshtone user`, `invite`, `authority` and `status`: ask the running node, or, for users, open the store when none runs.

use std::path::Path;

use hyper::Method;
use meshtone_node::Algorithm;
use meshtone_node::account::{Accounts, Changes, Credentials, system_random};
use meshtone_node::control::{
    AcmeStatus, AuthorityStatus, CertificateList, Contradiction, Heard, Invite, MediaUse, NewInvite, NewUser, PageKey,
    Sound, Status, TrunkStatus, Trust, TurnStatus, UserChanges, UserCredentials, UserList, UserRow, Warning,
};
use meshtone_node::enrol;
use meshtone_node::store::Store;

use crate::client::{Client, segment};
use crate::command::{AuthorityCommand, InviteOptions, Role, UserCommand};
use crate::failure::Failure;
use crate::output::{self, printable, table};

/// How many calls that are over are shown to people; `--json` has them all.
const SHOWN_FINISHED: usize = 5;

/// A request without a body.
pub(crate) const NOTHING: Option<&()> = None;

pub(crate) fn user(data: &Path, command: UserCommand) -> Result<(), Failure> {
    let client = Client::connect(data)?;
    match command {
        UserCommand::Add { user, number, digest, json } => {
            let added = match client {
                Some(client) => {
                    let digest = digest.iter().map(|algorithm| algorithm.token().to_owned()).collect();
                    client.ask(Method::POST, "/users", Some(&NewUser { user, number, digest }))?
                }
                None => {
                    let algorithms: Vec<_> = digest.iter().map(|algorithm| algorithm.algorithm()).collect();
                    shown(stopped(data)?.add_with(&user, number.as_deref(), &algorithms)?)
                }
            };
            show_credentials(&added, json)
        }
        UserCommand::Passwd { user, json } => {
            let changed = match client {
                Some(client) => client.ask(Method::POST, &format!("/users/{}/password", segment(&user)), NOTHING)?,
                None => shown(stopped(data)?.passwd(&user)?),
            };
            show_credentials(&changed, json)
        }
        UserCommand::Set { user, number, no_number, digest, any_digest, json } => {
            let number = number.map(Some).or(no_number.then_some(None));
            let digest = (any_digest || !digest.is_empty())
                .then(|| digest.iter().map(|algorithm| algorithm.algorithm()).collect::<Vec<_>>());
            let changed = match client {
                Some(client) => {
                    let tokens = |all: Vec<Algorithm>| all.iter().map(|one| one.as_str().to_owned()).collect();
                    let changes =
                        UserChanges { number: number.map(Option::unwrap_or_default), digest: digest.map(tokens) };
                    client.ask(Method::PATCH, &format!("/users/{}", segment(&user)), Some(&changes))?
                }
                None => UserRow::of(stopped(data)?.set(&user, &Changes { number, digest })?, None),
            };
            show_changed(&changed, json)
        }
        UserCommand::Remove { user } => {
            match client {
                Some(client) => client.ask(Method::DELETE, &format!("/users/{}", segment(&user)), NOTHING)?,
                None => stopped(data)?.remove(&user)?,
            }
            output::print(&format!("removed {user}"));
            Ok(())
        }
        UserCommand::List { json } => {
            let list = match client {
                Some(client) => client.ask(Method::GET, "/users", NOTHING)?,
                None => listed(&stopped(data)?),
            };
            show_users(&list, json)
        }
    }
}

pub(crate) fn invite(data: &Path, options: &InviteOptions) -> Result<(), Failure> {
    let client = running(data, "a ticket names the addresses of a running node")?;
    let (role, person) = (options.role.name().to_owned(), options.person.clone());
    let request = NewInvite { role, valid_s: options.valid.as_secs(), person };
    let invite: Invite = client.ask(Method::POST, "/invites", Some(&request))?;
    if options.json {
        return output::print_json(&invite);
    }
    let purpose = match options.role {
        Role::Home => format!("to serve {} as well", invite.domain),
        Role::Member => "for people with addresses of their own".to_owned(),
        Role::StoreOnly => "to store for the overlay, and serve nobody's phones".to_owned(),
        Role::Open => {
            let lines = [
                "For whoever likes to come, as often as you like; there is no secret in it. On any machine:",
                "",
                &format!("  meshtone run --join {}", invite.ticket),
                "",
                "Its node only uses what others store, and people enrol there by mail.",
            ];
            output::print(&lines.join("\n"));
            return Ok(());
        }
    };
    let lines = [
        format!("A ticket for one machine, {purpose}. On that machine:"),
        String::new(),
        format!("  meshtone run --join {}", invite.ticket),
        String::new(),
        format!("It works once, within {}; until then keep it secret.", lasting(options.valid.as_secs())),
    ];
    output::print(&lines.join("\n"));
    Ok(())
}

pub(crate) fn authority(data: &Path, command: &AuthorityCommand) -> Result<(), Failure> {
    let AuthorityCommand::List { json } = command;
    let client = running(data, "there is nobody to ask")?;
    let list: CertificateList = client.ask(Method::GET, "/authority/certificates", NOTHING)?;
    if *json {
        return output::print_json(&list);
    }
    if list.certificates.is_empty() {
        output::print("nobody has been certified yet; people type `meshtone enroll ADDRESS` at their node");
        return Ok(());
    }
    let now = unix_ms() / 1000;
    let rows = list.certificates.into_iter().map(|row| {
        let [issued, left] = [now.saturating_sub(row.issued), row.expires.saturating_sub(now)].map(lasting);
        let certificate = row.certificate.chars().take(16).collect();
        [row.address, format!("{issued} ago"), left, certificate]
    });
    output::print(&table(["address", "issued", "good for", "certificate"], &rows.collect::<Vec<_>>()));
    Ok(())
}

pub(crate) fn status(data: &Path, json: bool) -> Result<(), Failure> {
    let client = running(data, "there is nothing to show")?;
    let status: Status = client.ask(Method::GET, "/status", NOTHING)?;
    if json {
        return output::print_json(&status);
    }
    output::print(&status_text(&status));
    Ok(())
}

pub(crate) fn page(data: &Path, json: bool) -> Result<(), Failure> {
    let client = running(data, "it is the running node that has a page")?;
    let key: PageKey = client.ask(Method::POST, "/page/key", NOTHING)?;
    if json {
        return output::print_json(&key);
    }
    let valid = lasting(key.valid_s);
    let mut text =
        format!("Open this in a browser on the node's machine; it works once, within {valid}:\n\n  {}", key.url);
    if let Some(trust) = &key.trust {
        text.push_str(&format!("\n\n{}", trust_text(trust)));
    }
    output::print(&text);
    Ok(())
}

/// Who vouches for the page, and what to compare before a browser is told to trust that.
fn trust_text(trust: &Trust) -> String {
    let mut lines = Vec::new();
    if let Some(page) = &trust.page {
        lines.push(format!("page      {}", printable(&page.explanation)));
        lines.push(format!("          its fingerprint (SHA-256) {}", page.certificate.sha256));
    }
    lines.push(format!(
        "authority {} of this overlay; the page has its certificate at {}",
        printable(&trust.name),
        trust.file
    ));
    lines.push(format!("          its fingerprint (SHA-256) {}", trust.sha256));
    lines.join("\n")
}

/// How asking for a certificate that browsers believe stands.
fn acme_text(acme: &AcmeStatus) -> String {
    let names = acme.names.join(", ");
    let now_s = unix_ms() / 1000;
    let until = acme.certified_until.map(|until| lasting(until.saturating_sub(now_s)));
    let so_far =
        until.map_or_else(|| "there is none yet".to_owned(), |left| format!("the one there is ends in {left}"));
    match &acme.reason {
        Some(reason) => format!(
            "acme      no certificate for {names} from {} for {}: {}; {so_far}\n\
             hint: the name has to lead here by DNS, and port 443 (or 80) there to a listener of the page (--wss, --ws)",
            acme.directory,
            lasting(acme.failing_for_s.unwrap_or_default()),
            printable(reason)
        ),
        None => format!("acme      {names} from {}; {so_far}", acme.directory),
    }
}

pub(crate) fn running(data: &Path, why: &str) -> Result<Client, Failure> {
    Client::connect(data)?.ok_or_else(|| {
        Failure::new(
            format!("no node runs on {}: {why}", data.display()),
            "start it with `meshtone run`, or name its folder with --data",
        )
    })
}

/// The account table of a node that does not run.
fn stopped(data: &Path) -> Result<Accounts, Failure> {
    let nobody = || {
        Failure::new(
            format!("there is no node in {} yet", data.display()),
            "start one with `meshtone run`, or name its folder with --data",
        )
    };
    // Opening a store makes one; here that would only hide a mistyped path.
    if !data.join("version").exists() {
        return Err(nobody());
    }
    let store = Store::open(data)?;
    let (domain, node) = enrol::enrolled(&store)?.ok_or_else(nobody)?;
    Ok(Accounts::open(store, &domain, node, unix_ms, system_random())?)
}

pub(crate) fn unix_ms() -> u64 {
    let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

fn shown(credentials: Credentials) -> UserCredentials {
    let Credentials { user, domain, number, password } = credentials;
    UserCredentials { user, domain, password: password.reveal().to_owned(), number, server: None, warning: None }
}

fn listed(accounts: &Accounts) -> UserList {
    let users = accounts.list().into_iter().map(|account| UserRow::of(account, None)).collect();
    UserList { domain: accounts.domain().to_owned(), users }
}

pub(crate) fn show_credentials(credentials: &UserCredentials, json: bool) -> Result<(), Failure> {
    warn(credentials.warning.as_ref());
    if json {
        return output::print_json(credentials);
    }
    let UserCredentials { user, domain, password, number, server, warning: _ } = credentials;
    let server = server.as_deref().unwrap_or("this machine's address, port 5060 unless you chose another");
    // A person with an address of her own is a user by all of it.
    let (address, domain) = match user.rsplit_once('@') {
        Some((_, own)) => (user.clone(), own),
        None => (format!("{user}@{domain}"), domain.as_str()),
    };
    let mut lines = vec![
        "Type this into a phone; the password is shown this once:".to_owned(),
        String::new(),
        format!("  address:  sip:{address}"),
        format!("  user:     {user}"),
        format!("  password: {password}"),
        format!("  domain:   {domain}"),
        format!("  server:   {server} (outbound proxy, UDP or TCP)"),
    ];
    if let Some(number) = number {
        lines.push(format!("  number:   {number}"));
    }
    output::print(&lines.join("\n"));
    Ok(())
}

fn show_changed(changed: &UserRow, json: bool) -> Result<(), Failure> {
    warn(changed.warning.as_ref());
    if json {
        return output::print_json(changed);
    }
    let number = changed.number.as_ref().map_or("no number".to_owned(), |number| format!("number {number}"));
    output::print(&format!("changed {}: {number}, digest {}", changed.user, digest_of(changed)));
    Ok(())
}

/// Tells what will not work: on standard error, so that what a program reads stays what it expects.
fn warn(warning: Option<&Warning>) {
    if let Some(Warning { warning, hint }) = warning {
        output::warn(warning, hint);
    }
}

fn digest_of(row: &UserRow) -> String {
    if row.digest.is_empty() { "any".to_owned() } else { row.digest.join(" ").to_lowercase() }
}

fn show_users(list: &UserList, json: bool) -> Result<(), Failure> {
    if json {
        return output::print_json(list);
    }
    if list.users.is_empty() {
        output::print(&format!("{} has no users yet; add one with `meshtone user add NAME`", list.domain));
        return Ok(());
    }
    let rows: Vec<[String; 4]> = list
        .users
        .iter()
        .map(|row| {
            let address = format!("sip:{}@{}", row.user, list.domain);
            [row.user.clone(), row.number.clone().unwrap_or_default(), digest_of(row), address]
        })
        .collect();
    output::print(&table(["user", "number", "digest", "address"], &rows));
    Ok(())
}

/// How much media runs through the node; nothing as long as none does and none was refused.
fn media_text(media: &MediaUse) -> Option<String> {
    let MediaUse { ports, most_ports, converted, most_converted, refused } = *media;
    let used = format!("media     {ports} of {most_ports} pairs of ports, {converted} of {most_converted} conversions");
    match refused {
        0 => (ports > 0).then_some(used),
        1.. => Some(format!(
            "{used}; calls refused since the start: {refused}\n\
             hint: the log says whose; `streams_per_user` and `converted_calls` of [media] and `rtp_ports` set how many there may be"
        )),
    }
}

fn status_text(status: &Status) -> String {
    let records: Vec<String> = status.records.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let mut sections = vec![
        [
            format!("node      {}", status.node),
            format!("overlay   {}", status.overlay),
            format!("domain    {}", status.domain),
            format!("version   {}, up for {}", status.version, lasting(status.uptime_s)),
            format!("accounts  {} (table {})", status.accounts.users, status.accounts.version),
            format!("records   {}", if records.is_empty() { "none".to_owned() } else { records.join(", ") }),
            format!("known     {} nodes of the overlay", status.overlay_nodes_known),
            format!("role      {}", role(status)),
            format!("network   {}", network(status)),
            format!("peer      {}", status.peer.join("\n          ")),
        ]
        .join("\n"),
    ];
    if status.revoked {
        sections.push(
            "revoked   the overlay's authority has taken this node's certificates back: no other node speaks to it\n\
             hint: ask whoever runs the overlay; with a fresh ticket the machine joins again, with a fresh folder named by --data"
                .to_owned(),
        );
    }
    for change in &status.key_changes {
        let ago = lasting((unix_ms() / 1000).saturating_sub(change.changed));
        sections.push(format!(
            "new key   {} proved the mailbox anew {ago} ago, and has another key since\n\
             hint: if that person did not, somebody else reads those mails: tell them by another way",
            printable(&change.address)
        ));
    }
    if let Some(reason) = &status.renewal_failing {
        let left = lasting(status.certified_until.saturating_sub(unix_ms() / 1000));
        sections.push(format!(
            "renewal   this node's certificates end in {left} and could not be renewed: {}\n\
             hint: the node that founded the overlay has to run; without certificates no other node speaks to this one",
            printable(reason)
        ));
    }
    if let Some(search) = &status.search {
        let (since, attempts) = (lasting(search.since_s), search.attempts);
        sections.push(format!(
            "no link   for {since}, {attempts} dials in vain: {}\ntried     {}",
            search.reason, search.tried
        ));
    }
    sections.extend(media_text(&status.media));
    sections.extend(clock_text(status.clock_behind_ms));
    sections.extend(status.authority.as_ref().map(authority_text));
    sections.extend(status.trust.as_ref().map(trust_text));
    sections.extend(status.acme.as_ref().map(acme_text));
    sections.extend(status.contradictions.iter().map(contradiction_text));
    let links: Vec<[String; 4]> = status
        .links
        .iter()
        .map(|link| {
            let node = link.node.chars().take(8).collect();
            [node, link.path.clone(), format!("{:.1} ms", link.rtt_ms), link.domains.join(" ")]
        })
        .collect();
    sections.push(section("links", ["node", "path", "round trip", "domains"], &links));
    let registrations: Vec<[String; 4]> = status
        .registrations
        .iter()
        .map(|row| [printable(&row.address), printable(&row.contact), row.transport.clone(), lasting(row.expires_s)])
        .collect();
    sections.push(section("registrations", ["address", "contact", "over", "expires in"], &registrations));
    let calls: Vec<[String; 5]> = status
        .calls
        .iter()
        .map(|call| {
            let sound = call.sound.as_ref().map_or_else(|| "not through this node".to_owned(), sound_text);
            [printable(&call.from), printable(&call.to), call.state.clone(), lasting(call.since_s), sound]
        })
        .collect();
    sections.push(section("calls", ["from", "to", "state", "since", "sound"], &calls));
    if !status.finished_calls.is_empty() {
        let rows: Vec<[String; 5]> = status
            .finished_calls
            .iter()
            .rev()
            .take(SHOWN_FINISHED)
            .map(|call| {
                let (from, to) = (printable(&call.from), printable(&call.to));
                [from, to, format!("{} ago", lasting(call.ended_s)), lasting(call.lasted_s), sound_text(&call.sound)]
            })
            .collect();
        sections.push(section("calls that were carried", ["from", "to", "ended", "lasted", "sound"], &rows));
    }
    sections.extend(status.turn.as_ref().map(turn_text));
    if !status.trunks.is_empty() {
        sections.push(trunks_text(&status.trunks));
    }
    if !status.second_stage.is_empty() {
        let state = |answers| if answers { "answers" } else { "silent: its users go to others" };
        let servers = status.second_stage.iter().map(|row| [row.server.clone(), state(row.answers).to_owned()]);
        sections.push(section("servers behind", ["server", "state"], &servers.collect::<Vec<_>>()));
    }
    sections.join("\n\n")
}

/// Where the sound runs, how it is protected on the way, and how it arrives.
fn sound_text(sound: &Sound) -> String {
    let heard = |heard: &Option<Heard>| {
        let Some(heard) = heard else { return "nothing".to_owned() };
        let codec = heard.codec.as_deref().map(|codec| format!("{codec}, ")).unwrap_or_default();
        let round_trip = heard.round_trip_ms.map(|time| format!(", round trip {time:.0} ms")).unwrap_or_default();
        let (mos, loss, jitter) = (heard.mos, heard.loss_percent, heard.jitter_ms);
        format!("MOS {mos:.1} ({codec}{loss:.1} % lost, jitter {jitter:.0} ms{round_trip})")
    };
    let protection = |name: &str| match name {
        "sdes" => "SRTP (SDES)",
        "dtls" => "SRTP (DTLS)",
        "link" => "another node, encrypted",
        _ => "unprotected",
    };
    format!(
        "caller {}, hears {}; callee {}, hears {}",
        protection(&sound.protection_of_caller),
        heard(&sound.heard_by_caller),
        protection(&sound.protection_of_callee),
        heard(&sound.heard_by_callee),
    )
}

fn contradiction_text(found: &Contradiction) -> String {
    let (writer, kind, name) = (&found.writer, &found.kind, printable(&found.name));
    format!(
        "evidence  node {writer} signed two different records ({kind}) for {name} of the same moment\n\
         hint: its key is used by two machines, its clock was set back, or it lies; `meshtone status --json` has both records for its operator"
    )
}

/// Says that the clock is off, when it is by more than other nodes put up with for long.
fn clock_text(behind_ms: i64) -> Option<String> {
    let off_s = behind_ms.unsigned_abs() / 1000;
    let way = if behind_ms < 0 { "ahead of" } else { "behind" };
    let text = format!(
        "clock     {} {way} those of most neighbours\nhint: synchronise this machine's clock (NTP)",
        lasting(off_s)
    );
    (off_s > 30).then_some(text)
}

/// Whom the authority certifies, and whether its mails leave.
fn authority_text(authority: &AuthorityStatus) -> String {
    let people = match authority.certificates {
        1 => "1 person's certificate".to_owned(),
        count => format!("{count} certificates of people"),
    };
    let mut lines = vec![format!("authority here, policy {}; {people}", authority.policy)];
    let Some(mail) = &authority.mail else {
        lines.push("mail      no mail server is configured, so nobody can prove an address".to_owned());
        return lines.join("\n");
    };
    let waits = if mail.waiting == 0 { String::new() } else { format!("; {} wait", mail.waiting) };
    let (server, reason) = (printable(&mail.server), mail.reason.as_deref().map(printable));
    lines.push(match (mail.state.as_str(), reason) {
        (_, Some(reason)) => {
            let since = mail.failing_for_s.map_or_else(String::new, |since| format!(" for {}", lasting(since)));
            format!("mail      failing{since}: {reason}{waits}")
        }
        ("ready", None) => format!("mail      leaves by {server}{waits}"),
        (_, None) => format!("mail      the mail server {server} is being greeted{waits}"),
    });
    lines.extend(mail.hint.as_deref().map(|hint| format!("hint: {}", printable(hint))));
    if let (Some(said), Some(ago)) = (&mail.refused, mail.refused_ago_s) {
        lines.push(format!("          a mail was refused {} ago: {}", lasting(ago), printable(said)));
    }
    lines.join("\n")
}

fn network(status: &Status) -> String {
    let of_relay = |relay: &meshtone_node::control::RelayUsed| {
        let rtt = relay.rtt_ms.map_or_else(String::new, |rtt| format!(", {rtt:.1} ms"));
        let state = if relay.is_connected { "" } else { ", not connected" };
        format!("{}{rtt}{state}", relay.node)
    };
    let mut lines = vec![format!("{} (`meshtone netcheck` says what that means)", status.network.class)];
    if let Some(relay) = &status.relay {
        lines.push(format!("a relay for {} others, {} MB passed on", relay.clients, relay.carried / 1_000_000));
    }
    if !status.relays.is_empty() {
        let relays: Vec<String> = status.relays.iter().map(of_relay).collect();
        lines.push(format!("reached through the relays of {}", relays.join("; ")));
    }
    lines.join("\n          ")
}

fn role(status: &Status) -> String {
    let (role, why) = (&status.role, printable(&status.role.why));
    let mut text = match (role.serves, status.nodes_served) {
        (false, _) => format!("ordinary: it holds and forwards nothing for others, {why}"),
        (true, 0) => format!("serving: it holds and forwards for others, {why}"),
        (true, served) => {
            format!("serving: it holds and forwards for others, {why}; {served} of them are ordinary nodes")
        }
    };
    if let Some(test) = &role.reached {
        let place = test.address.map(|address| format!(" at {address}")).unwrap_or_default();
        text += &format!(
            "\ntested    {} ago: {} of {} others could reach it{place}",
            lasting(test.ago_s),
            test.reached,
            test.dialled
        );
        if test.reached * 2 < test.dialled {
            text += "\nhint: for it to serve, let UDP through to its --link port from outside; it works without";
        }
    }
    text
}

/// Who is relayed, and where.
fn turn_text(turn: &TurnStatus) -> String {
    let places: Vec<String> = turn.listeners.iter().map(|one| format!("{} {}", one.over, one.at)).collect();
    let rows: Vec<[String; 2]> =
        turn.users.iter().map(|row| [printable(&row.user), row.allocations.to_string()]).collect();
    let mut text = section("relayed by TURN", ["user", "allocations"], &rows);
    text += &format!("\n{} at {}; {} relayed", turn.state, places.join(", "), size(turn.relayed_bytes));
    if turn.held_back_bytes > 0 {
        text += &format!(", {} dropped beyond somebody's share", size(turn.held_back_bytes));
    }
    if turn.peer_connections > 0 {
        text += &format!(", {} connections with peers", turn.peer_connections);
    }
    if turn.refused > 0 {
        text += &format!(", {} requests refused", turn.refused);
    }
    if turn.state != "relaying" {
        text += "\nhint: look at the node's log, and start it anew";
    }
    text
}

/// So many bytes, for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

fn trunks_text(trunks: &[TrunkStatus]) -> String {
    let rows: Vec<[String; 4]> = trunks
        .iter()
        .map(|trunk| {
            let state = match (trunk.registered_for_s, trunk.failing_for_s) {
                (_, Some(since)) => format!("failing for {}", lasting(since)),
                (Some(left), None) => format!("registered for {}", lasting(left)),
                (None, None) => trunk.state.clone(),
            };
            let calls = format!("{} of {}", trunk.calls, trunk.max_calls);
            [printable(&trunk.name), printable(&trunk.server), state, calls]
        })
        .collect();
    let mut text = section("trunks", ["name", "server", "state", "calls"], &rows);
    for trunk in trunks {
        if let Some(reason) = &trunk.reason {
            text.push_str(&format!("\n{}: {}", printable(&trunk.name), printable(reason)));
        }
        if let Some(hint) = &trunk.hint {
            text.push_str(&format!("\nhint: {}", printable(hint)));
        }
    }
    text
}

fn section<const N: usize>(name: &str, headings: [&str; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() { format!("{name}: none") } else { format!("{name}: {}\n{}", rows.len(), table(headings, rows)) }
}

/// A length of time in its two largest units.
pub(crate) fn lasting(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let parts = [(days, "d"), (hours, "h"), (minutes, "min"), (seconds % 60, "s")];
    let largest = parts.iter().skip_while(|(count, _)| *count == 0).take(2);
    let text: Vec<String> =
        largest.filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count} {unit}")).collect();
    if text.is_empty() { "0 s".to_owned() } else { text.join(" ") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use meshtone_node::control::{self, AccountsStatus, KeyChange, MailStatus, Registration, Search, ServerStatus};

    use super::*;

    #[test]
    fn times_are_told_in_their_two_largest_units() {
        let told = [0, 59, 3600, 3661, 90_061].map(lasting);
        assert_eq!(told, ["0 s", "59 s", "1 h", "1 h 1 min", "1 d 1 h"]);
    }

    fn trust() -> Trust {
        #[allow(clippy::unwrap_used)]
        serde_json::from_value(serde_json::json!({
            "name": "Meshtone authority", "overlay": "0verlay", "sha256": "AB:CD", "starts": 1, "expires": 2, "file": "/authority.crt",
            "page": { "from": "authority", "explanation": "The overlay's authority vouches.", "name": "x", "issuer": "y", "sha256": "12:34",
                      "starts": 1, "expires": 2 },
        }))
        .unwrap()
    }

    #[test]
    fn whoever_is_to_trust_the_authority_is_told_where_it_is_and_what_to_compare() {
        let text = trust_text(&trust());
        for word in ["The overlay's authority vouches.", "12:34", "/authority.crt", "AB:CD"] {
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn the_status_names_what_there_is_and_what_there_is_not() {
        let status = Status {
            node: "n0de".to_owned(),
            overlay: "0verlay".to_owned(),
            domain: "example.org".to_owned(),
            version: "0.1.0".to_owned(),
            uptime_s: 61,
            links: vec![],
            turn: None,
            trust: Some(trust()),
            acme: Some(AcmeStatus {
                directory: "https://acme.example".to_owned(),
                names: vec!["mesh.example".to_owned()],
                state: "failing".to_owned(),
                certified_until: None,
                failing_for_s: Some(61),
                reason: Some("not\u{1b} found".to_owned()),
            }),
            registrations: vec![Registration {
                address: "bob@example.org".to_owned(),
                contact: "sip:bob\u{1b}@192.0.2.1".to_owned(),
                transport: "tcp".to_owned(),
                expires_s: 600,
                q: 1.0,
            }],
            revoked: true,
            key_changes: vec![KeyChange { address: "al\u{1b}ice@example.net".to_owned(), changed: unix_ms() / 1000 }],
            certified_until: unix_ms() / 1000 + 86_400,
            renewal_failing: Some("the authority's node is not reached".to_owned()),
            calls: vec![control::Call {
                call_id: "x".to_owned(),
                from: "sip:alice\u{1b}@example.org".to_owned(),
                to: "sip:bob@example.org".to_owned(),
                state: "established".to_owned(),
                since_s: 61,
                sound: Some(Sound {
                    heard_by_caller: Some(Heard {
                        codec: Some("PCMU".to_owned()),
                        loss_percent: 5.04,
                        jitter_ms: 40.2,
                        round_trip_ms: Some(80.3),
                        mos: 3.21,
                        reported_mos: None,
                    }),
                    heard_by_callee: None,
                    protection_of_caller: "sdes".to_owned(),
                    protection_of_callee: "none".to_owned(),
                }),
            }],
            finished_calls: vec![],
            media_between: meshtone_node::control::MediaBetween::default(),
            media: MediaUse { refused: 2, most_ports: 2048, ..MediaUse::default() },
            trunks: vec![TrunkStatus {
                name: "provider".to_owned(),
                server: "sip:sip.example".to_owned(),
                state: "failing".to_owned(),
                registered_for_s: None,
                failing_for_s: Some(61),
                reason: Some("no server of the provider answers".to_owned()),
                hint: Some("check `server`".to_owned()),
                calls: 1,
                max_calls: 4,
            }],
            second_stage: vec![ServerStatus { server: "udp 192.0.2.10:5060".to_owned(), answers: false }],
            records: BTreeMap::from([("certificate".to_owned(), 2)]),
            accounts: AccountsStatus { users: 4, version: "ab12".to_owned() },
            role: meshtone_node::control::Role {
                serves: true,
                why: "since only 3 others do".to_owned(),
                others: Some(3),
                reached: Some(meshtone_node::control::Reached {
                    dialled: 3,
                    reached: 1,
                    address: "192.0.2.7:6084".parse().ok(),
                    ago_s: 120,
                }),
            },
            relay: None,
            relays: Vec::new(),
            network: Default::default(),
            nodes_served: 2,
            sip: Vec::new(),
            sips: Vec::new(),
            peer: vec!["0123@192.0.2.7:6084".to_owned(), "0123@198.51.100.7:6084".to_owned()],
            overlay_nodes_known: 3,
            clock_behind_ms: -90_000,
            contradictions: vec![Contradiction {
                writer: "l1ar".to_owned(),
                kind: "registration".to_owned(),
                name: "bob\u{1b}@example.org".to_owned(),
                stored_ms: 1,
                found_ms: 2,
                records: ["a1".to_owned(), "b2".to_owned()],
            }],
            search: Some(Search {
                since_s: 70,
                attempts: 9,
                reason: "no answer in time".to_owned(),
                tried: "the local network".to_owned(),
            }),
            authority: Some(AuthorityStatus {
                policy: "invite".to_owned(),
                certificates: 3,
                mail: Some(MailStatus {
                    server: "mail.example.org:587".to_owned(),
                    state: "failing".to_owned(),
                    waiting: 2,
                    failing_for_s: Some(61),
                    reason: Some("the mail server refuses our user name and password: 535\u{1b}".to_owned()),
                    hint: Some("check `user`".to_owned()),
                    refused: Some("550 no such user".to_owned()),
                    refused_ago_s: Some(3600),
                }),
            }),
        };
        let text = status_text(&status);
        for part in [
            "n0de",
            "example.org",
            "up for 1 min 1 s",
            "2 certificate",
            "links: none",
            "caller SRTP (SDES), hears MOS 3.2 (PCMU, 5.0 % lost, jitter 40 ms, round trip 80 ms); callee unprotected, hears nothing",
            "silent: its users go to others",
            "bob@example.org",
            "10 min",
            "node l1ar signed two different records",
            "clock     1 min 30 s ahead of",
            "role      serving: it holds and forwards for others, since only 3 others do; 2 of them are ordinary nodes",
            "tested    2 min ago: 1 of 3 others could reach it at 192.0.2.7:6084\nhint: for it to serve, let UDP through",
            "9 dials in vain: no answer in time\ntried     the local network",
            "peer      0123@192.0.2.7:6084\n          0123@198.51.100.7:6084\n",
            "authority here, policy invite; 3 certificates of people\nmail      failing for 1 min 1 s: the mail server refuses",
            "; 2 wait\nhint: check `user`\n          a mail was refused 1 h ago: 550 no such user",
            "failing for 1 min 1 s",
            "1 of 4",
            "provider: no server of the provider answers\nhint: check `server`",
        ] {
            assert!(text.contains(part), "{part:?} is missing in {text}");
        }
        assert!(!text.contains('\u{1b}'), "a phone's contact must not drive the terminal");
    }
}
