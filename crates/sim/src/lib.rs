//! Meshtone sim.
