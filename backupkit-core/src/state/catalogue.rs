//! Connections, repositories and plans.

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;

use super::actor::{Actor, Scope};
use super::record::{Draft, Record, RecordId, RecordKind, RecordRef};
use crate::error::Result;
use crate::secret::MasterKeyId;

/// Keeps named records: what people set up. One mechanism for all kinds, so that a store needs to know
/// none of them.
///
/// # Contract
/// 1. Names are unique within a scope and kind; a second one is refused with code `name-taken`. Names
///    are compared byte by byte.
/// 2. An update names the revision that it was made from. Another one is refused with code `stale`, so
///    no change is lost to one made at the same time.
/// 3. What a record needs is there: a missing one is refused with code `no-such-record`, and one that is
///    needed cannot be deleted; that is refused with code `in-use`, and the message names who needs it.
///    That a record needs itself binds nothing.
/// 4. Nothing of another scope is seen, needed or changed.
/// 5. Each change is noted with its actor, numbered from 1 without gaps in each scope, in the order in
///    which the changes took effect.
/// 6. A change takes effect as a whole or not at all, also when its future is dropped; on return it is
///    durable, as far as the store is.
/// 7. An id is used once, in all scopes together; a second record of it is refused with code `id-taken`,
///    as long as the first is there.
/// 8. What [`Draft::check`] refuses is refused. Everything else comes back byte by byte.
/// 9. Once a sealing key is named, a draft with a secret that is sealed with another one is refused with
///    code [`KEY_RETIRED`](super::refusal::KEY_RETIRED), also when it was drafted before. So whoever
///    names a key and then looks through [`sealed`](Self::sealed) misses no secret. Secrets on record stay
///    as they are.
#[async_trait]
pub trait Catalogue: fmt::Debug + Send + Sync + 'static {
    /// Adds a record.
    ///
    /// # Errors
    /// `Conflict` if the id or the name is taken, `NotFound` if something that it needs is missing.
    async fn create(
        &self,
        scope: &Scope,
        actor: &Actor,
        itself: RecordRef,
        draft: Draft,
    ) -> Result<Record>;

    /// Replaces what a record holds.
    ///
    /// # Errors
    /// `NotFound` if it, or something that it is to need, is missing; `Conflict` if it was changed
    /// since `revision`, or the new name is taken.
    async fn update(
        &self,
        scope: &Scope,
        actor: &Actor,
        itself: RecordRef,
        revision: u64,
        draft: Draft,
    ) -> Result<Record>;

    /// Removes a record.
    ///
    /// # Errors
    /// `NotFound` if it is missing, `Conflict` if it was changed since `revision` or is needed.
    async fn delete(
        &self,
        scope: &Scope,
        actor: &Actor,
        itself: RecordRef,
        revision: u64,
    ) -> Result<()>;

    /// A record by its id; nothing if there is none.
    async fn get(&self, scope: &Scope, itself: RecordRef) -> Result<Option<Record>>;

    /// A record by its name; nothing if there is none.
    async fn find(&self, scope: &Scope, kind: RecordKind, name: &str) -> Result<Option<Record>>;

    /// At most `most` records of a kind, in the order of the bytes of their names, behind the name
    /// `after`.
    async fn list(
        &self,
        scope: &Scope,
        kind: RecordKind,
        after: Option<&str>,
        most: usize,
    ) -> Result<Vec<Record>>;

    /// The other records that need this one, ordered by kind and name.
    async fn users(&self, scope: &Scope, itself: RecordRef) -> Result<Vec<Record>>;

    /// At most `most` changes behind number `after`, in their order.
    async fn changes(&self, scope: &Scope, after: u64, most: usize) -> Result<Vec<Change>>;

    /// The master key that secrets have to be sealed with; nothing as long as none was named.
    async fn sealing_key(&self) -> Result<Option<MasterKeyId>>;

    /// Names the master key that secrets have to be sealed with from now on, in all scopes, if it was
    /// `expected` so far, and returns whether it was.
    async fn swap_sealing_key(
        &self,
        expected: Option<MasterKeyId>,
        key: MasterKeyId,
    ) -> Result<bool>;

    /// At most `most` records that have secrets, of all scopes, in the order of their ids, behind the id
    /// `after`.
    async fn sealed(&self, after: Option<RecordId>, most: usize) -> Result<Vec<(Scope, Record)>>;
}

/// One change that took effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// From 1, without gaps in its scope.
    pub number: u64,
    /// When, by the clock of the store.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What was done.
    pub kind: ChangeKind,
    /// To which record.
    pub record: RecordRef,
    /// What it was called afterwards, or before it was deleted.
    pub name: String,
}

/// What was done to a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It was created.
    Create,
    /// It was updated.
    Update,
    /// It was deleted.
    Delete,
}

impl ChangeKind {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Create, Self::Update, Self::Delete];

    /// The stable name, as databases and JSON hold it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}
