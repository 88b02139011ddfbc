//! The vault: seals credentials and repository passwords for the state store, and opens them.
//!
//! Each secret is encrypted with a random data key of its own, and that key is encrypted (wrapped)
//! with a [`MasterKey`], both with XChaCha20-Poly1305. Both are bound to the [`SecretPlace`] where
//! the secret is kept, so that a sealed secret moved to another place does not open there. A new
//! master key costs only wrapping the data keys anew: [`Vault::rewrap`].
//!
//! The vault reads no files and no environment. Whoever embeds it brings the text of the master key,
//! and keeps it away from the database: whoever has both has the secrets.
//!
//! What sealing does not hide: how long a secret is, and which master key it needs. What it does not
//! prevent: that somebody who may write to the database puts back an earlier secret of the same
//! place.
//!
//! # Changing the master key
//!
//! [`Workspace::rotate_master_key`](crate::manage::Workspace::rotate_master_key) does it all, while
//! other processes run. With a vault alone:
//!
//! 1. Start with the new key as primary and the former one as older: [`Vault::new`].
//! 2. [`Vault::rewrap`] each secret, in any order. A crash in between does no harm.
//! 3. Store [`Vault::proof`] anew; from then on the former key is no longer needed.
//!
//! This is enough if the former key is only old. If somebody else may have seen it together with a
//! copy of the database, change the secrets themselves too.
//!
//! # Example
//!
//! ```
//! use backupkit_core::Env;
//! use backupkit_core::secret::{MasterKey, SealedSecret, SecretPlace, Vault};
//! use secrecy::{ExposeSecret as _, SecretString};
//!
//! # fn main() -> backupkit_core::Result<()> {
//! let env = Env::system();
//! let vault = Vault::new(&env, MasterKey::generate(&env)?, []);
//! let place = SecretPlace {
//!     scope: "default",
//!     owner_kind: "connection",
//!     owner_id: "c-1",
//!     field: "secret_access_key",
//! };
//! let stored = vault.seal(&place, &SecretString::from("hunter2"))?.to_bytes();
//! let opened = vault.open(&place, &SealedSecret::from_bytes(&stored)?)?;
//! assert_eq!(opened.expose_secret(), "hunter2");
//! # Ok(())
//! # }
//! ```

mod aead;
mod keys;
mod master_key;
mod place;
mod proof;
mod sealed;
#[cfg(test)]
mod tests;

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

pub(crate) use keys::kept_elsewhere;
pub use keys::{GivenKeys, MasterKeys};
pub use master_key::{MasterKey, MasterKeyId};
pub use place::SecretPlace;
pub use sealed::{MAX_SECRET_BYTES, SealedSecret};

/// Seals and opens secrets. Seals with the primary key, opens with the older ones as well.
///
/// All of it is computation of some microseconds; nothing blocks and nothing is kept between calls.
pub struct Vault {
    env: Env,
    primary: MasterKey,
    older: Vec<MasterKey>,
}

impl Vault {
    /// Returns a vault that seals with `primary`, and opens what was sealed with it or with one of
    /// `older`. Randomness comes from `env`.
    pub fn new(env: &Env, primary: MasterKey, older: impl IntoIterator<Item = MasterKey>) -> Self {
        Self { env: env.clone(), primary, older: older.into_iter().collect() }
    }

    /// The id of the key that new secrets are sealed with.
    pub fn primary_id(&self) -> MasterKeyId {
        self.primary.id()
    }

    /// Seals `secret` for `place`, with the primary key. Sealing the same twice gives two different
    /// results.
    ///
    /// # Errors
    /// `InvalidInput` if the secret is longer than [`MAX_SECRET_BYTES`]; `Unavailable` if there is no
    /// randomness.
    pub fn seal(&self, place: &SecretPlace<'_>, secret: &SecretString) -> Result<SealedSecret> {
        let secret = secret.expose_secret().as_bytes();
        if secret.len() > MAX_SECRET_BYTES {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "cannot keep a secret of {} bytes; at most {MAX_SECRET_BYTES} are allowed",
                    secret.len()
                ),
            )
            .with_context("secret", place));
        }
        let data_key = Zeroizing::new(self.env.random()?);
        let nonce = self.env.random()?;
        let ciphertext = aead::encrypt(&data_key, &nonce, &place.bind_value(), secret)?;
        let (wrap_nonce, wrapped_key) = self.wrap(place, &data_key)?;
        Ok(SealedSecret { key_id: self.primary.id(), wrap_nonce, wrapped_key, nonce, ciphertext })
    }

    /// Opens what was sealed for the same `place`.
    ///
    /// # Errors
    /// `InvalidConfig`, code `master-key-unknown`, if the master key that it was sealed with was not
    /// given; `Corrupt`, code `secret-damaged`, if it was changed or belongs to another place.
    pub fn open(&self, place: &SecretPlace<'_>, sealed: &SealedSecret) -> Result<SecretString> {
        let data_key = self.unwrap_key(place, sealed)?;
        let bytes =
            aead::decrypt(&data_key, &sealed.nonce, &place.bind_value(), &sealed.ciphertext)
                .ok_or_else(|| damaged(place))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| damaged(place))?;
        Ok(SecretString::from(text))
    }

    /// Wraps the data key of a sealed secret anew with the primary key, and returns what takes its
    /// place; `None` if it already is under the primary key. The secret itself is not decrypted, and
    /// the former sealed form stays valid as long as its master key is given.
    ///
    /// # Errors
    /// As [`Self::open`]; `Unavailable` if there is no randomness. Damage to the secret itself is
    /// found when it is opened.
    pub fn rewrap(
        &self,
        place: &SecretPlace<'_>,
        sealed: &SealedSecret,
    ) -> Result<Option<SealedSecret>> {
        if sealed.key_id == self.primary.id() {
            return Ok(None);
        }
        let data_key = self.unwrap_key(place, sealed)?;
        let (wrap_nonce, wrapped_key) = self.wrap(place, &data_key)?;
        let key_id = self.primary.id();
        Ok(Some(SealedSecret { key_id, wrap_nonce, wrapped_key, ..sealed.clone() }))
    }

    /// Returns a line of text that proves the primary key without giving it away. Store it once next
    /// to the sealed secrets, and again when all are under a new primary key.
    pub fn proof(&self) -> String {
        proof::write(&self.primary)
    }

    /// Checks at the start of a program that one of the keys is the one that `proof` was made with,
    /// and returns its id. If that is not [`Self::primary_id`], a change of the master key is not
    /// finished: rewrap all secrets, then store [`Self::proof`].
    ///
    /// # Errors
    /// `InvalidConfig`, code `master-key-unknown`, if the key was not given: refuse to start.
    /// `Corrupt` if the proof is damaged, `Unsupported` if a newer version wrote it.
    pub fn verify_proof(&self, proof: &str) -> Result<MasterKeyId> {
        let proof = proof::parse(proof)?;
        let key = self
            .key(proof.key_id)
            .ok_or_else(|| self.unknown_key("the stored secrets need", proof.key_id))?;
        proof.check(key)?;
        Ok(key.id())
    }

    fn keys(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.primary).chain(&self.older)
    }

    fn key(&self, id: MasterKeyId) -> Option<&MasterKey> {
        self.keys().find(|key| key.id() == id)
    }

    fn wrap(
        &self,
        place: &SecretPlace<'_>,
        data_key: &[u8; aead::KEY_BYTES],
    ) -> Result<([u8; aead::NONCE_BYTES], [u8; sealed::WRAPPED_KEY_BYTES])> {
        let nonce = self.env.random()?;
        let bound = place.bind_data_key(self.primary.id());
        let wrapped = aead::encrypt(self.primary.expose(), &nonce, &bound, data_key)?;
        let wrapped = wrapped.try_into().map_err(|_| {
            Error::new(ErrorKind::Internal, "a wrapped data key does not have its length")
        })?;
        Ok((nonce, wrapped))
    }

    fn unwrap_key(
        &self,
        place: &SecretPlace<'_>,
        sealed: &SealedSecret,
    ) -> Result<Zeroizing<[u8; aead::KEY_BYTES]>> {
        let key = self.key(sealed.key_id).ok_or_else(|| {
            self.unknown_key("a secret is sealed with", sealed.key_id).with_context("secret", place)
        })?;
        let bound = place.bind_data_key(key.id());
        let opened = aead::decrypt(key.expose(), &sealed.wrap_nonce, &bound, &sealed.wrapped_key)
            .ok_or_else(|| damaged(place))?;
        let mut data_key = Zeroizing::new([0; aead::KEY_BYTES]);
        let bytes = opened.as_array::<{ aead::KEY_BYTES }>().ok_or_else(|| damaged(place))?;
        data_key.copy_from_slice(bytes);
        Ok(data_key)
    }

    pub(crate) fn unknown_key(&self, what: &str, needed: MasterKeyId) -> Error {
        let given: Vec<String> = self.keys().map(|key| key.id().to_string()).collect();
        Error::new(
            ErrorKind::InvalidConfig,
            format!("{what} master key {needed}, but the given one is {}", given.join(" or ")),
        )
        .with_code("master-key-unknown")
        .with_hint(format!(
            "give master key {needed}; if it was replaced, give it as an older key besides the new one"
        ))
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("primary", &self.primary)
            .field("older", &self.older)
            .finish_non_exhaustive()
    }
}

/// The same for all causes: which check failed is nobody's business.
fn damaged(place: &SecretPlace<'_>) -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "cannot open a sealed secret: it is damaged, or was sealed for another place",
    )
    .with_code("secret-damaged")
    .with_context("secret", place)
    .with_hint("enter the secret again, or put back a backup of the state database")
}
