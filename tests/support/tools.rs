//! What a test does when the machine lacks something it needs.

/// What was found; or `None`, after saying why the test is skipped.
///
/// With `BACKUPKIT_REQUIRE_SERVERS=1` a skip is a failure, so that nothing stays untested in
/// silence. Use it as `let Some(restic) = require_or_skip(..) else { return };`.
pub fn require_or_skip<T>(found: Result<T, String>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(why) if std::env::var("BACKUPKIT_REQUIRE_SERVERS").as_deref() == Ok("1") => {
            panic!("BACKUPKIT_REQUIRE_SERVERS=1, but {why}")
        }
        Err(why) => {
            eprintln!("SKIPPED: {why}");
            None
        }
    }
}

/// How often a long, seeded driver repeats: `cargo xtask test --count N`, else `default`.
pub fn count(default: u32) -> u32 {
    match std::env::var("BACKUPKIT_TEST_COUNT") {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("BACKUPKIT_TEST_COUNT is `{value}`")),
        Err(_) => default,
    }
}
