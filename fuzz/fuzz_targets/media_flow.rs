//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/media_flow.rs"]
mod media_flow;

libfuzzer_sys::fuzz_target!(|data: &[u8]| media_flow::check(data));
