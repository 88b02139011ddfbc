//! The key that wraps the data keys, and its form as a line of text.

use std::fmt;
use std::str::FromStr;

use secrecy::{ExposeSecret as _, SecretBox, SecretString};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::aead::KEY_BYTES;
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

const ID_BYTES: usize = 8;
const ID_DIGITS: usize = 2 * ID_BYTES;
const KEY_DIGITS: usize = 2 * KEY_BYTES;
/// Of all versions.
const FAMILY: &str = "backupkit-key-";
const PREFIX: &str = "backupkit-key-1:";
const TEXT_BYTES: usize = PREFIX.len() + ID_DIGITS + 1 + KEY_DIGITS;

/// A key that wraps the data keys of sealed secrets: 32 random bytes, wiped when dropped. `Debug`
/// shows only the id.
///
/// As text it is one line, `backupkit-key-1:<id>:<key>`, both in hexadecimal. The id tells people
/// which of their keys it is, and tells a mistyped key from a wrong one.
pub struct MasterKey {
    id: MasterKeyId,
    bytes: SecretBox<[u8; KEY_BYTES]>,
}

impl MasterKey {
    /// Returns a new random key.
    ///
    /// # Errors
    /// `Unavailable` if there is no randomness.
    pub fn generate(env: &Env) -> Result<Self> {
        Ok(Self::from_bytes(&Zeroizing::new(env.random()?)))
    }

    /// Reads the line that [`Self::to_text`] wrote. White space around it does not matter, nor
    /// whether the digits are upper case.
    ///
    /// # Errors
    /// `InvalidConfig`, code `master-key-invalid`, if it is empty, cut off, mistyped or something else;
    /// `Unsupported` if it is of a later version. They never repeat the text.
    pub fn parse(text: &SecretString) -> Result<Self> {
        let text = text.expose_secret().trim();
        if text.is_empty() {
            return Err(invalid("the master key is empty"));
        }
        let Some(rest) = text.strip_prefix(PREFIX) else {
            if has_a_version(text, FAMILY) {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    format!(
                        "the master key is of another version: it does not start with {PREFIX:?}"
                    ),
                )
                .with_code("master-key-version")
                .with_hint("use the version of the program that made it, or a newer one"));
            }
            return Err(invalid(format!("the master key does not start with {PREFIX:?}")));
        };
        let whole = rest.as_bytes().split_first_chunk::<ID_DIGITS>().and_then(|(id, rest)| {
            let (colon, key) = rest.split_first()?;
            Some((id, *colon, key.as_array::<KEY_DIGITS>()?))
        });
        let Some((id_digits, b':', key_digits)) = whole else {
            return Err(invalid(format!(
                "the master key is not whole: it has {} characters, not {TEXT_BYTES}, or no colon \
                 after the id",
                text.chars().count(),
            )));
        };
        let mut id = [0; ID_BYTES];
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        // The errors of the decoder are dropped: they name a digit of the key.
        hex::decode_to_slice(id_digits, &mut id)
            .and_then(|()| hex::decode_to_slice(key_digits, &mut *bytes))
            .map_err(|_| {
                invalid("the master key is mistyped: a character is none of 0 to 9, a to f")
            })?;
        let key = Self::from_bytes(&bytes);
        if key.id != MasterKeyId(id) {
            return Err(invalid("the master key is mistyped: its two parts do not fit together"));
        }
        Ok(key)
    }

    /// Writes the key as one line of text, without a line break at its end. Whoever has it can open
    /// all secrets.
    pub fn to_text(&self) -> SecretString {
        // With its final capacity from the start, no copy stays behind.
        let mut text = String::with_capacity(TEXT_BYTES);
        text.push_str(PREFIX);
        push_hex(&mut text, &self.id.0);
        text.push(':');
        push_hex(&mut text, self.expose());
        SecretString::from(text)
    }

    /// The id of the key. It is derived from the key, and not secret.
    pub fn id(&self) -> MasterKeyId {
        self.id
    }

    pub(super) fn from_bytes(bytes: &[u8; KEY_BYTES]) -> Self {
        let derived = derive(b"backupkit master key 1: id", bytes);
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&derived[..ID_BYTES]);
        let bytes = SecretBox::init_with_mut(|kept: &mut [u8; KEY_BYTES]| {
            kept.copy_from_slice(bytes);
        });
        Self { id: MasterKeyId(id), bytes }
    }

    /// What proves the key without giving it away.
    pub(super) fn proof(&self) -> [u8; 32] {
        derive(b"backupkit master key 1: proof", self.expose())
    }

    pub(super) fn expose(&self) -> &[u8; KEY_BYTES] {
        self.bytes.expose_secret()
    }
}

impl Clone for MasterKey {
    fn clone(&self) -> Self {
        Self::from_bytes(self.expose())
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

/// Tells master keys apart: the first 8 bytes of a hash of the key. Not secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MasterKeyId([u8; ID_BYTES]);

impl MasterKeyId {
    /// The length of an id in bytes.
    pub const BYTES: usize = ID_BYTES;

    /// Takes the bytes of an id.
    pub fn from_bytes(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    pub fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }
}

/// 16 hexadecimal digits.
impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl FromStr for MasterKeyId {
    type Err = Error;

    /// # Errors
    /// `InvalidInput` for anything but 16 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self> {
        let mut id = [0; ID_BYTES];
        hex::decode_to_slice(text, &mut id).map_err(|_| {
            Error::new(ErrorKind::InvalidInput, "an id of a master key has 16 hexadecimal digits")
        })?;
        Ok(Self(id))
    }
}

impl fmt::Debug for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKeyId({self})")
    }
}

/// The key is random, so a hash of it gives nothing away. `label` keeps the uses apart.
fn derive(label: &[u8], key: &[u8; KEY_BYTES]) -> [u8; 32] {
    Sha256::new().chain_update(label).chain_update(key).finalize().into()
}

/// Whether `text` is `<family><number>:` and more. Without the colon it may be cut off.
pub(super) fn has_a_version(text: &str, family: &str) -> bool {
    text.strip_prefix(family).and_then(|rest| rest.split_once(':')).is_some_and(|(version, _)| {
        !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
        .with_code("master-key-invalid")
        .with_hint(format!("give the whole line that was kept, from {PREFIX:?} to its end"))
}
