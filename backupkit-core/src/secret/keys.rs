//! Where master keys are kept.

use std::fmt;

use async_trait::async_trait;

use super::{MasterKey, MasterKeyId};
use crate::error::{Error, ErrorKind, Result};

/// Where the master keys are kept: a file, a variable, a command, a key service.
///
/// Usually it gives one key. While the key is changed it gives the former one besides.
#[async_trait]
pub trait MasterKeys: fmt::Debug + Send + Sync + 'static {
    /// All keys that are kept there now. A store that is new takes the first one.
    ///
    /// # Errors
    /// `InvalidConfig` if there is none, or what is there is no key.
    async fn load(&self) -> Result<Vec<MasterKey>>;

    /// What a person has to do to keep a new key there; nothing if [`replace`](Self::replace) does it.
    fn how_to_replace(&self) -> Option<String>;

    /// Keeps these keys instead, if those that are kept still are `expected`, in that order. All or
    /// none, and durable on return.
    ///
    /// # Errors
    /// `Conflict` if others are kept meanwhile; `Unsupported` if only a person can do it.
    async fn replace(&self, expected: &[MasterKeyId], keys: &[MasterKey]) -> Result<()>;
}

/// Keys that the host holds itself.
#[derive(Debug)]
pub struct GivenKeys(Vec<MasterKey>);

impl GivenKeys {
    /// Returns these.
    pub fn new(keys: impl IntoIterator<Item = MasterKey>) -> Self {
        Self(keys.into_iter().collect())
    }
}

#[async_trait]
impl MasterKeys for GivenKeys {
    async fn load(&self) -> Result<Vec<MasterKey>> {
        Ok(self.0.clone())
    }

    fn how_to_replace(&self) -> Option<String> {
        Some(
            "start again with a new key in front of the present one, and change the key then"
                .into(),
        )
    }

    async fn replace(&self, _: &[MasterKeyId], _: &[MasterKey]) -> Result<()> {
        Err(kept_elsewhere(self))
    }
}

/// Only a person can change the keys.
pub(crate) fn kept_elsewhere(keys: &dyn MasterKeys) -> Error {
    let error =
        Error::new(ErrorKind::Unsupported, "cannot change the master key: it is kept elsewhere")
            .with_code("master-key-elsewhere");
    match keys.how_to_replace() {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}
