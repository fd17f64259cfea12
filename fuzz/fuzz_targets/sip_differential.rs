//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/sip_differential.rs"]
mod sip_differential;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sip_differential::check(data));
