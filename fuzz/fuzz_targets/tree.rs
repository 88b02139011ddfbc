//! A tree: what decodes encodes again to something that decodes to the same.

#![no_main]

use backupkit_core::repo::fuzz_tree;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz_tree(bytes));
