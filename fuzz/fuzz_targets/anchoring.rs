//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/anchoring.rs"]
mod anchoring;

libfuzzer_sys::fuzz_target!(|data: &[u8]| anchoring::check(data));
