//! Sealing: AES-256-CTR with Poly1305-AES over the ciphertext, as restic does it.
//!
//! `sealed = iv (16 bytes) || ciphertext || mac (16 bytes)`. There is no associated data, and the
//! authentication covers the ciphertext only; the iv takes part as the nonce of Poly1305-AES.

mod pieces;

use std::fmt;
use std::hint::black_box;

use aes::cipher::{
    BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipher, StreamCipherCoreWrapper,
};
use aes::{Aes128, Aes256};
use ctr::CtrCore;
use ctr::flavors::Ctr128BE;
use poly1305::Poly1305;
use zeroize::Zeroizing;

use self::pieces::{Authenticator, Pieces};
use crate::buffers::Segments;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// Bytes of an initialisation vector.
pub const IV_BYTES: usize = 16;
/// Bytes of an authentication code.
pub const MAC_BYTES: usize = 16;
/// By how many bytes sealed data is longer than its plaintext.
pub const OVERHEAD: usize = IV_BYTES + MAC_BYTES;
/// Bytes of a master key: encryption key, then `k`, then `r` of the authentication key.
pub const KEY_BYTES: usize = 64;

/// How much is decrypted at a time to compare it: a part of the first-level cache.
const COMPARED_BYTES: usize = 8 << 10;

/// The start value of the counter for one sealed message. Never used twice, never zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Iv([u8; IV_BYTES]);

impl Iv {
    /// Returns a random iv.
    ///
    /// # Errors
    /// `Unavailable` if there is no randomness.
    pub fn random(env: &Env) -> Result<Self> {
        Self::from_bytes(env.random()?).ok_or_else(|| {
            Error::new(
                ErrorKind::Unavailable,
                "cannot get random bytes: the system gave zeros only",
            )
        })
    }

    /// Wraps 16 bytes, or returns nothing for zeros, which readers refuse.
    pub fn from_bytes(bytes: [u8; IV_BYTES]) -> Option<Self> {
        (bytes != [0; IV_BYTES]).then_some(Self(bytes))
    }
}

impl fmt::Debug for Iv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Iv({})", hex::encode(self.0))
    }
}

/// Why sealed bytes could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter than [`OVERHEAD`].
    #[error("too short to be sealed data")]
    TooShort,
    /// The iv is zero, which no writer produces.
    #[error("the initialisation vector is zero")]
    ZeroIv,
    /// The bytes were changed, or sealed with another key.
    #[error("the authentication code does not match")]
    WrongMac,
}

/// Some part of the key is all zeros, which no writer produces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a part of the key is zero")]
pub struct ZeroKeyError;

/// The key of a repository, which seals all but the key files.
///
/// The key derived from a password, which seals only this one, has the same form. Key schedules are
/// computed once. All of it is wiped when dropped; `Debug` shows none of it.
#[derive(Clone)]
pub struct MasterKey {
    bytes: Zeroizing<[u8; KEY_BYTES]>,
    encryption: Aes256,
    authentication: Aes128,
}

impl MasterKey {
    /// Returns a new random key.
    ///
    /// # Errors
    /// `Unavailable` if there is no randomness.
    pub fn generate(env: &Env) -> Result<Self> {
        let bytes = Zeroizing::new(env.random()?);
        Self::from_bytes(&bytes).map_err(|error| {
            Error::new(ErrorKind::Unavailable, "cannot get random bytes for a new key")
                .with_source(error)
        })
    }

    /// Takes encryption key (32 bytes), `k` (16) and `r` (16).
    ///
    /// # Errors
    /// If one of the three is zero.
    pub fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Result<Self, ZeroKeyError> {
        let zero = |part: &[u8]| part.iter().all(|byte| *byte == 0);
        if zero(&bytes[..32]) || zero(&bytes[32..48]) || zero(&bytes[48..]) {
            return Err(ZeroKeyError);
        }
        let mut encryption = Zeroizing::new([0; 32]);
        encryption.copy_from_slice(&bytes[..32]);
        let mut authentication = Zeroizing::new([0; 16]);
        authentication.copy_from_slice(&bytes[32..48]);
        Ok(Self {
            bytes: Zeroizing::new(*bytes),
            encryption: Aes256::new((&*encryption).into()),
            authentication: Aes128::new((&*authentication).into()),
        })
    }

    /// Encryption key (32 bytes), `k` (16) and `r` (16), for wrapping in a key file.
    pub fn to_bytes(&self) -> Zeroizing<[u8; KEY_BYTES]> {
        self.bytes.clone()
    }

    /// Encrypts and authenticates `plaintext`.
    pub fn seal(&self, iv: Iv, plaintext: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        self.seal_into(iv, plaintext, &mut sealed);
        sealed
    }

    /// Like [`Self::seal`], appending to `out`. What `out` held stays.
    pub fn seal_into(&self, iv: Iv, plaintext: &[u8], out: &mut Vec<u8>) {
        out.reserve(plaintext.len().saturating_add(OVERHEAD));
        out.extend_from_slice(&iv.0);
        let start = out.len();
        out.extend_from_slice(plaintext);
        self.apply_keystream(&iv.0, &mut out[start..]);
        let mac = self.mac(&iv.0, &out[start..]);
        out.extend_from_slice(&mac);
    }

    /// Checks and decrypts `sealed`.
    pub fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let mut plaintext = Vec::new();
        self.open_into(sealed, &mut plaintext)?;
        Ok(plaintext)
    }

    /// As [`Self::open`], into memory that was used before. What it held is gone, also on an error.
    pub fn open_into(&self, sealed: &[u8], plaintext: &mut Vec<u8>) -> Result<(), OpenError> {
        plaintext.clear();
        let (iv, ciphertext) = self.check(sealed)?;
        plaintext.extend_from_slice(ciphertext);
        self.apply_keystream(&iv, plaintext);
        Ok(())
    }

    /// Like [`Self::open`], where `buffer` holds the sealed bytes before and the plaintext after. On
    /// an error the buffer is unchanged.
    pub fn open_in_place(&self, buffer: &mut Vec<u8>) -> Result<(), OpenError> {
        let plain_bytes = self.open_slice(buffer)?.len();
        buffer.copy_within(IV_BYTES..IV_BYTES + plain_bytes, 0);
        buffer.truncate(plain_bytes);
        Ok(())
    }

    /// Like [`Self::open`], decrypting inside `sealed` and returning the part that is now plaintext.
    /// On an error the bytes are unchanged.
    pub fn open_slice<'a>(&self, sealed: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        let (iv, ciphertext) = self.check(sealed)?;
        let end = IV_BYTES + ciphertext.len();
        let plaintext = &mut sealed[IV_BYTES..end];
        self.apply_keystream(&iv, plaintext);
        Ok(plaintext)
    }

    /// Like [`Self::seal`], for a plaintext in parts that follow each other. Returns how many bytes were
    /// added to `out`.
    ///
    /// # Errors
    /// `Unavailable` if there is no memory.
    pub(crate) fn seal_parts<'a>(
        &self,
        iv: Iv,
        plaintext: impl Iterator<Item = &'a [u8]>,
        out: &mut Segments,
    ) -> Result<usize> {
        let start = out.len_bytes();
        let (mut keystream, mut mac) = (self.keystream(&iv.0), self.authenticator(&iv.0));
        out.push(&iv.0)?;
        for part in plaintext {
            out.push_changed(part, |stretch| {
                keystream.apply_keystream(stretch);
                mac.update(stretch);
            })?;
        }
        out.push(&mac.finish())?;
        Ok(out.len_bytes() - start)
    }

    /// Whether `sealed` opens to exactly `plaintext`, both in parts that follow each other. Decrypts
    /// piece by piece, so that it needs next to no memory.
    pub fn opens_to<'a, 'b>(
        &self,
        sealed: impl Iterator<Item = &'a [u8]> + Clone,
        plaintext: impl Iterator<Item = &'b [u8]>,
    ) -> bool {
        let sealed_bytes: usize = sealed.clone().map(<[u8]>::len).sum();
        let Some(mut left) = sealed_bytes.checked_sub(OVERHEAD) else {
            return false;
        };
        let (mut sealed, mut plaintext) = (Pieces::new(sealed), Pieces::new(plaintext));
        let mut iv = [0; IV_BYTES];
        if !sealed.fill(&mut iv) || iv == [0; IV_BYTES] {
            return false;
        }
        let (mut keystream, mut mac) = (self.keystream(&iv), self.authenticator(&iv));
        let mut opened = [0; COMPARED_BYTES];
        while left > 0 {
            let piece = sealed.next(left.min(COMPARED_BYTES));
            let opened = &mut opened[..piece.len()];
            opened.copy_from_slice(piece);
            mac.update(piece);
            keystream.apply_keystream(opened);
            if !plaintext.begins_with(opened) {
                return false;
            }
            left -= piece.len();
        }
        let mut code = [0; MAC_BYTES];
        sealed.fill(&mut code) && code == mac.finish() && plaintext.next(1).is_empty()
    }

    /// Returns iv and ciphertext if the code matches. Takes the same time wherever it differs.
    fn check<'a>(&self, sealed: &'a [u8]) -> Result<([u8; IV_BYTES], &'a [u8]), OpenError> {
        let (iv, rest) = sealed.split_first_chunk::<IV_BYTES>().ok_or(OpenError::TooShort)?;
        let (ciphertext, mac) = rest.split_last_chunk::<MAC_BYTES>().ok_or(OpenError::TooShort)?;
        if *iv == [0; IV_BYTES] {
            return Err(OpenError::ZeroIv);
        }
        let expected = self.mac(iv, ciphertext);
        let difference = expected.iter().zip(mac).fold(0, |seen, (a, b)| black_box(seen | (a ^ b)));
        if difference == 0 { Ok((*iv, ciphertext)) } else { Err(OpenError::WrongMac) }
    }

    fn apply_keystream(&self, iv: &[u8; IV_BYTES], data: &mut [u8]) {
        self.keystream(iv).apply_keystream(data);
    }

    fn keystream<'a>(
        &'a self,
        iv: &[u8; IV_BYTES],
    ) -> StreamCipherCoreWrapper<CtrCore<&'a Aes256, Ctr128BE>> {
        // The whole iv is one big-endian counter; carries go through all 128 bits.
        let core = CtrCore::inner_iv_init(&self.encryption, iv.into());
        StreamCipherCoreWrapper::from_core(core)
    }

    fn mac(&self, iv: &[u8; IV_BYTES], ciphertext: &[u8]) -> [u8; MAC_BYTES] {
        self.one_time(iv).compute_unpadded(ciphertext).into()
    }

    fn authenticator(&self, iv: &[u8; IV_BYTES]) -> Authenticator {
        Authenticator::new(self.one_time(iv))
    }

    fn one_time(&self, iv: &[u8; IV_BYTES]) -> Poly1305 {
        let mut s = (*iv).into();
        self.authentication.encrypt_block(&mut s);
        let mut one_time_key = Zeroizing::new([0; 32]);
        one_time_key[..16].copy_from_slice(&self.bytes[48..]);
        one_time_key[16..].copy_from_slice(&s);
        Poly1305::new((&*one_time_key).into())
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffers::BufferPool;

    fn key() -> MasterKey {
        let mut bytes = [0; KEY_BYTES];
        for (byte, value) in bytes.iter_mut().zip(0u8..) {
            *byte = value;
        }
        MasterKey::from_bytes(&bytes).unwrap()
    }

    fn iv(text: &str) -> Iv {
        Iv::from_bytes(hex::decode(text).unwrap().try_into().unwrap()).unwrap()
    }

    fn opens(sealed: &[u8], plaintext: &[u8]) -> bool {
        let sizes = [1, 17, 31, 4096, 9000];
        sizes.iter().all(|size| {
            let whole = key().opens_to(sealed.chunks(*size), std::iter::once(plaintext));
            assert_eq!(whole, key().opens_to(std::iter::once(sealed), plaintext.chunks(*size)));
            whole
        })
    }

    const IV: &str = "404142434445464748494a4b4c4d4e4f";

    #[test]
    fn sealed_bytes_are_those_of_restic() {
        let hello = format!("{IV}cb1bb353f860255c12bd4898af19d6fd7f7a8197f3");
        let empty = format!("{IV}859469c07743c7e45b318d151d3d87e9");
        for (plaintext, sealed) in [(&b"hello"[..], hello), (b"", empty)] {
            assert_eq!(hex::encode(key().seal(iv(IV), plaintext)), sealed);
            let sealed = hex::decode(sealed).unwrap();
            assert_eq!(key().open(&sealed).unwrap(), plaintext);
        }
    }

    #[test]
    fn the_counter_carries_through_all_128_bits() {
        let iv_text = "0000000000000001ffffffffffffffff";
        let sealed = format!(
            "{iv_text}30370edbe874767d801f02c24a01a08cb96b47bb7c941b58e4dcfb800d4fcc86\
             1e1d4a454fe9e78bcb2dea54a02142db5955e175cf1123e84cd3eadfff914d39"
        );
        assert_eq!(hex::encode(key().seal(iv(iv_text), &[0; 48])), sealed);
        // Past the end the counter starts over; it must not fail.
        let last = iv("ffffffffffffffffffffffffffffffff");
        assert_eq!(key().open(&key().seal(last, &[7; 99])).unwrap(), [7; 99]);
    }

    #[test]
    fn what_opens_to_something_else_is_told() {
        let plaintext = vec![3; 30_000];
        let sealed = key().seal(iv(IV), &plaintext);
        for at in [0, 8191, 8192, 29_999] {
            let mut other = plaintext.clone();
            other[at] ^= 1;
            assert!(!opens(&sealed, &other), "byte {at}");
        }
        assert!(opens(&sealed, &plaintext));
        assert!(!opens(&sealed, &plaintext[1..]));
        assert!(!opens(&sealed, &[&plaintext[..], b"x"].concat()));
        let mut damaged = sealed.clone();
        damaged[20_000] ^= 1;
        assert!(!opens(&damaged, &plaintext));
        assert!(!opens(&[], &[]));
    }

    #[test]
    fn every_form_of_seal_and_open_agrees() {
        for length in [0, 1, 15, 16, 17, 31, 32, 33, 1000, 70_000u32] {
            let plaintext: Vec<u8> =
                (0..length).map(|i: u32| i.to_le_bytes()[0] ^ i.to_le_bytes()[1]).collect();
            let sealed = key().seal(iv(IV), &plaintext);
            assert_eq!(sealed.len(), plaintext.len() + OVERHEAD);

            let mut appended = b"before".to_vec();
            key().seal_into(iv(IV), &plaintext, &mut appended);
            assert_eq!(&appended[..6], b"before");
            assert_eq!(&appended[6..], sealed);

            for size in [1, 15, 16, 17, 1000] {
                let mut segments = Segments::new(&BufferPool::new(64, 2));
                segments.push(b"before").unwrap();
                let parts = plaintext.chunks(size);
                let bytes = key().seal_parts(iv(IV), parts, &mut segments).unwrap();
                assert_eq!(bytes, sealed.len());
                assert_eq!(segments.parts(6..6 + bytes).collect::<Vec<_>>().concat(), sealed);
            }

            assert_eq!(key().open(&sealed).unwrap(), plaintext);
            let mut buffer = sealed.clone();
            assert_eq!(key().open_slice(&mut buffer).unwrap(), plaintext);
            let mut buffer = sealed.clone();
            key().open_in_place(&mut buffer).unwrap();
            assert_eq!(buffer, plaintext);
            assert!(opens(&sealed, &plaintext));
        }
    }

    #[test]
    fn what_was_changed_is_refused_and_left_alone() {
        let sealed = key().seal(iv(IV), b"some plaintext");
        for at in 0..sealed.len() {
            for bit in [0x01, 0x80] {
                let mut changed = sealed.clone();
                changed[at] ^= bit;
                assert_eq!(key().open(&changed), Err(OpenError::WrongMac), "byte {at}");
                let mut buffer = changed.clone();
                assert_eq!(key().open_in_place(&mut buffer), Err(OpenError::WrongMac), "byte {at}");
                assert_eq!(buffer, changed);
            }
        }
        for length in 0..OVERHEAD {
            assert_eq!(key().open(&sealed[..length]), Err(OpenError::TooShort));
        }
        assert_eq!(key().open(&[0; 40]), Err(OpenError::ZeroIv));
        assert_eq!(key().open(&sealed[..sealed.len() - 1]), Err(OpenError::WrongMac));
    }

    #[test]
    fn zero_keys_and_zero_ivs_are_refused() {
        assert_eq!(Iv::from_bytes([0; 16]), None);
        for zero in [0..32, 32..48, 48..64] {
            let mut bytes = [1; KEY_BYTES];
            bytes[zero].fill(0);
            assert_eq!(MasterKey::from_bytes(&bytes).unwrap_err(), ZeroKeyError);
        }
    }

    #[test]
    fn generated_keys_differ_and_do_not_show() {
        let env = Env::system();
        let key = MasterKey::generate(&env).unwrap();
        assert_ne!(*key.to_bytes(), *MasterKey::generate(&env).unwrap().to_bytes());
        assert_eq!(format!("{key:?}"), "MasterKey(..)");
        let again = MasterKey::from_bytes(&key.to_bytes()).unwrap();
        let iv = Iv::random(&env).unwrap();
        assert_eq!(again.open(&key.seal(iv, b"x")).unwrap(), b"x");
    }
}
