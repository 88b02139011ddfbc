//! Changes the master key while other processes work.

use super::keyring::PROOF;
use super::write::{Content, Tries};
use super::{PAGE, Workspace};
use crate::error::{Error, ErrorKind, Result};
use crate::secret::{MasterKey, MasterKeyId, kept_elsewhere};
use crate::state::{RecordRef, Scope};

/// What a change of the master key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRotation {
    /// The key that all secrets need from now on. Its id is not secret.
    pub key: MasterKeyId,
    /// So many records had secrets that were wrapped anew.
    pub rewrapped: u64,
    /// Whether a person has to take the former keys away from where they are kept.
    pub is_kept_elsewhere: bool,
}

/// Called after each thing that is durable, so that tests end there.
type AfterStep<'a> = &'a mut (dyn FnMut() -> Result<()> + Send);

impl Workspace {
    /// Changes the master key of all secrets, in all scopes. Others may work meanwhile.
    ///
    /// A new key is made and kept besides the former one, which goes once nothing needs it. Where several
    /// keys are kept, by a change that did not end or by a person, all secrets come under the first of them,
    /// and none is made.
    ///
    /// Cancel safe, as is a crash: at any moment everything opens with the keys that are kept. Call it again
    /// to finish.
    ///
    /// # Errors
    /// `Unsupported` with code `master-key-elsewhere` if a person has to make a new key first, which the hint
    /// tells how to; `Conflict` if another process changes it at the same time; those of the store and of the
    /// keys.
    pub async fn rotate_master_key(&self) -> Result<KeyRotation> {
        self.rotate(&mut || Ok(())).await
    }

    pub(super) async fn rotate(&self, after_step: AfterStep<'_>) -> Result<KeyRotation> {
        let keys = self.keyring.keys();
        let is_kept_elsewhere = keys.how_to_replace().is_some();
        let mut kept = keys.load().await?;
        if kept.len() < 2 {
            if is_kept_elsewhere {
                return Err(kept_elsewhere(keys));
            }
            let former = ids(&kept);
            kept.insert(0, MasterKey::generate(&self.env)?);
            keys.replace(&former, &kept).await?;
            after_step()?;
        }
        // One more at each try would end in a file that is too long to be read.
        let key = kept[0].id();
        let rewrapped = self.move_to(key, after_step).await?;
        if !is_kept_elsewhere {
            keys.replace(&ids(&kept), &kept[..1]).await?;
            after_step()?;
        }
        Ok(KeyRotation { key, rewrapped, is_kept_elsewhere })
    }

    /// Brings all secrets under a key that is kept, and returns how many records had others.
    async fn move_to(&self, key: MasterKeyId, after_step: AfterStep<'_>) -> Result<u64> {
        let before = self.store.sealing_key().await?;
        // From here on nothing comes under another key, so that no secret is missed below.
        if before != Some(key) && !self.store.swap_sealing_key(before, key).await? {
            return Err(overtaken());
        }
        after_step()?;
        self.keyring.reload(&*self.store, &self.env).await?;
        let (mut rewrapped, mut last) = (0, None);
        loop {
            let page = self.store.sealed(last, PAGE).await?;
            for (scope, record) in &page {
                last = Some(record.itself.id);
                if record.content.secrets.values().any(|sealed| sealed.key_id() != key) {
                    self.rewrap(scope, record.itself).await?;
                    rewrapped += 1;
                    after_step()?;
                }
            }
            if page.len() < PAGE {
                break;
            }
        }
        let proof = self.store.setting(PROOF).await?;
        let vault = self.keyring.reload(&*self.store, &self.env).await?;
        if vault.primary_id() != key {
            return Err(overtaken());
        }
        if proof.as_deref() != Some(&vault.proof())
            && !self.store.swap_setting(PROOF, proof.as_deref(), Some(&vault.proof())).await?
        {
            return Err(overtaken());
        }
        after_step()?;
        Ok(rewrapped)
    }

    async fn rewrap(&self, scope: &Scope, itself: RecordRef) -> Result<()> {
        let workspace = self.scope(scope.clone());
        let mut tries = Tries::new(None);
        loop {
            let Some(record) = self.store.get(scope, itself).await? else { return Ok(()) };
            let written =
                workspace.put(itself, Some(record.revision), &Content::of(&record)).await.map(drop);
            match written {
                // It was deleted meanwhile.
                Err(error) if error.code() == "no-such-record" => return Ok(()),
                written if !tries.again(&written) => return written,
                _ => {}
            }
        }
    }
}

fn ids(keys: &[MasterKey]) -> Vec<MasterKeyId> {
    keys.iter().map(MasterKey::id).collect()
}

fn overtaken() -> Error {
    Error::new(ErrorKind::Conflict, "another process changes the master key at the same time")
        .with_code("key-rotation-overtaken")
        .with_hint("wait for its end; nothing is lost")
}
