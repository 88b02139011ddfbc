//! Writes repositories with the real key that no honest program writes.

use std::sync::Arc;

use backupkit::Env;
use backupkit::destination::{MemoryDestination, ObjectKey};
use backupkit::model::{BlobId, FileMode, FileTime, Metadata, PackId, SnapshotId};
use backupkit::repo::compress::Compressor;
use backupkit::repo::crypto::{Iv, MasterKey, OVERHEAD};
use backupkit::repo::index_file::{self, IndexedPack};
use backupkit::repo::key_file::{KdfParams, KeyFile};
use backupkit::repo::pack_header::{BlobKind, PackedBlob, encode_header};
use backupkit::repo::{InitOptions, Node, Repository, Snapshot, encode_node};

use crate::quick_clock::QuickClock;

pub(crate) const PASSWORD: &str = "damage";
const OTHER_PASSWORD: &str = "other";

/// So that opening a repository takes no time.
const CHEAP: KdfParams = KdfParams { n: 16, r: 1, p: 1 };

/// A new repository in memory, and its master key.
#[derive(Debug)]
pub(crate) struct Forge {
    pub(crate) env: Env,
    pub(crate) objects: MemoryDestination,
    pub(crate) master: MasterKey,
}

impl Forge {
    /// Two passwords open the repository.
    pub(crate) async fn new() -> Self {
        let env = Env::system().with_clock(Arc::new(QuickClock::new()));
        let objects = MemoryDestination::new();
        let destination = Arc::new(objects.clone());
        Repository::init(destination, &PASSWORD.into(), InitOptions::default(), &env)
            .await
            .unwrap();
        let is_key = |key: &ObjectKey| key.as_str().starts_with("keys/");
        let mut first = objects.objects();
        first.retain(|key, _| is_key(key));
        let (key, bytes) = first.pop_first().unwrap();
        let master =
            KeyFile::decode(&bytes).and_then(|file| file.unlock(&PASSWORD.into())).unwrap();
        objects.remove_raw(&key).unwrap();
        let forge = Self { env, objects, master };
        for password in [PASSWORD, OTHER_PASSWORD] {
            forge.put("keys", &forge.key_file(password));
        }
        forge
    }

    pub(crate) fn key_file(&self, password: &str) -> Vec<u8> {
        let (time, password) = (FileTime::EPOCH, password.into());
        let file = KeyFile::create(&self.master, &password, CHEAP, "u", "h", time, &self.env);
        file.unwrap().encode().unwrap()
    }

    pub(crate) async fn open(&self) -> backupkit::Result<Repository> {
        let destination = Arc::new(self.objects.clone());
        Repository::open(destination, &PASSWORD.into(), &self.env).await
    }

    pub(crate) fn seal(&self, plain: &[u8]) -> Vec<u8> {
        self.master.seal(Iv::random(&self.env).unwrap(), plain)
    }

    /// Stores bytes under their hash, and returns it.
    pub(crate) fn put(&self, folder: &str, bytes: &[u8]) -> BlobId {
        let id = BlobId::of(bytes);
        let key = match folder {
            "data" => format!("data/{}/{id}", &id.to_string()[..2]),
            _ => format!("{folder}/{id}"),
        };
        let key = ObjectKey::new(key).unwrap();
        self.objects.put_raw(&key, bytes.to_vec());
        id
    }

    /// Stores a pack of blobs, some compressed, and returns what an index says of it.
    pub(crate) fn pack(&self, blobs: &[(BlobKind, Vec<u8>)]) -> IndexedPack {
        let mut pack = Vec::new();
        let mut packed = Vec::new();
        for (kind, plain) in blobs {
            let mut compressor = Compressor::new(3).unwrap();
            let compressed = compressor.compress(plain).unwrap();
            let is_smaller = compressed.len() < plain.len();
            let plain_bytes = is_smaller.then(|| narrow(plain.len()));
            let sealed = self.seal(if is_smaller { &compressed } else { plain });
            packed.push(PackedBlob {
                id: BlobId::of(plain),
                kind: *kind,
                offset: narrow(pack.len()),
                sealed_bytes: narrow(sealed.len()),
                plain_bytes,
            });
            pack.extend(sealed);
        }
        self.close_pack(pack, packed)
    }

    /// Ends a pack with its header.
    pub(crate) fn close_pack(&self, mut pack: Vec<u8>, blobs: Vec<PackedBlob>) -> IndexedPack {
        let header = self.seal(&encode_header(&blobs).unwrap());
        pack.extend(&header);
        pack.extend(narrow(header.len()).to_le_bytes());
        let id = PackId::from_bytes(*self.put("data", &pack).as_bytes());
        IndexedPack { id, blobs }
    }

    pub(crate) fn index(&self, packs: &[IndexedPack]) -> BlobId {
        let json = index_file::encode(packs).unwrap();
        self.put("index", &self.seal(&json))
    }

    pub(crate) fn snapshot(&self, tree: BlobId) -> SnapshotId {
        let json = Snapshot::new(FileTime::EPOCH, tree).encode();
        SnapshotId::from_bytes(*self.put("snapshots", &self.seal(&json)).as_bytes())
    }

    /// Stores one pack of data and one of trees, the last of which is the root of a snapshot.
    pub(crate) fn store(&self, data: &[Vec<u8>], trees: &[Vec<u8>]) -> SnapshotId {
        let blobs = |kind, blobs: &[Vec<u8>]| -> Vec<_> {
            blobs.iter().map(|blob| (kind, blob.clone())).collect()
        };
        let mut packs = vec![self.pack(&blobs(BlobKind::Tree, trees))];
        if !data.is_empty() {
            packs.push(self.pack(&blobs(BlobKind::Data, data)));
        }
        self.index(&packs);
        self.snapshot(BlobId::of(trees.last().unwrap()))
    }
}

/// The text of a tree, whatever the names and their order.
pub(crate) fn tree(nodes: &[Node]) -> Vec<u8> {
    let mut json = b"{\"nodes\":[".to_vec();
    for (number, node) in nodes.iter().enumerate() {
        if number > 0 {
            json.push(b',');
        }
        encode_node(node, &mut json);
    }
    json.extend(b"]}\n");
    json
}

pub(crate) fn file(name: &[u8], content: &[u8]) -> Node {
    let metadata = Metadata::new(FileMode::FILE, FileTime::EPOCH);
    let blobs = vec![BlobId::of(content)];
    Node::file(name.to_vec(), metadata, content.len() as u64, blobs)
}

pub(crate) fn directory(name: &[u8], tree: BlobId) -> Node {
    let metadata = Metadata::new(FileMode::DIRECTORY, FileTime::EPOCH);
    Node::directory(name.to_vec(), metadata, tree)
}

pub(crate) fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap()
}

/// Sealed data of the shortest length.
pub(crate) const SEALED_BYTES: u32 = 32;
const _: () = assert!(SEALED_BYTES as usize == OVERHEAD);
