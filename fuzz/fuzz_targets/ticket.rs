//! Hands libFuzzer's input to the check of the same name.

#![no_main]

#[path = "../checks/ticket.rs"]
mod ticket;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ticket::check(data));
