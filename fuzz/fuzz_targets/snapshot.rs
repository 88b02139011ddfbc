//! A snapshot: any bytes give a snapshot or an error.

#![no_main]

use backupkit_core::repo::fuzz_snapshot;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_snapshot(bytes));
