//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/port_mapping.rs"]
mod port_mapping;

libfuzzer_sys::fuzz_target!(|data: &[u8]| port_mapping::check(data));
