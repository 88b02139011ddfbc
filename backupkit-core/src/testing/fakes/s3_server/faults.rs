//! What a server is told to do wrong.

use std::sync::{Mutex, MutexGuard};

use super::request::Request;
use crate::testing::lock;

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "named as S3 names them")]
pub enum S3Operation {
    HeadBucket,
    ListObjects,
    ListUploads,
    ListVersions,
    GetVersioning,
    DeleteObjects,
    HeadObject,
    GetObject,
    PutObject,
    CopyObject,
    DeleteObject,
    GetTagging,
    GetAccessList,
    GetRetention,
    PutRetention,
    GetLegalHold,
    RestoreObject,
    GetBucketSetting,
    CreateUpload,
    UploadPart,
    ListParts,
    CompleteUpload,
    AbortUpload,
    /// Whatever the server does not know.
    Other,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum S3Effect {
    /// The request is refused with this status and code, and changes nothing.
    Refuse {
        /// The status of HTTP.
        status: u16,
        /// The code of S3.
        code: &'static str,
        /// What `Retry-After` says, in seconds.
        retry_after_seconds: Option<u64>,
        /// Further headers.
        headers: &'static [(&'static str, &'static str)],
    },
    /// The request is refused by something before the server, which answers in HTML.
    RefuseInHtml {
        /// The status of HTTP.
        status: u16,
    },
    /// The connection ends before the request has an effect.
    Reset,
    /// The request has its effect, and the connection ends without a reply.
    LoseReply,
    /// The body of the reply ends after so many bytes, although the length says more.
    CutBody(usize),
    /// The reply has only so many bytes of the body, and its length says so.
    ShortenBody(usize),
    /// The reply does not say how long its body is.
    ForgetLength,
    /// One bit of the reply's body is another.
    FlipBit,
    /// The request is refused with status 200 and an error in the body.
    RefuseWithOk {
        /// The code of S3.
        code: &'static str,
    },
    /// The request waits until the test lets it go on, then has its effect.
    Hold,
    /// A listing says that it goes on, and does not say where.
    ForgetToken,
    /// A listing goes on with the page that it gave already.
    RepeatPage,
    /// A listing gives the keys of its first page once more, and says that it is over.
    RepeatKeys,
    /// A listing gives no keys, and says that it goes on elsewhere.
    EmptyPage,
    /// A listing gives its page backwards.
    ReversePage,
    /// A listing says that it is over.
    EndListing,
    /// A listing leaves out its last key and still counts it.
    DropKey,
    /// A listing of versions that comes to its end goes on behind its first line.
    LeadBack,
    /// Headers of the request whose names have this part are taken and forgotten.
    ForgetHeaders(&'static str),
}

impl S3Effect {
    /// The server asks to slow down.
    pub fn slow_down() -> Self {
        Self::refuse(503, "SlowDown")
    }

    /// The request is refused with this status and code.
    pub fn refuse(status: u16, code: &'static str) -> Self {
        Self::Refuse { status, code, retry_after_seconds: None, headers: &[] }
    }
}

/// Something that goes wrong, and when.
#[derive(Debug, Clone)]
pub struct S3Fault {
    effect: S3Effect,
    operation: Option<S3Operation>,
    key_part: Option<String>,
    is_unconditional: bool,
    /// Whether a request has to name a version, or must not.
    names_version: Option<bool>,
    skip: u64,
    times: u64,
}

impl S3Fault {
    /// Goes wrong with the next request.
    pub fn new(effect: S3Effect) -> Self {
        Self {
            effect,
            operation: None,
            key_part: None,
            is_unconditional: false,
            names_version: None,
            skip: 0,
            times: 1,
        }
    }

    /// Only requests of this kind count.
    #[must_use]
    pub fn on(mut self, operation: S3Operation) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only requests whose key has this part count.
    #[must_use]
    pub fn for_keys_with(mut self, part: &str) -> Self {
        self.key_part = Some(part.to_owned());
        self
    }

    /// Only writes of objects without a condition count.
    #[must_use]
    pub fn unconditional(mut self) -> Self {
        self.operation = Some(S3Operation::PutObject);
        self.is_unconditional = true;
        self
    }

    /// Only requests that name a version count.
    #[must_use]
    pub fn naming_a_version(mut self) -> Self {
        self.names_version = Some(true);
        self
    }

    /// Only requests that name no version count.
    #[must_use]
    pub fn naming_no_version(mut self) -> Self {
        self.names_version = Some(false);
        self
    }

    /// The first `count` requests are fine.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Goes wrong with so many requests.
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = times;
        self
    }

    /// Goes wrong until the test takes it back.
    #[must_use]
    pub fn always(self) -> Self {
        self.times(u64::MAX)
    }

    fn is_for(&self, operation: S3Operation, key: &str, has_condition: bool) -> bool {
        self.operation.is_none_or(|only| only == operation)
            && !(self.is_unconditional && has_condition)
            && self.key_part.as_deref().is_none_or(|part| key.contains(part))
    }
}

/// All that is to go wrong.
#[derive(Debug, Default)]
pub(super) struct FaultScript(Mutex<Vec<S3Fault>>);

impl FaultScript {
    pub(super) fn add(&self, fault: S3Fault) {
        self.faults().push(fault);
    }

    pub(super) fn clear(&self) {
        self.faults().clear();
    }

    /// What goes wrong with a request. The first fault that is due does.
    pub(super) fn next(&self, request: &Request) -> Option<S3Effect> {
        let key = request.key.as_deref().unwrap_or_default();
        let has_condition =
            request.header("if-none-match").is_some() || request.header("if-match").is_some();
        let names_version = request.parameter("versionId").is_some();
        let mut faults = self.faults();
        take_due(&mut faults, |fault| {
            fault.is_for(request.operation, key, has_condition)
                && fault.names_version.is_none_or(|names| names == names_version)
        })
    }

    /// What goes wrong with one key of a request that names several.
    pub(super) fn next_of_key(&self, operation: S3Operation, key: &str) -> Option<S3Effect> {
        let mut faults = self.faults();
        take_due(&mut faults, |fault| {
            fault.operation.is_some() && fault.is_for(operation, key, false)
        })
    }

    fn faults(&self) -> MutexGuard<'_, Vec<S3Fault>> {
        lock(&self.0)
    }
}

fn take_due(faults: &mut Vec<S3Fault>, is_for: impl Fn(&S3Fault) -> bool) -> Option<S3Effect> {
    let mut due = None;
    for fault in faults.iter_mut().filter(|fault| is_for(fault)) {
        if fault.skip > 0 {
            fault.skip -= 1;
        } else if due.is_none() && fault.times > 0 {
            fault.times -= 1;
            due = Some(fault.effect.clone());
        }
    }
    faults.retain(|fault| fault.times > 0);
    due
}
