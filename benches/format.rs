//! The steps that every byte of a backup passes: `cargo bench --bench format`.

use std::hint::black_box;
use std::sync::Arc;

use backupkit::Env;
use backupkit::repo::chunker::{Chunker, ChunkerTables};
use backupkit::repo::compress::Compressor;
use backupkit::repo::crypto::{Iv, MasterKey};
use backupkit::repo::polynomial::Polynomial;
use backupkit::testing::random_bytes;
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
    group.bench_function("open", |bencher| bencher.iter(|| key.open(black_box(&sealed)).is_ok()));
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

criterion_group!(benches, chunk, seal, compress);
criterion_main!(benches);
