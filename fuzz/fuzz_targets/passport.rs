//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/passport.rs"]
mod passport;

libfuzzer_sys::fuzz_target!(|data: &[u8]| passport::check(data));
