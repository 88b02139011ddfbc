//! Where a secret belongs.

use std::fmt;

use super::MasterKeyId;

/// Where a secret is kept. It opens only there: all of this must be the same as when it was sealed,
/// byte for byte. None of it is secret; it is named in errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SecretPlace<'a> {
    /// The scope (tenant) of the owner.
    pub scope: &'a str,
    /// What kind of thing owns the secret, such as `connection` or `repository`.
    pub owner_kind: &'a str,
    /// The id of the owner. It must not be given to another owner later.
    pub owner_id: &'a str,
    /// Which of the owner's secrets it is, such as `password`.
    pub field: &'a str,
}

impl SecretPlace<'_> {
    /// What the secret itself is bound to. Not to the master key, which may change.
    pub(super) fn bind_value(&self) -> Vec<u8> {
        self.bind(b"backupkit sealed secret 1: value", &[])
    }

    /// What the wrapped data key is bound to.
    pub(super) fn bind_data_key(&self, key_id: MasterKeyId) -> Vec<u8> {
        self.bind(b"backupkit sealed secret 1: data key", key_id.as_bytes())
    }

    /// Each part with its length before it, so that no two places differ only by where they are cut.
    fn bind(&self, layer: &[u8], key_id: &[u8]) -> Vec<u8> {
        let mut bound = Vec::new();
        let place = [self.scope, self.owner_kind, self.owner_id, self.field].map(str::as_bytes);
        for part in [layer, key_id].into_iter().chain(place) {
            let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
            bound.extend_from_slice(&length.to_le_bytes());
            bound.extend_from_slice(part);
        }
        bound
    }
}

/// For people: `password of connection c-1 (scope default)`.
impl fmt::Display for SecretPlace<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scope, owner_kind, owner_id, field } = self;
        write!(f, "{field} of {owner_kind} {owner_id} (scope {scope})")
    }
}
