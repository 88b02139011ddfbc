#![doc = include_str!("../README.md")]

pub use backupkit_core::*;
