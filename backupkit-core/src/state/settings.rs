//! Facts about the store itself, such as the machine that it belongs to.

use std::fmt;

use async_trait::async_trait;

use crate::error::Result;

/// Keeps a few short texts by name. They belong to no scope.
#[async_trait]
pub trait Settings: fmt::Debug + Send + Sync + 'static {
    /// What is kept under a name of 1 to 64 of `a` to `z`, `0` to `9` and `_`; nothing if there is
    /// nothing.
    async fn setting(&self, name: &str) -> Result<Option<String>>;

    /// Replaces what is kept under a name, if it is `expected`, and returns whether it was. Durable on
    /// return, as far as the store is.
    ///
    /// # Errors
    /// `InvalidInput` for an odd name or more than 64 KiB.
    async fn swap_setting(
        &self,
        name: &str,
        expected: Option<&str>,
        value: Option<&str>,
    ) -> Result<bool>;
}
