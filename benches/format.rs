//! The steps that every byte of a backup passes: `cargo bench --bench format`.

use std::hint::black_box;
use std::iter::once;
use std::sync::Arc;

use backupkit::Env;
use backupkit::model::{BlobId, EntryKind, FileMode, FileTime, Metadata, PackId};
use backupkit::repo::chunker::{Chunker, ChunkerTables};
use backupkit::repo::compress::Compressor;
use backupkit::repo::crypto::{Iv, MasterKey};
use backupkit::repo::index::Index;
use backupkit::repo::pack_header::{BlobKind, PackedBlob, encode_header, parse_header};
use backupkit::repo::polynomial::Polynomial;
use backupkit::repo::{Node, TreeEncoder, decode_tree};
use backupkit::testing::{hash_side_by_side, random_bytes};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const CHUNK_BYTES: usize = 1 << 20;

fn chunk(criterion: &mut Criterion) {
    let data = random_bytes(1, 32 << 20);
    let tables = Arc::new(ChunkerTables::new(Polynomial::from_bits(0x003D_A335_8B4D_C173)));
    let mut group = criterion.benchmark_group("chunker");
    group.throughput(Throughput::Bytes(data.len() as u64)).sample_size(20);
    group.bench_function("random, ranges of 8 MiB", |bencher| {
        bencher.iter(|| {
            let mut chunker = Chunker::new(Arc::clone(&tables));
            let mut cuts = 0;
            for range in data.chunks(8 << 20) {
                let mut rest = range;
                while let Some(length) = chunker.find_cut(rest) {
                    rest = &rest[length..];
                    cuts += 1;
                }
            }
            black_box(cuts)
        });
    });
    group.finish();
}

fn seal(criterion: &mut Criterion) {
    let env = Env::system();
    let data = random_bytes(2, CHUNK_BYTES);
    let (Ok(key), Ok(iv)) = (MasterKey::generate(&env), Iv::random(&env)) else { return };
    let sealed = key.seal(iv, &data);
    let mut group = criterion.benchmark_group("crypto");
    group.throughput(Throughput::Bytes(CHUNK_BYTES as u64));
    group.bench_function("seal", |bencher| bencher.iter(|| key.seal(iv, black_box(&data))));
    group.bench_function("open", |bencher| bencher.iter(|| key.open(black_box(&sealed)).is_ok()));
    group.bench_function("open and compare", |bencher| {
        bencher.iter(|| key.opens_to(once(black_box(&sealed[..])), once(&data[..])));
    });
    group.finish();
}

fn hash(criterion: &mut Criterion) {
    let messages: Vec<_> = (0..3).map(|seed| vec![random_bytes(seed, CHUNK_BYTES)]).collect();
    let mut group = criterion.benchmark_group("sha-256");
    group.throughput(Throughput::Bytes(3 * CHUNK_BYTES as u64));
    group.bench_function("three chunks, one after the other", |bencher| {
        bencher.iter(|| messages.iter().map(|parts| BlobId::of(&parts[0])).collect::<Vec<_>>());
    });
    group.bench_function("three chunks, side by side", |bencher| {
        bencher.iter(|| hash_side_by_side(black_box(messages.clone())));
    });
    group.finish();
}

fn compress(criterion: &mut Criterion) {
    let Ok(mut compressor) = Compressor::new(3) else { return };
    let small = b"the quick brown fox jumps over the lazy dog\n".repeat(120);
    let large = random_bytes(3, CHUNK_BYTES);
    let mut group = criterion.benchmark_group("compress");
    for (name, data) in [("text of 5 KiB", &small[..]), ("random of 1 MiB", &large[..])] {
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| compressor.compress(black_box(data)).is_ok());
        });
    }
    group.finish();
}

/// Blobs of a pack, each with an id of its own.
fn packed_blobs(pack: u32, count: u32) -> Vec<PackedBlob> {
    let blob = |number: u32| PackedBlob {
        id: BlobId::of(&[pack.to_le_bytes(), number.to_le_bytes()].concat()),
        kind: BlobKind::Data,
        offset: number * 1000,
        sealed_bytes: 1000,
        plain_bytes: Some(2000),
    };
    (0..count).map(blob).collect()
}

fn pack(criterion: &mut Criterion) {
    let blobs = packed_blobs(0, 1000);
    let Ok(header) = encode_header(&blobs) else { return };
    let mut group = criterion.benchmark_group("pack header of 1,000 blobs");
    group.throughput(Throughput::Elements(blobs.len() as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| encode_header(black_box(&blobs)).is_ok());
    });
    group.bench_function("parse", |bencher| {
        bencher.iter(|| parse_header(black_box(&header)).is_ok());
    });
    group.finish();
}

/// A lookup must stay cheap when the index is far larger than the caches of the processor.
fn look_up(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index lookup");
    group.throughput(Throughput::Elements(1)).sample_size(20);
    for (name, packs) in [("10^5 blobs", 100), ("10^7 blobs", 10_000)] {
        let mut index = Index::empty();
        let mut known = Vec::new();
        for number in 0..packs {
            let blobs = packed_blobs(number, 1000);
            known.push(blobs[number as usize % 1000].id);
            index.insert_pack(PackId::from_bytes(*blobs[0].id.as_bytes()), &blobs);
        }
        let mut at = 0;
        group.bench_function(format!("found among {name}"), |bencher| {
            bencher.iter(|| {
                at = (at + 7919) % known.len();
                index.contains(BlobKind::Data, black_box(&known[at]))
            });
        });
        let mut number = 0_u64;
        group.bench_function(format!("missing among {name}"), |bencher| {
            bencher.iter(|| {
                number += 1;
                index.contains(BlobKind::Data, black_box(&BlobId::of(&number.to_le_bytes())))
            });
        });
    }
    group.finish();
}

fn tree(criterion: &mut Criterion) {
    let node = |number: u32| {
        let mut node = Node::directory(
            format!("name {number:05}").into_bytes(),
            Metadata::new(FileMode::FILE, FileTime::EPOCH),
            BlobId::of(&number.to_le_bytes()),
        );
        (node.kind, node.subtree, node.size_bytes) = (EntryKind::File, None, 5000);
        node.content = Some([BlobId::of(&number.to_le_bytes())].into());
        node
    };
    let nodes: Vec<Node> = (0..1000).map(node).collect();
    let encode = |nodes: &[Node]| {
        let mut tree = TreeEncoder::new();
        nodes.iter().all(|node| tree.push(node).is_ok()).then(|| tree.finish())
    };
    let Some(json) = encode(&nodes) else { return };
    let mut group = criterion.benchmark_group("tree of 1,000 files");
    group.throughput(Throughput::Elements(nodes.len() as u64));
    group.bench_function("encode", |bencher| bencher.iter(|| encode(black_box(&nodes))));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| decode_tree(black_box(&json)).is_ok());
    });
    group.finish();
}

criterion_group!(benches, chunk, hash, seal, compress, pack, look_up, tree);
criterion_main!(benches);
