//! Where the program keeps the master key: in a file beside the state, or where a person keeps it.

use std::ffi::OsString;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use backupkit_core::secret::{MasterKey, MasterKeyId, MasterKeys};
use backupkit_core::{Env, Error, ErrorKind, Result};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret as _, SecretString};

use crate::secret_source::MASTER_KEY;
use crate::state::beside;

/// The keys have fewer bytes; against `/dev/zero`.
const MAX_KEY_BYTES: usize = 4096;

/// What users outside the file's group may do with it.
const ANYBODY: u32 = 0o007;

/// Keys in a file, one in each line. Usually there is one. A link in its place leads to a file that others
/// may need, too: a person keeps that one.
#[derive(Debug)]
pub(crate) struct KeyFile(PathBuf);

/// Keys in a variable, with spaces between them.
pub(crate) struct KeyVariable(pub(crate) SecretString);

/// Keys that a shell command prints, with spaces or line ends between them.
pub(crate) struct KeyCommand(pub(crate) OsString);

impl KeyFile {
    pub(crate) fn new(file: PathBuf) -> Self {
        Self(file)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn is_there(&self) -> bool {
        // What cannot be looked at is there, so that nothing is made in its place.
        !matches!(self.0.symlink_metadata(), Err(error) if error.kind() == std::io::ErrorKind::NotFound)
    }

    /// Makes the file with a new key, whole or not at all, and never in the place of another.
    pub(crate) fn make(&self, env: &Env) -> Result<()> {
        let failed = |error| Error::io(format!("make the master key {}", self.0.display()), error);
        let _lock = self.lock().map_err(failed)?;
        let draft = self.draft(&lines(&[MasterKey::generate(env)?])).map_err(failed)?;
        let linked = match std::fs::hard_link(&draft, &self.0) {
            // Another process was faster.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        };
        let removed = std::fs::remove_file(&draft);
        linked.and(removed).and_then(|()| self.sync_folder()).map_err(failed)
    }

    fn read(&self) -> Result<Vec<MasterKey>> {
        let mut text = Zeroizing::new(String::new());
        let most = MAX_KEY_BYTES as u64 + 1;
        let read = File::open(&self.0).and_then(|file| {
            let mode = file.metadata()?.mode();
            file.take(most).read_to_string(&mut text)?;
            Ok(mode)
        });
        let mode = read.map_err(|error| Error::io(format!("read {}", self.0.display()), error))?;
        if mode & ANYBODY != 0 && !self.0.is_symlink() {
            return Err(exposed(&self.0));
        }
        let named = |error: Error| error.with_context("file", self.0.display());
        if text.len() > MAX_KEY_BYTES {
            return Err(named(too_many("there are too many master keys")));
        }
        parse(&text).map_err(named)
    }

    /// Of two processes that write it, one comes after the other. The file itself is replaced, so that its
    /// own lock would be one of a file that is gone.
    fn lock(&self) -> std::io::Result<File> {
        let place = beside(&self.0, ".lock");
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(place)?;
        file.lock()?;
        Ok(file)
    }

    /// The new content, in a file beside it. Whoever calls this holds the lock.
    fn draft(&self, text: &str) -> std::io::Result<PathBuf> {
        let draft = beside(&self.0, ".new");
        // What a crash left, or somebody put there: a link would lead the key elsewhere, and a file keeps
        // its mode.
        match std::fs::remove_file(&draft) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(draft)
    }

    fn sync_folder(&self) -> std::io::Result<()> {
        match self.0.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl MasterKeys for KeyFile {
    async fn load(&self) -> Result<Vec<MasterKey>> {
        self.read()
    }

    fn how_to_replace(&self) -> Option<String> {
        // Replaced through one of several links, the others would lead to a key that opens nothing of theirs.
        self.0.is_symlink().then(|| how_to(&format!("the file that {} leads to", self.0.display())))
    }

    async fn replace(&self, expected: &[MasterKeyId], keys: &[MasterKey]) -> Result<()> {
        let failed =
            |error| Error::io(format!("replace the master key {}", self.0.display()), error);
        let _lock = self.lock().map_err(failed)?;
        if self.0.is_symlink() {
            return Err(kept_by_a_person());
        }
        let kept = self.read()?;
        if !kept.iter().map(MasterKey::id).eq(expected.iter().copied()) {
            let message = format!("{} was changed by another process", self.0.display());
            return Err(Error::new(ErrorKind::Conflict, message)
                .with_code("key-rotation-overtaken")
                .with_hint("wait for its end; nothing is lost"));
        }
        let text = lines(keys);
        if text.len() > MAX_KEY_BYTES {
            return Err(too_many("cannot keep so many master keys"));
        }
        self.draft(&text)
            .and_then(|draft| std::fs::rename(draft, &self.0))
            .and_then(|()| self.sync_folder())
            .map_err(failed)
    }
}

/// What a person does who keeps the key.
fn how_to(place: &str) -> String {
    format!(
        "make a key with `backupkit key generate`, put it in front of the present one in {place}, with \
         a space between, and rotate again; then take the former one away, once nothing else needs it"
    )
}

#[async_trait]
impl MasterKeys for KeyVariable {
    async fn load(&self) -> Result<Vec<MasterKey>> {
        parse(self.0.expose_secret())
    }

    fn how_to_replace(&self) -> Option<String> {
        Some(how_to("BACKUPKIT_MASTER_KEY"))
    }

    async fn replace(&self, _: &[MasterKeyId], _: &[MasterKey]) -> Result<()> {
        Err(kept_by_a_person())
    }
}

#[async_trait]
impl MasterKeys for KeyCommand {
    async fn load(&self) -> Result<Vec<MasterKey>> {
        parse(MASTER_KEY.run_command(&self.0)?.expose_secret())
    }

    fn how_to_replace(&self) -> Option<String> {
        Some(how_to("what the master key command prints"))
    }

    async fn replace(&self, _: &[MasterKeyId], _: &[MasterKey]) -> Result<()> {
        Err(kept_by_a_person())
    }
}

impl fmt::Debug for KeyVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyVariable")
    }
}

/// A command line may hold a secret, too.
impl fmt::Debug for KeyCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyCommand")
    }
}

fn kept_by_a_person() -> Error {
    Error::new(ErrorKind::Unsupported, "the master key is kept by a person")
}

fn exposed(file: &Path) -> Error {
    let file = file.display();
    let message = format!("anybody on this machine may use the master key {file}");
    Error::new(ErrorKind::InvalidConfig, message)
        .with_code("master-key-exposed")
        .with_hint(format!("chmod 600 {file}; if somebody may have read it, also `key rotate`"))
}

fn too_many(what: &str) -> Error {
    let message = format!("{what}: at most {MAX_KEY_BYTES} bytes are read");
    Error::new(ErrorKind::InvalidConfig, message)
        .with_code("master-key-invalid")
        .with_hint("keep a copy of the file, and leave in it the keys that the state still needs")
}

/// Each key in a line.
fn lines(keys: &[MasterKey]) -> Zeroizing<String> {
    let texts: Vec<SecretString> = keys.iter().map(MasterKey::to_text).collect();
    let bytes = texts.iter().map(|text| text.expose_secret().len() + 1).sum();
    // With its final capacity from the start, no copy stays behind.
    let mut lines = Zeroizing::new(String::with_capacity(bytes));
    for text in &texts {
        lines.push_str(text.expose_secret());
        lines.push('\n');
    }
    lines
}

fn parse(text: &str) -> Result<Vec<MasterKey>> {
    let mut keys = Vec::new();
    for line in text.split_whitespace() {
        keys.push(MasterKey::parse(&SecretString::from(line))?);
    }
    if keys.is_empty() {
        // Says that it is empty.
        MasterKey::parse(&SecretString::from(""))?;
    }
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(keys: &[MasterKey]) -> Vec<MasterKeyId> {
        keys.iter().map(MasterKey::id).collect()
    }

    #[tokio::test]
    async fn a_key_file_is_made_once_and_replaced_only_as_it_was_seen() {
        use std::os::unix::fs::PermissionsExt as _;
        let (folder, env) = (tempfile::tempdir().unwrap(), Env::system());
        let file = KeyFile::new(folder.path().join("state.db.key"));
        assert!(!file.is_there());
        file.make(&env).unwrap();
        let first = file.load().await.unwrap();
        file.make(&env).unwrap();
        assert_eq!(ids(&file.load().await.unwrap()), ids(&first));
        let new = MasterKey::generate(&env).unwrap();
        let both = [new.clone(), first[0].clone()];
        file.replace(&ids(&first), &both).await.unwrap();
        assert_eq!(ids(&file.load().await.unwrap()), ids(&both));
        let error = file.replace(&ids(&first), &first).await.unwrap_err();
        assert_eq!(error.code(), "key-rotation-overtaken");
        assert_eq!(file.path().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 2, "the file and its lock");
    }

    #[tokio::test]
    async fn a_key_is_never_written_into_a_file_that_was_there() {
        use std::os::unix::fs::PermissionsExt as _;
        let (folder, env) = (tempfile::tempdir().unwrap(), Env::system());
        let file = KeyFile::new(folder.path().join("state.db.key"));
        file.make(&env).unwrap();
        let (left, other) = (folder.path().join("state.db.key.new"), folder.path().join("other"));
        for is_link in [false, true] {
            std::fs::write(&other, "mine").unwrap();
            if is_link {
                std::os::unix::fs::symlink(&other, &left).unwrap();
            } else {
                std::fs::write(&left, "left").unwrap();
                let mode = std::fs::Permissions::from_mode(0o644);
                std::fs::set_permissions(&left, mode).unwrap();
            }
            let kept = file.load().await.unwrap();
            let new = MasterKey::generate(&env).unwrap();
            file.replace(&ids(&kept), std::slice::from_ref(&new)).await.unwrap();
            assert_eq!(ids(&file.load().await.unwrap()), [new.id()]);
            assert_eq!(std::fs::read_to_string(&other).unwrap(), "mine");
            let metadata = file.path().symlink_metadata().unwrap();
            assert!(metadata.is_file());
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        }
    }

    #[tokio::test]
    async fn a_key_file_that_anybody_may_read_or_change_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let (folder, env) = (tempfile::tempdir().unwrap(), Env::system());
        let file = KeyFile::new(folder.path().join("state.db.key"));
        file.make(&env).unwrap();
        for (mode, is_refused) in [(0o604, true), (0o602, true), (0o640, false), (0o400, false)] {
            std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            let loaded = file.load().await;
            let code = loaded.as_ref().map_err(Error::code).err();
            assert_eq!(code, is_refused.then_some("master-key-exposed"), "{mode:o}");
        }
        // Where a link leads, others decide.
        std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(file.path(), &link).unwrap();
        KeyFile::new(link).load().await.unwrap();
    }

    #[tokio::test]
    async fn more_keys_than_can_be_read_back_are_not_kept() {
        let (folder, env) = (tempfile::tempdir().unwrap(), Env::system());
        let file = KeyFile::new(folder.path().join("state.db.key"));
        file.make(&env).unwrap();
        let kept = file.load().await.unwrap();
        let many: Vec<_> = (0..100).map(|_| MasterKey::generate(&env).unwrap()).collect();
        let error = file.replace(&ids(&kept), &many).await.unwrap_err();
        assert_eq!(error.code(), "master-key-invalid");
        assert_eq!(ids(&file.load().await.unwrap()), ids(&kept));
        std::fs::write(file.path(), &*lines(&many)).unwrap();
        let error = file.load().await.unwrap_err();
        assert!(error.to_string().contains("too many master keys"), "{error}");
    }

    #[tokio::test]
    async fn the_file_that_a_link_leads_to_is_left_to_a_person() {
        let (folder, env) = (tempfile::tempdir().unwrap(), Env::system());
        let (there, link) = (folder.path().join("there"), folder.path().join("link"));
        KeyFile::new(there.clone()).make(&env).unwrap();
        std::os::unix::fs::symlink(&there, &link).unwrap();
        let file = KeyFile::new(link.clone());
        let kept = file.load().await.unwrap();
        assert!(file.how_to_replace().unwrap().contains("key generate"));
        let new = MasterKey::generate(&env).unwrap();
        let error = file.replace(&ids(&kept), std::slice::from_ref(&new)).await.unwrap_err();
        assert!(error.is(ErrorKind::Unsupported), "{error:?}");
        assert!(link.is_symlink());
        assert_eq!(ids(&KeyFile::new(there).load().await.unwrap()), ids(&kept));
    }

    #[tokio::test]
    async fn variables_and_commands_give_several_keys() {
        let env = Env::system();
        let keys = [MasterKey::generate(&env).unwrap(), MasterKey::generate(&env).unwrap()];
        let [one, two] = keys.each_ref().map(|key| key.to_text().expose_secret().to_owned());
        let variable = KeyVariable(format!(" {one}\n{two} ").into());
        assert_eq!(ids(&variable.load().await.unwrap()), ids(&keys));
        let command = KeyCommand(format!("printf '%s\n%s\n' {one} {two}").into());
        assert_eq!(ids(&command.load().await.unwrap()), ids(&keys));
        assert_eq!(KeyVariable(" ".into()).load().await.unwrap_err().code(), "master-key-invalid");
        let failing = KeyCommand("echo canary; exit 3".into()).load().await.unwrap_err();
        assert_eq!(failing.code(), "master-key-command-failed");
        assert!(!failing.report().contains("canary"));
    }
}
