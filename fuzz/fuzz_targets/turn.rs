//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/turn.rs"]
mod turn;

libfuzzer_sys::fuzz_target!(|data: &[u8]| turn::check(data));
