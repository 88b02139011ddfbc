//! A repository: its files, its keys, and the way to read and write them.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use futures::TryStreamExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::compress::{Compressor, Decompressor};
use super::config::Config;
use super::crypto::{Iv, MasterKey};
use super::fetch::is_of_stored_bytes;
use super::key_file::{KdfParams, KeyFile};
use super::layout::{FileKind, config_key, id_of_name, no_repository};
use super::snapshot_file::Snapshot;
use crate::blocking::blocking;
use crate::buffers::{BufferPool, Segments};
use crate::destination::{Destination, ObjectKey, Payload};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::model::{FileTime, KeyId, SnapshotId};

/// The compression level of files that are not packed; they are few and JSON.
const UNPACKED_LEVEL: i32 = 3;

/// An opened repository in the restic format. Clones share one connection and key.
#[derive(Clone)]
pub struct Repository(Arc<Inner>);

struct Inner {
    destination: Arc<dyn Destination>,
    env: Env,
    key: Arc<MasterKey>,
    key_id: KeyId,
    config: Config,
}

/// How a new repository is made.
#[derive(Debug, Clone, Default)]
pub struct InitOptions {
    /// Share the chunker polynomial of this repository, so that one read feeds both with the same
    /// chunks. Whoever can see both can then tell that they hold the same data.
    pub polynomial_of: Option<Repository>,
    /// Who creates the first key; shown by `repo key list`.
    pub owner: KeyOwner,
}

/// Who made a key. Shown to people, never used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyOwner {
    /// The name of the user.
    pub username: String,
    /// The name of the machine.
    pub hostname: String,
}

/// A key of a repository, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// The id.
    pub id: KeyId,
    /// Who made it.
    pub owner: KeyOwner,
    /// When it was made, if that is readable.
    pub created: Option<FileTime>,
    /// Whether it opened the repository this time.
    pub current: bool,
}

impl Repository {
    /// Creates a repository: first a key, then the config.
    ///
    /// # Errors
    /// `AlreadyExists` if there is one already, or remains of one.
    pub async fn init(
        destination: Arc<dyn Destination>,
        password: &SecretString,
        options: InitOptions,
        env: &Env,
    ) -> Result<Self> {
        let location = destination.location();
        refuse_empty(password)?;
        if exists(&*destination, &config_key()?).await? {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("there is a repository at {location} already"),
            ));
        }
        for kind in [FileKind::Key, FileKind::Snapshot] {
            if !list_ids(&*destination, kind).await?.is_empty() {
                return Err(Error::new(
                    ErrorKind::AlreadyExists,
                    format!("{location} has {}s of a repository but no config", kind.noun()),
                )
                .with_hint("restore the config, or choose an empty location"));
            }
        }
        let shared = options.polynomial_of.as_ref().map(|other| other.0.config.chunker_polynomial);
        let config = Config::generate(env, shared)?;
        let key = Arc::new(MasterKey::generate(env)?);
        let key_id = save_key(&destination, &key, password, &options.owner, env).await?;
        let sealed = key.seal(Iv::random(env)?, &config.encode()?);
        destination
            .create(&config_key()?, sealed.into())
            .await
            .map_err(|error| error.while_doing(format!("create the repository at {location}")))?;
        // What is there now counts: another writer may have been first.
        let kept = read_config(&*destination, &key).await?;
        if kept.id != config.id {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("another repository was created at {location} at the same time"),
            ));
        }
        let env = env.clone();
        Ok(Self(Arc::new(Inner { destination, env, key, key_id, config: kept })))
    }

    /// Opens a repository.
    ///
    /// # Errors
    /// `NotFound` with code `repository-not-found` if there is none, `WrongPassword` if no key opens
    /// with the password, `Corrupt` if a file is damaged or the config is gone.
    pub async fn open(
        destination: Arc<dyn Destination>,
        password: &SecretString,
        env: &Env,
    ) -> Result<Self> {
        if !Self::exists(&*destination).await? {
            return Err(no_repository(&destination.location()));
        }
        let (key_id, key) = unlock(&*destination, password).await?;
        let key = Arc::new(key);
        let config = read_config(&*destination, &key).await?;
        let env = env.clone();
        Ok(Self(Arc::new(Inner { destination, env, key, key_id, config })))
    }

    /// Whether there is a repository, so that nobody is asked for a password in vain.
    ///
    /// # Errors
    /// `Corrupt` if there are keys but no config: something is lost, and nothing may be made there.
    pub async fn exists(destination: &dyn Destination) -> Result<bool> {
        if exists(destination, &config_key()?).await? {
            return Ok(true);
        }
        if list_ids(destination, FileKind::Key).await?.is_empty() {
            return Ok(false);
        }
        let location = destination.location();
        let detail = format!("it is missing, but there are keys at {location}");
        Err(Error::corrupt("config", detail).with_hint(
            "put it back from a copy of the repository, or remove the keys if nothing was ever \
             backed up there",
        ))
    }

    /// The id that the repository got when it was created.
    pub fn id(&self) -> &str {
        &self.0.config.id
    }

    /// The version of the format: 1 or 2.
    pub fn version(&self) -> u32 {
        self.0.config.version
    }

    /// Where the repository is. No secrets.
    pub fn location(&self) -> String {
        self.0.destination.location()
    }

    /// What the files are kept in.
    pub fn destination(&self) -> &Arc<dyn Destination> {
        &self.0.destination
    }

    /// The same repository, asked through another destination that leads to it.
    pub(crate) fn through(&self, destination: Arc<dyn Destination>) -> Self {
        let Inner { env, key, key_id, config, .. } = &*self.0;
        Self(Arc::new(Inner {
            destination,
            env: env.clone(),
            key: Arc::clone(key),
            key_id: *key_id,
            config: config.clone(),
        }))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn env(&self) -> &Env {
        &self.0.env
    }

    pub(crate) fn key(&self) -> &MasterKey {
        &self.0.key
    }

    /// Adds a key that opens the repository with another password.
    pub async fn add_key(&self, password: &SecretString, owner: &KeyOwner) -> Result<KeyId> {
        refuse_empty(password)?;
        save_key(&self.0.destination, &self.0.key, password, owner, &self.0.env).await
    }

    /// Lists the keys.
    pub async fn keys(&self) -> Result<Vec<KeyInfo>> {
        let mut keys = Vec::new();
        for id in list_ids(&*self.0.destination, FileKind::Key).await? {
            let id = KeyId::from_bytes(id);
            let file = read_key(&*self.0.destination, id).await?;
            keys.push(KeyInfo {
                id,
                owner: KeyOwner { username: file.username, hostname: file.hostname },
                created: file.created,
                current: id == self.0.key_id,
            });
        }
        Ok(keys)
    }

    /// Removes a key. Whoever knows the removed password and kept a copy of the key file can still
    /// open the repository: only copying it into a new one changes the master key.
    ///
    /// # Errors
    /// `InvalidInput` for the key that opened the repository, which might be the last one.
    pub async fn remove_key(&self, id: KeyId) -> Result<()> {
        if id == self.0.key_id {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                "cannot remove the key that opened the repository",
            )
            .with_hint("open it with another password first"));
        }
        let key = FileKind::Key.key(id.as_bytes())?;
        if !exists(&*self.0.destination, &key).await? {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no key {id}")));
        }
        self.0.destination.delete(&key).await
    }

    /// Changes the password that opened the repository: adds the new key, proves that it opens, then
    /// removes the old one.
    pub async fn change_password(
        &self,
        password: &SecretString,
        owner: &KeyOwner,
    ) -> Result<KeyId> {
        let id = self.add_key(password, owner).await?;
        let file = read_key(&*self.0.destination, id).await?;
        unlock_file(file, password.clone()).await?;
        self.0.destination.delete(&FileKind::Key.key(self.0.key_id.as_bytes())?).await?;
        Ok(id)
    }

    /// Loads all snapshots, oldest first.
    ///
    /// # Errors
    /// `Corrupt` naming the snapshot that cannot be read.
    pub async fn snapshots(&self) -> Result<Vec<(SnapshotId, Snapshot)>> {
        let (snapshots, damage) = self.readable_snapshots().await?;
        damage.into_iter().next().map_or(Ok(snapshots), Err)
    }

    /// Loads all snapshots that can be read, oldest first, and says why the others cannot be.
    ///
    /// # Errors
    /// Those of the destination that are not of one snapshot.
    pub async fn readable_snapshots(&self) -> Result<(Vec<(SnapshotId, Snapshot)>, Vec<Error>)> {
        use futures::StreamExt as _;
        let ids = self.list(FileKind::Snapshot).await?;
        let concurrency = self.0.destination.capabilities().concurrency.max(1);
        let mut loading = futures::stream::iter(ids.into_iter().map(SnapshotId::from_bytes))
            .map(|id| async move { (id, self.snapshot(id).await) })
            .buffer_unordered(concurrency);
        let (mut snapshots, mut damage) = (Vec::new(), Vec::new());
        while let Some((id, loaded)) = loading.next().await {
            match loaded {
                Ok(snapshot) => snapshots.push((id, snapshot)),
                // A forget beside us may remove a snapshot.
                Err(error) if error.is(ErrorKind::NotFound) => {}
                Err(error) if is_of_stored_bytes(&error) => damage.push(error),
                Err(error) => return Err(error),
            }
        }
        snapshots.sort_by_key(|(id, snapshot)| (snapshot.time.timestamp(), *id));
        Ok((snapshots, damage))
    }

    /// Loads one snapshot.
    pub async fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        let json = self.load(FileKind::Snapshot, id.as_bytes()).await?;
        Snapshot::decode(&json).map_err(|error| Error::corrupt(format!("snapshot {id}"), error))
    }

    /// Finds a snapshot by `latest` or by the first digits of its id.
    ///
    /// # Errors
    /// `NotFound` if there is none, `InvalidInput` if the digits fit several.
    pub async fn find_snapshot(&self, name: &str) -> Result<(SnapshotId, Snapshot)> {
        let not_found = || {
            Error::new(ErrorKind::NotFound, format!("there is no snapshot {name:?}"))
                .with_code("snapshot-not-found")
                .with_hint("list them with `backupkit snapshots`")
        };
        if name == "latest" {
            // Checkpoints are not backups; their time is 1970, but they may be all there is.
            let mut finished = self.snapshots().await?;
            finished.retain(|(_, snapshot)| !super::checkpoint_tags::is_checkpoint(snapshot));
            return finished.pop().ok_or_else(not_found);
        }
        let mut found = self
            .list(FileKind::Snapshot)
            .await?
            .into_iter()
            .map(SnapshotId::from_bytes)
            .filter(|id| !name.is_empty() && id.to_string().starts_with(name));
        let id = found.next().ok_or_else(not_found)?;
        if found.next().is_some() {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("several snapshots begin with {name:?}"),
            )
            .with_hint("give more digits"));
        }
        Ok((id, self.snapshot(id).await?))
    }

    /// Lists the ids of one kind of file.
    pub(crate) async fn list(&self, kind: FileKind) -> Result<Vec<[u8; 32]>> {
        list_ids(&*self.0.destination, kind).await
    }

    /// Encodes and seals an index, snapshot or lock. Its name is the SHA-256 of the result.
    pub(crate) fn seal_file(&self, json: &[u8]) -> Result<Vec<u8>> {
        let plain = if self.version() == 1 {
            json.to_vec()
        } else {
            let mut plain = vec![2];
            plain.extend(Compressor::new(UNPACKED_LEVEL)?.compress(json)?);
            plain
        };
        Ok(self.0.key.seal(Iv::random(&self.0.env)?, &plain))
    }

    /// As [`Self::seal_file`], for what may be large, into buffers of `pool`.
    pub(crate) fn seal_large_file(&self, json: &Segments, pool: &BufferPool) -> Result<Segments> {
        let mut sealed = Segments::new(pool);
        let iv = Iv::random(&self.0.env)?;
        if self.version() == 1 {
            self.0.key.seal_parts(iv, json.all(), &mut sealed)?;
        } else {
            let mut plain = Segments::new(pool);
            plain.push(&[2])?;
            let mut compressor = Compressor::new(UNPACKED_LEVEL)?;
            compressor.compress_parts(json.all(), json.len_bytes() as u64, &mut plain)?;
            self.0.key.seal_parts(iv, plain.all(), &mut sealed)?;
        }
        Ok(sealed)
    }

    /// Creates a file under the SHA-256 of its sealed bytes, which it returns.
    pub(crate) async fn create_sealed(
        &self,
        kind: FileKind,
        sealed: impl IntoIterator<Item = Bytes>,
    ) -> Result<[u8; 32]> {
        let parts: Vec<Bytes> = sealed.into_iter().collect();
        let mut hash = Sha256::new();
        for part in &parts {
            hash.update(part);
        }
        let id = hash.finalize().into();
        self.0.destination.create(&kind.key(&id)?, Payload::from_parts(parts)).await?;
        Ok(id)
    }

    /// Reads a file and checks it against its name.
    pub(crate) async fn load(&self, kind: FileKind, id: &[u8; 32]) -> Result<Vec<u8>> {
        let sealed = read_capped(&*self.0.destination, &kind.key(id)?, kind.max_bytes()).await?;
        self.open_sealed(kind, id, &sealed)
    }

    /// Checks the bytes of a file against its name, and opens them.
    pub(crate) fn open_sealed(
        &self,
        kind: FileKind,
        id: &[u8; 32],
        sealed: &[u8],
    ) -> Result<Vec<u8>> {
        let name = || format!("{} {}", kind.noun(), hex::encode(id));
        if sha256(sealed) != *id {
            return Err(Error::corrupt(name(), "its bytes do not fit its name"));
        }
        self.open_file(kind, sealed).map_err(|error| error.while_doing(format!("read {}", name())))
    }

    /// Reads a key file and checks it against its name.
    pub(crate) async fn read_key(&self, id: KeyId) -> Result<()> {
        read_key(&*self.0.destination, id).await.map(drop)
    }

    /// Reads the config again.
    ///
    /// # Errors
    /// `NotFound` or `Corrupt` if it is no longer what it was.
    pub(crate) async fn read_config_again(&self) -> Result<()> {
        let config = read_config(&*self.0.destination, &self.0.key).await?;
        if config == self.0.config {
            return Ok(());
        }
        Err(Error::corrupt("config", "it is that of another repository"))
    }

    /// Deletes a file.
    pub(crate) async fn delete(&self, kind: FileKind, id: &[u8; 32]) -> Result<()> {
        self.0.destination.delete(&kind.key(id)?).await
    }

    fn open_file(&self, kind: FileKind, sealed: &[u8]) -> Result<Vec<u8>> {
        let plain = self.0.key.open(sealed).map_err(|error| Error::corrupt("the file", error))?;
        match plain.first() {
            Some(b'{' | b'[') => Ok(plain),
            Some(2) => Decompressor::new()?.decompress_unknown(&plain[1..], kind.max_plain_bytes()),
            _ => Err(Error::corrupt("the file", "unknown encoding")),
        }
    }
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository")
            .field("location", &self.location())
            .field("id", &self.id())
            .finish_non_exhaustive()
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).into()
}

/// Whether an object exists.
pub(crate) async fn exists(destination: &dyn Destination, key: &ObjectKey) -> Result<bool> {
    match destination.stat(key).await {
        Ok(_) => Ok(true),
        Err(error) if error.is(ErrorKind::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

fn refuse_empty(password: &SecretString) -> Result<()> {
    if password.expose_secret().is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, "an empty password protects nothing")
            .with_hint("give one with BACKUPKIT_PASSWORD"));
    }
    Ok(())
}

async fn list_ids(destination: &dyn Destination, kind: FileKind) -> Result<Vec<[u8; 32]>> {
    destination
        .list(&kind.prefix()?)
        .try_filter_map(|object| async move { Ok(id_of_name(object.key.name())) })
        .try_collect()
        .await
}

/// Reads a file that has no business to be larger than `cap` bytes.
pub(super) async fn read_capped(
    destination: &dyn Destination,
    key: &ObjectKey,
    cap: u64,
) -> Result<Bytes> {
    let size = destination.stat(key).await?.size_bytes;
    if size > cap {
        return Err(Error::corrupt(key, format!("{size} bytes are more than such a file has")));
    }
    destination.get(key, None).await
}

async fn read_config(destination: &dyn Destination, key: &MasterKey) -> Result<Config> {
    let sealed = read_capped(destination, &config_key()?, 1 << 20).await?;
    let json = key.open(&sealed).map_err(|error| Error::corrupt("config", error))?;
    Config::decode(&json)
}

async fn read_key(destination: &dyn Destination, id: KeyId) -> Result<KeyFile> {
    let key = FileKind::Key.key(id.as_bytes())?;
    let bytes = read_capped(destination, &key, FileKind::Key.max_bytes()).await?;
    if sha256(&bytes) != *id.as_bytes() {
        return Err(Error::corrupt(format!("key {id}"), "its bytes do not fit its name"));
    }
    KeyFile::decode(&bytes).map_err(|error| error.while_doing(format!("read key {id}")))
}

/// Tries each key. A damaged one does not hide another that opens.
async fn unlock(
    destination: &dyn Destination,
    password: &SecretString,
) -> Result<(KeyId, MasterKey)> {
    let location = destination.location();
    let mut damage = None;
    let mut tried = 0_usize;
    for id in list_ids(destination, FileKind::Key).await? {
        let id = KeyId::from_bytes(id);
        let file = match read_key(destination, id).await {
            Ok(file) => file,
            Err(error) if error.is(ErrorKind::NotFound) => continue,
            Err(error) => {
                damage = Some(error);
                continue;
            }
        };
        match unlock_file(file, password.clone()).await {
            Ok(key) => return Ok((id, key)),
            Err(error) if error.is(ErrorKind::WrongPassword) => tried += 1,
            Err(error) => damage = Some(error.while_doing(format!("open key {id}"))),
        }
    }
    match damage {
        Some(error) => Err(error),
        None if tried == 0 => {
            Err(Error::corrupt(format!("the repository at {location}"), "it has no keys"))
        }
        None => Err(Error::new(
            ErrorKind::WrongPassword,
            format!("the password does not open the repository at {location}"),
        )),
    }
}

/// Key derivation takes a tenth of a second, so it leaves the I/O threads.
async fn unlock_file(file: KeyFile, password: SecretString) -> Result<MasterKey> {
    blocking(move || file.unlock(&password)).await
}

async fn save_key(
    destination: &Arc<dyn Destination>,
    key: &Arc<MasterKey>,
    password: &SecretString,
    owner: &KeyOwner,
    env: &Env,
) -> Result<KeyId> {
    let (key, password, owner, own_env) =
        (Arc::clone(key), password.clone(), owner.clone(), env.clone());
    let bytes = blocking(move || {
        let created = FileTime::from_timestamp(own_env.now(), own_env.time_zone());
        let (user, host) = (owner.username.as_str(), owner.hostname.as_str());
        KeyFile::create(&key, &password, KdfParams::default(), user, host, created, &own_env)?
            .encode()
    })
    .await?;
    let id = KeyId::of(&bytes);
    destination.create(&FileKind::Key.key(id.as_bytes())?, bytes.into()).await?;
    Ok(id)
}
