//! The master keys, as one process holds them while another one may change them.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::{MasterKey, MasterKeyId, MasterKeys, Vault};
use crate::state::StateStore;

/// Under this name the store keeps what tells whether a master key is the right one.
pub(super) const PROOF: &str = "master_key_proof";

/// The code of what is sealed with a key that is not at hand.
pub(super) const KEY_UNKNOWN: &str = "master-key-unknown";

/// The keys may be changed again at each look; not for ever.
const MOST_TRIES: usize = 5;

pub(super) struct Keyring {
    keys: Arc<dyn MasterKeys>,
    /// Of the keys as they were when they were loaded last.
    vault: Mutex<Arc<Vault>>,
}

impl Keyring {
    /// Loads the keys, and checks that they are those of the store. An empty store takes the first one.
    pub(super) async fn open(
        store: &dyn StateStore,
        keys: Arc<dyn MasterKeys>,
        env: &Env,
    ) -> Result<Self> {
        let opened = open(store, &*keys, env).await?;
        Ok(Self { keys, vault: Mutex::new(Arc::new(opened)) })
    }

    pub(super) fn keys(&self) -> &dyn MasterKeys {
        &*self.keys
    }

    /// Seals with the key that was to be sealed with when they were loaded last.
    pub(super) fn vault(&self) -> Arc<Vault> {
        Arc::clone(&self.vault.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Loads the keys anew: another process has changed them.
    pub(super) async fn reload(&self, store: &dyn StateStore, env: &Env) -> Result<Arc<Vault>> {
        let opened = open(store, &*self.keys, env).await?;
        let opened = Arc::new(opened);
        *self.vault.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&opened);
        Ok(opened)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("vault", &self.vault()).finish_non_exhaustive()
    }
}

/// A vault with the keys that are kept, if they are those of the store.
async fn open(store: &dyn StateStore, keys: &dyn MasterKeys, env: &Env) -> Result<Vault> {
    // Another process may change them between one look and the next; a person does not.
    let tries = if keys.how_to_replace().is_none() { MOST_TRIES } else { 1 };
    let mut opened = try_to_open(store, keys, env).await;
    for _ in 1..tries {
        if !opened.as_ref().is_err_and(|error| error.code() == KEY_UNKNOWN) {
            break;
        }
        opened = try_to_open(store, keys, env).await;
    }
    opened
}

async fn try_to_open(store: &dyn StateStore, keys: &dyn MasterKeys, env: &Env) -> Result<Vault> {
    let loaded = load(keys).await?;
    let first = vault(env, loaded.clone(), None)?;
    let proof = if let Some(kept) = store.setting(PROOF).await? {
        kept
    } else {
        store.swap_setting(PROOF, None, Some(&first.proof())).await?;
        // Another process may have been faster.
        store.setting(PROOF).await?.unwrap_or_else(|| first.proof())
    };
    let proven = first.verify_proof(&proof)?;
    if store.sealing_key().await?.is_none() {
        store.swap_sealing_key(None, proven).await?;
    }
    let sealing = store.sealing_key().await?;
    vault(env, loaded, sealing)
}

async fn load(keys: &dyn MasterKeys) -> Result<Vec<MasterKey>> {
    let loaded = keys.load().await?;
    if loaded.is_empty() {
        return Err(Error::new(ErrorKind::InvalidConfig, "no master key was given")
            .with_code("master-key-missing"));
    }
    Ok(loaded)
}

/// A vault that seals with this key, or else with the first.
fn vault(env: &Env, mut keys: Vec<MasterKey>, sealing: Option<MasterKeyId>) -> Result<Vault> {
    let at = match sealing {
        None => Some(0),
        Some(sealing) => keys.iter().position(|key| key.id() == sealing),
    };
    let primary = keys.swap_remove(at.unwrap_or_default());
    let vault = Vault::new(env, primary, keys);
    match (at, sealing) {
        (None, Some(sealing)) => Err(vault.unknown_key("new secrets need", sealing)),
        _ => Ok(vault),
    }
}
