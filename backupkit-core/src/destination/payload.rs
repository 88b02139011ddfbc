//! What is stored under a key.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};

/// The bytes of a new object. Cheap to clone, so that a failed call can be repeated.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Bytes in memory, in one or more parts that follow each other.
    Bytes(Arc<[Bytes]>),
    /// A file on local disk, which stays unchanged until the call returns.
    File {
        /// Where the file is.
        path: PathBuf,
        /// How many bytes it has.
        len_bytes: u64,
    },
}

impl Payload {
    /// Returns a payload of parts that follow each other.
    pub fn from_parts(parts: Vec<Bytes>) -> Self {
        Self::Bytes(parts.into())
    }

    /// The bytes in one stretch of memory, for destinations without a way to take parts or files.
    ///
    /// # Errors
    /// The system's if the file cannot be read.
    pub async fn to_bytes(&self) -> Result<Bytes> {
        match self {
            Self::Bytes(parts) => Ok(match &**parts {
                [only] => only.clone(),
                parts => parts.concat().into(),
            }),
            Self::File { path, .. } => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || {
                    let doing = format!("read {}", path.display());
                    std::fs::read(&path).map_err(|error| Error::io(doing, error))
                });
                let bytes = read.await.map_err(|_| {
                    Error::new(ErrorKind::Internal, "a task that reads a file panicked")
                })?;
                Ok(bytes?.into())
            }
        }
    }

    /// The number of bytes.
    pub fn len_bytes(&self) -> u64 {
        match self {
            Self::Bytes(parts) => parts.iter().map(|part| part.len() as u64).sum(),
            Self::File { len_bytes, .. } => *len_bytes,
        }
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes([bytes].into())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}
