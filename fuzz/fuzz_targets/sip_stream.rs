//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/sip_stream.rs"]
mod sip_stream;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sip_stream::check(data));
