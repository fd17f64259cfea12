//! The one error of this crate: the variant says what is wrong and, by its words, on whose side.

use crate::OverlayId;

/// Why a key, a certificate, a request or a text was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A text that should name a node, an overlay or a link key does not.
    #[error("not a {what}: {why}")]
    Text {
        /// What the text should have been.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A domain name that cannot be one.
    #[error("`{domain}` is not a domain name: {why}")]
    Domain {
        /// The name as given.
        domain: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Our own private key cannot be read or used.
    #[error("private key unusable: {0}")]
    PrivateKey(&'static str),
    /// Our own certificate or request could not be written.
    #[error("cannot write the {what}: {why}")]
    Encode {
        /// What was to be written.
        what: &'static str,
        /// The encoder's words.
        why: String,
    },
    /// A public key that is no uncompressed P-256 point.
    #[error("not a P-256 public key")]
    PublicKey,
    /// The signature is not the signer's over these bytes.
    #[error("signature does not verify")]
    Signature,
    /// A certificate or request that does not have the form it must have.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// What it claims to be.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Of a kind that is not known here.
    #[error("{what} of an unknown kind: {which}")]
    Unsupported {
        /// What it is.
        what: &'static str,
        /// The kind that it names.
        which: String,
    },
    /// The certificate was issued by somebody else than the overlay's authority.
    #[error("{what} is not issued by the overlay's authority")]
    Issuer {
        /// Which certificate.
        what: &'static str,
    },
    /// An authority certificate of another overlay.
    #[error("this is overlay {found}, expected {expected}")]
    OtherOverlay {
        /// The overlay we belong to.
        expected: OverlayId,
        /// The overlay that the certificate founds.
        found: OverlayId,
    },
    /// The certificate's time has not come; often a clock that is wrong.
    #[error("{what} is valid only from {not_before}, and it is {now} (unix seconds)")]
    NotYetValid {
        /// Which certificate.
        what: &'static str,
        /// First second of its validity.
        not_before: u64,
        /// The time it was judged at.
        now: u64,
    },
    /// The certificate's time is over.
    #[error("{what} expired at {not_after}, and it is {now} (unix seconds)")]
    Expired {
        /// Which certificate.
        what: &'static str,
        /// Last second of its validity.
        not_after: u64,
        /// The time it was judged at.
        now: u64,
    },
    /// A well-formed certificate that may not be used for this.
    #[error("{what} may not be used so: {why}")]
    NotPermitted {
        /// Which certificate.
        what: &'static str,
        /// Which rule it breaks.
        why: &'static str,
    },
}
