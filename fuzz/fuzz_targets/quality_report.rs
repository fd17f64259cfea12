//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/quality_report.rs"]
mod quality_report;

libfuzzer_sys::fuzz_target!(|data: &[u8]| quality_report::check(data));
