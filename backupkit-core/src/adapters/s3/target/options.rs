//! What a restore into a bucket gives back besides what is harmless.

/// What is given back with objects only if somebody asks for it. How many objects have it and are restored
/// without is told at the end of the restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct S3TargetOptions {
    /// Whether objects are locked as they were, for the time that is left, and held again. What is
    /// restored in the mode `COMPLIANCE` nobody can delete before its time. The bucket must have been made
    /// with object lock; where it is not, objects are restored without, each with a warning.
    pub locks: bool,
    /// Whether access lists are given back. What the owner of an object was allowed goes to the owner of
    /// the bucket, all else to whoever had it. Where the bucket has none, objects are restored without,
    /// each with a warning.
    pub acls: bool,
    /// Whether the older versions that are in the snapshot of a bucket are put into the target, too, below
    /// what was current. The bucket must keep versions: where it does not, nothing is restored.
    pub versions: bool,
}

impl S3TargetOptions {
    /// Says that objects are locked as they were.
    #[must_use]
    pub fn with_locks(mut self) -> Self {
        self.locks = true;
        self
    }

    /// Says that access lists are given back.
    #[must_use]
    pub fn with_acls(mut self) -> Self {
        self.acls = true;
        self
    }

    /// Says that older versions are given back.
    #[must_use]
    pub fn with_versions(mut self) -> Self {
        self.versions = true;
        self
    }
}
