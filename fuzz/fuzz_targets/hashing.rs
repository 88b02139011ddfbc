//! SHA-256 of several messages side by side against each alone.

#![no_main]

use backupkit_core::repo::fuzz_bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_bodies::hashing(bytes));
