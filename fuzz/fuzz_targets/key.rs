//! A key file: any bytes give a key or an error, without unbounded memory or time.

#![no_main]

use backupkit_core::repo::fuzz_bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_bodies::key_file(bytes));
