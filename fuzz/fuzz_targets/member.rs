//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/member.rs"]
mod member;

libfuzzer_sys::fuzz_target!(|data: &[u8]| member::check(data));
