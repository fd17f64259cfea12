//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/sip_message.rs"]
mod sip_message;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sip_message::check(data));
