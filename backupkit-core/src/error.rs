//! One opaque error for the whole engine.
//!
//! Callers branch on [`Error::kind`] (what happened) and [`Error::retry`] (whether trying again can
//! help); people read the one-line message and the hint. Two axes, because a timeout and a wrong
//! password are told apart by their kind, and "try again" by neither of them alone.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the terms a caller can act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The named thing does not exist.
    NotFound,
    /// The name is taken by something else.
    AlreadyExists,
    /// No or invalid credentials.
    Unauthenticated,
    /// The credentials are valid but do not allow this.
    PermissionDenied,
    /// The other side asks to slow down.
    RateLimited,
    /// A quota of the account or service is used up.
    QuotaExceeded,
    /// No space is left where bytes were to be written.
    StorageFull,
    /// The other side cannot be reached or does not answer properly right now.
    Unavailable,
    /// An operation took longer than allowed.
    Timeout,
    /// The adapter or platform cannot do this.
    Unsupported,
    /// A setting is wrong.
    InvalidConfig,
    /// An argument is wrong.
    InvalidInput,
    /// The source changed under the reader, so the bytes would be of two versions.
    SourceChanged,
    /// Stored bytes are not what was written.
    Corrupt,
    /// No key of the repository opens with this password.
    WrongPassword,
    /// Somebody else holds a lock.
    Locked,
    /// The state on the other side is not the expected one.
    Conflict,
    /// The caller asked to stop.
    Cancelled,
    /// A defect of this program.
    Internal,
}

/// Whether the same call may succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Retry {
    /// The same call will fail again.
    Never,
    /// The same call may succeed soon.
    Soon,
    /// The other side named a time to wait.
    After(Duration),
}

/// An error with a kind, a retry advice, a stable code, context and a hint.
///
/// `Display` prints one line in lower case: what was being done and what is known. It never repeats
/// its source; use [`Error::report`] for the whole chain in one line.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    retry: Retry,
    code: &'static str,
    message: Cow<'static, str>,
    context: Vec<(&'static str, String)>,
    hint: Option<Cow<'static, str>>,
    source: Option<Box<dyn std::error::Error + Send + Sync + 'static>>,
}

impl Error {
    /// Returns an error of `kind` with a message in lower case that says what was being done.
    ///
    /// The code defaults to the name of the kind and the retry advice to what fits the kind.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner {
            kind,
            retry: kind.default_retry(),
            code: kind.as_str(),
            message: message.into(),
            context: Vec::new(),
            hint: None,
            source: None,
        }))
    }

    /// Returns an error for damaged stored bytes. `object` names what is damaged.
    pub fn corrupt(object: impl fmt::Display, detail: impl fmt::Display) -> Self {
        Self::new(ErrorKind::Corrupt, format!("{object} is damaged: {detail}"))
    }

    /// Returns the error of a call that was told to stop.
    pub fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// Maps an I/O error, with `doing` as what was being done, such as "read /srv/a".
    pub fn io(doing: impl fmt::Display, error: std::io::Error) -> Self {
        let kind = ErrorKind::from_io(&error);
        let hint = io_hint(error.kind());
        let mapped = Self::new(kind, format!("cannot {doing}: {}", io_reason(&error)));
        let mapped = mapped.with_source(error);
        match hint {
            Some(hint) => mapped.with_hint(hint),
            None => mapped,
        }
    }

    /// Replaces the retry advice.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Sets a stable, kebab-case code that programs and documentation can refer to.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.0.code = code;
        self
    }

    /// Adds a key and value that say more about where it happened. Never a secret.
    #[must_use]
    pub fn with_context(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Says what a person can do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Keeps the cause.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Puts what was being done in front of the message: `doing: message`.
    #[must_use]
    pub fn while_doing(mut self, doing: impl fmt::Display) -> Self {
        self.0.message = Cow::Owned(format!("{doing}: {}", self.0.message));
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the same call may succeed later.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// A stable, kebab-case code.
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// Keys and values that say more about where it happened.
    pub fn context(&self) -> &[(&'static str, String)] {
        &self.0.context
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// Whether this is the given kind.
    pub fn is(&self, kind: ErrorKind) -> bool {
        self.0.kind == kind
    }

    /// Returns the message with its context and hint, still as one line.
    pub fn report(&self) -> String {
        use fmt::Write as _;
        let mut line = self.0.message.to_string();
        for (key, value) in &self.0.context {
            let _ = write!(line, ", {key}={value}");
        }
        if let Some(hint) = &self.0.hint {
            let _ = write!(line, "; {hint}");
        }
        // Messages of other programs may hold line breaks; a log line may not.
        line.replace(['\n', '\r'], " ")
    }

    /// Returns an equal error for a second owner. The source stays with the first.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(Box::new(Inner {
            kind: self.0.kind,
            retry: self.0.retry,
            code: self.0.code,
            message: self.0.message.clone(),
            context: self.0.context.clone(),
            hint: self.0.hint.clone(),
            source: None,
        }))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("retry", &self.0.retry)
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("context", &self.0.context)
            .field("source", &self.0.source)
            .finish_non_exhaustive()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.0.source {
            Some(source) => Some(source.as_ref()),
            None => None,
        }
    }
}

impl ErrorKind {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::NotFound,
        Self::AlreadyExists,
        Self::Unauthenticated,
        Self::PermissionDenied,
        Self::RateLimited,
        Self::QuotaExceeded,
        Self::StorageFull,
        Self::Unavailable,
        Self::Timeout,
        Self::Unsupported,
        Self::InvalidConfig,
        Self::InvalidInput,
        Self::SourceChanged,
        Self::Corrupt,
        Self::WrongPassword,
        Self::Locked,
        Self::Conflict,
        Self::Cancelled,
        Self::Internal,
    ];

    /// The kind in kebab case, as codes and JSON use it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::AlreadyExists => "already-exists",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission-denied",
            Self::RateLimited => "rate-limited",
            Self::QuotaExceeded => "quota-exceeded",
            Self::StorageFull => "storage-full",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Unsupported => "unsupported",
            Self::InvalidConfig => "invalid-config",
            Self::InvalidInput => "invalid-input",
            Self::SourceChanged => "source-changed",
            Self::Corrupt => "corrupt",
            Self::WrongPassword => "wrong-password",
            Self::Locked => "locked",
            Self::Conflict => "conflict",
            Self::Cancelled => "cancelled",
            Self::Internal => "internal",
        }
    }

    fn default_retry(self) -> Retry {
        match self {
            Self::RateLimited | Self::Unavailable | Self::Timeout => Retry::Soon,
            _ => Retry::Never,
        }
    }

    fn from_io(error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        match error.kind() {
            Io::NotFound | Io::NotADirectory => Self::NotFound,
            Io::AlreadyExists => Self::AlreadyExists,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => Self::PermissionDenied,
            Io::StorageFull => Self::StorageFull,
            Io::QuotaExceeded => Self::QuotaExceeded,
            Io::TimedOut => Self::Timeout,
            // Of this one file: others still fit.
            Io::Unsupported | Io::FileTooLarge => Self::Unsupported,
            Io::InvalidInput | Io::InvalidFilename => Self::InvalidInput,
            _ => Self::Unavailable,
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ErrorKind {
    type Err = Error;

    /// # Errors
    /// `InvalidInput` if no kind is called so.
    fn from_str(text: &str) -> Result<Self> {
        let named = Self::ALL.iter().find(|kind| kind.as_str() == text);
        named.copied().ok_or_else(|| Error::new(Self::InvalidInput, "not a kind of error"))
    }
}

/// What a person can do about an I/O error, where that is known.
fn io_hint(kind: std::io::ErrorKind) -> Option<&'static str> {
    use std::io::ErrorKind as Io;
    match kind {
        Io::StorageFull => Some("make space on that disk, then run it again"),
        Io::QuotaExceeded => Some("raise the quota or make space, then run it again"),
        Io::FileTooLarge => Some("no file there may be so large; choose another file system"),
        _ => None,
    }
}

/// The system's words in lower case and without the error number.
fn io_reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_lowercase().chain(characters).collect(),
        None => String::from("unknown reason"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_is_one_line_with_context_and_hint() {
        let error = Error::new(ErrorKind::Locked, "repository is locked\nby another")
            .with_context("host", "a")
            .with_hint("run unlock");
        assert_eq!(error.report(), "repository is locked by another, host=a; run unlock");
    }

    #[test]
    fn kinds_come_back_from_their_names() {
        for kind in ErrorKind::ALL {
            assert_eq!(kind.as_str().parse::<ErrorKind>().unwrap(), *kind);
        }
        // The last one: none is missing, as long as they are declared in this order.
        assert_eq!(ErrorKind::ALL.len(), ErrorKind::Internal as usize + 1);
        assert!("no-kind".parse::<ErrorKind>().is_err());
    }

    #[test]
    fn io_errors_keep_their_reason_in_lower_case() {
        let error = Error::io("open x", std::io::Error::from_raw_os_error(2));
        assert_eq!(error.to_string(), "cannot open x: no such file or directory");
        assert!(error.is(ErrorKind::NotFound));
    }

    #[test]
    fn a_file_that_is_too_large_for_its_place_is_no_full_disk() {
        let io = |errno: rustix::io::Errno| Error::io("write x", errno.into());
        let too_large = io(rustix::io::Errno::FBIG);
        assert!(too_large.is(ErrorKind::Unsupported), "{too_large:?}");
        assert!(too_large.report().contains("choose another file system"));
        let full = io(rustix::io::Errno::NOSPC);
        assert!(full.is(ErrorKind::StorageFull), "{full:?}");
        assert!(full.report().contains("make space"));
        assert!(io(rustix::io::Errno::DQUOT).is(ErrorKind::QuotaExceeded));
    }
}
