//! Meshtone identity.
