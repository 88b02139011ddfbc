//! The state store of the program, and the key of its secrets.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backupkit_core::manage::Workspace;
use backupkit_core::registry::Registry;
use backupkit_core::secret::{MasterKey, Vault};
use backupkit_core::state::Actor;
use backupkit_core::{Engine, Error, ErrorKind, Result};
use backupkit_sqlite::SqliteStore;
use secrecy::{ExposeSecret as _, SecretString};

use crate::app::App;
use crate::exit::usage;

const MASTER_KEY: &str = "BACKUPKIT_MASTER_KEY";
/// A key has fewer bytes; against `/dev/zero`.
const MAX_KEY_BYTES: u64 = 4096;

impl App<'_> {
    /// Opens the state store, and makes it on first use.
    pub(crate) async fn workspace(&self) -> Result<Workspace> {
        let file = self.state_file()?;
        if let Some(folder) = file.parent() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| Error::io(format!("make {}", folder.display()), error))?;
        }
        // A key that is made later than the secrets would be the wrong one.
        let is_new = !file.exists();
        let key = self.master_key(&file, is_new)?;
        let vault = Vault::new(&self.env, key, []);
        let store = SqliteStore::open(&file, &self.env).await?;
        let actor = Actor::new(format!("cli:{}", self.identity.username))?;
        let registry = Registry::built_in();
        Workspace::open(Arc::new(store), Arc::new(vault), registry, &self.env, actor).await
    }

    /// An engine that takes part in the runs of the state store.
    pub(crate) fn worker_engine(&self) -> Result<Engine> {
        let folder = beside(&self.state_file()?, ".workers");
        self.engine(|builder| builder.instance_folder(&folder))
    }

    fn state_file(&self) -> Result<PathBuf> {
        let file = self.options.state.clone().or_else(|| self.environment.state_file());
        let file = file.ok_or_else(|| {
            usage("there is no home folder to keep connections, plans and runs in")
                .with_hint("give a file with --state or BACKUPKIT_STATE")
        })?;
        std::path::absolute(&file)
            .map_err(|error| Error::io(format!("find {}", file.display()), error))
    }

    fn master_key(&self, state: &Path, may_make: bool) -> Result<MasterKey> {
        if let Some(key) = self.environment.variable(MASTER_KEY) {
            let key = key.to_str().ok_or_else(|| usage(format!("{MASTER_KEY} is not UTF-8")))?;
            return MasterKey::parse(&SecretString::from(key));
        }
        let file = beside(state, ".key");
        match read(&file) {
            Ok(text) => MasterKey::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && may_make => {
                let key = MasterKey::generate(&self.env)?;
                make(&file, &key)?;
                // Another process may have been faster.
                let failed = |error| Error::io(format!("read {}", file.display()), error);
                MasterKey::parse(&read(&file).map_err(failed)?)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let message = format!(
                    "{} is there, but the master key of its secrets is not: {}",
                    state.display(),
                    file.display()
                );
                Err(Error::new(ErrorKind::InvalidConfig, message)
                    .with_code("master-key-missing")
                    .with_hint(format!("put the file back, or give the key in {MASTER_KEY}")))
            }
            Err(error) => Err(Error::io(format!("read {}", file.display()), error)),
        }
    }
}

/// The file or folder beside the state file whose name goes on like this.
fn beside(state: &Path, ending: &str) -> PathBuf {
    let mut name = state.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    state.with_file_name(name)
}

fn read(file: &Path) -> std::io::Result<SecretString> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(MAX_KEY_BYTES).read_to_string(&mut text)?;
    Ok(SecretString::from(text))
}

/// Makes the key file, whole or not at all, and never in the place of another.
fn make(file: &Path, key: &MasterKey) -> Result<()> {
    let failed = |error| Error::io(format!("make the master key {}", file.display()), error);
    let draft = beside(file, &format!(".{}", std::process::id()));
    let mut options = OpenOptions::new();
    let mut made =
        options.write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(failed)?;
    let written = made
        .write_all(key.to_text().expose_secret().as_bytes())
        .and_then(|()| made.write_all(b"\n"))
        .and_then(|()| made.sync_all())
        .and_then(|()| match std::fs::hard_link(&draft, file) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    let removed = std::fs::remove_file(&draft);
    written.and(removed).map_err(failed)
}
