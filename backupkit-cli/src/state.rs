//! The state store of the program, and the key of its secrets.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use backupkit_core::manage::{Workspace, admit_machine};
use backupkit_core::registry::Registry;
use backupkit_core::secret::MasterKeys;
use backupkit_core::state::Actor;
use backupkit_core::{Engine, Error, ErrorKind, Result};
use backupkit_sqlite::SqliteStore;
use secrecy::SecretString;

use crate::app::App;
use crate::exit::usage;
use crate::machine;
use crate::master_keys::{KeyCommand, KeyFile, KeyVariable};

const MASTER_KEY: &str = "BACKUPKIT_MASTER_KEY";
const MASTER_KEY_COMMAND: &str = "BACKUPKIT_MASTER_KEY_COMMAND";
const MACHINE_ID: &str = "BACKUPKIT_MACHINE_ID";

impl App<'_> {
    /// Opens the state store, and makes it on first use.
    pub(crate) async fn workspace(&self) -> Result<Workspace> {
        self.workspace_here(false).await
    }

    /// As [`Self::workspace`]; on request also one that another machine used.
    pub(crate) async fn workspace_here(&self, take_over: bool) -> Result<Workspace> {
        let file = self.state_file()?;
        if let Some(folder) = file.parent() {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.map_err(|error| Error::io(format!("make {}", folder.display()), error))?;
        }
        // A key that is made later than the secrets would be the wrong one.
        let is_new = !file.exists();
        let keys = self.master_keys(&file, is_new)?;
        if is_new {
            // With a key that will not do, no store is made that would ask for it from then on.
            drop(keys.load().await?);
        }
        let store = SqliteStore::open(&file, &self.env).await?;
        let given = self.environment.variable(MACHINE_ID);
        let machine = machine::identity(given, &self.identity.hostname);
        let store = Arc::new(store);
        let admit = async || {
            let admitted = admit_machine(&*store, &machine, take_over).await;
            admitted.map_err(|error| error.while_doing(format!("open {}", file.display())))
        };
        // Who may not use the store may not even read it.
        if !take_over {
            admit().await?;
        }
        let actor = Actor::new(format!("cli:{}", self.identity.username))?;
        let opening = Workspace::open(
            Arc::<SqliteStore>::clone(&store),
            keys,
            self.registry(),
            &self.env,
            actor,
        );
        let workspace = opening.await?;
        // Last: whoever cannot open it leaves it to the machine that can.
        if take_over {
            admit().await?;
        }
        Ok(workspace)
    }

    /// The kinds of systems that this program knows.
    pub(crate) fn registry(&self) -> Registry {
        let registry = Registry::built_in();
        #[cfg(feature = "s3")]
        let registry = registry.with(self.bucket_kind());
        registry
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

    /// The first that is set: an option, a variable, another one, the file beside the state.
    fn master_keys(&self, state: &Path, may_make: bool) -> Result<Arc<dyn MasterKeys>> {
        if let Some(command) = self.options.master_key_command.clone() {
            return Ok(Arc::new(KeyCommand(command)));
        }
        if let Some(key) = self.environment.variable(MASTER_KEY) {
            let key = key.to_str().ok_or_else(|| usage(format!("{MASTER_KEY} is not UTF-8")))?;
            return Ok(Arc::new(KeyVariable(SecretString::from(key))));
        }
        if let Some(command) = self.environment.variable(MASTER_KEY_COMMAND) {
            return Ok(Arc::new(KeyCommand(command.to_owned())));
        }
        let file = KeyFile::new(beside(state, ".key"));
        if !file.is_there() {
            if !may_make {
                let message = format!(
                    "{} is there, but the master key of its secrets is not: {}",
                    state.display(),
                    file.path().display()
                );
                return Err(Error::new(ErrorKind::InvalidConfig, message)
                    .with_code("master-key-missing")
                    .with_hint(format!("put the file back, or give the key in {MASTER_KEY}")));
            }
            file.make(&self.env)?;
        }
        Ok(Arc::new(file))
    }
}

/// The file or folder beside the state file whose name goes on like this.
pub(crate) fn beside(state: &Path, ending: &str) -> PathBuf {
    let mut name = state.file_name().unwrap_or_default().to_owned();
    name.push(ending);
    state.with_file_name(name)
}
