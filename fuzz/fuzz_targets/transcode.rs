//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/transcode.rs"]
mod transcode;

libfuzzer_sys::fuzz_target!(|data: &[u8]| transcode::check(data));
