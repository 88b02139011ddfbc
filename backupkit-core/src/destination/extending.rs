//! Retaining objects for longer.

use crate::error::{Error, ErrorKind};

/// What became of an object that is to be retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extension {
    /// It is retained for longer now.
    Extended,
    /// It is retained for long enough already.
    LongEnough,
    /// It is not retained for long enough, and was written so lately that it is left alone.
    TooNew,
}

/// The code of errors of destinations that keep nothing from being deleted.
pub(crate) const NO_RETENTION: &str = "no-retention";

/// The refusal to retain anything.
pub(crate) fn no_retention(location: &str) -> Error {
    let message =
        format!("cannot retain anything at {location}: nothing is kept there from deletion");
    Error::new(ErrorKind::Unsupported, message).with_code(NO_RETENTION)
}
