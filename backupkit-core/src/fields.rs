//! What is wrong with settings, field by field.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// The field, such as `path`; empty where all of it is wrong.
    pub field: String,
    /// Why, in lower case. It repeats no value that may be secret.
    pub message: String,
}

/// All that is wrong with settings, so that nobody mends one field to hear of the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FieldErrors(Vec<FieldError>);

impl FieldErrors {
    /// Adds one.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError { field: field.into(), message: message.into() });
    }

    /// As [`Self::add`], for chains.
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, message: impl Into<String>) -> Self {
        self.add(field, message);
        self
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, FieldError> {
        self.0.iter()
    }

    /// Turns them into one error, if there are any. `what` is wrong, such as "the settings of a folder".
    ///
    /// # Errors
    /// `InvalidInput` with code `invalid-fields`; [`Self::of`] finds the fields in it again.
    pub fn into_result(self, what: impl fmt::Display) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let message = format!("{what} will not do: {self}");
        Err(Error::new(ErrorKind::InvalidInput, message)
            .with_code("invalid-fields")
            .with_source(self))
    }

    /// The fields that an error is about; nothing if it is about no fields.
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }
}

impl<'a> IntoIterator for &'a FieldErrors {
    type Item = &'a FieldError;
    type IntoIter = std::slice::Iter<'a, FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.field, self.message)
        }
    }
}

impl fmt::Display for FieldErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "; " })?;
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FieldErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fields_stand_in_one_error_and_are_found_in_it() {
        let errors = FieldErrors::default().with("path", "is not absolute").with("pth", "unknown");
        let error = errors.clone().into_result("the settings of a folder").unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::InvalidInput, "invalid-fields"));
        let message = error.to_string();
        assert!(message.contains("path: is not absolute; pth: unknown"), "{message}");
        assert_eq!(FieldErrors::of(&error), Some(&errors));
        assert_eq!(FieldErrors::of(&Error::cancelled()), None);
        assert!(FieldErrors::default().into_result("x").is_ok());
    }
}
