//! Certificates that took the place of those a node started with, without a restart.

use std::sync::{Arc, PoisonError, RwLock};

use meshtone_identity::{HomeCertificate, NodeCertificate};

/// As a node, and as a home node of its domains.
type Certificates = (NodeCertificate, Vec<HomeCertificate>);

/// A node's newer certificates, once it has any: for the same keys, id and domains. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Renewed(Arc<RwLock<Option<Certificates>>>);

impl Renewed {
    /// Shows these from now on.
    pub fn set(&self, certificate: NodeCertificate, homes: Vec<HomeCertificate>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some((certificate, homes));
    }

    /// Returns the newer ones, if there are any.
    pub fn get(&self) -> Option<(NodeCertificate, Vec<HomeCertificate>)> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
