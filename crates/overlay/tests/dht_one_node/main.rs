//! One node of the DHT in virtual time, with neighbours that the tests speak for, message by message.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod buckets;
mod budget;
mod clock;
mod dates;
mod evidence;
mod introductions;
mod listening;
mod merge;
mod newer_programs;
mod presence;
mod reach;
mod refusals;
mod roles;
mod rooms;
mod support;
mod visits;
mod writing_again;
