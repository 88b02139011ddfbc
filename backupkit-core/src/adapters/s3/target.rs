//! A bucket to restore into.

mod body;
mod chain;
mod check;
mod cleanup;
mod content;
mod guard;
mod judge;
mod kept;
mod lookup;
mod mapping;
mod names;
mod notes;
mod options;
mod outgoing;
mod plan;
mod replacing;
mod scope;
mod session;
mod upload;
mod verify;
mod write;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

pub use self::options::S3TargetOptions;

use self::kept::Trials;
use self::session::Session;
use super::bucket::{Bucket, Versioning};
use super::credentials::S3Credentials;
use super::settings::S3Settings;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::probe::Probe;
use crate::target::{Phase, RestoreContext, RestoreSession, RestoreTarget, TargetCapabilities};

/// Steps at the same time: buckets are bound by the latency of requests.
const CONCURRENCY: usize = 16;
/// Older versions, which come before what replaced them.
const PAST: Phase = Phase(0);
/// All objects.
const OBJECTS: Phase = Phase(1);

/// A bucket, or a prefix of it, as the target of a restore.
///
/// # Keys
/// A snapshot of a bucket gives back the keys that it was made of, below the prefix of the target: the
/// name of the bucket that was backed up is no part of them. Of a snapshot of folders, paths become keys.
/// A bucket knows no folders: one that is empty is restored only if the snapshot has its marker, an
/// object whose key ends with `/`; how many were left out is told at the end.
///
/// Refused one by one, with the reason: links, devices, pipes and sockets; names that are no text, or
/// `.` or `..`; keys longer than 1024 bytes, and keys that lead out of the prefix by `..`; the second of
/// two entries with the same key. Whether a server keeps keys with empty parts, `.` or `..` as they are
/// is tried before the first of them is written; where it does not, they fail.
///
/// # Objects
/// Headers, metadata, tags and the storage class go with the object in one request, and so do locks and
/// access lists if [`S3TargetOptions`] ask for them. An archived class becomes the usual one. Encryption is as the bucket has it. What the server refuses of this is left
/// out with a warning. An object of up to 16 MiB is written in one request, a larger one, or one that was
/// written in parts, in parts: of the size that they had if that can be guessed, so that the entity tag is
/// the same again. A restore that rests goes on behind the last part that the server has.
///
/// # Conflicts
/// What is there is looked at once, before the first write. Nothing that comes later is replaced unless
/// the policy is to overwrite: writes have conditions (`If-None-Match`, `If-Match`). Whether the server
/// keeps them is tried before, with an object below `backupkit/` that goes again. Where it does not, each
/// key is looked at just before it is written, and a note says so.
///
/// An object whose entity tag and length are those that were recorded is left alone.
///
/// # Older versions
/// What a snapshot has of them, in the directory `BUCKET%versions`, is left and counted, unless
/// [`S3TargetOptions::versions`] asks for it. Then each key gets its versions one after the other, from the
/// oldest to the newest, before the object that was current; a mark of a deletion becomes a deletion that
/// names no version. Nothing is deleted for good. Times and ids of versions are new ones. The bucket must
/// keep versions.
///
/// A key that has versions already is compared with the snapshot first: each by its length and its entity
/// tag or, where the tags differ, as encryption and unknown sizes of parts make them do, by the SHA-256 that
/// the server keeps, or else by reading it. Metadata is not compared. If they are a beginning of what is
/// restored, whoever put them there, the rest comes behind it: so a restore that is repeated, or goes on
/// after a crash, adds nothing twice. Else the policy decides about all versions of the key together: they are
/// left out, put on top, or get another key. Where the server keeps no conditions of writes, or two versions
/// in a row are the same, a write whose reply was lost may leave one version more. Deletions have no
/// conditions: the key is looked at just before each.
///
/// A version that fails is told, and later ones go on; it is not put on top of those by a restore that goes
/// on. One version that is named as the path of a restore becomes the object of its key, also without the
/// option; of a directory with versions only those are restored.
#[derive(Clone)]
pub struct S3Target {
    place: Arc<Place>,
    /// Whole prefixes of repositories in the same bucket.
    repositories: Arc<[String]>,
}

/// Where is restored into.
pub(super) struct Place {
    /// Without the prefix: keys are whole ones here.
    bucket: Bucket,
    /// The same, for calls that nobody waits long for.
    hasty: Bucket,
    /// With the prefix.
    settings: S3Settings,
    env: Env,
    options: S3TargetOptions,
    trials: Trials,
}

impl S3Target {
    /// Returns a target. Nothing is sent yet.
    ///
    /// # Errors
    /// `InvalidConfig` for certificates or a proxy that will not do.
    pub fn new(settings: S3Settings, credentials: &S3Credentials, env: Env) -> Result<Self> {
        let mut whole = settings.clone();
        whole.prefix.clear();
        let bucket = Bucket::new(whole, credentials, &env)?;
        let hasty = bucket.impatient(&env);
        let (options, trials) = (S3TargetOptions::default(), Trials::default());
        let place = Place { bucket, hasty, settings, env, options, trials };
        Ok(Self { place: Arc::new(place), repositories: Arc::default() })
    }

    /// Says what else is given back.
    #[must_use]
    pub fn with_options(mut self, options: S3TargetOptions) -> Self {
        let Place { bucket, hasty, settings, env, .. } = &*self.place;
        self.place = Arc::new(Place {
            bucket: bucket.clone(),
            hasty: hasty.clone(),
            settings: settings.clone(),
            env: env.clone(),
            options,
            trials: Trials::default(),
        });
        self
    }

    /// Names prefixes of the same bucket that hold repositories. Nothing is restored into one of them, or
    /// around it; an empty one is the whole bucket.
    #[must_use]
    pub fn with_repositories(mut self, prefixes: impl IntoIterator<Item = String>) -> Self {
        let trimmed = prefixes.into_iter().map(|prefix| prefix.trim_matches('/').to_owned());
        self.repositories = trimmed.collect();
        self
    }
}

impl Place {
    /// Older versions are put only where they stay.
    ///
    /// # Errors
    /// `Unsupported` if the bucket does not keep versions.
    async fn require_versions(&self, bucket: &Bucket) -> Result<()> {
        let why = match bucket.versioning().await? {
            Versioning::Enabled => return Ok(()),
            Versioning::Suspended => "versioning is suspended: the bucket keeps no new versions",
            Versioning::Never => "the bucket keeps no versions",
        };
        let message =
            format!("cannot restore older versions into {}: {why}", self.settings.location());
        Err(Error::new(ErrorKind::Unsupported, message)
            .with_code("s3-no-versions")
            .with_hint("enable versioning of the bucket, or restore without versions"))
    }

    /// The whole key of one below the prefix.
    fn whole(&self, key: &str) -> String {
        self.settings.root() + key
    }
}

impl fmt::Debug for S3Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Target").field("at", &self.location()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("at", &self.settings.location()).finish_non_exhaustive()
    }
}

#[async_trait]
impl RestoreTarget for S3Target {
    fn capabilities(&self) -> TargetCapabilities {
        TargetCapabilities::new(CONCURRENCY)
    }

    fn location(&self) -> String {
        self.place.settings.location()
    }

    async fn check(&self) -> Result<Probe> {
        Ok(check::check(&self.place).await)
    }

    async fn open(&self, cx: RestoreContext) -> Result<Arc<dyn RestoreSession>> {
        guard::refuse_known(&self.place.settings, &self.repositories)?;
        Ok(Arc::new(Session::new(&self.place, cx)))
    }
}
