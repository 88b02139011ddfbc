//! SHA-256 of several messages at once on one core.
//!
//! The instructions of the processor for SHA-256 have a long latency, and each round needs the one
//! before it. Rounds of independent messages fill that time. Constants and rounds: FIPS 180-4, 4.2.2
//! and 6.2.2.
//!
//! The only module with `unsafe`: one call of a function for a processor that was asked whether it has
//! the instructions.

#![allow(unsafe_code, reason = "see the module's own words")]

/// Bytes that one turn of the function takes.
pub(super) const BLOCK_BYTES: usize = 64;
/// How many messages pay: more need more registers than there are.
pub(super) const MAX_LANES: usize = 3;

/// The first 32 bits of the fractional parts of the square roots of the first 8 primes.
pub(super) const INITIAL_STATE: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// One message: its state, and its next blocks.
pub(super) type Lane<'a> = (&'a mut [u32; 8], &'a [u8]);

/// Whether this processor has the instructions.
pub(super) fn is_supported() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected;
        is_x86_feature_detected!("sha")
            && is_x86_feature_detected!("ssse3")
            && is_x86_feature_detected!("sse4.1")
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// Takes the next blocks of up to [`MAX_LANES`] messages. All bring the same number of whole blocks.
///
/// # Panics
/// If they do not, or if the processor has no such instructions: ask [`is_supported`] first.
pub(super) fn compress(lanes: &mut [Lane<'_>]) {
    let len_bytes = lanes.first().map_or(0, |(_, blocks)| blocks.len());
    assert!(len_bytes.is_multiple_of(BLOCK_BYTES), "a part of a block");
    assert!(
        lanes.iter().all(|(_, blocks)| blocks.len() == len_bytes),
        "lanes of different lengths"
    );
    assert!(is_supported(), "no instructions for SHA-256");
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the processor has the instructions, as was just asked.
    unsafe {
        match lanes {
            [] => {}
            [one] => x86::compress([one]),
            [one, two] => x86::compress([one, two]),
            [one, two, three] => x86::compress([one, two, three]),
            _ => panic!("more than {MAX_LANES} messages"),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi8, _mm_set_epi32,
        _mm_set_epi64x, _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32,
        _mm_sha256rnds2_epu32, _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    use super::{BLOCK_BYTES, Lane};

    /// The first 32 bits of the fractional parts of the cube roots of the first 64 primes.
    const ROUND_CONSTANTS: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    /// A state as the instructions want it.
    #[derive(Clone, Copy)]
    struct Halves {
        abef: __m128i,
        cdgh: __m128i,
    }

    /// As the function outside. Each lane has the same number of whole blocks.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    pub(super) fn compress<const LANES: usize>(lanes: [&mut Lane<'_>; LANES]) {
        let mut halves = lanes.each_ref().map(|(state, _)| split(state));
        let blocks = lanes.each_ref().map(|(_, blocks)| *blocks);
        let mut at = 0;
        while blocks.iter().all(|blocks| at + BLOCK_BYTES <= blocks.len()) {
            let words = blocks.map(|blocks| load(&blocks[at..at + BLOCK_BYTES]));
            take_block(&mut halves, words);
            at += BLOCK_BYTES;
        }
        for ((state, _), halves) in lanes.into_iter().zip(halves) {
            **state = join(halves);
        }
    }

    #[target_feature(enable = "sha,ssse3,sse4.1")]
    #[inline]
    fn take_block<const LANES: usize>(
        halves: &mut [Halves; LANES],
        mut words: [[__m128i; 4]; LANES],
    ) {
        let before = *halves;
        // Written out, so that which words are meant is known when this is compiled.
        macro_rules! four_rounds {
            ($($group:literal)*) => {$(
                let [a, b, c, d] = ROUND_CONSTANTS[$group].map(u32::cast_signed);
                let constants = _mm_set_epi32(d, c, b, a);
                for (halves, words) in halves.iter_mut().zip(&mut words) {
                    let low = _mm_add_epi32(words[$group % 4], constants);
                    halves.cdgh = _mm_sha256rnds2_epu32(halves.cdgh, halves.abef, low);
                    let high = _mm_shuffle_epi32::<0x0E>(low);
                    halves.abef = _mm_sha256rnds2_epu32(halves.abef, halves.cdgh, high);
                    if $group < 12 {
                        words[$group % 4] = next_words(
                            words[$group % 4],
                            words[($group + 1) % 4],
                            words[($group + 2) % 4],
                            words[($group + 3) % 4],
                        );
                    }
                }
            )*};
        }
        four_rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for (halves, before) in halves.iter_mut().zip(before) {
            halves.abef = _mm_add_epi32(halves.abef, before.abef);
            halves.cdgh = _mm_add_epi32(halves.cdgh, before.cdgh);
        }
    }

    /// The four words of the message schedule that follow these sixteen.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    #[inline]
    fn next_words(a: __m128i, b: __m128i, c: __m128i, d: __m128i) -> __m128i {
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8::<4>(d, c));
        _mm_sha256msg2_epu32(sum, d)
    }

    /// A block as sixteen words; its bytes are big-endian.
    #[target_feature(enable = "sha,ssse3,sse4.1")]
    #[inline]
    fn load(block: &[u8]) -> [__m128i; 4] {
        let big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
        let mut words = [_mm_setzero_si128(); 4];
        for (words, bytes) in words.iter_mut().zip(block.as_chunks::<16>().0) {
            let (low, high) = bytes.split_at(8);
            let half =
                |bytes: &[u8]| bytes.first_chunk().map_or(0, |bytes| i64::from_le_bytes(*bytes));
            *words = _mm_shuffle_epi8(_mm_set_epi64x(half(high), half(low)), big_endian);
        }
        words
    }

    #[target_feature(enable = "sha,ssse3,sse4.1")]
    #[inline]
    #[expect(clippy::many_single_char_names, reason = "the names of the standard")]
    fn split(state: &[u32; 8]) -> Halves {
        let [a, b, c, d, e, f, g, h] = state.map(u32::cast_signed);
        Halves { abef: _mm_set_epi32(a, b, e, f), cdgh: _mm_set_epi32(c, d, g, h) }
    }

    #[target_feature(enable = "sha,ssse3,sse4.1")]
    #[inline]
    fn join(Halves { abef, cdgh }: Halves) -> [u32; 8] {
        [
            _mm_extract_epi32::<3>(abef),
            _mm_extract_epi32::<2>(abef),
            _mm_extract_epi32::<3>(cdgh),
            _mm_extract_epi32::<2>(cdgh),
            _mm_extract_epi32::<1>(abef),
            _mm_extract_epi32::<0>(abef),
            _mm_extract_epi32::<1>(cdgh),
            _mm_extract_epi32::<0>(cdgh),
        ]
        .map(i32::cast_unsigned)
    }
}
