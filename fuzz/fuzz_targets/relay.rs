//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/relay.rs"]
mod relay;

libfuzzer_sys::fuzz_target!(|data: &[u8]| relay::check(data));
