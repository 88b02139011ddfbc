//! What the client says when something goes wrong, in our words.

use std::error::Error as StdError;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::result::ConnectorError;

use crate::error::{Error, ErrorKind, Retry};

/// The key does not exist.
pub(super) const NO_SUCH_KEY: &str = "s3-no-such-key";
/// The version does not exist any more.
pub(super) const NO_SUCH_VERSION: &str = "s3-no-such-version";
/// The upload in parts does not exist, or is complete.
pub(super) const NO_SUCH_UPLOAD: &str = "s3-no-such-upload";
/// A condition of the request does not hold.
pub(super) const PRECONDITION: &str = "s3-precondition";
/// The server cannot do this at all.
pub(super) const NOT_IMPLEMENTED: &str = "s3-not-implemented";
/// The range begins behind the end of the object.
pub(super) const INVALID_RANGE: &str = "s3-invalid-range";

/// The reply contradicts itself or its request, or is not of an S3 server at all.
pub(super) const ODD_REPLY: &str = "s3-odd-reply";
/// The server has done what it was asked for, and its reply cannot be understood.
pub(super) const UNREADABLE: &str = "s3-unreadable-reply";
/// The server does not know the key.
pub(super) const UNKNOWN_KEY: &str = "s3-unknown-key";
/// The key was lent for a time that is over.
pub(super) const EXPIRED: &str = "s3-expired";
/// What stands there is no server that we trust.
pub(super) const CERTIFICATE: &str = "s3-certificate";
/// The server refuses, and does not say why in words that we know.
pub(super) const REFUSED: &str = "s3-refused";
/// The object lies in an archive.
pub(super) const ARCHIVED: &str = "s3-archived";
/// The object was asked for from its archive, and is not there yet, or is by now.
pub(super) const THAWING: &str = "s3-thawing";
/// The bucket has no access lists.
pub(super) const NO_ACCESS_LISTS: &str = "s3-no-access-lists";
/// The bucket was made without Object Lock.
pub(super) const NO_OBJECT_LOCK: &str = "s3-no-object-lock";
/// Part of what servers say of such a bucket, without spaces; the code stands for much else.
const MISSING_LOCKS: &str = "missingobjectlockconfiguration";
/// The server fails, or what stands before it.
pub(super) const UNAVAILABLE: &str = "s3-unavailable";
/// No server was reached, or the connection broke off.
pub(super) const UNREACHABLE: &str = "s3-unreachable";

/// There is no key to sign with.
pub(super) const NO_CREDENTIALS: &str = "s3-no-credentials";
/// Those who lend keys refuse.
pub(super) const REFUSED_ROLE: &str = "s3-role-refused";

/// The proxy wants to know who asks.
pub(super) const PROXY_REFUSED: &str = "s3-proxy-refused";
pub(super) const PROXY_HINT: &str = "check proxy_user, and give the password of the proxy anew";

/// A server may say anything; a line of a log may not.
const MOST_WORDS: usize = 200;

/// Nobody waits longer for a server than this, whatever it asks for.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// What is known of a failure.
#[derive(Debug, Default)]
struct Failure {
    /// Nothing if there was no reply.
    status: Option<u16>,
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
    retry_after: Option<Duration>,
    /// Where the bucket is, if the server says so.
    region: Option<String>,
}

/// Maps what the client says. `doing` is what was being done, such as "read data/3f/x". Requests,
/// and with them keys and signatures, are never repeated.
pub(super) fn failed<E>(doing: &str, error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    match error {
        // Not refused: there are headers or a body that the client does not understand.
        SdkError::ServiceError(unread)
            if unread.raw().status().is_success() && unread.err().code().is_none() =>
        {
            let message = format!("cannot {doing}: the reply of the server cannot be understood");
            Error::new(ErrorKind::Unavailable, message).with_code(UNREADABLE)
        }
        SdkError::ServiceError(refused) => {
            let mut failure = Failure::of(refused.raw());
            failure.code = refused.err().code().map(str::to_owned);
            failure.message = refused.err().message().map(str::to_owned);
            failure.into_error(doing)
        }
        SdkError::ResponseError(unread) => {
            // Something before the server has answered, or the reply broke off.
            let mut failure = Failure::of(unread.raw());
            failure.message = Some(String::from("the reply is not one of an S3 server"));
            failure.into_error(doing)
        }
        SdkError::TimeoutError(_) => timeout(doing),
        SdkError::DispatchFailure(lost) => match lost.as_connector_error() {
            Some(error) if error.is_timeout() => timeout(doing),
            // Before anything is sent, credentials are loaded.
            Some(error) if is_of_credentials(error) => no_credentials(doing, error),
            // And the address is made.
            Some(error) if error.is_other() && error.as_other().is_none() => unsent(doing, error),
            Some(error) => unreachable_server(doing, &deepest(error)),
            None => unreachable_server(doing, "the request was not sent"),
        },
        failure @ SdkError::ConstructionFailure(_) => match failure.into_source() {
            Ok(source) if is_of_credentials(&*source) => no_credentials(doing, &*source),
            Ok(source) => unsent(doing, &*source),
            Err(_) => Error::new(
                ErrorKind::Internal,
                format!("cannot {doing}: the request could not be made"),
            ),
        },
        _ => Error::new(ErrorKind::Unavailable, format!("cannot {doing}: unknown reason")),
    }
}

/// What a reply says of one of several keys.
pub(super) fn refused_key(doing: &str, code: Option<&str>, message: Option<&str>) -> Error {
    let text = |text: Option<&str>| text.map(str::to_owned);
    // That of a refusal: what is not known of a key says nothing of the others.
    let (code, message) = (text(code), text(message));
    let failure = Failure { status: Some(400), code, message, ..Failure::default() };
    failure.into_error(doing)
}

/// A reply that contradicts itself, or not the one that was asked for.
pub(super) fn odd_reply(doing: &str, why: &str) -> Error {
    Error::new(ErrorKind::Unavailable, format!("cannot {doing}: {why}")).with_code(ODD_REPLY)
}

/// A request that went to whoever it was for, or not. No reply came.
pub(super) fn not_reached(doing: &str, why: &ConnectorError) -> Error {
    if why.is_timeout() { timeout(doing) } else { unreachable_server(doing, &deepest(why)) }
}

/// A body that broke off.
pub(super) fn broken_off(doing: &str, why: &(dyn StdError + 'static)) -> Error {
    unreachable_server(doing, &deepest(why))
}

impl Failure {
    fn of(reply: &HttpResponse) -> Self {
        let header = |name: &str| reply.headers().get(name).map(str::to_owned);
        let seconds = header("retry-after").or_else(|| header("x-amz-retry-after"));
        Self {
            status: Some(reply.status().as_u16()),
            request_id: header("x-amz-request-id"),
            retry_after: seconds.and_then(|text| text.parse().ok()).map(Duration::from_secs),
            region: header("x-amz-bucket-region"),
            ..Self::default()
        }
    }

    fn into_error(self, doing: &str) -> Error {
        let (kind, code, hint) = self.classify();
        let words = match (&self.message, &self.code) {
            (Some(message), _) if !message.trim().is_empty() => one_line(message),
            (_, Some(code)) => one_line(code),
            _ => format!("the server answers with status {}", self.status.unwrap_or_default()),
        };
        let mut error = Error::new(kind, format!("cannot {doing}: {words}")).with_code(code);
        if let Some(code) = &self.code {
            error = error.with_context("s3_code", one_line(code));
        }
        if let Some(status) = self.status {
            error = error.with_context("status", status);
        }
        if let Some(id) = &self.request_id {
            error = error.with_context("request", one_line(id));
        }
        if let Some(region) = &self.region
            && code == "s3-wrong-region"
        {
            error = error.with_hint(format!("set region to {}", one_line(region)));
        } else if let Some(hint) = hint {
            error = error.with_hint(hint);
        }
        match self.retry_after {
            Some(wait) if error.retry() == Retry::Soon => {
                error.with_retry(Retry::After(wait.min(LONGEST_WAIT)))
            }
            _ => error,
        }
    }

    /// The kind, a stable code, and what to do.
    fn classify(&self) -> (ErrorKind, &'static str, Option<&'static str>) {
        use ErrorKind as Kind;
        let code = self.code.as_deref().unwrap_or_default();
        let known = match code {
            "NoSuchKey" => (Kind::NotFound, NO_SUCH_KEY, None),
            "NoSuchVersion" => (
                Kind::NotFound,
                NO_SUCH_VERSION,
                Some("it was removed for good; choose an earlier or later time"),
            ),
            "NoSuchUpload" => (Kind::NotFound, NO_SUCH_UPLOAD, None),
            // Not `NotFound`: what is looked for may well exist, in a bucket of another name.
            "NoSuchBucket" => (
                Kind::InvalidConfig,
                "s3-no-such-bucket",
                Some("check the name of the bucket and the address of the server, or make it"),
            ),
            "PreconditionFailed" => (Kind::Conflict, PRECONDITION, None),
            "ConditionalRequestConflict" | "OperationAborted" => {
                (Kind::Unavailable, "s3-conflict", None)
            }
            "SlowDown"
            | "SlowDownRead"
            | "SlowDownWrite"
            | "Throttling"
            | "ThrottlingException"
            | "TooManyRequests"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "BandwidthLimitExceeded"
            | "ServiceUnavailable"
            | "Busy" => (Kind::RateLimited, "s3-slow-down", None),
            "RequestTimeout" | "InternalError" | "InternalFailure" | "IncompleteBody" => {
                (Kind::Unavailable, UNAVAILABLE, None)
            }
            "BadDigest"
            | "InvalidDigest"
            | "XAmzContentSHA256Mismatch"
            | "XAmzContentChecksumMismatch" => (
                Kind::Unavailable,
                "s3-damaged-on-the-way",
                Some("the bytes changed between here and the server; check memory and network"),
            ),
            "InvalidAccessKeyId" => (
                Kind::Unauthenticated,
                UNKNOWN_KEY,
                Some("check the access key id, and that it is one of this server"),
            ),
            "SignatureDoesNotMatch" => {
                (Kind::Unauthenticated, "s3-wrong-secret", Some("check the secret access key"))
            }
            "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => (
                Kind::Unauthenticated,
                EXPIRED,
                Some("the key was lent for a time that is over; get a new one"),
            ),
            "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => (
                Kind::PermissionDenied,
                "s3-access-denied",
                Some("let this key do it, or give another one"),
            ),
            // A person can mend it while the run waits.
            "RequestTimeTooSkewed" => (
                Kind::Unauthenticated,
                "s3-clock",
                Some("set the clock of this machine; servers refuse one that is 15 minutes off"),
            ),
            "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraint" => (
                Kind::InvalidConfig,
                "s3-wrong-region",
                Some("set the region and the endpoint of the bucket"),
            ),
            "InvalidObjectState" => (
                Kind::Unsupported,
                ARCHIVED,
                Some("the object is in an archive; bring it back from there first"),
            ),
            "ObjectLockConfigurationNotFoundError" => (Kind::Unsupported, NO_OBJECT_LOCK, None),
            "InvalidRequest" if self.says_no_locks() => (Kind::Unsupported, NO_OBJECT_LOCK, None),
            "AccessControlListNotSupported" => (Kind::Unsupported, NO_ACCESS_LISTS, None),
            "RestoreAlreadyInProgress" | "ObjectAlreadyInActiveTierError" => {
                (Kind::Conflict, THAWING, None)
            }
            "QuotaExceeded" | "XMinioAdminBucketQuotaExceeded" => {
                (Kind::QuotaExceeded, "s3-quota", None)
            }
            "XMinioStorageFull" | "InsufficientStorage" | "InsufficientCapacity" => {
                (Kind::StorageFull, "s3-storage-full", None)
            }
            "InvalidRange" => (Kind::InvalidInput, INVALID_RANGE, None),
            "NotImplemented" | "UnsupportedOperation" | "MethodNotAllowed" => {
                (Kind::Unsupported, NOT_IMPLEMENTED, None)
            }
            _ => return self.classify_status(),
        };
        // What a server calls 503 is no defect of ours, whatever the code.
        if self.status == Some(503) { (Kind::RateLimited, "s3-slow-down", None) } else { known }
    }

    fn says_no_locks(&self) -> bool {
        let words = self.message.as_deref().unwrap_or_default().to_lowercase();
        words.replace(' ', "").contains(MISSING_LOCKS)
    }

    /// A reply to HEAD has no body, and what stands before a server has codes of its own.
    fn classify_status(&self) -> (ErrorKind, &'static str, Option<&'static str>) {
        use ErrorKind as Kind;
        match self.status {
            Some(301) => (
                Kind::InvalidConfig,
                "s3-wrong-region",
                Some("set the region and the endpoint of the bucket"),
            ),
            Some(407) => (Kind::Unauthenticated, PROXY_REFUSED, Some(PROXY_HINT)),
            Some(401) => (Kind::Unauthenticated, UNKNOWN_KEY, Some("check the key")),
            Some(403) => (
                Kind::PermissionDenied,
                "s3-access-denied",
                Some("let this key do it, or give another one"),
            ),
            // A server says what is not there. A proxy whose server is away does not.
            Some(404) if self.code.is_none() => (
                Kind::Unavailable,
                ODD_REPLY,
                Some("check the endpoint: what answers there speaks no S3 now"),
            ),
            Some(409) => (Kind::Unavailable, "s3-conflict", None),
            Some(412) => (Kind::Conflict, PRECONDITION, None),
            Some(416) => (Kind::InvalidInput, INVALID_RANGE, None),
            Some(429 | 503) => (Kind::RateLimited, "s3-slow-down", None),
            Some(501) => (Kind::Unsupported, NOT_IMPLEMENTED, None),
            Some(507) => (Kind::StorageFull, "s3-storage-full", None),
            Some(status @ 400..=499) if status != 408 => {
                (Kind::InvalidConfig, REFUSED, Some("check the settings of this server"))
            }
            _ => (Kind::Unavailable, UNAVAILABLE, None),
        }
    }
}

fn timeout(doing: &str) -> Error {
    Error::new(ErrorKind::Timeout, format!("cannot {doing}: the server does not answer"))
        .with_code("s3-timeout")
}

fn unreachable_server(doing: &str, why: &str) -> Error {
    let message = format!("cannot {doing}: {why}");
    if why.contains("certificate") {
        let hint = if why.contains("not valid for") || why.contains("NotValidForName") {
            "use the name that the certificate is for, or renew the certificate for this one"
        } else if why.contains("xpired") || why.contains("ot valid yet") {
            "renew the certificate of the server, or set the clock of this machine"
        } else {
            "name the certificates to trust with ca_file, or mend those of the server"
        };
        // Nothing gets better by asking again.
        return Error::new(ErrorKind::Unavailable, message)
            .with_retry(Retry::Never)
            .with_code(CERTIFICATE)
            .with_hint(hint);
    }
    if why.contains("proxy authorization") {
        let message = format!("cannot {doing}: the proxy refuses");
        return Error::new(ErrorKind::Unauthenticated, message)
            .with_code(PROXY_REFUSED)
            .with_hint(PROXY_HINT);
    }
    Error::new(ErrorKind::Unavailable, message).with_code(UNREACHABLE)
}

/// A request that settings do not allow to be made.
fn unsent(doing: &str, why: &(dyn StdError + 'static)) -> Error {
    Error::new(ErrorKind::InvalidConfig, format!("cannot {doing}: {}", deepest(why)))
        .with_code("s3-settings")
        .with_hint("check the bucket, the endpoint and the region")
}

fn is_of_credentials(error: &(dyn StdError + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.is::<CredentialsError>() {
            return true;
        }
        next = error.source();
    }
    false
}

/// No key to sign with. Whether there will be one is for those to say who lend it.
fn no_credentials(doing: &str, why: &(dyn StdError + 'static)) -> Error {
    let mut next = Some(why);
    while let Some(error) = next {
        if let Some(ours) = error.downcast_ref::<Error>() {
            return of_lender(doing, ours);
        }
        next = error.source();
    }
    Error::new(ErrorKind::Unauthenticated, format!("cannot {doing}: {}", deepest(why)))
        .with_code(NO_CREDENTIALS)
}

fn of_lender(doing: &str, why: &Error) -> Error {
    let message = format!("cannot {doing}: {why}");
    let mut error = if why.retry() == Retry::Never {
        // Of its kinds others mean the object: a file of keys that is not there is none.
        let code = if why.code() == REFUSED_ROLE { REFUSED_ROLE } else { NO_CREDENTIALS };
        Error::new(ErrorKind::Unauthenticated, message).with_code(code)
    } else {
        Error::new(why.kind(), message).with_code(why.code()).with_retry(why.retry())
    };
    for (name, value) in why.context() {
        error = error.with_context(name, value);
    }
    match why.hint() {
        Some(hint) => error.with_hint(hint.to_owned()),
        None => error,
    }
}

/// The reason behind all others.
fn deepest(error: &(dyn StdError + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    one_line(&deepest.to_string())
}

/// A short line in lower case, without characters that would disturb a terminal.
pub(super) fn one_line(text: &str) -> String {
    let mut line: String = text
        .trim()
        .trim_end_matches('.')
        .chars()
        .map(|one| if one.is_control() { ' ' } else { one })
        .take(MOST_WORDS)
        .collect();
    // Not of abbreviations, or names such as `SlowDown`.
    let is_word = line.chars().nth(1).is_some_and(|second| second.is_lowercase() || second == ' ');
    let is_sentence = line.contains(' ') && is_word;
    if is_sentence && let Some(first) = line.get(..1) {
        line.replace_range(..1, &first.to_ascii_lowercase());
    }
    line
}
