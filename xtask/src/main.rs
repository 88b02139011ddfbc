//! Placeholder of xtask.

fn main() {}
