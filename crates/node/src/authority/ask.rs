//! The side of whoever wants an address certified: finds the authority's node and asks it.
//!
//! That node announces itself as if a user of a reserved name were registered there, which only home nodes of the founder's domain may
//! write. Whoever answers is not believed: what comes back has to be the authority's certificate for this key and address.

use std::sync::Arc;
use std::time::Duration;

use meshtone_identity::{
    AuthorityCertificate, EnrolRequest, Es256, LinkKey, NodeId, Signer, UserCertificate, UserRequest, address,
};
use meshtone_overlay::{Kind, Overlay, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::error::AskError;
use super::holder::Holder;
use super::page::PageRequest;
use super::wire::{Answer, MAX_MESSAGE, Request};
use super::{NAME, Service};
use crate::enrol::renew::{Pair, Renewal};

/// How long an authority's node may take: a link to it, a signature, and a disk.
const WITHIN: Duration = Duration::from_secs(20);

/// What an authority answers who asks for a code; it does not say whether a mail is sent, so that nobody learns who is enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// If the address can be enrolled, a mail is on its way.
    Mailed,
    /// The authority takes no new people: if the address is enrolled already, a mail is on its way.
    MailedIfEnrolled,
}

/// Asks an overlay's authority to certify addresses. Clones are the same.
#[derive(Clone)]
pub struct Client {
    overlay: Overlay,
    domain: String,
    authority: AuthorityCertificate,
    own: Option<Arc<Service>>,
}

impl Client {
    /// Makes a client of the authority of this domain's founder; `own` is that authority where this node has it.
    pub fn new(overlay: Overlay, domain: &str, authority: AuthorityCertificate, own: Option<Arc<Service>>) -> Client {
        Client { overlay, domain: domain.to_owned(), authority, own }
    }

    /// Asks for a mail with a code to this address, good for the signer's key only.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn ask_for_code(&self, signer: &dyn Signer, address: &str) -> Result<Asked, AskError> {
        let certification = UserRequest::encode(signer, address).map_err(AskError::Request)?;
        match self.ask(Request::Ask { certification }).await? {
            (_, Answer::Mailed { is_closed: false }) => Ok(Asked::Mailed),
            (_, Answer::Mailed { is_closed: true }) => Ok(Asked::MailedIfEnrolled),
            (_, Answer::Refused(refusal)) => Err(AskError::Refused(refusal)),
            (node, Answer::Certificate(_) | Answer::Renewed { .. }) => Err(AskError::Misbehaved { node }),
        }
    }

    /// Shows the code that came by mail, and returns the certificate for the signer's key and this address, verified at `now`
    /// (unix seconds). May be repeated within the hour, with the same result.
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn prove(
        &self,
        signer: &dyn Signer,
        address: &str,
        code: &str,
        now: u64,
    ) -> Result<UserCertificate, AskError> {
        let address = address::normalise(address).map_err(AskError::Request)?;
        let certification = UserRequest::encode(signer, &address).map_err(AskError::Request)?;
        let answer = self.ask(Request::Prove { certification, code: code.to_owned() }).await?;
        self.certificate_in(answer, signer, &address, now)
    }

    /// Shows the certificate that another authority issued for this address, and returns the overlay's for the signer's key, verified at
    /// `now` (unix seconds).
    ///
    /// # Errors
    /// [`AskError`].
    pub async fn show(
        &self,
        signer: &dyn Signer,
        address: &str,
        holder: &Holder,
        now: u64,
    ) -> Result<UserCertificate, AskError> {
        let address = address::normalise(address).map_err(AskError::Request)?;
        let certification = UserRequest::encode(signer, &address).map_err(AskError::Request)?;
        let proof = holder.prove(&self.authority.overlay(), &certification, now)?;
        let answer = self.ask(Request::Show { certification, proof }).await?;
        self.certificate_in(answer, signer, &address, now)
    }

    /// The certificate that was asked for.
    fn certificate_in(
        &self,
        answer: (NodeId, Answer),
        signer: &dyn Signer,
        address: &str,
        now: u64,
    ) -> Result<UserCertificate, AskError> {
        let (node, der) = match answer {
            (node, Answer::Certificate(der)) => (node, der),
            (_, Answer::Refused(refusal)) => return Err(AskError::Refused(refusal)),
            (node, Answer::Mailed { .. } | Answer::Renewed { .. }) => return Err(AskError::Misbehaved { node }),
        };
        let wrong = |why: String| AskError::WrongCertificate { node, why };
        let certificate =
            UserCertificate::verify(&Es256, &der, &self.authority, now).map_err(|error| wrong(error.to_string()))?;
        if certificate.address() != address || certificate.public_key() != signer.public_key() {
            return Err(wrong("it is for another address or key".to_owned()));
        }
        Ok(certificate)
    }

    /// Asks for this node's own certificates anew; nothing of what comes back is verified yet.
    pub(crate) async fn renew(
        &self,
        signer: &dyn Signer,
        link_key: LinkKey,
        pair: &Pair,
    ) -> Result<(Vec<u8>, Vec<u8>), AskError> {
        let certification = EnrolRequest::encode(signer, link_key).map_err(AskError::Request)?;
        let shown = Renewal { certification, node: pair.node.der().to_vec(), home: pair.home.der().to_vec() };
        let request = Request::Renew(shown);
        let (node, answer) = match &self.own {
            Some(_) => self.ask(request).await?,
            // An authority that sends no mails is not announced; but it is one of these.
            None => self.ask_nodes_of(Kind::Certificate, &self.domain, &request).await?,
        };
        match answer {
            Answer::Renewed { node, home } => Ok((node, home)),
            Answer::Refused(refusal) => Err(AskError::Refused(refusal)),
            Answer::Mailed { .. } | Answer::Certificate(_) => Err(AskError::Misbehaved { node }),
        }
    }

    /// Asks for a certificate for this node's page; nothing of what comes back is verified yet.
    pub(crate) async fn certify_page(&self, wanted: PageRequest) -> Result<Vec<u8>, AskError> {
        let request = Request::Page(wanted);
        let (node, answer) = match &self.own {
            Some(_) => self.ask(request).await?,
            None => self.ask_nodes_of(Kind::Certificate, &self.domain, &request).await?,
        };
        match answer {
            Answer::Certificate(der) => Ok(der),
            Answer::Refused(refusal) => Err(AskError::Refused(refusal)),
            Answer::Mailed { .. } | Answer::Renewed { .. } => Err(AskError::Misbehaved { node }),
        }
    }

    /// Asks this node's own authority, or the nodes that say that they have it, until one answers.
    async fn ask(&self, request: Request) -> Result<(NodeId, Answer), AskError> {
        if let Some(own) = &self.own {
            let node = self.overlay.node_id();
            return Ok((node, Service::answer_on_thread(own.clone(), node, request).await));
        }
        self.ask_nodes_of(Kind::SipRegistration, &format!("{NAME}@{}", self.domain), &request).await
    }

    /// Asks the writers of what stands under a name, until one answers.
    async fn ask_nodes_of(&self, kind: Kind, name: &str, request: &Request) -> Result<(NodeId, Answer), AskError> {
        let domain = || self.domain.clone();
        let found = self.overlay.fetch(kind, name).await;
        let found = found.map_err(|why| AskError::Overlay { domain: domain(), why })?;
        let mut failed = AskError::NoAuthority { domain: domain() };
        for entry in found {
            let node = entry.writer;
            match timeout(WITHIN, self.exchange(node, request)).await {
                Ok(Ok(answer)) => return Ok((node, answer)),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = AskError::Unreachable { node, why: "it does not answer in time".to_owned() },
            }
        }
        Err(failed)
    }

    async fn exchange(&self, node: NodeId, request: &Request) -> Result<Answer, AskError> {
        let unreachable = |why: String| AskError::Unreachable { node, why };
        let opened = self.overlay.open_stream(node, Protocol::Authority).await;
        let (mut send, recv) = opened.map_err(|error| unreachable(error.to_string()))?;
        let mut answer = Vec::new();
        let bound = u64::try_from(MAX_MESSAGE).unwrap_or(u64::MAX).saturating_add(1);
        let said = async {
            send.write_all(&request.encode()).await?;
            send.shutdown().await?;
            recv.take(bound).read_to_end(&mut answer).await
        };
        said.await.map_err(|error| unreachable(error.to_string()))?;
        Answer::decode(&answer).ok_or(AskError::Misbehaved { node })
    }
}
