//! Writes records and their secrets, while the master key may change.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::SecretString;
use serde_json::value::RawValue;

use super::Workspace;
use super::keyring::KEY_UNKNOWN;
use crate::error::{Error, Result};
use crate::secret::{SealedSecret, SecretPlace, Vault};
use crate::state::{Draft, Record, RecordKind, RecordRef, refusal};

/// The master key may be changed again while a record is drafted anew; not for ever.
const MOST_RELOADS: usize = 5;

/// Changes a record as it stands, and again if it was changed meanwhile, unless the caller wants to know of
/// that.
pub(super) struct Tries {
    left: usize,
}

impl Tries {
    /// `revision` is the one that the caller saw.
    pub(super) fn new(revision: Option<u64>) -> Self {
        Self { left: if revision.is_none() { MOST_RELOADS } else { 0 } }
    }

    /// Whether to try once more.
    pub(super) fn again<T>(&mut self, changed: &Result<T>) -> bool {
        let is_again = changed.as_ref().is_err_and(is_overtaken) && self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_again
    }
}

/// What a record is to hold, before it is sealed.
pub(super) struct Content {
    pub(super) name: String,
    pub(super) body: Arc<RawValue>,
    pub(super) needs: Vec<RecordRef>,
    pub(super) secrets: BTreeMap<String, Secret>,
}

pub(super) enum Secret {
    New(SecretString),
    /// It stays as it is.
    Kept(SealedSecret),
}

impl Content {
    /// What a record holds now.
    pub(super) fn of(record: &Record) -> Self {
        let Draft { name, body, secrets, needs } = record.content.clone();
        let secrets =
            secrets.into_iter().map(|(field, sealed)| (field, Secret::Kept(sealed))).collect();
        Self { name, body, needs, secrets }
    }

    /// Whether a record holds just this. A new secret counts as another one.
    pub(super) fn is_of(&self, record: &Record) -> bool {
        let is_kept = |(field, secret): (&String, &Secret)| match secret {
            Secret::New(_) => false,
            Secret::Kept(sealed) => record.content.secrets.get(field) == Some(sealed),
        };
        let Draft { name, body, secrets, needs } = &record.content;
        self.name == *name
            && self.body.get() == body.get()
            && self.needs == *needs
            && self.secrets.len() == secrets.len()
            && self.secrets.iter().all(is_kept)
    }

    fn draft(&self, vault: &Vault, place: &SecretPlace<'_>) -> Result<Draft> {
        let seal = |(field, secret): (&String, &Secret)| {
            let place = SecretPlace { field, ..*place };
            let sealed = match secret {
                Secret::New(secret) => vault.seal(&place, secret)?,
                Secret::Kept(sealed) => {
                    vault.rewrap(&place, sealed)?.unwrap_or_else(|| sealed.clone())
                }
            };
            Ok((field.clone(), sealed))
        };
        let secrets = self.secrets.iter().map(seal).collect::<Result<_>>()?;
        let (name, body) = (self.name.clone(), Arc::clone(&self.body));
        Ok(Draft { name, body, secrets, needs: self.needs.clone() })
    }
}

impl Workspace {
    /// Creates a record, or with a revision replaces what it holds. Its secrets are sealed with the key of
    /// this moment.
    pub(super) async fn put(
        &self,
        itself: RecordRef,
        revision: Option<u64>,
        content: &Content,
    ) -> Result<Record> {
        let mut reloads = 0;
        loop {
            let written = self.try_to_put(itself, revision, content).await;
            match written {
                Err(error) if is_of_changed_keys(&error) && reloads < MOST_RELOADS => {
                    reloads += 1;
                    self.keyring.reload(&*self.store, &self.env).await?;
                }
                written => return written,
            }
        }
    }

    /// Opens a secret of a record; nothing if it has none of this name.
    pub(super) async fn unseal(
        &self,
        record: &Record,
        field: &str,
    ) -> Result<Option<SecretString>> {
        let itself = record.itself;
        let id = itself.id.to_string();
        let place = SecretPlace { field, ..self.place(itself.kind, &id) };
        let mut sealed = record.content.secrets.get(field).cloned();
        let mut reloads = 0;
        loop {
            let Some(found) = sealed else { return Ok(None) };
            match self.keyring.vault().open(&place, &found) {
                Err(error) if is_of_changed_keys(&error) && reloads < MOST_RELOADS => {
                    reloads += 1;
                    self.keyring.reload(&*self.store, &self.env).await?;
                    // It came under another key, too.
                    let record = self.store.get(&self.scope, itself).await?;
                    let record = record.ok_or_else(|| refusal::missing(itself))?;
                    sealed = record.content.secrets.get(field).cloned();
                }
                opened => {
                    let what = || format!("{field} of {} `{}`", itself.kind, record.content.name);
                    return opened.map(Some).map_err(|error| error.while_doing(what()));
                }
            }
        }
    }

    async fn try_to_put(
        &self,
        itself: RecordRef,
        revision: Option<u64>,
        content: &Content,
    ) -> Result<Record> {
        let id = itself.id.to_string();
        let draft = content.draft(&self.keyring.vault(), &self.place(itself.kind, &id));
        let named = |error: Error| error.while_doing(format!("{} `{}`", itself.kind, content.name));
        let draft = draft.map_err(named)?;
        match revision {
            None => self.store.create(&self.scope, &self.actor, itself, draft).await,
            Some(revision) => {
                self.store.update(&self.scope, &self.actor, itself, revision, draft).await
            }
        }
    }

    fn place<'a>(&'a self, kind: RecordKind, id: &'a str) -> SecretPlace<'a> {
        SecretPlace {
            scope: self.scope.as_str(),
            owner_kind: kind.as_str(),
            owner_id: id,
            field: "",
        }
    }
}

/// Whether another process has changed the master key since this one loaded it.
fn is_of_changed_keys(error: &Error) -> bool {
    [refusal::KEY_RETIRED, KEY_UNKNOWN].contains(&error.code())
}

/// Whether another process has changed the record since this one read it, by hand or with the master key.
fn is_overtaken(error: &Error) -> bool {
    error.code() == refusal::STALE || is_of_changed_keys(error)
}
