use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::repo::index_file::IndexedPack;

fn blob(kind: BlobKind, number: u32) -> PackedBlob {
    PackedBlob {
        id: BlobId::of(&number.to_le_bytes()),
        kind,
        offset: number,
        sealed_bytes: number % 1000 + 32,
        plain_bytes: (!number.is_multiple_of(3)).then_some(number + 1),
    }
}

fn pack_id(number: u32) -> PackId {
    PackId::of(&number.to_le_bytes())
}

fn pack(number: u32, blobs: Vec<PackedBlob>) -> IndexedPack {
    IndexedPack { id: pack_id(number), blobs }
}

fn location(pack: u32, blob: &PackedBlob) -> BlobLocation {
    BlobLocation {
        pack: pack_id(pack),
        offset: blob.offset,
        sealed_bytes: blob.sealed_bytes,
        plain_bytes: blob.plain_bytes,
    }
}

fn build(packs: &[IndexedPack]) -> Index {
    let mut builder = IndexBuilder::new();
    for pack in packs {
        builder.push(pack).unwrap();
    }
    builder.build()
}

#[test]
fn an_empty_index_holds_nothing() {
    for index in [Index::empty(), build(&[])] {
        assert!(index.is_empty());
        assert_eq!(index.iter().count(), 0);
        assert!(!index.contains(BlobKind::Data, &BlobId::of(b"x")));
        assert!(!index.contains_pack(&pack_id(0)));
    }
}

#[test]
fn kinds_are_apart() {
    let data = blob(BlobKind::Data, 1);
    let tree = PackedBlob { offset: 77, ..blob(BlobKind::Tree, 1) };
    let only_data = build(&[pack(1, vec![data])]);
    assert!(only_data.contains(BlobKind::Data, &data.id));
    assert!(!only_data.contains(BlobKind::Tree, &data.id));
    let both = build(&[pack(1, vec![data]), pack(2, vec![tree])]);
    assert_eq!(both.get(BlobKind::Data, &data.id), Some(location(1, &data)));
    assert_eq!(both.get(BlobKind::Tree, &data.id), Some(location(2, &tree)));
    assert_eq!((both.len(), both.duplicates()), (2, 0));
}

#[test]
fn duplicates_are_counted_and_the_order_of_files_does_not_matter() {
    let one = pack(1, vec![blob(BlobKind::Data, 1), blob(BlobKind::Data, 2)]);
    let two = pack(2, vec![blob(BlobKind::Data, 2), blob(BlobKind::Data, 3)]);
    let forth = build(&[one.clone(), two.clone()]);
    let back = build(&[two, one]);
    assert_eq!((forth.len(), forth.duplicates()), (3, 1));
    assert_eq!(back.duplicates(), 1);
    assert!(forth.iter().eq(back.iter()));
    assert_eq!(forth.packs(), back.packs());
}

#[test]
fn packs_in_two_index_files_are_told_apart() {
    let first = pack(1, vec![blob(BlobKind::Data, 1)]);
    let other = pack(1, vec![blob(BlobKind::Data, 1), blob(BlobKind::Data, 2)]);
    let mut builder = IndexBuilder::new();
    assert_eq!(builder.push(&first).unwrap(), Pushed::New);
    assert_eq!(builder.push(&first).unwrap(), Pushed::Repeated);
    assert_eq!(builder.push(&other).unwrap(), Pushed::Differs);
    let index = builder.build();
    assert_eq!((index.len(), index.packs().len()), (2, 1));
    assert_eq!(index.duplicates(), 0);
}

#[test]
fn stored_packs_are_found_at_once() {
    let old = blob(BlobKind::Data, 1);
    let new = blob(BlobKind::Tree, 2);
    let mut index = build(&[pack(1, vec![old])]);
    assert_eq!(index.insert_pack(pack_id(2), &[old, new]), 1);
    assert_eq!(index.insert_pack(pack_id(2), &[old, new]), 0);
    assert_eq!(index.get(BlobKind::Data, &old.id), Some(location(1, &old)));
    assert_eq!(index.get(BlobKind::Tree, &new.id), Some(location(2, &new)));
    assert_eq!((index.len(), index.duplicates()), (2, 1));
    assert!(index.contains_pack(&pack_id(1)) && index.contains_pack(&pack_id(2)));
    assert_eq!(index.iter().count(), 2);
}

#[test]
fn a_first_backup_ends_up_in_the_table() {
    let mut index = Index::empty();
    let blobs = 100_000;
    for number in (0..blobs).step_by(100) {
        let content: Vec<_> =
            (number..number + 100).map(|number| blob(BlobKind::Data, number)).collect();
        assert_eq!(index.insert_pack(pack_id(number), &content), 100);
    }
    assert_eq!(index.len(), blobs as usize);
    assert!(index.data.new.len() <= MERGE_BLOBS);
    for number in 0..blobs {
        let blob = blob(BlobKind::Data, number);
        let expected = location(number / 100 * 100, &blob);
        assert_eq!(index.get(BlobKind::Data, &blob.id), Some(expected));
    }
    let mut ids: Vec<_> = index.iter().map(|(_, id, _)| id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), blobs as usize);
}

#[test]
fn every_blob_has_a_number_of_its_own() {
    let mut index = build(&[pack(1, (0..100).map(|n| blob(BlobKind::Data, n)).collect())]);
    let new: Vec<_> = (100..200).map(|n| blob(BlobKind::Data, n)).collect();
    index.insert_pack(pack_id(2), &new);
    assert_eq!(index.position(BlobKind::Data, &new[0].id), None);
    index.number_blobs();
    let mut seen = vec![false; index.count(BlobKind::Data)];
    for (id, location) in index.iter_kind(BlobKind::Data) {
        let position = index.position(BlobKind::Data, &id).unwrap();
        assert!(!seen[position]);
        seen[position] = true;
        assert_eq!(index.at(BlobKind::Data, position), Some((id, location)));
    }
    assert!(seen.iter().all(|seen| *seen));
    assert_eq!(index.at(BlobKind::Data, seen.len()), None);
    assert_eq!(index.at(BlobKind::Tree, 0), None);
}

#[test]
fn a_million_blobs_take_at_most_56_bytes_each() {
    const BLOBS: u32 = 1_000_000;
    const BLOBS_PER_PACK: u32 = 16; // 16 MiB packs of 1 MiB blobs
    let mut builder = IndexBuilder::new();
    for number in (0..BLOBS).step_by(BLOBS_PER_PACK as usize) {
        let blobs = (number..number + BLOBS_PER_PACK).map(|number| blob(BlobKind::Data, number));
        builder.push(&pack(number, blobs.collect())).unwrap();
    }
    let index = builder.build();
    assert_eq!(index.len(), BLOBS as usize);
    let per_blob = index.memory_bytes().div_ceil(BLOBS as usize);
    assert!(per_blob <= 56, "{per_blob} bytes a blob");
    for number in (0..BLOBS).step_by(997) {
        let blob = blob(BlobKind::Data, number);
        let expected = location(number / BLOBS_PER_PACK * BLOBS_PER_PACK, &blob);
        assert_eq!(index.get(BlobKind::Data, &blob.id), Some(expected));
        let absent = BlobId::of(&(BLOBS + number).to_le_bytes());
        assert!(!index.contains(BlobKind::Data, &absent));
    }
}

/// Ids that are all alike in their first bits, which no hash gives, are still found.
#[test]
fn ids_that_are_not_spread_are_found() {
    let id = |number: u16| {
        let mut bytes = [0xff; 32];
        bytes[30..].copy_from_slice(&number.to_be_bytes());
        BlobId::from_bytes(bytes)
    };
    let blobs = |range: std::ops::Range<u16>| {
        range
            .map(|number| PackedBlob { id: id(number), ..blob(BlobKind::Data, u32::from(number)) })
            .collect()
    };
    let index = build(&[pack(1, blobs(0..500)), pack(2, blobs(500..1000))]);
    for number in 0..1000 {
        assert!(index.contains(BlobKind::Data, &id(number)));
    }
    assert!(!index.contains(BlobKind::Data, &id(1000)));
}

proptest! {
    #[test]
    fn merged_tables_hold_what_both_held(
        old in prop::collection::btree_map(any::<u16>(), any::<u32>(), 0..300),
        new in prop::collection::btree_map(any::<u16>(), any::<u32>(), 0..300),
    ) {
        let row = |(id, pack): (&u16, &u32)| {
            let blob = blob(BlobKind::Data, u32::from(*id));
            (blob.id, Slot::new(*pack, &blob))
        };
        let rows: BTreeMap<_, _> = old.iter().map(row).collect();
        let new: BTreeMap<_, _> = new
            .iter()
            .filter(|(id, _)| !old.contains_key(*id))
            .map(row)
            .collect();
        let list = rows.iter().map(|(id, slot)| table::Row { id: *id, slot: *slot });
        let (mut table, duplicates) = Table::build(list.collect());
        prop_assert_eq!(duplicates, 0);
        table.merge(new.clone());
        let mut expected = rows;
        expected.extend(new);
        prop_assert!(table.iter().eq(expected.clone()));
        for (id, slot) in expected {
            prop_assert_eq!(table.get(&id), Some(slot));
        }
    }
}
