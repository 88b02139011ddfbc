//! A sealed secret and its stored form.

use std::fmt;

use super::MasterKeyId;
use super::aead::{KEY_BYTES, NONCE_BYTES, TAG_BYTES};
use crate::error::{Error, ErrorKind, Result};

/// The longest secret in bytes: 64 KiB, far more than any key file or token needs.
pub const MAX_SECRET_BYTES: usize = 64 << 10;

pub(super) const WRAPPED_KEY_BYTES: usize = KEY_BYTES + TAG_BYTES;

const MAGIC: [u8; 3] = *b"BKS";
const VERSION: u8 = 1;
const HEADER_BYTES: usize =
    MAGIC.len() + 1 + MasterKeyId::BYTES + NONCE_BYTES + WRAPPED_KEY_BYTES + NONCE_BYTES;
const MAX_CIPHERTEXT_BYTES: usize = MAX_SECRET_BYTES + TAG_BYTES;

/// A secret that only the vault opens. Safe to store and to copy; `Debug` shows the id of the master
/// key and the length.
///
/// The stored form is binary: `BKS`, the version (1), the id of the master key (8 bytes), the nonce of
/// the wrapped data key (24), the wrapped data key (48), the nonce of the secret (24), and the
/// encrypted secret with its tag (16 bytes more than the secret).
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret {
    pub(super) key_id: MasterKeyId,
    pub(super) wrap_nonce: [u8; NONCE_BYTES],
    pub(super) wrapped_key: [u8; WRAPPED_KEY_BYTES],
    pub(super) nonce: [u8; NONCE_BYTES],
    /// Tag included.
    pub(super) ciphertext: Vec<u8>,
}

impl SealedSecret {
    /// Reads the stored form. That it is genuine is checked when it is opened.
    ///
    /// # Errors
    /// `Corrupt` if it is something else, cut off, or longer than a secret may be; `Unsupported` if a
    /// later version wrote it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let rest = bytes.strip_prefix(&MAGIC).ok_or_else(|| corrupt("it does not start as one"))?;
        let (version, rest) = rest.split_first().ok_or_else(|| corrupt("it is cut off"))?;
        if *version != VERSION {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("a sealed secret has version {version}; this program reads {VERSION}"),
            )
            .with_code("secret-version")
            .with_hint("use the version of the program that stored it, or a newer one"));
        }
        Self::parse(rest).ok_or_else(|| corrupt("it is cut off, or too long"))
    }

    /// Writes the stored form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.stored_bytes());
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(self.key_id.as_bytes());
        bytes.extend_from_slice(&self.wrap_nonce);
        bytes.extend_from_slice(&self.wrapped_key);
        bytes.extend_from_slice(&self.nonce);
        bytes.extend_from_slice(&self.ciphertext);
        bytes
    }

    /// The id of the master key that it needs.
    pub fn key_id(&self) -> MasterKeyId {
        self.key_id
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (key_id, rest) = bytes.split_first_chunk()?;
        let (wrap_nonce, rest) = rest.split_first_chunk()?;
        let (wrapped_key, rest) = rest.split_first_chunk()?;
        let (nonce, ciphertext) = rest.split_first_chunk()?;
        if !(TAG_BYTES..=MAX_CIPHERTEXT_BYTES).contains(&ciphertext.len()) {
            return None;
        }
        Some(Self {
            key_id: MasterKeyId::from_bytes(*key_id),
            wrap_nonce: *wrap_nonce,
            wrapped_key: *wrapped_key,
            nonce: *nonce,
            ciphertext: ciphertext.to_vec(),
        })
    }

    fn stored_bytes(&self) -> usize {
        HEADER_BYTES.saturating_add(self.ciphertext.len())
    }
}

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedSecret(master key {}, {} bytes)", self.key_id, self.stored_bytes())
    }
}

fn corrupt(detail: &str) -> Error {
    Error::corrupt("a sealed secret", detail)
        .with_code("secret-damaged")
        .with_hint("enter the secret again, or put back a backup of the state database")
}
