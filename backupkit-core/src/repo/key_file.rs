//! Files in `keys/`: the master key, sealed with a key derived from a password.
//!
//! The file itself is plain JSON; its name is the SHA-256 of its bytes. Several files may wrap the
//! same master key with different passwords.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::crypto::{Iv, KEY_BYTES, MasterKey, OVERHEAD, OpenError};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};
use crate::model::FileTime;

/// Bytes of the salt. Readers refuse any other length.
pub const SALT_BYTES: usize = 64;
/// A key file is a few hundred bytes; one above this is not read.
pub const MAX_KEY_FILE_BYTES: usize = 64 * 1024;

/// Memory that deriving a key may take.
const MAX_KDF_MEMORY_BYTES: u64 = 1 << 30;
/// Work that deriving a key may take, in bytes mixed: about a minute.
const MAX_KDF_WORK_BYTES: u64 = 16 << 30;

/// Parameters of scrypt: how much memory and time one guess of the password costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfParams {
    /// Cost, a power of two. Memory is `128 * n * r` bytes.
    pub n: u64,
    /// Block size.
    pub r: u32,
    /// Repetitions.
    pub p: u32,
}

impl Default for KdfParams {
    /// 32 MiB of memory and about a tenth of a second, as restic has it.
    fn default() -> Self {
        Self { n: 1 << 15, r: 8, p: 1 }
    }
}

impl KdfParams {
    /// Refuses what is no parameter of scrypt, or would take absurd memory or time.
    fn checked(self) -> Result<scrypt::Params> {
        let refused = |why: &str| {
            Error::new(
                ErrorKind::Unsupported,
                format!(
                    "key asks for scrypt with N={}, r={}, p={}, which {why}",
                    self.n, self.r, self.p
                ),
            )
            .with_code("key-parameters")
            .with_hint("open the repository with another key, or make this one again")
        };
        if self.n < 2 || !self.n.is_power_of_two() || self.r == 0 || self.p == 0 {
            return Err(refused("is not valid"));
        }
        let lane = u64::from(self.r) * 128;
        let memory = lane.checked_mul(self.n);
        let work = memory.and_then(|memory| memory.checked_mul(u64::from(self.p)));
        let buffer = lane.checked_mul(u64::from(self.p));
        match (memory, work, buffer) {
            (Some(memory), Some(work), Some(buffer))
                if memory <= MAX_KDF_MEMORY_BYTES
                    && work <= MAX_KDF_WORK_BYTES
                    && buffer <= MAX_KDF_MEMORY_BYTES => {}
            _ => return Err(refused("takes more memory or time than is allowed")),
        }
        u8::try_from(self.n.ilog2())
            .ok()
            .and_then(|log_n| scrypt::Params::new(log_n, self.r, self.p).ok())
            .ok_or_else(|| refused("is not valid"))
    }
}

/// A key file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// When it was made, if it says so.
    pub created: Option<FileTime>,
    /// Who made it, or empty.
    pub username: String,
    /// Where it was made, or empty.
    pub hostname: String,
    params: KdfParams,
    salt: [u8; SALT_BYTES],
    data: Vec<u8>,
}

/// The fields as they are stored, in restic's order.
#[derive(Serialize, Deserialize)]
struct Stored {
    // Other programs leave these out, or write times in forms of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    hostname: Option<String>,
    kdf: String,
    #[serde(rename = "N")]
    n: u64,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

/// The master key as the sealed part of a key file holds it, in restic's order.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct StoredKey {
    mac: StoredMac,
    encrypt: String,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct StoredMac {
    k: String,
    r: String,
}

impl KeyFile {
    /// Wraps `master` with `password`. Takes as much memory and time as `params` says.
    ///
    /// # Errors
    /// `Unsupported` for parameters out of bounds; `Unavailable` if there is no randomness.
    pub fn create(
        master: &MasterKey,
        password: &SecretString,
        params: KdfParams,
        username: &str,
        hostname: &str,
        created: FileTime,
        env: &Env,
    ) -> Result<Self> {
        let salt = env.random()?;
        let user_key = derive(password, &salt, params)?;
        let data = user_key.seal(Iv::random(env)?, &encode_master_key(master)?);
        Ok(Self {
            created: Some(created),
            username: username.to_owned(),
            hostname: hostname.to_owned(),
            params,
            salt,
            data,
        })
    }

    /// The parameters of scrypt.
    pub fn params(&self) -> KdfParams {
        self.params
    }

    /// Returns the bytes of the file.
    ///
    /// # Errors
    /// `Internal`, which does not happen.
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&Stored {
            created: self.created.map(|time| time.to_string()),
            username: Some(self.username.clone()),
            hostname: Some(self.hostname.clone()),
            kdf: String::from("scrypt"),
            n: self.params.n,
            r: self.params.r,
            p: self.params.p,
            salt: BASE64.encode(self.salt),
            data: BASE64.encode(&self.data),
        })
        .map_err(cannot_encode)
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// `Corrupt` if it is not a key file; `Unsupported` if it asks for another derivation than
    /// scrypt, or for absurd amounts of memory or time.
    pub fn decode(file: &[u8]) -> Result<Self> {
        if file.len() > MAX_KEY_FILE_BYTES {
            return Err(damaged("it is too long"));
        }
        let stored: Stored = serde_json::from_slice(file).map_err(damaged)?;
        if stored.kdf != "scrypt" {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("key asks for the unknown key derivation {:?}", stored.kdf),
            )
            .with_code("key-parameters"));
        }
        let params = KdfParams { n: stored.n, r: stored.r, p: stored.p };
        params.checked()?;
        let salt = BASE64.decode(&stored.salt).map_err(damaged)?;
        let salt = salt.try_into().map_err(|_| damaged("its salt is not 64 bytes long"))?;
        let data = BASE64.decode(&stored.data).map_err(damaged)?;
        if data.len() < OVERHEAD {
            return Err(damaged("its data is too short"));
        }
        Ok(Self {
            created: stored.created.and_then(|text| text.parse().ok()),
            username: stored.username.unwrap_or_default(),
            hostname: stored.hostname.unwrap_or_default(),
            params,
            salt,
            data,
        })
    }

    /// Returns the master key. Takes as much memory and time as [`Self::params`] says.
    ///
    /// # Errors
    /// `WrongPassword` if it is; `Corrupt` if what the password opened is not a key.
    pub fn unlock(&self, password: &SecretString) -> Result<MasterKey> {
        let user_key = derive(password, &self.salt, self.params)?;
        let plaintext = user_key.open(&self.data).map_err(|error| match error {
            OpenError::WrongMac => {
                Error::new(ErrorKind::WrongPassword, "wrong password for this key")
            }
            OpenError::TooShort | OpenError::ZeroIv => damaged(error),
        })?;
        decode_master_key(&Zeroizing::new(plaintext))
    }
}

fn derive(
    password: &SecretString,
    salt: &[u8; SALT_BYTES],
    params: KdfParams,
) -> Result<MasterKey> {
    let params = params.checked()?;
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    let password = password.expose_secret().as_bytes();
    scrypt::scrypt(password, salt, &params, &mut *bytes).map_err(|error| {
        Error::new(ErrorKind::Internal, "cannot derive a key from the password").with_source(error)
    })?;
    MasterKey::from_bytes(&bytes).map_err(damaged)
}

fn encode_master_key(master: &MasterKey) -> Result<Zeroizing<Vec<u8>>> {
    let bytes = master.to_bytes();
    let stored = StoredKey {
        mac: StoredMac { k: BASE64.encode(&bytes[32..48]), r: BASE64.encode(&bytes[48..]) },
        encrypt: BASE64.encode(&bytes[..32]),
    };
    // Room for all of it, so that growing leaves no copies behind.
    let mut json = Zeroizing::new(Vec::with_capacity(256));
    serde_json::to_writer(&mut *json, &stored).map_err(cannot_encode)?;
    Ok(json)
}

pub(crate) fn decode_master_key(json: &[u8]) -> Result<MasterKey> {
    // The parser's own words may quote the secret, so they are left out.
    let not_a_key = || damaged("what the password opened is not a key");
    let stored: StoredKey = serde_json::from_slice(json).map_err(|_| not_a_key())?;
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    for (range, text) in
        [(0..32, &stored.encrypt), (32..48, &stored.mac.k), (48..64, &stored.mac.r)]
    {
        let part = Zeroizing::new(BASE64.decode(text).map_err(|_| not_a_key())?);
        if part.len() != range.len() {
            return Err(not_a_key());
        }
        bytes[range].copy_from_slice(&part);
    }
    MasterKey::from_bytes(&bytes).map_err(damaged)
}

fn damaged(detail: impl std::fmt::Display) -> Error {
    Error::corrupt("key file", detail)
}

fn cannot_encode(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::Internal, "cannot encode a key file").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cheap, so that tests are quick.
    const CHEAP: KdfParams = KdfParams { n: 16, r: 1, p: 1 };

    fn cheap_key(master: &MasterKey) -> KeyFile {
        let created = "2024-05-06T07:08:09.5+02:00".parse().unwrap();
        let env = Env::system();
        KeyFile::create(master, &"geheim".into(), CHEAP, "u", "h", created, &env).unwrap()
    }

    #[test]
    fn derived_keys_are_those_of_restic() {
        let mut salt = [0; SALT_BYTES];
        for (byte, value) in salt.iter_mut().zip(0u8..) {
            *byte = value;
        }
        let key = derive(&"geheim".into(), &salt, KdfParams::default()).unwrap();
        let text = hex::encode(*key.to_bytes());
        assert!(text.starts_with("27933cc8ec79b02e"), "{text}");
        assert!(text.ends_with("77f4773ecdf4374ef"), "{text}");
    }

    #[test]
    fn the_right_password_opens_and_a_wrong_one_says_so() {
        let master = MasterKey::generate(&Env::system()).unwrap();
        let file = KeyFile::decode(&cheap_key(&master).encode().unwrap()).unwrap();
        let opened = file.unlock(&"geheim".into()).unwrap();
        assert_eq!(*opened.to_bytes(), *master.to_bytes());
        let error = file.unlock(&"Geheim".into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongPassword);
    }

    #[test]
    fn fields_come_in_the_order_of_restic() {
        let master = MasterKey::from_bytes(&[7; KEY_BYTES]).unwrap();
        let file = cheap_key(&master);
        let json = String::from_utf8(file.encode().unwrap()).unwrap();
        let start = r#"{"created":"2024-05-06T07:08:09.5+02:00","username":"u","hostname":"h","kdf":"scrypt","N":16,"r":1,"p":1,"salt":""#;
        assert!(json.starts_with(start), "{json}");
        assert_eq!(KeyFile::decode(json.as_bytes()).unwrap(), file);
        assert_eq!(
            String::from_utf8_lossy(&encode_master_key(&master).unwrap()),
            r#"{"mac":{"k":"BwcHBwcHBwcHBwcHBwcHBw==","r":"BwcHBwcHBwcHBwcHBwcHBw=="},"encrypt":"BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="}"#
        );
    }

    #[test]
    fn missing_names_and_odd_times_do_not_lock_anybody_out() {
        let master = MasterKey::generate(&Env::system()).unwrap();
        let json = String::from_utf8(cheap_key(&master).encode().unwrap()).unwrap();
        let json = json
            .replace(r#""username":"u","hostname":"h","#, "")
            .replace("+02:00", "+02:00[Europe/Berlin]");
        let file = KeyFile::decode(json.as_bytes()).unwrap();
        assert_eq!((file.created, file.username.as_str()), (None, ""));
        assert!(file.unlock(&"geheim".into()).is_ok());
    }

    #[test]
    fn absurd_parameters_are_refused_before_any_memory_is_taken() {
        let master = MasterKey::generate(&Env::system()).unwrap();
        let json = String::from_utf8(cheap_key(&master).encode().unwrap()).unwrap();
        for (n, r, p) in [
            (0u64, 8, 1),
            (1, 8, 1),
            (1000, 8, 1),
            (1 << 15, 0, 1),
            (1 << 15, 8, 0),
            (1 << 21, 8, 1),
            (1 << 63, 8u32, 1u32),
            (2, u32::MAX, u32::MAX),
            (2, 1, u32::MAX),
            (1 << 20, 8, 1000),
        ] {
            let json =
                json.replace(r#""N":16,"r":1,"p":1"#, &format!(r#""N":{n},"r":{r},"p":{p}"#));
            let error = KeyFile::decode(json.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{n} {r} {p}");
        }
        KdfParams { n: 1 << 20, r: 8, p: 1 }.checked().unwrap();
        let other = json.replace("scrypt", "argon2");
        let error = KeyFile::decode(other.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn damage_is_not_taken_for_a_wrong_password() {
        let master = MasterKey::generate(&Env::system()).unwrap();
        let mut file = cheap_key(&master);
        let json = String::from_utf8(file.encode().unwrap()).unwrap();
        let salt = BASE64.encode(file.salt);
        for json in [
            String::from("{}"),
            json.replace(&salt, &salt[4..]),
            json.replace(&salt, "%"),
            json.replace(r#""N":16"#, r#""N":-16"#),
        ] {
            let error = KeyFile::decode(json.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{json}");
        }
        let user_key = derive(&"geheim".into(), &file.salt, CHEAP).unwrap();
        for inner in ["", "{}", r#"{"mac":{"k":"","r":""},"encrypt":""}"#] {
            let iv = Iv::random(&Env::system()).unwrap();
            file.data = user_key.seal(iv, inner.as_bytes());
            let error = file.unlock(&"geheim".into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{inner}");
        }
    }
}
