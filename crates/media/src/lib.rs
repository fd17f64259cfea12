//! Media: session descriptions, RTP, and what answers a call here.
//!
//! `sdp`, `rtp` and `echo` are pure: no clock, no socket, no randomness of their own. `io` runs them on sockets. Nothing here
//! knows of SIP; errors only say which status fits.

pub mod echo;
pub mod io;
pub mod rtp;
pub mod sdp;
