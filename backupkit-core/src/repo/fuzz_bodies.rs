//! What fuzzers call: each function feeds any bytes to one parser and checks what must always hold.
//!
//! A panic is a finding. The tests below run the same bodies on mutations of valid input.

use bytes::Bytes;

use super::compress::Decompressor;
use super::config::Config;
use super::index_file;
use super::key_file::{self, KeyFile};
use super::pack_header;
use super::repository::sha256;
use crate::hashing::hash_side_by_side;

/// Output that decompression may produce here.
const MAX_BYTES: usize = 1 << 20;

/// Messages of any lengths in any parts: hashed side by side they have the digests that each has alone.
/// A byte says how long the part behind it is, and whether its message ends there.
///
/// # Panics
/// If that does not hold.
pub fn hashing(mut input: &[u8]) {
    let mut messages: Vec<Vec<Bytes>> = vec![Vec::new()];
    while let Some((&first, rest)) = input.split_first() {
        let (part, rest) = rest.split_at((usize::from(first >> 1) * 5).min(rest.len()));
        if let Some(message) = messages.last_mut() {
            message.push(Bytes::copy_from_slice(part));
        }
        if first & 1 == 1 {
            messages.push(Vec::new());
        }
        input = rest;
    }
    let alone: Vec<_> = messages.iter().map(|parts| sha256(&parts.concat())).collect();
    assert_eq!(hash_side_by_side(messages), alone);
}

/// The plaintext of a pack header. What parses, encodes to the same bytes.
///
/// # Panics
/// If that does not hold.
pub fn pack_header(input: &[u8]) {
    if let Ok(blobs) = pack_header::parse_header(input)
        && let Ok(again) = pack_header::encode_header(&blobs)
    {
        assert_eq!(again, input);
    }
    if let Some(trailer) = input.first_chunk()
        && let Ok(header_bytes) = pack_header::parse_trailer(*trailer, input.len() as u64)
    {
        assert!((header_bytes as usize) < input.len());
    }
}

/// The plaintext of an index file. What parses, reads back after encoding.
///
/// # Panics
/// If that does not hold.
pub fn index_file(input: &[u8]) {
    let mut packs = Vec::new();
    let read = index_file::decode(input, |pack| {
        packs.push(pack);
        Ok(())
    });
    if read.is_err() {
        return;
    }
    let mut again = Vec::new();
    let encoded = index_file::encode(&packs).unwrap_or_default();
    let read = index_file::decode(&encoded, |pack| {
        again.push(pack);
        Ok(())
    });
    assert!(read.is_ok());
    assert_eq!(again, packs);
}

/// A key file, and the key within. What parses, reads back after encoding.
///
/// # Panics
/// If that does not hold.
pub fn key_file(input: &[u8]) {
    if let Ok(file) = KeyFile::decode(input) {
        let again = KeyFile::decode(&file.encode().unwrap_or_default());
        assert_eq!(again.ok(), Some(file));
    }
    if let Ok(key) = key_file::decode_master_key(input) {
        assert!(key.open(&key.to_bytes()[..]).is_err());
    }
}

/// The plaintext of a config. What parses, reads back after encoding.
///
/// # Panics
/// If that does not hold.
pub fn config(input: &[u8]) {
    if let Ok(config) = Config::decode(input) {
        let again = Config::decode(&config.encode().unwrap_or_default());
        assert_eq!(again.ok(), Some(config));
    }
}

/// Compressed data. The output never exceeds what was allowed.
///
/// # Panics
/// If that does not hold.
pub fn decompress(input: &[u8]) {
    let Ok(mut decompressor) = Decompressor::new() else {
        return;
    };
    if let Ok(plain) = decompressor.decompress_unknown(input, MAX_BYTES) {
        assert!(plain.len() <= MAX_BYTES);
        let again = decompressor.decompress(input, plain.len(), MAX_BYTES);
        // The first frame may say less than all frames together hold.
        assert!(again.is_err() || again.is_ok_and(|again| again == plain));
    }
    if let Ok(plain) = decompressor.decompress(input, 1000, MAX_BYTES) {
        assert_eq!(plain.len(), 1000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;
    use crate::model::{BlobId, FileTime, PackId};
    use crate::repo::compress::Compressor;
    use crate::repo::crypto::MasterKey;
    use crate::repo::key_file::KdfParams;
    use crate::repo::pack_header::{BlobKind, PackedBlob};

    const ROUNDS: u64 = 3000;

    /// Numbers that look random and are the same for the same seed.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 16).unwrap() % end.max(1)
        }

        fn byte(&mut self) -> u8 {
            u8::try_from(self.below(256)).unwrap()
        }
    }

    /// Runs `body` on random bytes and on mutations of `valid`.
    #[expect(clippy::print_stdout, reason = "a failure must name its seed")]
    fn smoke(valid: &[u8], body: fn(&[u8])) {
        body(valid);
        body(&[]);
        let seed = u64::from_le_bytes(Env::system().random().unwrap()) | 1;
        println!("seed {seed}"); // shown if the test fails
        let mut numbers = Numbers(seed);
        for _ in 0..ROUNDS {
            let mut input = valid.to_vec();
            match numbers.below(8) {
                0 => {
                    let length = numbers.below(300);
                    input = (0..length).map(|_| numbers.byte()).collect();
                }
                1 => input.truncate(numbers.below(valid.len())),
                2 => {
                    let at = numbers.below(valid.len());
                    let tail = input.split_off(at);
                    input.extend((0..numbers.below(9)).map(|_| numbers.byte()).collect::<Vec<_>>());
                    input.extend(tail);
                }
                3 => {
                    let (from, to) = (numbers.below(valid.len()), numbers.below(valid.len()));
                    input.drain(from.min(to)..from.max(to));
                }
                4 => {
                    let at = numbers.below(valid.len());
                    input.extend_from_slice(&valid[at..]);
                }
                5 => {
                    // The bytes that parsers look for.
                    let at = numbers.below(valid.len());
                    let choice = b"{}[]\",:-0919eE\\nu\0\xff";
                    input[at] = choice[numbers.below(choice.len())];
                }
                _ => {
                    for _ in 0..=numbers.below(4) {
                        let at = numbers.below(valid.len());
                        input[at] ^= 1 << numbers.below(8);
                    }
                }
            }
            body(&input);
        }
    }

    fn blobs() -> Vec<PackedBlob> {
        (0..6u8)
            .map(|number| PackedBlob {
                id: BlobId::of(&[number]),
                kind: [BlobKind::Data, BlobKind::Tree][usize::from(number % 2)],
                offset: u32::from(number) * 1000,
                sealed_bytes: 1000,
                plain_bytes: (number.is_multiple_of(3)).then_some(5000),
            })
            .collect()
    }

    #[test]
    fn pack_headers_never_panic() {
        smoke(&pack_header::encode_header(&blobs()).unwrap(), pack_header);
    }

    #[test]
    fn index_files_never_panic() {
        let pack =
            |number: u8| index_file::IndexedPack { id: PackId::of(&[number]), blobs: blobs() };
        smoke(&index_file::encode(&[pack(1), pack(2)]).unwrap(), index_file);
    }

    #[test]
    fn key_files_never_panic() {
        let env = Env::system();
        let cheap = KdfParams { n: 2, r: 1, p: 1 };
        let master = MasterKey::generate(&env).unwrap();
        let file = KeyFile::create(&master, &"x".into(), cheap, "u", "h", FileTime::EPOCH, &env);
        smoke(&file.unwrap().encode().unwrap(), key_file);
        smoke(
            br#"{"mac":{"k":"BwcHBwcHBwcHBwcHBwcHBw==","r":"BwcHBwcHBwcHBwcHBwcHBw=="},"encrypt":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="}"#,
            key_file,
        );
    }

    #[test]
    fn messages_side_by_side_have_the_digests_that_each_has_alone() {
        let mut numbers = Numbers(1);
        smoke(&(0..4000).map(|_| numbers.byte()).collect::<Vec<_>>(), hashing);
    }

    #[test]
    fn configs_never_panic() {
        let valid = Config::generate(&Env::system(), None).unwrap();
        smoke(&valid.encode().unwrap(), config);
    }

    #[test]
    fn decompression_never_panics() {
        let text = b"some text that repeats, some text that repeats, some text".repeat(20);
        smoke(&Compressor::new(3).unwrap().compress(&text).unwrap(), decompress);
    }
}
