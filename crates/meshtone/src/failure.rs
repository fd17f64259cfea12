//! How a command fails: what happened and why, then what to do.

use std::fmt;

use meshtone_node::StartError;
use meshtone_node::account::AccountError;
use meshtone_node::authority::ServiceError;
use meshtone_node::backup::BackupError;
use meshtone_node::enrol::EnrolError;
use meshtone_node::store::StoreError;

/// A failure as the user reads it.
#[derive(Debug)]
pub(crate) struct Failure {
    error: String,
    hint: String,
    code: u8,
}

impl Failure {
    pub(crate) fn new(error: impl Into<String>, hint: impl Into<String>) -> Failure {
        Failure { error: error.into(), hint: hint.into(), code: 1 }
    }

    /// The same with another exit code than 1.
    pub(crate) fn with_code(self, code: u8) -> Failure {
        Failure { code, ..self }
    }

    /// What happened, and what to do.
    pub(crate) fn into_parts(self) -> (String, String) {
        (self.error, self.hint)
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "error: {}", self.error)?;
        if !self.hint.is_empty() {
            write!(formatter, "\nhint: {}", self.hint)?;
        }
        Ok(())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        Failure::new(error.to_string(), error.hint())
    }
}

impl From<AccountError> for Failure {
    fn from(error: AccountError) -> Failure {
        Failure::new(error.to_string(), error.hint())
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Failure {
        Failure::new(error.to_string(), error.hint())
    }
}

impl From<EnrolError> for Failure {
    fn from(error: EnrolError) -> Failure {
        Failure::new(error.to_string(), error.hint())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        let hint = match &error {
            StartError::Store(error) => error.hint(),
            StartError::Enrol(error) => error.hint(),
            StartError::Member(error) => error.hint(),
            StartError::Overlay(_) => "is another program using the link port? name another one with --link",
            StartError::Listen { .. } => {
                "is another program using it? name another address with --sip, --tls, --ws or --wss"
            }
            StartError::ListenTurn { .. } => {
                "is another program using it, such as coturn? name another address with --turn or --turns"
            }
            StartError::Certificate(_) => {
                "give --tls-cert and --tls-key PEM files that belong together, or neither: the node makes its own then"
            }
            StartError::Control(_) => "name a data folder with --data that is yours and whose path is short",
            StartError::OpenToStrangers(_) => {
                "name addresses of this machine or of a private network with --sip, such as 127.0.0.1:5060, and no other kind"
            }
            StartError::Authority(ServiceError::Store(error)) => error.hint(),
            StartError::Authority(ServiceError::Mail(error)) => error.hint(),
            StartError::NodeName => "this is a defect of the program: please report it",
            StartError::RtpPorts => "give a range of ports such as --rtp-ports 16384-32767",
        };
        Failure::new(error.to_string(), hint)
    }
}
