//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/media_packet.rs"]
mod media_packet;

libfuzzer_sys::fuzz_target!(|data: &[u8]| media_packet::check(data));
