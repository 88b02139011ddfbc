//! The line that proves a master key without giving it away.

use super::master_key::has_a_version;
use super::{MasterKey, MasterKeyId};
use crate::error::{Error, ErrorKind, Result};

/// Of all versions.
const FAMILY: &str = "backupkit-key-proof-";
const PREFIX: &str = "backupkit-key-proof-1:";

/// A proof that was read, but not checked.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) key_id: MasterKeyId,
    hash: [u8; 32],
}

/// Returns `backupkit-key-proof-1:<id>:<hash>`.
pub(super) fn write(key: &MasterKey) -> String {
    format!("{PREFIX}{}:{}", key.id(), hex::encode(key.proof()))
}

pub(super) fn parse(text: &str) -> Result<Proof> {
    let text = text.trim();
    let Some(rest) = text.strip_prefix(PREFIX) else {
        if has_a_version(text, FAMILY) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the stored proof of the master key is of another version than 1",
            )
            .with_code("master-key-version")
            .with_hint("use the version of the program that stored it, or a newer one"));
        }
        return Err(damaged());
    };
    let (id_digits, hash_digits) = rest.split_once(':').ok_or_else(damaged)?;
    let mut id = [0; MasterKeyId::BYTES];
    let mut hash = [0; 32];
    hex::decode_to_slice(id_digits, &mut id).map_err(|_| damaged())?;
    hex::decode_to_slice(hash_digits, &mut hash).map_err(|_| damaged())?;
    Ok(Proof { key_id: MasterKeyId::from_bytes(id), hash })
}

impl Proof {
    /// Whether it is of `key`. Neither side of the comparison is secret.
    pub(super) fn check(&self, key: &MasterKey) -> Result<()> {
        if key.proof() == self.hash { Ok(()) } else { Err(damaged()) }
    }
}

fn damaged() -> Error {
    Error::new(ErrorKind::Corrupt, "the stored proof of the master key is damaged")
        .with_code("master-key-proof-damaged")
        .with_hint("put back a backup of the state database")
}
