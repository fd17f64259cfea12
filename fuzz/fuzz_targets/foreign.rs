//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/foreign.rs"]
mod foreign;

libfuzzer_sys::fuzz_target!(|data: &[u8]| foreign::check(data));
