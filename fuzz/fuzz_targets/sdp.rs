//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/sdp.rs"]
mod sdp;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sdp::check(data));
