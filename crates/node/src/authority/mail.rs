//! The mails with codes: submission to a mail server (RFC 6409) over TLS (RFC 3207, RFC 8314), and what is in them (RFC 5322).
//!
//! One task sends what [`Outbox`] says is due. Addresses come in their one written form (`meshtone_identity::address`), in which
//! nothing can end a line or a header field.

use std::error::Error;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{AsyncSmtpTransport, Error as SmtpError};
use lettre::{Address, AsyncTransport, Message, Tokio1Executor};
use meshtone_identity::NodeId;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::Page;
use super::code::Code;
use super::outbox::{Next, Outbox, Waiting};
use crate::clock::unix_ms;

/// A mail server that has not taken a mail by then is as good as down (RFC 5321 §4.5.3.2 would wait longer, for slow lists).
const SEND_WITHIN: Duration = Duration::from_secs(60);

/// How the way to the mail server is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// STARTTLS, without which nothing is sent (RFC 3207).
    StartTls,
    /// TLS from the first byte (RFC 8314 §3).
    Tls,
    /// Not at all: for a server on this machine.
    None,
}

/// What the configuration says of the mail server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailSettings {
    /// Its host name or address; its certificate has to say so.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the way there is protected.
    pub security: Security,
    /// Name and password of our account there, where it asks for them.
    pub account: Option<(String, Password)>,
    /// Whom the mails are from: `Meshtone <meshtone@example.org>`.
    pub from: String,
    /// The authorities that vouch for the server, PEM, instead of the usual ones.
    pub authorities: Option<Vec<u8>>,
}

/// The password at the mail server.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(…)")
    }
}

/// Why mails cannot be sent with these settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MailSettingsError {
    /// The sender.
    #[error("`from` is no sender of mails")]
    From,
    /// The certificates.
    #[error("`ca_file` holds no certificates (PEM)")]
    Authorities,
    /// A way that anybody could listen at.
    #[error("`tls = \"none\"` would show codes and the password to everybody on the way")]
    Unprotected,
}

impl MailSettingsError {
    /// What the user can do about it.
    pub fn hint(self) -> &'static str {
        match self {
            MailSettingsError::From => "for example \"Meshtone <meshtone@example.org>\"",
            MailSettingsError::Authorities => "name a PEM file with the certificate that vouches for the mail server",
            MailSettingsError::Unprotected => {
                "use \"starttls\" or \"tls\"; \"none\" is for a server on this machine, such as 127.0.0.1:25"
            }
        }
    }
}

impl MailSettings {
    /// Whether mails can be sent so, as far as that can be told without the server.
    ///
    /// # Errors
    /// [`MailSettingsError`].
    pub fn check(&self) -> Result<(), MailSettingsError> {
        self.sender()?;
        self.transport().map(|_| ())
    }

    fn sender(&self) -> Result<Mailbox, MailSettingsError> {
        self.from.parse().map_err(|_| MailSettingsError::From)
    }

    fn transport(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, MailSettingsError> {
        let parameters = || {
            let mut builder = TlsParameters::builder(self.host.clone());
            if let Some(pem) = &self.authorities {
                use lettre::transport::smtp::client::CertificateStore;
                let has_some = pem.windows(BEGIN.len()).any(|part| part == BEGIN);
                let authorities = Certificate::from_pem(pem).ok().filter(|_| has_some);
                let authorities = authorities.ok_or(MailSettingsError::Authorities)?;
                builder = builder.certificate_store(CertificateStore::None).add_root_certificate(authorities);
            }
            builder.build().map_err(|_| MailSettingsError::Authorities)
        };
        let tls = match self.security {
            Security::StartTls => Tls::Required(parameters()?),
            Security::Tls => Tls::Wrapper(parameters()?),
            Security::None if is_this_machine(&self.host) => Tls::None,
            Security::None => return Err(MailSettingsError::Unprotected),
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.host)
            .port(self.port)
            .tls(tls)
            .timeout(Some(SEND_WITHIN));
        if let Some((user, password)) = &self.account {
            builder = builder.credentials(Credentials::new(user.clone(), password.0.clone()));
        }
        Ok(builder.build())
    }
}

/// How a certificate in PEM begins.
const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";

fn is_this_machine(host: &str) -> bool {
    let ip = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// A code on its way to whom it is for.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub(super) address: String,
    pub(super) code: Code,
    /// The node that asked.
    pub(super) node: NodeId,
    /// When it was asked, in unix seconds.
    pub(super) asked: u64,
}

/// How the way to the mail server stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MailStanding {
    /// `host:port`
    pub(crate) server: String,
    /// Whether it has taken a mail or at least greeted us, since the last trouble.
    pub(crate) is_ready: bool,
    /// Mails that wait.
    pub(crate) waiting: usize,
    /// Since when it does not work (unix milliseconds), why, and what to do.
    pub(crate) trouble: Option<(u64, String, &'static str)>,
    /// What the server said when it refused a mail for good, and when.
    pub(crate) refused: Option<(u64, String)>,
}

/// Sends letters.
pub(super) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    sender: Mailbox,
    server: String,
    /// The overlay's domain, for the text.
    domain: String,
    /// Where the node's page is.
    page: Option<Page>,
    state: Mutex<State>,
    wake: Notify,
}

#[derive(Default)]
struct State {
    outbox: Outbox<Letter>,
    is_ready: bool,
    trouble: Option<(u64, String, &'static str)>,
    refused: Option<(u64, String)>,
}

impl Mailer {
    pub(super) fn new(settings: &MailSettings, domain: &str, page: Option<Page>) -> Result<Mailer, MailSettingsError> {
        Ok(Mailer {
            transport: settings.transport()?,
            sender: settings.sender()?,
            server: format!("{}:{}", settings.host, settings.port),
            domain: domain.to_owned(),
            page,
            state: Mutex::default(),
            wake: Notify::new(),
        })
    }

    /// Puts a letter into the outbox; until when it is of use, in unix seconds.
    pub(super) fn push(&self, letter: Letter, until: u64) {
        let address = masked(&letter.address);
        let is_taken = self.state().outbox.push(letter, unix_ms(), until.saturating_mul(1000));
        if is_taken {
            tracing::info!(address, "a code goes out by mail");
            self.wake.notify_one();
        } else {
            tracing::warn!(address, "no code is mailed: too many mails wait for the mail server");
        }
    }

    pub(super) fn standing(&self) -> MailStanding {
        let state = self.state();
        MailStanding {
            server: self.server.clone(),
            is_ready: state.is_ready,
            waiting: state.outbox.waiting(),
            trouble: state.trouble.clone(),
            refused: state.refused.clone(),
        }
    }

    /// Sends what is due, until the node stops. Begins with a greeting, so that a wrong setting shows before somebody waits for a mail.
    pub(super) async fn run(&self) {
        while let Err(trouble) = self.greet().await {
            let again = self.state().outbox.on_server_failed(None, unix_ms());
            self.on_trouble(trouble);
            sleep(Duration::from_millis(again.saturating_sub(unix_ms()))).await;
        }
        self.on_success();
        loop {
            let next = self.state().outbox.next(unix_ms());
            match next {
                Next::Send(waiting) => self.send(waiting).await,
                Next::At(at_ms) => {
                    let pause = Duration::from_millis(at_ms.saturating_sub(unix_ms()));
                    let _ = timeout(pause, self.wake.notified()).await;
                }
                Next::Nothing => self.wake.notified().await,
            }
        }
    }

    async fn greet(&self) -> Result<(), Trouble> {
        match timeout(SEND_WITHIN, self.transport.test_connection()).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(self.silent()),
            Ok(Err(error)) => Err(self.trouble(&error)),
            Err(_) => Err(self.silent()),
        }
    }

    async fn send(&self, waiting: Waiting<Letter>) {
        let letter = &waiting.mail;
        let address = letter.address.clone();
        let Some(message) = self.message(letter) else {
            return tracing::debug!(address = masked(&address), "no mail can be written to this address");
        };
        let failed = match timeout(SEND_WITHIN, self.transport.send(message)).await {
            Ok(Ok(_)) => {
                tracing::debug!(address = masked(&address), "the mail server has taken a mail");
                return self.on_success();
            }
            Ok(Err(error)) => Some(error),
            Err(_) => None,
        };
        let now_ms = unix_ms();
        let Some(error) = failed else {
            self.state().outbox.on_server_failed(Some(waiting), now_ms);
            return self.on_trouble(self.silent());
        };
        match Failed::of(&error) {
            Failed::Server => {
                self.state().outbox.on_server_failed(Some(waiting), now_ms);
                self.on_trouble(self.trouble(&error));
            }
            Failed::Deferred => {
                tracing::debug!(address = masked(&address), "the mail server will take a mail later");
                self.on_success();
                self.state().outbox.on_deferred(waiting, now_ms);
            }
            Failed::Refused => {
                // What the server says may repeat the address.
                let said = error.to_string().replace(&address, &masked(&address));
                tracing::warn!(server = self.server, said, "the mail server refused a mail");
                self.on_success();
                self.state().refused = Some((now_ms, said));
            }
        }
    }

    fn on_success(&self) {
        let mut state = self.state();
        state.outbox.on_success();
        state.is_ready = true;
        if state.trouble.take().is_some() {
            tracing::info!(server = self.server, "the mail server works again");
        }
    }

    fn on_trouble(&self, Trouble { text, hint }: Trouble) {
        let mut state = self.state();
        state.is_ready = false;
        let since_ms = state.trouble.as_ref().map(|(since_ms, ..)| *since_ms);
        if since_ms.is_none() {
            tracing::warn!(hint, "{text}");
        }
        state.trouble = Some((since_ms.unwrap_or_else(unix_ms), text, hint));
    }

    fn silent(&self) -> Trouble {
        Trouble { text: format!("the mail server {} does not answer in time", self.server), hint: UNREACHED }
    }

    fn trouble(&self, error: &SmtpError) -> Trouble {
        let (server, said) = (&self.server, error.to_string());
        if is_about_account(error) {
            let text = format!("the mail server {server} refuses our user name and password: {said}");
            return Trouble { text, hint: "check `user` and `password_file` in [authority.mail]" };
        }
        match (tls_error(error), error.is_client()) {
            (Some(rustls::Error::InvalidCertificate(_)), _) => {
                let text = format!("the mail server {server} does not prove who it is: {said}");
                let hint = certificate_hint(&text);
                Trouble { text, hint }
            }
            (Some(_), _) | (None, true) => {
                let text = format!("the mail server {server} does not speak as it should: {said}");
                let hint = "check `tls` in [authority.mail]: \"starttls\" is common at port 587, \"tls\" at port 465";
                Trouble { text, hint }
            }
            (None, false) => {
                Trouble { text: format!("the mail server {server} does not take mails now: {said}"), hint: UNREACHED }
            }
        }
    }

    /// Writes a letter; `None` for an address that no mail can have.
    fn message(&self, letter: &Letter) -> Option<Message> {
        let to: Address = letter.address.parse().ok()?;
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).ok()?;
        let id = format!("<{}@{}>", data_encoding::HEXLOWER.encode(&id), self.sender.email.domain());
        let by_machine = HeaderName::new_from_ascii_str("Auto-Submitted");
        Message::builder()
            .from(self.sender.clone())
            .to(Mailbox::new(None, to))
            .subject(format!("Your code for {}", self.domain))
            .date(UNIX_EPOCH + Duration::from_secs(letter.asked))
            .message_id(Some(id))
            // RFC 3834 §5: nobody's holiday notice shall answer.
            .raw_header(HeaderValue::new(by_machine, "auto-generated".to_owned()))
            .header(ContentType::TEXT_PLAIN)
            .body(text(letter, &self.domain, self.page.as_ref()))
            .ok()
    }

    /// Takes the next letter out, instead of sending it.
    #[cfg(test)]
    pub(super) fn take(&self) -> Option<Letter> {
        match self.state().outbox.next(unix_ms()) {
            Next::Send(waiting) => Some(waiting.mail),
            Next::At(_) | Next::Nothing => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const UNREACHED: &str = "check `server` in [authority.mail], and whether it runs; mails wait meanwhile, for as long as their codes are good";

/// What to do about a certificate that proves nothing.
fn certificate_hint(text: &str) -> &'static str {
    // What the verifier calls a certificate with CA:TRUE at the place of a server's.
    if text.contains("CaUsedAsEndEntity") {
        "its certificate says that it is an authority's (CA:TRUE), as `openssl req -x509` makes them: make one with `-addext basicConstraints=critical,CA:FALSE`"
    } else {
        "`server` has to be the name in its certificate; for a private authority give `ca_file`"
    }
}

/// What a person is told when mails do not leave.
struct Trouble {
    text: String,
    hint: &'static str,
}

/// What an error means for the mail.
#[derive(Debug, PartialEq, Eq)]
enum Failed {
    /// No mail leaves now.
    Server,
    /// This mail may leave later.
    Deferred,
    /// This mail will not be taken.
    Refused,
}

impl Failed {
    fn of(error: &SmtpError) -> Failed {
        let code = error.status().map(u16::from);
        match code {
            // It closes, or lacks TLS or our account for now (RFC 5321 §4.2.3, RFC 3207 §4, RFC 4954 §6).
            Some(421 | 432 | 454) => Failed::Server,
            Some(_) if is_about_account(error) => Failed::Server,
            Some(400..=499) => Failed::Deferred,
            Some(_) => Failed::Refused,
            None => Failed::Server,
        }
    }
}

/// What TLS has to say of it.
fn tls_error(error: &SmtpError) -> Option<&rustls::Error> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(error) = current.downcast_ref() {
            return Some(error);
        }
        // The source of an I/O error is that of the error within, which would be passed over.
        cause = match current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(within) => Some(within),
            None => current.source(),
        };
    }
    None
}

/// Whether the server turned us down, not the mail (RFC 4954 §6).
fn is_about_account(error: &SmtpError) -> bool {
    matches!(error.status().map(u16::from), Some(530 | 534 | 535 | 538))
}

/// An address as a log shows it.
fn masked(address: &str) -> String {
    let (user, domain) = address.rsplit_once('@').unwrap_or((address, ""));
    format!("{}…@{domain}", user.chars().next().unwrap_or('?'))
}

/// An address as it stands in a link (RFC 3986 §2.1).
fn in_link(address: &str) -> String {
    let mut text = String::with_capacity(address.len());
    for byte in address.bytes() {
        if byte.is_ascii_alphanumeric() || b"@.-_+".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The letter, in plain English.
fn text(letter: &Letter, domain: &str, page: Option<&Page>) -> String {
    let (address, code) = (&letter.address, &letter.code);
    // Nobody's server sees what follows the #, so no scanner of mails spends the code by following the link.
    // Another node's page would be a place that a stranger has chosen.
    let page = page.filter(|page| page.node == letter.node);
    let link = page.map_or_else(String::new, |page| {
        format!("Or open this page and confirm:\n\n    {}#{},{code}\n\n", page.url.of("confirm"), in_link(address))
    });
    format!(
        "Hello,\n\n\
         somebody, most likely you, wants to make and take calls as\n\
         {address}\n\
         in the Meshtone network of {domain}.\n\n\
         To show that this mailbox is yours, type on the machine that asked:\n\n    \
         meshtone enroll {address} --code {code}\n\n\
         or type the code on the page where you asked for it.\n\n\
         {link}\
         The code ends in an hour. It works once, and only where it was asked for.\n\
         Of several such mails the newest one counts.\n\n\
         If you know nothing of this, just ignore it: nothing happens without the\n\
         code, so give it to nobody. It was asked for at node {node}.\n\n\
         This mail was written by a machine, and nobody reads answers to it.\n",
        node = letter.node.short(),
    )
}

#[cfg(test)]
mod tests;
