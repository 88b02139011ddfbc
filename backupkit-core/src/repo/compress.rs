//! zstd, with contexts that are reused and output that is bounded.

use std::fmt;

use zstd::bulk;
use zstd::zstd_safe::{self, DCtx, get_error_name};

use crate::error::{Error, ErrorKind, Result};

/// The lowest level, the fastest.
pub const MIN_LEVEL: i32 = -7;
/// The highest level, the smallest.
pub const MAX_LEVEL: i32 = 22;

/// Scratch memory above this is given back after use: most chunks fit.
const KEPT_SCRATCH_BYTES: usize = 4 << 20;
/// What is tried first where a frame does not say its size.
const FIRST_GUESS_BYTES: usize = 64 * 1024;
/// zstd's smallest block says at most 128 KiB in 4 bytes.
const MAX_RATIO: usize = 128 * 1024 / 4 + 1;

/// Compresses blobs. Keep one per thread: its context is costly to make.
pub struct Compressor {
    context: bulk::Compressor<'static>,
    scratch: Vec<u8>,
}

impl Compressor {
    /// Returns a compressor for `level`, from [`MIN_LEVEL`] to [`MAX_LEVEL`]; 0 means zstd's default.
    ///
    /// # Errors
    /// `InvalidInput` for another level.
    pub fn new(level: i32) -> Result<Self> {
        if !(MIN_LEVEL..=MAX_LEVEL).contains(&level) {
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!("compression level {level} is not between {MIN_LEVEL} and {MAX_LEVEL}"),
            ));
        }
        let context = bulk::Compressor::new(level).map_err(cannot_compress)?;
        Ok(Self { context, scratch: Vec::new() })
    }

    /// Returns `plain` compressed, or nothing if that saves less than 3 %; it is then stored plain.
    /// What is returned lies in memory that the next call uses again.
    ///
    /// # Errors
    /// `Internal` if zstd fails, such as for lack of memory.
    pub fn compress(&mut self, plain: &[u8]) -> Result<Option<&[u8]>> {
        let compressed = self.compress_always(plain)?;
        let saved = plain.len().saturating_sub(compressed.len());
        // As a quotient, so that nothing can overflow.
        let worth_it = saved > 0 && saved >= plain.len().div_ceil(100) * 3;
        Ok(worth_it.then_some(compressed))
    }

    /// Returns `plain` compressed even if that is longer: for trees and for files other than packs.
    /// What is returned lies in memory that the next call uses again.
    ///
    /// # Errors
    /// As for [`Self::compress`].
    pub fn compress_always(&mut self, plain: &[u8]) -> Result<&[u8]> {
        self.scratch.clear();
        if self.scratch.capacity() > KEPT_SCRATCH_BYTES {
            self.scratch = Vec::new();
        }
        // zstd writes the content size into the frame by itself, as it sees all of the input at once.
        self.scratch
            .try_reserve_exact(zstd_safe::compress_bound(plain.len()))
            .map_err(cannot_compress)?;
        self.context.compress_to_buffer(plain, &mut self.scratch).map_err(cannot_compress)?;
        Ok(&self.scratch)
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

/// Decompresses blobs and files. Keep one per thread.
pub struct Decompressor {
    context: DCtx<'static>,
}

impl Decompressor {
    /// Returns a decompressor.
    ///
    /// # Errors
    /// `Internal` if there is no memory.
    pub fn new() -> Result<Self> {
        let context = DCtx::try_create()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "cannot decompress: out of memory"))?;
        Ok(Self { context })
    }

    /// Decompresses a blob that must be `expected_bytes` long.
    ///
    /// Allocates that much, and nothing if it is above `max_bytes` or more than `compressed` can
    /// hold.
    ///
    /// # Errors
    /// `Corrupt` if the length or the data is wrong; `Unsupported` above `max_bytes`.
    pub fn decompress(
        &mut self,
        compressed: &[u8],
        expected_bytes: usize,
        max_bytes: usize,
    ) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        self.decompress_into(compressed, expected_bytes, max_bytes, &mut plain)?;
        Ok(plain)
    }

    /// As [`Self::decompress`], into memory that was used before. What it held is gone.
    ///
    /// # Errors
    /// As for [`Self::decompress`].
    pub fn decompress_into(
        &mut self,
        compressed: &[u8],
        expected_bytes: usize,
        max_bytes: usize,
        plain: &mut Vec<u8>,
    ) -> Result<()> {
        if expected_bytes > max_bytes {
            return Err(too_long(max_bytes));
        }
        if expected_bytes > compressed.len().saturating_mul(MAX_RATIO) {
            return Err(damaged("it is too short for its length"));
        }
        let length_differs = || damaged("its length is not the recorded one");
        if content_bytes(compressed)?.is_some_and(|bytes| bytes != expected_bytes) {
            return Err(length_differs());
        }
        if self.run(compressed, expected_bytes, plain)? && plain.len() == expected_bytes {
            Ok(())
        } else {
            Err(length_differs())
        }
    }

    /// Decompresses a file of unknown length, as any program may have written it.
    ///
    /// Allocates at most `max_bytes`.
    ///
    /// # Errors
    /// `Corrupt` if the data is wrong; `Unsupported` above `max_bytes`.
    pub fn decompress_unknown(&mut self, compressed: &[u8], max_bytes: usize) -> Result<Vec<u8>> {
        let ceiling = compressed.len().saturating_mul(MAX_RATIO);
        if let Some(bytes) = content_bytes(compressed)? {
            if bytes > max_bytes {
                return Err(too_long(max_bytes));
            }
            if bytes > ceiling {
                return Err(damaged("it is too short for its length"));
            }
            // Only if more frames follow does this not succeed.
            let mut plain = Vec::new();
            if self.run(compressed, bytes, &mut plain)? {
                return Ok(plain);
            }
        }
        // Start over with twice the room until it fits: at most twice the work, and unlike a stream
        // it needs no window beside the output.
        let mut room = compressed.len().saturating_mul(8).max(FIRST_GUESS_BYTES);
        loop {
            room = room.min(max_bytes);
            let mut plain = Vec::new();
            if self.run(compressed, room, &mut plain)? {
                plain.shrink_to_fit();
                return Ok(plain);
            }
            if room >= max_bytes {
                return Err(too_long(max_bytes));
            }
            room = room.saturating_mul(2);
        }
    }

    /// Returns whether there are no more than `room` bytes.
    fn run(&mut self, compressed: &[u8], room: usize, plain: &mut Vec<u8>) -> Result<bool> {
        use zstd_safe::zstd_sys::ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as TOO_SMALL;
        plain.clear();
        plain.try_reserve_exact(room).map_err(|error| {
            Error::new(ErrorKind::Internal, "cannot decompress: out of memory").with_source(error)
        })?;
        match self.context.decompress(plain, compressed) {
            Ok(_) => Ok(true),
            Err(code) if zstd_safe::is_error_kind(code, TOO_SMALL) => Ok(false),
            Err(code) => Err(damaged(get_error_name(code).to_lowercase())),
        }
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").finish_non_exhaustive()
    }
}

/// The content size that the first frame says, if it does.
fn content_bytes(compressed: &[u8]) -> Result<Option<usize>> {
    let bytes = zstd_safe::get_frame_content_size(compressed)
        .map_err(|_| damaged("it does not begin with a zstd frame"))?;
    // What no address space holds is as good as unlimited.
    Ok(bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)))
}

fn damaged(detail: impl fmt::Display) -> Error {
    Error::corrupt("compressed data", detail)
}

fn too_long(max_bytes: usize) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!("compressed data expands to more than the {max_bytes} bytes allowed here"),
    )
    .with_code("too-large")
}

fn cannot_compress(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Internal, "cannot compress").with_source(error)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const MAX: usize = 1 << 20;

    fn text(bytes: usize) -> Vec<u8> {
        let line = b"the quick brown fox jumps over the lazy dog 0123456789\n";
        line.iter().copied().cycle().take(bytes).collect()
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1u64;
        (0..bytes)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect()
    }

    #[test]
    fn text_comes_back_and_its_frame_says_its_size() {
        let mut compressor = Compressor::new(3).unwrap();
        let mut decompressor = Decompressor::new().unwrap();
        for bytes in [100, 5000, 300_000, 1000] {
            let plain = text(bytes);
            let compressed = compressor.compress(&plain).unwrap().unwrap();
            assert_eq!(content_bytes(compressed).unwrap(), Some(bytes));
            assert!(compressed.len() < bytes);
            let again = decompressor.decompress(compressed, bytes, MAX).unwrap();
            assert_eq!(again, plain);
            let again = decompressor.decompress_unknown(compressed, MAX).unwrap();
            assert_eq!(again, plain);
        }
    }

    #[test]
    fn what_saves_little_stays_plain() {
        let mut compressor = Compressor::new(3).unwrap();
        assert_eq!(compressor.compress(b"").unwrap(), None);
        assert_eq!(compressor.compress(b"a").unwrap(), None);
        assert_eq!(compressor.compress(&noise(100_000)).unwrap(), None);
        // Two in a hundred to save, then ten.
        let mut data = noise(98_000);
        data.resize(100_000, 0);
        assert_eq!(compressor.compress(&data).unwrap(), None);
        data.resize(110_000, 0);
        assert!(compressor.compress(&data).unwrap().is_some());
    }

    #[test]
    fn compress_always_always_does() {
        let mut compressor = Compressor::new(3).unwrap();
        let mut decompressor = Decompressor::new().unwrap();
        for plain in [vec![], vec![1], noise(1000), text(20 << 20)] {
            let compressed = compressor.compress_always(&plain).unwrap();
            assert_eq!(content_bytes(compressed).unwrap(), Some(plain.len()));
            let again = decompressor.decompress(compressed, plain.len(), 20 << 20).unwrap();
            assert_eq!(again, plain);
        }
        compressor.compress_always(b"a").unwrap();
        assert!(compressor.scratch.capacity() <= KEPT_SCRATCH_BYTES);
    }

    #[test]
    fn every_level_reads_back_and_others_are_refused() {
        let plain = text(10_000);
        for level in MIN_LEVEL..=MAX_LEVEL {
            let mut compressor = Compressor::new(level).unwrap();
            let compressed = compressor.compress_always(&plain).unwrap();
            let again = Decompressor::new().unwrap().decompress(compressed, plain.len(), MAX);
            assert_eq!(again.unwrap(), plain);
        }
        for level in [MIN_LEVEL - 1, MAX_LEVEL + 1, i32::MAX] {
            let error = Compressor::new(level).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
        }
    }

    /// Frames without a content size, as programs that stream write them.
    fn streamed(plain: &[u8]) -> Vec<u8> {
        let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn frames_of_unknown_size_are_read_up_to_the_cap() {
        let mut decompressor = Decompressor::new().unwrap();
        for bytes in [1, 10, 70_000, 1_000_000, MAX] {
            let plain = text(bytes);
            let compressed = &streamed(&plain);
            assert_eq!(content_bytes(compressed).unwrap(), None);
            let again = decompressor.decompress_unknown(compressed, MAX).unwrap();
            assert_eq!(again, plain);
            let again = decompressor.decompress(compressed, bytes, MAX).unwrap();
            assert_eq!(again, plain);
        }
        let error = decompressor.decompress_unknown(&streamed(&text(MAX + 1)), MAX);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn several_frames_are_one_file() {
        let mut data = Compressor::new(3).unwrap().compress_always(b"one").unwrap().to_vec();
        data.extend(streamed(b"two"));
        let plain = Decompressor::new().unwrap().decompress_unknown(&data, MAX);
        assert_eq!(plain.unwrap(), b"onetwo");
    }

    #[test]
    fn bombs_are_refused() {
        let mut compressor = Compressor::new(3).unwrap();
        let mut decompressor = Decompressor::new().unwrap();
        let bomb = compressor.compress_always(&vec![0; 4 * MAX]).unwrap();
        let error = decompressor.decompress_unknown(bomb, MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let error = decompressor.decompress(bomb, 4 * MAX, MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let error = decompressor.decompress(bomb, 10, MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        // A frame that says 2^60 bytes: refused by what it says, whatever the cap.
        let mut liar = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
        liar.extend((1u64 << 60).to_le_bytes());
        liar.extend([0x01, 0x00, 0x00]);
        for max in [MAX, usize::MAX] {
            assert!(decompressor.decompress_unknown(&liar, max).is_err());
            assert!(decompressor.decompress(&liar, 1 << 40, max).is_err());
        }
    }

    #[test]
    fn damage_is_damage() {
        let mut decompressor = Decompressor::new().unwrap();
        let plain = text(5000);
        let mut compressor = Compressor::new(3).unwrap();
        let compressed = compressor.compress_always(&plain).unwrap();
        for data in [&b""[..], b"x", b"{\"a\":1}", &compressed[..compressed.len() - 1]] {
            let error = decompressor.decompress(data, 5000, MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let error = decompressor.decompress_unknown(data, MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        for wrong in [0, 4999, 5001] {
            let error = decompressor.decompress(compressed, wrong, MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}
