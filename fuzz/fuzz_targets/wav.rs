//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/wav.rs"]
mod wav;

libfuzzer_sys::fuzz_target!(|data: &[u8]| wav::check(data));
