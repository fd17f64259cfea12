//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/digit.rs"]
mod digit;

libfuzzer_sys::fuzz_target!(|data: &[u8]| digit::check(data));
