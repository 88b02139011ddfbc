//! XChaCha20-Poly1305 over byte strings.

use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305};
use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result};

pub(super) const KEY_BYTES: usize = 32;
/// Long enough to be random: no two are ever the same.
pub(super) const NONCE_BYTES: usize = 24;
pub(super) const TAG_BYTES: usize = 16;

/// Returns ciphertext and tag. `associated` is not in it, but must be the same to decrypt.
pub(super) fn encrypt(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    plaintext: &[u8],
) -> Result<Vec<u8>> {
    // Wiped if the cipher refuses. With its final capacity from the start, no copy stays behind.
    let mut buffer = Zeroizing::new(Vec::with_capacity(plaintext.len().saturating_add(TAG_BYTES)));
    buffer.extend_from_slice(plaintext);
    let tag = XChaCha20Poly1305::new(key.into())
        .encrypt_inout_detached(nonce.into(), associated, buffer.as_mut_slice().into())
        .map_err(|_| Error::new(ErrorKind::Internal, "cannot encrypt a secret: it is too long"))?;
    buffer.extend_from_slice(&tag);
    Ok(std::mem::take(&mut *buffer))
}

/// Returns the plaintext; `None` if anything differs from what was encrypted.
pub(super) fn decrypt(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    associated: &[u8],
    ciphertext_and_tag: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (ciphertext, tag) = ciphertext_and_tag.split_last_chunk::<TAG_BYTES>()?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    XChaCha20Poly1305::new(key.into())
        .decrypt_inout_detached(nonce.into(), associated, buffer.as_mut_slice().into(), tag.into())
        .ok()?;
    Some(buffer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// draft-irtf-cfrg-xchacha-03, A.3.1.
    #[test]
    fn ciphertext_and_tag_are_those_of_the_draft() {
        let key: [u8; 32] = std::array::from_fn(|at| 0x80 + u8::try_from(at).unwrap());
        let nonce: [u8; 24] = std::array::from_fn(|at| 0x40 + u8::try_from(at).unwrap());
        let associated = hex::decode("50515253c0c1c2c3c4c5c6c7").unwrap();
        let plaintext = b"Ladies and Gentlemen of the class of '99: If I could offer you only one \
            tip for the future, sunscreen would be it.";
        let expected = "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb\
            731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b452\
            2f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff9\
            21f9664c97637da9768812f615c68b13b52e\
            c0875924c1c7987947deafd8780acf49";
        let sealed = encrypt(&key, &nonce, &associated, plaintext).unwrap();
        assert_eq!(hex::encode(&sealed), expected);
        let opened = decrypt(&key, &nonce, &associated, &sealed).unwrap();
        assert_eq!(opened.as_slice(), plaintext);
        assert!(decrypt(&key, &nonce, &associated[1..], &sealed).is_none());
    }
}
