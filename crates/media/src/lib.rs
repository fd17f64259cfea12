//! Media: session descriptions, RTP, and what answers a call here.
//!
//! All but `io` is pure: no clock, no socket, no randomness of its own. `io` runs it on sockets. Nothing here
//! knows of SIP; errors only say which status fits.

pub mod anchoring;
pub mod codec;
pub mod digit;
pub mod echo;
pub mod g711;
pub mod g722;
pub mod io;
pub mod mos;
pub mod ogg;
pub mod relay;
pub mod resample;
pub mod roq;
pub mod rtcp;
pub mod rtp;
pub mod sdes;
pub mod sdp;
pub mod sound;
pub mod srtp;
pub mod stun;
pub mod talk;
pub mod transcode;
pub mod turn;
pub mod vq;
pub mod wav;
