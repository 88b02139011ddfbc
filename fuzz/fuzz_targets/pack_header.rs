//! The header at the end of a pack: any bytes give entries or an error.

#![no_main]

use backupkit_core::repo::fuzz_bodies;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_bodies::pack_header(bytes));
