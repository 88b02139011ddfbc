//! The `config` file: version, id and chunker polynomial of a repository.
//!
//! It is stored sealed, but unlike the other files never compressed.

use serde::{Deserialize, Serialize};

use super::polynomial::{CHUNKER_DEGREE, Polynomial};
use crate::env::Env;
use crate::error::{Error, ErrorKind, Result};

/// The version of repositories that are created here, and the only one that is written to.
pub const VERSION: u32 = 2;
/// The oldest version that is read. It knows no compression and is otherwise the same.
pub const OLDEST_VERSION: u32 = 1;

/// What the `config` file of a repository says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Version of the format: 1 or 2.
    pub version: u32,
    /// 64 hexadecimal digits that tell this repository from all others.
    pub id: String,
    /// What the chunker divides by.
    pub chunker_polynomial: Polynomial,
}

/// The fields as they are stored, in restic's order. Unknown ones are ignored.
#[derive(Serialize, Deserialize)]
struct Stored {
    version: u64,
    id: String,
    chunker_polynomial: String,
}

impl Config {
    /// Returns the config of a new repository, with a random polynomial if none is given.
    ///
    /// # Errors
    /// `Unavailable` if there is no randomness; `InvalidInput` if the polynomial is of no use.
    pub fn generate(env: &Env, polynomial: Option<Polynomial>) -> Result<Self> {
        let chunker_polynomial = match polynomial {
            Some(polynomial) if is_usable(polynomial) => polynomial,
            Some(polynomial) => {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    format!(
                        "chunker polynomial {polynomial} is not irreducible of degree \
                         {CHUNKER_DEGREE}"
                    ),
                ));
            }
            None => Polynomial::random(env)?,
        };
        Ok(Self { version: VERSION, id: hex::encode(env.random::<32>()?), chunker_polynomial })
    }

    /// Returns the plaintext of the file.
    ///
    /// # Errors
    /// `Internal`, which does not happen.
    pub fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&Stored {
            version: u64::from(self.version),
            id: self.id.clone(),
            chunker_polynomial: self.chunker_polynomial.to_string(),
        })
        .map_err(|error| {
            Error::new(ErrorKind::Internal, "cannot encode the repository config")
                .with_source(error)
        })
    }

    /// Reads the plaintext of the file.
    ///
    /// # Errors
    /// `Corrupt` if it is not a config; `Unsupported` if its version is not 1 or 2.
    pub fn decode(plaintext: &[u8]) -> Result<Self> {
        let damaged = |detail: &dyn std::fmt::Display| Error::corrupt("repository config", detail);
        let stored: Stored = serde_json::from_slice(plaintext).map_err(|error| damaged(&error))?;
        let version = u32::try_from(stored.version)
            .ok()
            .filter(|version| (OLDEST_VERSION..=VERSION).contains(version))
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::Unsupported,
                    format!("repository has format version {}", stored.version),
                )
                .with_code("repository-version")
                .with_hint("versions 1 and 2 are supported; use a newer program")
            })?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if stored.id.len() != 64 || !stored.id.bytes().all(is_digit) {
            return Err(damaged(&"its id is not 64 hexadecimal digits"));
        }
        let chunker_polynomial: Polynomial =
            stored.chunker_polynomial.parse().map_err(|error| damaged(&error))?;
        if !is_usable(chunker_polynomial) {
            return Err(damaged(&format_args!(
                "chunker polynomial {chunker_polynomial} is not irreducible of degree \
                 {CHUNKER_DEGREE}"
            )));
        }
        Ok(Self { version, id: stored.id, chunker_polynomial })
    }

    /// Refuses to write to a repository of an older version, which would gain compressed blobs that
    /// programs of its time cannot read.
    ///
    /// # Errors
    /// `Unsupported` unless the version is [`VERSION`].
    pub fn check_writable(&self) -> Result<()> {
        if self.version == VERSION {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Unsupported,
            format!("repository has format version {}, which can only be read", self.version),
        )
        .with_code("repository-version")
        .with_hint("upgrade it with `restic migrate upgrade_repo_v2`"))
    }
}

fn is_usable(polynomial: Polynomial) -> bool {
    polynomial.degree() == Some(CHUNKER_DEGREE) && polynomial.is_irreducible()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

    fn json(version: &str, id: &str, polynomial: &str) -> String {
        format!(r#"{{"version":{version},"id":"{id}","chunker_polynomial":"{polynomial}"}}"#)
    }

    #[test]
    fn text_is_that_of_restic() {
        let text = json("2", ID, "3da3358b4dc173");
        let config = Config::decode(text.as_bytes()).unwrap();
        assert_eq!(config.chunker_polynomial.bits(), 0x003d_a335_8b4d_c173);
        assert_eq!(config.encode().unwrap(), text.as_bytes());
        config.check_writable().unwrap();
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let text = json("2", ID, "3da3358b4dc173").replace('{', r#"{"append_only":true,"#);
        assert!(Config::decode(text.as_bytes()).is_ok());
    }

    #[test]
    fn version_1_is_read_only_and_others_are_unsupported() {
        let old = Config::decode(json("1", ID, "3da3358b4dc173").as_bytes()).unwrap();
        assert_eq!(old.check_writable().unwrap_err().kind(), ErrorKind::Unsupported);
        for version in ["0", "3", "18446744073709551615"] {
            let error = Config::decode(json(version, ID, "3da3358b4dc173").as_bytes());
            assert_eq!(error.unwrap_err().kind(), ErrorKind::Unsupported);
        }
    }

    #[test]
    fn what_is_not_a_config_is_damaged() {
        for text in [
            String::new(),
            String::from("[]"),
            json("-1", ID, "3da3358b4dc173"),
            json("2", "abc", "3da3358b4dc173"),
            json("2", &ID.to_uppercase(), "3da3358b4dc173"),
            json("2", ID, "3da3358b4dc171"),
            json("2", ID, "11b"),
            json("2", ID, "0x3da3358b4dc173"),
        ] {
            let error = Config::decode(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{text}");
        }
    }

    #[test]
    fn generated_configs_read_back() {
        let env = Env::system();
        let config = Config::generate(&env, None).unwrap();
        assert_eq!(Config::decode(&config.encode().unwrap()).unwrap(), config);
        let shared = Config::generate(&env, Some(config.chunker_polynomial)).unwrap();
        assert_eq!(shared.chunker_polynomial, config.chunker_polynomial);
        assert_ne!(shared.id, config.id);
        let error = Config::generate(&env, Some(Polynomial::from_bits(0x11b))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
