//! The quoting of names: any bytes survive it, any text is read or refused.

#![no_main]

use backupkit_core::repo::fuzz_name;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_name(bytes));
