//! The moment that a bucket is read as of.

use std::time::Duration;

use jiff::Timestamp;

use super::super::bucket::{Bucket, Versioning};
use super::S3SourceOptions;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::token::ViewToken;

/// What tokens of views begin with whose bucket goes on. When they were opened follows, in seconds since 1970.
const PASSING: &str = "s3 ";
/// What tokens of views begin with that are of one moment, which follows.
const FIXED: &str = "s3 at ";
/// What tokens of views end with that have older versions, too.
const WITH_VERSIONS: &str = " versions";
/// Times of versions are exact to the second, at most servers.
const SECOND: Duration = Duration::from_secs(1);
const NANOSECOND: Duration = Duration::from_nanos(1);
/// How often a server is asked whether its second is over.
const LOOKS: usize = 3;

/// A point in time of a bucket that keeps versions.
///
/// Of each key that version is read which was the newest one then, whatever comes after it. One whose newest
/// version was a mark of a deletion is left out. Times are those of the server. AWS gives an object that was
/// written in parts the time when its upload began: one that was under way then counts as there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConsistentAt {
    /// When the backup begins: at the end of that second, by the clock of the server. A backup that goes on
    /// later keeps it.
    Now,
    /// This time, which must be over.
    Time(Timestamp),
}

/// What a view is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// Whatever there is while it is read. When the backup began, in seconds since 1970.
    Passing(i64),
    /// What there was at a time.
    Fixed(Timestamp),
}

impl Moment {
    /// Begins a backup.
    ///
    /// # Errors
    /// `Unsupported` by a bucket that does not keep versions, `InvalidInput` for a time that is not over.
    pub(super) async fn begin(
        bucket: &Bucket,
        env: &Env,
        wanted: Option<ConsistentAt>,
    ) -> Result<Self> {
        let Some(wanted) = wanted else { return Ok(Self::Passing(env.now().as_second())) };
        let now = server_time(bucket).await?;
        match wanted {
            // What is written in this second may look as old as this.
            ConsistentAt::Time(time) if time >= now => {
                let at = bucket.settings().location();
                let message = format!("cannot back up {at} as of {time}: it is {now} there");
                Err(Error::new(ErrorKind::InvalidInput, message)
                    .with_code("s3-time-to-come")
                    .with_hint("give consistent_at a time that is over, or now"))
            }
            ConsistentAt::Time(time) => Ok(Self::Fixed(time)),
            ConsistentAt::Now => {
                let mut over = now;
                for _ in 0..LOOKS {
                    env.clock().sleep(SECOND).await;
                    over = server_time(bucket).await?;
                    if over > now {
                        break;
                    }
                }
                // Of a clock that stands still, the second before is the last one that is over.
                Ok(Self::Fixed(over - NANOSECOND))
            }
        }
    }

    /// Goes on where a token was given.
    ///
    /// # Errors
    /// `SourceChanged` if that is not what is wanted now.
    pub(super) fn resume(token: &ViewToken, options: &S3SourceOptions) -> Result<Self> {
        let wanted = options.consistent_at;
        let text = std::str::from_utf8(token.as_bytes()).ok();
        let whole = text.and_then(|text| text.strip_suffix(WITH_VERSIONS));
        if whole.is_some() != options.versions {
            let why = "cannot go on with the backup: it is not of what versions says now";
            return Err(Error::new(ErrorKind::SourceChanged, why));
        }
        let text = whole.or(text);
        let read = text.and_then(|text| match text.strip_prefix(FIXED) {
            Some(time) => time.parse().ok().map(Self::Fixed),
            None => text.strip_prefix(PASSING)?.parse().ok().map(Self::Passing),
        });
        let moment = read.ok_or_else(|| {
            let why = "cannot go on with the backup: it is of another version of this program";
            Error::new(ErrorKind::SourceChanged, why)
        })?;
        let is_wanted = match (moment, wanted) {
            (Self::Passing(_), None) | (Self::Fixed(_), Some(ConsistentAt::Now)) => true,
            (Self::Fixed(time), Some(ConsistentAt::Time(wanted))) => time == wanted,
            _ => false,
        };
        if is_wanted {
            return Ok(moment);
        }
        let why = "cannot go on with the backup: it is of another time than consistent_at says now";
        Err(Error::new(ErrorKind::SourceChanged, why))
    }

    /// What goes on with the same moment.
    pub(super) fn token(self, options: &S3SourceOptions) -> ViewToken {
        let mut text = match self {
            Self::Passing(began) => format!("{PASSING}{began}"),
            Self::Fixed(time) => format!("{FIXED}{time}"),
        };
        if options.versions {
            text.push_str(WITH_VERSIONS);
        }
        ViewToken::new(text.into_bytes())
    }

    /// From when ages of objects are counted, in seconds since 1970.
    pub(super) fn as_second(self) -> i64 {
        match self {
            Self::Passing(began) => began,
            Self::Fixed(time) => time.as_second(),
        }
    }

    /// The time that versions are looked for, if they are.
    pub(super) fn fixed(self) -> Option<Timestamp> {
        match self {
            Self::Passing(_) => None,
            Self::Fixed(time) => Some(time),
        }
    }
}

/// Why versions are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// The bucket is read as of a moment.
    ConsistentAt,
    /// Older versions are backed up.
    Versions,
}

impl Reason {
    /// Why a source with these options does; nothing if it does not.
    pub(super) fn of(options: &S3SourceOptions) -> Option<Self> {
        match options {
            S3SourceOptions { consistent_at: Some(_), .. } => Some(Self::ConsistentAt),
            S3SourceOptions { versions: true, .. } => Some(Self::Versions),
            _ => None,
        }
    }

    /// The name of the setting.
    fn setting(self) -> &'static str {
        match self {
            Self::ConsistentAt => "consistent_at",
            Self::Versions => "versions",
        }
    }

    /// What to do where a key may not list versions.
    pub(super) fn listing_hint(self) -> String {
        self.hint("s3:ListBucketVersions")
    }

    /// Adds what to do to an error of listing versions.
    pub(super) fn explain_listing(self, error: Error) -> Error {
        self.explained(error, "s3:ListBucketVersions")
    }

    /// What to do where no versions are kept.
    pub(super) fn keeping_hint(self) -> String {
        format!("turn versioning on, or leave {} out", self.setting())
    }

    fn hint(self, action: &str) -> String {
        format!("let this key do {action}, or leave {} out", self.setting())
    }

    /// Adds what to do to an error of a key that may not do something, or a server that cannot.
    fn explained(self, error: Error, action: &str) -> Error {
        match error.kind() {
            ErrorKind::PermissionDenied => error.with_hint(self.hint(action)),
            ErrorKind::Unsupported => {
                let setting = self.setting();
                error.with_hint(format!("this server shows no versions: leave {setting} out"))
            }
            _ => error,
        }
    }
}

/// Makes sure that a bucket keeps versions; for one that is read as of a time, whatever is replaced and
/// deleted.
///
/// # Errors
/// `Unsupported` if it does not, or for a time not any more: then what has no version is replaced for good.
pub(super) async fn require_versions(bucket: &Bucket, reason: Reason) -> Result<()> {
    let versioning = bucket.versioning().await;
    let versioning =
        versioning.map_err(|error| reason.explained(error, "s3:GetBucketVersioning"))?;
    let why = match (versioning, reason) {
        (Versioning::Enabled, _) | (Versioning::Suspended, Reason::Versions) => return Ok(()),
        (Versioning::Suspended, _) => {
            "the bucket keeps no new versions, as versioning is suspended"
        }
        (Versioning::Never, _) => "the bucket keeps no versions",
    };
    let at = bucket.settings().location();
    let doing = match reason {
        Reason::ConsistentAt => format!("back up {at} as of a time"),
        Reason::Versions => format!("back up older versions of {at}"),
    };
    Err(Error::new(ErrorKind::Unsupported, format!("cannot {doing}: {why}"))
        .with_code("s3-no-versions")
        .with_hint(reason.keeping_hint()))
}

/// The listing of a server that would show some keys as others.
pub(super) fn not_encoded(reason: Reason) -> Error {
    let doing = match reason {
        Reason::ConsistentAt => "list the bucket as of a time",
        Reason::Versions => "list older versions",
    };
    let why = "the server does not encode keys of versions, and one with unusual characters would be lost";
    let setting = reason.setting();
    Error::new(ErrorKind::Unsupported, format!("cannot {doing}: {why}"))
        .with_code("s3-versions-not-encoded")
        .with_hint(format!(
            "leave {setting} out: this server lists objects as they are now in full"
        ))
}

async fn server_time(bucket: &Bucket) -> Result<Timestamp> {
    bucket.server_time("").await?.ok_or_else(|| {
        let why = "cannot back up the bucket as of a time: the server does not tell its own";
        Error::new(ErrorKind::Unsupported, why)
            .with_code("s3-no-time")
            .with_hint("leave consistent_at out, or see what removes the date from its replies")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_goes_on_with_the_moment_that_it_began_with_or_anew() {
        let (one, other) = (Timestamp::constant(10, 500), Timestamp::constant(11, 0));
        let (now, at) = (Some(ConsistentAt::Now), |time| Some(ConsistentAt::Time(time)));
        for (moment, wanted, is_same) in [
            (Moment::Passing(-7), None, true),
            (Moment::Passing(7), now, false),
            (Moment::Passing(7), at(one), false),
            (Moment::Fixed(one), None, false),
            (Moment::Fixed(one), now, true),
            (Moment::Fixed(one), at(one), true),
            (Moment::Fixed(one), at(other), false),
        ] {
            let options = S3SourceOptions { consistent_at: wanted, ..Default::default() };
            let resumed = Moment::resume(&moment.token(&options), &options);
            let with = options.clone().with_versions();
            let resumed_with = Moment::resume(&moment.token(&with), &with);
            assert_eq!(resumed_with.ok(), resumed.as_ref().ok().copied());
            for (of, wanted) in [(&with, &options), (&options, &with)] {
                let other = Moment::resume(&moment.token(of), wanted).unwrap_err();
                assert!(other.is(ErrorKind::SourceChanged), "{other}");
            }
            match resumed {
                Ok(resumed) => assert_eq!((resumed, true), (moment, is_same), "{wanted:?}"),
                Err(error) => {
                    assert!(
                        error.is(ErrorKind::SourceChanged) && !is_same,
                        "{moment:?} {wanted:?}"
                    );
                }
            }
        }
        for text in ["", "s3", "s3 7 versions", "s3 x", "s3 at", "s3 at 7", "s2 7"] {
            let token = ViewToken::new(text.as_bytes().to_vec());
            assert!(Moment::resume(&token, &S3SourceOptions::default()).is_err(), "{text}");
        }
    }
}
