//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/digest_header.rs"]
mod digest_header;

libfuzzer_sys::fuzz_target!(|data: &[u8]| digest_header::check(data));
