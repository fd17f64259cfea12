//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/sip_body.rs"]
mod sip_body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sip_body::check(data));
