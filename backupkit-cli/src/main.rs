//! Placeholder of backupkit-cli.

fn main() {}
