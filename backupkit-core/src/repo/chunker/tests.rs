use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::env::Env;
use crate::repo::polynomial::Polynomial;

const POLYNOMIAL: Polynomial = Polynomial::from_bits(0x003d_a335_8b4d_c173);

fn tables() -> Arc<ChunkerTables> {
    Arc::new(ChunkerTables::new(POLYNOMIAL))
}

/// The lengths of the chunks of `data`, handed over in slices of the given lengths, over and over.
fn chunk_lengths(tables: &Arc<ChunkerTables>, data: &[u8], slices: &[usize]) -> Vec<usize> {
    let mut chunker = Chunker::new(Arc::clone(tables));
    let mut lengths = Vec::new();
    let mut rest = data;
    let mut slices = slices.iter().cycle();
    while !rest.is_empty() {
        let length = slices.next().map_or(rest.len(), |length| *length);
        let (mut slice, after) = rest.split_at(length.clamp(1, rest.len()));
        rest = after;
        while !slice.is_empty() {
            let before = chunker.pending_bytes();
            let Some(cut) = chunker.find_cut(slice) else {
                break;
            };
            lengths.push(before + cut);
            slice = &slice[cut..];
        }
    }
    if chunker.pending_bytes() > 0 {
        lengths.push(chunker.pending_bytes());
    }
    lengths
}

/// The same byte by byte, as the format's description has it: the window holds a one before the
/// chunk's bytes, all of which are hashed.
fn chunk_lengths_naively(polynomial: Polynomial, data: &[u8]) -> Vec<usize> {
    let modulo = |bits: u64| Polynomial::from_bits(bits).remainder(polynomial).bits();
    let append = |hash: u64, byte: u8| modulo(hash << 8 | u64::from(byte));
    let out: Vec<u64> = (0..=255)
        .map(|byte| (1..WINDOW_BYTES).fold(append(0, byte), |hash, _| append(hash, 0)))
        .collect();
    let reduce: Vec<u64> = (0u64..256).map(|high| modulo(high << 53) ^ high << 53).collect();
    let start = || {
        let mut window = [0; WINDOW_BYTES];
        window[0] = 1;
        (window, 1, 1, 0)
    };
    let (mut window, mut at, mut hash, mut length) = start();
    let mut lengths = Vec::new();
    for byte in data {
        hash ^= out[usize::from(window[at])];
        window[at] = *byte;
        at = (at + 1) % WINDOW_BYTES;
        hash = (hash << 8 | u64::from(*byte)) ^ reduce[usize::try_from(hash >> 45).unwrap()];
        length += 1;
        let is_cut = hash.trailing_zeros() >= 20 && length >= MIN_CHUNK_BYTES;
        if is_cut || length == MAX_CHUNK_BYTES {
            lengths.push(length);
            (window, at, hash, length) = start();
        }
    }
    if length > 0 {
        lengths.push(length);
    }
    lengths
}

/// Bytes as in the test vector: the hashes of the numbers from `first` on.
fn hashes(first: u64, bytes: usize) -> Vec<u8> {
    let mut data: Vec<u8> = (first..)
        .take(bytes.div_ceil(32))
        .flat_map(|number| Sha256::digest(number.to_le_bytes()))
        .collect();
    data.truncate(bytes);
    data
}

#[test]
fn chunks_are_those_of_restic() {
    let expected = [
        1_015_968, 1_087_132, 693_439, 2_344_058, 903_280, 1_709_091, 1_791_277, 1_802_453,
        1_190_352, 528_291, 868_679, 1_105_126, 1_847_403, 1_069_115, 789_535, 691_238, 1_662_910,
        569_729, 3_507_138, 2_066_827, 599_745, 617_098, 2_039_634, 658_998, 1_328_800, 1_067_116,
    ];
    let data = hashes(0, 32 << 20);
    let tables = tables();
    for slices in [&[][..], &[8 << 20], &[65_536], &[4096, 1, 100_000, 63, 64, 65]] {
        assert_eq!(chunk_lengths(&tables, &data, slices), expected);
    }
    assert_eq!(chunk_lengths_naively(POLYNOMIAL, &data), expected);
}

#[test]
fn zeros_are_cut_at_the_minimum() {
    let data = vec![0; 2 * MIN_CHUNK_BYTES + 5];
    let expected = [MIN_CHUNK_BYTES, MIN_CHUNK_BYTES, 5];
    assert_eq!(chunk_lengths(&tables(), &data, &[]), expected);
    assert_eq!(chunk_lengths(&tables(), &data, &[1000]), expected);
    assert_eq!(chunk_lengths_naively(POLYNOMIAL, &data), expected);
}

#[test]
fn data_without_candidates_is_cut_at_the_maximum() {
    let data = vec![1; MAX_CHUNK_BYTES + MIN_CHUNK_BYTES];
    let expected = [MAX_CHUNK_BYTES, MIN_CHUNK_BYTES];
    assert_eq!(chunk_lengths(&tables(), &data, &[]), expected);
    assert_eq!(chunk_lengths(&tables(), &data, &[12_345]), expected);
    assert_eq!(chunk_lengths_naively(POLYNOMIAL, &data), expected);
}

#[test]
fn short_data_is_never_cut() {
    let tables = tables();
    for length in [0, 1, 63, 64, 65, MIN_CHUNK_BYTES - 1] {
        let mut chunker = Chunker::new(Arc::clone(&tables));
        assert_eq!(chunker.find_cut(&vec![0; length]), None);
        assert_eq!(chunker.pending_bytes(), length);
    }
}

/// Puts windows with hash zero (64 zeros) around every kind of border: of slices, lanes and minimum.
#[test]
fn candidates_at_every_border_are_found() {
    let tables = tables();
    let lanes = 4 * 8 * 1024;
    for end in [
        MIN_CHUNK_BYTES,
        MIN_CHUNK_BYTES + 1,
        MIN_CHUNK_BYTES + 63,
        MIN_CHUNK_BYTES + 64,
        MIN_CHUNK_BYTES + lanes + 1024,
        MIN_CHUNK_BYTES + lanes + 1025,
        MIN_CHUNK_BYTES + lanes + 4097,
        MIN_CHUNK_BYTES + 8191,
        MIN_CHUNK_BYTES + 8192,
        MIN_CHUNK_BYTES + 8193,
        MIN_CHUNK_BYTES + 3 * 8192,
        MIN_CHUNK_BYTES + lanes - 1,
        MIN_CHUNK_BYTES + lanes,
        MIN_CHUNK_BYTES + lanes + 1,
    ] {
        let mut data = vec![1; MIN_CHUNK_BYTES + 3 * lanes];
        data[end - WINDOW_BYTES..end].fill(0);
        // A later one must not win because its lane saw it first.
        data[end + 8000..end + 8000 + WINDOW_BYTES].fill(0);
        let expected = chunk_lengths_naively(POLYNOMIAL, &data);
        assert_eq!(expected[0], end);
        assert_eq!(chunk_lengths(&tables, &data, &[]), expected);
        for split in (end - 66..=end + 1).chain([MIN_CHUNK_BYTES, 1]) {
            let slices = [split, data.len()];
            assert_eq!(chunk_lengths(&tables, &data, &slices), expected, "{end} {split}");
        }
        assert_eq!(chunk_lengths(&tables, &data, &[4096, 1, 1, 1]), expected);
    }
}

#[test]
fn other_polynomials_agree_with_the_naive_form() {
    let env = Env::system();
    for _ in 0..3 {
        let polynomial = Polynomial::random(&env).unwrap();
        let data = hashes(polynomial.bits(), 5 << 20);
        let tables = Arc::new(ChunkerTables::new(polynomial));
        let expected = chunk_lengths_naively(polynomial, &data);
        assert_eq!(chunk_lengths(&tables, &data, &[]), expected, "{polynomial}");
        assert_eq!(chunk_lengths(&tables, &data, &[7777]), expected, "{polynomial}");
    }
}

#[test]
fn a_reset_chunker_starts_anew() {
    let data = hashes(5, 2 << 20);
    let mut chunker = Chunker::new(tables());
    let expected = chunker.find_cut(&data);
    chunker.find_cut(&data[..MIN_CHUNK_BYTES + 10]);
    chunker.reset();
    assert_eq!(chunker.find_cut(&data), expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn slicing_does_not_move_cuts(
        seed: u32,
        bytes in 0usize..6 << 20,
        // Runs of equal bytes make candidates everywhere, or nowhere.
        runs in prop::collection::vec((0usize..6 << 20, 0usize..300_000, any::<bool>()), 0..4),
        slices in prop::collection::vec(1usize..1_000_000, 1..6),
    ) {
        let mut data = hashes(u64::from(seed) << 20, bytes);
        for (start, length, zero) in runs {
            let start = start.min(bytes);
            let end = (start + length).min(bytes);
            data[start..end].fill(u8::from(!zero));
        }
        let expected = chunk_lengths_naively(POLYNOMIAL, &data);
        prop_assert_eq!(expected.iter().sum::<usize>(), bytes);
        prop_assert_eq!(&chunk_lengths(&tables(), &data, &[]), &expected);
        prop_assert_eq!(&chunk_lengths(&tables(), &data, &slices), &expected);
    }
}
