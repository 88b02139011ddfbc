//! The file, its connections, and its errors.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use backupkit_core::{Env, Error, ErrorKind, Result, Retry};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

static MIGRATIONS: Migrator = sqlx::migrate!();

/// How long a change waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Readers do not wait for each other or for the writer.
const READERS: u32 = 4;

/// State in one file. Clones share it.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    pub(crate) env: Env,
    path: PathBuf,
    /// One connection: `SQLite` has one writer at a time.
    writer: SqlitePool,
    readers: SqlitePool,
    /// One connection that never writes and is never replaced: it tells the version of the data.
    watcher: SqlitePool,
}

impl SqliteStore {
    /// Opens the store in this file, and makes it if there is none. Brings an older one up to date. Times
    /// come from `env`.
    ///
    /// # Errors
    /// `PermissionDenied` if the file may not be read and written, `Corrupt` if it is no such store,
    /// `Unsupported` if a newer version made it, `Unavailable` and `StorageFull` from the disk.
    pub async fn open(path: impl Into<PathBuf>, env: &Env) -> Result<Self> {
        let path = path.into();
        make_file(&path)?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true);
        let failed = |error| failure(&path, error);
        let writer = SqlitePoolOptions::new().max_connections(1);
        let writer = writer.connect_with(options.clone()).await.map_err(failed)?;
        MIGRATIONS.run(&writer).await.map_err(|error| cannot_migrate(&path, error))?;
        let readers = SqlitePoolOptions::new().max_connections(READERS);
        let options = options.pragma("query_only", "ON");
        let readers = readers.connect_with(options.clone()).await.map_err(failed)?;
        let watcher = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false);
        let watcher = watcher.connect_with(options).await.map_err(failed)?;
        Ok(Self { env: env.clone(), path, writer, readers, watcher })
    }

    /// Closes the file. Calls under way end first.
    pub async fn close(&self) {
        self.watcher.close().await;
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Begins a change. What is not committed never happened.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>> {
        // At once as a writer: one that began as a reader may be refused in the middle.
        self.writer.begin_with("BEGIN IMMEDIATE").await.map_err(|error| self.failure(error))
    }

    /// Begins to read: what is read comes from one moment.
    pub(crate) async fn begin_reading(&self) -> Result<Transaction<'static, Sqlite>> {
        self.readers.begin().await.map_err(|error| self.failure(error))
    }

    pub(crate) async fn commit(&self, change: Transaction<'static, Sqlite>) -> Result<()> {
        change.commit().await.map_err(|error| self.failure(error))
    }

    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// The connection that tells the version of the data.
    pub(crate) fn watcher(&self) -> &SqlitePool {
        &self.watcher
    }

    pub(crate) fn failure(&self, error: sqlx::Error) -> Error {
        failure(&self.path, error)
    }

    /// Something in the file is not what this program writes.
    pub(crate) fn damaged(&self, what: &str) -> Error {
        Error::corrupt(format!("the state store {}", self.path.display()), what)
    }
}

/// Makes the file, so that nobody else may read it from the first moment on.
fn make_file(path: &Path) -> Result<()> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    opened
        .map(drop)
        .map_err(|error| Error::io(format!("open the state store {}", path.display()), error))
}

fn failure(path: &Path, error: sqlx::Error) -> Error {
    // https://www.sqlite.org/rescode.html: the low byte is the primary code.
    let code = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code)
        .and_then(|code| code.parse::<u32>().ok())
        .map(|code| code & 0xff);
    let kind = match (code, &error) {
        (Some(3 | 8 | 14), _) => ErrorKind::PermissionDenied,
        (Some(11 | 26), _) | (None, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_)) => {
            ErrorKind::Corrupt
        }
        (Some(13), _) => ErrorKind::StorageFull,
        (Some(5 | 6 | 7 | 10), _) | (None, sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut) => {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Internal,
    };
    let message = match &error {
        sqlx::Error::Database(error) => error.message().to_lowercase(),
        other => other.to_string().to_lowercase(),
    };
    let message = format!("cannot use the state store {}: {message}", path.display());
    Error::new(kind, message).with_source(error)
}

fn cannot_migrate(path: &Path, error: MigrateError) -> Error {
    match error {
        MigrateError::Execute(error) => failure(path, error),
        MigrateError::VersionMissing(_) | MigrateError::VersionTooNew(..) => Error::new(
            ErrorKind::Unsupported,
            format!("the state store {} was made by a newer version", path.display()),
        )
        .with_retry(Retry::Never)
        .with_hint("use that version"),
        error => {
            let message = format!("cannot bring the state store {} up to date", path.display());
            Error::new(ErrorKind::Corrupt, message).with_source(error)
        }
    }
}
