//! A copy is used only if it is whole and of these index files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;
use crate::model::{BlobId, PackId};
use crate::repo::index::Index;
use crate::repo::index_file::IndexedPack;
use crate::repo::pack_header::{BlobKind, PackedBlob};

const REPOSITORY: &str = "r";

fn pack(number: u32) -> IndexedPack {
    let blob = |kind, offset, plain_bytes| PackedBlob {
        id: BlobId::of(&[number.to_le_bytes(), u32::to_le_bytes(offset)].concat()),
        kind,
        offset,
        sealed_bytes: 40,
        plain_bytes,
    };
    IndexedPack {
        id: PackId::of(&number.to_le_bytes()),
        blobs: vec![blob(BlobKind::Data, 0, None), blob(BlobKind::Tree, 40, Some(77))],
    }
}

fn ids(numbers: std::ops::Range<u8>) -> BTreeSet<IndexId> {
    numbers.map(|number| IndexId::from_bytes([number; 32])).collect()
}

fn write(folder: &Path, packs: &[IndexedPack], files: &BTreeSet<IndexId>) -> IndexCache {
    let cache = IndexCache::new(folder, REPOSITORY);
    let writer = cache.writer("x").unwrap().push(packs).unwrap();
    writer.finish(&files.iter().copied().collect::<Vec<_>>());
    cache
}

fn content(index: &Index) -> Vec<String> {
    let mut content: Vec<_> = index.iter().map(|blob| format!("{blob:?}")).collect();
    content.sort();
    content
}

fn load(cache: &IndexCache, existing: &BTreeSet<IndexId>) -> Option<Vec<String>> {
    Some(content(&cache.load(existing)?.into_builder().build()))
}

fn expected(packs: &[IndexedPack]) -> Vec<String> {
    let mut index = Index::empty();
    for pack in packs {
        index.insert_pack(pack.id, &pack.blobs);
    }
    content(&index)
}

#[test]
fn what_was_written_comes_back_while_its_index_files_exist() {
    let folder = tempfile::tempdir().unwrap();
    let packs: Vec<_> = (0..100).map(pack).collect();
    let cache = write(folder.path(), &packs, &ids(1..4));
    assert_eq!(load(&cache, &ids(0..9)), Some(expected(&packs)));
    assert_eq!(load(&cache, &ids(1..4)), Some(expected(&packs)));
    assert_eq!(load(&cache, &ids(2..9)), None, "an index file is gone");
    let other = IndexCache::new(folder.path(), "another repository");
    assert_eq!(load(&other, &ids(0..9)), None);
    fs::rename(cache.path(), other.path()).unwrap();
    assert_eq!(load(&other, &ids(0..9)), None, "it is of another repository");
}

#[test]
fn a_newer_copy_keeps_the_packs_of_the_older_one() {
    let folder = tempfile::tempdir().unwrap();
    let packs: Vec<_> = (0..10).map(pack).collect();
    let cache = write(folder.path(), &packs[..6], &ids(1..2));
    let cached = cache.load(&ids(1..3)).unwrap();
    let writer = cache.writer("y").unwrap().copy(&cached).unwrap();
    let writer = writer.push(&packs[6..]).unwrap();
    writer.finish(&ids(1..3).into_iter().collect::<Vec<_>>());
    assert_eq!(load(&cache, &ids(1..3)), Some(expected(&packs)));
    assert_eq!(load(&cache, &ids(1..2)), None);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left over");
}

#[test]
fn a_copy_with_any_wrong_byte_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let packs: Vec<_> = (0..3).map(pack).collect();
    let cache = write(folder.path(), &packs, &ids(1..3));
    let whole = fs::read(cache.path()).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        fs::write(cache.path(), &bytes).unwrap();
        assert_eq!(load(&cache, &ids(0..255)), None, "byte {at}");
        fs::write(cache.path(), &whole[..at]).unwrap();
        assert_eq!(load(&cache, &ids(0..255)), None, "{at} bytes");
    }
    fs::write(cache.path(), [&whole[..], b"x"].concat()).unwrap();
    assert_eq!(load(&cache, &ids(0..255)), None, "a byte too many");
    fs::write(cache.path(), &whole).unwrap();
    assert_eq!(load(&cache, &ids(0..255)), Some(expected(&packs)));
}

#[test]
fn absurd_counts_allocate_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cache = write(folder.path(), &[], &ids(0..0));
    let whole = fs::read(cache.path()).unwrap();
    let counts_at = whole.len() - TRAILER_BYTES;
    for at in 0..3 {
        let mut bytes = whole.clone();
        bytes[counts_at + 8 * at..counts_at + 8 * (at + 1)].fill(0xff);
        fs::write(cache.path(), &bytes).unwrap();
        assert!(cache.load(&ids(0..0)).is_none());
    }
}

#[test]
fn an_unfinished_copy_leaves_the_old_one_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let cache = write(folder.path(), &[pack(1)], &ids(1..2));
    drop(cache.writer("y").unwrap().push(&[pack(2)]).unwrap());
    assert_eq!(load(&cache, &ids(1..2)), Some(expected(&[pack(1)])));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn only_its_owner_may_read_a_copy() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let cache = write(folder.path(), &[pack(1)], &ids(1..2));
    let mode = fs::metadata(cache.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
