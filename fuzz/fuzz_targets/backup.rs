//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/backup.rs"]
mod backup;

libfuzzer_sys::fuzz_target!(|data: &[u8]| backup::check(data));
