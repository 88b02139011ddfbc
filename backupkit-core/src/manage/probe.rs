//! Tries connections and repositories, step by step.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};

use super::Workspace;
use super::bodies::{ConnectionBody, RepositoryBody};
use crate::destination::{Destination, ObjectKey};
use crate::error::{Error, ErrorKind, Result};
use crate::probe::{Probe, Probing};
use crate::registry::Purpose;
use crate::repo::Repository;
use crate::state::RecordKind;

/// So many objects are looked at to try whether a list comes.
const LISTED: usize = 1;

const OPEN_SECRET: &str = "open the sealed password";
const FIND: &str = "find the place";
const LIST: &str = "list what is there";
const READ: &str = "read the config of the repository";
const UNLOCK: &str = "open it with the password";
const COMPARE: &str = "compare its id";
const WRITE: &str = "write into it";

impl Workspace {
    /// Tries step by step whether a connection is good for a purpose; without one, whether what it leads to
    /// can be read, or else written.
    ///
    /// # Errors
    /// `NotFound`; `Unsupported` if the kind has no such purpose; those of the store. What goes wrong at the
    /// other side stands in the probe.
    pub async fn test_connection(&self, name: &str, purpose: Option<Purpose>) -> Result<Probe> {
        let record = self.find(RecordKind::Connection, name).await?;
        let body: ConnectionBody = record.decode()?;
        let secrets = &self.secrets_of(&record).await?;
        let kind = self.registry.get(&body.kind)?;
        let probe = |purpose| kind.probe(&body.settings, purpose, secrets, &self.env);
        match probe(purpose.unwrap_or(Purpose::Source)).await {
            // What cannot be read may still be written.
            Err(error) if purpose.is_none() && error.is(ErrorKind::Unsupported) => {
                probe(Purpose::Repository).await
            }
            probed => probed,
        }
    }

    /// Tries whether a repository can be reached, opened and written, step by step, as its destination
    /// [does](Destination::check). It changes nothing but for small files that come and go.
    ///
    /// # Errors
    /// `NotFound`; those of the store. What goes wrong with the repository stands in the probe.
    pub async fn test_repository(&self, name: &str) -> Result<Probe> {
        let record = self.find(RecordKind::Repository, name).await?;
        let body: RepositoryBody = record.decode()?;
        let connection = self.connection(&body.connection).await?;
        let mut probing = Probing::new(&self.env);
        let hint = "give the master key that it was sealed with, or the password anew with \
                    `backupkit repo set --password`";
        let password = probing.step_async(OPEN_SECRET, hint, self.password(&record)).await;
        let hint = "correct the connection with `backupkit connection set`";
        let finding = async {
            let secrets = self.secrets_for(&body.connection, &connection).await?;
            self.destination(&connection, &secrets, &body.path)
        };
        let found = probing.step_async(FIND, hint, finding).await;
        let Some(destination) = found else {
            for step in [LIST, READ, UNLOCK, COMPARE, WRITE] {
                probing.skip(step, "the place cannot be found");
            }
            return Ok(probing.finish());
        };
        let hint = "see whether the place is there: a disk may not be mounted, or may have moved";
        let listed = probing.step_async(LIST, hint, list(&*destination)).await;
        if listed.is_none() {
            for step in [READ, UNLOCK, COMPARE, WRITE] {
                probing.skip(step, "the place cannot be reached");
            }
            return Ok(probing.finish());
        }
        let hint = "see whether the repository is at this place: a disk may not be mounted";
        let is_there = probing.step_async(READ, hint, read_config(&*destination)).await;
        let hint = "give one of its passwords with `backupkit repo set --password`";
        let opened = match (is_there, password) {
            (Some(()), Some(password)) => {
                let destination = Arc::clone(&destination);
                let opening = Repository::open(destination, &password, &self.env);
                probing.step_async(UNLOCK, hint, opening).await
            }
            (None, _) => {
                probing.skip(UNLOCK, "there is no config to be read");
                None
            }
            (_, None) => {
                probing.skip(UNLOCK, "there is no password");
                None
            }
        };
        match opened {
            Some(repository) => {
                probing.step(COMPARE, "add it under a new name", || body.require(&repository));
            }
            None => probing.skip(COMPARE, "it was not opened"),
        }
        if is_there.is_none() {
            probing.skip(WRITE, "there is no repository");
            return Ok(probing.finish());
        }
        match destination.check().await {
            Ok(tried) => probing.extend(tried),
            Err(error) => {
                let hint = "let this user write there; without that it can only be restored from";
                probing.step::<()>(WRITE, hint, || Err(error));
            }
        }
        Ok(probing.finish())
    }
}

async fn list(destination: &dyn Destination) -> Result<()> {
    // Of all folders, the one with the fewest files; a missing one is an empty list.
    let keys = destination.list(&ObjectKey::new("keys")?);
    keys.take(LISTED).try_for_each(|_| async { Ok(()) }).await
}

async fn read_config(destination: &dyn Destination) -> Result<()> {
    if !Repository::exists(destination).await? {
        let message = format!("there is no repository at {}", destination.location());
        return Err(Error::new(ErrorKind::NotFound, message));
    }
    destination.get(&ObjectKey::new("config")?, None).await.map(drop)
}
