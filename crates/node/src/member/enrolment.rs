//! A person's way to an address of her own at this node: a code by mail, then a certificate and an account for her phones.

use meshtone_identity::{SigningKey, UserCertificate};
use tokio::task::spawn_blocking;

use super::{MemberError, Members};
use crate::account::{AccountError, Accounts, Credentials};
use crate::authority::holder::Holder;
use crate::authority::{AskError, Asked, Client, Refusal};
use crate::clock::unix_s;

/// Why somebody was not enrolled, or not yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnrolmentError {
    /// The authority, or the way there.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// Her key.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// Her account.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// This node.
    #[error("the node failed to do it")]
    Failed,
}

impl EnrolmentError {
    /// What the user can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            EnrolmentError::Ask(error) => error.hint(),
            EnrolmentError::Member(error) => error.hint(),
            EnrolmentError::Account(error) => error.hint(),
            EnrolmentError::Failed => "look at the node's log",
        }
    }
}

/// Enrols people at this node. Clones are the same.
#[derive(Clone)]
pub(crate) struct Enrolments {
    members: Members,
    client: Client,
    accounts: Accounts,
}

impl Enrolments {
    pub(crate) fn new(members: Members, client: Client, accounts: Accounts) -> Enrolments {
        Enrolments { members, client, accounts }
    }

    /// Makes a key for an address, and asks the authority to mail a code there.
    ///
    /// # Errors
    /// [`EnrolmentError`].
    pub(crate) async fn ask(&self, address: &str) -> Result<Asked, EnrolmentError> {
        let (members, begun) = (self.members.clone(), address.to_owned());
        let key = blocking(move || members.begin(&begun)).await??;
        Ok(self.client.ask_for_code(&*key, address).await?)
    }

    /// Shows the code that came by mail; what it gets makes this node speak for the address. Returns what her phones need.
    ///
    /// # Errors
    /// [`EnrolmentError`].
    pub(crate) async fn prove(&self, address: &str, code: &str) -> Result<Credentials, EnrolmentError> {
        let key = self.members.begun(address)?;
        let certificate = self.client.prove(&*key, address, code, unix_s()).await?;
        self.certified(certificate).await
    }

    /// Makes a key for an address, and shows the authority what another one certified; the rest is as after [`prove`](Self::prove).
    ///
    /// # Errors
    /// [`EnrolmentError`].
    pub(crate) async fn show(&self, address: &str, holder: &Holder) -> Result<Credentials, EnrolmentError> {
        let (members, begun) = (self.members.clone(), address.to_owned());
        let key = blocking(move || members.begin(&begun)).await??;
        let certificate = self.client.show(&*key, address, holder, unix_s()).await?;
        self.certified(certificate).await
    }

    /// Takes up what the authority certified, and gives its owner an account here.
    async fn certified(&self, certificate: UserCertificate) -> Result<Credentials, EnrolmentError> {
        let address = certificate.address().to_owned();
        let said = self.members.certified(certificate).await;
        let added = self.account(address).await?;
        match said {
            // The overlay is told later; the password is shown only now.
            Ok(()) | Err(MemberError::NotSaid(_)) => Ok(added),
            Err(error) => Err(error.into()),
        }
    }

    /// As [`prove`](Self::prove), and nobody learns by it whether somebody has asked here for an address: where nobody has, the
    /// authority says the same, and takes as long.
    ///
    /// # Errors
    /// [`EnrolmentError`].
    pub(crate) async fn prove_as_stranger(&self, address: &str, code: &str) -> Result<Credentials, EnrolmentError> {
        match self.members.begun(address) {
            Err(MemberError::NotBegun(_)) => {
                let nobody = SigningKey::generate().map_err(MemberError::from)?;
                self.client.prove(&nobody, address, code, unix_s()).await?;
                Err(AskError::Refused(Refusal::WrongCode).into())
            }
            Ok(_) | Err(_) => self.prove(address, code).await,
        }
    }

    /// People whose keys are here.
    pub(crate) fn people(&self) -> usize {
        self.members.count()
    }

    /// The account of a person at this node, with a fresh password for her phones.
    ///
    /// # Errors
    /// [`EnrolmentError`].
    pub(crate) async fn account(&self, address: String) -> Result<Credentials, EnrolmentError> {
        let accounts = self.accounts.clone();
        let make = move || match accounts.add(&address, None) {
            Err(AccountError::UserTaken { user }) => accounts.passwd(&user),
            made => made,
        };
        Ok(blocking(make).await??)
    }
}

/// On a thread that may wait for the disk.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, EnrolmentError> {
    spawn_blocking(work).await.map_err(|_| EnrolmentError::Failed)
}
