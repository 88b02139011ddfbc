//! Facts about the store itself, such as the machine that it belongs to.

use std::fmt;

use async_trait::async_trait;

use super::record::is_word;
use super::refusal;
use crate::error::Result;

/// The longest setting, in bytes.
pub const MAX_SETTING_BYTES: usize = 64 << 10;

/// Keeps a few short texts by name. They belong to no scope.
#[async_trait]
pub trait Settings: fmt::Debug + Send + Sync + 'static {
    /// What is kept under a name of 1 to 64 of `a` to `z`, `0` to `9` and `_`; nothing if there is
    /// nothing.
    ///
    /// # Errors
    /// `InvalidInput` for an odd name.
    async fn setting(&self, name: &str) -> Result<Option<String>>;

    /// Replaces what is kept under a name, if it is `expected`, and returns whether it was. Durable on
    /// return, as far as the store is.
    ///
    /// # Errors
    /// `InvalidInput` for an odd name or a value of more than [`MAX_SETTING_BYTES`].
    async fn swap_setting(
        &self,
        name: &str,
        expected: Option<&str>,
        value: Option<&str>,
    ) -> Result<bool>;
}

/// Whether a setting may be kept: for stores.
///
/// # Errors
/// `InvalidInput` for an odd name or a value of more than [`MAX_SETTING_BYTES`].
pub fn check_setting(name: &str, value: Option<&str>) -> Result<()> {
    let is_long = value.is_some_and(|value| value.len() > MAX_SETTING_BYTES);
    if is_long || !is_word(name, b'_') { Err(refusal::odd_setting(name)) } else { Ok(()) }
}
