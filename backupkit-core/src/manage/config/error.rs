//! All that is wrong with a configuration.

use std::fmt;

use serde::Serialize;

use crate::error::{Error, ErrorKind, Result};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConfigError {
    /// The line, from 1 on, where there is one.
    pub line: Option<u64>,
    /// The table and field, such as `repositories.nas.password`; empty where there is none.
    pub place: String,
    /// Why, in lower case. It repeats no secret.
    pub message: String,
    /// What kind of error it is: `InvalidInput` unless something else than the text is at fault, such as a
    /// password that opens nothing.
    #[serde(skip)]
    pub kind: ErrorKind,
    /// A stable code.
    pub code: &'static str,
}

/// The code of what is wrong in the text itself, and of several things that have no code in common.
const INVALID: &str = "invalid-configuration";

/// All that is wrong, in the order of the lines.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    pub(super) fn add(
        &mut self,
        line: Option<u64>,
        place: impl Into<String>,
        message: impl Into<String>,
    ) {
        let (place, message) = (place.into(), message.into());
        let (kind, code) = (ErrorKind::InvalidInput, INVALID);
        self.0.push(ConfigError { line, place, message, kind, code });
    }

    /// What an error about something of the configuration says, with what to do.
    pub(super) fn add_error(&mut self, line: Option<u64>, place: impl Into<String>, error: &Error) {
        let (place, message) = (place.into(), error.report());
        let (kind, code) = (error.kind(), error.code());
        self.0.push(ConfigError { line, place, message, kind, code });
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }

    /// What is wrong with a configuration, where an error says that something is.
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    pub(super) fn into_result(mut self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by_key(|error| error.line);
        let message = match self.0.as_slice() {
            [one] => format!("the configuration will not do: {one}"),
            several => format!(
                "the configuration will not do: {} things are wrong, first: {}",
                several.len(),
                several[0]
            ),
        };
        let (kind, code) = self.in_common();
        Err(Error::new(kind, message).with_code(code).with_source(self))
    }

    fn in_common(&self) -> (ErrorKind, &'static str) {
        let of = |error: &ConfigError| (error.kind, error.code);
        match self.0.split_first() {
            Some((first, rest)) if rest.iter().all(|other| of(other) == of(first)) => of(first),
            _ => (ErrorKind::InvalidInput, INVALID),
        }
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { "; " })?;
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
