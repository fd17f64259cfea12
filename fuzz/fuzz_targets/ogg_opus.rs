//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/ogg_opus.rs"]
mod ogg_opus;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ogg_opus::check(data));
