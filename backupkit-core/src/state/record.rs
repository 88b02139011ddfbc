//! Records: what people set up, by kind, with a name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::id::random_id;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::{MasterKeyId, SealedSecret};

/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 200;
/// The longest body, in bytes.
pub const MAX_BODY_BYTES: usize = 1 << 20;

/// A record has no more secrets.
pub const MAX_SECRETS: usize = 16;

const MAX_WORD_BYTES: usize = 64;

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// How to reach a system.
    Connection,
    /// A repository, and through which connection it is reached.
    Repository,
    /// What is copied where, and how.
    Plan,
}

random_id! {
    /// Tells a record from all others, of whatever kind and scope. Random, so that it is never used
    /// again. Whoever creates a record draws it, since secrets are sealed for the record that they
    /// belong to.
    RecordId: "record"
}

/// Points to a record of the same scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordRef {
    /// What it is.
    pub kind: RecordKind,
    /// Which one.
    pub id: RecordId,
}

/// What a record is to hold.
#[derive(Debug, Clone)]
pub struct Draft {
    /// What people call it: unique within its scope and kind.
    pub name: String,
    /// What it says, as one JSON value. The store does not look into it. It holds no secret.
    pub body: Arc<RawValue>,
    /// Its secrets, sealed, by field. A field is named by 1 to 64 of `a` to `z`, `0` to `9` and `_`.
    pub secrets: BTreeMap<String, SealedSecret>,
    /// The records that it needs. They cannot be deleted as long as it does.
    pub needs: Vec<RecordRef>,
}

/// What a store holds.
#[derive(Debug, Clone)]
pub struct Record {
    /// What it is, and which one.
    pub itself: RecordRef,
    /// One more with each update; 1 at first.
    pub revision: u64,
    /// What it holds.
    pub content: Draft,
    /// When it was created, by the clock of the store.
    pub created_at: Timestamp,
    /// When it was changed last, by the clock of the store.
    pub updated_at: Timestamp,
}

impl RecordKind {
    /// All of them.
    pub const ALL: &'static [Self] = &[Self::Connection, Self::Repository, Self::Plan];

    /// The stable name, as databases and JSON hold it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Repository => "repository",
            Self::Plan => "plan",
        }
    }
}

impl Record {
    /// Reads what it says.
    ///
    /// # Errors
    /// `Corrupt` if it is something else.
    pub fn decode<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        let what = || format!("{} `{}`", self.itself.kind, self.content.name);
        serde_json::from_str(self.content.body.get()).map_err(|error| Error::corrupt(what(), error))
    }
}

impl Draft {
    /// Says what is wrong with it, if anything is: for stores, before they keep it.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is empty, longer than [`MAX_NAME_BYTES`], begins or ends with a
    /// space, or holds control characters, for a body longer than [`MAX_BODY_BYTES`], and for more than
    /// [`MAX_SECRETS`] secrets or a field that is no field.
    pub fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        let refused = |why: String| Err(Error::new(ErrorKind::InvalidInput, why));
        let name = &self.name;
        let body_bytes = self.body.get().len();
        if body_bytes > MAX_BODY_BYTES {
            return refused(format!(
                "`{name}` has {body_bytes} bytes of settings; at most {MAX_BODY_BYTES} are kept"
            ));
        }
        if self.secrets.len() > MAX_SECRETS
            || !self.secrets.keys().all(|field| is_word(field, b'_'))
        {
            return refused(format!("`{name}` has too many secrets, or one with an odd name"));
        }
        Ok(())
    }

    /// Says whether its secrets are sealed with the key that is to be sealed with, if one is named: for
    /// stores, in the same transaction in which they keep it.
    ///
    /// # Errors
    /// `Conflict` with code [`KEY_RETIRED`](super::refusal::KEY_RETIRED).
    pub fn check_sealing(&self, key: Option<MasterKeyId>) -> Result<()> {
        let Some(key) = key else { return Ok(()) };
        match self.secrets.values().find(|sealed| sealed.key_id() != key) {
            Some(sealed) => Err(super::refusal::key_retired(sealed.key_id(), key)),
            None => Ok(()),
        }
    }
}

/// Whether people may call something so.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let refused = |why: String| Err(Error::new(ErrorKind::InvalidInput, why));
    if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        return refused(format!(
            "a name needs 1 to {MAX_NAME_BYTES} bytes without control characters"
        ));
    }
    if name.trim() != name {
        return refused("a name must not begin or end with a space".to_owned());
    }
    Ok(())
}

/// Whether this is a word that programs use: 1 to 64 of `a` to `z`, `0` to `9` and `joint`.
pub(super) fn is_word(text: &str, joint: u8) -> bool {
    let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == joint;
    (1..=MAX_WORD_BYTES).contains(&text.len()) && text.bytes().all(is_known)
}

/// Bodies are compared byte by byte.
impl PartialEq for Draft {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.body.get() == other.body.get()
            && self.secrets == other.secrets
            && self.needs == other.needs
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
