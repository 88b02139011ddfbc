//! Config and keys. They were whole when the repository was opened, at least one key was; they are
//! asked for again only when it is too late.

use super::CheckRun;
use super::findings::Findings;
use crate::error::{ErrorKind, Result};
use crate::model::KeyId;
use crate::repo::fetch::is_of_stored_bytes;
use crate::repo::layout::FileKind;

/// Reads the config and every key.
pub(super) async fn check(run: &CheckRun, findings: &Findings) -> Result<()> {
    let repository = &run.repository;
    match repository.read_config_again().await {
        Err(error) if is_of_stored_bytes(&error) => findings.add("config", &error, None),
        result => result?,
    }
    let ids = repository.list(FileKind::Key).await?;
    if ids.is_empty() {
        findings.add("keys", &"there are none, so that nothing opens it", None);
    }
    for id in ids.into_iter().map(KeyId::from_bytes) {
        match repository.read_key(id).await {
            // A key may be removed beside us.
            Err(error) if error.is(ErrorKind::NotFound) => {}
            Err(error) if is_of_stored_bytes(&error) => {
                findings.add(format!("key {id}"), &error, None);
            }
            result => result?,
        }
    }
    Ok(())
}
