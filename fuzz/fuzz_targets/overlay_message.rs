//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/overlay_message.rs"]
mod overlay_message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| overlay_message::check(data));
