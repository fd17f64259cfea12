//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/link_hello.rs"]
mod link_hello;

libfuzzer_sys::fuzz_target!(|data: &[u8]| link_hello::check(data));
