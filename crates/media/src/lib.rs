//! Meshtone media.
