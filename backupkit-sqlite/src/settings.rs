//! Facts about the store itself.

use async_trait::async_trait;
use backupkit_core::Result;
use backupkit_core::state::{Settings, check_setting};
use sqlx::SqliteExecutor;

use crate::SqliteStore;

impl SqliteStore {
    pub(crate) async fn value(
        &self,
        executor: impl SqliteExecutor<'_>,
        name: &str,
    ) -> Result<Option<String>> {
        sqlx::query_scalar("SELECT value FROM settings WHERE name = ?")
            .bind(name)
            .fetch_optional(executor)
            .await
            .map_err(|error| self.failure(error))
    }

    /// Replaces a value, if it is `expected`, and returns whether it was.
    pub(crate) async fn swap(
        &self,
        name: &str,
        expected: Option<&str>,
        value: Option<&str>,
    ) -> Result<bool> {
        let mut change = self.begin().await?;
        if self.value(&mut *change, name).await?.as_deref() != expected {
            return Ok(false);
        }
        let query = match value {
            Some(value) => sqlx::query(
                "INSERT INTO settings (name, value) VALUES (?, ?) \
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            )
            .bind(name)
            .bind(value),
            None => sqlx::query("DELETE FROM settings WHERE name = ?").bind(name),
        };
        query.execute(&mut *change).await.map_err(|error| self.failure(error))?;
        self.commit(change).await?;
        Ok(true)
    }
}

#[async_trait]
impl Settings for SqliteStore {
    async fn setting(&self, name: &str) -> Result<Option<String>> {
        check_setting(name, None)?;
        self.value(self.readers(), name).await
    }

    async fn swap_setting(
        &self,
        name: &str,
        expected: Option<&str>,
        value: Option<&str>,
    ) -> Result<bool> {
        check_setting(name, value)?;
        self.swap(name, expected, value).await
    }
}
