//! Facts about the store itself.

use async_trait::async_trait;

use super::InMemoryStore;
use crate::error::Result;
use crate::state::{Settings, check_setting};

#[async_trait]
impl Settings for InMemoryStore {
    async fn setting(&self, name: &str) -> Result<Option<String>> {
        check_setting(name, None)?;
        Ok(self.kept().settings.get(name).cloned())
    }

    async fn swap_setting(
        &self,
        name: &str,
        expected: Option<&str>,
        value: Option<&str>,
    ) -> Result<bool> {
        check_setting(name, value)?;
        let mut kept = self.kept();
        if kept.settings.get(name).map(String::as_str) != expected {
            return Ok(false);
        }
        match value {
            Some(value) => drop(kept.settings.insert(name.to_owned(), value.to_owned())),
            None => drop(kept.settings.remove(name)),
        }
        kept.version += 1;
        Ok(true)
    }
}
