//! zstd, with contexts that are reused and output that is bounded.

use std::fmt;

use zstd::zstd_safe::zstd_sys::ZSTD_EndDirective::{ZSTD_e_continue, ZSTD_e_end};
use zstd::zstd_safe::{
    self, CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective, get_error_name,
};

use crate::buffers::Segments;
use crate::error::{Error, ErrorKind, Result};

/// The lowest level, the fastest.
pub const MIN_LEVEL: i32 = -7;
/// The highest level, the smallest.
pub const MAX_LEVEL: i32 = 22;

/// What is tried first where a frame does not say its size.
const FIRST_GUESS_BYTES: usize = 64 * 1024;
/// zstd's smallest block says at most 128 KiB in 4 bytes.
const MAX_RATIO: usize = 128 * 1024 / 4 + 1;

/// Compresses blobs. Keep one per thread: its context is costly to make.
pub struct Compressor {
    context: CCtx<'static>,
    /// What comes out of the context, piece by piece.
    piece: Vec<u8>,
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
        let mut context = CCtx::try_create().ok_or_else(out_of_memory)?;
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(cannot_compress)?;
        Ok(Self { context, piece: Vec::with_capacity(CCtx::out_size()) })
    }

    /// Returns `plain` as one frame that says how long it is.
    ///
    /// # Errors
    /// `Internal` if zstd fails, such as for lack of memory.
    pub fn compress(&mut self, plain: &[u8]) -> Result<Vec<u8>> {
        let mut compressed = Vec::new();
        let room = zstd_safe::compress_bound(plain.len());
        compressed.try_reserve_exact(room).map_err(|_| out_of_memory())?;
        self.context.compress2(&mut compressed, plain).map_err(cannot_compress)?;
        Ok(compressed)
    }

    /// Adds a plaintext in parts that follow each other, `plain_bytes` long, to `out` as one frame that
    /// says how long it is.
    ///
    /// # Errors
    /// As for [`Self::compress`].
    pub(crate) fn compress_parts<'a>(
        &mut self,
        plain: impl Iterator<Item = &'a [u8]>,
        plain_bytes: u64,
        out: &mut Segments,
    ) -> Result<()> {
        let Self { context, piece } = self;
        context.reset(ResetDirective::SessionOnly).map_err(cannot_compress)?;
        context.set_pledged_src_size(Some(plain_bytes)).map_err(cannot_compress)?;
        let mut parts = plain.peekable();
        loop {
            let mut input = InBuffer::around(parts.next().unwrap_or_default());
            let is_last = parts.peek().is_none();
            let directive = if is_last { ZSTD_e_end } else { ZSTD_e_continue };
            loop {
                piece.clear();
                let mut output = OutBuffer::around(piece);
                let unflushed = context
                    .compress_stream2(&mut output, &mut input, directive)
                    .map_err(cannot_compress)?;
                out.push(piece)?;
                let is_taken =
                    if is_last { unflushed == 0 } else { input.pos() == input.src.len() };
                if is_taken {
                    break;
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

/// Whether compressing saves as much as 3 %, so that it is worth the time to undo it.
pub(crate) fn saves_enough(plain_bytes: usize, compressed_bytes: usize) -> bool {
    let saved = plain_bytes.saturating_sub(compressed_bytes);
    // As a quotient, so that nothing can overflow.
    saved > 0 && saved >= plain_bytes.div_ceil(100) * 3
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

/// Decompresses blobs and files. Keep one per thread.
pub struct Decompressor {
    context: DCtx<'static>,
    /// What comes out of the context, where that is not wanted whole.
    piece: Vec<u8>,
}

impl Decompressor {
    /// Returns a decompressor.
    ///
    /// # Errors
    /// `Internal` if there is no memory.
    pub fn new() -> Result<Self> {
        let context = DCtx::try_create()
            .ok_or_else(|| Error::new(ErrorKind::Internal, "cannot decompress: out of memory"))?;
        Ok(Self { context, piece: Vec::new() })
    }

    /// Decompresses one frame in parts that follow each other, and hands out what comes, piece by piece.
    ///
    /// # Errors
    /// `Corrupt` if it is not exactly one frame.
    pub(crate) fn decompress_parts<'a>(
        &mut self,
        compressed: impl Iterator<Item = &'a [u8]>,
        mut take: impl FnMut(&[u8]),
    ) -> Result<()> {
        let Self { context, piece } = self;
        let failed = |code| damaged(get_error_name(code).to_lowercase());
        context.reset(ResetDirective::SessionOnly).map_err(failed)?;
        piece.reserve(DCtx::out_size());
        let mut is_whole = false;
        for part in compressed {
            let mut input = InBuffer::around(part);
            let mut is_full = false;
            while input.pos() < part.len() || is_full {
                if is_whole {
                    return Err(damaged("there is something behind it"));
                }
                piece.clear();
                let mut output = OutBuffer::around(piece);
                is_whole = context.decompress_stream(&mut output, &mut input).map_err(failed)? == 0;
                // There may be more of what was taken in.
                is_full = !is_whole && piece.len() == piece.capacity();
                take(piece);
            }
        }
        if is_whole { Ok(()) } else { Err(damaged("it ends too early")) }
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

fn cannot_compress(code: usize) -> Error {
    let reason = get_error_name(code).to_lowercase();
    Error::new(ErrorKind::Internal, format!("cannot compress: {reason}"))
}

fn out_of_memory() -> Error {
    Error::new(ErrorKind::Internal, "cannot compress: out of memory")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::buffers::BufferPool;

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
            let compressed = compressor.compress(&plain).unwrap();
            assert_eq!(content_bytes(&compressed).unwrap(), Some(bytes));
            assert!(compressed.len() < bytes);
            let again = decompressor.decompress(&compressed, bytes, MAX).unwrap();
            assert_eq!(again, plain);
            let again = decompressor.decompress_unknown(&compressed, MAX).unwrap();
            assert_eq!(again, plain);
        }
    }

    #[test]
    fn what_saves_less_than_three_percent_is_not_worth_it() {
        assert!(!saves_enough(0, 0));
        assert!(!saves_enough(1, 10));
        assert!(!saves_enough(100_000, 97_001));
        assert!(saves_enough(100_000, 97_000));
        assert!(!saves_enough(usize::MAX, usize::MAX));
    }

    #[test]
    fn parts_become_one_frame_and_come_back() {
        let mut compressor = Compressor::new(3).unwrap();
        let mut decompressor = Decompressor::new().unwrap();
        let pool = BufferPool::new(100_000, 4);
        for plain in [vec![], vec![1], noise(1000), text(300_000), noise(700_000), text(20 << 20)] {
            for size in [999, 131_072, 3 << 20] {
                let mut segments = Segments::new(&pool);
                let parts = plain.chunks(size);
                compressor.compress_parts(parts, plain.len() as u64, &mut segments).unwrap();
                let mut again = Vec::new();
                let take = |piece: &[u8]| again.extend_from_slice(piece);
                decompressor.decompress_parts(segments.all(), take).unwrap();
                assert_eq!(again, plain);
                let compressed = segments.all().collect::<Vec<_>>().concat();
                assert_eq!(content_bytes(&compressed).unwrap(), Some(plain.len()));
                let again = decompressor.decompress(&compressed, plain.len(), 20 << 20).unwrap();
                assert_eq!(again, plain);
            }
        }
    }

    #[test]
    fn parts_that_are_not_one_frame_are_damaged() {
        let mut decompressor = Decompressor::new().unwrap();
        let frame = Compressor::new(3).unwrap().compress(&text(400_000)).unwrap();
        let mut refused = |frame: &[u8]| {
            let error = decompressor.decompress_parts(frame.chunks(700), |_| ()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        };
        refused(b"");
        refused(&frame[..frame.len() - 1]);
        refused(&[&frame[..], b"x"].concat());
        refused(&[&frame[..], &frame].concat());
        refused(&frame[1..]);
    }

    #[test]
    fn parts_of_another_length_than_announced_are_refused() {
        let mut compressor = Compressor::new(3).unwrap();
        let pool = BufferPool::new(1000, 4);
        for wrong in [99, 101] {
            let mut segments = Segments::new(&pool);
            let plain = text(100);
            let parts = plain.chunks(60);
            assert!(compressor.compress_parts(parts, wrong, &mut segments).is_err());
        }
        assert!(compressor.compress(b"goes on").is_ok());
    }

    #[test]
    fn every_level_reads_back_and_others_are_refused() {
        let plain = text(10_000);
        for level in MIN_LEVEL..=MAX_LEVEL {
            let mut compressor = Compressor::new(level).unwrap();
            let compressed = compressor.compress(&plain).unwrap();
            let again = Decompressor::new().unwrap().decompress(&compressed, plain.len(), MAX);
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
        let mut data = Compressor::new(3).unwrap().compress(b"one").unwrap();
        data.extend(streamed(b"two"));
        let plain = Decompressor::new().unwrap().decompress_unknown(&data, MAX);
        assert_eq!(plain.unwrap(), b"onetwo");
    }

    #[test]
    fn bombs_are_refused() {
        let mut compressor = Compressor::new(3).unwrap();
        let mut decompressor = Decompressor::new().unwrap();
        let bomb = compressor.compress(&vec![0; 4 * MAX]).unwrap();
        let error = decompressor.decompress_unknown(&bomb, MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let error = decompressor.decompress(&bomb, 4 * MAX, MAX).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let error = decompressor.decompress(&bomb, 10, MAX).unwrap_err();
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
        let compressed = compressor.compress(&plain).unwrap();
        for data in [&b""[..], b"x", b"{\"a\":1}", &compressed[..compressed.len() - 1]] {
            let error = decompressor.decompress(data, 5000, MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
            let error = decompressor.decompress_unknown(data, MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        for wrong in [0, 4999, 5001] {
            let error = decompressor.decompress(&compressed, wrong, MAX).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
    }
}
