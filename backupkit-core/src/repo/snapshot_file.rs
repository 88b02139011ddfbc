//! Snapshot files: which tree was backed up when, where and by whom.

use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};
use crate::model::{BlobId, FileTime, SnapshotId};

use super::json::ObjectWriter;

/// What a snapshot file holds. Fields of other programs are not kept.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Snapshot {
    /// When the backup started, with the offset of the local time: retention periods follow it.
    pub time: FileTime,
    /// The snapshot that it was compared with.
    #[serde(default)]
    pub parent: Option<SnapshotId>,
    /// The tree of the root.
    pub tree: BlobId,
    /// What was backed up: absolute paths or URIs.
    #[serde(default, deserialize_with = "null_is_default")]
    pub paths: Vec<String>,
    /// The host that the data belongs to, or empty.
    #[serde(default, deserialize_with = "null_is_default")]
    pub hostname: String,
    /// Who ran the backup, or empty.
    #[serde(default, deserialize_with = "null_is_default")]
    pub username: String,
    /// The number of the user, 0 if unknown.
    #[serde(default, deserialize_with = "null_is_default")]
    pub uid: u32,
    /// The number of the user's group, 0 if unknown.
    #[serde(default, deserialize_with = "null_is_default")]
    pub gid: u32,
    /// The patterns of what was left out.
    #[serde(default, deserialize_with = "null_is_default")]
    pub excludes: Vec<String>,
    /// Labels. The only place for own data that survives when other programs edit the snapshot.
    #[serde(default, deserialize_with = "null_is_default")]
    pub tags: Vec<String>,
    /// The snapshot that this one replaces.
    #[serde(default)]
    pub original: Option<SnapshotId>,
    /// The program that wrote it, or empty.
    #[serde(default, deserialize_with = "null_is_default")]
    pub program_version: String,
    /// What was found and stored. Programs before 2024 write none.
    #[serde(default)]
    pub summary: Option<SnapshotSummary>,
}

/// What a backup found and stored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct SnapshotSummary {
    pub backup_start: FileTime,
    pub backup_end: FileTime,
    #[serde(default)]
    pub files_new: u64,
    #[serde(default)]
    pub files_changed: u64,
    #[serde(default)]
    pub files_unmodified: u64,
    #[serde(default)]
    pub dirs_new: u64,
    #[serde(default)]
    pub dirs_changed: u64,
    #[serde(default)]
    pub dirs_unmodified: u64,
    #[serde(default)]
    pub data_blobs: u64,
    #[serde(default)]
    pub tree_blobs: u64,
    /// Bytes added before compression.
    #[serde(default, rename = "data_added")]
    pub data_added_bytes: u64,
    /// Bytes added to packs.
    #[serde(default, rename = "data_added_packed")]
    pub data_added_packed_bytes: u64,
    #[serde(default)]
    pub total_files_processed: u64,
    #[serde(default)]
    pub total_bytes_processed: u64,
}

impl Snapshot {
    /// Returns a snapshot of `tree` with nothing else.
    pub fn new(time: FileTime, tree: BlobId) -> Self {
        Self {
            time,
            parent: None,
            tree,
            paths: Vec::new(),
            hostname: String::new(),
            username: String::new(),
            uid: 0,
            gid: 0,
            excludes: Vec::new(),
            tags: Vec::new(),
            original: None,
            program_version: String::new(),
            summary: None,
        }
    }

    /// Returns the text of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(1024);
        let mut object = ObjectWriter::new(&mut json);
        object.time("time", &self.time);
        if let Some(parent) = &self.parent {
            object.id("parent", parent.as_bytes());
        }
        object.id("tree", self.tree.as_bytes());
        object.strings("paths", &self.paths);
        object.string_if_any("hostname", &self.hostname);
        object.string_if_any("username", &self.username);
        object.number_if_any("uid", self.uid);
        object.number_if_any("gid", self.gid);
        object.strings_if_any("excludes", &self.excludes);
        object.strings_if_any("tags", &self.tags);
        if let Some(original) = &self.original {
            object.id("original", original.as_bytes());
        }
        object.string_if_any("program_version", &self.program_version);
        if let Some(summary) = &self.summary {
            summary.encode(object.field("summary"));
        }
        object.finish();
        json
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// `Corrupt` if it is not a snapshot, or names no tree or time.
    pub fn decode(json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json)
            .map_err(|error| Error::corrupt("a snapshot", &error).with_source(error))
    }
}

impl SnapshotSummary {
    fn encode(&self, json: &mut Vec<u8>) {
        let mut object = ObjectWriter::new(json);
        object.time("backup_start", &self.backup_start);
        object.time("backup_end", &self.backup_end);
        for (key, number) in [
            ("files_new", self.files_new),
            ("files_changed", self.files_changed),
            ("files_unmodified", self.files_unmodified),
            ("dirs_new", self.dirs_new),
            ("dirs_changed", self.dirs_changed),
            ("dirs_unmodified", self.dirs_unmodified),
            ("data_blobs", self.data_blobs),
            ("tree_blobs", self.tree_blobs),
            ("data_added", self.data_added_bytes),
            ("data_added_packed", self.data_added_packed_bytes),
            ("total_files_processed", self.total_files_processed),
            ("total_bytes_processed", self.total_bytes_processed),
        ] {
            object.number(key, number);
        }
        object.finish();
    }
}

/// Go writes `null` for lists that were never set, and reads it as nothing.
fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::fixtures;

    #[test]
    fn what_go_writes_comes_back_byte_for_byte() {
        for line in fixtures::lines("snapshots.jsonl") {
            let snapshot = Snapshot::decode(line.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(snapshot.encode()).unwrap(), line);
        }
    }

    #[test]
    fn snapshots_of_restic_come_back_byte_for_byte() {
        for program in ["restic-014", "restic-019"] {
            for (id, json) in fixtures::stored("snapshots", program) {
                let snapshot = Snapshot::decode(&json).unwrap();
                assert_eq!(snapshot.encode(), json, "{program} {id}");
                assert_eq!(snapshot.summary.is_some(), program == "restic-019");
                assert_eq!(snapshot.hostname, "fixture");
            }
        }
    }

    #[test]
    fn snapshots_of_rustic_are_read_without_its_own_fields() {
        for (_, json) in fixtures::stored("snapshots", "rustic-0114") {
            let snapshot = Snapshot::decode(&json).unwrap();
            assert_eq!(snapshot.program_version, "rustic 0.11.4");
            assert_eq!(snapshot.tags, ["first"]);
            assert_eq!(snapshot.summary.as_ref().unwrap().files_new, 31);
            assert_eq!(Snapshot::decode(&snapshot.encode()).unwrap(), snapshot);
        }
    }

    #[test]
    fn lists_that_were_never_set_are_empty() {
        let tree = BlobId::of(b"");
        let json = format!(
            r#"{{"time":"1970-01-01T00:00:00Z","tree":"{tree}","paths":null,"tags":null}}"#
        );
        let snapshot = Snapshot::decode(json.as_bytes()).unwrap();
        assert_eq!(snapshot, Snapshot::new(FileTime::EPOCH, tree));
    }

    #[test]
    fn a_snapshot_without_a_tree_is_damaged() {
        for json in [
            r#"{"time":"1970-01-01T00:00:00Z","paths":[]}"#,
            r#"{"time":"1970-01-01T00:00:00Z","tree":null,"paths":[]}"#,
            "",
            "[]",
        ] {
            let error = Snapshot::decode(json.as_bytes()).unwrap_err();
            assert!(error.is(crate::ErrorKind::Corrupt), "{json}");
        }
    }
}
