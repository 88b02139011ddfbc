//! The secrets of connections: sealed with them, opened for what they lead to, and sent nowhere else.

use super::Workspace;
use super::bodies::{ConnectionBody, reference};
use crate::error::{Error, ErrorKind, Result};
use crate::registry::{ConnectionSecrets, SystemKind};
use crate::state::{Record, RecordKind, refusal};

impl Workspace {
    /// The secrets of a connection, opened.
    ///
    /// # Errors
    /// As for opening sealed secrets.
    pub(super) async fn secrets_of(&self, connection: &Record) -> Result<ConnectionSecrets> {
        let mut secrets = ConnectionSecrets::default();
        for name in connection.content.secrets.keys() {
            if let Some(secret) = self.unseal(connection, name).await? {
                secrets = secrets.with(name, secret);
            }
        }
        Ok(secrets)
    }

    /// The secrets that the connection with this id has now, for settings that it had or is to have.
    ///
    /// # Errors
    /// `Conflict` with code `connection-moved` if the connection now leads to another place than these
    /// settings do: its secrets were given for that one.
    pub(super) async fn secrets_for(
        &self,
        id: &str,
        used: &ConnectionBody,
    ) -> Result<ConnectionSecrets> {
        match self.same_place(id, used).await? {
            Some((record, _)) => self.secrets_of(&record).await,
            None => Ok(ConnectionSecrets::default()),
        }
    }

    /// What a run uses that keeps settings of the connection with this id: who asks, and with which
    /// secrets, is as the connection says now.
    ///
    /// # Errors
    /// As for [`Self::secrets_for`].
    pub(super) async fn as_of_now(
        &self,
        id: &str,
        kept: &ConnectionBody,
    ) -> Result<(ConnectionBody, ConnectionSecrets)> {
        let Some((record, now)) = self.same_place(id, kept).await? else {
            return Ok((kept.clone(), ConnectionSecrets::default()));
        };
        let kind = self.registry.get(&kept.kind)?;
        let settings = kind.with_identity_of(&kept.settings, &now.settings)?.into();
        let body = ConnectionBody { settings, ..kept.clone() };
        Ok((body, self.secrets_of(&record).await?))
    }

    /// The connection with this id, which must lead to the same place as these settings; nothing if it has
    /// no secrets to take care of.
    async fn same_place(
        &self,
        id: &str,
        used: &ConnectionBody,
    ) -> Result<Option<(Record, ConnectionBody)>> {
        let kind = self.registry.get(&used.kind)?;
        if kind.secret_names().is_empty() {
            return Ok(None);
        }
        let itself = reference(RecordKind::Connection, id)?;
        let record = self.store.get(&self.scope, itself).await?;
        let record = record.ok_or_else(|| refusal::missing(itself))?;
        let now: ConnectionBody = record.decode()?;
        if now.kind != used.kind || !kind.is_same_endpoint(&now.settings, &used.settings) {
            let name = &record.content.name;
            let message = format!("connection `{name}` leads elsewhere now");
            return Err(Error::new(ErrorKind::Conflict, message)
                .with_code("connection-moved")
                .with_hint("its secrets are not sent to where it led before; order a new run"));
        }
        Ok(Some((record, now)))
    }
}

/// # Errors
/// `InvalidInput` with code `unknown-secret` if the kind has no secret of this name.
pub(super) fn require_known<'a>(
    kind: &dyn SystemKind,
    mut names: impl Iterator<Item = &'a str>,
) -> Result<()> {
    let known = kind.secret_names();
    let Some(unknown) = names.find(|name| !known.contains(name)) else { return Ok(()) };
    let message = format!("a connection to {} has no secret called {unknown:?}", kind.name());
    let error = Error::new(ErrorKind::InvalidInput, message).with_code("unknown-secret");
    Err(if known.is_empty() {
        error.with_hint("it has none at all")
    } else {
        error.with_hint(format!("secrets are: {}", known.join(", ")))
    })
}
