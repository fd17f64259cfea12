//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/certificate.rs"]
mod certificate;

libfuzzer_sys::fuzz_target!(|data: &[u8]| certificate::check(data));
