//! The config of a repository: any bytes give a config or an error.

#![no_main]

use backupkit_core::repo::fuzz_bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_bodies::config(bytes));
