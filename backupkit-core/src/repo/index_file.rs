//! Files in `index/`: which blobs lie where in which packs.
//!
//! The JSON may be large, so packs are handed on one by one while it is read.

use std::fmt;
use std::io::Write;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::pack_header::{BlobKind, PackedBlob};
use crate::error::{Error, ErrorKind, Result};
use crate::model::{BlobId, PackId};

/// A pack and all blobs in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedPack {
    /// The id of the pack.
    pub id: PackId,
    /// Its blobs, by offset.
    pub blobs: Vec<PackedBlob>,
}

/// Returns the plaintext of an index file, before compression.
///
/// All blobs of a pack must be named, and in no other index file.
///
/// # Errors
/// `Internal`, which does not happen.
pub fn encode(packs: &[IndexedPack]) -> Result<Vec<u8>> {
    let mut json = Vec::new();
    encode_into(packs, &mut json)?;
    Ok(json)
}

/// As [`encode`], to a writer: an index file may be larger than one buffer should be.
pub(crate) fn encode_into(packs: &[IndexedPack], mut out: impl Write) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Internal, "cannot encode an index file").with_source(error)
    };
    serde_json::to_writer(&mut out, &StoredIndex { packs })
        .map_err(|error| failed(error.into()))?;
    out.write_all(b"\n").map_err(failed)
}

/// Reads the plaintext of an index file and hands each pack to `on_pack`, in the file's order.
///
/// Unknown fields are ignored. If the file turns out to be damaged, packs before the damage were
/// handed over.
///
/// # Errors
/// `Corrupt` if it is not an index file; else what `on_pack` returns, which ends the reading.
pub fn decode(json: &[u8], mut on_pack: impl FnMut(IndexedPack) -> Result<()>) -> Result<()> {
    let mut stopped_by = None;
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let read = IndexSeed(&mut |pack| {
        on_pack(pack).map_err(|error| {
            stopped_by = Some(error);
            Stopped
        })
    })
    .deserialize(&mut deserializer)
    .and_then(|()| deserializer.end());
    match (stopped_by, read) {
        (Some(error), _) => Err(error),
        (None, Ok(())) => Ok(()),
        (None, Err(error)) => Err(Error::corrupt("index file", error)),
    }
}

// Fields in restic's order, though readers take any.

#[derive(Serialize)]
struct StoredIndex<'a> {
    #[serde(serialize_with = "packs_to_stored")]
    packs: &'a [IndexedPack],
}

fn packs_to_stored<S: Serializer>(packs: &[IndexedPack], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(packs.iter().map(|pack| StoredPack { id: pack.id, blobs: &pack.blobs }))
}

#[derive(Serialize)]
struct StoredPack<'a> {
    id: PackId,
    #[serde(serialize_with = "blobs_to_stored")]
    blobs: &'a [PackedBlob],
}

fn blobs_to_stored<S: Serializer>(blobs: &[PackedBlob], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(blobs.iter().map(|blob| StoredBlob {
        id: blob.id,
        kind: match blob.kind {
            BlobKind::Data => StoredKind::Data,
            BlobKind::Tree => StoredKind::Tree,
        },
        offset: blob.offset,
        length: blob.sealed_bytes,
        uncompressed_length: blob.plain_bytes.unwrap_or_default(),
    }))
}

#[derive(Serialize, Deserialize)]
struct StoredBlob {
    id: BlobId,
    #[serde(rename = "type")]
    kind: StoredKind,
    offset: u32,
    length: u32,
    /// Zero, or left out, for blobs stored plain.
    #[serde(default, skip_serializing_if = "is_zero")]
    uncompressed_length: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StoredKind {
    Data,
    Tree,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the derive asks for it")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The receiver of packs does not want more.
#[derive(Debug, thiserror::Error)]
#[error("stopped")]
struct Stopped;

struct IndexSeed<'a>(&'a mut dyn FnMut(IndexedPack) -> Result<(), Stopped>);

impl<'de> DeserializeSeed<'de> for IndexSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for IndexSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list of packs")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Field {
            Packs,
            #[serde(other)]
            Other,
        }

        let mut seen = false;
        while let Some(field) = map.next_key()? {
            match field {
                Field::Packs if seen => return Err(A::Error::duplicate_field("packs")),
                Field::Packs => {
                    seen = true;
                    map.next_value_seed(PacksSeed(&mut *self.0))?;
                }
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if seen { Ok(()) } else { Err(A::Error::missing_field("packs")) }
    }
}

struct PacksSeed<'a>(&'a mut dyn FnMut(IndexedPack) -> Result<(), Stopped>);

impl<'de> DeserializeSeed<'de> for PacksSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for PacksSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of packs")
    }

    /// An empty list, as some programs write it.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut packs: A) -> Result<(), A::Error> {
        #[derive(Deserialize)]
        struct Pack {
            id: PackId,
            blobs: Option<Blobs>,
        }

        while let Some(pack) = packs.next_element::<Pack>()? {
            let blobs = pack.blobs.map_or_else(Vec::new, |blobs| blobs.0);
            (self.0)(IndexedPack { id: pack.id, blobs }).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

/// Blobs, checked one by one while they are read.
struct Blobs(Vec<PackedBlob>);

impl<'de> Deserialize<'de> for Blobs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BlobsVisitor;

        impl<'de> Visitor<'de> for BlobsVisitor {
            type Value = Blobs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of blobs")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut stored: A) -> Result<Blobs, A::Error> {
                let mut blobs = Vec::new();
                while let Some(blob) = stored.next_element::<StoredBlob>()? {
                    let blob = PackedBlob {
                        id: blob.id,
                        kind: match blob.kind {
                            StoredKind::Data => BlobKind::Data,
                            StoredKind::Tree => BlobKind::Tree,
                        },
                        offset: blob.offset,
                        sealed_bytes: blob.length,
                        plain_bytes: Some(blob.uncompressed_length).filter(|bytes| *bytes != 0),
                    };
                    blob.check().map_err(A::Error::custom)?;
                    blobs.push(blob);
                }
                // Programs list them in any order; here it is that of the pack.
                blobs.sort_by_key(|blob| blob.offset);
                Ok(Blobs(blobs))
            }
        }

        deserializer.deserialize_seq(BlobsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOB: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn decode_all(json: &str) -> Result<Vec<IndexedPack>> {
        let mut packs = Vec::new();
        decode(json.as_bytes(), |pack| {
            packs.push(pack);
            Ok(())
        })?;
        Ok(packs)
    }

    fn packs() -> Vec<IndexedPack> {
        let id = BlobId::of(b"hello");
        vec![
            IndexedPack {
                id: PackId::of(b"hello"),
                blobs: vec![
                    PackedBlob {
                        id,
                        kind: BlobKind::Tree,
                        offset: 0,
                        sealed_bytes: 38,
                        plain_bytes: None,
                    },
                    PackedBlob {
                        id,
                        kind: BlobKind::Data,
                        offset: 38,
                        sealed_bytes: 40,
                        plain_bytes: Some(4_000_000_000),
                    },
                ],
            },
            IndexedPack { id: PackId::of(b"other"), blobs: Vec::new() },
        ]
    }

    #[test]
    fn text_is_that_of_restic_and_reads_back() {
        let other = PackId::of(b"other");
        let expected = format!(
            r#"{{"packs":[{{"id":"{BLOB}","blobs":[{{"id":"{BLOB}","type":"tree","offset":0,"length":38}},{{"id":"{BLOB}","type":"data","offset":38,"length":40,"uncompressed_length":4000000000}}]}},{{"id":"{other}","blobs":[]}}]}}"#
        ) + "\n";
        let json = String::from_utf8(encode(&packs()).unwrap()).unwrap();
        assert_eq!(json, expected);
        assert_eq!(decode_all(&json).unwrap(), packs());
    }

    #[test]
    fn what_other_programs_add_or_leave_out_is_no_error() {
        let other = PackId::of(b"other");
        let json = format!(
            r#" {{"supersedes":["x"],"packs":[{{"time":"now","size":5,
            "blobs":[{{"id":"{BLOB}","type":"data","offset":38,"length":40,"uncompressed_length":4000000000}},
            {{"length":38,"offset":0,"type":"tree","id":"{BLOB}","uncompressed_length":0,"new":{{"a":[1]}}}}],
            "id":"{BLOB}"}},{{"id":"{other}","blobs":null}}],"packs_to_delete":[{{"id":"?"}}]}} "#
        );
        assert_eq!(decode_all(&json).unwrap(), packs());
        assert_eq!(decode_all(r#"{"packs":null}"#).unwrap(), []);
        assert_eq!(decode_all(r#"{"packs":[]}"#).unwrap(), []);
    }

    #[test]
    fn what_is_not_an_index_is_damaged() {
        let json = String::from_utf8(encode(&packs()).unwrap()).unwrap();
        for json in [
            String::new(),
            String::from("[]"),
            String::from("{}"),
            String::from(r#"{"packs":{}}"#),
            String::from(r#"{"packs":[],"packs":[]}"#),
            json.repeat(2),
            json.replacen(BLOB, &BLOB[1..], 1),
            json.replacen(BLOB, &BLOB.to_uppercase(), 1),
            json.replace("tree", "leaf"),
            json.replace(r#""offset":0"#, r#""offset":-1"#),
            json.replace(r#""offset":38"#, r#""offset":4294967290"#),
            json.replace(r#""length":38"#, r#""length":31"#),
            json.replace(r#""length":38"#, r#""length":4294967296"#),
            json.replace("4000000000", "4294967296"),
        ] {
            let error = decode_all(&json).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{json}");
            assert!(!error.to_string().contains('\n'));
        }
    }

    #[test]
    fn the_receiver_can_stop_the_reading() {
        let json = encode(&packs()).unwrap();
        let mut seen = 0;
        let error = decode(&json, |_| {
            seen += 1;
            Err(Error::cancelled())
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(seen, 1);
    }
}
