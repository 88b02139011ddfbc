//! Records and changes as they stand in the tables.

use std::collections::BTreeMap;

use backupkit_core::Result;
use backupkit_core::secret::SealedSecret;
use backupkit_core::state::{
    Actor, Change, ChangeKind, Draft, Record, RecordId, RecordKind, RecordRef, Scope,
};
use jiff::Timestamp;
use serde_json::value::RawValue;
use sqlx::FromRow;

use crate::SqliteStore;

/// The columns of a record, in the order of [`RecordRow`].
#[derive(Debug, FromRow)]
pub(crate) struct RecordRow {
    id: String,
    kind: String,
    name: String,
    revision: i64,
    body: String,
    secrets: String,
    needs: String,
    created_at: String,
    updated_at: String,
}

/// A record, and whose it is.
#[derive(Debug, FromRow)]
pub(crate) struct ScopedRow {
    scope: String,
    #[sqlx(flatten)]
    record: RecordRow,
}

#[derive(Debug, FromRow)]
pub(crate) struct ChangeRow {
    number: i64,
    at: String,
    actor: String,
    kind: String,
    record_kind: String,
    record_id: String,
    name: String,
}

impl RecordRow {
    pub(crate) fn decode(self, store: &SqliteStore) -> Result<Record> {
        let damaged = || store.damaged(&format!("record {} is not readable", self.id));
        let time = |text: &str| text.parse::<Timestamp>().map_err(|_| damaged());
        let needs = self.needs.split_terminator(',').map(|need| {
            let (kind, id) = need.split_once(' ')?;
            reference(kind, id)
        });
        let secrets = self.secrets.split_terminator(',').map(|secret| {
            let (field, sealed) = secret.split_once(' ')?;
            let sealed = SealedSecret::from_bytes(&hex::decode(sealed).ok()?).ok()?;
            Some((field.to_owned(), sealed))
        });
        Ok(Record {
            itself: reference(&self.kind, &self.id).ok_or_else(damaged)?,
            revision: u64::try_from(self.revision).map_err(|_| damaged())?,
            created_at: time(&self.created_at)?,
            updated_at: time(&self.updated_at)?,
            content: Draft {
                needs: needs.collect::<Option<_>>().ok_or_else(damaged)?,
                secrets: secrets.collect::<Option<_>>().ok_or_else(damaged)?,
                body: RawValue::from_string(self.body.clone()).map_err(|_| damaged())?.into(),
                name: self.name.clone(),
            },
        })
    }
}

impl ScopedRow {
    pub(crate) fn decode(self, store: &SqliteStore) -> Result<(Scope, Record)> {
        let scope = Scope::new(self.scope).map_err(|_| store.damaged("a scope has an odd name"))?;
        Ok((scope, self.record.decode(store)?))
    }
}

impl ChangeRow {
    pub(crate) fn decode(self, store: &SqliteStore) -> Result<Change> {
        let damaged = || store.damaged(&format!("change {} is not readable", self.number));
        let kind = ChangeKind::ALL.iter().find(|kind| kind.as_str() == self.kind);
        Ok(Change {
            number: u64::try_from(self.number).map_err(|_| damaged())?,
            at: self.at.parse().map_err(|_| damaged())?,
            actor: Actor::new(self.actor.as_str()).map_err(|_| damaged())?,
            kind: *kind.ok_or_else(damaged)?,
            record: reference(&self.record_kind, &self.record_id).ok_or_else(damaged)?,
            name: self.name.clone(),
        })
    }
}

/// Sealed secrets in one column: `<field> <hexadecimal>,<field> <hexadecimal>`.
pub(crate) fn encode_secrets(secrets: &BTreeMap<String, SealedSecret>) -> String {
    let encode = |(field, sealed): (&String, &SealedSecret)| {
        format!("{field} {}", hex::encode(sealed.to_bytes()))
    };
    secrets.iter().map(encode).collect::<Vec<_>>().join(",")
}

/// What a record needs, in one column: `plan <id>,connection <id>`.
pub(crate) fn encode_needs(needs: &[RecordRef]) -> String {
    let needs: Vec<String> =
        needs.iter().map(|RecordRef { kind, id }| format!("{kind} {id}")).collect();
    needs.join(",")
}

fn reference(kind: &str, id: &str) -> Option<RecordRef> {
    let kind = RecordKind::ALL.iter().find(|known| known.as_str() == kind)?;
    Some(RecordRef { kind: *kind, id: id.parse::<RecordId>().ok()? })
}
