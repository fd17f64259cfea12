//! Meshtone node.
